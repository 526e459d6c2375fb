package main

import (
	"sync"
	"time"
)

// outage is one time without Redis, shared by all writers. It is safe for concurrent use.
type outage struct {
	mu    sync.Mutex
	since time.Time
}

// began notes that Redis is away, and says since when.
func (o *outage) began(now time.Time) (since time.Time, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first = o.since.IsZero()
	if first {
		o.since = now
	}
	return o.since, first
}

// over notes that Redis has answered, and reports whether it was away.
func (o *outage) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := !o.since.IsZero()
	o.since = time.Time{}
	return was
}
