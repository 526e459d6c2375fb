package lane

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

//go:embed begin.lua
var beginSource string

//go:embed settle.lua
var settleSource string

var (
	beginScript  = redis.NewScript(beginSource)
	settleScript = redis.NewScript(settleSource)
)

// Reasons for which a lane is closed, beside the kinds of fault that hold it (credentials, misconfigured, unavailable).
const (
	ReasonThrottled = "throttled" // the vendor told the account to slow down
	ReasonLimit     = "limit"     // the lane's own limits give no slot yet
	ReasonUrgent    = "urgent"    // urgent recalls take the next slot
	ReasonStart     = "start"     // slow start: earlier calls have to come back first
)

// WakePrefix begins the messages on [tasks.WakeChannel] that say that a lane may have changed; its name follows.
const WakePrefix = "lane "

const (
	claimLease = 2 * time.Second // how long a dequeuer may take to fetch the recall it claimed a slot for
	callSlack  = 2 * time.Second // how much longer than its timeout a call may be in flight
	// startWithin is how soon after it was let through a call has to start. A process that was paused in between asks again:
	// its slot may have been given to another.
	startWithin = time.Second
	// throttledDay is for how long RongCloud's 1008, which it also gives when broadcasting is not enabled, may come again and
	// again as the only answer. Where nobody asks for as long, it is counted anew.
	throttledDay = 24 * time.Hour
	recheck      = 5 * time.Second // how often a closed lane is looked at, should the wake-up be lost
)

// ErrStopping is returned to those who wait at a lane when the worker stops.
var ErrStopping = errors.New("the worker is stopping")

// Options are what a lane is made of.
type Options struct {
	Provider, App string
	// Fingerprint tells one set of credentials from another, without telling them: holds bind only those they were seen with.
	Fingerprint string
	Limits      []providers.Limit
	// Timeout is how long one call may take.
	Timeout time.Duration
	// Instance tells this worker process from all others.
	Instance string
}

// Lane is one lane as one worker process sees it. It is safe for concurrent use.
type Lane struct {
	opt   Options
	rdb   redis.UniversalClient
	keys  []string
	terms atomic.Pointer[terms]
	calls atomic.Int64
	skew  atomic.Int64 // Redis's clock minus ours, in nanoseconds

	mu     sync.Mutex
	until  time.Time     // closed until then, as far as is known here
	reason string        // why
	change chan struct{} // closed and replaced when the lane may have changed
}

// terms are what a reload of the configuration may change.
type terms struct {
	fingerprint string
	limits      []providers.Limit
}

// stateKey is the hash of a lane's limits and holds. It shares a slot of a cluster with the lane's urgent queue.
func stateKey(name string) string { return "recallq:lane:{" + name + "}" }

// New returns the lane. It does not talk to Redis yet.
func New(rdb redis.UniversalClient, opt Options) *Lane {
	base := stateKey(opt.Provider + ":" + opt.App)
	urgent := tasks.Queue(opt.Provider, opt.App, tasks.Urgent)
	l := &Lane{
		opt:    opt,
		rdb:    rdb,
		keys:   []string{base, base + ":flight", base + ":calls", tasks.QueueKey(urgent, "pending"), tasks.QueueKey(urgent, "paused")},
		change: make(chan struct{}),
	}
	l.terms.Store(&terms{opt.Fingerprint, opt.Limits})
	return l
}

// Change replaces the credentials' fingerprint and the limits. Calls under way are settled by those they were let through with.
func (l *Lane) Change(fingerprint string, limits []providers.Limit) {
	l.terms.Store(&terms{fingerprint, limits})
	l.Wake()
}

// Name is provider:app.
func (l *Lane) Name() string { return l.opt.Provider + ":" + l.opt.App }

// Ask is a recall at the gate.
type Ask struct {
	Task     string    // the task's id
	RecallBy time.Time // no call starts at or after it
	Urgent   bool
	Dequeuer string // the dequeuer that fetched the recall; its claim is used up
}

// Pass is the permission to make one call, now. It has to be settled.
type Pass struct {
	ID    string
	Began time.Time // Redis's clock
	// Fingerprint is that of the credentials which the call has to be made with.
	Fingerprint string
	Probe       bool // the lane is held, and this call finds out whether it still has to be
	// SucceededAt is when a recall of this lane last succeeded with these credentials; zero: never.
	SucceededAt time.Time

	task   string
	urgent bool
	asked  time.Time // our clock
	limits []providers.Limit
}

// Stale reports whether so much time has gone by since the pass was asked for that the call must not start on it: the process
// was paused, and the slot may be another's by now.
func (p *Pass) Stale() bool { return time.Since(p.asked) > startWithin }

// Latest is the time by Redis's clock, or a little later: no answer of Redis's is quicker than it looks, and it tells milliseconds.
func (p *Pass) Latest() time.Time { return p.Began.Add(time.Since(p.asked) + time.Millisecond) }

// Closed says that a recall cannot pass within [retry.InPlace].
type Closed struct {
	Until  time.Time // our clock; the lane does not open before it
	For    time.Duration
	Reason string
}

func (c *Closed) Error() string {
	return fmt.Sprintf("the lane is closed for another %s (%s)", c.For.Round(time.Second), c.Reason)
}

// ErrWindowClosed is returned when recall_by has come, by Redis's clock.
var ErrWindowClosed = errors.New("the recall window has closed")

// Enter waits until the recall may be called, for [retry.InPlace] at most. Beside a Pass it returns [ErrWindowClosed],
// a [*Closed], [ErrStopping] when stop is closed, ctx's error, or Redis's: when Redis does not answer, nothing passes.
func (l *Lane) Enter(ctx context.Context, stop <-chan struct{}, ask Ask) (*Pass, error) {
	patience := time.Now().Add(retry.InPlace)
	for {
		changed := l.changed()
		id := l.opt.Instance + ":" + strconv.FormatInt(l.calls.Add(1), 36)
		asked := time.Now()
		a, err := l.begin(ctx, id, ask, l.opt.Timeout+callSlack)
		if err != nil {
			return nil, err
		}
		switch a.verdict {
		case "expired":
			return nil, ErrWindowClosed
		case "another":
			l.Wake() // for whoever fetches that one
			return nil, &Closed{Until: asked, Reason: a.reason}
		case "go":
			l.note(a.until, cmp.Or(a.reason, ReasonLimit), a.now)
			return &Pass{
				ID: id, Began: a.now, Fingerprint: a.terms.fingerprint, Probe: a.probe, SucceededAt: a.succeededAt,
				task: ask.Task, urgent: ask.Urgent, asked: asked, limits: a.terms.limits,
			}, nil
		}
		l.note(a.until, a.reason, a.now)
		wait := a.until.Sub(a.now)
		if !ask.RecallBy.IsZero() && a.until.After(ask.RecallBy) || time.Now().Add(wait).After(patience) {
			return nil, &Closed{Until: time.Now().Add(wait), For: wait, Reason: a.reason}
		}
		if err := l.sleep(ctx, stop, changed, wait); err != nil {
			return nil, err
		}
	}
}

func (l *Lane) sleep(ctx context.Context, stop, changed <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-stop:
		return ErrStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

type answer struct {
	verdict, reason         string
	now, until, succeededAt time.Time // Redis's clock
	probe                   bool
	terms                   *terms
}

// begin runs begin.lua; once more if the calendar day that it was given is not Redis's.
func (l *Lane) begin(ctx context.Context, id string, ask Ask, lease time.Duration) (answer, error) {
	now, terms := l.now(), l.terms.Load()
	for range 3 {
		limits, keep := encodeLimits(terms.limits, now)
		args := []any{id, millis(ask.RecallBy), flag(ask.Urgent), terms.fingerprint, lease.Milliseconds(), keep.Milliseconds(), ask.Dequeuer, ask.Task}
		reply, err := beginScript.Run(ctx, l.rdb, l.keys, append(args, limits...)...).Slice()
		if err != nil {
			return answer{}, fmt.Errorf("ask the lane %s for a slot: %w", l.Name(), err)
		}
		a := answer{
			verdict:     reply[0].(string),
			now:         fromMillis(reply[1].(int64)),
			until:       fromMillis(reply[2].(int64)),
			reason:      reply[3].(string),
			probe:       reply[4].(int64) == 1,
			succeededAt: fromMillis(reply[5].(int64)),
			terms:       terms,
		}
		l.skew.Store(int64(time.Until(a.now)))
		if a.verdict != "day" {
			return a, nil
		}
		now = a.now
	}
	return answer{}, fmt.Errorf("ask the lane %s for a slot: no calendar day has the time %s", l.Name(), now)
}

// Class says what a call's answer means for its lane.
type Class string

// The classes of answers.
const (
	OK          Class = "ok"          // the vendor took the message back, or had done so before
	Answered    Class = "answered"    // the vendor refused this recall only, so the account works
	Unavailable Class = "unavailable" // no usable answer
	Throttled   Class = "throttled"   // too many calls
	Refused     Class = "refused"     // the account, or the URL, is refused
	Unmade      Class = "unmade"      // no call was made
)

// ClassOf tells what a call's fault (nil: success) means for its lane.
func ClassOf(f *providers.Fault) Class {
	if f == nil {
		return OK
	}
	switch f.Kind {
	case providers.AlreadyRecalled:
		return OK
	case providers.Unavailable:
		return Unavailable
	case providers.Throttled:
		return Throttled
	case providers.Credentials, providers.Misconfigured:
		return Refused
	default:
		return Answered
	}
}

// Settlement is what came of a call.
type Settlement struct {
	Class Class
	// Written is true if the request was written, so that the vendor may have counted it.
	Written bool
	// Lane is what the policy wants of the whole lane.
	Lane retry.Lane
	// Says is the vendor's words, for people.
	Says string
}

// Change is an opening or a closing of a lane, to be told once.
type Change struct {
	Kind   string // "", "opened", "closed"
	Reason string
	Until  time.Time // closed: until then at least
	Since  time.Time // opened: since when it had been closed
	Says   string    // closed: the vendor's words, as the hold has them
	// Spared is true if the call was refused and the lane is open all the same, because others succeed.
	Spared bool
}

// Settle says what came of a call. It must be called once for each Pass.
func (l *Lane) Settle(ctx context.Context, p *Pass, s Settlement) (Change, error) {
	wait, exact := s.Lane.Wait, s.Lane.Exact
	if s.Lane.NextSlot && len(p.limits) > 0 {
		wait.First, exact = nextSlot(p.limits), true
	}
	args := []any{
		p.ID, string(s.Class), p.Fingerprint, flag(s.Written), flag(len(p.limits) > 0), millis(p.Began),
		wait.First.Milliseconds(), wait.Max.Milliseconds(), flag(exact), string(s.Class), providers.Line(s.Says, providers.MaxMessage),
		s.Lane.After, flag(s.Lane.Close == retry.Open), p.task, 0, flag(p.urgent),
	}
	if s.Lane.HoldReason != "" {
		args[9] = string(s.Lane.HoldReason)
	}
	if s.Lane.NextSlot {
		args[14] = throttledDay.Milliseconds()
	}
	keys := append(slices.Clone(l.keys[:3]), l.keys[0]+":only_throttled:"+p.Fingerprint)
	reply, err := settleScript.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return Change{}, fmt.Errorf("settle a call of the lane %s: %w", l.Name(), err)
	}
	now := fromMillis(reply[2].(int64))
	until := fromMillis(reply[1].(int64))
	c := Change{Kind: reply[0].(string), Reason: reply[3].(string), Until: until, Since: fromMillis(reply[4].(int64))}
	if c.Kind == "closed" {
		c.Says = reply[5].(string)
	}
	c.Spared = len(reply) > 6 && reply[6] == "1"
	l.skew.Store(int64(time.Until(now)))
	if until.After(now) {
		l.note(until, c.Reason, now)
	} else if known, _ := l.ClosedUntil(); !known.IsZero() {
		l.Wake()
	}
	if c.Kind != "" {
		// Other processes learn of it at once; should this get lost, they look again within [recheck].
		l.rdb.Publish(ctx, tasks.WakeChannel, WakePrefix+l.Name())
	}
	return c, nil
}

// nextSlot is how long it takes until a slot is free again for sure, if the vendor says that there is none: somebody else has used what
// our limits still had.
func nextSlot(limits []providers.Limit) time.Duration {
	shortest := time.Hour
	for _, l := range limits {
		if !l.Day {
			shortest = min(shortest, l.Per)
		}
	}
	return shortest
}

// release gives back a claim that came to nothing.
func (l *Lane) release(ctx context.Context, dequeuer string) error {
	terms := l.terms.Load()
	claim := &Pass{ID: "claim:" + dequeuer, Fingerprint: terms.fingerprint, limits: terms.limits}
	_, err := l.Settle(ctx, claim, Settlement{Class: Unmade})
	return err
}

// Throttle closes the lane because the vendor throttled another API of the same account, in answer to a call that began at a time.
func (l *Lane) Throttle(ctx context.Context, began time.Time, want retry.Lane) error {
	p := &Pass{ID: l.opt.Instance + ":account", Began: began, Fingerprint: l.terms.Load().fingerprint}
	_, err := l.Settle(ctx, p, Settlement{Class: Throttled, Lane: want})
	return err
}

// Hold is a hold of a lane.
type Hold struct {
	Reason string // empty: the lane is not held
	Says   string // the vendor's words
	Since  time.Time
	Until  time.Time // when the next probe is due
}

// Hold reads from Redis whether the lane is held. Of two holds it is the one that lasts longer.
func (l *Lane) Hold(ctx context.Context) (Hold, error) {
	values, err := l.rdb.HMGet(ctx, l.keys[0], "hold:any", "hold:"+l.terms.Load().fingerprint).Result()
	if err != nil {
		return Hold{}, fmt.Errorf("read the hold of the lane %s: %w", l.Name(), err)
	}
	var hold Hold
	for _, v := range values {
		text, _ := v.(string)
		if h, ok := parseHold(text); ok && (hold.Reason == "" || h.Until.After(hold.Until)) {
			hold = h
		}
	}
	return hold, nil
}

// Wake makes everybody who waits at this lane look again. It does not take the lane for open.
func (l *Lane) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.IsZero() {
		l.until = time.Now()
	}
	close(l.change)
	l.change = make(chan struct{})
}

// ClosedUntil tells until when the lane is closed, by our clock, as far as this process knows, and why. A zero time means
// that it is open; a time that has passed, that it has to be asked.
func (l *Lane) ClosedUntil() (time.Time, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until, l.reason
}

func (l *Lane) note(until time.Time, reason string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !until.After(now) {
		l.until, l.reason = time.Time{}, ""
		return
	}
	l.until, l.reason = time.Now().Add(until.Sub(now)), reason
}

func (l *Lane) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

// now is Redis's clock, as last heard.
func (l *Lane) now() time.Time { return time.Now().Add(time.Duration(l.skew.Load())) }

// SetClock tells what Redis's clock says now.
func (l *Lane) SetClock(now time.Time) { l.skew.Store(int64(time.Until(now))) }

// Now is Redis's clock as this process last heard it.
func (l *Lane) Now() time.Time { return l.now() }

// encodeLimits puts the limits into begin.lua's words, with the calendar days that now is in, and tells how long calls made
// have to be remembered for them.
func encodeLimits(limits []providers.Limit, now time.Time) (args []any, keep time.Duration) {
	for _, lim := range limits {
		if !lim.Day {
			args = append(args, lim.Calls, lim.Per.Milliseconds(), 0, 0)
			keep = max(keep, lim.Per)
			continue
		}
		first, next := calendarDay(now, lim.TimeZone)
		args = append(args, lim.Calls, 0, first.UnixMilli(), next.UnixMilli())
		keep = max(keep, next.Sub(first))
	}
	return args, keep + time.Minute
}

// calendarDay returns the first moment of now's day in a time zone, and of the day after it. A day with a clock change is 23
// or 25 hours long.
func calendarDay(now time.Time, zone *time.Location) (first, next time.Time) {
	if zone == nil {
		zone = time.UTC
	}
	y, m, d := now.In(zone).Date()
	return startOfDay(y, m, d, zone), startOfDay(y, m, d+1, zone)
}

// startOfDay is the first moment of a day. Where the clock changes at midnight, midnight is not there, or twice.
func startOfDay(y int, m time.Month, d int, zone *time.Location) time.Time {
	const step = 15 * time.Minute // clocks change by multiples of it
	noon := time.Date(y, m, d, 12, 0, 0, 0, zone)
	ofTheDay := func(t time.Time) bool { return t.YearDay() == noon.YearDay() && t.Year() == noon.Year() }
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	for !ofTheDay(t) && t.Before(noon) {
		t = t.Add(step)
	}
	for ofTheDay(t.Add(-step)) {
		t = t.Add(-step)
	}
	return t
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
