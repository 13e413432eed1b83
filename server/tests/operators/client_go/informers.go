package main

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

// What handlers were told, as "verb name".
type told struct {
	mutex sync.Mutex
	lines []string
}

func (told *told) add(verb string, object any) {
	if tombstone, isLast := object.(cache.DeletedFinalStateUnknown); isLast {
		object = tombstone.Obj
	}
	line := verb + " nothing"
	if accessor, err := meta.Accessor(object); err == nil {
		line = verb + " " + accessor.GetName()
	}
	told.mutex.Lock()
	defer told.mutex.Unlock()
	told.lines = append(told.lines, line)
}

func (told *told) is(lines ...string) bool {
	told.mutex.Lock()
	defer told.mutex.Unlock()
	return slices.Equal(told.lines, lines)
}

func (told *told) String() string {
	told.mutex.Lock()
	defer told.mutex.Unlock()
	return fmt.Sprint(told.lines)
}

// Shared informers of the typed, the metadata and the dynamic client. All begin with a watch that tells the current
// state first, and would fall back to a list if that failed.
func informers(session *session) error {
	maps := session.client.CoreV1().ConfigMaps(session.namespace)
	labels := map[string]string{"app": "x"}
	for _, name := range []string{"a", "b"} {
		if _, err := maps.Create(session.ctx, configMap(name, labels, nil), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	informers, err := allInformers(session)
	if err != nil {
		return err
	}
	seen := map[string]*told{}
	for kind, informer := range informers {
		lines := &told{}
		seen[kind] = lines
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { lines.add("add", object) },
			UpdateFunc: func(_, object any) { lines.add("update", object) },
			DeleteFunc: func(object any) { lines.add("delete", object) },
		}); err != nil {
			return err
		}
		go informer.RunWithContext(session.ctx)
	}
	for kind, informer := range informers {
		if err := eventually(kind+": it has the current state", func() bool {
			return informer.HasSynced() && (seen[kind].is("add a", "add b") || seen[kind].is("add b", "add a"))
		}); err != nil {
			return fmt.Errorf("%w; told were %v", err, seen[kind])
		}
		// From here on, in this order.
		seen[kind].mutex.Lock()
		seen[kind].lines = nil
		seen[kind].mutex.Unlock()
	}
	// Creates carry no query.
	if err := first(
		equal("watches that begin with the state", len(session.requests.with("sendInitialEvents=true")), len(informers)),
		equal("reads of any kind", len(session.requests.with("/configmaps?")), len(informers)),
		changeMaps(session),
	); err != nil {
		return err
	}
	expected := []string{"update a", "add c", "delete b", "delete a", "add a"}
	for kind := range informers {
		if err := eventually(kind+": all changes come", func() bool { return seen[kind].is(expected...) }); err != nil {
			return fmt.Errorf("%w; told were %v, expected %v", err, seen[kind], expected)
		}
		names := sorted(informers[kind].GetStore().ListKeys())
		if err := equal(kind+": keys", names, []string{session.namespace + "/a", session.namespace + "/c"}); err != nil {
			return err
		}
	}
	return nil
}

func changeMaps(session *session) error {
	ctx, maps := session.ctx, session.client.CoreV1().ConfigMaps(session.namespace)
	patch := func(name, patch string) error {
		_, err := maps.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	_, createError := maps.Create(ctx, configMap("other", nil, nil), metav1.CreateOptions{})
	if err := first(createError, patch("a", `{"data":{"k":"v"}}`)); err != nil {
		return err
	}
	if _, err := maps.Create(ctx, configMap("c", map[string]string{"app": "x"}, nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	return first(
		maps.Delete(ctx, "b", metav1.DeleteOptions{}),
		// Out of the selector, and in again.
		patch("a", `{"metadata":{"labels":{"app":"y"}}}`),
		patch("a", `{"metadata":{"labels":{"app":"x"}}}`),
	)
}

func allInformers(session *session) (map[string]cache.SharedIndexInformer, error) {
	metadataClient, err := metadata.NewForConfig(session.config)
	if err != nil {
		return nil, err
	}
	dynamicClient, err := dynamic.NewForConfig(session.config)
	if err != nil {
		return nil, err
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	space, none := session.namespace, cache.Indexers{}
	selected := func(options *metav1.ListOptions) { options.LabelSelector = "app=x" }
	factory := clientinformers.NewSharedInformerFactoryWithOptions(session.client, 0,
		clientinformers.WithNamespace(space), clientinformers.WithTweakListOptions(selected))
	return map[string]cache.SharedIndexInformer{
		"typed":    factory.Core().V1().ConfigMaps().Informer(),
		"metadata": metadatainformer.NewFilteredMetadataInformer(metadataClient, resource, space, 0, none, selected).Informer(),
		"dynamic":  dynamicinformer.NewFilteredDynamicInformer(dynamicClient, resource, space, 0, none, selected).Informer(),
	}, nil
}
