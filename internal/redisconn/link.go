package redisconn

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// calm is how long nothing may have failed before Redis counts as back. Commands on their way when it came back still run
	// into their time-outs, and a line in the log for each of them would say nothing.
	calm = time.Second
	// partialCalm is the same where some commands work while others fail: a node of a Cluster is away, or Redis takes no
	// writes. Those that fail are then some seconds apart.
	partialCalm = 15 * time.Second
	// steady is how long the reason that was told may not have been met before another one is: of a Redis that goes away, or of
	// several nodes, commands run into different errors in turn.
	steady = 3 * time.Second
	// lookEvery is how often a Redis that is away is asked whether it takes a write again, and probeKey what is written.
	lookEvery = 2 * time.Second
	probeKey  = "recallq:probe"
	// longReason is how much of an answer is told, in bytes.
	longReason = 200
	// hurried is how long a command may take once the program stops. A frozen Redis would otherwise cost each of the many last
	// commands its whole time-out, one after the other. A read that waits a second for news still fits.
	hurried = 1500 * time.Millisecond
)

// Link watches the way to Redis for all clients that it is added to, by what becomes of their commands: it tells when Redis
// goes away, for which reason, and when it is back, once for each change, and ends commands early once the program stops. It is safe for concurrent
// use.
type Link struct {
	cluster bool
	tell    func(Change)

	down  atomic.Bool
	until atomic.Pointer[time.Time] // commands end by then; nil: nobody is in a hurry

	mu       sync.Mutex // also keeps the order of what is told
	since    time.Time
	lastFail time.Time
	calm     time.Duration
	reason   string // that was told last; empty while Redis is there
	met      time.Time
}

// Change is that Redis went away, is away for another reason, or is back.
type Change struct {
	Down bool
	// Err is what the first command ran into. It is nil when Redis is back.
	Err error
	// Another is true if Redis was away already, for a reason that is not met any more.
	Another bool
	// Lasted is how long Redis was away; zero when it goes away.
	Lasted time.Duration
}

// NewLink returns a Link that calls tell at each change, from the goroutine whose command found it out. tell must not use the clients.
func NewLink(tell func(Change)) *Link { return &Link{tell: tell} }

// Watch adds a client. It is not safe for concurrent use.
func (l *Link) Watch(c redis.UniversalClient) {
	if _, ok := c.(*redis.ClusterClient); ok {
		l.cluster = true
	}
	c.AddHook(l)
}

// Down reports whether Redis is away, as far as the commands of this program have shown.
func (l *Link) Down() bool { return l.down.Load() }

// Reason says why Redis is away, in words that anybody may read; empty while it is there.
func (l *Link) Reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// Look asks a Redis that is away again and again whether it takes a write, until ctx is done, so that it is known soon: those who write
// may be far apart, and what is read tells nothing. While Redis is there, nothing is asked. The client is one of those that are watched.
// One write says nothing about the nodes of a Cluster.
func (l *Link) Look(ctx context.Context, rdb redis.UniversalClient) {
	l.look(ctx, func() error { return rdb.SetEx(ctx, probeKey, "", time.Minute).Err() })
}

func (l *Link) look(ctx context.Context, write func() error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !l.down.Load() || l.cluster {
			continue
		}
		if began := time.Now(); write() == nil {
			l.takesWrites(began)
		}
	}
}

// Hurry is for a program that stops: from now on no command that begins takes longer than a second and a half, none goes on
// after the given time, and nothing more is told.
func (l *Link) Hurry(until time.Time) { l.until.Store(&until) }

// DialHook implements redis.Hook.
func (l *Link) DialHook(next redis.DialHook) redis.DialHook {
	return next
}

// ProcessHook implements redis.Hook.
func (l *Link) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		within, cancel := l.bounded(ctx)
		defer cancel()
		err := next(within, cmd)
		l.note(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (l *Link) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		within, cancel := l.bounded(ctx)
		defer cancel()
		err := next(within, cmds)
		l.note(ctx, err)
		return err
	}
}

func (l *Link) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	until := l.until.Load()
	if until == nil {
		return ctx, func() {}
	}
	soon := time.Now().Add(hurried)
	if until.Before(soon) {
		soon = *until
	}
	return context.WithDeadline(ctx, soon)
}

// note learns from what became of a command. ctx is the caller's: that it has ended says nothing about Redis.
func (l *Link) note(ctx context.Context, err error) {
	if l.until.Load() != nil {
		return
	}
	failed, partial := failure(err)
	switch {
	case failed && ctx.Err() == nil:
		l.fail(err, partial || l.cluster)
	case !failed && l.down.Load():
		l.succeed()
	}
}

// Away reports whether an error means that Redis is away, or does not work for anybody now.
func Away(err error) bool {
	failed, _ := failure(err)
	return failed
}

// failure reports whether an error means that Redis is away, or does not work for anybody, and whether other commands may work all
// the same.
func failure(err error) (failed, partial bool) {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return false, false
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return true, false
	}
	switch {
	case redis.HasErrorPrefix(err, "LOADING"), redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"),
		redis.IsMaxClientsError(err):
		return true, false
	case redis.HasErrorPrefix(err, "READONLY"), redis.HasErrorPrefix(err, "MISCONF"), redis.HasErrorPrefix(err, "OOM"),
		redis.HasErrorPrefix(err, "NOREPLICAS"), redis.HasErrorPrefix(err, "CLUSTERDOWN"), redis.HasErrorPrefix(err, "MASTERDOWN"):
		return true, true
	}
	return false, false
}

func (l *Link) fail(err error, partial bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.lastFail = now
	l.calm = max(l.calm, calm)
	if partial {
		l.calm = partialCalm
	}
	reason := reasonOf(err)
	was := l.down.Load()
	if was && (reason == l.reason || now.Sub(l.met) < steady) {
		if reason == l.reason {
			l.met = now
		}
		return
	}
	if !was {
		l.since = now
	}
	l.reason, l.met = reason, now
	l.down.Store(true)
	l.tell(Change{Down: true, Err: err, Another: was})
}

// reasonOf tells errors apart as far as people have to do different things about them. What Redis answers is a fixed text without any
// secret; how it does not answer changes from command to command.
func reasonOf(err error) string {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return "it does not answer"
	}
	text, _, _ := strings.Cut(answer.Error(), "\n")
	if len(text) > longReason {
		text = text[:longReason]
	}
	return text
}

func (l *Link) succeed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.lastFail) >= l.calm {
		l.back()
	}
}

// takesWrites is for a write that has worked and began at the given time.
func (l *Link) takesWrites(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastFail.Before(began) && time.Since(l.lastFail) >= calm && l.until.Load() == nil {
		l.back()
	}
}

func (l *Link) back() {
	if !l.down.Load() {
		return
	}
	now := time.Now()
	l.down.Store(false)
	l.calm, l.reason = 0, ""
	l.tell(Change{Lasted: now.Sub(l.since)})
}
