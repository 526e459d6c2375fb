package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

func TestThreeWorkersTogetherKeepOneCallPerSecond(t *testing.T) {
	n := 10
	if os.Getenv("RECALLQ_LONG") == "1" {
		n = 60
	}
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"timpush", "chat", ""})
	for range 3 {
		s.worker()
	}
	start := time.Now()
	for i := range n {
		s.enqueue(push(i))
	}
	e := s.follow()
	s.await(e, n, time.Duration(n+4)*time.Second)
	t.Logf("%d recalls took %v", n, time.Since(start))
	e.all(t, tasks.Recalled)
	if bad, example := s.violations(); bad > 0 {
		t.Errorf("%d calls too many: %s", bad, example)
	}
}

func TestKilledWorkersLeaveNoCallTooMany(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true, Latency: 100 * time.Millisecond}, lane{"timpush", "chat", ""})
	n := 8
	if os.Getenv("RECALLQ_LONG") == "1" {
		n = 60
	}
	workers := []*program{s.worker(), s.worker(), s.worker()}
	for i := range n {
		s.enqueue(push(i))
	}
	e := s.follow()
	s.await(e, n/2, time.Minute)
	for _, w := range workers {
		w.signal(syscall.SIGKILL)
	}
	for range 3 {
		s.worker()
	}
	// Recalls that were in a killed worker's hands run again by asynq's recovery, which takes up to 125 s.
	left := n
	if os.Getenv("RECALLQ_LONG") != "1" {
		left = n - 6
	}
	s.await(e, left, 4*time.Minute)
	for id, outcome := range e.outcomes {
		if !tasks.Succeeded(outcome) {
			t.Errorf("%s ended as %s", id, outcome)
		}
	}
	if bad, example := s.violations(); bad > 0 {
		t.Errorf("%d calls too many: %s", bad, example)
	}
}

func TestAFrozenWorkerLeavesNoCallTooMany(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"timpush", "chat", ""})
	first := s.worker()
	s.worker()
	const n = 12
	for i := range n {
		s.enqueue(push(i))
	}
	e := s.follow()
	s.await(e, 3, 20*time.Second)
	first.signal(syscall.SIGSTOP)
	s.await(e, 7, 60*time.Second) // the other goes on, once the frozen one's call has run out
	first.signal(syscall.SIGCONT)
	s.await(e, n-2, 60*time.Second)
	if bad, example := s.violations(); bad > 0 {
		t.Errorf("%d calls too many: %s", bad, example)
	}
}

// With the simulator's clock as judge: what one process was told to do at a time must not be done much later.
func TestAStopUnderLoadLosesNothingAndCallsNothingTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true, Latency: 20 * time.Millisecond}, lane{"jiguang", "news", ""})
	const n = 2000
	first := s.worker()
	go s.bulk(n, ums, tasks.WithPriority(tasks.Bulk))
	e := s.follow()
	for _, at := range []int{n / 4, n / 2, 3 * n / 4} {
		s.await(e, at, time.Minute)
		next := s.worker()
		first.signal(syscall.SIGTERM)
		if code := first.exit(15 * time.Second); code != 0 {
			t.Errorf("a stopped worker left with %d", code)
		}
		first = next
	}
	s.await(e, n, time.Minute)
	e.all(t, tasks.Recalled)
	for id, calls := range s.callsOf() {
		if calls != 1 {
			t.Errorf("%s was called %d times", id, calls)
		}
	}
}

func TestASecondSignalStopsNow(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true, Latency: 8 * time.Second}, lane{"jiguang", "news", ""})
	w := s.worker()
	s.enqueue(ums(1))
	s.until(10*time.Second, func() bool { return len(s.callsOf()) == 1 })
	w.signal(syscall.SIGTERM)
	s.until(5*time.Second, func() bool { return strings.Contains(w.output(), "worker stops") })
	w.signal(syscall.SIGTERM)
	if code := w.exit(3 * time.Second); code != 1 {
		t.Errorf("left with %d, want 1", code)
	}
}

func TestAnUrgentRecallDoesNotWaitForBulkOnes(t *testing.T) {
	long(t)
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true, Latency: 50 * time.Millisecond},
		lane{"jiguang", "news", ""}, lane{"timpush", "chat", ""})
	s.bulk(100_000, ums, tasks.WithPriority(tasks.Bulk))
	s.bulk(10_000, push, tasks.WithPriority(tasks.Bulk))
	s.worker()
	s.until(30*time.Second, func() bool { return len(s.callsOf()) > 100 })
	for i, c := range []struct {
		recall tasks.Recall
		within time.Duration
	}{{ums(1_000_000), 200 * time.Millisecond}, {push(1_000_000), 3 * time.Second}} {
		start := time.Now()
		s.enqueue(c.recall)
		s.until(10*time.Second, func() bool { return len(s.sim.CallsFor(c.recall.Provider, c.recall.MessageID)) > 0 })
		took := s.sim.CallsFor(c.recall.Provider, c.recall.MessageID)[0].Time.Sub(start)
		t.Logf("urgent recall %d started after %v", i, took)
		if took > c.within {
			t.Errorf("%s: the urgent recall started after %v, want %v", c.recall.Provider, took, c.within)
		}
	}
}

func TestWrongCredentialsForAMinuteCostAMinute(t *testing.T) {
	t.Parallel()
	long(t)
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true}, lane{"jiguang", "news", "concurrency: 32"})
	account := simulator.SampleAccounts()[0]
	right := account.Secret
	account.Secret = "another"
	if err := s.sim.SetAccount(account); err != nil {
		t.Fatal(err)
	}
	const n = 50_000
	s.bulk(n, ums, tasks.WithPriority(tasks.Bulk))
	s.worker()
	s.worker()
	before := s.commands()
	<-time.After(time.Minute) // the time that the account stays broken
	perSecond := float64(s.commands()-before) / 60
	account.Secret = right
	if err := s.sim.SetAccount(account); err != nil {
		t.Fatal(err)
	}
	refused := len(s.sim.Ledger())
	t.Logf("%d calls while the account was broken, %.0f Redis commands a second", refused, perSecond)
	if refused > 9 {
		t.Errorf("%d calls during the hold, want single figures", refused)
	}
	if perSecond > 100 { // two workers with what they cost when idle, and the closed lane
		t.Errorf("%.0f Redis commands a second for a closed lane", perSecond)
	}
	e := s.follow()
	s.await(e, n, 5*time.Minute)
	e.all(t, tasks.Recalled)
	if archived, _ := s.rdb.ZCard(t.Context(), "asynq:{jiguang:news:bulk}:archived").Result(); archived != 0 {
		t.Errorf("%d tasks archived", archived)
	}
	s.inOrder()
}

// inOrder checks that the queue's order was kept but for the few recalls that were probes, and what runs side by side.
func (s *site) inOrder() {
	s.t.Helper()
	highest, behind := -1, 0
	for c := range s.sim.Calls() {
		if !c.Recalled {
			continue
		}
		i, err := strconv.Atoi(between(c.MessageID, "p:", "n:"))
		if err != nil {
			s.t.Fatal(err)
		}
		if i < highest-2000 { // 32 enqueuers and 64 workers are never exactly in order
			behind++
		}
		highest = max(highest, i)
	}
	if behind > 20 {
		s.t.Errorf("%d recalls lost their place in the queue", behind)
	}
}

func (s *site) commands() int64 {
	s.t.Helper()
	info, err := s.rdb.Info(context.Background(), "stats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(between(info, "total_commands_processed:", "\r\n")), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestAnIdleWorkerOfFiftyAppsIsQuietAndQuick(t *testing.T) {
	var lanes []lane
	for i := range 50 {
		lanes = append(lanes, lane{"jiguang", fmt.Sprint("app", i), fmt.Sprintf("channel_key: key%030d, master_secret: 5e987ac6d2e04d95a9d8f0d1", i)})
	}
	var accounts []simulator.Account
	for i := range 50 {
		accounts = append(accounts, simulator.Account{Provider: "jiguang", Account: fmt.Sprintf("key%030d", i), Secret: "5e987ac6d2e04d95a9d8f0d1"})
	}
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true, Accounts: accounts}, lanes...)
	s.worker()
	const seconds = 10
	before := s.commands()
	<-time.After(seconds * time.Second)
	perSecond := float64(s.commands()-before) / seconds
	t.Logf("%.0f Redis commands a second", perSecond)
	if perSecond > 1000 {
		t.Errorf("%.0f Redis commands a second for nothing, want at most 1000", perSecond)
	}
	var slowest time.Duration
	for i := range 100 {
		r := ums(i)
		r.App = fmt.Sprint("app", i%50)
		start := time.Now()
		s.enqueue(r)
		s.until(5*time.Second, func() bool { return len(s.sim.CallsFor("jiguang", r.MessageID)) > 0 })
		slowest = max(slowest, s.sim.CallsFor("jiguang", r.MessageID)[0].Time.Sub(start))
	}
	t.Logf("the slowest of 100 pick-ups took %v", slowest)
	if slowest > 250*time.Millisecond {
		t.Errorf("a pick-up took %v", slowest)
	}
}
