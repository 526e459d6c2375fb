package tasks

import (
	"context"
	"sync"
	"time"
)

// sharedFailure is the last one of what one caller does for all that wait behind a lock. Those who came before it share it: when Redis is
// away, each would otherwise find that out for itself, seconds after the one before. It is safe for concurrent use.
type sharedFailure struct {
	mu  sync.Mutex
	err error
	at  time.Time
}

// note keeps an error, unless it is that of the caller's own context.
func (f *sharedFailure) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.at = err, time.Now()
}

// since returns the failure if it came after the given time.
func (f *sharedFailure) since(came time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.After(came) {
		return f.err
	}
	return nil
}
