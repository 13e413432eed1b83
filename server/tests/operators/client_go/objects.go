package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// Kinds of several groups, sent as protobuf.
func objects(session *session) error {
	core, ctx := session.client.CoreV1(), session.ctx
	secrets := core.Secrets(session.namespace)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Annotations: map[string]string{"a": "ä \"quoted\"\n"}},
		Data:       map[string][]byte{"bytes": {0, 1, 254, 255}, "empty": {}},
		StringData: map[string]string{"text": "äöü"},
		Immutable:  ptr.To(true),
	}
	made, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	read, err := secrets.Get(ctx, "one", metav1.GetOptions{})
	if err != nil {
		return err
	}
	changed := read.DeepCopy()
	changed.Data["text"] = []byte("other")
	_, changeError := secrets.Update(ctx, changed, metav1.UpdateOptions{})
	_, againError := secrets.Create(ctx, secret, metav1.CreateOptions{})
	wrongUID := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(types.UID("other"))}}
	wrongVersion := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("1")}}
	if err := first(
		equal("as read", read, made),
		equal("data", made.Data, map[string][]byte{"bytes": {0, 1, 254, 255}, "empty": {}, "text": []byte("äöü")}),
		equal("type", made.Type, corev1.SecretTypeOpaque),
		equal("annotations", made.Annotations, secret.Annotations),
		refused("change what is immutable", changeError, apierrors.IsInvalid),
		refused("make it again", againError, apierrors.IsAlreadyExists),
		refused("delete another uid", secrets.Delete(ctx, "one", wrongUID), apierrors.IsConflict),
		refused("delete another version", secrets.Delete(ctx, "one", wrongVersion), apierrors.IsConflict),
		secrets.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &made.UID}}),
		refused("delete it again", secrets.Delete(ctx, "one", metav1.DeleteOptions{}), apierrors.IsNotFound),
	); err != nil {
		return err
	}

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"}, Spec: podSpec()}
	pod, err = core.Pods(session.namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	container := pod.Spec.Containers[0]
	if err := first(
		equal("phase", pod.Status.Phase, corev1.PodPending),
		equal("policy", container.ImagePullPolicy, corev1.PullIfNotPresent),
		equal("requests", container.Resources.Requests.Cpu().MilliValue(), int64(1500)),
		equal("probe", container.LivenessProbe.HTTPGet.Port, intstr.FromString("web")),
		equal("period", container.LivenessProbe.PeriodSeconds, int32(10)),
		equal("quality", pod.Status.QOSClass, corev1.PodQOSBurstable),
		equal("grace", *pod.Spec.TerminationGracePeriodSeconds, int64(30)),
	); err != nil {
		return err
	}
	return others(session)
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{
		Name:  "main",
		Image: "main:1",
		Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}},
		Env: []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1.5"), corev1.ResourceMemory: resource.MustParse("64Mi")}},
		LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("web")}}},
	}}}
}

func others(session *session) error {
	ctx, space, options := session.ctx, session.namespace, metav1.CreateOptions{}
	meta := metav1.ObjectMeta{Name: "one", Labels: map[string]string{"app": "one"}}
	template := corev1.PodTemplateSpec{ObjectMeta: meta, Spec: podSpec()}
	selector := &metav1.LabelSelector{MatchLabels: meta.Labels}
	deployment, err := session.client.AppsV1().Deployments(space).Create(ctx, &appsv1.Deployment{
		ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template,
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: ptr.To(intstr.FromInt32(2))}}}}, options)
	if err != nil {
		return err
	}
	job, err := session.client.BatchV1().Jobs(space).Create(ctx, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
			Containers: podSpec().Containers}}}}, options)
	if err != nil {
		return err
	}
	service, err := session.client.CoreV1().Services(space).Create(ctx, &corev1.Service{ObjectMeta: meta,
		Spec: corev1.ServiceSpec{Selector: meta.Labels, Type: corev1.ServiceTypeNodePort,
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}}}}, options)
	if err != nil {
		return err
	}
	ingress, err := session.client.NetworkingV1().Ingresses(space).Create(ctx, &networkingv1.Ingress{ObjectMeta: meta,
		Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "one",
				Port: networkingv1.ServiceBackendPort{Number: 80}}}}}, options)
	if err != nil {
		return err
	}
	role, err := session.client.RbacV1().Roles(space).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}}}}, options)
	if err != nil {
		return err
	}
	deployments := session.client.AppsV1().Deployments(space)
	scale, err := deployments.GetScale(ctx, "one", metav1.GetOptions{})
	if err != nil {
		return err
	}
	scale.Spec.Replicas = 4
	if _, err := deployments.UpdateScale(ctx, "one", scale, metav1.UpdateOptions{}); err != nil {
		return err
	}
	scaled, err := deployments.Get(ctx, "one", metav1.GetOptions{})
	if err != nil {
		return err
	}
	scaled.Status.ObservedGeneration = scaled.Generation
	scaled.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable,
		Status: corev1.ConditionTrue, LastUpdateTime: metav1.Now(), LastTransitionTime: metav1.Now(), Reason: "Test"}}
	scaled.Spec.Replicas = ptr.To(int32(9))
	stated, err := deployments.UpdateStatus(ctx, scaled, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	return first(
		equal("replicas", *deployment.Spec.Replicas, int32(1)),
		equal("surge", deployment.Spec.Strategy.RollingUpdate.MaxSurge.IntValue(), 2),
		equal("unavailable", deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.String(), "25%"),
		equal("completions", *job.Spec.Completions, int32(1)),
		equal("selector of a job has its uid", job.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel], string(job.UID)),
		equal("node port", service.Spec.Ports[0].NodePort >= 30000, true),
		equal("backend", ingress.Spec.DefaultBackend.Service.Port.Number, int32(80)),
		equal("verbs", role.Rules[0].Verbs, []string{"get", "list"}),
		equal("replicas after update of the status", *stated.Spec.Replicas, int32(4)),
		equal("conditions", stated.Status.Conditions[0].Reason, "Test"),
	)
}

// The three types of patch.
func patches(session *session) error {
	ctx, pods := session.ctx, session.client.CoreV1().Pods(session.namespace)
	spec := podSpec()
	spec.Containers = append(spec.Containers, corev1.Container{Name: "second", Image: "second:1"})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: spec}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	strategic := []byte(`{"metadata":{"labels":{"a":"1"}},"spec":{"containers":[{"name":"second","image":"second:2"}]}}`)
	patched, err := pods.Patch(ctx, "one", types.StrategicMergePatchType, strategic, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	steps, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/labels/a", "value": "1"},
		{"op": "replace", "path": "/metadata/labels/a", "value": "2"},
		{"op": "replace", "path": "/spec/containers/0/image", "value": "main:2"},
	})
	if err != nil {
		return err
	}
	stepped, err := pods.Patch(ctx, "one", types.JSONPatchType, steps, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	_, testError := pods.Patch(ctx, "one", types.JSONPatchType, steps, metav1.PatchOptions{})
	merge := []byte(`{"metadata":{"labels":null},"status":{"phase":"Running"}}`)
	merged, err := pods.Patch(ctx, "one", types.MergePatchType, merge, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	running, err := pods.Patch(ctx, "one", types.StrategicMergePatchType, []byte(`{"status":{"phase":"Running",
		"conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		return err
	}
	_, specError := pods.Patch(ctx, "one", types.MergePatchType, []byte(`{"spec":{"nodeName":"other"}}`), metav1.PatchOptions{})
	return first(
		equal("images", []string{patched.Spec.Containers[0].Image, patched.Spec.Containers[1].Image}, []string{"main:1", "second:2"}),
		equal("labels", stepped.Labels, map[string]string{"a": "2"}),
		equal("image", stepped.Spec.Containers[0].Image, "main:2"),
		refused("a test that fails", testError, apierrors.IsInvalid),
		equal("labels after a merge patch", len(merged.Labels), 0),
		equal("phase after a patch of the object", merged.Status.Phase, corev1.PodPending),
		equal("phase after a patch of the status", running.Status.Phase, corev1.PodRunning),
		equal("condition", running.Status.Conditions[len(running.Status.Conditions)-1].Type, corev1.PodReady),
		refused("change a field that stays", specError, apierrors.IsInvalid),
	)
}

// Many writers of one object: each reads, adds one, writes, and tries again at a conflict.
func conflicts(session *session) error {
	const writers, rounds = 8, 10
	ctx, maps := session.ctx, session.client.CoreV1().ConfigMaps(session.namespace)
	if _, err := maps.Create(ctx, configMap("sum", nil, map[string]string{"sum": "0"}), metav1.CreateOptions{}); err != nil {
		return err
	}
	backoff := retry.DefaultRetry
	backoff.Steps = 200
	add := func() error {
		sum, err := maps.Get(ctx, "sum", metav1.GetOptions{})
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(sum.Data["sum"])
		if err != nil {
			return err
		}
		sum.Data["sum"] = strconv.Itoa(number + 1)
		_, err = maps.Update(ctx, sum, metav1.UpdateOptions{})
		return err
	}
	complaints := make(chan error, writers)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range rounds {
				if err := retry.RetryOnConflict(backoff, add); err != nil {
					complaints <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(complaints)
	for complaint := range complaints {
		return fmt.Errorf("a writer: %w", complaint)
	}
	sum, err := maps.Get(ctx, "sum", metav1.GetOptions{})
	if err != nil {
		return err
	}
	stale := sum.DeepCopy()
	stale.ResourceVersion = "1"
	_, staleError := maps.Update(ctx, stale, metav1.UpdateOptions{})
	var status apierrors.APIStatus
	errors.As(staleError, &status)
	return first(
		equal("sum", sum.Data["sum"], strconv.Itoa(writers*rounds)),
		refused("write what is stale", staleError, apierrors.IsConflict),
		equal("details", *status.Status().Details, metav1.StatusDetails{Name: "sum", Kind: "configmaps"}),
	)
}
