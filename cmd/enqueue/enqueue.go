package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/tasks"
)

const (
	// writers is how many recalls are on their way to Redis at a time. A batch sends together what is there, so this is how
	// full its pipelines get; what is in memory is bounded by it too.
	writers = 512
	// urgentUpTo is the number of rows up to which a file is urgent.
	urgentUpTo = 1000
	// answerWithin bounds one enqueue, also after an interruption.
	answerWithin = 15 * time.Second
	// oddTries is how often a row is tried that Redis, though it is well, does not take.
	oddTries = 3
)

// rowSource hands out rows; io.EOF after the last one.
type rowSource interface {
	Next() (input.Item, error)
}

// job is a row that has passed its checks, on its way to Redis.
type job struct {
	item     input.Item
	recall   tasks.Recall
	warnings []tasks.Warning
}

// enqueuing is one run of enqueue --file or enqueue add.
type enqueuing struct {
	p        *program
	set      *settings
	console  *console
	refusals *refusals
	tally    *tally

	rdb     redis.UniversalClient
	where   string // Redis, for messages
	bounded bool   // Redis has a maxmemory
	batch   *tasks.Batch
	noticed sync.Map // lanes that were spoken of
	outage  outage

	// The lanes as they were at the start.
	published []tasks.Lane
	lanes     map[string]tasks.Lane
}

// enqueueRows is what add and --file have in common, from the rows to the exit code.
func (p *program) enqueueRows(ctx context.Context, set *settings, source rowSource) error {
	c := newConsole(p.stderr, set.progress)
	defer c.done()
	refused, err := newRefusals(set.rejects, set.files, c)
	if err != nil {
		return err
	}
	e := &enqueuing{p: p, set: set, console: c, refusals: refused, tally: &tally{}}
	if set.dryRun {
		return e.preview(ctx, source)
	}
	if err := e.open(ctx); err != nil {
		return errors.Join(err, refused.close())
	}
	defer e.rdb.Close()
	source, err = e.confirm(ctx, source)
	if err == nil {
		err = e.begin(ctx)
	}
	if err != nil {
		return errors.Join(err, refused.close())
	}
	if set.generated {
		c.say("batch %s; to go on after an interruption, run the same command with --batch %s", set.batch, set.batch)
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
	lanes, err := tasks.Lanes(ctx, e.rdb)
	if err != nil {
		_ = e.rdb.Close()
		return failure(fmt.Errorf("%s: %s", e.where, sayRedis(err)))
	}
	e.published = lanes
	e.lanes = make(map[string]tasks.Lane, len(lanes))
	for _, l := range lanes {
		e.lanes[l.Name()] = l
	}
	return nil
}

// begin opens the batch, the last thing before the first row.
func (e *enqueuing) begin(ctx context.Context) (err error) {
	producer := tasks.NewProducer(e.rdb, tasks.WithClock(e.p.now))
	e.batch, err = producer.OpenBatch(ctx, tasks.BatchOptions{
		Name: e.set.batch, By: e.set.by, Reason: e.set.reason, Inputs: e.set.inputs,
	})
	if err != nil {
		return failure(fmt.Errorf("%s: %s", e.where, sayRedis(err)))
	}
	return nil
}

// run reads and writes until the source ends, somebody interrupts, or something fails for good. complete says that every
// row of the source was dealt with.
func (e *enqueuing) run(parent context.Context, source rowSource) (complete bool, err error) {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	go e.watchMemory(ctx, stop)

	jobs := make(chan job, writers)
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
			for {
				select {
				case <-ctx.Done():
					return
				case j, ok := <-jobs:
					if !ok {
						return
					}
					if err := e.write(ctx, j, priority); err != nil {
						stop(err)
					}
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
	opt.Now = e.p.now()
	r, warnings, ok := e.check(item, opt)
	if !ok {
		return true
	}
	select {
	case jobs <- job{item, r, warnings}:
		return true
	case <-ctx.Done():
		return false
	}
}

// check reads a row's fields. A row that is refused is counted and reported here.
func (e *enqueuing) check(item input.Item, opt tasks.RowOptions) (tasks.Recall, []tasks.Warning, bool) {
	if item.Fault != nil {
		e.refuse(item, sayFault(item.Fault), false)
		return tasks.Recall{}, nil, false
	}
	r, warnings, refused := item.Row.Recall(opt)
	if refused != nil {
		e.refuse(item, sayFieldError(refused), refused.IsExpired())
		return r, nil, false
	}
	return r, warnings, true
}

func (e *enqueuing) refuse(item input.Item, reason string, expired bool) {
	e.tally.refuse(expired)
	e.refusals.add(item, reason, true)
	e.console.step()
}

// write enqueues one recall. Its error ends the run.
func (e *enqueuing) write(ctx context.Context, j job, priority tasks.Priority) error {
	res, err := e.enqueue(ctx, j.recall, priority)
	var refused *tasks.FieldError
	var fatal *ended
	switch {
	case errors.As(err, &refused):
		e.refuse(j.item, sayFieldError(refused), false)
		return nil
	case errors.As(err, &fatal):
		e.tally.fail()
		return err
	case err != nil:
		e.tally.fail()
		if ctx.Err() == nil {
			e.refusals.add(j.item, "not enqueued: "+err.Error(), false)
		}
		return nil
	case res.Status == tasks.Expired:
		e.refuse(j.item, e.sayExpired(j.recall, res), true)
		return nil
	}
	lane := j.recall.Provider + ":" + res.App
	e.notice(lane)
	if e.lanes[lane].HasDefaultText {
		j.warnings = without(j.warnings, tasks.NoText)
	}
	e.tally.result(e.set.batch, res, j.warnings)
	e.console.step()
	if e.batch.Cancelled() {
		return failure(fmt.Errorf("the batch %s was cancelled by somebody: what it has in the queue ends as cancelled, and no more is enqueued", e.set.batch))
	}
	return nil
}

// sayExpired asks again for the reason, which a Result does not have.
func (e *enqueuing) sayExpired(r tasks.Recall, res tasks.Result) string {
	_, refused := tasks.Resolve(r, e.published, e.p.now(), e.set.allowUnserved)
	if refused.IsExpired() {
		return sayFieldError(refused)
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

// notice speaks of a lane once, at its first recall, if there is something that somebody in a hurry should know.
func (e *enqueuing) notice(name string) {
	if _, again := e.noticed.LoadOrStore(name, true); again {
		return
	}
	lane, published := e.lanes[name]
	for _, text := range laneNotices(name, lane, published, e.p.now()) {
		e.console.say("%s", text)
	}
}

func laneNotices(name string, lane tasks.Lane, published bool, now time.Time) []string {
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
	if lane.Simulated {
		list = append(list, fmt.Sprintf("lane %s: simulated; its recalls do not reach the vendor", name))
	}
	return list
}

// outage is one time without Redis, shared by all writers. It is safe for concurrent use.
type outage struct {
	mu    sync.Mutex
	since time.Time
}

// began notes that Redis is away, and says since when.
func (o *outage) began(now time.Time) (since time.Time, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first = o.since.IsZero()
	if first {
		o.since = now
	}
	return o.since, first
}

// over notes that Redis has answered, and reports whether it was away.
func (o *outage) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := !o.since.IsZero()
	o.since = time.Time{}
	return was
}

// enqueue writes one recall and waits out a Redis that is away. An [ended] means that the run is over; a FieldError is the
// recall's; any other error is of this row alone.
func (e *enqueuing) enqueue(ctx context.Context, r tasks.Recall, priority tasks.Priority) (tasks.Result, error) {
	opts := []tasks.EnqueueOption{tasks.WithPriority(priority)}
	if e.set.allowUnserved {
		opts = append(opts, tasks.AllowUnserved())
	}
	odd := 0
	for try := 0; ; try++ {
		// What has been started is finished also after an interruption, so that the counts are true.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		res, err := e.batch.Enqueue(call, r, opts...)
		cancel()
		var refused *tasks.FieldError
		if err == nil || errors.As(err, &refused) {
			if e.outage.over() {
				e.console.say("Redis answers again; going on")
			}
			return res, err
		}
		r.Seq = res.Seq // what an earlier try has written, its answer lost, is then known as ours
		if ctx.Err() != nil {
			return res, err
		}
		what, words := judge(ctx, e.rdb, err)
		switch what {
		case lasting:
			return res, failure(fmt.Errorf("%s: %s", e.where, words))
		case single:
			if odd++; odd == oddTries {
				return res, err
			}
		case passing:
			since, first := e.outage.began(e.p.now())
			if first {
				e.console.say("%s: %s; waiting up to %s for it", e.where, words, shortTime(e.p.patience))
			}
			if e.p.now().Sub(since) >= e.p.patience {
				return res, failure(fmt.Errorf("%s: %s; gave up after %s", e.where, words, shortTime(e.p.patience)))
			}
		}
		if !sleep(ctx, min(time.Second, 50*time.Millisecond<<min(try, 5))) {
			return res, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// end says how the run went, and turns it into the exit code.
func (e *enqueuing) end(ctx context.Context, complete bool, runErr error) error {
	e.console.done()
	code := e.tally.code()
	if err := e.settle(ctx, complete); err != nil && runErr == nil {
		runErr = err
	}
	if err := e.refusals.close(); err != nil {
		runErr = errors.Join(runErr, err)
	}
	if runErr != nil {
		code = exitFailure
		e.console.say("enqueue: %s", runErr)
	}
	interrupted := ctx.Err() != nil && !complete
	if interrupted {
		code = exitInterrupted
		e.console.say("interrupted: what is counted below is in the queue and will be carried out")
	}
	if interrupted || runErr != nil || e.tally.failed > 0 {
		e.console.say("to go on from here: %s", e.resume())
	}
	return e.close(code)
}

// settle has the batch count what is not counted yet, and says which inputs were read to their ends.
func (e *enqueuing) settle(ctx context.Context, complete bool) error {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	var err error
	if complete {
		err = e.batch.Done(call, e.set.inputs...)
	}
	if closeErr := e.batch.Close(call); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("%s: %s; the recalls are in the queue, but the batch has not counted all of them: the same command again mends that", e.where, sayRedis(err))
	}
	return nil
}

// close prints the result, the closing line last.
func (e *enqueuing) close(code int) error {
	words := io.Writer(e.p.stdout)
	if e.set.json {
		words = e.p.stderr
	}
	for _, line := range e.tally.words(e.set.batch) {
		fmt.Fprintln(words, line)
	}
	if err := e.tally.print(e.p.stdout, e.set.batch, e.set.json); err != nil {
		return failure(fmt.Errorf("the result could not be written: %w", err))
	}
	if code == exitOK {
		return nil
	}
	return &ended{code: code}
}

// resume is the command that goes on where this run stopped.
func (e *enqueuing) resume() string {
	var more []string
	if e.set.generated {
		more = append(more, "--batch", e.set.batch)
	}
	if e.set.sentAt != "" { // an age would mean another time later
		more = append(more, "--sent-at", e.set.sentAt)
	}
	words := []string{"enqueue"}
	added := false
	for _, arg := range e.p.args {
		if arg == "--" && !added {
			words, added = append(words, more...), true
		}
		words = append(words, shellQuote(arg))
	}
	if !added {
		words = append(words, more...)
	}
	return strings.Join(words, " ")
}

func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// shortTime says a duration to people: "40s", "1h 5m", "3d 2h".
func shortTime(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	}
	return twoUnits(d, day, "d", time.Hour, "h")
}

func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, smallName)
	}
	return text
}

// enqueueFiles is enqueue --file.
func (p *program) enqueueFiles(cmd *cobra.Command, o *enqueueFlags) error {
	set, err := o.check(p, cmd.Flags())
	if err != nil {
		return err
	}
	stdin := &interruptible{ctx: cmd.Context(), r: p.stdin}
	files, err := openFiles(set, stdin, func(text string) { fmt.Fprintln(p.stderr, text) })
	if err != nil && cmd.Context().Err() != nil {
		return &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	}
	if err != nil {
		return err
	}
	set.inputs = files.names()
	return p.enqueueRows(cmd.Context(), set, files)
}

// files are several inputs, one after the other. Each is closed at its end; those that an interruption leaves open, perhaps
// with a read under way, the end of the program closes.
type files struct{ readers []*input.Reader }

// openFiles opens all inputs before a row of any is used: a wrong name at the end of the command must not leave half of
// the recalls enqueued.
func openFiles(set *settings, stdin io.Reader, warn func(string)) (*files, error) {
	f := &files{}
	opt := input.Options{Format: set.format, Columns: set.columns, Warn: warn}
	stdins := 0
	var errs []error
	for _, name := range set.files {
		if name == input.Stdin {
			if stdins++; stdins > 1 {
				errs = append(errs, errors.New("--file -: standard input can be read once only"))
				continue
			}
		}
		r, err := input.Open(name, stdin, opt)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.readers = append(f.readers, r)
	}
	errs = append(errs, f.missingColumns()...)
	if len(errs) > 0 {
		f.close()
		return nil, errors.Join(errs...)
	}
	return f, nil
}

// missingColumns finds names in --columns that no input has a column of; NDJSON has no header that could say so.
func (f *files) missingColumns() []error {
	count := make(map[string]int)
	for _, r := range f.readers {
		for _, name := range r.Missing() {
			count[name]++
		}
	}
	var errs []error
	for _, r := range f.readers[:min(1, len(f.readers))] {
		for _, name := range r.Missing() {
			if count[name] == len(f.readers) {
				errs = append(errs, fmt.Errorf("--columns: there is no column %q in %s", name, r.Name()))
			}
		}
	}
	return errs
}

func (f *files) names() []string {
	names := make([]string, len(f.readers))
	for i, r := range f.readers {
		names[i] = r.Name()
	}
	return names
}

func (f *files) Next() (input.Item, error) {
	for len(f.readers) > 0 {
		item, err := f.readers[0].Next()
		if !errors.Is(err, io.EOF) {
			return item, err
		}
		_ = f.readers[0].Close()
		f.readers = f.readers[1:]
	}
	return input.Item{}, io.EOF
}

func (f *files) close() {
	for _, r := range f.readers {
		_ = r.Close()
	}
}
