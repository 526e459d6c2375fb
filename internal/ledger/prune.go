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

// Tidy drops the names of batches that Redis keeps no more.
func (l *Ledger) Tidy(ctx context.Context, now time.Time) error {
	names, err := l.rdb.ZRange(ctx, tasks.BatchesKey, 0, -1).Result()
	if err != nil {
		return fmt.Errorf("list the batches: %w", err)
	}
	exist := make([]*redis.IntCmd, len(names))
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, name := range names {
			exist[i] = pipe.Exists(ctx, tasks.BatchKey(name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the batches: %w", err)
	}
	for i, name := range names {
		if exist[i].Val() > 0 {
			continue
		}
		if err := l.rdb.ZRem(ctx, tasks.BatchesKey, name).Err(); err != nil {
			return fmt.Errorf("forget the batch %s: %w", name, err)
		}
	}
	_, err = l.Cancelled(ctx, now)
	return err
}
