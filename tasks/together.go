package tasks

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Enqueuing is what came of one recall of [Batch.EnqueueAll].
type Enqueuing struct {
	Result Result
	Err    error
}

// EnqueueAll is [Batch.Enqueue] for many recalls at once, some hundred say, with a few round trips: the other batches are asked, then each
// lane's other queue, then the scripts are sent, and then each other queue is asked again. It is the fastest way to fill a queue; a few
// goroutines that do so keep Redis busy. The answers are in the order of the recalls.
func (b *Batch) EnqueueAll(ctx context.Context, recalls []Recall, opts ...EnqueueOption) []Enqueuing {
	rows := make([]lotRow, len(recalls))
	came := time.Now()
	for i, r := range recalls {
		if err := b.failedSince(came); err != nil { // Redis does not answer: that need not be found out for each
			rows[i].recall = r
			rows[i].fail(err)
			continue
		}
		rows[i] = b.lotRow(ctx, r, opts)
	}
	b.recognizeAll(ctx, rows)
	b.look(ctx, rows, func(row *lotRow) bool { return !row.done }, (*lotRow).fail)
	b.write(ctx, rows)
	b.meet(ctx, rows)
	b.lookForTwins(ctx, rows)
	var wg sync.WaitGroup
	for i := range rows {
		if row := &rows[i]; !row.done {
			// What has to make way for another, or is promoted, goes the long way.
			wg.Go(func() { b.finish(ctx, row) })
		}
	}
	wg.Wait()
	out := make([]Enqueuing, len(rows))
	for i := range rows {
		out[i] = rows[i].Enqueuing
	}
	return out
}

// failedSince returns what has failed for all recalls alike since then.
func (b *Batch) failedSince(came time.Time) error {
	return cmp.Or(b.producer.lanes.failed.since(came), b.lanes.failed.since(came), b.seqs.failed.since(came))
}

// lotRow is one recall on its way through EnqueueAll.
type lotRow struct {
	Enqueuing
	recall Recall
	opt    enqueueOptions
	task   task
	again  bool
	done   bool // Enqueuing is the answer
	fresh  bool // it is not in the other queue
	met    bool // it is in its own
}

func (b *Batch) lotRow(ctx context.Context, r Recall, opts []EnqueueOption) lotRow {
	row := lotRow{again: r.Seq != 0}
	seq := r.Seq
	r, opt, retention, res, err := b.producer.prepare(ctx, r, opts)
	row.recall, row.opt, row.Result = r, opt, res
	if err != nil || row.Result.Status == Expired {
		row.Result.Seq, row.Err, row.done = seq, err, true
		return row
	}
	if err := b.lanes.tell(ctx, r.Provider, r.App); err != nil {
		row.Result.Seq, row.Err, row.done = seq, err, true
		return row
	}
	if seq == 0 {
		if seq, err = b.seqs.take(ctx); err != nil {
			row.Err, row.done = err, true
			return row
		}
	}
	row.recall.Batch, row.recall.Seq = b.name, seq
	row.task, err = taskOf(row.recall, row.opt.priority, retention)
	if err != nil {
		row.Err, row.done = err, true
	}
	return row
}

// recognizeAll is recognize for rows.
func (b *Batch) recognizeAll(ctx context.Context, rows []lotRow) {
	var ids []string
	for i := range rows {
		if row := &rows[i]; !row.done {
			ids = append(ids, row.task.id)
		}
	}
	err := b.recognize(ctx, ids...)
	for i := range rows {
		if row := &rows[i]; err != nil && !row.done {
			row.fail(err)
		}
	}
}

// look finds which of some rows are not in the other queue of their lane, and calls them fresh. That queue is empty most of the time, and
// where it is not, hardly any of the rows is there: so one question asks about the queue, one about all rows, and only where some are
// there, about each.
func (b *Batch) look(ctx context.Context, rows []lotRow, which func(*lotRow) bool, failed func(*lotRow, error)) {
	queues := map[string][]*lotRow{}
	for i := range rows {
		if row := &rows[i]; which(row) {
			queues[row.elsewhere()] = append(queues[row.elsewhere()], row)
		}
	}
	for queue, all := range queues {
		b.lookIn(ctx, queue, all, failed)
	}
}

func (b *Batch) lookIn(ctx context.Context, queue string, rows []*lotRow, failed func(*lotRow, error)) {
	n, err := b.producer.rdb.Exists(ctx, statesOf(queue)...).Result()
	if err == nil && n > 0 {
		keys := make([]string, len(rows))
		for i, row := range rows {
			keys[i] = TaskKey(queue, row.task.id)
		}
		if n, err = b.producer.rdb.Exists(ctx, keys...).Result(); err == nil && n > 0 {
			b.lookForEach(ctx, keys, rows, failed)
			return
		}
	}
	for _, row := range rows {
		if err != nil {
			failed(row, err)
			continue
		}
		row.fresh = true
	}
}

func (b *Batch) lookForEach(ctx context.Context, keys []string, rows []*lotRow, failed func(*lotRow, error)) {
	found := make([]*redis.IntCmd, len(rows))
	_, err := b.producer.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			found[i] = pipe.Exists(ctx, key)
		}
		return nil
	})
	for i, row := range rows {
		if err != nil {
			failed(row, err)
			continue
		}
		row.fresh = found[i].Val() == 0
	}
}

func (row *lotRow) elsewhere() string {
	return Queue(row.recall.Provider, row.recall.App, row.opt.priority.other())
}

// write sends asynq's enqueue script for all fresh rows. asynq has no call for many tasks, so its client is let write each into
// a hand that keeps the script's arguments.
func (b *Batch) write(ctx context.Context, rows []lotRow) {
	p := b.producer
	hand := &capture{UniversalClient: p.rdb}
	client := asynq.NewClientFromRedisClient(hand)
	answers := make([]*redis.Cmd, len(rows))
	b.tellDue(ctx, rows)
	_, _ = p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range rows {
			row := &rows[i]
			if !row.fresh || row.done {
				continue
			}
			hand.last = nil
			if enqueueWith(ctx, client, row.task) == nil && hand.last != nil {
				answers[i] = pipe.EvalSha(ctx, hand.last.sha, hand.last.keys, hand.last.args...)
			}
		}
		return nil
	})
	for i := range rows {
		row := &rows[i]
		if answers[i] == nil {
			continue
		}
		n, err := answers[i].Int()
		if err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") { // a Redis that has restarted gets the script the long way
			row.fail(err)
		}
		row.met = err == nil && n == 0
		row.task.written = err == nil && n == 1
	}
}

// tellDue tells when the windows of the fresh rows close.
func (b *Batch) tellDue(ctx context.Context, rows []lotRow) {
	closing := map[string][]time.Time{}
	for i := range rows {
		if row := &rows[i]; row.fresh {
			closing[row.task.queue] = append(closing[row.task.queue], row.recall.RecallBy)
		}
	}
	for queue, times := range closing {
		err := b.producer.due.tell(ctx, b.producer.rdb, queue, times...)
		for i := range rows {
			if row := &rows[i]; err != nil && row.fresh && row.task.queue == queue {
				row.fail(err)
			}
		}
	}
}

// fail ends a row with an error. Its number is not to be used for another recall: the command may have come through.
func (row *lotRow) fail(err error) {
	row.Result, row.Err, row.done = Result{Seq: row.recall.Seq}, err, true
}

// place is a Result that says where the row belongs.
func (row *lotRow) place() Result {
	return Result{ID: row.task.id, App: row.recall.App, RecallBy: row.recall.RecallBy, Queue: row.task.queue}
}

// meet looks at what the rows have met in their own queue. What is open there, or has ended well, is their answer: an input
// that is run again consists of nothing else.
func (b *Batch) meet(ctx context.Context, rows []lotRow) {
	p := b.producer
	found := make([]*redis.SliceCmd, len(rows))
	_, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range rows {
			if row := &rows[i]; row.met {
				found[i] = pipe.HMGet(ctx, TaskKey(row.task.queue, row.task.id), looked...)
			}
		}
		return nil
	})
	for i := range rows {
		row := &rows[i]
		if !row.met {
			continue
		}
		if err != nil {
			row.fail(err)
			continue
		}
		c := readCopy(row.task.queue, row.task.id, found[i].Val())
		res := row.place()
		switch v := c.verdict(); {
		case row.task.wrote(c):
			row.task.written = true
			continue
		case v == settled, v == waiting:
			res = res.duplicate(c)
		default:
			continue
		}
		row.Result, row.done = b.count(row.recall, res, row.again), true
	}
}

// lookForTwins ends the rows that were written, but for those that another producer has written into the other queue meanwhile.
func (b *Batch) lookForTwins(ctx context.Context, rows []lotRow) {
	for i := range rows {
		rows[i].fresh = false
	}
	// That it cannot be seen is no reason to fail rows that are in their queue: hardly ever is there a twin.
	enqueued := func(row *lotRow, _ error) { row.fresh = true }
	b.look(ctx, rows, func(row *lotRow) bool { return row.task.written }, enqueued)
	filled := map[string]Priority{}
	for i := range rows {
		row := &rows[i]
		if !row.fresh {
			continue
		}
		res := row.place()
		res.Status = Enqueued
		row.Result, row.done = b.count(row.recall, res, true), true
		filled[row.task.queue] = row.opt.priority
	}
	for queue, priority := range filled {
		b.producer.wake(ctx, queue, priority)
	}
}

// finish enqueues a row on its own.
func (b *Batch) finish(ctx context.Context, row *lotRow) {
	res, err := b.put(ctx, row)
	if err != nil {
		row.fail(err)
		return
	}
	row.Result = b.count(row.recall, res, row.again || row.task.written)
}

func (b *Batch) put(ctx context.Context, row *lotRow) (Result, error) {
	if row.task.written {
		return b.producer.placed(ctx, row.recall, &row.task, row.place(), row.opt.priority)
	}
	return b.producer.putTask(ctx, row.recall, &row.task, row.opt.priority)
}

// captured are a script's arguments.
type captured struct {
	sha  string
	keys []string
	args []any
}

// capture is a Redis client that keeps a script instead of sending it, and says that it went well. It is for one goroutine.
type capture struct {
	redis.UniversalClient
	last *captured
}

func (c *capture) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	c.last = &captured{sha, keys, args}
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}
