package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// Makes of each ConfigMap a Pod with the image that the ConfigMap names.
type podController struct {
	session *session
	queue   workqueue.TypedRateLimitingInterface[string]
	maps    corelisters.ConfigMapNamespaceLister
	pods    corelisters.PodNamespaceLister
	events  events.EventRecorder
}

// A controller as most are built: two informers, a queue of names, workers.
func controller(session *session) error {
	ctx := session.ctx
	factory := clientinformers.NewSharedInformerFactoryWithOptions(session.client, 0, clientinformers.WithNamespace(session.namespace))
	maps, pods := factory.Core().V1().ConfigMaps(), factory.Core().V1().Pods()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: session.client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return err
	}
	defer broadcaster.Shutdown()
	controller := &podController{
		session: session,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, time.Second)),
		maps:   maps.Lister().ConfigMaps(session.namespace),
		pods:   pods.Lister().Pods(session.namespace),
		events: broadcaster.NewRecorder(scheme.Scheme, "example.com/pods-of-maps"),
	}
	defer controller.queue.ShutDown()
	enqueue := func(object any) {
		if key, err := cache.DeletionHandlingObjectToName(object); err == nil {
			controller.queue.Add(key.Name)
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, DeleteFunc: enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) }}
	_, mapsError := maps.Informer().AddEventHandler(handler)
	_, podsError := pods.Informer().AddEventHandler(handler)
	if err := first(mapsError, podsError); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		return err
	}
	for range 2 {
		go controller.work(ctx)
	}
	return first(makeAndChange(session), reported(session), deleteAll(session))
}

func (controller *podController) work(ctx context.Context) {
	for {
		name, isOver := controller.queue.Get()
		if isOver {
			return
		}
		if err := controller.reconcile(ctx, name); err != nil {
			controller.queue.AddRateLimited(name)
		} else {
			controller.queue.Forget(name)
		}
		controller.queue.Done(name)
	}
}

func (controller *podController) reconcile(ctx context.Context, name string) error {
	source, err := controller.maps.Get(name)
	if apierrors.IsNotFound(err) {
		// Its Pod goes by itself.
		return nil
	}
	image := ""
	if err != nil {
		return err
	} else if image = source.Data["image"]; image == "" {
		return nil
	}
	pods := controller.session.client.CoreV1().Pods(controller.session.namespace)
	pod, err := controller.pods.Get(name)
	if apierrors.IsNotFound(err) {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(source, corev1.SchemeGroupVersion.WithKind("ConfigMap"))}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}}}
		made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if err == nil {
			controller.events.Eventf(source, made, corev1.EventTypeNormal, "Created", "Create", "made pod %s", name)
		}
		return err
	}
	if err != nil || pod.Spec.Containers[0].Image == image || pod.DeletionTimestamp != nil {
		return err
	}
	changed := pod.DeepCopy()
	changed.Spec.Containers[0].Image = image
	_, err = pods.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

const sources = 5

// Whether all Pods are there, with an image.
func allHave(session *session, image string) error {
	return eventually("all pods have the image "+image, func() bool {
		pods, err := session.client.CoreV1().Pods(session.namespace).List(session.ctx, metav1.ListOptions{})
		if err != nil || len(pods.Items) != sources {
			return false
		}
		for _, pod := range pods.Items {
			if pod.Spec.Containers[0].Image != image || !metav1.IsControlledBy(&pod, &metav1.ObjectMeta{UID: pod.OwnerReferences[0].UID}) {
				return false
			}
		}
		return true
	})
}

func makeAndChange(session *session) error {
	ctx, maps := session.ctx, session.client.CoreV1().ConfigMaps(session.namespace)
	for number := range sources {
		source := configMap(fmt.Sprintf("source-%d", number), map[string]string{"app": "x"}, map[string]string{"image": "main:1"})
		if _, err := maps.Create(ctx, source, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := allHave(session, "main:1"); err != nil {
		return err
	}
	for number := range sources {
		patch := []byte(`{"data":{"image":"main:2"}}`)
		name := fmt.Sprintf("source-%d", number)
		if _, err := maps.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	if err := allHave(session, "main:2"); err != nil {
		return err
	}
	// What is deleted comes again.
	pods := session.client.CoreV1().Pods(session.namespace)
	old, err := pods.Get(ctx, "source-0", metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if err := pods.Delete(ctx, "source-0", now); err != nil {
		return err
	}
	return eventually("a deleted pod comes again", func() bool {
		again, err := pods.Get(ctx, "source-0", metav1.GetOptions{})
		return err == nil && again.UID != old.UID
	})
}

// Events of both recorders of the library, and a series of equal ones.
func reported(session *session) error {
	ctx, core := session.ctx, session.client.CoreV1()
	if err := eventually("an event for each pod", func() bool {
		events, err := session.client.EventsV1().Events(session.namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "reason=Created,reportingController=example.com/pods-of-maps"})
		return err == nil && len(events.Items) >= sources && events.Items[0].Regarding.Kind == "ConfigMap"
	}); err != nil {
		return err
	}
	source, err := core.ConfigMaps(session.namespace).Get(ctx, "source-1", metav1.GetOptions{})
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: core.Events("")})
	defer broadcaster.Shutdown()
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "test"})
	for range 3 {
		recorder.Event(source, corev1.EventTypeWarning, "Again", "and again")
	}
	return eventually("three equal events are one, counted", func() bool {
		events, err := core.Events(session.namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "reason=Again,involvedObject.uid=" + string(source.UID)})
		return err == nil && len(events.Items) == 1 && events.Items[0].Count == 3
	})
}

func deleteAll(session *session) error {
	ctx, core := session.ctx, session.client.CoreV1()
	if err := core.ConfigMaps(session.namespace).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: "app=x"}); err != nil {
		return err
	}
	if err := eventually("the pods are deleted after their owners", func() bool {
		pods, err := core.Pods(session.namespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == 0
	}); err != nil {
		return err
	}
	if err := core.Namespaces().Delete(ctx, session.namespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return eventually("the namespace is gone", func() bool {
		_, err := core.Namespaces().Get(ctx, session.namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
