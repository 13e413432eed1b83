package main

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
)

// What a server offers, in the aggregated and in the plain form, and the schemas that go with it.
func discover(session *session) error {
	aggregated, err := discovery.NewDiscoveryClientForConfig(session.config)
	if err != nil {
		return err
	}
	plain, err := discovery.NewDiscoveryClientForConfig(session.config)
	if err != nil {
		return err
	}
	plain.UseLegacyDiscovery = true
	version, err := aggregated.ServerVersion()
	if err != nil {
		return err
	}
	groups, resources, err := aggregated.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	if err := equal("requests of the aggregated form", len(session.requests.with("GET /api")), 2); err != nil {
		return err
	}
	plainGroups, plainResources, err := plain.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	if err := first(
		equal("version", version.Major+"."+version.Minor, "1.37"),
		equal("groups in both forms", groupNames(groups), groupNames(plainGroups)),
		sameResources(resources, plainResources),
		mapped(aggregated),
	); err != nil {
		return err
	}

	paths, err := aggregated.OpenAPIV3().Paths()
	if err != nil {
		return fmt.Errorf("OpenAPI v3: %w", err)
	}
	core := paths["api/v1"]
	if core == nil {
		return fmt.Errorf("OpenAPI v3 has no api/v1")
	}
	document, err := core.Schema("application/json")
	if err != nil {
		return fmt.Errorf("OpenAPI v3 of api/v1: %w", err)
	}
	return equal("OpenAPI v3 has a schema", len(document) > 100_000, true)
}

func groupNames(groups []*metav1.APIGroup) []string {
	var names []string
	for _, group := range groups {
		names = append(names, group.Name+" "+group.PreferredVersion.GroupVersion)
	}
	return sorted(names)
}

// Of each resource, what both forms say.
func sameResources(aggregated, plain []*metav1.APIResourceList) error {
	said := func(lists []*metav1.APIResourceList) map[string]string {
		all := map[string]string{}
		for _, list := range lists {
			for _, one := range list.APIResources {
				singular := one.SingularName
				if strings.Contains(one.Name, "/") {
					// The library gives subresources that of the resource, but only in one of the forms.
					singular = ""
				}
				all[list.GroupVersion+" "+one.Name] = fmt.Sprint(one.Kind, one.Namespaced, singular,
					sorted([]string(one.Verbs)), sorted(one.ShortNames), sorted(one.Categories))
			}
		}
		return all
	}
	first, second := said(aggregated), said(plain)
	for name := range second {
		if first[name] != second[name] {
			return fmt.Errorf("%s: aggregated %q, plain %q", name, first[name], second[name])
		}
	}
	return equal("count of resources", len(first), len(second))
}

func mapped(client discovery.DiscoveryInterface) error {
	mapper := restmapper.NewShortcutExpander(
		restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client)), client, nil)
	for short, resource := range map[string]string{"cm": "configmaps", "deploy": "deployments", "netpol": "networkpolicies"} {
		found, err := mapper.ResourceFor(schema.GroupVersionResource{Resource: short})
		if err != nil {
			return fmt.Errorf("resource for %q: %w", short, err)
		}
		if err := equal("resource for "+short, found.Resource, resource); err != nil {
			return err
		}
	}
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "StatefulSet"})
	if err != nil {
		return err
	}
	return equal("resource of StatefulSet", mapping.Resource,
		schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"})
}
