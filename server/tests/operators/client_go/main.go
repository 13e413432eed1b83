// A program on client-go that does the work of controllers: client-go-check WORK
//
// KUBECONFIG, in the environment, is a path. WORK is one of the works below.
// Exits with 0, or explains what was not as expected.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// How long a program waits for what must come.
const patience = 20 * time.Second

var works = map[string]func(*session) error{
	"objects":    objects,
	"patches":    patches,
	"conflicts":  conflicts,
	"lists":      lists,
	"informers":  informers,
	"controller": controller,
	"election":   election,
	"discovery":  discover,
}

// What a work needs: a client, and a namespace of its own.
type session struct {
	ctx       context.Context
	config    *rest.Config
	client    kubernetes.Interface
	namespace string
	requests  *requests
}

// The requests that were sent, as "GET /path?query".
type requests struct {
	mutex sync.Mutex
	sent  []string
}

// Of those sent, the ones that contain a text.
func (requests *requests) with(text string) []string {
	requests.mutex.Lock()
	defer requests.mutex.Unlock()
	var found []string
	for _, request := range requests.sent {
		if strings.Contains(request, text) {
			found = append(found, request)
		}
	}
	return found
}

type recorder struct {
	requests *requests
	inner    http.RoundTripper
}

func (recorder recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder.requests.mutex.Lock()
	recorder.requests.sent = append(recorder.requests.sent, request.Method+" "+request.URL.RequestURI())
	recorder.requests.mutex.Unlock()
	return recorder.inner.RoundTrip(request)
}

func main() {
	if len(os.Args) != 2 || works[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: KUBECONFIG=.. %s WORK\n", os.Args[0])
		os.Exit(2)
	}
	// What the library complains about counts only if a work fails, and then explains why.
	klog.InitFlags(nil)
	_ = flag.Set("logtostderr", "true")
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(work string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	requests := &requests{}
	config.Wrap(func(inner http.RoundTripper) http.RoundTripper { return recorder{requests, inner} })
	// As controllers do: the default would be protobuf for requests of typed clients, too, but not this throughput.
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.QPS, config.Burst = 1000, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "go-" + work + "-"}}
	space, err = client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return works[work](&session{ctx, config, client, space.Name, requests})
}

// Complains if something is not as expected.
func equal(what string, found, expected any) error {
	if reflect.DeepEqual(found, expected) {
		return nil
	}
	return fmt.Errorf("%s: %#v, should be %#v", what, found, expected)
}

// Complains unless an error is of the kind that a predicate of the library knows.
func refused(what string, err error, is func(error) bool) error {
	if err == nil {
		return fmt.Errorf("%s: was done, should be refused", what)
	}
	if !is(err) {
		return fmt.Errorf("%s: refused for another reason: %w", what, err)
	}
	return nil
}

// The first complaint.
func first(complaints ...error) error {
	for _, complaint := range complaints {
		if complaint != nil {
			return complaint
		}
	}
	return nil
}

// Waits until a statement is true.
func eventually(what string, statement func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if statement() {
			return nil
		}
	}
	return fmt.Errorf("did not come true in %v: %s", patience, what)
}

func configMap(name string, labels map[string]string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: data}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
