package tasks

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// LaneField begins the names of the fields of a batch's hash that say which lanes its recalls are for; the lane's name
// follows. Whoever watches a batch can then tell what it waits for.
const LaneField = "lane:"

// batchLanes writes which lanes a batch's recalls are for, each once. It is safe for concurrent use.
type batchLanes struct {
	rdb   redis.Cmdable
	batch string
	told  sync.Map
}

// tell writes a lane before its first recall is enqueued.
func (l *batchLanes) tell(ctx context.Context, provider, app string) error {
	name := Lane{Provider: provider, App: app}.Name()
	if _, told := l.told.Load(name); told {
		return nil
	}
	if err := l.rdb.HSet(ctx, BatchKey(l.batch), LaneField+name, 1).Err(); err != nil {
		return fmt.Errorf("noting the lane %s in the batch %s: %w", name, l.batch, err)
	}
	l.told.Store(name, true)
	return nil
}
