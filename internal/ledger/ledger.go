// Package ledger is the book of record: what became of each recall, in Redis, apart from asynq's own state.
//
// asynq keeps at most 10,000 archived tasks a queue, so its archive is a window for people and no record. An outcome is
// written here before asynq completes the task, and read before each call: there is no second call after an outcome, also
// when a worker died in between.
//
// What has to be known of an open recall between two calls (its attempts, whether an earlier call may have gone through) is
// kept in fields of asynq's own task hash, so that it goes when the task goes.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// OutcomesKey is the stream of outcomes that producers can read with a consumer group.
const OutcomesKey = "recallq:outcomes"

const (
	keepOutcomes = 24 * time.Hour
	mostOutcomes = 1_000_000
)

// Fields of asynq's task hash that are ours, beside asynq's "result".
const (
	fieldAttempts  = "rq_attempts"   // attempts so far
	fieldMaybe     = "rq_maybe"      // "1": a call was started that may have gone through
	fieldRefusals  = "rq_refusals"   // credentials and misconfigured answers so far
	fieldRefusedAt = "rq_refused_at" // when the first of them came, Unix ms
	fieldError     = "rq_error"      // why the recall ended without success
)

// Ledger writes and reads the book of record. It is safe for concurrent use.
type Ledger struct {
	rdb redis.UniversalClient
}

// New returns the ledger in rdb.
func New(rdb redis.UniversalClient) *Ledger { return &Ledger{rdb: rdb} }

// Task names a task of asynq's.
type Task struct{ Queue, ID string }

func (t Task) key() string { return "asynq:{" + t.Queue + "}:t:" + t.ID }

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
}

// Look reads what is on record.
func (l *Ledger) Look(ctx context.Context, t Task) (State, error) {
	v, err := l.rdb.HMGet(ctx, t.key(), "result", fieldAttempts, fieldMaybe, fieldRefusals, fieldRefusedAt, fieldError).Result()
	if err != nil {
		return State{}, fmt.Errorf("read the record of %s: %w", t.ID, err)
	}
	s := State{
		Attempts: int(number(v[1])),
		Maybe:    v[2] == "1",
		Refusals: int(number(v[3])),
	}
	s.Error, _ = v[5].(string)
	if at := number(v[4]); at > 0 {
		s.RefusedAt = time.UnixMilli(at)
	}
	if text, ok := v[0].(string); ok && text != "" {
		s.Outcome = new(tasks.Outcome)
		if err := json.Unmarshal([]byte(text), s.Outcome); err != nil {
			return State{}, fmt.Errorf("read the record of %s: %w", t.ID, err)
		}
	}
	return s, nil
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
		fieldAttempts, s.Attempts, fieldMaybe, maybe, fieldRefusals, s.Refusals, fieldRefusedAt, refusedAt).Err()
	if err != nil {
		return fmt.Errorf("write the record of %s: %w", t.ID, err)
	}
	return nil
}

// Reopen forgets the outcome of a recall that is to be tried again, and what led to it.
func (l *Ledger) Reopen(ctx context.Context, t Task) error {
	if err := l.rdb.HDel(ctx, t.key(), "result", fieldError, fieldRefusals, fieldRefusedAt).Err(); err != nil {
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
return 1`)

// Record writes an outcome: to its task, then to the stream. It may be repeated.
func (l *Ledger) Record(ctx context.Context, t Task, e Entry) error {
	result, err := json.Marshal(e.Outcome)
	if err != nil {
		return fmt.Errorf("record %s: %w", t.ID, err)
	}
	err = recordScript.Run(ctx, l.rdb, []string{t.key()}, result, e.Outcome.Attempts, e.Error).Err()
	if err != nil {
		return fmt.Errorf("record %s: %w", t.ID, err)
	}
	err = l.rdb.XAdd(ctx, &redis.XAddArgs{Stream: OutcomesKey, MaxLen: mostOutcomes, Approx: true, Values: e.values()}).Err()
	if err != nil {
		return fmt.Errorf("record %s on %s: %w", t.ID, OutcomesKey, err)
	}
	return nil
}

func (e Entry) values() []any {
	r := e.Recall
	sentAt := ""
	if !r.SentAt.IsZero() {
		sentAt = FormatTime(r.SentAt)
	}
	seq := ""
	if r.Batch != "" {
		seq = strconv.FormatInt(r.Seq, 10)
	}
	return []any{
		"id", e.ID, "provider", r.Provider, "app", r.App, "message_id", r.MessageID, "ref", r.Ref,
		"outcome", e.Outcome.Outcome, "code", e.Outcome.Code, "error", providers.Line(e.Error, providers.MaxMessage),
		"attempts", e.Outcome.Attempts, "batch", r.Batch, "seq", seq,
		"sent_at", sentAt, "finished_at", FormatTime(e.Outcome.FinishedAt),
	}
}

// Trim removes outcomes older than 24 hours from the stream, by now.
func (l *Ledger) Trim(ctx context.Context, now time.Time) error {
	oldest := strconv.FormatInt(now.Add(-keepOutcomes).UnixMilli(), 10)
	if err := l.rdb.XTrimMinIDApprox(ctx, OutcomesKey, oldest, 0).Err(); err != nil {
		return fmt.Errorf("trim %s: %w", OutcomesKey, err)
	}
	return nil
}

// FormatTime writes a time as everywhere in Redis: RFC 3339, UTC, with milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
