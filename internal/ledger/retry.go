package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/recallq/recallq/tasks"
)

// retriers is how many failed recalls are enqueued again at a time.
const retriers = 256

// RetryOptions say what to try again.
type RetryOptions struct {
	Batch string
	// Outcome is the outcome to try again; empty means every one without success.
	Outcome string
	// Enqueue is how the recalls are enqueued.
	Enqueue []tasks.EnqueueOption
	// Each, if not nil, is told what came of each recall, one at a time. An error is a [tasks.FieldError].
	Each func(tasks.Failure, tasks.Result, error)
	// Withdrawn, if not nil, is told that the batch was cancelled and is no more, and how many of its recalls had not ended
	// yet: they go on.
	Withdrawn func(open int64)
}

// CancelledError is returned for a batch that is cancelled: what is enqueued in it would be cancelled, too. To try its cancelled
// recalls again takes that back.
type CancelledError struct {
	Batch string
	says  string // who cancelled it and when
}

func (e *CancelledError) Error() string {
	return e.says + ", and what is enqueued in it now would be cancelled too"
}

// CheckRetry reports what is wrong with an outcome to try again.
func CheckRetry(outcome string) error {
	if outcome == "" {
		return nil
	}
	for _, o := range tasks.Outcomes() {
		if o == outcome && !tasks.Succeeded(o) {
			return nil
		}
	}
	return fmt.Errorf("%q is no outcome to try again; use %s, %s, %s or %s", outcome, tasks.Expired, tasks.NotFound, tasks.Rejected, tasks.Cancelled)
}

// Retry enqueues the failed recalls of a batch again, those whose windows are open. Each gets a new number in the batch, which
// takes the place of the old one. If cancelled ones may be among them, the batch is cancelled no more; otherwise the error is a
// [CancelledError] where it is.
//
// It may be repeated. After an error some recalls are enqueued and some are not.
func (l *Ledger) Retry(ctx context.Context, p *tasks.Producer, o RetryOptions) error {
	if err := CheckRetry(o.Outcome); err != nil {
		return err
	}
	have, err := l.Batch(ctx, o.Batch)
	if err != nil {
		return err
	}
	if !have.CancelledAt.IsZero() && o.Outcome != "" && o.Outcome != tasks.Cancelled {
		return &CancelledError{o.Batch, cancellation(o.Batch, []any{tasks.FormatTime(have.CancelledAt), have.CancelledBy})}
	}
	b, err := p.OpenBatch(ctx, tasks.BatchOptions{Name: o.Batch})
	if err != nil {
		return err
	}
	if !have.CancelledAt.IsZero() && o.Withdrawn != nil {
		o.Withdrawn(have.Open)
	}
	r := &retrying{RetryOptions: o, batch: b, last: number(have.Fields[fieldNextSeq])}
	return errors.Join(r.run(ctx, l), b.Close(context.WithoutCancel(ctx)))
}

// retrying is one run of Retry.
type retrying struct {
	RetryOptions
	batch *tasks.Batch
	last  int64 // the batch's last number when the run began: what fails anew has a later one
	mu    sync.Mutex
}

func (r *retrying) run(parent context.Context, l *Ledger) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	failures := make(chan tasks.Failure)
	var wg sync.WaitGroup
	for range retriers {
		wg.Go(func() {
			for f := range failures {
				if err := r.enqueue(ctx, f); err != nil {
					stop(err)
				}
			}
		})
	}
	for f, err := range l.Failures(ctx, r.Batch) {
		if err != nil {
			stop(err)
		}
		if !r.feed(ctx, failures, f) {
			break
		}
	}
	close(failures)
	wg.Wait()
	return context.Cause(ctx)
}

// feed hands a failure on, if it is one to try again. It is false once the run is over.
func (r *retrying) feed(ctx context.Context, failures chan<- tasks.Failure, f tasks.Failure) bool {
	if ctx.Err() != nil {
		return false
	}
	if f.Recall.Seq > r.last || r.Outcome != "" && r.Outcome != f.Outcome.Outcome {
		return true
	}
	select {
	case failures <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *retrying) enqueue(ctx context.Context, f tasks.Failure) error {
	again := f.Recall
	again.Batch, again.Seq = "", 0
	res, err := r.batch.Enqueue(ctx, again, r.Enqueue...)
	var refused *tasks.FieldError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if r.Each != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Each(f, res, err)
	}
	return nil
}
