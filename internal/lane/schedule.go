package lane

import (
	"slices"
	"time"

	"github.com/recallq/recallq/providers"
)

// dayEdge is how far the vendor's midnight may be from ours; the gate keeps the same distance.
const dayEdge = time.Second

// Schedule foretells when a lane's calls can start, if nothing but its limits is in their way and each call takes no time. It
// keeps as many times as its limits have calls, however many it hands out. It is not safe for concurrent use.
type Schedule struct {
	at      int64 // no call before it, Unix ms
	windows []*window
}

// window is one limit with the calls that may count in it.
type window struct {
	limit       providers.Limit
	calls       []int64 // the last limit.Calls calls, a ring once it is full
	oldest      int
	first, next int64 // the calendar day that was last looked at
}

// NewSchedule begins at a time, after the calls that were made already.
func NewSchedule(limits []providers.Limit, from time.Time, made []time.Time) *Schedule {
	s := &Schedule{at: from.UnixMilli()}
	before := make([]int64, len(made))
	for i, t := range made {
		before[i] = t.UnixMilli()
	}
	slices.Sort(before)
	for _, limit := range limits {
		if limit.Calls < 1 {
			continue
		}
		w := &window{limit: limit}
		for _, t := range before {
			w.add(t)
		}
		s.windows = append(s.windows, w)
	}
	return s
}

// Next is when the next call can start.
func (s *Schedule) Next() time.Time {
	for {
		before := s.at
		for _, w := range s.windows {
			s.at = w.earliest(s.at)
		}
		if s.at == before {
			return time.UnixMilli(s.at)
		}
	}
}

// Take uses the next slot and returns its time.
func (s *Schedule) Take() time.Time {
	t := s.Next()
	for _, w := range s.windows {
		w.add(s.at)
	}
	return t
}

// Skip uses n slots and returns the time of the last, or that of the next one if n is zero.
func (s *Schedule) Skip(n int64) time.Time {
	if len(s.windows) == 0 || n <= 0 {
		return s.Next()
	}
	for ; n > 1; n-- {
		s.Take()
	}
	return s.Take()
}

func (w *window) add(t int64) {
	if len(w.calls) < w.limit.Calls {
		w.calls = append(w.calls, t)
		return
	}
	w.calls[w.oldest] = t
	w.oldest = (w.oldest + 1) % len(w.calls)
}

// earliest is when this limit allows a call, at t or later.
func (w *window) earliest(t int64) int64 {
	full := len(w.calls) == w.limit.Calls
	if !w.limit.Day {
		if !full {
			return t
		}
		return max(t, w.calls[w.oldest]+w.limit.Per.Milliseconds())
	}
	if t < w.first || t >= w.next {
		first, next := calendarDay(time.UnixMilli(t), w.limit.TimeZone)
		w.first, w.next = first.UnixMilli(), next.UnixMilli()
	}
	if full && w.calls[w.oldest] >= w.first {
		return w.next + dayEdge.Milliseconds()
	}
	return max(t, w.first+dayEdge.Milliseconds())
}
