package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"
)

// Pages on one revision, a watch that goes on from there over several connections, and waiting as kubectl does.
func lists(session *session) error {
	if err := inPages(session); err != nil {
		return err
	}
	if err := watchedAgain(session); err != nil {
		return err
	}
	return waitedFor(session)
}

func inPages(session *session) error {
	const count = 25
	ctx, maps := session.ctx, session.client.CoreV1().ConfigMaps(session.namespace)
	for number := range count {
		name := fmt.Sprintf("m%02d", number)
		if _, err := maps.Create(ctx, configMap(name, map[string]string{"app": "x"}, nil), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	selected := metav1.ListOptions{LabelSelector: "app=x"}
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return maps.List(ctx, options)
	})
	pages.PageSize = 10
	var names []string
	if err := pages.EachListItem(ctx, selected, func(one runtime.Object) error {
		names = append(names, one.(*corev1.ConfigMap).Name)
		return nil
	}); err != nil {
		return err
	}
	whole, err := maps.List(ctx, selected)
	if err != nil {
		return err
	}
	// The library would wait and ask again, ten times.
	futureError := session.client.CoreV1().RESTClient().Get().MaxRetries(0).Namespace(session.namespace).
		Resource("configmaps").Param("resourceVersion", "1000000000").Do(ctx).Error()
	_, fieldError := maps.List(ctx, metav1.ListOptions{FieldSelector: "data.a=1"})
	return first(
		equal("names in pages", len(names), count),
		equal("pages", len(session.requests.with("limit=10")), 3),
		equal("names at once", len(whole.Items), count),
		refused("a revision that is to come", futureError, apierrors.IsTimeout),
		equal("its cause", apierrors.HasStatusCause(futureError, metav1.CauseTypeResourceVersionTooLarge), true),
		refused("a field that cannot be selected by", fieldError, apierrors.IsBadRequest),
	)
}

// The library's watcher begins again by itself where it was; it asks for bookmarks.
func watchedAgain(session *session) error {
	ctx, maps := session.ctx, session.client.CoreV1().ConfigMaps(session.namespace)
	listed, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, listed.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.TimeoutSeconds = ptr.To(int64(1))
			return maps.Watch(ctx, options)
		}})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for number := range 5 {
		patch := []byte(`{"data":{"n":"` + strconv.Itoa(number) + `"}}`)
		if _, err := maps.Patch(ctx, "m03", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
		event := <-watcher.ResultChan()
		changed, isMap := event.Object.(*corev1.ConfigMap)
		if !isMap || event.Type != watch.Modified || changed.Data["n"] != strconv.Itoa(number) {
			return fmt.Errorf("event %d of a watch: %v %#v", number, event.Type, event.Object)
		}
		// All five take longer than one watch lasts.
		time.Sleep(400 * time.Millisecond)
	}
	if watches := len(session.requests.with("watch=true")); watches < 2 {
		return fmt.Errorf("only %d watches: none was begun again", watches)
	}
	return nil
}

func waitedFor(session *session) error {
	ctx, core := session.ctx, session.client.CoreV1()
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = core.ConfigMaps(session.namespace).Delete(ctx, "m04", metav1.DeleteOptions{})
	}()
	byName := func(options *metav1.ListOptions) { options.FieldSelector = "metadata.name=m04" }
	source := cache.NewFilteredListWatchFromClient(core.RESTClient(), "configmaps", session.namespace, byName)
	last, err := watchtools.UntilWithSync(ctx, source, &corev1.ConfigMap{}, nil, func(event watch.Event) (bool, error) {
		return event.Type == watch.Deleted, nil
	})
	if err != nil {
		return fmt.Errorf("wait for a deletion: %w", err)
	}
	return equal("name of what was deleted", last.Object.(*corev1.ConfigMap).Name, "m04")
}
