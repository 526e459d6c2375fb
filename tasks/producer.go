package tasks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// How tasks are put into asynq.
const (
	// MaxRetry is asynq's own bound on retries, far above anything reachable: asynq archives a task whose bound is reached
	// before it asks us, so ours is the only hand that gives up.
	MaxRetry = 1 << 20
	// TaskTimeout is when asynq takes a handler for hung. The calls in it have time-outs of their own, far shorter.
	TaskTimeout = 15 * time.Minute
	// DefaultRetention is how long an ended task is kept, unless the lane says otherwise. While it is kept, the same recall
	// is a duplicate.
	DefaultRetention = 24 * time.Hour
)

// Status says what became of a recall that was enqueued.
type Status string

// The statuses; [Expired] is the third. A recall that is invalid is an error instead.
const (
	Enqueued  = "enqueued"
	Duplicate = "duplicate"
)

// Result is what [Producer.Enqueue] did.
type Result struct {
	ID       string // the task id
	Status   Status // Enqueued, Duplicate or Expired
	App      string // the app, filled in where the recall left it empty
	RecallBy time.Time
	Queue    string // where the task is now; for a duplicate, where it was found
	// Existing says how the earlier task of the same recall stands or stood; zero if there was none.
	Existing Existing
	// Promoted is true for a duplicate that waited as bulk and was moved to the urgent queue, keeping its batch.
	Promoted bool
	// Replaced is true for an enqueued recall that took the place of one that had failed.
	Replaced bool
	// Seq is the recall's number in a [Batch]; zero for another batch's.
	Seq int64
}

// Existing is an earlier task of the same recall.
type Existing struct {
	// Standing is "open", or the outcome it ended with; "ended" when asynq keeps it as ended without an outcome of ours.
	Standing string
	Batch    string // its batch, if any
	Seq      int64  // its number there
}

// The standings beside the outcomes.
const (
	Open  = "open"
	Ended = "ended"
)

// Producer enqueues recalls. It is safe for concurrent use, and one is enough for a program. It owns nothing that has to be
// closed; the Redis client stays its caller's.
type Producer struct {
	rdb    redis.UniversalClient
	reader redis.Cmdable // what tasks are looked at with
	client *asynq.Client
	now    func() time.Time
	lanes  laneCache
	wakes  wakes
	due    due
	// rescueFor is how long a recall that is in no queue is tried to be written, whatever its caller's context says.
	rescueFor time.Duration
}

const defaultRescue = 15 * time.Second

// ProducerOption changes how a Producer works.
type ProducerOption func(*Producer)

// WithClock replaces time.Now.
func WithClock(now func() time.Time) ProducerOption {
	return func(p *Producer) { p.now = now }
}

// NewProducer returns a Producer on a Redis client.
func NewProducer(rdb redis.UniversalClient, opts ...ProducerOption) *Producer {
	p := &Producer{rdb: rdb, reader: rdb, client: asynq.NewClientFromRedisClient(rdb), now: time.Now, rescueFor: defaultRescue}
	for _, o := range opts {
		o(p)
	}
	return p
}

// EnqueueOption changes how one recall is enqueued.
type EnqueueOption func(*enqueueOptions)

type enqueueOptions struct {
	priority      Priority
	allowUnserved bool
	checked       bool
}

// WithPriority says which queue the recall waits in; without it, the urgent one.
func WithPriority(pr Priority) EnqueueOption {
	return func(o *enqueueOptions) { o.priority = pr }
}

// AllowUnserved enqueues a recall for a lane that no worker has ever published. Its window is the provider's own.
func AllowUnserved() EnqueueOption {
	return func(o *enqueueOptions) { o.allowUnserved = true }
}

// Checked leaves out the checks of [Recall.Check] for a recall that has passed them just now, as those of [Row.Recall] have:
// a million rows notice.
func Checked() EnqueueOption {
	return func(o *enqueueOptions) { o.checked = true }
}

// Enqueue checks a recall and puts it into its lane's queue.
//
// The same recall enqueued twice is one task: while the first is open, or has ended well, the second is a Duplicate; an
// earlier one that failed is replaced. A recall whose window has closed is Expired and is not enqueued. Duplicate and
// Expired are no errors.
//
// The error is a *[FieldError] for a recall that is invalid or that no worker serves ([ErrUnserved]); any other error is
// Redis's, and enqueueing the recall again is then safe.
func (p *Producer) Enqueue(ctx context.Context, r Recall, opts ...EnqueueOption) (Result, error) {
	r, o, retention, res, err := p.prepare(ctx, r, opts)
	if err != nil || res.Status == Expired {
		return res, err
	}
	return p.put(ctx, r, o.priority, retention)
}

// prepare does all that comes before the queue. A recall whose window has closed is Expired in the Result.
func (p *Producer) prepare(ctx context.Context, r Recall, opts []EnqueueOption) (Recall, enqueueOptions, time.Duration, Result, error) {
	o := enqueueOptions{priority: Urgent}
	for _, opt := range opts {
		opt(&o)
	}
	if o.priority != Urgent && o.priority != Bulk {
		return r, o, 0, Result{}, refusef("priority", string(o.priority), "is no priority; use %s or %s", Urgent, Bulk)
	}
	now := p.now()
	if !o.checked {
		var refused *FieldError
		if r, _, refused = r.Check(now); refused != nil {
			return r, o, 0, Result{}, refused
		}
	}
	r, retention, err := p.resolve(ctx, r, now, o.allowUnserved)
	if errors.Is(err, ErrExpired) {
		return r, o, 0, Result{ID: r.ID(), Status: Expired, App: r.App, RecallBy: r.RecallBy}, nil
	}
	if err != nil {
		return r, o, 0, Result{}, err
	}
	r.EnqueuedAt = cut(now)
	return r, o, retention, Result{}, nil
}

// resolve resolves against the cached lanes and, if a lane is missing there, once more against fresh ones.
func (p *Producer) resolve(ctx context.Context, r Recall, now time.Time, allowUnserved bool) (Recall, time.Duration, error) {
	have, err := p.lanes.get(ctx, p.rdb, lanesFor)
	if err != nil {
		return r, 0, err
	}
	if !have.serve(r) {
		if have, err = p.lanes.get(ctx, p.rdb, lanesAgain); err != nil {
			return r, 0, err
		}
	}
	resolved, refused := Resolve(r, have.lanes, now, allowUnserved)
	if refused.isUnserved() && have.broken != nil {
		return r, 0, have.broken
	}
	if refused != nil {
		return resolved, 0, refused
	}
	return resolved, retentionOf(resolved, have.lanes), nil
}

func retentionOf(r Recall, lanes []Lane) time.Duration {
	for _, l := range lanes {
		if l.Provider == r.Provider && l.App == r.App && l.Retention > 0 {
			return l.Retention
		}
	}
	return DefaultRetention
}

const (
	// lanesFor is how long published lanes are used without looking again.
	lanesFor = 5 * time.Second
	// lanesAgain is how soon they are read again because a lane was missing: a file of a million rows for a lane that
	// nobody serves must not read them a million times.
	lanesAgain = time.Second
)

type laneCache struct {
	mu     sync.Mutex
	have   published
	failed sharedFailure
}

// published are the lanes as they were read once.
type published struct {
	lanes  []Lane
	broken error // names one that could not be read
	// read is by the real clock: how old the copy is has nothing to do with the producer's.
	read time.Time
}

// serve reports whether one of the lanes may be the recall's.
func (p published) serve(r Recall) bool {
	return slices.ContainsFunc(p.lanes, func(l Lane) bool { return l.Provider == r.Provider && (r.App == "" || r.App == l.App) })
}

// get returns the published lanes, read again if the copy is as old as age.
func (c *laneCache) get(ctx context.Context, rdb redis.Cmdable, age time.Duration) (published, error) {
	came := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.have.read.IsZero() && time.Since(c.have.read) < age {
		return c.have, nil
	}
	if err := c.failed.since(came); err != nil {
		return published{}, err
	}
	lanes, err := Lanes(ctx, rdb)
	if lanes == nil {
		c.failed.note(ctx, err)
		return published{}, err
	}
	c.have = published{lanes: lanes, broken: err, read: time.Now()}
	return c.have, nil
}

// wakeEvery is how often a bulk queue's workers are woken at most: they fetch on their own as long as the queue is not
// empty, and a million messages would only be in their way.
const wakeEvery = 50 * time.Millisecond

// wakes are the messages that wake idle workers. It is safe for concurrent use.
type wakes struct {
	mu    sync.Mutex
	last  map[string]time.Time
	later map[string]*time.Timer // the message that is on its way for what came too soon after the last
}

// due reports whether to wake the workers of a bulk queue now. If not, later is called in a moment, unless it is going to be anyway.
func (w *wakes) due(queue string, later func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	wait := w.last[queue].Add(wakeEvery).Sub(now)
	if wait <= 0 {
		if w.last == nil {
			w.last, w.later = make(map[string]time.Time), make(map[string]*time.Timer)
		}
		w.last[queue] = now
		return true
	}
	if w.later[queue] == nil {
		w.later[queue] = time.AfterFunc(wait, func() {
			if w.take(queue) {
				later()
			}
		})
	}
	return false
}

// take takes a message that is on its way, to send it.
func (w *wakes) take(queue string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.later[queue] == nil {
		return false
	}
	w.later[queue].Stop()
	delete(w.later, queue)
	w.last[queue] = time.Now()
	return true
}

// takeAll takes all messages that are on their way.
func (w *wakes) takeAll() (queues []string) {
	w.mu.Lock()
	list := slices.Collect(maps.Keys(w.later))
	w.mu.Unlock()
	for _, queue := range list {
		if w.take(queue) {
			queues = append(queues, queue)
		}
	}
	return queues
}

// wakeWithin bounds a message that nobody waits for.
const wakeWithin = time.Second

// wake tells idle workers to fetch. The recall is safe already and workers look every second anyway, so that an error
// here is none of Enqueue's.
func (p *Producer) wake(ctx context.Context, queue string, pr Priority) {
	later := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeWithin)
		defer cancel()
		_ = p.rdb.Publish(ctx, WakeChannel, queue).Err()
	}
	if pr == Urgent || p.wakes.due(queue, later) {
		_ = p.rdb.Publish(ctx, WakeChannel, queue).Err()
	}
}

// looks bounds how often one recall is looked at again because another program changed its task in between.
const looks = 5

// put puts a resolved recall into its queue, as one task across both queues of the lane.
//
// No order of events loses a recall, and only workers that fetch both within the moment that two producers need to see each other
// ([Producer.oneTask]) call it twice; the vendor's answer to the second is "already recalled".
func (p *Producer) put(ctx context.Context, r Recall, pr Priority, retention time.Duration) (Result, error) {
	t, err := taskOf(r, pr, retention)
	if err != nil {
		return Result{}, err
	}
	return p.putTask(ctx, r, &t, pr)
}

func taskOf(r Recall, pr Priority, retention time.Duration) (task, error) {
	payload, err := r.Encode()
	if err != nil {
		return task{}, err
	}
	return task{
		id: r.ID(), kind: TaskType(r.Provider), queue: Queue(r.Provider, r.App, pr), batch: r.Batch,
		payload: payload, unmistakable: r.Batch != "", retention: retention, recallBy: r.RecallBy,
	}, nil
}

func (p *Producer) putTask(ctx context.Context, r Recall, t *task, pr Priority) (Result, error) {
	res := Result{ID: t.id, App: r.App, RecallBy: r.RecallBy, Queue: t.queue}
	elsewhere := Queue(r.Provider, r.App, pr.other())
	for range looks {
		c, err := p.find(ctx, elsewhere, res.ID)
		if err != nil {
			return Result{}, err
		}
		switch v := c.verdict(); {
		case v == settled, v == waiting && pr == Bulk:
			return res.duplicate(c), nil
		case v == absent:
			return p.place(ctx, r, t, res, pr)
		}
		// What waits as bulk is moved here, what has failed makes way. A worker or another producer may be faster: then
		// look again.
		if c.verdict() == waiting {
			moved, again, err := p.promote(ctx, *t, c, res)
			if err != nil || !again {
				return moved, err
			}
			continue
		}
		removed, err := p.replace(ctx, c, t)
		if err != nil {
			return Result{}, err
		}
		if !removed {
			continue
		}
		t.nowhere = true
		res.Replaced, res.Existing = true, c.existing()
		return p.place(ctx, r, t, res, pr)
	}
	return Result{}, fmt.Errorf("enqueueing %s: its task changed %d times meanwhile; enqueue it again", res.ID, looks)
}

// place enqueues a task in its own queue and settles what is in its way there.
func (p *Producer) place(ctx context.Context, r Recall, t *task, res Result, pr Priority) (Result, error) {
	done, err := p.settle(ctx, *t)
	if err != nil {
		return Result{}, err
	}
	if !done.enqueued {
		return res.duplicate(done.inTheWay), nil
	}
	t.written = true
	if done.replaced != nil {
		res.Replaced, res.Existing = true, done.replaced.existing()
	}
	return p.placed(ctx, r, t, res, pr)
}

// placed is what comes after a task was written.
func (p *Producer) placed(ctx context.Context, r Recall, t *task, res Result, pr Priority) (Result, error) {
	twin, err := p.oneTask(ctx, *t, r, pr)
	if err != nil {
		return Result{}, err
	}
	if twin != nil {
		return res.duplicate(*twin), nil
	}
	res.Status = Enqueued
	p.wake(ctx, t.queue, pr)
	return res, nil
}

// duplicate is the result of a recall that is c already.
func (res Result) duplicate(c copyOf) Result {
	res.Status, res.Replaced = Duplicate, false
	res.Existing, res.Queue = c.existing(), c.queue
	if !c.recall.RecallBy.IsZero() {
		res.RecallBy = c.recall.RecallBy
	}
	return res
}
