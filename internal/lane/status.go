package lane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// Status is how a lane stands, for those who only look: they know neither its credentials nor its clock.
type Status struct {
	// Hold is empty if the lane is not held.
	Hold Hold
	// Throttled is until when the vendor's "too many calls" closes the lane; zero if it does not.
	Throttled time.Time
	// Urgent and Bulk are the lane's queues.
	Urgent, Bulk Queue
	// NextExpiry is when the first window of a recall that waits closes, to within [tasks.DueStep]; zero if nothing waits. Where
	// Redis does not let this user look, or so many wait that it would take too long, it may be earlier: when that of one that
	// has ended does.
	NextExpiry time.Time
	// Made are the calls that the lane's limits may still count, latest first.
	Made []time.Time
}

// Queue is how one queue stands.
type Queue struct {
	Name string
	// Pending wait for the lane, Retry for a time of their own, Active are being worked on.
	Pending, Retry, Active int64
	Paused                 bool
	PausedSince            time.Time // zero if that is not known
}

// Open is how many recalls of the queue have not ended.
func (q Queue) Open() int64 { return q.Pending + q.Retry + q.Active }

// Waiting is how many recalls of the lane have not ended, in both queues.
func (s Status) Waiting() int64 { return s.Urgent.Open() + s.Bulk.Open() }

// Opens is when the lane can make its next call as far as holds and the vendor's throttling go, at now or later.
func (s Status) Opens(now time.Time) time.Time {
	for _, t := range []time.Time{s.Throttled, s.Hold.Until} {
		if t.After(now) {
			now = t
		}
	}
	return now
}

// ReadStatus reads how a published lane stands. now is Redis's clock.
//
// A hold binds only the credentials it was seen with, and which those are only the lane's workers know: of the holds on record
// it takes the one that they have published. Those of earlier credentials stay on record and mean nothing.
func ReadStatus(ctx context.Context, rdb redis.Cmdable, l tasks.Lane, now time.Time) (Status, error) {
	s, r, err := readStatus(ctx, rdb, l, now)
	if err != nil {
		return Status{}, err
	}
	look := lookout{rdb: rdb, queues: r.queues, now: now, rest: hurry}
	if s.NextExpiry, err = look.glance(ctx, readFinding(r.state[fieldExpiry])); err != nil {
		return Status{}, fmt.Errorf("read how the lane %s stands: %w", l.Name(), err)
	}
	return s, nil
}

// ReadBrief is [ReadStatus] without the next expiry, for those who do not need it: to find it may take a while.
func ReadBrief(ctx context.Context, rdb redis.Cmdable, l tasks.Lane, now time.Time) (Status, error) {
	s, _, err := readStatus(ctx, rdb, l, now)
	return s, err
}

func readStatus(ctx context.Context, rdb redis.Cmdable, l tasks.Lane, now time.Time) (Status, laneReads, error) {
	r, err := readLane(ctx, rdb, l)
	if err != nil {
		return Status{}, r, err
	}
	s := r.status(now)
	s.Hold = binding(r.state, l)
	return s, r, nil
}

// laneReads is what Redis has of a lane.
type laneReads struct {
	state  map[string]string // the lane's hash
	made   []time.Time       // calls that the limits may count, latest first
	queues [2]queueReads
}

func readLane(ctx context.Context, rdb redis.Cmdable, l tasks.Lane) (laneReads, error) {
	key := stateKey(l.Name())
	most := int64(0)
	for _, limit := range l.Limits {
		most = max(most, int64(limit.Calls))
	}
	pipe := rdb.Pipeline()
	state := pipe.HGetAll(ctx, key)
	var made *redis.ZSliceCmd
	if most > 0 {
		made = pipe.ZRangeWithScores(ctx, key+":calls", -most, -1)
	}
	r := laneReads{queues: [2]queueReads{
		readQueue(ctx, pipe, tasks.Queue(l.Provider, l.App, tasks.Urgent)),
		readQueue(ctx, pipe, tasks.Queue(l.Provider, l.App, tasks.Bulk)),
	}}
	cmds, _ := pipe.Exec(ctx) // its error is the first one: of a mark that is not there, hardly ever of what matters
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return laneReads{}, fmt.Errorf("read how the lane %s stands: %w", l.Name(), err)
		}
	}
	r.state = state.Val()
	if made == nil {
		return r, nil
	}
	for _, z := range slices.Backward(made.Val()) {
		r.made = append(r.made, fromMillis(int64(z.Score)))
	}
	return r, nil
}

// status is all but the hold and the next expiry.
func (r laneReads) status(now time.Time) Status {
	s := Status{Urgent: r.queues[0].queue(), Bulk: r.queues[1].queue(), Made: r.made}
	if until := millisOf(r.state["shut_until"]); until.After(now) {
		s.Throttled = until
	}
	return s
}

// binding is the hold that binds the lane's workers.
func binding(state map[string]string, l tasks.Lane) Hold {
	if h, ok := parseHold(state["hold:any"]); ok {
		return h
	}
	if l.Hold == "" {
		return Hold{}
	}
	var found []Hold
	for field, text := range state {
		h, ok := parseHold(text)
		if ok && strings.HasPrefix(field, "hold:") && h.Reason == l.Hold {
			found = append(found, h)
		}
	}
	if len(found) == 0 {
		return Hold{Reason: l.Hold, Until: l.HoldUntil}
	}
	// Of two with one reason the live one is probed, so that its next probe is the later one.
	return slices.MaxFunc(found, func(a, b Hold) int { return a.Until.Compare(b.Until) })
}

func parseHold(text string) (Hold, bool) {
	var h struct {
		Reason, Says string
		Since, Next  float64
	}
	if text == "" || json.Unmarshal([]byte(text), &h) != nil {
		return Hold{}, false
	}
	return Hold{Reason: h.Reason, Says: h.Says, Since: fromMillis(int64(h.Since)), Until: fromMillis(int64(h.Next))}, true
}

// queueReads are the answers that make up a [Queue].
type queueReads struct {
	name            string
	pending, active *redis.IntCmd
	retry           *redis.IntCmd
	paused          *redis.StringCmd
	due             *redis.ZSliceCmd
}

func readQueue(ctx context.Context, pipe redis.Pipeliner, queue string) queueReads {
	return queueReads{
		name:    queue,
		pending: pipe.LLen(ctx, tasks.QueueKey(queue, "pending")),
		active:  pipe.LLen(ctx, tasks.QueueKey(queue, "active")),
		retry:   pipe.ZCard(ctx, tasks.QueueKey(queue, "retry")),
		paused:  pipe.Get(ctx, tasks.QueueKey(queue, "paused")),
		due:     pipe.ZRangeWithScores(ctx, tasks.DueKey(queue), 0, 0),
	}
}

func (r queueReads) queue() Queue {
	q := Queue{Name: r.name, Pending: r.pending.Val(), Retry: r.retry.Val(), Active: r.active.Val(), Paused: r.paused.Err() == nil}
	if at, err := r.paused.Int64(); err == nil && at > 0 { // asynq writes when, in Unix seconds
		q.PausedSince = time.Unix(at, 0)
	}
	return q
}

// waiting is how many recalls wait, or are to be tried again.
func (r queueReads) waiting() int64 { return r.pending.Val() + r.retry.Val() }

// told is the earliest time at which a window closes that producers have told; zero if there is none.
func (r queueReads) told() time.Time {
	if len(r.due.Val()) == 0 {
		return time.Time{}
	}
	return time.Unix(int64(r.due.Val()[0].Score), 0)
}

func millisOf(text string) time.Time {
	ms, _ := strconv.ParseInt(text, 10, 64)
	return fromMillis(ms)
}
