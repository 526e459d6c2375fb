package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

const (
	// writers is how many entries without a batch are enqueued at a time. Each takes a connection, of which lanes need some.
	writers = 64
	// batchWriters is how many entries with a batch are. Their commands travel together.
	batchWriters = 256
	// mostFailures is how many entries of a step may fail before the rest is not tried: each may take its time.
	mostFailures = writers
	// batchIdle is how long a batch is kept open without entries.
	batchIdle = time.Minute
	// mostBatches is how many batches are kept open.
	mostBatches = 100
)

var errGivenUp = errors.New("too many entries of its step failed")

// item is one entry on its way.
type item struct {
	entry
	order
	refused *tasks.FieldError
	done    bool  // nothing is left to do but to acknowledge it
	err     error // it is to be tried again
}

// open reports whether the item has still to be enqueued.
func (it *item) open() bool { return it.refused == nil && !it.done && it.err == nil }

// take does a step: it makes tasks of entries, reports those that are refused, and then acknowledges both. again says that
// the entries were handed out before. What fails stays in our hands.
func (in *Inbox) take(ctx context.Context, list []entry, again bool) failure {
	now := time.Now()
	items := make([]item, len(list))
	for i, e := range list {
		it := &items[i]
		it.entry = e
		if len(e.fields) == 0 {
			it.done = true
			continue
		}
		it.order, it.refused = e.read(now)
	}
	if again {
		in.passOver(ctx, items, now)
	}
	in.openBatches(ctx, items)
	givenUp := in.enqueue(ctx, items)
	in.flush(ctx, items)
	in.end(ctx, items)

	f := failure{givenUp: givenUp}
	for i := range items {
		if err := items[i].err; err != nil {
			if f.failed++; f.err == nil || errors.Is(f.err, errGivenUp) {
				f.err = err
			}
		}
	}
	return f
}

// passOver finds entries that were handed out before and need nothing more, although enqueueing them again would do
// something: the recall has failed since the entry came, and would be tried a second time; or its window has closed after it was
// enqueued, and it would be refused.
func (in *Inbox) passOver(ctx context.Context, items []item, now time.Time) {
	lanes, err := tasks.Lanes(ctx, in.rdb)
	if err != nil && lanes == nil {
		fail(items, err)
		return
	}
	type look struct {
		it      *item
		expired bool
		copies  [2]*redis.SliceCmd
	}
	var looks []look
	pipe := in.rdb.Pipeline()
	for i := range items {
		it := &items[i]
		if !it.open() {
			continue
		}
		r, refused := tasks.Resolve(it.recall, lanes, now, false)
		if refused != nil && !refused.IsExpired() {
			continue
		}
		l := look{it: it, expired: refused != nil}
		for i, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			l.copies[i] = pipe.HMGet(ctx, tasks.TaskKey(tasks.Queue(r.Provider, r.App, p), r.ID()), "msg", "result")
		}
		looks = append(looks, l)
	}
	if len(looks) == 0 {
		return
	}
	_, _ = pipe.Exec(ctx) // each answer has its own error
	for _, l := range looks {
		for _, c := range l.copies {
			fields, err := c.Result()
			if err != nil {
				l.it.err = fmt.Errorf("looking for the recall: %w", err)
				break
			}
			msg, _ := fields[0].(string)
			result, _ := fields[1].(string)
			if msg != "" && l.it.passed(msg, result, l.expired) {
				l.it.done = true
			}
		}
	}
}

// passed reports whether a task of the recall shows that the entry was dealt with. One of another batch that has failed does not,
// for an entry that names a batch: it has to count there as its own.
func (it *item) passed(msg, result string, expired bool) bool {
	var o tasks.Outcome
	if json.Unmarshal([]byte(result), &o) != nil || o.Outcome == "" || tasks.Succeeded(o.Outcome) {
		return expired
	}
	// The payload stands in asynq's message as it is, and the name of a batch has nothing in it that JSON would escape.
	if it.batch != "" && !strings.Contains(msg, `"batch":"`+it.batch+`",`) {
		return false
	}
	at := it.addedAt()
	return !at.IsZero() && o.FinishedAt.After(at)
}

// fail has all open items tried again.
func fail(items []item, err error) {
	for i := range items {
		if items[i].open() {
			items[i].err = err
		}
	}
}

// openBatch is a batch that entries come for.
type openBatch struct {
	*tasks.Batch
	used time.Time
}

// openBatches opens the batches of a step, and refuses the entries of cancelled ones.
func (in *Inbox) openBatches(ctx context.Context, items []item) {
	standing := map[string]*redis.SliceCmd{}
	pipe := in.rdb.Pipeline()
	for i := range items {
		if name := items[i].batch; items[i].open() && name != "" && standing[name] == nil {
			standing[name] = pipe.HMGet(ctx, tasks.BatchKey(name), "cancelled_at")
		}
	}
	if len(standing) == 0 {
		return
	}
	_, _ = pipe.Exec(ctx) // each answer has its own error
	opened := map[string]error{}
	for i := range items {
		it := &items[i]
		if !it.open() || it.batch == "" {
			continue
		}
		batch, err := standing[it.batch].Result()
		if err != nil {
			it.err = fmt.Errorf("looking for the batch %s: %w", it.batch, err)
			continue
		}
		if at, _ := batch[0].(string); at != "" {
			it.refused = refuse(fieldBatch, it.batch, "was cancelled at "+at+"; use another name")
			continue
		}
		err, known := opened[it.batch]
		if !known {
			err = in.openBatch(ctx, it.batch)
			opened[it.batch] = err
		}
		it.err = err
	}
}

func (in *Inbox) openBatch(ctx context.Context, name string) error {
	if b := in.batches[name]; b != nil {
		b.used = time.Now()
		return nil
	}
	b, err := in.producer.OpenBatch(ctx, tasks.BatchOptions{Name: name, By: "inbox", KeepCancelled: true})
	if err != nil {
		return err
	}
	in.batches[name] = &openBatch{Batch: b, used: time.Now()}
	return nil
}

// closeIdleBatches closes the batches that nothing came for of late: one that is kept open beyond the life of its keys would go on
// with numbers that are given out again.
func (in *Inbox) closeIdleBatches() {
	for name, b := range in.batches {
		if time.Since(b.used) > batchIdle {
			in.closeBatch(name)
		}
	}
}

// closeBatches closes all batches.
func (in *Inbox) closeBatches() {
	for name := range in.batches {
		in.closeBatch(name)
	}
}

// closeBatch closes a batch without counting what waits there: that is not acknowledged, and is counted with the next attempt.
func (in *Inbox) closeBatch(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = in.batches[name].Close(ctx)
	delete(in.batches, name)
}

// enqueue makes tasks of all open items. It is true if it gave up.
func (in *Inbox) enqueue(ctx context.Context, items []item) (givenUp bool) {
	var alone, batched []*item
	for i := range items {
		switch it := &items[i]; {
		case !it.open():
		case it.batch == "":
			alone = append(alone, it)
		default:
			batched = append(batched, it)
		}
	}
	var failures atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { in.enqueueAll(ctx, alone, writers, &failures) })
	wg.Go(func() { in.enqueueAll(ctx, batched, batchWriters, &failures) })
	wg.Wait()
	return failures.Load() >= mostFailures
}

func (in *Inbox) enqueueAll(ctx context.Context, items []*item, atATime int, failures *atomic.Int64) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(atATime, len(items)) {
		wg.Go(func() {
			for i := next.Add(1); int(i) <= len(items); i = next.Add(1) {
				it := items[i-1]
				if failures.Load() >= mostFailures {
					it.err = errGivenUp
				} else if in.enqueueOne(ctx, it); it.err != nil {
					failures.Add(1)
				}
			}
		})
	}
	wg.Wait()
}

func (in *Inbox) enqueueOne(ctx context.Context, it *item) {
	enqueue := in.producer.Enqueue
	if it.batch != "" {
		enqueue = in.batches[it.batch].Enqueue
	}
	res, err := enqueue(ctx, it.recall, tasks.WithPriority(it.priority))
	switch refused := asRefusal(err); {
	case refused != nil:
		it.refused = refused
	case err != nil:
		it.err = err
	case res.Status == tasks.Expired:
		it.refused = tooLate(it.recall, res)
	default:
		it.done = true
	}
}

// flush waits until the batches have counted what is in.
func (in *Inbox) flush(ctx context.Context, items []item) {
	flushed := map[string]error{}
	for i := range items {
		it := &items[i]
		if !it.done || in.batches[it.batch] == nil {
			continue
		}
		err, known := flushed[it.batch]
		if !known {
			err = in.batches[it.batch].Flush(ctx)
			flushed[it.batch] = err
		}
		it.err = err
	}
	if len(in.batches) > mostBatches {
		in.closeBatches()
	}
}

// end reports refused items and acknowledges all that need nothing more.
func (in *Inbox) end(ctx context.Context, items []item) {
	var refused []*item
	for i := range items {
		if it := &items[i]; it.refused != nil {
			refused = append(refused, it)
		}
	}
	if err := in.report(ctx, refused, time.Now()); err != nil {
		for _, it := range refused {
			it.err = err
		}
	}
	var ids []string
	for i := range items {
		if items[i].err == nil {
			ids = append(ids, items[i].id)
		}
	}
	if err := in.acknowledge(ctx, ids); err != nil {
		for i := range items {
			if items[i].err == nil {
				items[i].err = err
			}
		}
	}
}
