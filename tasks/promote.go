package tasks

import (
	"context"
	"fmt"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// moveScript moves a task that still stands as it was seen into another queue, unless there is one already. In one step, so that a
// producer that is killed leaves it in one of the two, and no worker finds it in both. It does not stand as it was seen if a worker had
// it meanwhile and has left other marks.
//
// KEYS[1] the task's hash, KEYS[2] its queue's pending list, KEYS[3] the sorted set of the state it was seen in, KEYS[4] the hash in
// the other queue, KEYS[5] that queue's pending list
// ARGV[1] the id, ARGV[2] the state it was seen in, ARGV[3] the result it was seen with, ARGV[4] the message and ARGV[5] the time, as
// asynq's own script writes them, ARGV[6] the prefix of marks, ARGV[7...] the marks it was seen with: name, value
//
// Returns 1 if it was moved, 0 if it stands otherwise by now, -1 if there is one in the other queue.
var moveScript = redis.NewScript(`
local state = redis.call("HGET", KEYS[1], "state") or ""
local result = redis.call("HGET", KEYS[1], "result") or ""
if state ~= ARGV[2] or result ~= ARGV[3] then
	return 0
end
local seen, all, marks = {}, redis.call("HGETALL", KEYS[1]), 0
for i = 7, #ARGV, 2 do seen[ARGV[i]] = ARGV[i+1] end
for i = 1, #all, 2 do
	if string.sub(all[i], 1, #ARGV[6]) == ARGV[6] then
		if seen[all[i]] ~= all[i+1] then return 0 end
		marks = marks + 2
	end
end
if marks ~= #ARGV - 6 then return 0 end
if redis.call("EXISTS", KEYS[4]) == 1 then
	return -1
end
if state == "pending" then
	redis.call("LREM", KEYS[2], -1, ARGV[1]) -- from where the oldest are: they are enqueued again first
else
	redis.call("ZREM", KEYS[3], ARGV[1])
end
redis.call("DEL", KEYS[1])
redis.call("HSET", KEYS[4], "msg", ARGV[4], "state", "pending", "pending_since", ARGV[5])
redis.call("LPUSH", KEYS[5], ARGV[1])
return 1`)

// promote moves a copy from the bulk queue to the urgent one, as it is: with its batch, its reference, and the worker's marks, which
// travel as task headers of the same names. again says that things have changed meanwhile.
func (p *Producer) promote(ctx context.Context, own task, c copyOf, res Result) (moved Result, again bool, err error) {
	t := own
	t.payload, t.unmistakable = c.payload, true
	if t.headers, err = p.marks(ctx, c); err != nil {
		return Result{}, false, err
	}
	if !c.recall.RecallBy.IsZero() {
		t.recallBy = c.recall.RecallBy // its own, since its payload is
	}
	inTheWay, again, err := p.move(ctx, c, t)
	if err != nil || again {
		return Result{}, again, err
	}
	if inTheWay != nil { // another producer has enqueued it urgent meanwhile
		removed, _, err := p.remove(ctx, c)
		if err != nil || !removed {
			return Result{}, err == nil, err
		}
		return res.duplicate(*inTheWay), false, p.giveWay(ctx, c, inTheWay.recall)
	}
	twin, err := p.oneTask(ctx, t, c.recall, Urgent)
	if err != nil {
		return Result{}, false, err
	}
	if twin != nil {
		return res.duplicate(*twin), false, p.giveWay(ctx, c, twin.recall)
	}
	res = res.duplicate(c)
	res.Queue, res.Promoted = t.queue, true
	p.wake(ctx, t.queue, Urgent)
	return res, false, nil
}

// marks reads what the worker has noted at a task.
func (p *Producer) marks(ctx context.Context, c copyOf) (map[string]string, error) {
	all, err := p.rdb.HGetAll(ctx, TaskKey(c.queue, c.id)).Result()
	if err != nil {
		return nil, fmt.Errorf("looking for %s in %s: %w", c.id, c.queue, err)
	}
	marks := map[string]string{}
	for name, value := range all {
		if strings.HasPrefix(name, MarkPrefix) {
			marks[name] = value
		}
	}
	return marks, nil
}

// move puts a task in the place of a copy in the other queue. It returns what is in its way there.
func (p *Producer) move(ctx context.Context, c copyOf, t task) (inTheWay *copyOf, again bool, err error) {
	if err := p.due.tell(ctx, p.rdb, t.queue, t.recallBy); err != nil {
		return nil, false, err
	}
	hand := &capture{UniversalClient: p.rdb}
	if err := enqueueWith(ctx, asynq.NewClientFromRedisClient(hand), t); err != nil || hand.last == nil {
		return nil, false, fmt.Errorf("enqueueing %s: %w", t.id, err)
	}
	state := c.state
	if state == "pending" {
		state = "archived" // any set of the queue: the script does not touch it
	}
	keys := append([]string{TaskKey(c.queue, c.id), QueueKey(c.queue, "pending"), QueueKey(c.queue, state)}, hand.last.keys...)
	args := []any{c.id, c.state, c.result, hand.last.args[0], hand.last.args[2], MarkPrefix}
	for name, value := range t.headers {
		args = append(args, name, value)
	}
	wait := rescueFirst
	for tries := 1; ; tries++ {
		n, err := moveScript.Run(ctx, p.rdb, keys, args...).Int()
		switch {
		case redis.HasErrorPrefix(err, "CROSSSLOT"):
			return p.copyFirst(ctx, t)
		case err != nil && (tries == looks || ctx.Err() != nil):
			return nil, false, fmt.Errorf("moving %s to %s: %w", c.id, t.queue, err)
		case err != nil:
			pause(ctx, wait)
			wait *= 2
			continue
		case n == 1:
			return nil, false, nil
		}
		there, err := p.look(ctx, t.queue, t.id)
		switch {
		case err != nil:
			return nil, false, err
		case t.wrote(there):
			return nil, false, nil // an answer was lost on the way
		case n == 0, there.verdict() == absent:
			return nil, true, nil
		case there.verdict() == failed:
			_, _, err := p.remove(ctx, there)
			return nil, true, err
		}
		return &there, false, nil
	}
}

// copyFirst is move for a Redis Cluster, where no script may touch both queues. The recall is in both for a moment, and whoever is killed
// then leaves it there: a vendor may be asked twice, but nothing is lost. Its twin goes when it is looked for.
func (p *Producer) copyFirst(ctx context.Context, t task) (inTheWay *copyOf, again bool, err error) {
	done, err := p.settle(ctx, t)
	if err != nil || done.enqueued {
		return nil, false, err
	}
	return &done.inTheWay, false, nil
}
