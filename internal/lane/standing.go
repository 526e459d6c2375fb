package lane

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

// Standing is how a lane stands, for those who look at it without serving it.
type Standing struct {
	// Waiting is how many recalls wait or are to be tried again, and Active how many are being worked on, in both queues.
	Waiting, Active int64
	// Paused are the priorities whose queues somebody has paused.
	Paused []tasks.Priority
	// Reason is why the lane is closed: a hold's, [ReasonThrottled] or [ReasonLimit]; empty if it is open. A lane whose next
	// slot is within [retry.InPlace] is open.
	Reason string
	// Says is the vendor's words that led to a hold.
	Says string
	// Since is since when it has been held, if that is known.
	Since time.Time
	// Until is when it opens, or when the next probe of a hold is due; zero if that is not known.
	Until time.Time
}

// Look reads how published lanes stand.
func Look(ctx context.Context, rdb redis.UniversalClient, lanes []tasks.Lane, now time.Time) ([]Standing, error) {
	list := make([]Standing, len(lanes))
	for i, l := range lanes {
		s, err := ReadStatus(ctx, rdb, l, now)
		if err != nil {
			return nil, err
		}
		list[i] = s.standing(l, now)
	}
	return list, nil
}

// standing puts what counts for somebody who watches into one answer: whether the lane is closed, and for which reason first.
func (s Status) standing(l tasks.Lane, now time.Time) Standing {
	var st Standing
	for _, q := range []struct {
		Queue
		priority tasks.Priority
	}{{s.Urgent, tasks.Urgent}, {s.Bulk, tasks.Bulk}} {
		st.Waiting += q.Pending + q.Retry
		st.Active += q.Active
		if q.Paused {
			st.Paused = append(st.Paused, q.priority)
		}
	}
	if s.Hold.Reason != "" {
		st.Reason, st.Says, st.Since, st.Until = s.Hold.Reason, s.Hold.Says, s.Hold.Since, s.Hold.Until
		return st
	}
	soon := now.Add(retry.InPlace)
	if s.Throttled.After(soon) {
		st.Reason, st.Until = ReasonThrottled, s.Throttled
	}
	if next := NewSchedule(l.Limits, now, s.Made).Next(); next.After(soon) && next.After(st.Until) {
		st.Reason, st.Until = ReasonLimit, next
	}
	return st
}
