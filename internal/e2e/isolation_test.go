package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// Every call of one provider runs into its timeout; the other four must not notice. Both halves are measured in one run, on
// one worker, so that only their ratio counts.
func TestAHangingProviderCostsTheOthersNothing(t *testing.T) {
	long(t)
	const free = "concurrency: 8, limits: [], timeout: 2s"
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true, Latency: 100 * time.Millisecond},
		lane{"jiguang", "news", free}, lane{"engagelab", "abroad", free}, lane{"timpush", "chat", free},
		lane{"timchat", "chat", free}, lane{"rongcloud", "community", free})
	sent := time.Now().Add(-time.Minute)
	makers := map[string]func(i int) tasks.Recall{
		"jiguang": ums,
		"engagelab": func(i int) tasks.Recall {
			return tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: fmt.Sprint(1_000_000 + i)}
		},
		"timpush": push,
		"timchat": chat,
		"rongcloud": func(i int) tasks.Recall {
			return tasks.Recall{Provider: "rongcloud", App: "community", From: "service", SentAt: sent, MessageID: fmt.Sprintf("0000-0000-%04d-%04d", i/10_000, i%10_000)}
		},
	}
	for _, make := range makers {
		s.bulk(6000, make, tasks.WithPriority(tasks.Bulk))
	}
	s.worker()
	s.until(30*time.Second, func() bool { return s.recalled("timchat") > 200 }) // past the slow start
	// Short turns of both kinds, one after the other, and the middle of their ratios: what else the machine is doing then
	// weighs on both alike.
	const turns, turn = 5, 4 * time.Second
	ratios := map[string][]float64{}
	for range turns {
		healthy := s.rates(makers, turn)
		id, err := s.sim.Fault(simulator.Fault{Provider: "rongcloud", Behaviour: simulator.Behaviour{Mode: simulator.Hang}})
		if err != nil {
			t.Fatal(err)
		}
		hanging := s.rates(makers, turn)
		s.sim.RemoveFault(id)
		for provider, rate := range healthy {
			t.Logf("%-10s %.0f a second, then %.0f", provider, rate, hanging[provider])
			ratios[provider] = append(ratios[provider], hanging[provider]/rate)
		}
	}
	for provider, list := range ratios {
		slices.Sort(list)
		if middle := list[turns/2]; provider != "rongcloud" && middle < 0.95 {
			t.Errorf("%s keeps %.0f %% of its throughput while another provider hangs", provider, 100*middle)
		}
	}
}

// rates is how many recalls a second each provider takes back in the time that follows.
func (s *site) rates(makers map[string]func(i int) tasks.Recall, over time.Duration) map[string]float64 {
	before := map[string]int{}
	for provider := range makers {
		before[provider] = s.recalled(provider)
	}
	start := time.Now()
	<-time.After(over)
	rates := map[string]float64{}
	for provider := range makers {
		rates[provider] = float64(s.recalled(provider)-before[provider]) / time.Since(start).Seconds()
	}
	return rates
}

func (s *site) recalled(provider string) int {
	n := 0
	for c := range s.sim.Calls() {
		if c.Provider == provider && c.Recalled {
			n++
		}
	}
	return n
}

// A worker is killed with calls in flight: some of them were carried out, and nobody heard the answer. Recovery calls those
// again, uncounted; the vendor says that they are recalled already, and that counts as done. None with an outcome is called
// again.
func TestAKilledWorkersRecallsRunAgain(t *testing.T) {
	t.Parallel()
	long(t)
	s := newSite(t, simulator.Options{KnowAll: true, Latency: 300 * time.Millisecond}, lane{"jiguang", "news", "concurrency: 8"})
	const n = 200
	first := s.worker()
	s.bulk(n, ums, tasks.WithPriority(tasks.Bulk))
	e := s.follow()
	s.await(e, 50, time.Minute)
	s.until(10*time.Second, func() bool { return s.underWay() >= 4 })
	first.signal(syscall.SIGKILL)
	<-first.done
	done := s.follow()
	s.await(done, len(e.outcomes), 10*time.Second)
	finished := map[string]bool{}
	for id := range done.outcomes {
		finished[id] = true
	}
	killed := time.Now()
	s.worker()
	s.await(e, n, 4*time.Minute)
	t.Logf("all had ended %v after the kill", time.Since(killed).Round(time.Second))
	again := 0
	for i := range n {
		r := ums(i)
		calls := s.sim.CallsFor("jiguang", r.MessageID)
		if len(calls) > 1 {
			again++
			if finished[r.ID()] {
				t.Errorf("%s was called again after its outcome", r.ID())
			}
		}
	}
	t.Logf("%d recalls were called again", again)
	if again < 4 || again > 10 {
		t.Errorf("%d recalls were called again, want those that were in flight", again)
	}
	for id, outcome := range e.outcomes {
		if !tasks.Succeeded(outcome) {
			t.Errorf("%s ended as %s", id, outcome)
		}
	}
}

// underWay is how many calls the vendor has not answered yet.
func (s *site) underWay() int {
	n := 0
	for c := range s.sim.Calls() {
		if c.Open {
			n++
		}
	}
	return n
}
