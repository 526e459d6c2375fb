package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// This file knows how asynq v0.26 lays a task out in Redis: a hash asynq:{<queue>}:t:<id> with the fields msg, state and
// result, and one list or sorted set for each state. asynq's Inspector would do for looking and deleting, but it takes no
// context, and it deletes a task in whatever state it finds it: one that a worker has completed since we looked
// would be recalled a second time. Tests hold the layout, so that an asynq that changes it fails by name.

// MarkPrefix begins the names of the fields that the worker keeps in the task's hash beside asynq's own. Those of a task that
// is moved from the bulk to the urgent queue travel as task headers of the same names (asynq.Task.Headers), so that
// attempts and calls made go on counting.
const MarkPrefix = "rq_"

// MaybeMark is the mark that is "1" once a call was started that may have gone through, although no answer came.
const MaybeMark = MarkPrefix + "maybe"

// ErrorMark is the mark in which the worker leaves why a recall ended without success.
const ErrorMark = MarkPrefix + "error"

// States of a task in asynq.
const (
	stateActive    = "active"
	stateCompleted = "completed"
	stateArchived  = "archived"
)

// QueuesKey is asynq's set of all queues' names.
const QueuesKey = "asynq:queues"

// QueueKey returns the key under which asynq keeps a part of a queue: its lists pending and active, its sorted sets scheduled, retry,
// archived, completed and lease, and its mark paused.
func QueueKey(queue, part string) string { return "asynq:{" + queue + "}:" + part }

// statesOf returns the lists and sorted sets of a queue that hold its tasks: none of them exists if it has none.
func statesOf(queue string) []string {
	var keys []string
	for _, part := range []string{"pending", stateActive, "scheduled", "retry", stateArchived, stateCompleted} {
		keys = append(keys, QueueKey(queue, part))
	}
	return keys
}

// TaskKey returns the key of the hash in which asynq keeps a task, and the worker its marks.
func TaskKey(queue, id string) string { return QueueKey(queue, "t:"+id) }

// copyOf is one queue's copy of a recall, as it was when looked at.
type copyOf struct {
	queue, id string
	state     string  // empty: there is none
	result    string  // as it stands in Redis
	outcome   Outcome // what result says; zero if there is none
	reason    string  // why it ended without success
	payload   []byte
	recall    Recall // what could be read of payload
}

// verdict is what a copy means to a recall that is enqueued now.
type verdict int

const (
	absent  verdict = iota // there is none
	waiting                // open, and nobody works on it at this moment
	settled                // ended well, or a worker has it in its hands
	failed                 // ended without success: a new one may take its place
)

func (c copyOf) verdict() verdict {
	switch {
	case Succeeded(c.outcome.Outcome):
		return settled
	case c.state == "":
		return absent
	case c.state == stateActive, c.state == stateCompleted:
		return settled
	case c.state == stateArchived, c.outcome.Outcome != "":
		return failed
	}
	return waiting
}

func (c copyOf) existing() Existing {
	e := Existing{Standing: Open, Batch: c.recall.Batch, Seq: c.recall.Seq}
	switch {
	case c.outcome.Outcome != "":
		e.Standing = c.outcome.Outcome
	case c.state == stateArchived, c.state == stateCompleted:
		e.Standing = Ended
	}
	return e
}

// find is look for a copy that is hardly ever there.
func (p *Producer) find(ctx context.Context, queue, id string) (copyOf, error) {
	n, err := p.reader.Exists(ctx, TaskKey(queue, id)).Result()
	if err != nil {
		return copyOf{}, fmt.Errorf("looking for %s in %s: %w", id, queue, err)
	}
	if n == 0 {
		return copyOf{queue: queue, id: id}, nil
	}
	return p.look(ctx, queue, id)
}

// looked are the fields of a task's hash that make up a copyOf.
var looked = []string{"state", "result", "msg", ErrorMark}

// look reads one queue's copy of a recall.
func (p *Producer) look(ctx context.Context, queue, id string) (copyOf, error) {
	values, err := p.reader.HMGet(ctx, TaskKey(queue, id), looked...).Result()
	if err != nil {
		return copyOf{queue: queue, id: id}, fmt.Errorf("looking for %s in %s: %w", id, queue, err)
	}
	return readCopy(queue, id, values), nil
}

// readCopy reads the values of the fields looked for.
func readCopy(queue, id string, values []any) copyOf {
	c := copyOf{queue: queue, id: id}
	var msg string
	for i, to := range []*string{&c.state, &c.result, &msg, &c.reason} {
		*to, _ = values[i].(string)
	}
	if c.result != "" {
		var o Outcome
		// A result that is not ours says nothing about how the recall ended.
		if json.Unmarshal([]byte(c.result), &o) == nil {
			c.outcome = o
		}
	}
	if msg != "" {
		c.payload = payloadOf([]byte(msg))
		c.recall, _ = Decode(c.payload) // of a newer payload at least the batch can be read
	}
	return c
}

// payloadField is the number of the field "payload" in asynq's TaskMessage.
const payloadField = 2

// payloadOf takes the payload out of asynq's task message; nil if it has none or is none.
func payloadOf(msg []byte) []byte {
	for len(msg) > 0 {
		field, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return nil
		}
		msg = msg[n:]
		if field == payloadField && kind == protowire.BytesType {
			payload, n := protowire.ConsumeBytes(msg)
			if n < 0 {
				return nil
			}
			return payload
		}
		if n = protowire.ConsumeFieldValue(field, kind, msg); n < 0 {
			return nil
		}
		msg = msg[n:]
	}
	return nil
}

// removeScript deletes a task if it still stands as it was seen, and returns the worker's marks. One that was seen in a worker's hands is
// settled, and not removed.
//
// A hash without msg is no task: the rest of one that was deleted while a worker wrote to it, in the way of every new one. A
// task that is missing in its state's set is deleted all the same, because asynq's ArchiveAll leaves such behind.
//
// KEYS[1] the task's hash, KEYS[2] the pending list, KEYS[3] the sorted set of the state it was seen in
// ARGV[1] the id, ARGV[2] the state it was seen in, ARGV[3] the result it was seen with, ARGV[4] the
// prefix of marks
//
// Returns nil if it stands otherwise by now, else the marks as name, value, name, value.
var removeScript = redis.NewScript(`
local state = redis.call("HGET", KEYS[1], "state") or ""
local result = redis.call("HGET", KEYS[1], "result") or ""
if state ~= ARGV[2] or result ~= ARGV[3] then
	return nil
end
if state == "pending" then
	redis.call("LREM", KEYS[2], -1, ARGV[1]) -- from where the oldest are: they are enqueued again first
elseif state ~= "" then
	redis.call("ZREM", KEYS[3], ARGV[1])
end
local marks = {}
local all = redis.call("HGETALL", KEYS[1])
for i = 1, #all, 2 do
	if string.sub(all[i], 1, #ARGV[4]) == ARGV[4] then
		marks[#marks+1] = all[i]
		marks[#marks+1] = all[i+1]
	end
end
redis.call("DEL", KEYS[1])
return marks`)

// remove deletes a copy if it still stands as it was seen, and returns the marks that the worker had made at it. It is
// false if the copy has changed since.
func (p *Producer) remove(ctx context.Context, c copyOf) (bool, map[string]string, error) {
	if err := p.note(ctx, c); err != nil {
		return false, nil, err
	}
	return p.removeUnnoted(ctx, c)
}

// replace is remove for a copy that has failed and makes way for t. Where it counted as a duplicate in the batch of t, that is told, too.
// A call that may have gone through is remembered: its vendor may answer that the message is recalled already, or unknown for that reason.
func (p *Producer) replace(ctx context.Context, c copyOf, t *task) (bool, error) {
	if of := (Number{c.recall.Batch, c.recall.Seq}); t.batch != "" && t.batch != of.Batch && of.known() {
		if _, err := CountIn(ctx, p.rdb, t.batch, Count{ID: c.id, Of: of}); err != nil {
			return false, err
		}
	}
	removed, marks, err := p.remove(ctx, c)
	if marks[MaybeMark] == "1" {
		t.headers = map[string]string{MaybeMark: "1"}
	}
	return removed, err
}

func (p *Producer) removeUnnoted(ctx context.Context, c copyOf) (bool, map[string]string, error) {
	state := c.state
	if state == "" || state == "pending" {
		state = "archived" // any set of the queue: the script does not touch it
	}
	keys := []string{TaskKey(c.queue, c.id), QueueKey(c.queue, "pending"), QueueKey(c.queue, state)}
	list, err := removeScript.Run(ctx, p.rdb, keys, c.id, c.state, c.result, MarkPrefix).StringSlice()
	if errors.Is(err, redis.Nil) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("removing %s from %s: %w", c.id, c.queue, err)
	}
	marks := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		marks[list[i]] = list[i+1]
	}
	return true, marks, nil
}

// note makes sure that the batch of a copy knows it before the copy is removed: from then on nothing else tells which number
// its recall has there, and the batch's own input may be run again. The worker may have died before it counted the outcome.
func (p *Producer) note(ctx context.Context, c copyOf) error {
	r := c.recall
	if r.Batch == "" || r.Seq == 0 {
		return nil
	}
	n := Count{Seq: r.Seq, ID: c.id, As: c.outcome.Outcome, RecallBy: r.RecallBy}
	if n.As != "" {
		n.Failure = &Failure{Recall: r, ID: c.id, Outcome: c.outcome, Error: c.reason}
	}
	_, err := CountIn(ctx, p.rdb, r.Batch, n)
	return err
}

// task is a task on its way into its queue.
type task struct {
	id, kind, queue string
	batch           string
	payload         []byte
	headers         map[string]string
	retention       time.Duration
	recallBy        time.Time
	// unmistakable is true when nobody else can write the same payload, so that finding it means that we have.
	unmistakable bool
	// nowhere is true once a copy of the recall has been removed to make way for this one.
	nowhere bool
	// written is true once it was in its queue.
	written bool
}

// wrote reports whether c was written by this very task, the answer to which was lost on the way.
func (t task) wrote(c copyOf) bool { return t.unmistakable && bytes.Equal(c.payload, t.payload) }

func (p *Producer) enqueue(ctx context.Context, t task) error {
	if err := p.due.tell(ctx, p.rdb, t.queue, t.recallBy); err != nil {
		return err
	}
	return enqueueWith(ctx, p.client, t)
}

func enqueueWith(ctx context.Context, client *asynq.Client, t task) error {
	_, err := client.EnqueueContext(ctx, asynq.NewTaskWithHeaders(t.kind, t.payload, t.headers),
		asynq.TaskID(t.id), asynq.Queue(t.queue), asynq.MaxRetry(MaxRetry),
		asynq.Retention(t.retention), asynq.Timeout(TaskTimeout))
	return err
}

// settlement says how a task got into its queue, or what was in its way.
type settlement struct {
	enqueued bool
	replaced *copyOf // the failed copy that made way
	inTheWay copyOf  // if not enqueued
}

// Between two attempts to write a recall that is nowhere.
const (
	rescueFirst = 20 * time.Millisecond
	rescueMost  = time.Second
)

// settle enqueues a task in its own queue; a copy there that has failed makes way.
//
// Once a copy has been removed the recall is nowhere until the new one is written, so that from then on neither the end of
// the caller's context nor a passing error of Redis ends the attempts.
func (p *Producer) settle(ctx context.Context, t task) (settlement, error) {
	var s settlement
	unsure := false
	var deadline time.Time
	wait := rescueFirst
	for {
		if t.nowhere && deadline.IsZero() {
			deadline = time.Now().Add(p.rescueFor)
			rescue, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
			defer cancel()
			ctx = rescue
		}
		again, err := p.settleOnce(ctx, &t, &s, unsure)
		if err == nil && !again {
			return s, nil
		}
		if err != nil && !t.nowhere {
			return s, err
		}
		if err != nil && ctx.Err() != nil {
			return s, fmt.Errorf("the earlier task is removed, and the new one could not be written; enqueue it again: %w", err)
		}
		if err != nil {
			unsure = true // an answer may be lost, not the command
			pause(ctx, wait)
			wait = min(2*wait, rescueMost)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// settleOnce makes one attempt. It is to be made again if something made way, or changed while it was looked at.
func (p *Producer) settleOnce(ctx context.Context, t *task, s *settlement, unsure bool) (again bool, err error) {
	err = p.enqueue(ctx, *t)
	if err == nil {
		s.enqueued = true
		return false, nil
	}
	if !errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, fmt.Errorf("enqueueing %s: %w", t.id, err)
	}
	c, err := p.look(ctx, t.queue, t.id)
	if err != nil {
		return false, err
	}
	if t.wrote(c) || unsure && bytes.Equal(c.payload, t.payload) {
		s.enqueued = true
		return false, nil
	}
	v := c.verdict()
	if v == settled || v == waiting {
		s.inTheWay = c
		return false, nil
	}
	removed, err := p.replace(ctx, c, t)
	if err != nil {
		return false, err
	}
	if removed {
		t.nowhere = true
		if v == failed {
			s.replaced = &c
		}
	}
	return true, nil
}
