package tasks

import (
	"context"
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
	rdb   redis.Scripter
	batch string

	cancelled atomic.Bool
	kick      chan struct{} // holds a token when there is something to count
	done      chan struct{} // closed: stop
	wg        sync.WaitGroup

	mu      sync.Mutex
	waiting []Count

	sending sync.Mutex // held while a step is made, so that steps keep their order
}

func newTally(rdb redis.Scripter, batch string) *tally {
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
		t.mu.Lock()
		step := t.waiting[:min(len(t.waiting), mostCounts)]
		t.mu.Unlock()
		if len(step) == 0 {
			return nil
		}
		cancelled, err := CountIn(ctx, t.rdb, t.batch, step...)
		if err != nil {
			return err
		}
		t.cancelled.Store(cancelled)
		t.mu.Lock()
		t.waiting = t.waiting[len(step):]
		if len(t.waiting) == 0 {
			t.waiting = nil
		}
		t.mu.Unlock()
	}
}

func (t *tally) stop() {
	close(t.done)
	t.wg.Wait()
}
