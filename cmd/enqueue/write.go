package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

const (
	// writers is how many lots are on their way to Redis at a time, and lotSize how many recalls each has at most: enough to keep
	// Redis busy while the next rows are read. What is in memory is bounded by them.
	writers = 6
	lotSize = 250
	// urgentUpTo is the number of rows up to which a file is urgent.
	urgentUpTo = 1000
	// answerWithin bounds one lot, also after an interruption.
	answerWithin = 15 * time.Second
	// oddTries is how often a row is tried that Redis, though it is well, does not take.
	oddTries = 3
)

// job is a row that has passed its checks, on its way to Redis.
type job struct {
	item     input.Item
	recall   tasks.Recall
	warnings []tasks.Warning
	err      error // why the last try did not enqueue it
}

// run reads and writes until the source ends, somebody interrupts, or something fails for good. complete says that every
// row of the source was dealt with.
func (e *enqueuing) run(parent context.Context, source rowSource) (complete bool, err error) {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	go e.watchMemory(ctx, stop)

	defer e.sayStopping(parent)()
	jobs := make(chan job, writers*lotSize)
	read := make(chan error, 1)
	var priority tasks.Priority // set before the first job is sent, read by those who receive one
	go func() {
		defer close(jobs)
		// A read from standard input cannot be broken off, so nobody waits for this goroutine after an interruption.
		read <- e.read(ctx, source, jobs, &priority)
	}()

	var workers sync.WaitGroup
	for range writers {
		workers.Go(func() {
			for lot := nextLot(ctx, jobs); len(lot) > 0; lot = nextLot(ctx, jobs) {
				if err := e.write(ctx, lot, priority); err != nil {
					stop(err)
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() == nil {
		err := <-read
		return err == nil, err
	}
	err, left := lastWord(read, jobs)
	if parent.Err() == nil {
		return false, context.Cause(ctx)
	}
	return err == nil && !left, nil
}

// sayStopping says after a moment that an interruption was understood. It returns what is to be called when the run is over.
func (e *enqueuing) sayStopping(ctx context.Context) (over func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(sayAfter):
			e.console.say("interrupted: finishing what is on its way, for a few seconds; Ctrl-C again ends at once, without the counts")
		}
	})
	return func() {
		stop()
		close(done)
	}
}

// sayAfter is how long an interruption may take without a word.
const sayAfter = 300 * time.Millisecond

// nextLot waits for a row and takes with it those that are there already: rows that come slowly are not to wait for others. It is
// empty once there are no more, or the run is over.
func nextLot(ctx context.Context, jobs <-chan job) []job {
	var lot []job
	select {
	case <-ctx.Done():
		return nil
	case j, ok := <-jobs:
		if !ok {
			return nil
		}
		lot = append(lot, j)
	}
	for len(lot) < lotSize {
		select {
		case j, ok := <-jobs:
			if !ok {
				return lot
			}
			lot = append(lot, j)
		default:
			return lot
		}
	}
	return lot
}

// lastWord waits a moment for a reader that was stopped, so that its counts are final, and says whether rows are left over.
// One that hangs in standard input touches nothing any more.
func lastWord(read <-chan error, jobs <-chan job) (err error, left bool) {
	select {
	case err = <-read:
		_, left = <-jobs
		return err, left
	case <-time.After(200 * time.Millisecond):
		return context.Canceled, true
	}
}

// read checks rows and sends them on. It holds back the first ones until it is known whether there are few.
func (e *enqueuing) read(ctx context.Context, source rowSource, jobs chan<- job, priority *tasks.Priority) error {
	held, err := e.decidePriority(ctx, source, priority)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, item := range held {
		if !e.send(ctx, item, jobs) {
			return ctx.Err()
		}
	}
	for err == nil {
		var item input.Item
		if item, err = source.Next(); err == nil {
			if !e.send(ctx, item, jobs) {
				return ctx.Err()
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (e *enqueuing) decidePriority(ctx context.Context, source rowSource, priority *tasks.Priority) ([]input.Item, error) {
	if *priority = e.set.priority; *priority != "" {
		return nil, nil
	}
	*priority = tasks.Urgent
	var held []input.Item
	for ctx.Err() == nil {
		item, err := source.Next()
		if err != nil {
			return held, err
		}
		held = append(held, item)
		if len(held) > urgentUpTo {
			*priority = tasks.Bulk
			return held, nil
		}
	}
	return nil, ctx.Err()
}

// send checks one row and hands it to a writer. It is false once the run is over.
func (e *enqueuing) send(ctx context.Context, item input.Item, jobs chan<- job) bool {
	if ctx.Err() != nil {
		return false
	}
	opt := e.set.row
	opt.Now = e.now()
	r, warnings, ok := e.check(item, opt)
	if !ok {
		return true
	}
	if refused := e.resolve(ctx, r, opt.Now); refused != nil {
		e.tally.warn(without(warnings, tasks.NoText))
		e.refuse(item, e.sayLane(item, refused), refused.IsExpired())
		return true
	}
	select {
	case jobs <- job{item: item, recall: r, warnings: warnings}:
		return true
	case <-ctx.Done():
		return false
	}
}

// freshLanes is how old the lanes may be when a row is refused for them.
const freshLanes = time.Second

// resolve refuses what its lane refuses, as the producer will: here it is in its turn, so that the rejects are in the order of the input.
// It is for the reader alone.
func (e *enqueuing) resolve(ctx context.Context, r tasks.Recall, now time.Time) *tasks.FieldError {
	_, refused := e.lookUp(r, now)
	if _, at := e.lanes.all(); refused == nil || now.Sub(at) < freshLanes {
		return refused
	}
	list, _, err := publishedLanes(ctx, e.rdb)
	if err != nil {
		return nil // the producer will tell
	}
	e.lanes.set(list, now)
	_, refused = e.lookUp(r, now)
	return refused
}

// sayLane says why its lane refuses a row.
func (e *enqueuing) sayLane(item input.Item, refused *tasks.FieldError) string {
	text := e.set.sayRow(item, refused)
	if e.unread && errors.Is(refused, tasks.ErrUnserved) {
		text += "; or it is the published one that cannot be read"
	}
	return text
}

// check reads a row's fields. A row that is refused is counted and reported here.
func (e *enqueuing) check(item input.Item, opt tasks.RowOptions) (tasks.Recall, []tasks.Warning, bool) {
	if item.Fault != nil {
		e.refuse(item, sayFault(item.Fault), false)
		return tasks.Recall{}, nil, false
	}
	r, warnings, refused := item.Row.Recall(opt)
	if refused != nil {
		e.refuse(item, e.set.sayRow(item, refused), refused.IsExpired())
		return r, nil, false
	}
	return r, warnings, true
}

func (e *enqueuing) refuse(item input.Item, reason string, expired bool) {
	e.tally.refuse(expired)
	e.refusals.add(item, reason, true)
	e.console.step()
}

// write enqueues a lot and waits out a Redis that is away. Its error ends the run.
func (e *enqueuing) write(ctx context.Context, lot []job, priority tasks.Priority) error {
	odd := 0
	for try := 0; ; try++ {
		lot = e.attempt(ctx, lot, priority)
		if e.batch.Cancelled() {
			e.fail(lot)
			return failure(fmt.Errorf("%s: what it has in the queue ends as cancelled, and no more is enqueued", e.sayCancelled(ctx)))
		}
		if len(lot) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			e.fail(lot)
			return nil
		}
		what, err := e.judge(ctx, lot[0].err)
		if err != nil {
			e.fail(lot)
			return err
		}
		if what == single {
			odd++
		}
		if odd == oddTries {
			e.failEach(lot)
			return nil
		}
		sleep(ctx, min(time.Second, 50*time.Millisecond<<min(try, 5)))
	}
}

// sayCancelled says who has cancelled the batch, if Redis tells.
func (e *enqueuing) sayCancelled(ctx context.Context) string {
	text, err := ledger.New(e.rdb).Cancellation(ctx, e.set.batch)
	if err != nil || text == "" {
		return fmt.Sprintf("the batch %s was cancelled", e.set.batch)
	}
	return text
}

// stopWithin is how long an interruption waits for what is on its way.
const stopWithin = 3 * time.Second

// onItsWay is a context, for at most so long, for what is finished also after an interruption, so that the counts are true, if Redis answers soon.
func onItsWay(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	stop := context.AfterFunc(ctx, func() {
		sleep(call, stopWithin)
		cancel()
	})
	return call, func() { stop(); cancel() }
}

// attempt enqueues a lot, says what became of its rows, and returns those that an error kept from their queue.
func (e *enqueuing) attempt(ctx context.Context, lot []job, priority tasks.Priority) (left []job) {
	opts := []tasks.EnqueueOption{tasks.WithPriority(priority), tasks.Checked()}
	if e.set.allowUnserved {
		opts = append(opts, tasks.AllowUnserved())
	}
	recalls := make([]tasks.Recall, len(lot))
	for i, j := range lot {
		recalls[i] = j.recall
	}
	call, cancel := onItsWay(ctx, answerWithin)
	defer cancel()
	for i, done := range e.batch.EnqueueAll(call, recalls, opts...) {
		j := lot[i]
		var refused *tasks.FieldError
		switch {
		case errors.As(done.Err, &refused):
			e.refuse(j.item, e.set.sayRow(j.item, refused), false)
		case done.Err != nil:
			// What this try has written, its answer lost, is known as ours by its number.
			j.recall.Seq, j.err = done.Result.Seq, done.Err
			left = append(left, j)
		default:
			e.settled(j, done.Result, priority)
		}
	}
	if len(left) == 0 && e.outage.over() {
		e.console.say("Redis answers again; going on")
		e.recount(call)
	}
	return left
}

// recount looks whether Redis came back with all that was enqueued before it went. If it cannot be told now, the end of the run will tell.
func (e *enqueuing) recount(ctx context.Context) {
	var lost *tasks.LostError
	if err := e.batch.Check(ctx); errors.As(err, &lost) {
		e.lose(lost)
	}
}

// lose says that recalls which were enqueued are gone.
func (e *enqueuing) lose(lost *tasks.LostError) {
	e.tally.lose(lost.Lost)
	e.console.say("%s: Redis came back without its last writes (a restart without appendonly, or a replica that was behind) and has lost %s of this run; "+
		"the same command again enqueues them", e.where, recalls(int64(lost.Lost)))
}

// settled counts a row that Redis has answered.
func (e *enqueuing) settled(j job, res tasks.Result, priority tasks.Priority) {
	if res.Status == tasks.Expired {
		e.tally.warn(without(j.warnings, tasks.NoText))
		e.refuse(j.item, e.sayExpired(j.item, j.recall, res), true)
		return
	}
	lane, published := e.lanes.find(j.recall.Provider, res.App)
	e.notice(lane, published, priority)
	if lane.HasDefaultText {
		j.warnings = without(j.warnings, tasks.NoText)
	}
	e.tally.result(e.set.batch, res, j.warnings)
	e.console.step()
}

// judge says what kept a row from its queue. Its error ends the run.
func (e *enqueuing) judge(ctx context.Context, err error) (trouble, error) {
	what, words := judge(ctx, e.rdb, err)
	switch what {
	case lasting:
		return what, failure(fmt.Errorf("%s: %s", e.where, words))
	case away, refusing:
		return what, e.outlast(ctx, what, words)
	}
	return what, nil
}

// outlast waits until a Redis that is away answers again, or lets one that refuses be tried for a while. Its error ends the run.
func (e *enqueuing) outlast(ctx context.Context, what trouble, words string) error {
	since, first := e.outage.began(e.p.now())
	if first {
		e.console.say("%s: %s; waiting up to %s for it", e.where, words, shortTime(e.p.patience))
	}
	for ctx.Err() == nil {
		if what == away && tryPing(ctx, e.rdb) == nil {
			return nil
		}
		if e.p.now().Sub(since) >= e.p.patience {
			return failure(fmt.Errorf("%s: %s; gave up after %s", e.where, words, shortTime(e.p.patience)))
		}
		if what == refusing {
			return nil
		}
		sleep(ctx, pingEvery)
	}
	return nil
}

// fail counts rows that the end of the run has kept from their queues.
func (e *enqueuing) fail(lot []job) {
	for range lot {
		e.tally.fail()
	}
}

// failEach counts and names rows that Redis does not take.
func (e *enqueuing) failEach(lot []job) {
	for _, j := range lot {
		e.tally.fail()
		e.refusals.add(j.item, "not enqueued: "+sayRedis(j.err), false)
	}
}

// sayExpired asks again for the reason, which a Result does not have.
func (e *enqueuing) sayExpired(item input.Item, r tasks.Recall, res tasks.Result) string {
	_, refused := e.lookUp(r, e.now())
	if refused.IsExpired() {
		return e.set.sayRow(item, refused)
	}
	return fmt.Sprintf("its window closed at %s", res.RecallBy.UTC().Format(time.RFC3339))
}

func without(warnings []tasks.Warning, class tasks.Class) []tasks.Warning {
	var kept []tasks.Warning
	for _, w := range warnings {
		if w.Class != class {
			kept = append(kept, w)
		}
	}
	return kept
}

// sleep ends early with the context.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
