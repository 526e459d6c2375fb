// Package ledger is the book of record: what became of each recall, in Redis, apart from asynq's own state.
//
// asynq keeps at most 10,000 archived tasks a queue, so its archive is a window for people and no record. An outcome is
// written here before asynq completes the task, and read before each call: there is no second call after an outcome, also
// when a worker died in between.
//
// A recall counts once in its batch, under its last outcome, and a success is never replaced: package tasks has the script, since
// whoever enqueues counts as well. The batch also keeps each recall that did not succeed, as a row of input.
//
// What has to be known of an open recall between two calls (its attempts, whether an earlier call may have gone through) is
// kept in fields of asynq's own task hash, so that it goes when the task goes.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

const (
	keepOutcomes = 24 * time.Hour
	mostOutcomes = 1_000_000
)

// Fields of asynq's task hash that are ours, beside asynq's "result".
const (
	fieldAttempts  = "rq_attempts" // attempts so far
	fieldMaybe     = tasks.MaybeMark
	fieldRefusals  = "rq_refusals"   // credentials and misconfigured answers so far
	fieldRefusedAt = "rq_refused_at" // when the first of them came, Unix ms
	fieldCode      = "rq_code"       // of the last answer
)

// Ledger writes and reads the book of record. It is safe for concurrent use.
type Ledger struct {
	rdb    redis.UniversalClient
	loaded atomic.Bool // Redis was told the scripts
}

// New returns the ledger in rdb.
func New(rdb redis.UniversalClient) *Ledger { return &Ledger{rdb: rdb} }

// Task names a task of asynq's.
type Task struct{ Queue, ID string }

func (t Task) key() string { return tasks.TaskKey(t.Queue, t.ID) }

// State is what is on record for an open recall.
type State struct {
	// Outcome is how the recall ended, and Error why, if it did not succeed; nil while it is open.
	Outcome *tasks.Outcome
	Error   string
	// Attempts is the number of attempts so far.
	Attempts int
	// Maybe is true if a call was started that may have gone through.
	Maybe bool
	// Refusals is how many credentials and misconfigured answers came so far, and RefusedAt when the first did.
	Refusals  int
	RefusedAt time.Time
	// Code is that of the last answer, as outcomes have it; empty if there was none, or no usable one.
	Code string
	// Cancelled says who has cancelled the recall's batch and when; empty if nobody has.
	Cancelled string
}

// Look reads what is on record of a recall.
func (l *Ledger) Look(ctx context.Context, t Task) (State, error) { return l.LookIn(ctx, t, "") }

// LookIn reads what is on record of a recall and whether its batch is cancelled, in one round trip. batch may be empty.
func (l *Ledger) LookIn(ctx context.Context, t Task, batch string) (State, error) {
	pipe := l.rdb.Pipeline()
	marks := pipe.HMGet(ctx, t.key(), "result", fieldAttempts, fieldMaybe, fieldRefusals, fieldRefusedAt, tasks.ErrorMark, fieldCode)
	var cancelled *redis.SliceCmd
	if batch != "" {
		cancelled = pipe.HMGet(ctx, tasks.BatchKey(batch), fieldCancelledAt, fieldCancelledBy)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return State{}, fmt.Errorf("read the record of %s: %w", t.ID, err)
	}
	s := stateOf(marks.Val())
	if batch != "" {
		s.Cancelled = cancellation(batch, cancelled.Val())
	}
	return s, nil
}

func stateOf(v []any) State {
	s := State{
		Attempts: int(number(v[1])),
		Maybe:    v[2] == "1",
		Refusals: int(number(v[3])),
	}
	s.Error, _ = v[5].(string)
	s.Code, _ = v[6].(string)
	if at := number(v[4]); at > 0 {
		s.RefusedAt = time.UnixMilli(at)
	}
	if text, ok := v[0].(string); ok && text != "" {
		s.Outcome = new(tasks.Outcome)
		if json.Unmarshal([]byte(text), s.Outcome) != nil {
			s.Outcome = nil // a result that is not ours says nothing about how the recall ended
		}
	}
	return s
}

func number(v any) int64 {
	s, _ := v.(string)
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// setScript sets fields of a task, unless it was removed meanwhile: a hash with our fields alone would block its id for ever.
var setScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1`)

// Save writes what is to be known of an open recall before its next call. The outcome is not written.
func (l *Ledger) Save(ctx context.Context, t Task, s State) error {
	maybe := "0"
	if s.Maybe {
		maybe = "1"
	}
	var refusedAt int64
	if !s.RefusedAt.IsZero() {
		refusedAt = s.RefusedAt.UnixMilli()
	}
	err := setScript.Run(ctx, l.rdb, []string{t.key()},
		fieldAttempts, s.Attempts, fieldMaybe, maybe, fieldRefusals, s.Refusals, fieldRefusedAt, refusedAt, fieldCode, s.Code).Err()
	if err != nil {
		return fmt.Errorf("write the record of %s: %w", t.ID, err)
	}
	return nil
}

// Reopen forgets the outcome of a recall that is to be tried again, and what led to it. In its batch the recall is open
// again.
func (l *Ledger) Reopen(ctx context.Context, t Task, r tasks.Recall) error {
	if r.Batch != "" {
		c := tasks.Count{Seq: r.Seq, ID: t.ID, As: tasks.Open, Reopened: true, RecallBy: r.RecallBy}
		if _, err := tasks.CountIn(ctx, l.rdb, r.Batch, c); err != nil {
			return fmt.Errorf("reopen %s: %w", t.ID, err)
		}
	}
	if err := l.rdb.HDel(ctx, t.key(), "result", tasks.ErrorMark, fieldRefusals, fieldRefusedAt, fieldCode).Err(); err != nil {
		return fmt.Errorf("reopen %s: %w", t.ID, err)
	}
	return nil
}

// Entry is an outcome with all that is told of it.
type Entry struct {
	ID      string
	Recall  tasks.Recall
	Outcome tasks.Outcome
	Error   string // one line of at most 200 bytes; empty after a success
	// Maybe is true if a call may have gone through all the same; for when the recall is tried again.
	Maybe bool
}

// recordScript writes an outcome to its task; a success is never replaced. It returns 1 if the task has it.
var recordScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local have = redis.call('HGET', KEYS[1], 'result')
if have then
  local ok, outcome = pcall(function() return cjson.decode(have).outcome end)
  if ok and (outcome == 'recalled' or outcome == 'already_recalled') then return 1 end
end
redis.call('HSET', KEYS[1], 'result', ARGV[1], 'rq_attempts', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'rq_error', ARGV[3]) end
if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'rq_maybe', 1) else redis.call('HDEL', KEYS[1], 'rq_maybe') end
return 1`)

// Record writes an outcome: to its task, to its batch and to the stream, in this order and in one round trip. After an error it has
// to be repeated with [Ledger.RecordAgain].
func (l *Ledger) Record(ctx context.Context, t Task, e Entry) error {
	if err := l.record(ctx, t, e); err != nil {
		return fmt.Errorf("record %s: %w", t.ID, err)
	}
	return nil
}

// RecordAgain is Record step by step, and none after one that fails: what fails again and again must not fill the stream.
func (l *Ledger) RecordAgain(ctx context.Context, t Task, e Entry) error {
	err := l.recordSteps(ctx, t, e)
	if err != nil {
		return fmt.Errorf("record %s: %w", t.ID, err)
	}
	return nil
}

func (l *Ledger) recordSteps(ctx context.Context, t Task, e Entry) error {
	args, err := e.recordArgs()
	if err != nil {
		return err
	}
	if err := recordScript.Run(ctx, l.rdb, []string{t.key()}, args...).Err(); err != nil {
		return err
	}
	if e.Recall.Batch != "" {
		if _, err := tasks.CountIn(ctx, l.rdb, e.Recall.Batch, e.count()); err != nil {
			return err
		}
	}
	return l.Tell(ctx, e.event())
}

// recordArgs are the arguments of recordScript.
func (e Entry) recordArgs() ([]any, error) {
	result, err := json.Marshal(e.Outcome)
	return []any{result, e.Outcome.Attempts, e.Error, e.Maybe}, err
}

func (l *Ledger) record(ctx context.Context, t Task, e Entry) error {
	recordArgs, err := e.recordArgs()
	if err != nil {
		return err
	}
	count, keys, args, err := tasks.CountScript(e.Recall.Batch, e.count())
	if err != nil {
		return err
	}
	write := func(pipe redis.Pipeliner) error {
		recordScript.EvalSha(ctx, pipe, []string{t.key()}, recordArgs...)
		if e.Recall.Batch != "" {
			count.EvalSha(ctx, pipe, keys, args...)
		}
		pipe.XAdd(ctx, e.event().streamed())
		return nil
	}
	// Scripts cannot be sent in full among other commands. Loading them first saves the first record from coming twice.
	if !l.loaded.Load() {
		if err := l.load(ctx, count); err != nil {
			return err
		}
	}
	_, err = l.rdb.Pipelined(ctx, write)
	if redis.HasErrorPrefix(err, "NOSCRIPT") { // Redis was started again
		if err = l.load(ctx, count); err == nil {
			_, err = l.rdb.Pipelined(ctx, write)
		}
	}
	return err
}

func (l *Ledger) load(ctx context.Context, count *redis.Script) error {
	for _, s := range []*redis.Script{recordScript, count} {
		if err := s.Load(ctx, l.rdb).Err(); err != nil {
			return err
		}
	}
	l.loaded.Store(true)
	return nil
}

// count is what the recall counts as in its batch.
func (e Entry) count() tasks.Count {
	c := tasks.Count{Seq: e.Recall.Seq, ID: e.ID, As: e.Outcome.Outcome, RecallBy: e.Recall.RecallBy}
	if !tasks.Succeeded(c.As) {
		c.Failure = &tasks.Failure{Recall: e.Recall, ID: e.ID, Outcome: e.Outcome, Error: e.Error}
	}
	return c
}

// event is the outcome as the stream has it.
func (e Entry) event() Event {
	r, seq := e.Recall, int64(0)
	if r.Batch != "" {
		seq = r.Seq
	}
	return Event{
		ID: e.ID, Provider: r.Provider, App: r.App, MessageID: r.MessageID, Ref: r.Ref,
		Outcome: e.Outcome.Outcome, Code: e.Outcome.Code, Error: e.Error, Attempts: e.Outcome.Attempts, Batch: r.Batch, Seq: seq,
		SentAt: r.SentAt, FinishedAt: e.Outcome.FinishedAt,
	}
}

// Trim removes outcomes older than 24 hours from the stream, by now.
func (l *Ledger) Trim(ctx context.Context, now time.Time) error {
	oldest := strconv.FormatInt(now.Add(-keepOutcomes).UnixMilli(), 10)
	if err := l.rdb.XTrimMinIDApprox(ctx, tasks.OutcomesKey, oldest, 0).Err(); err != nil {
		return fmt.Errorf("trim %s: %w", tasks.OutcomesKey, err)
	}
	return nil
}
