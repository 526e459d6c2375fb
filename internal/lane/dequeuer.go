package lane

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

const (
	idlePoll = time.Second // how often an empty queue is looked at, should the wake-up be lost
	// scheduledPoll is how often scheduled tasks are looked for.
	scheduledPoll = 10 * time.Second
	brokenPoll    = 500 * time.Millisecond // how often Redis is asked again while it does not answer
)

// Dequeuer is the Redis client that one asynq server is given. It passes everything on but asynq's dequeue script, which it
// knows by its keys: it does not ask while the lane is closed, and does not ask an empty queue again before a wake-up or a
// second has come. It returns "empty" at once when the worker stops.
//
// asynq itself polls: it would take recalls from a closed lane only to have them put back, and ask each empty queue every few
// milliseconds.
type Dequeuer struct {
	redis.UniversalClient
	lane   *Lane
	queue  string
	name   string
	urgent bool
	keys   [4]string
	stop   <-chan struct{}

	scheduled string    // asynq's set of scheduled tasks
	looked    time.Time // when that was last looked at

	wake chan struct{} // holds a token when something may have come

	tickets tickets

	sweeping  sync.Mutex           // held while the queue is looked through, for what follows
	cancelled atomic.Bool          // a batch was cancelled since the last look
	swept     map[string]time.Time // when cancelled batches were last looked for
	lastLook  time.Time            // when a look last found nothing

	ending bool // see [NewEnder]
	clean  bool // ending: a look has found nothing
}

// NewDequeuer returns the client for the server of one queue of a lane. Once stop is closed nothing more is taken from it.
func NewDequeuer(rdb redis.UniversalClient, l *Lane, p tasks.Priority, stop <-chan struct{}) *Dequeuer {
	queue := tasks.Queue(l.opt.Provider, l.opt.App, p)
	key := func(part string) string { return tasks.QueueKey(queue, part) }
	return &Dequeuer{
		UniversalClient: rdb,
		lane:            l,
		queue:           queue,
		name:            l.opt.Instance + ":" + queue,
		urgent:          p == tasks.Urgent,
		keys:            [4]string{key("pending"), key("paused"), key("active"), key("lease")},
		stop:            stop,
		scheduled:       key("scheduled"),
		wake:            make(chan struct{}, 1),
	}
}

// Queue is the queue's name.
func (d *Dequeuer) Queue() string { return d.queue }

// Paused reports whether a person has paused the queue.
func (d *Dequeuer) Paused(ctx context.Context) bool {
	n, err := d.Exists(ctx, d.keys[1]).Result()
	return err == nil && n > 0
}

// Name is what the dequeuer's claims go by; an [Ask] of its recalls carries it.
func (d *Dequeuer) Name() string { return d.name }

// Wake says that something may have come into the queue.
func (d *Dequeuer) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Cancelled says that a batch was cancelled just now: the next sweep looks for what it has here, also if it was cancelled and called back
// before.
func (d *Dequeuer) Cancelled() { d.cancelled.Store(true) }

// EvalSha is called by asynq to run its scripts.
func (d *Dequeuer) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return d.run(ctx, keys, args, func() *redis.Cmd { return d.UniversalClient.EvalSha(ctx, sha, keys, args...) })
}

// Eval is called by asynq to run a script that Redis does not know yet.
func (d *Dequeuer) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return d.run(ctx, keys, args, func() *redis.Cmd { return d.UniversalClient.Eval(ctx, script, keys, args...) })
}

func (d *Dequeuer) run(ctx context.Context, keys []string, args []any, eval func() *redis.Cmd) *redis.Cmd {
	switch {
	case d.ending:
		return d.runEnding(ctx, keys, args, eval)
	case d.isDequeue(keys):
		return d.dequeue(ctx, args, eval)
	case d.isForward(keys):
		if keys[0] == d.scheduled && !d.scheduledDue() {
			cmd := redis.NewCmd(ctx)
			cmd.SetVal(int64(0))
			return cmd
		}
		cmd := eval()
		if n, err := cmd.Int(); err == nil && n > 0 {
			d.Wake()
		}
		return cmd
	}
	return eval()
}

func (d *Dequeuer) isDequeue(keys []string) bool {
	return len(keys) == len(d.keys) && [4]string(keys) == d.keys
}

// isForward recognises the script that moves due retries into the queue.
func (d *Dequeuer) isForward(keys []string) bool {
	return len(keys) > 1 && len(keys) < len(d.keys) && keys[1] == d.keys[0]
}

// scheduledDue reports whether to look for scheduled tasks now. Nothing of ours is ever scheduled; should somebody else do that,
// it is seen, but not paid for every second by every queue. It is called by one goroutine of asynq's alone.
func (d *Dequeuer) scheduledDue() bool {
	if time.Since(d.looked) < scheduledPoll {
		return false
	}
	d.looked = time.Now()
	return true
}

// dequeue returns a recall, or "empty" after a while.
func (d *Dequeuer) dequeue(ctx context.Context, args []any, eval func() *redis.Cmd) *redis.Cmd {
	if d.stopping() {
		return empty(ctx)
	}
	if id, ok := d.tickets.next(); ok {
		return d.take(ctx, id, args)
	}
	changed, claimed := d.lane.changed(), false
	if until, _ := d.lane.ClosedUntil(); !until.IsZero() {
		if claimed = d.opened(ctx, until, changed); !claimed {
			return empty(ctx)
		}
	}
	cmd := eval()
	err := cmd.Err()
	switch {
	case err == redis.Nil:
		if claimed { // another was quicker; should this fail, the claim ends by itself
			_ = d.lane.release(ctx, d.name)
		}
		d.pause(idlePoll)
	case err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq asks again at once, however long Redis is away.
		d.sleep(brokenPoll, nil)
	}
	return cmd
}

// opened waits while the lane is closed, and reports whether it has opened for this queue; false just means to ask again.
// It takes no notice of what comes into the queue meanwhile.
func (d *Dequeuer) opened(ctx context.Context, until time.Time, changed <-chan struct{}) bool {
	if wait := time.Until(until); wait > 0 {
		d.sleep(min(wait, recheck), changed)
	}
	if d.stopping() {
		return false
	}
	waiting, err := d.LLen(ctx, d.keys[0]).Result()
	if err != nil {
		d.sleep(brokenPoll, nil)
		return false
	}
	if waiting == 0 || d.Paused(ctx) {
		d.pause(idlePoll)
		return false
	}
	a, err := d.lane.begin(ctx, "", Ask{Urgent: d.urgent, Dequeuer: d.name}, claimLease)
	if err != nil {
		d.sleep(brokenPoll, nil)
		return false
	}
	if a.verdict == "go" {
		d.lane.note(a.until, cmp.Or(a.reason, ReasonLimit), a.now) // the slot after the one that is claimed
		return true
	}
	d.lane.note(a.until, a.reason, a.now)
	return false
}

// pause waits until something may have come into the queue, or the time is up.
func (d *Dequeuer) pause(t time.Duration) { d.sleep(t, d.wake) }

// sleep waits for the time, or for less if early says so or the worker stops.
func (d *Dequeuer) sleep(t time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-d.stop:
	}
}

func (d *Dequeuer) stopping() bool {
	select {
	case <-d.stop:
		return true
	default:
		return false
	}
}

func empty(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.Nil)
	return cmd
}

// tickets are recalls to be fetched out of turn, whatever keeps their queue closed, because they are only to be ended.
type tickets struct {
	mu  sync.Mutex
	ids []string
}

func (t *tickets) add(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = append(t.ids, id)
}

func (t *tickets) left() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ids)
}

func (t *tickets) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = nil
}

func (t *tickets) next() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ids) == 0 {
		return "", false
	}
	id := t.ids[len(t.ids)-1] // the last one that was moved is the first one in the queue
	t.ids = t.ids[:len(t.ids)-1]
	return id, true
}
