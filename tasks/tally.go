package tasks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// countEvery is how long a count waits for company.
	countEvery = 20 * time.Millisecond
	// mostCounts is how many go into one step: a script that counts so many keeps Redis for about a millisecond.
	mostCounts = 512
)

// tally counts the recalls of one batch, many in one step and in the order in which they came. Its method add never waits.
type tally struct {
	rdb   redis.UniversalClient
	batch string

	cancelled atomic.Bool
	kick      chan struct{} // holds a token when there is something to count
	done      chan struct{} // closed: stop
	stopped   sync.Once
	wg        sync.WaitGroup

	mu      sync.Mutex
	waiting []Count
	unsure  int // how many of them, the first ones, were added before Redis was away

	sending sync.Mutex // held while a step is made, so that steps keep their order
}

func newTally(rdb redis.UniversalClient, batch string) *tally {
	t := &tally{rdb: rdb, batch: batch, kick: make(chan struct{}, 1), done: make(chan struct{})}
	t.wg.Go(t.run)
	return t
}

func (t *tally) add(c Count) {
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	t.mu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// run counts what waits, again and again. An error is not its business: the counts stay, and flush tells it.
func (t *tally) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.NewTimer(countEvery)
	defer timer.Stop()
	for {
		select {
		case <-t.done:
			return
		case <-t.kick:
		}
		_ = t.flush(ctx)
		timer.Reset(countEvery)
		select {
		case <-t.done:
			return
		case <-timer.C:
		}
	}
}

// flush counts all that waits.
func (t *tally) flush(ctx context.Context) error {
	t.sending.Lock()
	defer t.sending.Unlock()
	for {
		step, unsure := t.next()
		if len(step) == 0 {
			return nil
		}
		counts, err := step, error(nil)
		if unsure {
			counts, err = t.withTasks(ctx, step)
		}
		if err == nil && len(counts) > 0 {
			var cancelled bool
			if cancelled, err = CountIn(ctx, t.rdb, t.batch, counts...); err == nil {
				t.cancelled.Store(cancelled)
			}
		}
		if err != nil {
			t.doubt()
			return err
		}
		t.drop(len(step))
	}
}

// next is what the next step counts.
func (t *tally) next() (step []Count, unsure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.waiting), mostCounts)
	if t.unsure > 0 {
		n = min(n, t.unsure)
	}
	return t.waiting[:n], t.unsure > 0
}

// doubt notes that Redis was away: it may come back without the tasks that were enqueued before.
func (t *tally) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsure = len(t.waiting)
}

func (t *tally) drop(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsure = max(0, t.unsure-n)
	if t.waiting = t.waiting[n:]; len(t.waiting) == 0 {
		t.waiting = nil
	}
}

// withTasks leaves out recalls that were enqueued and have no task any more: they are not open but lost. One that has ended meanwhile,
// so that its task is gone, its worker has counted.
func (t *tally) withTasks(ctx context.Context, step []Count) ([]Count, error) {
	pipe := t.rdb.Pipeline()
	exist := make([]*redis.IntCmd, 0, 2*len(step))
	for _, c := range step {
		provider, app, p, _ := ParseQueue(c.queue)
		exist = append(exist, pipe.Exists(ctx, TaskKey(c.queue, c.ID)), pipe.Exists(ctx, TaskKey(Queue(provider, app, p.other()), c.ID)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("looking for tasks of the batch %s: %w", t.batch, err)
	}
	var kept []Count
	for i, c := range step {
		if c.queue == "" || exist[2*i].Val()+exist[2*i+1].Val() > 0 {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

func (t *tally) stop() {
	t.stopped.Do(func() { close(t.done) })
	t.wg.Wait()
}
