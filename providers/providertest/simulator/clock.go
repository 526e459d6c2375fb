package simulator

import (
	"sync"
	"time"
)

// clock is the vendors' clock: another one, shifted and sped up.
type clock struct {
	source func() time.Time
	start  time.Time
	speed  float64

	mu    sync.Mutex
	shift time.Duration
}

func newClock(source func() time.Time, shift time.Duration, speed float64) *clock {
	return &clock{source: source, start: source(), speed: speed, shift: shift}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.source()
	if c.speed != 1 {
		t = c.start.Add(time.Duration(float64(t.Sub(c.start)) * c.speed))
	}
	// Without the reading of the monotonic clock, so that differences are those of the times that the ledger shows.
	return t.Add(c.shift).Round(0).UTC()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += d
}
