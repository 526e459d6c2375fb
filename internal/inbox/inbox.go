package inbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

const (
	// blockFor is how long an empty stream is waited for in one command. Entries end the wait at once; a stop has to wait
	// for its end, because nothing else interrupts it.
	blockFor = time.Second
	// answerWithin is how long Redis may take to answer beyond that.
	answerWithin = 3 * time.Second
	// finishWithin is how long after a stop the entries in hand are still worked on.
	finishWithin = 3 * time.Second
	// stepSize is how many entries are read at a time. With the largest rows allowed they take 32 MiB.
	stepSize = 500
	// mostLeft is how many entries may have failed before no new ones are read until some of those have come through.
	mostLeft = stepSize

	// Between two attempts while Redis does not answer, or does not take what it is given.
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 2 * time.Second

	// takeoverEvery is how often entries are looked for whose consumer has left them alone for deadAfter.
	takeoverEvery = 10 * time.Second
	deadAfter     = 30 * time.Second
	// forgetAfter is how long a consumer without entries is kept after its last sign of life.
	forgetAfter = 10 * time.Minute

	refusalsEvery = 10 * time.Second // how often refusals are logged at most
)

// Options are what an inbox is made of.
type Options struct {
	// Redis is where the stream is. A waiting read holds one of its connections and takes a second, so that its ReadTimeout
	// has to be longer.
	Redis redis.UniversalClient
	// Producer enqueues the recalls; nil means one of the inbox's own.
	Producer *tasks.Producer
	// Instance is the consumer's name in the group: it tells this process from all others.
	Instance string
	Log      zerolog.Logger
}

// Inbox reads the stream. It is made by [New] and run once at a time.
type Inbox struct {
	rdb      redis.UniversalClient
	producer *tasks.Producer
	book     *ledger.Ledger
	consumer string
	log      zerolog.Logger

	deadAfter, takeoverEvery, forgetAfter time.Duration

	// What follows belongs to Run's goroutine.

	ready        bool // the group is there
	batches      map[string]*openBatch
	left         int  // entries that were handed to us and failed
	behind       bool // there may be such entries that we do not know of
	nextPass     time.Time
	pause        time.Duration
	troubled     bool
	nextTakeover time.Time
	refusals     refusals
}

// New returns an inbox that reads nothing yet.
func New(o Options) *Inbox {
	in := &Inbox{
		rdb: o.Redis, producer: o.Producer, book: ledger.New(o.Redis), consumer: cmp.Or(o.Instance, rand.Text()), log: o.Log,
		deadAfter: deadAfter, takeoverEvery: takeoverEvery, forgetAfter: forgetAfter,
		batches: map[string]*openBatch{}, pause: pauseFirst,
	}
	if in.producer == nil {
		in.producer = tasks.NewProducer(o.Redis)
	}
	return in
}

// Run turns entries into tasks until ctx is done, whatever happens to Redis meanwhile. It returns within about a second
// then, or, if Redis does not answer, within ten. Entries in hand are finished within three seconds; what is not is left to
// other workers.
func (in *Inbox) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-work.Done():
		case <-ctx.Done():
			sleep(work, finishWithin)
			cancel()
		}
	}()
	defer func() { <-ended }()
	defer cancel()
	for ctx.Err() == nil {
		if err := in.turn(ctx, work); err != nil {
			in.ready = false
			in.trouble(err)
			sleep(ctx, in.pause)
			in.pause = min(2*in.pause, pauseMost)
			continue
		}
		if in.left == 0 {
			in.well()
		}
	}
	in.leave(work)
}

var errNoLanes = errors.New("no worker has published its lanes yet")

// turn does what is due, and then waits for new entries for a while. Its error is Redis's.
func (in *Inbox) turn(ctx, work context.Context) error {
	if err := in.prepare(work); err != nil {
		return err
	}
	if now := time.Now(); !now.Before(in.nextTakeover) {
		in.nextTakeover = now.Add(in.takeoverEvery)
		if err := in.takeOver(ctx, work); err != nil {
			return err
		}
	}
	if (in.left > 0 || in.behind) && !time.Now().Before(in.nextPass) {
		if err := in.tryAgain(ctx, work); err != nil {
			return err
		}
	}
	if in.left >= mostLeft {
		sleep(ctx, time.Until(in.nextPass))
		return nil
	}
	if ctx.Err() != nil {
		return nil
	}
	list, err := in.readNew(work)
	if err != nil || len(list) == 0 {
		return err
	}
	in.add(in.take(work, list, false))
	return nil
}

// prepare makes sure that there is a group, and that lanes are published: after Redis has lost everything a moment passes until
// workers have published theirs again, and entries that come in it are none to be refused.
func (in *Inbox) prepare(ctx context.Context) error {
	if in.ready {
		return nil
	}
	if err := in.createGroup(ctx); err != nil {
		return err
	}
	lanes, err := in.rdb.HLen(ctx, tasks.LanesKey).Result()
	if err != nil {
		return fmt.Errorf("looking for lanes: %w", err)
	}
	if lanes == 0 {
		return errNoLanes
	}
	in.ready, in.behind = true, true
	in.nextPass, in.nextTakeover = time.Time{}, time.Time{}
	return nil
}

// tryAgain goes through all entries that are in our hands once.
func (in *Inbox) tryAgain(ctx, work context.Context) error {
	in.left, in.behind = 0, false
	for after := "0"; ctx.Err() == nil; {
		list, err := in.readOwn(work, after)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		after = list[len(list)-1].id
		failed := in.take(work, list, true)
		in.add(failed)
		if failed.givenUp {
			in.behind = true
			in.left = max(in.left, mostLeft)
			return nil
		}
	}
	return nil
}

// takeOver does what others left behind, and forgets those that left nothing.
func (in *Inbox) takeOver(ctx, work context.Context) error {
	in.closeIdleBatches()
	in.sayRefusals(time.Now())
	for from := "0-0"; ctx.Err() == nil; {
		list, next, err := in.claim(work, from)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			in.log.Info().Int("entries", len(list)).Msg("the inbox takes over entries that were left alone")
			in.add(in.take(work, list, true))
		}
		if next == "0-0" {
			break
		}
		from = next
	}
	return in.forgetConsumers(work)
}

// failure is what came of a step.
type failure struct {
	failed  int   // entries that are to be tried again
	err     error // why, of one of them
	givenUp bool  // so many failed that the rest were not tried
}

// add notes what failed. It stays in our hands and is tried again later, at growing distances.
func (in *Inbox) add(f failure) {
	if f.failed == 0 {
		return
	}
	in.left += f.failed
	in.trouble(f.err)
	in.nextPass = time.Now().Add(in.pause)
	in.pause = min(2*in.pause, pauseMost)
}

// trouble says once that entries wait. The numbers that were taken from batches may be gone with what Redis has lost.
func (in *Inbox) trouble(err error) {
	in.closeBatches()
	if in.troubled {
		return
	}
	in.troubled = true
	in.log.Error().Err(err).Msg("entries of the inbox wait; they are tried again until it works")
}

func (in *Inbox) well() {
	in.pause = pauseFirst
	if !in.troubled {
		return
	}
	in.troubled = false
	in.log.Info().Msg("the inbox goes on")
}

// leave takes this consumer out of the group, if nothing is left in its hands.
func (in *Inbox) leave(ctx context.Context) {
	in.closeBatches()
	in.sayRefusals(time.Now().Add(refusalsEvery))
	if err := in.forget(ctx, in.consumer); err != nil {
		in.log.Debug().Err(err).Msg("the inbox's consumer stays in the group until another worker removes it")
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
