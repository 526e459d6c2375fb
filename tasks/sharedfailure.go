package tasks

import (
	"context"
	"time"
)

// sharedFailure is the last one of what one caller does for all that wait behind a lock. Those who came before it share it: when Redis is away,
// each would otherwise find that out for itself, seconds after the one before. It is guarded by that lock.
type sharedFailure struct {
	err error
	at  time.Time
}

// note keeps an error, unless it is that of the caller's own context.
func (f *sharedFailure) note(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.err, f.at = err, time.Now()
	}
}

// since returns the failure if it came after the given time.
func (f *sharedFailure) since(came time.Time) error {
	if f.at.After(came) {
		return f.err
	}
	return nil
}
