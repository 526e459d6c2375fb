package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

// verdict is what a handler returns to asynq when the recall did not succeed. asynq shows it only the error, later and
// elsewhere, so the decision travels inside.
type verdict struct {
	text string
	// final archives the task. Otherwise it is tried again after delay.
	final bool
	// counted makes asynq count a retry; a deferral is not one.
	counted bool
	delay   time.Duration
}

func (v *verdict) Error() string { return v.text }

// Is makes a final verdict asynq's "archive this task", without asynq's words for it in the text that people read.
func (v *verdict) Is(target error) bool { return v.final && target == asynq.SkipRetry }

// archived is the verdict on a recall that ended without success.
func archived(outcome, reason string) error {
	return &verdict{text: archivedText(outcome, reason), final: true}
}

// archivedText is what people read in asynqmon: the outcome and the reason, which may begin with the same word.
func archivedText(outcome, reason string) string {
	switch {
	case reason == "":
		return outcome
	case strings.HasPrefix(reason, outcome):
		return reason
	}
	return outcome + ": " + reason
}

func retried(reason string, delay time.Duration) error {
	return &verdict{text: reason, counted: true, delay: delay}
}

func deferred(reason string, delay time.Duration) error {
	return &verdict{text: reason, delay: delay}
}

// inAsynqsWords is the one place where a decision becomes what asynq acts on.
func inAsynqsWords(d retry.Decision) error {
	switch {
	case d.Action == retry.Finish && tasks.Succeeded(d.Outcome):
		return nil
	case d.Action == retry.Finish:
		return archived(d.Outcome, d.Reason)
	case d.Action == retry.Retry:
		return retried(d.Reason, d.Delay)
	default:
		return deferred(d.Reason, d.Delay)
	}
}

// retryDelay is asynq's RetryDelayFunc.
func retryDelay(n int, err error, t *asynq.Task) time.Duration {
	var v *verdict
	if errors.As(err, &v) {
		return v.delay
	}
	return foreign(n, err, t).Delay
}

// isFailure is asynq's IsFailure: it tells what asynq counts as a retry.
func isFailure(err error) bool {
	var v *verdict
	if errors.As(err, &v) {
		return v.counted || v.final
	}
	return foreign(0, err, nil).Attempt
}

// foreign decides on errors that did not come from our handler.
func foreign(n int, err error, t *asynq.Task) retry.Decision {
	now := time.Now()
	c := retry.Call{Attempts: n, Now: now, RecallBy: now.Add(24 * time.Hour), Jitter: 0.5}
	if t != nil {
		if r, decodeErr := tasks.Decode(t.Payload()); decodeErr == nil {
			c.RecallBy = r.RecallBy
		}
	}
	d := retry.Interrupted(interruption(err), c)
	if d.Action == retry.Finish {
		// asynq asks only for a delay here; the guard before the next call ends the recall.
		d.Delay = 0
	}
	return d
}

func interruption(err error) retry.Interruption {
	switch {
	case errors.Is(err, asynq.ErrLeaseExpired):
		return retry.WorkerDied
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return retry.ContextDone
	}
	return retry.Panic
}

// logger is asynq's way into our log. What asynq complains about is Redis, which it does freely, and which the worker itself
// says once; only a panic in a handler is nobody else's to tell.
type logger struct{ log zerolog.Logger }

func (l logger) Debug(args ...any) { l.log.Trace().Msg(fmt.Sprint(args...)) }
func (l logger) Info(args ...any)  { l.log.Debug().Msg(fmt.Sprint(args...)) }
func (l logger) Warn(args ...any)  { l.log.Debug().Msg(fmt.Sprint(args...)) }
func (l logger) Fatal(args ...any) { l.log.Error().Msg(fmt.Sprint(args...)) }

func (l logger) Error(args ...any) {
	text := fmt.Sprint(args...)
	if strings.Contains(text, "panic") {
		l.log.Error().Msg(text)
		return
	}
	l.log.Debug().Msg(text)
}
