package lane

import (
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// look is how the world's lane stands to somebody who knows what is published of it.
func (w *world) look(published tasks.Lane) Standing {
	w.t.Helper()
	published.Provider, published.App = "timpush", "chat"
	list, err := Look(w.t.Context(), w.rdb, []tasks.Lane{published}, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

func (w *world) stands(published tasks.Lane, reason string, opens time.Duration) {
	w.t.Helper()
	s := w.look(published)
	if s.Reason != reason {
		w.t.Fatalf("closed because of %q, want %q", s.Reason, reason)
	}
	if reason != "" && s.Until.Sub(w.now) != opens {
		w.t.Fatalf("opens in %v, want %v", s.Until.Sub(w.now), opens)
	}
}

func TestALookTellsWhenAUsedUpLimitGivesTheNextSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	published := tasks.Lane{Limits: []providers.Limit{{Calls: 2, Per: time.Hour}, {Calls: 3, Day: true, TimeZone: providers.Shanghai()}}}
	a := w.process("a", published.Limits...)
	call := func() {
		t.Helper()
		w.settle(a, w.goes(a, Ask{}), noFault)
	}
	call() // 10:00 in Shanghai
	w.stands(published, "", 0)
	w.pass(10 * time.Minute)
	call()
	w.stands(published, ReasonLimit, 50*time.Minute)
	w.pass(50*time.Minute + 2*time.Millisecond)
	w.stands(published, "", 0)
	call()
	w.pass(30 * time.Minute)
	w.stands(published, ReasonLimit, 12*time.Hour+30*time.Minute-2*time.Millisecond+dayEdge) // Shanghai's midnight
}

func TestALookTakesAFastLimitForOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.stands(tasks.Lane{Limits: []providers.Limit{perSecond}}, "", 0)
}

func TestALookTellsThrottlingAndHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), &providers.Fault{Kind: providers.Throttled, Code: "HTTP 429", RetryAfter: time.Minute})
	w.stands(tasks.Lane{}, ReasonThrottled, time.Minute)
	w.pass(time.Minute)
	w.stands(tasks.Lane{}, "", 0)

	w.settle(a, w.goes(a, Ask{}), refused)
	hold := tasks.Lane{Hold: "credentials"}
	w.stands(hold, "credentials", 30*time.Second)
	if s := w.look(hold); s.Says != "credentials (70003): bad sig" || !s.Since.Equal(w.now) {
		t.Errorf("says %q since %v", s.Says, s.Since)
	}
	// New credentials: what the old ones met with is nobody's hold any more.
	w.stands(tasks.Lane{}, "", 0)
}

func TestALookCountsWhatWaitsAndSeesPausedQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for key, members := range map[string][]string{"asynq:{timpush:chat}:pending": {"a", "b"}, "asynq:{timpush:chat:bulk}:active": {"c"}} {
		if err := w.rdb.LPush(t.Context(), key, members).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.rdb.Set(t.Context(), "asynq:{timpush:chat:bulk}:paused", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	s := w.look(tasks.Lane{})
	if s.Waiting != 2 || s.Active != 1 || len(s.Paused) != 1 || s.Paused[0] != tasks.Bulk {
		t.Errorf("%+v", s)
	}
}
