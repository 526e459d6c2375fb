package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
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

// Look reads how published lanes stand, in one round trip. Holds are taken from what the workers have published: only they
// know which credentials are in use.
func Look(ctx context.Context, rdb redis.UniversalClient, lanes []tasks.Lane, now time.Time) ([]Standing, error) {
	pipe := rdb.Pipeline()
	reads := make([]read, len(lanes))
	for i, l := range lanes {
		reads[i] = readLane(ctx, pipe, l, now)
	}
	if _, err := pipe.Exec(ctx); err != nil && len(lanes) > 0 {
		return nil, fmt.Errorf("read how the lanes stand: %w", err)
	}
	list := make([]Standing, len(lanes))
	for i, l := range lanes {
		list[i] = reads[i].standing(l, now)
	}
	return list, nil
}

// read are the answers about one lane.
type read struct {
	waiting, active []*redis.IntCmd
	paused          map[tasks.Priority]*redis.IntCmd
	state           *redis.MapStringStringCmd
	last            []*redis.ZSliceCmd // for each slow limit: the call that has to leave the window, if it is used up
}

func readLane(ctx context.Context, pipe redis.Pipeliner, l tasks.Lane, now time.Time) read {
	r := read{paused: map[tasks.Priority]*redis.IntCmd{}}
	for _, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
		queue := "asynq:{" + tasks.Queue(l.Provider, l.App, p) + "}:"
		r.waiting = append(r.waiting, pipe.LLen(ctx, queue+"pending"), pipe.ZCard(ctx, queue+"retry"), pipe.ZCard(ctx, queue+"scheduled"))
		r.active = append(r.active, pipe.LLen(ctx, queue+"active"))
		r.paused[p] = pipe.Exists(ctx, queue+"paused")
	}
	base := "recallq:lane:{" + l.Name() + "}"
	r.state = pipe.HGetAll(ctx, base)
	for _, limit := range l.Limits {
		var last *redis.ZSliceCmd
		if slow(limit) {
			from, _ := window(limit, now)
			last = pipe.ZRevRangeByScoreWithScores(ctx, base+":calls", &redis.ZRangeBy{
				Min: strconv.FormatInt(from.UnixMilli(), 10), Max: "+inf", Offset: int64(limit.Calls - 1), Count: 1,
			})
		}
		r.last = append(r.last, last)
	}
	return r
}

// slow reports whether a limit can close a lane for longer than a recall waits in place.
func slow(l providers.Limit) bool { return l.Calls > 0 && (l.Day || l.Per > retry.InPlace) }

// window is when a limit's present window began and, for a calendar day, when it ends.
func window(l providers.Limit, now time.Time) (from, until time.Time) {
	if l.Day {
		return calendarDay(now, l.TimeZone)
	}
	return now.Add(-l.Per), time.Time{}
}

func (r read) standing(l tasks.Lane, now time.Time) Standing {
	var s Standing
	for _, n := range r.waiting {
		s.Waiting += n.Val()
	}
	for _, n := range r.active {
		s.Active += n.Val()
	}
	for _, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
		if r.paused[p].Val() > 0 {
			s.Paused = append(s.Paused, p)
		}
	}
	if l.Hold != "" {
		s.Reason, s.Until = l.Hold, l.HoldUntil
		s.addHold(r.state.Val())
		return s
	}
	if until := millisOf(r.state.Val()["shut_until"]); until.After(now) {
		s.Reason, s.Until = ReasonThrottled, until
	}
	if until := r.nextSlot(l, now); until.After(now) && until.After(s.Until) {
		s.Reason, s.Until = ReasonLimit, until
	}
	if !s.Until.After(now.Add(retry.InPlace)) {
		s.Reason, s.Until = "", time.Time{}
	}
	return s
}

// addHold adds what the lane's hash knows of a hold beyond what is published.
func (s *Standing) addHold(state map[string]string) {
	for field, text := range state {
		var h struct {
			Reason, Says string
			Since, Next  float64
		}
		if len(field) < 5 || field[:5] != "hold:" || json.Unmarshal([]byte(text), &h) != nil || h.Reason != s.Reason {
			continue
		}
		if since := fromMillis(int64(h.Since)); since.After(s.Since) {
			s.Says, s.Since = h.Says, since
			if next := fromMillis(int64(h.Next)); next.After(s.Until) {
				s.Until = next
			}
		}
	}
}

// nextSlot is when the lane's slow limits give the next slot; zero if they do now. Calls in flight are left out: they take
// seconds, these limits minutes and more.
func (r read) nextSlot(l tasks.Lane, now time.Time) time.Time {
	var next time.Time
	for i, limit := range l.Limits {
		if r.last[i] == nil || len(r.last[i].Val()) == 0 {
			continue
		}
		_, at := window(limit, now)
		if !limit.Day {
			at = fromMillis(int64(r.last[i].Val()[0].Score)).Add(limit.Per)
		}
		if at.After(next) {
			next = at
		}
	}
	return next
}

func millisOf(text string) time.Time {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/2 {
		return time.Time{}
	}
	return fromMillis(int64(n))
}
