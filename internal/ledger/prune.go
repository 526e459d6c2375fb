package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

const (
	// keepArchived is how long failed tasks stay in asynq's archive.
	keepArchived = 7 * 24 * time.Hour
	// pruneStep is how many are removed in one step. asynq trims its archive on each failure, and does not bear it when
	// thousands are due at once.
	pruneStep = 100
)

// pruneScript removes the oldest archived tasks of a queue.
//
// KEYS[1] the archive; ARGV[1] Unix seconds, up to which; ARGV[2] how many at most; ARGV[3] what a task's key begins with
var pruneScript = redis.NewScript(`
local old = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(old) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('DEL', ARGV[3] .. id)
end
return #old`)

// Prune removes archived tasks of a queue that failed more than 7 days before now, 100 at a time, and returns how many. The
// batches keep their failures.
func (l *Ledger) Prune(ctx context.Context, queue string, now time.Time) (int, error) {
	cutoff := strconv.FormatInt(now.Add(-keepArchived).Unix(), 10)
	pruned := 0
	for {
		n, err := pruneScript.Run(ctx, l.rdb, []string{tasks.QueueKey(queue, "archived")}, cutoff, pruneStep, tasks.TaskKey(queue, "")).Int()
		if err != nil {
			return pruned, fmt.Errorf("prune the archive of %s: %w", queue, err)
		}
		pruned += n
		if n < pruneStep {
			return pruned, nil
		}
	}
}

// forgetScript drops a batch's name from the list, unless a new one of the name was begun since it was listed.
//
// KEYS[1] the list; ARGV[1] the name; ARGV[2] when the batch was created, as the list had it
var forgetScript = redis.NewScript(`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) ~= tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])`)

// Tidy drops the names of batches that Redis keeps no more.
func (l *Ledger) Tidy(ctx context.Context, now time.Time) error {
	listed, err := l.rdb.ZRangeWithScores(ctx, tasks.BatchesKey, 0, -1).Result()
	if err != nil {
		return fmt.Errorf("list the batches: %w", err)
	}
	exist := make([]*redis.IntCmd, len(listed))
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, batch := range listed {
			exist[i] = pipe.Exists(ctx, tasks.BatchKey(batch.Member.(string)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the batches: %w", err)
	}
	for i, batch := range listed {
		if exist[i].Val() > 0 {
			continue
		}
		created := strconv.FormatFloat(batch.Score, 'f', -1, 64)
		if err := forgetScript.Run(ctx, l.rdb, []string{tasks.BatchesKey}, batch.Member, created).Err(); err != nil {
			return fmt.Errorf("forget the batch %s: %w", batch.Member, err)
		}
	}
	_, err = l.Cancelled(ctx, now)
	return err
}
