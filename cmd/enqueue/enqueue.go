package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/tasks"
)

// rowSource hands out rows; io.EOF after the last one.
type rowSource interface {
	Next() (input.Item, error)
}

// enqueuing is one run of enqueue --file or enqueue add.
type enqueuing struct {
	p        *program
	set      *settings
	console  *console
	refusals *refusals
	tally    *tally

	rdb     redis.UniversalClient
	where   string           // Redis, for messages
	now     func() time.Time // by Redis's clock, if it tells
	bounded bool             // Redis has a maxmemory
	batch   *tasks.Batch
	noticed sync.Map // lanes that were spoken of
	outage  outage

	lanes   laneList
	anyLane bool            // they could not be read: each lane may be one
	unread  bool            // one of the lanes that were published cannot be read
	paused  map[string]bool // queues
}

// laneList are the published lanes as they were read last. It is safe for concurrent use.
type laneList struct {
	mu   sync.RWMutex
	list []tasks.Lane
	at   time.Time
}

func (l *laneList) set(list []tasks.Lane, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list, l.at = list, at
}

// all returns the lanes, which nobody may change, and when they were read.
func (l *laneList) all() ([]tasks.Lane, time.Time) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.list, l.at
}

// find returns the lane; false if no worker has ever published it.
func (l *laneList) find(provider, app string) (tasks.Lane, bool) {
	list, _ := l.all()
	i := slices.IndexFunc(list, func(lane tasks.Lane) bool { return lane.Provider == provider && lane.App == app })
	if i < 0 {
		return tasks.Lane{Provider: provider, App: app}, false
	}
	return list[i], true
}

// lookUp finds a recall's lane and window in them, or says why there is none.
func (e *enqueuing) lookUp(r tasks.Recall, now time.Time) (tasks.Recall, *tasks.FieldError) {
	list, _ := e.lanes.all()
	return tasks.Resolve(r, list, now, e.anyLane || e.set.allowUnserved)
}

// enqueueRows is what add and --file have in common, from the rows to the exit code.
func (p *program) enqueueRows(ctx context.Context, set *settings, c *console, source rowSource) error {
	refused, err := newRefusals(set.rejects, set.files, set.row, c)
	if err != nil {
		return err
	}
	e := &enqueuing{p: p, set: set, console: c, refusals: refused, tally: &tally{}}
	if set.dryRun {
		return e.preview(ctx, source)
	}
	if err := e.open(ctx); err != nil {
		refused.discard()
		return err
	}
	defer e.rdb.Close()
	source, err = e.confirm(ctx, source)
	if err == nil {
		err = e.begin(ctx)
	}
	if err != nil {
		refused.discard()
		return err
	}
	if set.generated {
		c.say("batch %s; to go on after an interruption, run the same command with %s", set.batch, joinQuoted(e.resumeFlags()))
	}
	complete, runErr := e.run(ctx, source)
	return e.thenWatch(ctx, e.end(ctx, complete, runErr))
}

// open connects and looks at what is there.
func (e *enqueuing) open(ctx context.Context) error {
	var err error
	e.where = redisconn.Describe(e.set.redis)
	if e.rdb, err = connect(ctx, e.set.redis); err != nil {
		return err
	}
	if err := e.checkRedis(ctx); err != nil {
		_ = e.rdb.Close()
		return err
	}
	if err := e.readLanes(ctx); err != nil {
		_ = e.rdb.Close()
		return failure(fmt.Errorf("%s: %s", e.where, sayRedis(err)))
	}
	return nil
}

// readLanes reads what the run goes by: Redis's clock, and what lanes there are.
func (e *enqueuing) readLanes(ctx context.Context) (err error) {
	if e.now, err = clockFrom(ctx, e.rdb, e.p.now); err != nil {
		return err
	}
	e.set.countAge(e.now())
	lanes, unread, err := publishedLanes(ctx, e.rdb)
	if err != nil {
		return err
	}
	if e.unread = unread != ""; e.unread {
		e.console.say("%s", unread)
	}
	e.lanes.set(lanes, e.now())
	e.paused = pausedQueues(ctx, e.rdb, lanes)
	return nil
}

// begin opens the batch, the last thing before the first row.
func (e *enqueuing) begin(ctx context.Context) (err error) {
	if err := e.meetBatch(ctx); err != nil {
		return err
	}
	producer := tasks.NewProducer(e.rdb, tasks.WithClock(e.now))
	e.batch, err = producer.OpenBatch(ctx, tasks.BatchOptions{
		Name: e.set.batch, By: e.set.by, Reason: e.set.reason, Inputs: e.set.inputs,
	})
	if err != nil && ctx.Err() != nil {
		return &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	}
	if err != nil {
		return failure(fmt.Errorf("%s: %s", e.where, sayRedis(err)))
	}
	return nil
}

// meetBatch says that the batch is there already, which may be an old one of the same name. One that was cancelled takes only the inputs
// that it had: other rows would bring back what somebody has cancelled.
func (e *enqueuing) meetBatch(ctx context.Context) error {
	if e.set.generated {
		return nil
	}
	book := ledger.New(e.rdb)
	b, err := book.Batch(ctx, e.set.batch)
	if errors.Is(err, ledger.ErrNoBatch) {
		return nil
	}
	var again bool
	if err == nil {
		again, err = book.Knows(ctx, b.Name, e.set.inputs...)
	}
	if err != nil {
		return failure(fmt.Errorf("%s: %s", e.where, sayRedis(err)))
	}
	switch cancelled := !b.CancelledAt.IsZero(); {
	case cancelled && !again:
		return fmt.Errorf("the batch %s was cancelled by %s at %s, and other rows enqueued in it would bring its %s back; use another --batch, or bring them back first: %s",
			b.Name, b.CancelledBy, showClock(b.CancelledAt, e.now()), recalls(b.Open+b.Outcomes[tasks.Cancelled]), e.p.command("retry", b.Name, "--outcome", tasks.Cancelled))
	case cancelled:
		e.console.say("batch %s: its cancellation by %s is withdrawn; %s that had not ended go on", b.Name, b.CancelledBy, recalls(b.Open))
	case !again:
		e.console.say("batch %s is there already, begun by %s at %s; these rows are added to it", b.Name, b.By, showClock(b.CreatedAt, e.now()))
	}
	if e.set.reason != "" && b.Reason != "" && e.set.reason != b.Reason {
		e.console.say("batch %s keeps its reason: %s", b.Name, b.Reason)
	}
	return nil
}

// notice speaks of a lane once, at its first recall, if there is something that somebody in a hurry should know.
func (e *enqueuing) notice(lane tasks.Lane, published bool, priority tasks.Priority) {
	name := lane.Name()
	if _, again := e.noticed.LoadOrStore(name, true); again {
		return
	}
	paused := e.paused[tasks.Queue(lane.Provider, lane.App, priority)]
	for _, text := range e.p.laneNotices(name, lane, published, paused, e.now()) {
		e.console.say("%s", text)
	}
}

// laneNotices are about the lane's queue that the recalls go to.
func (p *program) laneNotices(name string, lane tasks.Lane, published, paused bool, now time.Time) []string {
	if !published {
		return []string{"lane " + name + ": no worker has ever served it; its recalls wait until one does"}
	}
	var list []string
	if !lane.Served(now) {
		list = append(list, fmt.Sprintf("lane %s: no worker has been seen for %s; its recalls wait until one runs", name, shortTime(now.Sub(lane.LastSeen))))
	}
	if lane.Hold != "" {
		list = append(list, fmt.Sprintf("lane %s: held (%s); its recalls wait until it opens", name, lane.Hold))
	}
	if paused {
		list = append(list, fmt.Sprintf("lane %s: paused; its recalls wait until %s", name, p.command("resume", "--provider", lane.Provider, "--app", lane.App)))
	}
	if lane.Simulated {
		list = append(list, fmt.Sprintf("lane %s: simulated; its recalls do not reach the vendor", name))
	}
	return list
}

// end says how the run went, and turns it into the exit code.
func (e *enqueuing) end(ctx context.Context, complete bool, runErr error) error {
	e.console.done()
	within := answerWithin
	if runErr != nil {
		within = stopWithin // Redis is away, most likely
	}
	uncounted, err := e.settle(ctx, complete, within)
	if err != nil && runErr == nil {
		runErr, uncounted = err, false // it says so itself
	}
	if err := e.refusals.close(); err != nil {
		runErr = errors.Join(runErr, err)
	}
	code := e.tally.code()
	if runErr != nil {
		code = exitFailure
		e.console.say("enqueue: %s", runErr)
	}
	if uncounted {
		e.console.say("the batch has not counted all of the recalls that are in the queue: the same command again mends that")
	}
	interrupted := ctx.Err() != nil && !complete
	if interrupted {
		code = exitInterrupted
		e.console.say("interrupted: what is counted below is in the queue and will be carried out")
	}
	if interrupted || runErr != nil || e.tally.failed > 0 {
		e.sayResume(runErr)
	}
	return e.close(code)
}

// settle has the batch count what is not counted yet, looks whether Redis has kept it, and says which inputs were read to their ends.
// uncounted says that something is left that could not be counted.
func (e *enqueuing) settle(ctx context.Context, complete bool, within time.Duration) (uncounted bool, err error) {
	call, cancel := onItsWay(ctx, within)
	defer cancel()
	err = e.batch.Check(call)
	var lost *tasks.LostError
	if errors.As(err, &lost) {
		err = nil
		e.lose(lost)
	}
	// An input of which something was lost has to be read again.
	if err == nil && complete && !e.tally.lost {
		err = e.batch.Done(call, e.set.inputs...)
	}
	closeErr := e.batch.Close(call)
	if err = cmp.Or(err, closeErr); err != nil {
		return closeErr != nil, fmt.Errorf("%s: %s; the recalls are in the queue, but the batch has not counted all of them: %s", e.where, sayRedis(err), mends(err))
	}
	return false, nil
}

// mends is what has the batch count the rest.
func mends(err error) string {
	if strings.Contains(err.Error(), maxBulkLen) {
		return "once that is done, the same command again mends it"
	}
	return "the same command again mends that"
}

// close prints the result, the closing line last.
func (e *enqueuing) close(code int) error {
	words := io.Writer(e.p.stdout)
	if e.set.json {
		words = e.p.stderr
	}
	for _, line := range e.tally.words(e.set.batch) {
		fmt.Fprintln(words, printable(line))
	}
	if err := e.tally.print(e.p.stdout, e.set.batch, e.set.json); err != nil {
		return failure(fmt.Errorf("the result could not be written: %w", err))
	}
	if code == exitOK {
		return nil
	}
	return &ended{code: code}
}
