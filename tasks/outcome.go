package tasks

import (
	"encoding/json"
	"fmt"
	"time"
)

// The outcomes of a recall. [Expired] is also a [Status].
const (
	Recalled        = "recalled"         // the vendor accepted it
	AlreadyRecalled = "already_recalled" // the vendor says that it had been taken back before
	Expired         = "expired"          // its window closed first
	NotFound        = "not_found"        // the vendor does not know the message
	Rejected        = "rejected"         // the vendor refused this very recall, or its payload could not be read
	Cancelled       = "cancelled"        // somebody cancelled its batch
)

// OutcomesKey is the Redis stream of outcomes, to be read with a consumer group. It keeps 24 hours and about a million entries,
// and is at least once: after a crash an entry may come again with the same id.
const OutcomesKey = "recallq:outcomes"

// Outcomes returns every outcome, in the order in which they are shown.
func Outcomes() []string {
	return []string{Recalled, AlreadyRecalled, Expired, NotFound, Rejected, Cancelled}
}

// Succeeded reports whether an outcome is a success, which is never replaced.
func Succeeded(outcome string) bool { return outcome == Recalled || outcome == AlreadyRecalled }

// Outcome is the result that the worker leaves at an ended task, as asynq's task result.
type Outcome struct {
	Outcome    string // one of [Outcomes]
	Code       string // the vendor's code, else "HTTP 503", else empty
	Attempts   int    // calls that ended in an outcome or a retry
	FinishedAt time.Time
}

type outcomeJSON struct {
	Outcome    string   `json:"outcome"`
	Code       string   `json:"code"`
	Attempts   int      `json:"attempts"`
	FinishedAt wireTime `json:"finished_at"`
}

// MarshalJSON writes {"outcome","code","attempts","finished_at"}.
func (o Outcome) MarshalJSON() ([]byte, error) {
	return json.Marshal(outcomeJSON{o.Outcome, o.Code, o.Attempts, wireTime(o.FinishedAt)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Outcome) UnmarshalJSON(text []byte) error {
	var w outcomeJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("reading a task's result: %w", err)
	}
	*o = Outcome{w.Outcome, w.Code, w.Attempts, time.Time(w.FinishedAt)}
	return nil
}
