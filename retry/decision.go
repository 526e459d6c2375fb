package retry

import (
	"time"

	"github.com/recallq/recallq/providers"
)

// The numbers of the policy that others need.
const (
	// InPlace is the longest wait that a handler spends in place: asynq would put the task behind the whole backlog.
	InPlace = 5 * time.Second
	// LastCall is how long before recall_by the last attempt is made, when the next retry would come too late.
	LastCall = 5 * time.Second
	// HoldAfter is how many calls in a row, without an answer to the point, hold a lane as unavailable.
	HoldAfter = 10
	// MaxRefusals is how many credentials or misconfigured answers reject a recall, if the lane works for others.
	MaxRefusals = 3
	// MaxClosing is the longest time that one answer closes a lane for. A vendor's slip, such as milliseconds in a
	// Retry-After, must not close it for a year.
	MaxClosing = 24 * time.Hour
)

// Call is what is known when a call to the vendor has been answered, or when it is certain that no answer will come.
type Call struct {
	// Fault is what the call ran into; nil means that the vendor accepted the recall.
	Fault *providers.Fault
	// Attempts is the number of attempts of this recall before this call.
	Attempts int
	// Now is the time after the call, and RecallBy when the window closes, by the same clock.
	Now, RecallBy time.Time
	// VendorWindow is when the window that the vendor documents closes; zero if it documents none or the send time is
	// not known. It matters for [providers.Fault.Ambiguous] alone.
	VendorWindow time.Time
	// Earlier is true if an earlier call for this recall may have gone through.
	Earlier bool
	// Refusals is how many credentials and misconfigured answers this recall has had, this one included. Answers to
	// probes are better left out: they say that the lane is broken, not the recall.
	Refusals int
	// OthersSucceed is true if another recall of the lane has succeeded since this one's first such answer.
	OthersSucceed bool
	// Probe is true if the call was the probe of a held lane.
	Probe bool
	// Renewal is true if the call was itself the free one that an [Again] had granted. There is no second one.
	Renewal bool
	// Jitter is a random number in [0,1).
	Jitter float64
}

// Action is what becomes of the recall.
type Action int

// The actions. The zero Action is none of them, so that a forgotten decision is not taken for an outcome.
const (
	// Finish ends the recall with Decision.Outcome.
	Finish Action = iota + 1
	// Retry calls again after Decision.Delay. It follows an attempt.
	Retry
	// Defer lets the recall take its turn again when its lane opens, and not before Decision.Delay. It is not counted.
	Defer
	// Again calls again at once, in place and uncounted: the provider has renewed its token.
	Again
)

// String returns the action's word for logs and tables.
func (a Action) String() string {
	switch a {
	case Finish:
		return "finish"
	case Retry:
		return "retry"
	case Defer:
		return "defer"
	case Again:
		return "again"
	}
	return "none"
}

// The outcomes that a decision can end a recall with: the words of the contract's section 5.
const (
	Recalled        = "recalled"
	AlreadyRecalled = "already_recalled"
	Expired         = "expired"
	NotFound        = "not_found"
	Rejected        = "rejected"
)

// Decision is what to do.
type Decision struct {
	Action Action
	// Outcome is set for Finish.
	Outcome string
	// Reason is one line of at most [providers.MaxMessage] bytes for people: why the recall was given up, or why it waits.
	// It is empty for recalled.
	Reason string
	// Delay, for Retry and Defer, is the time before which the recall must not be called again, whatever its lane does.
	// It is always shorter than what is left of the window.
	Delay time.Duration
	// InPlace is true if the handler had better wait where it is, and then ask the lane again.
	InPlace bool
	// Lane is what the answer means for the whole lane. It is set for Finish as well.
	Lane Lane
	// Attempt is true if the call counts as an attempt.
	Attempt bool
}

// Closing says how a lane closes.
type Closing int

// The closings.
const (
	Open     Closing = iota // the lane does not close
	Throttle                // nobody calls until the wait is over; then all do
	Hold                    // nobody calls until the wait is over; then one probe at a time does, until one is answered to the point
)

// String returns the closing's word for logs and tables.
func (c Closing) String() string {
	switch c {
	case Throttle:
		return "throttle"
	case Hold:
		return "hold"
	}
	return "open"
}

// Lane is what a whole lane must do. The zero Lane means nothing.
type Lane struct {
	// Works is true if the vendor answered this very recall, for better or worse: its address, its credentials and our
	// rate were good. A hold ends and the counts start again.
	Works bool
	// Close says whether and how the lane closes.
	Close Closing
	// After is how many such calls in a row, without one that Works, it takes to close the lane; 0 means that this one is
	// enough. Who keeps the lane does the counting.
	After int
	// HoldReason, for Hold, is credentials, misconfigured or unavailable.
	HoldReason providers.Kind
	// Wait is for how long the lane closes.
	Wait Schedule
	// Exact is true if Wait is the vendor's own word.
	Exact bool
	// WholeAccount is true if the lanes that share the vendor's account close as well.
	WholeAccount bool
	// NextSlot is true if the lane is to wait for the next slot of its own limits; Wait is for a lane that has none.
	NextSlot bool
}

// Schedule is how long a lane closes for, the first time and then each time in a row.
type Schedule struct{ First, Max time.Duration }

// At returns the wait for the n-th time in a row: First for n <= 1, twice as long each time after that, at most Max.
func (s Schedule) At(n int) time.Duration {
	wait := s.First
	for ; n > 1 && wait > 0 && wait < s.Max; n-- {
		if wait > s.Max/2 {
			return s.Max
		}
		wait *= 2
	}
	return max(min(wait, s.Max), 0)
}

// atLeast returns the schedule with the vendor's own waiting time as its minimum.
func (s Schedule) atLeast(wait time.Duration) Schedule {
	wait = min(wait, MaxClosing)
	return Schedule{First: max(s.First, wait), Max: max(s.Max, wait)}
}
