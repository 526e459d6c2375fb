package retry

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
)

// anyOf returns one of the values, chosen by r.
func anyOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// span returns a duration that is often at a border and otherwise spread over all sizes.
func span(r *rand.Rand) time.Duration {
	borders := []time.Duration{
		0, 1, time.Second - 1, time.Second, LastCall - 1, LastCall, LastCall + 1, 30 * time.Second, time.Minute, 5 * time.Minute,
		MaxClosing, math.MaxInt64,
	}
	if r.IntN(2) == 0 {
		return anyOf(r, borders...)
	}
	return time.Duration(r.Int64() >> r.IntN(62))
}

func randomCall(r *rand.Rand) Call {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(time.Duration(r.Int64N(int64(time.Hour))))
	c := Call{
		Attempts: anyOf(r, 0, 1, 2, 8, 9, 62, 63, 64, 1<<20, math.MaxInt, -1, math.MinInt), Now: now,
		Earlier: r.IntN(2) == 0, OthersSucceed: r.IntN(2) == 0, Probe: r.IntN(3) == 0, Renewal: r.IntN(3) == 0,
		Refusals: anyOf(r, 0, 1, 2, 3, 4, math.MaxInt),
		Jitter:   anyOf(r, 0, 0.5, math.Nextafter(1, 0), r.Float64(), 1, -1, math.NaN(), math.Inf(1)),
	}
	c.RecallBy = now.Add(anyOf[time.Duration](r, 1, 1, 1, -1) * span(r) / 2)
	if r.IntN(2) == 0 {
		c.VendorWindow = now.Add(span(r) - time.Hour)
	}
	if r.IntN(20) == 0 {
		return c
	}
	c.Fault = &providers.Fault{
		Kind: anyOf(r, append(providers.Kinds(), "", "something new")...),
		Code: anyOf(r, "", "90051", "1008", "70050", "60011", "HTTP 503"), Message: strings.Repeat("é", r.IntN(100)),
		Ambiguous: r.IntN(2) == 0, Renewed: r.IntN(2) == 0, WholeAccount: r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		c.Fault.RetryAfter = anyOf[time.Duration](r, 1, 1, 1, -1) * span(r)
	}
	return c
}

func TestProperties(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 100_000 {
		c := randomCall(r)
		d := Decide(c)
		for name, holds := range properties(c, d) {
			if !holds {
				t.Fatalf("%s does not hold\ncall:  %+v\nfault: %+v\ngave:  %+v", name, c, c.Fault, d)
			}
		}
	}
}

func properties(c Call, d Decision) map[string]bool {
	left := c.RecallBy.Sub(c.Now)
	var asked time.Duration
	if c.Fault != nil {
		asked = c.Fault.RetryAfter
	}
	goesOn := d.Action == Retry || d.Action == Defer
	closes := d.Lane.Close != Open
	return map[string]bool{
		"every call has an action":                            d.Action >= Finish && d.Action <= Again,
		"an outcome comes with finish alone":                  (d.Action == Finish) == (d.Outcome != ""),
		"no call at or after the window":                      d.Action == Finish || (left > 0 && d.Delay < left),
		"no call before the vendor's waiting time is over":    !goesOn || d.Delay >= asked,
		"again only where the vendor asks for no wait":        d.Action != Again || (asked <= 0 && c.Fault.Renewed && !c.Renewal),
		"a lane closes no earlier than the vendor asks":       !closes || d.Lane.Wait.First >= min(asked, MaxClosing),
		"a lane closes for a day at most":                     d.Lane.Wait.Max <= MaxClosing,
		"a closed lane has a schedule":                        !closes || (d.Lane.Wait.First >= time.Second || d.Lane.Exact && d.Lane.Wait.First > 0),
		"a hold has a reason":                                 (d.Lane.Close == Hold) == (d.Lane.HoldReason != ""),
		"a lane that works does not close":                    !(d.Lane.Works && closes),
		"a retry waits a second, and is an attempt":           d.Action != Retry || (d.Delay >= time.Second && d.Attempt),
		"a deferral is no attempt":                            (d.Action != Defer && d.Action != Again) || !d.Attempt,
		"in place is short":                                   !d.InPlace || (goesOn && d.Delay <= InPlace && d.Lane.Wait.First <= InPlace),
		"a held lane's recall does not wait in place":         !(d.InPlace && (c.Probe && d.Lane.Close != Open || d.Lane.Close == Hold && d.Action == Defer)),
		"only a success is without a reason":                  (d.Reason == "") == (d.Outcome == Recalled),
		"the reason is one short line":                        len(d.Reason) <= providers.MaxMessage && !strings.ContainsAny(d.Reason, "\r\n"),
		"a throttled call is no attempt":                      c.Fault == nil || c.Fault.Kind != providers.Throttled || !d.Attempt,
		"an answer about the account closes the lane":         !aboutAccount(c) || closes,
		"a window that is open is given up for a cause":       d.Outcome != Expired || givenUpForCause(c, left, asked),
		"an answer to the point is the end":                   !toThePoint(c) || (d.Action == Finish && d.Attempt && d.Lane.Works),
		"what is not to the point does not open a lane":       toThePoint(c) || !d.Lane.Works,
		"only a lone recall is rejected for the account":      d.Outcome != Rejected || c.Fault.Kind == providers.Invalid || (c.OthersSucceed && !c.Probe),
		"a wait that is cut short is the last before the end": d.Action != Retry || d.Delay >= max(Backoff(c.Attempts, c.Jitter), asked) || d.Delay >= left-LastCall,
	}
}

func toThePoint(c Call) bool {
	if c.Fault == nil {
		return true
	}
	switch c.Fault.Kind {
	case providers.AlreadyRecalled, providers.WindowClosed, providers.NotFound, providers.Invalid:
		return true
	}
	return false
}

// aboutAccount tells whether the answer must close the lane whatever becomes of the recall.
func aboutAccount(c Call) bool {
	if c.Fault == nil {
		return false
	}
	switch c.Fault.Kind {
	case providers.Throttled:
		return true
	case providers.Credentials, providers.Misconfigured:
		return !c.Fault.Renewed && (!c.OthersSucceed || c.Probe)
	}
	return false
}

// givenUpForCause tells whether the vendor or the time allows for no other call.
func givenUpForCause(c Call, left, asked time.Duration) bool {
	if c.Fault != nil && (c.Fault.Kind == providers.WindowClosed || c.Fault.Ambiguous) {
		return true
	}
	return left <= LastCall || asked >= left
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	below := math.Nextafter(1, 0)
	for _, attempts := range []int{math.MinInt, -1, 0, 1, 2, 3, 7, 8, 9, 30, 31, 62, 63, 64, 65, 1 << 31, math.MaxInt - 1, math.MaxInt} {
		shortestWait, longestWait := Backoff(attempts, 0), Backoff(attempts, below)
		if shortestWait < time.Second || longestWait > 5*time.Minute {
			t.Errorf("Backoff(%d): %s to %s, want within 1s to 5m", attempts, shortestWait, longestWait)
		}
		if longestWait-shortestWait < shortestWait/2 {
			t.Errorf("Backoff(%d): %s to %s is hardly jittered", attempts, shortestWait, longestWait)
		}
		if attempts >= 8 && shortestWait != 150*time.Second {
			t.Errorf("Backoff(%d, 0) = %s, want 2m30s", attempts, shortestWait)
		}
	}
	for n := 1; n < 100; n++ {
		if Backoff(n, 0.5) < Backoff(n-1, 0.5) {
			t.Errorf("Backoff(%d) is shorter than Backoff(%d)", n, n-1)
		}
	}
}

func TestScheduleAt(t *testing.T) {
	t.Parallel()
	hold := Schedule{First: 30 * time.Second, Max: 5 * time.Minute}
	for n, want := range map[int]time.Duration{
		math.MinInt: 30 * time.Second, 0: 30 * time.Second, 1: 30 * time.Second, 2: time.Minute, 3: 2 * time.Minute,
		4: 4 * time.Minute, 5: 5 * time.Minute, 6: 5 * time.Minute, math.MaxInt: 5 * time.Minute,
	} {
		if got := hold.At(n); got != want {
			t.Errorf("At(%d) = %s, want %s", n, got, want)
		}
	}
	edges := []struct {
		schedule Schedule
		want     time.Duration
	}{
		{Schedule{}, 0},
		{Schedule{First: -1, Max: time.Hour}, 0},
		{Schedule{First: time.Hour, Max: time.Minute}, time.Minute},
		{Schedule{First: 1, Max: math.MaxInt64}, math.MaxInt64},
		{Schedule{First: math.MaxInt64, Max: math.MaxInt64}, math.MaxInt64},
	}
	for _, e := range edges {
		if got := e.schedule.At(math.MaxInt); got != e.want {
			t.Errorf("%+v.At(max) = %s, want %s", e.schedule, got, e.want)
		}
	}
}

func TestInterruptedKeepsToTheWindow(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		c := randomCall(r)
		d := Interrupted(Panic, c)
		left := c.RecallBy.Sub(c.Now)
		if d.Action == Retry && (d.Delay < time.Second || d.Delay >= left) || d.Action != Retry && d.Outcome != Expired {
			t.Fatalf("%+v: %+v", c, d)
		}
		for _, i := range []Interruption{WorkerDied, Shutdown, ContextDone} {
			if d := Interrupted(i, c); d.Action != Defer || d.Delay != 0 || d.Attempt || d.Lane != (Lane{}) {
				t.Fatalf("%d, %+v: %+v", i, c, d)
			}
		}
	}
}

// TestWholeLife follows one recall whose vendor never answers: it is tried all day, the last time just before the end.
func TestWholeLife(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	recallBy := start.Add(24 * time.Hour)
	r := rand.New(rand.NewPCG(3, 4))
	now, calls, lastCall := start, 0, start
	for {
		lastCall = now
		d := Decide(Call{
			Fault: &providers.Fault{Kind: providers.Unavailable}, Attempts: calls, Now: now, RecallBy: recallBy, Jitter: r.Float64(),
		})
		calls++
		if d.Action == Finish {
			break
		}
		now = now.Add(d.Delay)
	}
	if calls < 24*12 || calls > 2*24*12+20 {
		t.Errorf("%d calls in a day, want about one every 2.5 to 5 minutes", calls)
	}
	if !lastCall.Equal(recallBy.Add(-LastCall)) {
		t.Errorf("the last call was %s before the end, want %s", recallBy.Sub(lastCall), LastCall)
	}
}
