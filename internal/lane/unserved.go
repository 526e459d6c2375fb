package lane

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

const (
	// endAtOnce is about how many recalls of a queue are found in one look.
	endAtOnce = 50_000
	// endAnyway is how often such a queue is looked through although no window is known to have closed: Redis may have forgotten it.
	endAnyway = time.Hour
	// EndPoll is how often it is looked whether recalls that were found are to be ended, or have all been fetched.
	EndPoll = 50 * time.Millisecond
	// leaseSkew is how long after its end a lease still counts, as with asynq's own recovery.
	leaseSkew = 30 * time.Second
)

// NewEnder returns the client for a server that only ends recalls: those that [Dequeuer.SweepUnserved] has found in a queue
// that no worker serves. It takes nothing else from the queue, and does none of asynq's upkeep there: whoever comes to serve it
// finds it as it was.
func NewEnder(rdb redis.UniversalClient, l *Lane, p tasks.Priority, stop <-chan struct{}) *Dequeuer {
	d := NewDequeuer(rdb, l, p, stop)
	d.ending = true
	return d
}

// runEnding runs asynq's scripts but for those that concern more than one known task.
func (d *Dequeuer) runEnding(ctx context.Context, keys []string, args []any, eval func() *redis.Cmd) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	switch {
	case d.isDequeue(keys):
		if id, ok := d.tickets.next(); ok && !d.stopping() {
			return d.take(ctx, id, args)
		}
		d.pause(EndPoll)
		return empty(ctx)
	case d.isForward(keys):
		cmd.SetVal(int64(0))
		return cmd
	case len(keys) == 1 && keys[0] == d.keys[3]: // whose leases have run out
		cmd.SetVal([]any{})
		return cmd
	}
	return eval()
}

// SweepUnserved is [Dequeuer.Sweep] for a queue that no worker serves. Nobody moves due retries there, or takes over what a
// worker left behind when it died, so it looks at all that. It returns about how many were found; there may be more.
func (d *Dequeuer) SweepUnserved(ctx context.Context, cancelled []string) (int, error) {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	at := d.lane.now()
	until := strconv.FormatInt(at.Add(-sweepLag).Unix(), 10)
	due, err := d.ZCount(ctx, tasks.DueKey(d.queue), "-inf", until).Result()
	if err != nil || due == 0 && d.clean && !d.news(cancelled, at) && at.Sub(d.lastLook) < endAnyway {
		return 0, wrapSweep(d.queue, err)
	}
	turn, err := turnScript.Run(ctx, d.UniversalClient, d.lane.keys[:1], "sweep:"+d.queue, sweepTurn.Milliseconds()).Int64()
	if err != nil || turn == 0 {
		return 0, wrapSweep(d.queue, err)
	}
	found, err := d.lookEverywhere(ctx, at, cancelled)
	if err != nil || found > 0 {
		// When the windows close is forgotten only by a look that finds nothing: this process may die before all have ended.
		return found, wrapSweep(d.queue, err)
	}
	leased, err := d.ZCount(ctx, d.keys[3], "("+leaseEnd(at), "+inf").Result()
	if err != nil || leased > 0 {
		return 0, wrapSweep(d.queue, err) // somebody still has recalls in his hands, or died a moment ago
	}
	d.clean = true
	d.lookedFor(cancelled, at)
	return 0, wrapSweep(d.queue, d.ZRemRangeByScore(ctx, tasks.DueKey(d.queue), "-inf", until).Err())
}

func (d *Dequeuer) lookEverywhere(ctx context.Context, now time.Time, cancelled []string) (found int, err error) {
	tooLate := now.UTC().Format(tasks.TimeLayout)
	for _, look := range []func() (int, error){
		func() (int, error) { return d.lookInPending(ctx, now, cancelled) }, // first, since the others move theirs there
		func() (int, error) { return d.lookInSet(ctx, "retry", now, tooLate, "+inf", cancelled) },
		func() (int, error) { return d.lookInSet(ctx, "scheduled", now, tooLate, "+inf", cancelled) },
		func() (int, error) { return d.lookInSet(ctx, "lease", now, tooLate, leaseEnd(now), cancelled) },
	} {
		n, err := look()
		if found += n; err != nil {
			return found, err
		}
	}
	return found, nil
}

// leaseEnd is when the leases ended that count no longer now, as asynq writes it.
func leaseEnd(now time.Time) string { return strconv.FormatInt(now.Add(-leaseSkew).Unix(), 10) }

// Found is how many of the recalls that a sweep has found were not fetched yet.
func (d *Dequeuer) Found() int { return d.tickets.left() }

// Forget leaves to the next sweep what was not fetched yet.
func (d *Dequeuer) Forget() { d.tickets.drop() }
