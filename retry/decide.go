package retry

import (
	"math"
	"time"

	"github.com/recallq/recallq/providers"
)

// The waits, as the contract has them.
var (
	unavailableHold = Schedule{First: time.Second, Max: 30 * time.Second}
	refusedHold     = Schedule{First: 30 * time.Second, Max: 5 * time.Minute}
	lockedHold      = Schedule{First: time.Minute, Max: 5 * time.Minute}
	throttle        = Schedule{First: 5 * time.Second, Max: 5 * time.Minute}
	pushThrottle    = Schedule{First: time.Second, Max: 5 * time.Minute}
)

// The vendors' codes that the policy itself must know. They mean the same wherever they occur.
const (
	codePushRecallRate = "90051" // TIMPush: more than one recall a second
	codeBroadcastRate  = "1008"  // RongCloud: more than 2 an hour or 3 a day
	codeSignatureLock  = "70050" // Tencent: too many bad signatures, locked for a minute
)

// shortest is the shortest wait before a retry.
const shortest = time.Second

// longest is the longest wait before a retry, unless the vendor asks for a longer one.
const longest = 5 * time.Minute

// Decide returns what to do about a call.
func Decide(c Call) Decision {
	if c.Fault == nil {
		return finish(Recalled, "")
	}
	f := *c.Fault
	f.RetryAfter = max(f.RetryAfter, 0)
	switch f.Kind {
	case providers.AlreadyRecalled:
		return finish(AlreadyRecalled, f.Error())
	case providers.WindowClosed:
		return finish(Expired, f.Error())
	case providers.Invalid:
		return finish(Rejected, f.Error())
	case providers.NotFound:
		return notFound(c, f)
	case providers.Throttled:
		return within(c, f, throttled(c, f))
	case providers.Credentials, providers.Misconfigured:
		return within(c, f, refused(c, f))
	}
	// Unavailable, and any kind that this policy does not know: nothing is known of the recall, so it is tried again.
	f.Kind = providers.Unavailable
	return within(c, f, unavailable(c, f))
}

// finish ends a recall with the vendor's answer to it.
func finish(outcome, reason string) Decision {
	return Decision{
		Action: Finish, Outcome: outcome, Reason: line(reason),
		Lane: Lane{Works: true}, Attempt: true,
	}
}

// notFound tells apart what an ambiguous answer does not: only our own record and the time can.
func notFound(c Call, f providers.Fault) Decision {
	switch {
	case !f.Ambiguous:
		return finish(NotFound, f.Error())
	case c.Earlier:
		return finish(AlreadyRecalled, "an earlier call for this recall may have gone through; last answer: "+f.Error())
	case !c.Now.Before(c.RecallBy), !c.VendorWindow.IsZero() && !c.Now.Before(c.VendorWindow):
		return finish(Expired, "the recall window has closed; last answer: "+f.Error())
	}
	return finish(NotFound, f.Error())
}

func unavailable(c Call, f providers.Fault) Decision {
	lane := Lane{
		Close: Hold, HoldReason: providers.Unavailable, After: HoldAfter,
		Wait: unavailableHold.atLeast(f.RetryAfter),
	}
	if c.Probe {
		lane.After = 0 // the lane is held already, and stays so
		return Decision{Action: Defer, Reason: f.Error(), Delay: f.RetryAfter, Lane: lane}
	}
	return Decision{
		Action: Retry, Reason: f.Error(), Attempt: true, Lane: lane,
		Delay: max(Backoff(c.Attempts, c.Jitter), f.RetryAfter),
	}
}

func throttled(c Call, f providers.Fault) Decision {
	lane := Lane{Close: Throttle, Wait: throttle, WholeAccount: f.WholeAccount}
	switch {
	case f.RetryAfter > 0:
		wait := min(f.RetryAfter, MaxClosing)
		lane.Wait, lane.Exact = Schedule{First: wait, Max: wait}, true
	case f.Code == codePushRecallRate:
		lane.Wait = pushThrottle
	case f.Code == codeBroadcastRate:
		lane.NextSlot = true
	}
	return Decision{
		Action: Defer, Reason: f.Error(), Delay: f.RetryAfter, Lane: lane,
		InPlace: !c.Probe && !lane.NextSlot && lane.Wait.First <= InPlace,
	}
}

// refused is for credentials and misconfigured answers: the account's trouble, unless others succeed with the same account.
func refused(c Call, f providers.Fault) Decision {
	if f.Renewed && !c.Renewal && !c.Probe && f.RetryAfter == 0 {
		return Decision{Action: Again, Reason: "the signature was renewed; last answer: " + f.Error()}
	}
	hold := refusedHold
	locked := f.Code == codeSignatureLock
	if locked {
		hold = lockedHold
	}
	// A failed probe shows that the lane is broken for more than this recall; and a locked account is nobody's own.
	if c.OthersSucceed && !c.Probe && !locked {
		return poisoned(c, f)
	}
	return Decision{
		Action: Defer, Reason: f.Error(), Delay: f.RetryAfter,
		Lane: Lane{Close: Hold, HoldReason: f.Kind, Wait: hold.atLeast(f.RetryAfter)},
	}
}

// poisoned is for a recall that alone is refused: it must not keep closing a lane that works for the others.
func poisoned(c Call, f providers.Fault) Decision {
	if c.Refusals >= MaxRefusals {
		return Decision{
			Action: Finish, Outcome: Rejected, Attempt: true,
			Reason: line("others succeed, this one alone is refused; last answer: " + f.Error()),
		}
	}
	return Decision{
		Action: Defer, Delay: max(refusedHold.First, f.RetryAfter),
		Reason: "others succeed, this one is refused; last answer: " + f.Error(),
	}
}

// within fits a decision to what is left of the window, and gives the recall up where nothing fits.
func within(c Call, f providers.Fault, d Decision) Decision {
	d.Reason = line(d.Reason)
	if d.Action == Finish {
		return d
	}
	left := c.RecallBy.Sub(c.Now)
	if left <= 0 {
		return expire(d, "the recall window has closed; last answer: "+f.Error())
	}
	if f.RetryAfter >= left {
		return expire(d, "the vendor asks to wait "+words(f.RetryAfter)+", the recall window closes in "+words(left)+
			"; last answer: "+f.Error())
	}
	delay, ok := fit(d.Delay, left, f.RetryAfter)
	if !ok {
		return expire(d, "the recall window closes in "+words(left)+", before the next retry; last answer: "+f.Error())
	}
	d.Delay = delay
	if d.Action == Retry {
		d.InPlace = delay <= InPlace
	}
	return d
}

// fit pulls a wait that is too long in to LastCall before the end of the window, never below least and the shortest wait.
// Waits that would end within LastCall of the end are pulled in too: asynq looks at due retries about once a second, and
// one that is due in the last moment would be found too late.
func fit(delay, left, least time.Duration) (time.Duration, bool) {
	last := max(left-LastCall, least, shortest)
	if delay <= last && delay < left {
		return delay, true
	}
	if left > LastCall && last < left {
		return last, true
	}
	return delay, delay < left
}

// expire gives a recall up because of the time. What its lane learned from the answer stays.
func expire(d Decision, reason string) Decision {
	return Decision{Action: Finish, Outcome: Expired, Reason: line(reason), Lane: d.Lane, Attempt: d.Attempt}
}

// Backoff returns the wait after an attempt that was not answered: between 1 s and 2 s after the first (attempts is 0),
// twice as long each time, between 2.5 min and 5 min from the ninth on. Jitter in [0,1) picks the point in between; a number
// outside counts as the nearest one inside.
func Backoff(attempts int, jitter float64) time.Duration {
	top := Schedule{First: 2 * shortest, Max: longest}.At(clampedNext(attempts))
	if math.IsNaN(jitter) {
		jitter = 0
	}
	return top/2 + time.Duration(float64(top/2)*min(max(jitter, 0), 1))
}

// clampedNext returns attempts + 1 without overflow; far fewer than this many reach the longest wait.
func clampedNext(attempts int) int { return min(max(attempts, 0), 64) + 1 }

// Interruption is what kept a handler from hearing an answer, where that was not the vendor's doing.
type Interruption int

// The interruptions.
const (
	WorkerDied  Interruption = iota + 1 // asynq gave the task to another worker because its lease ran out
	Shutdown                            // the worker stops
	ContextDone                         // asynq took the task away: its timeout, or Redis away for longer than a lease
	Panic                               // our own code failed
)

// Interrupted returns what to do about a recall whose handler was interrupted. Of c it reads Attempts, Now, RecallBy and Jitter.
//
// None but a panic is an attempt; they go back to the queue at once, and the guard before the next call looks at the window.
func Interrupted(i Interruption, c Call) Decision {
	switch i {
	case WorkerDied:
		return Decision{Action: Defer, Reason: "the worker died; the recall is taken up again"}
	case Shutdown:
		return Decision{Action: Defer, Reason: "the worker stops; the recall is handed back"}
	case ContextDone:
		return Decision{Action: Defer, Reason: "the queue took the recall back before it was done"}
	}
	const reason = "recallq failed (panic)"
	d := Decision{Action: Retry, Reason: reason, Delay: Backoff(c.Attempts, c.Jitter), Attempt: true}
	left := c.RecallBy.Sub(c.Now)
	delay, ok := fit(d.Delay, left, 0)
	if left <= 0 || !ok {
		return expire(d, reason+", and the recall window closes before the next retry")
	}
	d.Delay = delay
	return d
}

func line(text string) string { return providers.Line(text, providers.MaxMessage) }

// words says a duration as a person would: to the second, below that to the millisecond.
func words(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
