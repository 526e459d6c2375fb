package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// Fields of a batch's hash, beside one counter for each outcome.
const (
	fieldTotal        = "total"
	fieldDuplicate    = tasks.Duplicate
	fieldBy           = "created_by"
	fieldCreatedAt    = "created_at"
	fieldReason       = "reason"
	fieldInputs       = "inputs"
	fieldReading      = "reading"
	fieldLastRecallBy = "last_recall_by"
	fieldNextSeq      = "next_seq"
	fieldCancelledAt  = "cancelled_at"
	fieldCancelledBy  = "cancelled_by"
)

// lostAfter is how long after its last recall_by a batch has ended whatever is still open.
const lostAfter = time.Hour

// ErrNoBatch is returned for a batch that does not exist, or no more.
var ErrNoBatch = errors.New("there is no such batch; enqueue batches lists them, and each is kept 7 days after its latest recall_by")

// Batch is how a batch stands.
//
// Total is always the sum of Outcomes, Duplicate and Open.
type Batch struct {
	Name      string
	Total     int64
	Outcomes  map[string]int64 // one counter for each of [tasks.Outcomes]
	Duplicate int64
	// Open is how many recalls have no outcome yet.
	Open int64
	// By, Reason and CreatedAt are who began it, why and when. Texts are one line without control characters, as people are
	// to see them; Fields has them as they were written.
	By, Reason string
	CreatedAt  time.Time
	// Inputs is how many inputs it has, and Reading how many of them were not read to their ends yet.
	Inputs, Reading int64
	// LastRecallBy is when the last of its windows closes; zero if nothing was enqueued yet.
	LastRecallBy time.Time
	// CancelledAt and CancelledBy are when it was cancelled and by whom; zero if it is not.
	CancelledAt time.Time
	CancelledBy string
	// Fields is the hash as it stands in Redis.
	Fields map[string]string
}

// Ended reports whether the batch has ended by now: nothing is open and its inputs were read to their ends, or its last
// recall_by was an hour ago. A cancelled one need not wait for its inputs: they go on only if they are run again, and that
// takes the cancellation back.
func (b Batch) Ended(now time.Time) bool {
	begun := b.Inputs > 0 || b.Total > 0
	if begun && b.Open == 0 && (b.Reading <= 0 || !b.CancelledAt.IsZero()) {
		return true
	}
	return !b.LastRecallBy.IsZero() && !now.Before(b.LastRecallBy.Add(lostAfter))
}

// Lost is how many recalls were still open when the batch had ended: removed by hand, or lost by Redis.
func (b Batch) Lost(now time.Time) int64 {
	if !b.Ended(now) {
		return 0
	}
	return b.Open
}

// Failed is how many recalls ended without success.
func (b Batch) Failed() int64 {
	var n int64
	for outcome, count := range b.Outcomes {
		if !tasks.Succeeded(outcome) {
			n += count
		}
	}
	return n
}

// Succeeded is how many recalls were taken back.
func (b Batch) Succeeded() int64 {
	return b.Outcomes[tasks.Recalled] + b.Outcomes[tasks.AlreadyRecalled]
}

func readBatch(name string, fields map[string]string) Batch {
	count := func(field string) int64 {
		n, _ := strconv.ParseInt(fields[field], 10, 64)
		return n
	}
	at := func(field string) time.Time {
		t, _ := time.Parse(time.RFC3339, fields[field])
		return t
	}
	b := Batch{
		Name: name, Total: count(fieldTotal), Outcomes: map[string]int64{}, Duplicate: count(fieldDuplicate),
		By: oneLine(fields[fieldBy]), Reason: oneLine(fields[fieldReason]), CreatedAt: at(fieldCreatedAt),
		Inputs: count(fieldInputs), Reading: count(fieldReading), LastRecallBy: at(fieldLastRecallBy),
		CancelledAt: at(fieldCancelledAt), CancelledBy: oneLine(fields[fieldCancelledBy]), Fields: fields,
	}
	b.Open = b.Total - b.Duplicate
	for _, outcome := range tasks.Outcomes() {
		b.Outcomes[outcome] = count(outcome)
		b.Open -= b.Outcomes[outcome]
	}
	return b
}

// longest bounds texts of a batch that people are shown. What enqueue takes is shorter.
const longest = 4096

func oneLine(text string) string { return providers.Line(text, longest) }

// Batch reads how a batch stands, in one consistent look. The error is [ErrNoBatch] if there is none.
func (l *Ledger) Batch(ctx context.Context, name string) (Batch, error) {
	fields, err := l.rdb.HGetAll(ctx, tasks.BatchKey(name)).Result()
	if err != nil {
		return Batch{}, fmt.Errorf("read the batch %s: %w", name, err)
	}
	if len(fields) == 0 {
		return Batch{}, fmt.Errorf("batch %q: %w", name, ErrNoBatch)
	}
	return readBatch(name, fields), nil
}

// Batches reads all batches, newest first.
func (l *Ledger) Batches(ctx context.Context) ([]Batch, error) {
	names, err := l.rdb.ZRevRange(ctx, tasks.BatchesKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the batches: %w", err)
	}
	reads := make([]*redis.MapStringStringCmd, len(names))
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, name := range names {
			reads[i] = pipe.HGetAll(ctx, tasks.BatchKey(name))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the batches: %w", err)
	}
	var list []Batch
	for i, name := range names {
		if fields := reads[i].Val(); len(fields) > 0 {
			list = append(list, readBatch(name, fields))
		}
	}
	return list, nil
}

// stillReading is what the batch's hash of inputs has for one that was not read to its end yet.
const stillReading = "reading"

// ReadingInputs names the inputs of a batch that are being read, or whose reading was interrupted, in alphabetical order.
func (l *Ledger) ReadingInputs(ctx context.Context, batch string) ([]string, error) {
	inputs, err := l.rdb.HGetAll(ctx, tasks.BatchInputsKey(batch)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the inputs of the batch %s: %w", batch, err)
	}
	var names []string
	for name, state := range inputs {
		if state == stillReading {
			names = append(names, oneLine(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Knows reports whether inputs were read in a batch before, each of them.
func (l *Ledger) Knows(ctx context.Context, batch string, inputs ...string) (bool, error) {
	known, err := l.rdb.HMGet(ctx, tasks.BatchInputsKey(batch), inputs...).Result()
	if err != nil {
		return false, fmt.Errorf("read the inputs of the batch %s: %w", batch, err)
	}
	return !slices.Contains(known, nil), nil
}

// failuresAtOnce is how many failures are read in one round trip.
const failuresAtOnce = 500

// Failures reads the recalls of a batch that did not succeed, in no order, without holding them all in memory. A recall that
// fails or is reopened meanwhile may be among them or not, and one may come twice.
func (l *Ledger) Failures(ctx context.Context, batch string) iter.Seq2[tasks.Failure, error] {
	return func(yield func(tasks.Failure, error) bool) {
		var cursor uint64
		for {
			pairs, next, err := l.rdb.HScan(ctx, tasks.BatchFailuresKey(batch), cursor, "", failuresAtOnce).Result()
			if err != nil {
				yield(tasks.Failure{}, fmt.Errorf("read the failures of the batch %s: %w", batch, err))
				return
			}
			for i := 0; i+1 < len(pairs); i += 2 {
				if !yield(readFailure(batch, pairs[i], pairs[i+1])) {
					return
				}
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

func readFailure(batch, seq, text string) (tasks.Failure, error) {
	var f tasks.Failure
	if err := f.UnmarshalJSON([]byte(text)); err != nil {
		return f, fmt.Errorf("the failure %s of the batch %s: %w", seq, batch, err)
	}
	f.Recall.Batch = batch
	f.Recall.Seq, _ = strconv.ParseInt(seq, 10, 64)
	return f, nil
}

// cancelScript marks a batch as cancelled, unless it was already.
var cancelScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
if redis.call('HSETNX', KEYS[1], 'cancelled_at', ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'cancelled_by', ARGV[2])
return 1`)

// Cancel cancels a batch: its calls that have not started are not made, and its recalls end as cancelled. Recalls that are
// promoted stay in their batch; duplicates belong to others. It may be repeated. [tasks.Producer.OpenBatch] and
// [Ledger.Retry] of cancelled recalls take it back.
func (l *Ledger) Cancel(ctx context.Context, batch, by string, now time.Time) error {
	n, err := cancelScript.Run(ctx, l.rdb, []string{tasks.BatchKey(batch)}, tasks.FormatTime(now), by).Int()
	if err == nil && n < 0 {
		return fmt.Errorf("batch %q: %w", batch, ErrNoBatch)
	}
	if err == nil {
		_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.SAdd(ctx, tasks.CancelledKey, batch)
			pipe.Publish(ctx, tasks.WakeChannel, tasks.CancelledWake)
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("cancel the batch %s: %w", batch, err)
	}
	return nil
}

// Cancelled lists the cancelled batches that have recalls open and have not ended by now. One is listed again when a producer
// that has not noticed yet enqueues more in it, from the moment that is counted.
func (l *Ledger) Cancelled(ctx context.Context, now time.Time) ([]string, error) {
	names, err := l.rdb.SMembers(ctx, tasks.CancelledKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the cancelled batches: %w", err)
	}
	var open []string
	for _, name := range names {
		b, err := l.Batch(ctx, name)
		switch {
		case err == nil && !b.CancelledAt.IsZero() && b.Open > 0 && !b.Ended(now):
			open = append(open, name)
		case errors.Is(err, ErrNoBatch), err == nil && b.CancelledAt.IsZero():
			err = l.rdb.SRem(ctx, tasks.CancelledKey, name).Err()
		}
		if err != nil && !errors.Is(err, ErrNoBatch) {
			return nil, err
		}
	}
	return open, nil
}

// Cancellation says who has cancelled a batch and when; empty if nobody has.
func (l *Ledger) Cancellation(ctx context.Context, batch string) (string, error) {
	fields, err := l.rdb.HMGet(ctx, tasks.BatchKey(batch), fieldCancelledAt, fieldCancelledBy).Result()
	if err != nil {
		return "", fmt.Errorf("read the batch %s: %w", batch, err)
	}
	return cancellation(batch, fields), nil
}

// cancellation says who has cancelled a batch and when, from the fields of its hash; empty if nobody has.
func cancellation(batch string, fields []any) string {
	at, _ := fields[0].(string)
	if at == "" {
		return ""
	}
	by, _ := fields[1].(string)
	if by = oneLine(by); by == "" {
		by = "somebody"
	}
	return fmt.Sprintf("the batch %s was cancelled by %s at %s", batch, by, oneLine(at))
}
