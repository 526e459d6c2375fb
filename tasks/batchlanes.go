package tasks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// LaneField begins the names of the fields of a batch's hash that say which lanes its recalls are for; the lane's name
// follows. Whoever watches a batch can then tell what it waits for.
const LaneField = "lane:"

// batchLanes writes which lanes a batch's recalls are for, each once. It is safe for concurrent use.
type batchLanes struct {
	rdb   redis.Cmdable
	batch string

	// mu is held while Redis is told: hundreds of callers with their first recalls are not to open a connection each.
	mu     sync.Mutex
	told   map[[2]string]bool // provider and app
	failed sharedFailure
}

// tell writes a lane before its first recall is enqueued.
func (l *batchLanes) tell(ctx context.Context, provider, app string) error {
	lane, came := [2]string{provider, app}, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[lane] {
		return nil
	}
	if err := l.failed.since(came); err != nil {
		return err
	}
	name := Lane{Provider: provider, App: app}.Name()
	if err := l.rdb.HSet(ctx, BatchKey(l.batch), LaneField+name, 1).Err(); err != nil {
		err = fmt.Errorf("noting the lane %s in the batch %s: %w", name, l.batch, err)
		l.failed.note(ctx, err)
		return err
	}
	if l.told == nil {
		l.told = map[[2]string]bool{}
	}
	l.told[lane] = true
	return nil
}
