package lane

import (
	"cmp"
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

// Skip uses n slots and returns the time of the last, or that of the next one if n is zero. It takes about as long for a hundred
// million slots as for the calls of the largest limit.
func (s *Schedule) Skip(n int64) time.Time {
	if len(s.windows) == 0 || n <= 0 {
		return s.Next()
	}
	if begin := s.untilItRepeats(); n > begin {
		s.walk(begin)
		n -= begin
		n -= s.jump(n)
	}
	s.walk(n - 1)
	return s.Take()
}

func (s *Schedule) walk(n int64) {
	for ; n > 0; n-- {
		s.Take()
	}
}

// untilItRepeats is after how many slots all times come again, one round of the slowest limit later: each limit has then seen
// nothing but calls of this schedule, and those since its round.
func (s *Schedule) untilItRepeats() int64 {
	most := 0
	for _, w := range s.windows {
		most = max(most, w.limit.Calls)
	}
	return max(4*int64(most), 1000)
}

// farthest is as far ahead as it is foretold: the end of the year 9999.
const farthest = 253_402_300_799_000

// jump uses as many whole rounds of the slowest limit as leave one of n slots, and returns how many slots that are. Across a
// clock change it is wrong by that hour for what is not limited by the day.
func (s *Schedule) jump(n int64) int64 {
	w := s.slowest()
	round, calls := period(w.limit).Milliseconds(), int64(w.limit.Calls)
	rounds := (n - 1) / calls
	if rounds > (farthest-s.at)/round {
		s.shift(farthest - s.at)
		return n - 1
	}
	if !w.limit.Day {
		s.shift(rounds * round)
		return rounds * calls
	}
	zone := w.limit.TimeZone
	if zone == nil {
		zone = time.UTC
	}
	s.shift(time.UnixMilli(s.at).In(zone).AddDate(0, 0, int(rounds)).UnixMilli() - s.at)
	return rounds * calls
}

// slowest is the limit that allows the fewest calls in the long run; of several, the one with the longest round.
func (s *Schedule) slowest() *window {
	return slices.MaxFunc(s.windows, func(a, b *window) int {
		perCall := func(w *window) float64 { return float64(period(w.limit)) / float64(w.limit.Calls) }
		return cmp.Or(cmp.Compare(perCall(a), perCall(b)), cmp.Compare(period(a.limit), period(b.limit)))
	})
}

func period(l providers.Limit) time.Duration {
	if l.Day {
		return 24 * time.Hour
	}
	return l.Per
}

// shift moves all that is known to a later time.
func (s *Schedule) shift(ms int64) {
	s.at += ms
	for _, w := range s.windows {
		for i := range w.calls {
			w.calls[i] += ms
		}
		w.first, w.next = 0, 0
	}
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
