package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The library counts in whole seconds, and tells by them whether a leader has renewed: less than this is too short.
const leaseDuration = 3 * time.Second

// Two candidates for a Lease: the second leads when the first gives it up, and again when the second just stops.
func election(session *session) error {
	started := make(chan string, 10)
	firstEnds, err := candidate(session, "first", true, started)
	if err != nil {
		return err
	}
	if err := leads(started, "first"); err != nil {
		return err
	}
	secondEnds, err := candidate(session, "second", false, started)
	if err != nil {
		return err
	}
	select {
	case who := <-started:
		return fmt.Errorf("%s leads beside the first", who)
	case <-time.After(leaseDuration + time.Second):
	}
	firstEnds()
	if err := leads(started, "second"); err != nil {
		return err
	}
	leases := session.client.CoordinationV1().Leases(session.namespace)
	lease, err := leases.Get(session.ctx, "elected", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := first(
		equal("holder", *lease.Spec.HolderIdentity, "second"),
		equal("transitions", *lease.Spec.LeaseTransitions >= 1, true),
		equal("times have microseconds", lease.Spec.RenewTime.Nanosecond()%1000, 0),
	); err != nil {
		return err
	}
	if _, err := candidate(session, "third", true, started); err != nil {
		return err
	}
	secondEnds()
	return leads(started, "third")
}

func leads(started <-chan string, expected string) error {
	select {
	case who := <-started:
		return equal("who leads", who, expected)
	case <-time.After(patience):
		return fmt.Errorf("nobody leads, should be %s", expected)
	}
}

func candidate(session *session, identity string, givesUp bool, started chan<- string) (context.CancelFunc, error) {
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, session.namespace, "elected",
		session.client.CoreV1(), session.client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: identity})
	if err != nil {
		return nil, err
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
		ReleaseOnCancel: givesUp, Name: "elected",
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { started <- identity },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(session.ctx)
	go elector.Run(ctx)
	return cancel, nil
}
