package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// BatchesKey is the sorted set of all batches' names by their creation, Unix milliseconds.
	BatchesKey = "recallq:batches"
	// CancelledKey is the set of the names of cancelled batches.
	CancelledKey = "recallq:cancelled"
	// CancelledWake is what is published on [WakeChannel] when a batch is cancelled.
	CancelledWake = "cancelled"
)

// BatchOptions say what a batch is.
type BatchOptions struct {
	Name string // see [CheckBatch]
	// By and Reason are who enqueues and why. What was written first stays; a reason that comes later fills an empty place.
	By, Reason string
	// Inputs are the names of the inputs that are read now. The batch has not ended before each of them was read to its end,
	// under the same name, in this run or a later one.
	Inputs []string
	// KeepCancelled leaves a batch that was cancelled as it is: what is enqueued in it is cancelled, too.
	KeepCancelled bool
}

// Batch enqueues recalls under a name and counts them there. It is safe for concurrent use, and meant for it: the commands
// of all goroutines are sent together, so that some hundred of them fill a bulk queue several times faster than one.
//
// Running the same recalls through a batch of the same name again is safe, also after a crash: each counts once.
type Batch struct {
	name     string
	options  BatchOptions
	begun    time.Time
	producer *Producer
	seqs     seqs
	lanes    batchLanes
	others   others
	tally    *tally
	used     numbers
}

// OpenBatch begins a batch, or goes on with it. A batch that was cancelled is cancelled no more, unless the options say otherwise.
// The Batch has to be closed.
func (p *Producer) OpenBatch(ctx context.Context, o BatchOptions) (*Batch, error) {
	if err := CheckBatch(o.Name); err != nil {
		return nil, refuse("batch", o.Name, err.Error())
	}
	fast, err := pipelined(p.rdb)
	if err != nil {
		return nil, err
	}
	now := p.now()
	if err := beginBatch(ctx, p.rdb, o, now); err != nil {
		return nil, err
	}
	b := &Batch{
		name: o.Name, options: o, begun: now,
		producer: &Producer{
			rdb: p.rdb, reader: fast, client: asynq.NewClientFromRedisClient(fast), now: p.now, rescueFor: p.rescueFor,
		},
		seqs:   seqs{rdb: p.rdb, key: BatchKey(o.Name)},
		lanes:  batchLanes{rdb: p.rdb, batch: o.Name},
		others: others{rdb: p.rdb, batch: o.Name},
	}
	if _, err := b.others.get(ctx); err != nil {
		return nil, err
	}
	b.tally = newTally(p.rdb, o.Name)
	return b, nil
}

// beginScript writes what is known of a batch when an input begins.
//
// KEYS the hash, its inputs
// ARGV who, when, why, the fallback for the expiry in Unix seconds, "1" if a cancelled batch stays that, the counters' number and names,
// the inputs
var beginScript = redis.NewScript(`
local hash, inputs = KEYS[1], KEYS[2]
redis.call("HSETNX", hash, "created_by", ARGV[1])
redis.call("HSETNX", hash, "created_at", ARGV[2])
if (redis.call("HGET", hash, "reason") or "") == "" then redis.call("HSET", hash, "reason", ARGV[3]) end
redis.call("HSETNX", hash, "expires_at", ARGV[4])
if ARGV[5] ~= "1" then redis.call("HDEL", hash, "cancelled_at", "cancelled_by") end
local counters = tonumber(ARGV[6])
for i = 7, 6 + counters do redis.call("HSETNX", hash, ARGV[i], 0) end
for i = 7 + counters, #ARGV do
	local state = redis.call("HGET", inputs, ARGV[i])
	if not state then redis.call("HINCRBY", hash, "inputs", 1) end
	if state ~= "reading" then
		redis.call("HINCRBY", hash, "reading", 1)
		redis.call("HSET", inputs, ARGV[i], "reading")
	end
end
local expires = redis.call("HGET", hash, "expires_at")
redis.call("EXPIREAT", hash, expires)
redis.call("EXPIREAT", inputs, expires)
return redis.call("HGET", hash, "created_at")`)

func beginBatch(ctx context.Context, rdb redis.UniversalClient, o BatchOptions, now time.Time) error {
	counters := append([]string{"total", Duplicate, "inputs", "reading"}, Outcomes()...)
	keep := 0
	if o.KeepCancelled {
		keep = 1
	}
	args := []any{o.By, FormatTime(now), o.Reason, now.Add(KeepBatch).Unix(), keep, len(counters)}
	for _, c := range counters {
		args = append(args, c)
	}
	for _, name := range o.Inputs {
		args = append(args, name)
	}
	// First, so that somebody who cancels the batch meanwhile is in both places, or in none.
	if !o.KeepCancelled {
		if err := rdb.SRem(ctx, CancelledKey, o.Name).Err(); err != nil {
			return fmt.Errorf("beginning the batch %s: %w", o.Name, err)
		}
	}
	createdAt, err := beginScript.Run(ctx, rdb, []string{BatchKey(o.Name), BatchInputsKey(o.Name)}, args...).Text()
	if err != nil {
		return fmt.Errorf("beginning the batch %s: %w", o.Name, err)
	}
	if created, err := time.Parse(time.RFC3339, createdAt); err == nil {
		now = created
	}
	if err := rdb.ZAdd(ctx, BatchesKey, redis.Z{Score: float64(now.UnixMilli()), Member: o.Name}).Err(); err != nil {
		return fmt.Errorf("beginning the batch %s: %w", o.Name, err)
	}
	return nil
}

// Enqueue is [Producer.Enqueue] for a recall of the batch, which it numbers and counts. The counting is done a moment later,
// together with others'; [Batch.Flush] waits for it.
//
// After an error the recall may be in its queue or not. Enqueue it again with Seq as the Result has it: if it is there
// already, the Result is then Enqueued and not Duplicate.
func (b *Batch) Enqueue(ctx context.Context, r Recall, opts ...EnqueueOption) (Result, error) {
	row := b.lotRow(ctx, r, opts)
	if !row.done {
		if err := b.recognize(ctx, row.task.id); err != nil {
			row.fail(err)
		} else {
			b.finish(ctx, &row)
		}
	}
	return row.Result, row.Err
}

// count says what a recall counts as in the batch, and gives its number back if it was not needed. again says that it may have been
// in its queue under this number.
func (b *Batch) count(r Recall, res Result, again bool) Result {
	c := Count{Seq: r.Seq, ID: res.ID, As: Open, RecallBy: res.RecallBy}
	own := res.Existing.Batch == b.name && res.Existing.Seq > 0
	switch {
	case res.Status == Enqueued:
		res.Seq, c.queue = r.Seq, res.Queue
	case own && again && res.Existing.Seq == r.Seq:
		res.Status, res.Existing, res.Seq = Enqueued, Existing{}, r.Seq
	case own:
		// Counted once more, in case that its enqueuer died before it had.
		c.Seen = true
		c.Seq, res.Seq = res.Existing.Seq, res.Existing.Seq
		if Succeeded(res.Existing.Standing) {
			c.As = res.Existing.Standing
		}
	default:
		c.Seq, c.As = 0, Duplicate
		if of := (Number{res.Existing.Batch, res.Existing.Seq}); of.known() && b.others.admit(of.Batch) {
			c.Of = of
		}
	}
	if res.Status == Duplicate && !again {
		b.seqs.giveBack(r.Seq)
	}
	b.tally.add(c)
	if res.Status == Enqueued {
		b.used.add(res.Seq) // after the tally has it, see Check
	}
	return res
}

// beginAgain writes what is known of the batch if Redis has forgotten it: one without inputs would seem to have ended.
func (b *Batch) beginAgain(ctx context.Context) error {
	known, err := b.producer.rdb.HExists(ctx, BatchKey(b.name), "created_at").Result()
	if err != nil {
		return fmt.Errorf("looking for the batch %s: %w", b.name, err)
	}
	if known {
		return nil
	}
	o := b.options
	o.KeepCancelled = true // by somebody who was quick
	return beginBatch(ctx, b.producer.rdb, o, b.begun)
}

// Flush waits until everything that was enqueued so far is counted. After an error, what could not be counted is tried
// again with the next Flush.
func (b *Batch) Flush(ctx context.Context) error { return b.tally.flush(ctx) }

// Cancelled reports whether somebody was seen to have cancelled the batch since it was opened.
func (b *Batch) Cancelled() bool { return b.tally.cancelled.Load() }

// doneScript notes inputs as read.
var doneScript = redis.NewScript(`
for _, input in ipairs(ARGV) do
	if redis.call("HGET", KEYS[2], input) == "reading" then
		redis.call("HSET", KEYS[2], input, "read")
		redis.call("HINCRBY", KEYS[1], "reading", -1)
	end
end
return 1`)

// Done says that inputs were read to their ends and all their recalls were enqueued. It counts them first. The error is a
// [LostError] if Redis has lost some of them meanwhile; the batch then waits for the inputs to be enqueued again.
func (b *Batch) Done(ctx context.Context, inputs ...string) error {
	if err := b.Check(ctx); err != nil {
		return err
	}
	args := make([]any, len(inputs))
	for i, name := range inputs {
		args[i] = name
	}
	if err := doneScript.Run(ctx, b.producer.rdb, []string{BatchKey(b.name), BatchInputsKey(b.name)}, args...).Err(); err != nil {
		return fmt.Errorf("ending an input of the batch %s: %w", b.name, err)
	}
	return nil
}

// Close frees what the batch holds, after a last try to count what is not counted. The Redis client stays its caller's. To close it
// again does no harm.
func (b *Batch) Close(ctx context.Context) error {
	err := b.Flush(ctx)
	for _, queue := range b.producer.wakes.takeAll() {
		_ = b.producer.rdb.Publish(ctx, WakeChannel, queue).Err()
	}
	b.tally.stop()
	return err
}
