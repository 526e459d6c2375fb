package lane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

// world is a Redis whose clock the test turns, with any number of worker processes on it.
type world struct {
	t   *testing.T
	mr  *miniredis.Miniredis
	rdb redis.UniversalClient
	now time.Time
}

func newWorld(t *testing.T) *world {
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	w := &world{t: t, mr: mr, rdb: rdb, now: time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)}
	mr.SetTime(w.now)
	return w
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.mr.SetTime(w.now)
}

// process returns the lane as another worker process sees it.
func (w *world) process(name string, limits ...providers.Limit) *Lane {
	return New(w.rdb, Options{
		Provider: "timpush", App: "chat", Fingerprint: "f1", Limits: limits, Timeout: 10 * time.Second, Instance: name,
	})
}

func (w *world) begin(l *Lane, ask Ask) (string, answer) {
	w.t.Helper()
	w.skew(l)
	id := fmt.Sprintf("%s:%d", l.opt.Instance, l.calls.Add(1))
	a, err := l.begin(context.Background(), id, ask, l.opt.Timeout+callSlack)
	if err != nil {
		w.t.Fatal(err)
	}
	return id, a
}

// skew lets the lane believe in the world's clock, as it does after its first answer.
func (w *world) skew(l *Lane) { l.skew.Store(int64(time.Until(w.now))) }

func (w *world) goes(l *Lane, ask Ask) *Pass {
	w.t.Helper()
	id, a := w.begin(l, ask)
	if a.verdict != "go" {
		w.t.Fatalf("verdict %s (%s) until %v, want go", a.verdict, a.reason, a.until.Sub(w.now))
	}
	return &Pass{
		task: ask.Task, ID: id, Began: a.now, Fingerprint: a.terms.fingerprint, Probe: a.probe, SucceededAt: a.succeededAt,
		asked: time.Now(), urgent: ask.Urgent, limits: a.terms.limits,
	}
}

func (w *world) waits(l *Lane, ask Ask, reason string, want time.Duration) {
	w.t.Helper()
	_, a := w.begin(l, ask)
	if a.verdict != "wait" || a.reason != reason {
		w.t.Fatalf("verdict %s (%s), want wait (%s)", a.verdict, a.reason, reason)
	}
	if got := a.until.Sub(w.now); got != want {
		w.t.Fatalf("waits %v, want %v", got, want)
	}
}

func (w *world) settle(l *Lane, p *Pass, fault *providers.Fault) Change {
	w.t.Helper()
	s := Settlement{Class: ClassOf(fault), Written: true}
	if fault != nil {
		s.Says = fault.Error()
		s.Lane = retry.Decide(retry.Call{Fault: fault, Now: w.now, RecallBy: w.now.Add(day), Probe: p.Probe}).Lane
	}
	c, err := l.Settle(context.Background(), p, s)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

const day = 24 * time.Hour

var (
	perSecond = providers.Limit{Calls: 1, Per: time.Second}
	noFault   *providers.Fault
	refused   = &providers.Fault{Kind: providers.Credentials, Code: "70003", Message: "bad sig"}
	away      = &providers.Fault{Kind: providers.Unavailable, Code: "HTTP 503"}
	tooFast   = &providers.Fault{Kind: providers.Throttled, Code: "90051"}
	unknown   = &providers.Fault{Kind: providers.NotFound, Code: "90049"}
)

func TestACallCountsFromItsStartUntilOneWindowAfterItsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.process("a", perSecond), w.process("b", perSecond)
	p := w.goes(a, Ask{})
	w.pass(700 * time.Millisecond) // the vendor takes its time
	w.waits(b, Ask{}, ReasonLimit, 500*time.Millisecond)
	w.settle(a, p, noFault)
	w.waits(b, Ask{}, ReasonLimit, 1002*time.Millisecond)
	w.pass(1001 * time.Millisecond)
	w.waits(b, Ask{}, ReasonLimit, time.Millisecond)
	w.pass(time.Millisecond)
	w.goes(b, Ask{})
}

func TestADeadWorkersCallCountsUntilOneWindowAfterItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.process("a", perSecond), w.process("b", perSecond)
	w.goes(a, Ask{}) // and a is no more
	w.pass(11 * time.Second)
	w.waits(b, Ask{}, ReasonLimit, 500*time.Millisecond)
	w.pass(time.Second)
	w.waits(b, Ask{}, ReasonLimit, 1002*time.Millisecond)
	w.pass(1002 * time.Millisecond)
	w.goes(b, Ask{})
}

func TestACallThatWasNotWrittenIsNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	p := w.goes(a, Ask{})
	if _, err := a.Settle(context.Background(), p, Settlement{Class: Unmade}); err != nil {
		t.Fatal(err)
	}
	w.goes(a, Ask{})
}

func TestSeveralWindowsHoldAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shanghai := providers.Shanghai()
	a := w.process("a", providers.Limit{Calls: 2, Per: time.Hour}, providers.Limit{Calls: 3, Day: true, TimeZone: shanghai})
	call := func() {
		t.Helper()
		w.settle(a, w.goes(a, Ask{}), noFault)
	}
	call() // 10:00 in Shanghai
	call()
	w.waits(a, Ask{}, ReasonLimit, time.Hour+2*time.Millisecond)
	w.pass(time.Hour + 2*time.Millisecond)
	call() // the third of the day
	midnight := time.Date(2026, 11, 21, 0, 0, 0, 0, shanghai)
	w.waits(a, Ask{}, ReasonLimit, midnight.Add(time.Second).Sub(w.now))
	w.pass(midnight.Sub(w.now))
	w.waits(a, Ask{}, ReasonLimit, time.Second) // the vendor's midnight may be a little later
	w.pass(time.Second)
	call()
}

func TestACalendarDayIsRightAcrossAClockChange(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   string
		want time.Duration
	}{
		{"2026-03-29T12:00:00+02:00", 23 * time.Hour},
		{"2026-10-25T12:00:00+01:00", 25 * time.Hour},
		{"2026-11-20T12:00:00+01:00", 24 * time.Hour},
	} {
		at, _ := time.Parse(time.RFC3339, c.at)
		first, next := calendarDay(at, berlin)
		if got := next.Sub(first); got != c.want {
			t.Errorf("the day of %s is %v long, want %v", c.at, got, c.want)
		}
	}
}

// Where clocks change at midnight, a day may begin at one o'clock, or have two midnights. Every moment is in its day.
func TestEveryMomentIsInItsCalendarDay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"America/Santiago", "America/Havana", "America/Asuncion", "Atlantic/Azores", "Africa/Cairo", "Asia/Beirut", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Shanghai", "UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		for at := begin; at.Before(begin.AddDate(3, 0, 0)); at = at.Add(15 * time.Minute) {
			first, next := calendarDay(at, zone)
			if at.Before(first) || !at.Before(next) || next.Sub(first) < 22*time.Hour || next.Sub(first) > 26*time.Hour {
				t.Fatalf("%s: %s is not between %s and %s", name, at.In(zone), first, next)
			}
			if again, _ := calendarDay(next, zone); !again.Equal(next) {
				t.Fatalf("%s: the day after ends %s, and the next begins %s", name, next, again)
			}
		}
	}
	w := newWorld(t)
	santiago, err := time.LoadLocation("America/Santiago")
	if err != nil {
		t.Fatal(err)
	}
	w.now = time.Date(2026, 9, 6, 1, 30, 0, 0, santiago) // the clock went from 0:00 to 1:00
	w.mr.SetTime(w.now)
	a := w.process("a", providers.Limit{Calls: 1, Day: true, TimeZone: santiago})
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.waits(a, Ask{}, ReasonLimit, 22*time.Hour+30*time.Minute+time.Second)
}

func TestUrgentTakesTheNextSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.waits(a, Ask{Urgent: true}, ReasonLimit, 1002*time.Millisecond)
	w.pass(1002 * time.Millisecond)
	w.waits(a, Ask{}, ReasonUrgent, 250*time.Millisecond) // the urgent one at the gate is first
	w.settle(a, w.goes(a, Ask{Urgent: true}), noFault)
	w.pass(1002 * time.Millisecond)

	// One that still waits in its queue is first as well, unless somebody paused that queue.
	w.mr.Lpush("asynq:{timpush:chat}:pending", "some-id")
	w.waits(a, Ask{}, ReasonUrgent, 250*time.Millisecond)
	_ = w.mr.Set("asynq:{timpush:chat}:paused", "1")
	w.goes(a, Ask{})
}

func TestThrottlingClosesTheLaneForAllAndDoubles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.process("a"), w.process("b")
	w.settle(a, w.goes(a, Ask{}), noFault)
	first, second := w.goes(a, Ask{}), w.goes(b, Ask{})
	if c := w.settle(a, first, tooFast); c.Kind != "closed" {
		t.Errorf("change %q, want closed", c.Kind)
	}
	w.waits(b, Ask{}, ReasonThrottled, time.Second)
	w.pass(10 * time.Millisecond)
	w.settle(b, second, tooFast) // under way together: told off together
	w.waits(b, Ask{}, ReasonThrottled, 990*time.Millisecond)
	w.pass(time.Second)
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		w.settle(a, w.goes(a, Ask{}), tooFast)
		w.waits(b, Ask{}, ReasonThrottled, want*time.Second)
		w.pass(want * time.Second)
	}
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.settle(a, w.goes(a, Ask{}), tooFast)
	w.waits(b, Ask{}, ReasonThrottled, time.Second)
}

// What was long ago is another throttling, and a wait that the vendor has named is no step of the doubling.
func TestThrottlingBeginsAnewWhenItHasNotLasted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), noFault)
	plain := &providers.Fault{Kind: providers.Throttled, Code: "HTTP 429"}
	for range 7 {
		w.settle(a, w.goes(a, Ask{}), &providers.Fault{Kind: providers.Throttled, RetryAfter: time.Second})
		w.pass(time.Second)
	}
	for _, want := range []time.Duration{5, 10, 20} {
		w.settle(a, w.goes(a, Ask{}), plain)
		w.waits(a, Ask{}, ReasonThrottled, want*time.Second)
		w.pass(want * time.Second)
	}
	w.pass(51 * time.Second)
	w.settle(a, w.goes(a, Ask{}), plain)
	w.waits(a, Ask{}, ReasonThrottled, 5*time.Second)
}

// RongCloud's 1008 is about the slots that our limits know: somebody else has used one, so a whole window has to go by.
func TestTheNextSlotOfABroadcastLane(t *testing.T) {
	t.Parallel()
	rate := &providers.Fault{Kind: providers.Throttled, Code: "1008"}
	hourly, daily := providers.Limit{Calls: 2, Per: time.Hour}, providers.Limit{Calls: 3, Day: true}
	for _, c := range []struct {
		limits []providers.Limit
		want   []time.Duration
	}{
		{[]providers.Limit{{Calls: 1, Per: 2 * time.Second}}, []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second}},
		{[]providers.Limit{hourly, daily}, []time.Duration{time.Hour, time.Hour}},
		{[]providers.Limit{daily}, []time.Duration{time.Hour, time.Hour}},
		{nil, []time.Duration{5 * time.Second, 10 * time.Second}},
	} {
		w := newWorld(t)
		a := w.process("a", c.limits...)
		for _, want := range c.want {
			w.settle(a, w.goes(a, Ask{}), rate)
			w.waits(a, Ask{}, ReasonThrottled, want)
			w.pass(want + 2*time.Millisecond)
		}
	}
}

func TestRetryAfterIsTakenAtItsWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	for range 3 {
		w.settle(a, w.goes(a, Ask{}), &providers.Fault{Kind: providers.Throttled, RetryAfter: 7 * time.Second})
		w.waits(a, Ask{}, ReasonThrottled, 7*time.Second)
		w.pass(7 * time.Second)
	}
}

func TestACredentialsHoldLetsOneProbeThroughAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.process("a"), w.process("b")
	if c := w.settle(a, w.goes(a, Ask{}), refused); c.Kind != "closed" || c.Reason != "credentials" {
		t.Fatalf("change %+v, want closed for credentials", c)
	}
	for _, wait := range []time.Duration{30, 60, 120, 240, 300, 300} {
		w.waits(b, Ask{}, "credentials", wait*time.Second)
		w.pass(wait * time.Second)
		probe := w.goes(b, Ask{})
		if !probe.Probe {
			t.Fatal("the call is no probe")
		}
		w.waits(a, Ask{}, "credentials", 12*time.Second) // while the probe is under way
		if c := w.settle(b, probe, refused); c.Kind != "" {
			t.Fatalf("change %q: a hold is told once", c.Kind)
		}
	}
	w.pass(5 * time.Minute)
	if c := w.settle(b, w.goes(b, Ask{}), unknown); c.Kind != "opened" {
		t.Fatalf("change %q, want opened: the account works again", c.Kind)
	}
	w.goes(a, Ask{})
}

// A vendor that was away comes back with a refusal: from then on the lane is held for that, at its pace.
func TestARefusalTakesThePlaceOfAnUnavailableHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	for range 10 {
		w.settle(a, w.goes(a, Ask{}), away)
	}
	w.waits(a, Ask{}, "unavailable", time.Second)
	w.pass(time.Second)
	if c := w.settle(a, w.goes(a, Ask{}), refused); c.Kind != "closed" || c.Reason != "credentials" {
		t.Fatalf("change %+v, want closed for credentials", c)
	}
	if h, err := a.Hold(t.Context()); err != nil || h.Reason != "credentials" || h.Until.Sub(w.now) != 30*time.Second {
		t.Errorf("hold %+v, %v", h, err)
	}
	probes := 0
	for range 300 {
		w.pass(time.Second)
		id, got := w.begin(a, Ask{})
		if got.verdict == "go" {
			probes++
			w.settle(a, &Pass{ID: id, Began: got.now, Fingerprint: "f1", Probe: got.probe}, refused)
		}
	}
	if probes != 3 { // after 30, 90 and 210 s
		t.Errorf("%d probes in 5 minutes, want 3", probes)
	}
}

// The same, where the refused recall is alone with that: the lane is open.
func TestOneRefusedRecallOpensAnUnavailableLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.settle(a, w.goes(a, Ask{}), noFault)
	alone := w.goes(a, Ask{})
	for range 10 {
		w.settle(a, w.goes(a, Ask{}), away)
	}
	// Its answer comes late, and others were successful after it began.
	if err := w.rdb.HSet(t.Context(), a.keys[0], "ok_at:f1", w.now.Add(time.Second).UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
	if c := w.settle(a, alone, refused); c.Kind != "opened" || c.Reason != "unavailable" || !c.Spared {
		t.Fatalf("change %+v, want opened", c)
	}
	w.goes(a, Ask{})
}

// Urgent recalls that the vendor refuses must not keep bulk ones from showing that the account works.
func TestTheNextProbeIsABulkRecall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	if err := w.rdb.LPush(t.Context(), "asynq:{timpush:chat}:pending", "one", "two").Err(); err != nil {
		t.Fatal(err)
	}
	urgent, bulk := Ask{Urgent: true}, Ask{}
	w.settle(a, w.goes(a, urgent), refused)
	w.pass(30 * time.Second)
	w.waits(a, urgent, "credentials", 250*time.Millisecond)
	w.settle(a, w.goes(a, bulk), refused)
	w.pass(time.Minute)
	w.waits(a, bulk, "urgent", 250*time.Millisecond)
	w.settle(a, w.goes(a, urgent), refused)
	// Without a bulk recall it is an urgent one again, after a moment.
	w.pass(2 * time.Minute)
	w.waits(a, urgent, "credentials", 250*time.Millisecond)
	w.pass(500 * time.Millisecond)
	if c := w.settle(a, w.goes(a, urgent), noFault); c.Kind != "opened" {
		t.Errorf("change %+v, want opened", c)
	}
}

// Several bad signatures are under way when the hold begins, and the last of them locks the account.
func TestALockThatIsToldLateIsWaitedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), noFault)
	first, second := w.goes(a, Ask{}), w.goes(a, Ask{})
	w.settle(a, first, refused)
	w.pass(time.Second)
	w.settle(a, second, &providers.Fault{Kind: providers.Credentials, Code: "70050"})
	w.waits(a, Ask{}, "credentials", time.Minute)
}

func TestADeadProbeIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), refused)
	w.pass(30 * time.Second)
	w.goes(a, Ask{}) // and is not heard of again
	w.waits(a, Ask{}, "credentials", 12*time.Second)
	w.pass(12 * time.Second)
	if p := w.goes(a, Ask{}); !p.Probe {
		t.Fatal("the call is no probe")
	}
}

func TestAHoldBindsOnlyTheCredentialsItWasSeenWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), refused)
	mended := w.process("b")
	mended.Change("f2", nil)
	if p := w.goes(mended, Ask{}); p.Probe {
		t.Error("new credentials are probed, want them tried at once")
	}
	w.waits(a, Ask{}, "credentials", 30*time.Second)
}

func TestOnePoisonedRecallDoesNotCloseALaneThatWorksForOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), noFault)
	poisoned, healthy := w.goes(a, Ask{}), w.goes(a, Ask{})
	w.pass(time.Millisecond)
	w.settle(a, healthy, noFault)
	if c := w.settle(a, poisoned, refused); c.Kind != "" {
		t.Fatalf("change %+v: another recall succeeded while this one was refused", c)
	}
	w.goes(a, Ask{})
}

func TestTenUnavailableAnswersInARowHoldTheLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	for i := range 9 {
		if c := w.settle(a, w.goes(a, Ask{}), away); c.Kind != "" {
			t.Fatalf("closed after %d", i+1)
		}
	}
	w.settle(a, w.goes(a, Ask{}), unknown) // an answer to the point: the count starts again
	for range 9 {
		w.settle(a, w.goes(a, Ask{}), away)
	}
	if c := w.settle(a, w.goes(a, Ask{}), away); c.Kind != "closed" || c.Reason != "unavailable" {
		t.Fatalf("change %+v, want closed", c)
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		w.waits(a, Ask{}, "unavailable", wait*time.Second)
		w.pass(wait * time.Second)
		w.settle(a, w.goes(a, Ask{}), away)
	}
	w.pass(30 * time.Second)
	if c := w.settle(a, w.goes(a, Ask{}), noFault); c.Kind != "opened" {
		t.Fatalf("change %q, want opened", c.Kind)
	}
}

func TestALaneStartsSlowly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	for _, width := range []int{1, 2, 4, 8, 16} {
		var under []*Pass
		for range width {
			under = append(under, w.goes(a, Ask{}))
		}
		w.waits(a, Ask{}, ReasonStart, 250*time.Millisecond)
		w.settle(a, under[0], noFault) // one answer is enough to double
		for _, p := range under[1:] {
			if _, err := a.Settle(context.Background(), p, Settlement{Class: Unmade}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAClaimKeepsTheSlotForItsDequeuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	claim := func(name string) answer {
		t.Helper()
		w.skew(a)
		got, err := a.begin(context.Background(), "", Ask{Dequeuer: name}, claimLease)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := claim("one"); got.verdict != "go" {
		t.Fatalf("verdict %s, want go", got.verdict)
	}
	if got := claim("two"); got.verdict != "wait" {
		t.Fatalf("verdict %s for the second claim, want wait", got.verdict)
	}
	w.waits(a, Ask{Dequeuer: "two"}, ReasonLimit, 500*time.Millisecond)
	w.settle(a, w.goes(a, Ask{Dequeuer: "one"}), noFault)
	w.pass(1002 * time.Millisecond)

	claim("one")
	w.pass(claimLease) // its queue was empty after all
	w.goes(a, Ask{Dequeuer: "two"})
}

// A call in flight may not be written after all: a recall must not be given up for what only such a call keeps.
func TestWhatACallInFlightKeepsIsAskedForAgainSoon(t *testing.T) {
	t.Parallel()
	hour, daily := providers.Limit{Calls: 2, Per: time.Hour}, providers.Limit{Calls: 3, Day: true}
	for name, c := range map[string]struct {
		limits  []providers.Limit
		made    int
		soon    time.Duration
		written time.Duration // how long the lane is closed if it is
	}{
		"day":            {[]providers.Limit{daily}, 2, 500 * time.Millisecond, 21*time.Hour + time.Second},
		"hour":           {[]providers.Limit{hour}, 1, 500 * time.Millisecond, time.Hour + 2*time.Millisecond},
		"none made":      {[]providers.Limit{{Calls: 1, Day: true}}, 0, 500 * time.Millisecond, 22*time.Hour + time.Second},
		"second":         {[]providers.Limit{{Calls: 2, Per: 200 * time.Millisecond}}, 1, 100 * time.Millisecond, 202 * time.Millisecond},
		"hour and a day": {[]providers.Limit{hour, daily}, 1, 500 * time.Millisecond, time.Hour + 2*time.Millisecond},
	} {
		for _, written := range []bool{false, true} {
			w := newWorld(t)
			a, b := w.process("a", c.limits...), w.process("b", c.limits...)
			for range c.made {
				w.settle(a, w.goes(a, Ask{}), noFault)
			}
			if name == "day" {
				w.pass(time.Hour)
			}
			flying := w.goes(a, Ask{})
			_, got := w.begin(b, Ask{Urgent: true})
			if wait := got.until.Sub(w.now); got.verdict != "wait" || got.reason != ReasonLimit || wait != c.soon {
				t.Errorf("%s: %s (%s) for %s, want %s", name, got.verdict, got.reason, wait, c.soon)
			}
			if _, err := a.Settle(t.Context(), flying, Settlement{Class: Unavailable, Written: written}); err != nil {
				t.Fatal(err)
			}
			if !written {
				w.goes(b, Ask{Urgent: true})
				continue
			}
			w.waits(b, Ask{Urgent: true}, ReasonLimit, c.written)
		}
	}
}

// One burst of "too many calls" on a lane is one throttling for the other lanes of its account as well.
func TestOneBurstThrottlesASiblingOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, sibling := w.process("a"), New(w.rdb, Options{Provider: "timchat", App: "chat", Instance: "a"})
	account := &providers.Fault{Kind: providers.Throttled, Code: "60011"}
	for range 5 {
		w.settle(a, w.goes(a, Ask{}), noFault)
	}
	var burst []*Pass
	for range 16 {
		burst = append(burst, w.goes(a, Ask{}))
	}
	for _, p := range burst {
		w.pass(5 * time.Millisecond)
		w.settle(a, p, account)
		want := retry.Decide(retry.Call{Fault: account, Now: w.now, RecallBy: w.now.Add(day)}).Lane
		if err := sibling.Throttle(t.Context(), p.Began, want); err != nil {
			t.Fatal(err)
		}
	}
	w.waits(sibling, Ask{}, ReasonThrottled, 5*time.Second-75*time.Millisecond)
	w.pass(5 * time.Second)
	later := w.goes(a, Ask{})
	want := retry.Decide(retry.Call{Fault: account, Now: w.now, RecallBy: w.now.Add(day)}).Lane
	if err := sibling.Throttle(t.Context(), later.Began, want); err != nil {
		t.Fatal(err)
	}
	w.waits(sibling, Ask{}, ReasonThrottled, 10*time.Second)
}

// While few calls are let through, urgent recalls go first, in their queue or at the gate. They do not keep more places than they
// have workers.
func TestUrgentGoesFirstWhileALaneStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	first := w.goes(a, Ask{})
	w.waits(a, Ask{Urgent: true}, ReasonStart, 250*time.Millisecond)
	w.settle(a, first, noFault)
	second := w.goes(a, Ask{})
	w.waits(a, Ask{}, ReasonStart, 250*time.Millisecond) // the urgent one at the gate is first
	w.settle(a, w.goes(a, Ask{Urgent: true}), noFault)
	w.settle(a, second, noFault) // 8 now
	for i := range 100 {
		_, _ = w.mr.Lpush("asynq:{timpush:chat}:pending", fmt.Sprint("id-", i))
	}
	for range 6 {
		w.goes(a, Ask{})
	}
	w.waits(a, Ask{}, ReasonStart, 250*time.Millisecond)
	w.goes(a, Ask{Urgent: true})
	w.goes(a, Ask{Urgent: true})
	w.waits(a, Ask{Urgent: true}, ReasonStart, 250*time.Millisecond)
}

func TestNoCallAtOrAfterRecallBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	for _, c := range []struct {
		left time.Duration
		want string
	}{{time.Millisecond, "go"}, {0, "expired"}, {-time.Hour, "expired"}} {
		if _, got := w.begin(a, Ask{RecallBy: w.now.Add(c.left)}); got.verdict != c.want {
			t.Errorf("%v left: %s, want %s", c.left, got.verdict, c.want)
		}
	}
}

func TestKeysOfALaneShareOneSlot(t *testing.T) {
	t.Parallel()
	l := New(nil, Options{Provider: "timpush", App: "chat"})
	want := []string{
		"recallq:lane:{timpush:chat}", "recallq:lane:{timpush:chat}:flight", "recallq:lane:{timpush:chat}:calls",
		"asynq:{timpush:chat}:pending", "asynq:{timpush:chat}:paused",
	}
	if fmt.Sprint(l.keys) != fmt.Sprint(want) {
		t.Errorf("keys %v, want %v", l.keys, want)
	}
	if q := tasks.Queue("timpush", "chat", tasks.Urgent); q != "timpush:chat" {
		t.Errorf("the urgent queue is %q", q)
	}
}

// The pattern that the sweep looks for has to be how payloads are written.
func TestTheSweepReadsPayloadsAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	d := NewDequeuer(w.rdb, l, tasks.Bulk, make(chan struct{}))
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	enqueue := func(id, batch string, left time.Duration) string {
		t.Helper()
		res, err := p.Enqueue(t.Context(), tasks.Recall{
			Provider: "timpush", App: "chat", MessageID: id, SentAt: w.now.Add(left - day), Batch: batch, Seq: 1,
			OfflinePushTitle: `"recall_by":"2000-01-01T00:00:00.000Z","batch":"wrong"`,
		}, tasks.WithPriority(tasks.Bulk), tasks.AllowUnserved())
		if err != nil {
			t.Fatal(err)
		}
		return res.ID
	}
	for i := range sweepChunk {
		enqueue(fmt.Sprint("fresh-", i), "right", time.Hour)
	}
	late := enqueue("late", "right", 20*time.Second)
	mistaken := enqueue("mistaken", "wrong", time.Hour)
	for i := range sweepChunk {
		enqueue(fmt.Sprint("fresher-", i), "right", time.Hour)
	}
	sweep := func(cancelled ...string) []string {
		t.Helper()
		w.pass(sweepAgain + time.Second)
		w.skew(l)
		n, err := d.Sweep(t.Context(), cancelled)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range n {
			id, ok := d.tickets.next()
			if !ok {
				t.Fatal("a recall was found and no ticket given")
			}
			ids = append(ids, id)
		}
		return ids
	}
	if got := sweep(); len(got) != 0 {
		t.Fatalf("found %v, want none: no window has closed", got)
	}
	w.pass(40 * time.Second)
	if got := sweep(); len(got) != 1 || got[0] != late {
		t.Fatalf("found %v, want %s", got, late)
	}
	// It is next in line now and can be taken although the queue is paused.
	pending := func() []string {
		ids, _ := w.mr.List("asynq:{timpush:chat:bulk}:pending")
		return ids
	}
	if ids := pending(); len(ids) != 2*sweepChunk+2 || ids[len(ids)-1] != late {
		t.Fatalf("%d wait, the last is %v", len(ids), ids[len(ids)-1])
	}
	_ = w.mr.Set("asynq:{timpush:chat:bulk}:paused", "1")
	d.tickets.add(late)
	msg, err := d.EvalSha(t.Context(), "sha", dequeueKeys("timpush:chat:bulk"), w.now.Unix(), "asynq:{timpush:chat:bulk}:t:").Text()
	if err != nil || msg != w.mr.HGet("asynq:{timpush:chat:bulk}:t:"+late, "msg") {
		t.Fatalf("took %q, %v", msg, err)
	}
	if active, _ := w.mr.List("asynq:{timpush:chat:bulk}:active"); len(active) != 1 || active[0] != late {
		t.Errorf("active %v, want %s", active, late)
	}
	if state := w.mr.HGet("asynq:{timpush:chat:bulk}:t:"+late, "state"); state != "active" {
		t.Errorf("state %q, want active", state)
	}

	if got := sweep("wrong"); len(got) != 1 || got[0] != mistaken {
		t.Fatalf("found %v, want %s", got, mistaken)
	}
	if got := sweep("wrong"); len(got) != 1 || got[0] != mistaken {
		t.Fatalf("found %v, want %s again: nobody has taken it yet", got, mistaken)
	}

	// A retry of a batch that is cancelled is brought forward.
	waiting := enqueue("waiting", "stopped", time.Hour)
	_, _ = w.mr.Lpop("asynq:{timpush:chat:bulk}:pending")
	_, _ = w.mr.ZAdd("asynq:{timpush:chat:bulk}:retry", float64(w.now.Add(time.Hour).Unix()), waiting)
	w.mr.HSet("asynq:{timpush:chat:bulk}:t:"+waiting, "state", "retry")
	if got := sweep("wrong", "stopped"); !slices.Contains(got, waiting) {
		t.Fatalf("found %v, want %s", got, waiting)
	}
	if state := w.mr.HGet("asynq:{timpush:chat:bulk}:t:"+waiting, "state"); state != "pending" {
		t.Errorf("state %q, want pending", state)
	}
	if w.mr.Exists("asynq:{timpush:chat:bulk}:retry") {
		t.Error("the recall is still in the retry set")
	}
	w.mr.RPop("asynq:{timpush:chat:bulk}:pending")
	if ids := pending(); len(ids) != 2*sweepChunk+1 || ids[len(ids)-1] != mistaken {
		t.Fatalf("%d wait, the last is %v", len(ids), ids[len(ids)-1])
	}
}

func TestACallIsSettledByTheTermsItWasLetThroughWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a", perSecond)
	p := w.goes(a, Ask{})
	a.Change("f2", nil)
	w.settle(a, p, refused)
	w.goes(a, Ask{}) // the new credentials are tried at once, and no limit is left
	old := w.process("b", perSecond)
	w.waits(old, Ask{}, "credentials", 30*time.Second)
}

func TestTheNextProbeIsAnotherRecall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{Task: "poisoned"}), refused)
	w.pass(30 * time.Second)
	if _, got := w.begin(a, Ask{Task: "poisoned"}); got.verdict != "another" {
		t.Fatalf("verdict %s, want another recall first", got.verdict)
	}
	w.settle(a, w.goes(a, Ask{Task: "healthy"}), refused)
	w.pass(time.Minute)
	if _, got := w.begin(a, Ask{Task: "healthy"}); got.verdict != "another" {
		t.Fatalf("verdict %s, want another recall first", got.verdict)
	}
	if p := w.goes(a, Ask{Task: "healthy"}); !p.Probe { // it came round: there was no other
		t.Fatal("the call is no probe")
	}
}

// RongCloud says 1008 also when broadcasting is not enabled: only the time tells.
func TestTooManyCallsForADayAndNothingElseCountsAsRefused(t *testing.T) {
	t.Parallel()
	broadcast := &providers.Fault{Kind: providers.Throttled, Code: "1008", Message: "too frequent"}
	w := newWorld(t)
	a, b := w.process("a"), w.process("b")
	call := func(after time.Duration, f *providers.Fault) Change {
		t.Helper()
		w.pass(after)
		return w.settle(a, w.goes(a, Ask{}), f)
	}
	for _, other := range []*providers.Fault{noFault, unknown, away} {
		for range 2 {
			call(12*time.Hour-time.Minute, broadcast)
		}
		call(time.Hour, other) // an answer of another kind: the day begins anew
	}
	for range 4 {
		call(8*time.Hour-time.Second, tooFast) // another code means what it says
	}
	for range 4 {
		if c := call(7*time.Hour+59*time.Minute, broadcast); c.Reason != "throttled" {
			t.Fatalf("change %+v within the day", c)
		}
	}
	c := call(10*time.Minute, broadcast)
	if c.Kind != "closed" || c.Reason != "credentials" {
		t.Fatalf("change %+v after a day, want closed for credentials", c)
	}
	if !strings.Contains(c.Says, "too frequent") || !strings.Contains(c.Says, "no other answer for a day") {
		t.Errorf("it says %q", c.Says)
	}
	if h, err := a.Hold(t.Context()); err != nil || h.Reason != "credentials" || !strings.Contains(h.Says, "1008") || !strings.Contains(h.Says, "enabled") {
		t.Errorf("the hold is %+v, %v", h, err)
	}
	for _, wait := range []time.Duration{30, 60} {
		w.waits(b, Ask{}, "credentials", wait*time.Second)
		w.pass(wait * time.Second)
		probe := w.goes(b, Ask{})
		if c := w.settle(b, probe, broadcast); !probe.Probe || c.Kind != "" {
			t.Fatalf("probe %t, change %+v", probe.Probe, c)
		}
	}
	other := w.process("c")
	other.Change("f2", nil)
	w.settle(other, w.goes(other, Ask{}), broadcast) // other credentials have a day of their own
	if h, err := other.Hold(t.Context()); err != nil || h.Reason != "" {
		t.Errorf("the hold is %+v, %v", h, err)
	}
	w.pass(10 * time.Minute)
	if c := w.settle(b, w.goes(b, Ask{}), noFault); c.Kind != "opened" {
		t.Errorf("change %+v, want opened", c)
	}
	if c := call(time.Hour, broadcast); c.Reason != "throttled" {
		t.Errorf("change %+v after a success", c)
	}
}

// An account that is asked once in a while, and each time at a bad moment, is not refused: the day needs answers in it.
func TestTooManyCallsNowAndThenIsNoRefusal(t *testing.T) {
	t.Parallel()
	broadcast := &providers.Fault{Kind: providers.Throttled, Code: "1008", Message: "too frequent"}
	for name, waits := range map[string][]time.Duration{
		"days of idling":     {72 * time.Hour, 72 * time.Hour, day, day},
		"two incidents":      {time.Hour, time.Hour, 48 * time.Hour, time.Hour, time.Hour},
		"two answers":        {day - time.Millisecond},
		"shorter than a day": {11 * time.Hour, 12 * time.Hour},
	} {
		w := newWorld(t)
		a := w.process("a")
		for i, wait := range append([]time.Duration{0}, waits...) {
			w.pass(wait)
			if c := w.settle(a, w.goes(a, Ask{}), broadcast); c.Kind != "closed" || c.Reason != "throttled" || c.Says != broadcast.Error() {
				t.Errorf("%s: change %+v after %d", name, c, i+1)
			}
		}
	}
	// It comes less than a day apart, for more than a day; with the third answer that is enough.
	w := newWorld(t)
	a := w.process("a")
	for i, want := range []string{"throttled", "throttled", "credentials"} {
		if c := w.settle(a, w.goes(a, Ask{}), broadcast); c.Reason != want {
			t.Errorf("change %+v after %d", c, i+1)
		}
		w.pass(day - time.Millisecond)
	}
}

// What is remembered of credentials that were replaced goes by itself.
func TestTooManyCallsIsForgottenWithItsCredentials(t *testing.T) {
	t.Parallel()
	broadcast := &providers.Fault{Kind: providers.Throttled, Code: "1008", Message: "too frequent"}
	w := newWorld(t)
	a := w.process("a")
	w.settle(a, w.goes(a, Ask{}), broadcast)
	a.Change("f2", nil)
	w.pass(time.Minute)
	w.settle(a, w.goes(a, Ask{}), noFault)
	w.mr.FastForward(day)
	for _, key := range w.mr.Keys() {
		if strings.Contains(key, "f1") {
			t.Errorf("%s is left", key)
		}
	}
	fields, err := w.rdb.HKeys(t.Context(), a.keys[0]).Result()
	if err != nil || len(fields) == 0 {
		t.Fatal(fields, err)
	}
	for _, field := range fields {
		if strings.HasPrefix(field, "only_throttled") {
			t.Errorf("%s is left", field)
		}
	}
}

// What is found is moved to where the look comes by last: when nobody fetches it meanwhile, the look must end all the same.
func TestASweepEndsWhenAllThatWaitsIsToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	w.skew(l)
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	const n = 2*sweepChunk + 200
	for i := range n {
		_, err := p.Enqueue(t.Context(), tasks.Recall{
			Provider: "timpush", App: "chat", MessageID: fmt.Sprint("m", i), SentAt: w.now.Add(time.Minute - day),
		}, tasks.AllowUnserved())
		if err != nil {
			t.Fatal(err)
		}
	}
	w.pass(2 * time.Minute)
	for name, d := range map[string]*Dequeuer{
		"served":   NewDequeuer(w.rdb, l, tasks.Urgent, make(chan struct{})),
		"unserved": NewEnder(w.rdb, l, tasks.Urgent, make(chan struct{})),
	} {
		w.pass(sweepTurn)
		w.skew(l)
		sweep := d.Sweep
		if d.ending {
			sweep = d.SweepUnserved
		}
		if err := tellDue(t, w, "timpush:chat"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got, err := sweep(ctx, nil)
		cancel()
		if got != n || err != nil || d.Found() != n {
			t.Errorf("%s: found %d of %d, %v", name, got, n, err)
		}
	}
}

// A batch that was called back and is cancelled again is looked for at once, and not when its turn comes.
func TestABatchThatIsCancelledAgainIsLookedForAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := NewDequeuer(w.rdb, w.process("a"), tasks.Urgent, make(chan struct{}))
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	want := func(n int) {
		t.Helper()
		w.skew(d.lane)
		if got, err := d.Sweep(t.Context(), []string{"b"}); got != n || err != nil {
			t.Fatalf("found %d, want %d, %v", got, n, err)
		}
	}
	d.Cancelled()
	want(0)
	_, err := p.Enqueue(t.Context(), tasks.Recall{
		Provider: "timpush", App: "chat", MessageID: "m", SentAt: w.now.Add(-time.Hour), Batch: "b", Seq: 1,
	}, tasks.AllowUnserved())
	if err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Second)
	want(0) // it was looked for a moment ago
	d.Cancelled()
	want(1)
}

// What is found and not fetched is found again, and not twice.
func TestASweepKeepsNoOldTickets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := NewDequeuer(w.rdb, w.process("a"), tasks.Urgent, make(chan struct{}))
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	_, err := p.Enqueue(t.Context(), tasks.Recall{
		Provider: "timpush", App: "chat", MessageID: "m", SentAt: w.now.Add(time.Minute - day),
	}, tasks.AllowUnserved())
	if err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Minute)
	for range 3 {
		w.pass(sweepTurn)
		w.skew(d.lane)
		if n, err := d.Sweep(t.Context(), nil); n != 1 || err != nil {
			t.Fatalf("found %d, %v", n, err)
		}
	}
	if n := d.Found(); n != 1 {
		t.Errorf("%d tickets for one recall", n)
	}
}

// Redis may have forgotten that a window closes.
func TestAnUnservedQueueIsLookedThroughNowAndThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := NewEnder(w.rdb, w.process("a"), tasks.Urgent, make(chan struct{}))
	sweep := func() int {
		t.Helper()
		w.skew(d.lane)
		n, err := d.SweepUnserved(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sweep()
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	_, err := p.Enqueue(t.Context(), tasks.Recall{
		Provider: "timpush", App: "chat", MessageID: "m", SentAt: w.now.Add(time.Minute - day),
	}, tasks.AllowUnserved())
	if err != nil {
		t.Fatal(err)
	}
	w.mr.Del(tasks.DueKey("timpush:chat"))
	w.pass(2 * time.Minute)
	if n := sweep(); n != 0 {
		t.Fatalf("found %d without a reason to look", n)
	}
	w.pass(endAnyway)
	if n := sweep(); n != 1 {
		t.Errorf("found %d, want 1", n)
	}
}

// tellDue says that a window has just closed.
func tellDue(t *testing.T, w *world, queue string) error {
	return w.rdb.ZAdd(t.Context(), tasks.DueKey(queue), redis.Z{Score: float64(w.now.Add(-time.Minute).Unix()), Member: "1"}).Err()
}

// When the windows close is forgotten only once all is ended: whoever has found what is too late may die with the list.
func TestWhatADeadSweeperHasFoundIsFoundAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := make(chan struct{})
	dequeuer := func(name string) *Dequeuer { return NewDequeuer(w.rdb, w.process(name), tasks.Urgent, stop) }
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	for i := range 3 {
		_, err := p.Enqueue(t.Context(), tasks.Recall{
			Provider: "timpush", App: "chat", MessageID: fmt.Sprint("m", i), SentAt: w.now.Add(time.Minute - day),
		}, tasks.AllowUnserved())
		if err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(d *Dequeuer, want int) {
		t.Helper()
		w.pass(sweepTurn)
		w.skew(d.lane)
		if got, err := d.Sweep(t.Context(), nil); got != want || err != nil {
			t.Fatalf("found %d, want %d, %v", got, want, err)
		}
	}
	due := func() int64 { return w.rdb.ZCard(t.Context(), tasks.DueKey("timpush:chat")).Val() }
	w.pass(2 * time.Minute)
	sweep(dequeuer("a"), 3)
	b := dequeuer("b")
	sweep(b, 3)
	args := []any{w.now.Add(-time.Second).Unix(), "asynq:{timpush:chat}:t:"} // the lease is over at once: b dies with one of them
	for range 3 {
		id, _ := b.tickets.next()
		if err := b.take(t.Context(), id, args).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c := dequeuer("c")
	sweep(c, 0)
	if due() == 0 {
		t.Fatal("it is forgotten although a dead worker has recalls in its hands")
	}
	w.mr.Del("asynq:{timpush:chat}:lease")
	sweep(c, 0)
	if due() != 0 {
		t.Error("it is not forgotten")
	}
	// A recall that comes back later is found all the same, if the lane is closed.
	if err := w.rdb.LMove(t.Context(), "asynq:{timpush:chat}:active", "asynq:{timpush:chat}:pending", "left", "left").Err(); err != nil {
		t.Fatal(err)
	}
	w.pass(sweepAnyway)
	sweep(c, 0)
	c.lane.note(w.now.Add(time.Hour), "credentials", w.now)
	sweep(c, 1)
}
