package lane

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

//go:embed look.lua
var lookSource string

var lookScript = redis.NewScript(lookSource)

const (
	// lookMost is how many waiting recalls a worker looks through. Beyond, the earliest time told has to do.
	lookMost = 1_000_000
	// glanceMost is how many somebody does who waits for the answer. It is for lanes without a worker: of others a worker's finding
	// is there.
	glanceMost = 10_000
	// lookAlways is how many are looked through whenever somebody asks; of more, a finding is kept for a while.
	lookAlways = 2000
	lookKept   = time.Minute
	// A worker's finding is good for others a little longer than the worker waits before it looks again.
	lookTrusted       = 2 * time.Minute
	lookAlwaysTrusted = 15 * time.Second
	// lookAhead is how far in the future a time told has to be to count as one that nobody had told at the time of the look:
	// those that pass are taken away by the sweep.
	lookAhead = lookTrusted + sweepLag
)

// fieldExpiry is where a worker's finding stands in the lane's hash, for other workers and for those who may run no script.
const fieldExpiry = "expiry"

// finding is what a look through all that waits has found.
type finding struct {
	Looked int64 `json:"looked"` // by Redis's clock, Unix ms
	Next   int64 `json:"next"`   // when the first window closes, Unix ms
	// Told is how many earlier times were told by then, of recalls that have ended. One more may be that of a recall that waits.
	Told int64 `json:"told"`
}

func readFinding(text string) finding {
	var f finding
	if json.Unmarshal([]byte(text), &f) != nil {
		return finding{}
	}
	return f
}

// fresh reports whether a finding is no older than that, and the window that it names has not closed yet.
func (f finding) fresh(now time.Time, age time.Duration) bool {
	return f.Looked > 0 && now.Sub(fromMillis(f.Looked)) < age && now.Before(fromMillis(f.Next))
}

// dueAt is the time that is told for a window which closes at t, see [tasks.DueKey].
func dueAt(t time.Time) int64 {
	step := int64(tasks.DueStep / time.Second)
	return (t.Unix()/step + 1) * step
}

// lookout finds out when the first window of what waits in a lane closes. The times that are told to the sweep are those of
// recalls that have ended as well, so they are only where it begins: a waiting recall with the earliest of them settles it, and
// without one all are looked through.
type lookout struct {
	rdb    redis.Cmdable
	queues [2]queueReads
	now    time.Time
	rest   func(ctx context.Context, took time.Duration) error // between two steps
}

// waiting is how many recalls wait, or are to be tried again.
func (o lookout) waiting() int64 {
	var n int64
	for _, q := range o.queues {
		n += q.waiting()
	}
	return n
}

// told is the earliest time told for a queue in which recalls wait; zero if there is none.
func (o lookout) told() time.Time {
	var first time.Time
	for _, q := range o.queues {
		if at := q.told(); q.waiting() > 0 && !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// outdated reports whether a time before the one found was told since.
func (o lookout) outdated(ctx context.Context, f finding) (bool, error) {
	n, err := o.toldBefore(ctx, f)
	return n > f.Told, err
}

func (o lookout) toldBefore(ctx context.Context, f finding) (int64, error) {
	from := strconv.FormatInt(fromMillis(f.Looked).Add(lookAhead).Unix(), 10)
	to := "(" + strconv.FormatInt(dueAt(fromMillis(f.Next)), 10)
	pipe := o.rdb.Pipeline()
	var counts []*redis.IntCmd
	for _, q := range o.queues {
		counts = append(counts, pipe.ZCount(ctx, tasks.DueKey(q.name), from, to))
	}
	_, err := pipe.Exec(ctx)
	var n int64
	for _, c := range counts {
		n += c.Val()
	}
	return n, err
}

// through looks through all that waits. It is zero if there is nothing any more.
func (o lookout) through(ctx context.Context) (time.Time, error) {
	enough := ""
	if at := o.told(); !at.IsZero() {
		enough = at.UTC().Format(tasks.TimeLayout)
	}
	first := ""
	for _, q := range o.queues {
		if q.waiting() == 0 {
			continue
		}
		for _, part := range q.parts() {
			found, err := o.part(ctx, part, enough)
			if err != nil {
				return time.Time{}, fmt.Errorf("look through what waits in %s: %w", q.name, err)
			}
			if found != "" && (first == "" || found < first) {
				first = found
			}
			if first != "" && first < enough {
				break
			}
		}
	}
	if first == "" {
		return time.Time{}, nil
	}
	return time.Parse(tasks.TimeLayout, first)
}

// lookStep is how many recalls are looked at in one step, so that Redis is never kept for long.
const lookStep = sweepChunk

// part is a part of what waits in a queue.
type part struct {
	queue     string
	set, read string
	from      int64
	all       bool // to the end, in steps; otherwise one step
}

// parts are in the order in which they are looked through: first what is taken next, then the retries, and last the whole list,
// from the end that is added to, so that what is taken meanwhile moves nothing that was not looked at.
func (r queueReads) parts() []part {
	list := []part{{r.name, "pending", "LRANGE", -lookStep, false}, {r.name, "retry", "ZRANGE", 0, true}}
	if r.pending.Val() > lookStep {
		list = append(list, part{r.name, "pending", "LRANGE", 0, true})
	}
	return list
}

func (o lookout) part(ctx context.Context, p part, enough string) (first string, err error) {
	keys, hashes := []string{tasks.QueueKey(p.queue, p.set)}, tasks.TaskKey(p.queue, "")
	for {
		began := time.Now()
		reply, err := lookScript.Run(ctx, o.rdb, keys, p.read, p.from, p.from+lookStep-1, hashes, enough).Slice()
		if err != nil {
			return "", err
		}
		looked, found := reply[0].(int64), reply[1].(string)
		if found != "" && (first == "" || found < first) {
			first = found
		}
		if looked < lookStep || !p.all || first != "" && first < enough {
			return first, nil
		}
		p.from += looked
		if err := o.rest(ctx, time.Since(began)); err != nil {
			return "", err
		}
	}
}

// glance is for those who wait for the answer. What Redis does not let them do, or would take too long, they do without: the
// earliest time told is then the answer, at which no window closes before.
func (o lookout) glance(ctx context.Context, known finding) (time.Time, error) {
	waiting := o.waiting()
	age := lookTrusted
	if waiting <= lookAlways {
		age = lookAlwaysTrusted
	}
	if known.fresh(o.now, age) {
		if old, err := o.outdated(ctx, known); !old && withheld(err) {
			return fromMillis(known.Next), nil
		}
	}
	if waiting == 0 || waiting > glanceMost {
		return o.told(), nil
	}
	at, err := o.through(ctx)
	switch {
	case err == nil:
		return at, nil
	case withheld(err):
		return o.told(), nil
	}
	return time.Time{}, err
}

// withheld reports whether Redis has answered, or there was nothing to ask: what it answered an error to, it does not allow.
func withheld(err error) bool {
	var said redis.Error
	return err == nil || errors.As(err, &said)
}

// hurry goes on at once.
func hurry(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// takeTurns leaves Redis to others for as long as a step took.
func takeTurns(ctx context.Context, took time.Duration) error {
	t := time.NewTimer(took)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
