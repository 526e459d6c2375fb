package lane

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

//go:embed sweep.lua
var sweepSource string

//go:embed sweep_set.lua
var sweepSetSource string

//go:embed take.lua
var takeSource string

var (
	sweepScript    = redis.NewScript(sweepSource)
	sweepSetScript = redis.NewScript(sweepSetSource)
	takeScript     = redis.NewScript(takeSource)
	// turnScript gives one process the turn to sweep: KEYS[1] the lane's hash, ARGV[1] the field, ARGV[2] how long a turn is, ms.
	turnScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if now - last < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], now)
return now`)
)

const (
	sweepTurn  = 8 * time.Second // how long after one process's look the next may look
	sweepSoon  = time.Second     // the same when a batch was cancelled just now
	sweepChunk = 500             // recalls looked at in one step, so that Redis is never kept for long
	sweepAgain = 30 * time.Second
	sweepPause = 20 * time.Millisecond
	// sweepAnyway is how often a closed lane's queue is looked through although no window is known to have closed.
	sweepAnyway = 5 * time.Minute
	// sweepLag is how much later than the time told the look is made, so that producers that wrote just then are through.
	sweepLag = 2 * time.Second
)

// Sweep looks for recalls of this queue that wait although their window has closed, or although their batch is one of those
// cancelled, and has them taken out of turn to be ended without a call, also when the lane is closed or somebody has paused
// its queue. Only one process looks at a time, and only when a window of a waiting recall can have closed (see
// [tasks.DueKey]), or now and then while the lane is closed. It returns how many were found. A payload of a newer version is found
// only when it is too late: to cancel it takes a worker that knows it.
func (d *Dequeuer) Sweep(ctx context.Context, cancelled []string) (int, error) {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	at, turnFor := d.lane.now(), sweepTurn
	if d.cancelled.Swap(false) {
		d.swept, turnFor = nil, sweepSoon
	}
	until := strconv.FormatInt(at.Add(-sweepLag).Unix(), 10)
	due, err := d.ZCount(ctx, tasks.DueKey(d.queue), "-inf", until).Result()
	if err != nil || due == 0 && !d.news(cancelled, at) && !d.forgotten(ctx, at) {
		return 0, wrapSweep(d.queue, err)
	}
	turn, err := turnScript.Run(ctx, d.UniversalClient, d.lane.keys[:1], "sweep:"+d.queue, turnFor.Milliseconds()).Int64()
	if err != nil || turn == 0 {
		return 0, wrapSweep(d.queue, err)
	}
	d.tickets.drop() // what was not fetched is found again
	found, err := d.look(ctx, at, cancelled)
	if err != nil || found > 0 {
		// When the windows close is forgotten only by a look that finds nothing: this process may die before all have ended.
		return found, wrapSweep(d.queue, err)
	}
	dead, err := d.ZCount(ctx, d.keys[3], "-inf", strconv.FormatInt(at.Unix(), 10)).Result()
	if err != nil || dead > 0 {
		return 0, wrapSweep(d.queue, err) // what a worker had in its hands when it died comes back to the queue
	}
	d.lookedFor(cancelled, at)
	return 0, wrapSweep(d.queue, d.ZRemRangeByScore(ctx, tasks.DueKey(d.queue), "-inf", until).Err())
}

// forgotten reports whether it is time for a look without a reason. A worker that dies just after a look may leave a recall behind
// that comes back to the queue too late; in an open lane it is soon fetched.
func (d *Dequeuer) forgotten(ctx context.Context, now time.Time) bool {
	if d.lastLook.IsZero() {
		d.lastLook = now
	}
	if now.Sub(d.lastLook) < sweepAnyway {
		return false
	}
	until, _ := d.lane.ClosedUntil()
	return !until.IsZero() || d.Paused(ctx)
}

// news reports whether there is a cancelled batch that was not looked for yet, or not for a while: what is enqueued, or put
// back, while its batch is being cancelled is missed by the first look.
func (d *Dequeuer) news(cancelled []string, now time.Time) bool {
	return slices.ContainsFunc(cancelled, func(batch string) bool { return now.Sub(d.swept[batch]) >= sweepAgain })
}

func (d *Dequeuer) lookedFor(cancelled []string, now time.Time) {
	d.lastLook = now
	d.swept = map[string]time.Time{}
	for _, batch := range cancelled {
		d.swept[batch] = now
	}
}

// look goes through what waits: the retries for cancelled batches, and the whole pending list.
func (d *Dequeuer) look(ctx context.Context, now time.Time, cancelled []string) (found int, err error) {
	if d.news(cancelled, now) {
		// Those that are too late need no looking for: no retry is due after its window has closed.
		found, err = d.lookInSet(ctx, "retry", now, "", "+inf", cancelled)
		if err != nil {
			return found, err
		}
	}
	more, err := d.lookInPending(ctx, now, cancelled)
	return found + more, err
}

func (d *Dequeuer) lookInPending(ctx context.Context, now time.Time, cancelled []string) (int, error) {
	return d.steps(ctx, sweepScript, d.keys[:1], cancelled, d.key("t:"), now.UTC().Format(tasks.TimeLayout))
}

// lookInSet goes through one of asynq's sorted sets, up to a score. tooLate is empty if only cancelled recalls are looked for.
func (d *Dequeuer) lookInSet(ctx context.Context, set string, now time.Time, tooLate, highest string, cancelled []string) (int, error) {
	keys := []string{d.key(set), d.keys[0]}
	if set == "lease" {
		keys = append(keys, d.keys[2])
	}
	return d.steps(ctx, sweepSetScript, keys, cancelled, d.key("t:"), now.UnixNano(), tooLate, highest)
}

// key is one of asynq's keys of this queue.
func (d *Dequeuer) key(name string) string { return strings.TrimSuffix(d.keys[0], "pending") + name }

// steps goes through one list with a script that looks at a part of it, and gives a ticket for each recall found.
func (d *Dequeuer) steps(ctx context.Context, script *redis.Script, keys, cancelled []string, args ...any) (found int, err error) {
	args = append(args, tasks.Version)
	for _, batch := range cancelled {
		args = append(args, batch)
	}
	seen := map[string]bool{} // what was moved to the end is met there again
	for position := 0; ; {
		reply, err := script.Run(ctx, d.UniversalClient, keys, append([]any{position, sweepChunk}, args...)...).Slice()
		if err != nil {
			return found, err
		}
		looked, before := int(reply[0].(int64)), found
		for _, v := range reply[1:] {
			if id := v.(string); !seen[id] {
				seen[id] = true
				d.tickets.add(id)
				found++
			}
		}
		if len(reply) > 1 {
			d.Wake()
			d.lane.Wake()
		}
		round := found == before && len(reply)-1 == looked // nothing but what was moved to the end
		if looked < sweepChunk || round || found >= endAtOnce {
			return found, nil
		}
		position += looked - (len(reply) - 1) // new recalls come in before it: some are looked at twice, none is missed
		d.sleep(sweepPause, nil)
		if d.stopping() {
			return found, nil
		}
	}
}

func wrapSweep(queue string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("look for what is too late in %s: %w", queue, err)
}

// take fetches a recall that the sweep has found. Its reply is as that of asynq's own dequeue.
func (d *Dequeuer) take(ctx context.Context, id string, args []any) *redis.Cmd {
	return takeScript.Run(ctx, d.UniversalClient, d.keys[:], append(slices.Clone(args[:2]), id)...)
}
