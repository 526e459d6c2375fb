package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

// retryFlags are those of enqueue retry.
type retryFlags struct{ outcome, priority string }

func (p *program) retryCommand() *cobra.Command {
	var o retryFlags
	cmd := &cobra.Command{
		Use:   "retry BATCH",
		Short: "Enqueue the failed recalls of a batch again, those whose window is open",
		Long: "Enqueue the recalls of a batch that ended as expired, not_found, rejected or cancelled again, as they are, where\n" +
			"their windows are open. They stay in the batch, each counted once, under its last outcome. Those of a\n" +
			"cancelled batch come back with --outcome cancelled.\n\n" +
			"Exit codes: 0 all were enqueued again or need not be, 3 some could not be: their windows have closed, or they are\n" +
			"invalid, 1 failure, 130 interrupted.\n\n" +
			"For rows that have to be mended first, see enqueue report BATCH -o csv.",
		Example: "  enqueue retry incident-41\n" +
			"  enqueue retry incident-41 --outcome not_found\n" +
			"  enqueue retry incident-41 --outcome cancelled && enqueue watch incident-41",
		Args:              oneBatch,
		ValidArgsFunction: p.completeBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			b, err := p.openBook(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			batch, err := b.named(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.retry(cmd.Context(), b, batch, o, asJSON)
		},
	}
	cmd.Flags().StringVar(&o.outcome, "outcome", "", "only recalls that ended with this `OUTCOME`: expired, not_found, rejected or cancelled")
	cmd.Flags().StringVar(&o.priority, "priority", "", "`PRIORITY`: urgent or bulk (default: up to 1,000 recalls urgent, else bulk)")
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions(failedOutcomes(), cobra.ShellCompDirectiveNoFileComp))
	completeFlags(cmd)
	return cmd
}

func failedOutcomes() []string { return slices.DeleteFunc(tasks.Outcomes(), tasks.Succeeded) }

func (o retryFlags) check() error {
	if err := ledger.CheckRetry(o.outcome); err != nil {
		return fmt.Errorf("--outcome %w", err)
	}
	return checkPriority(o.priority)
}

// retried counts what came of the recalls that were tried again.
type retried struct {
	Batch        string `json:"batch"`
	Enqueued     int64  `json:"enqueued"`
	WindowClosed int64  `json:"window_closed"`
	Duplicate    int64  `json:"duplicate"`
	Refused      int64  `json:"refused"`
	// Withdrawn is true if the batch was cancelled and is no more. GoOn is how many of its recalls had not ended by then.
	Withdrawn bool  `json:"cancellation_withdrawn,omitempty"`
	GoOn      int64 `json:"go_on,omitempty"`

	lanes map[string]bool
	says  func(string)
}

func (p *program) retry(ctx context.Context, b *book, batch ledger.Batch, o retryFlags, asJSON bool) error {
	count := &retried{
		Batch: batch.Name, lanes: map[string]bool{},
		says: func(text string) { fmt.Fprintln(p.stderr, printable(text)) },
	}
	clock, err := clockFrom(ctx, b.rdb, p.now)
	if err != nil {
		return b.failure(err)
	}
	err = b.Retry(ctx, tasks.NewProducer(b.rdb, tasks.WithClock(clock)), ledger.RetryOptions{
		Batch: batch.Name, Outcome: o.outcome,
		Enqueue:   []tasks.EnqueueOption{tasks.WithPriority(o.priorityFor(batch))},
		Each:      count.add,
		Withdrawn: func(open int64) { count.Withdrawn, count.GoOn = true, open },
	})
	if lanes, lanesErr := b.published(ctx); lanesErr == nil {
		b.noticeLanes(ctx, count.lanes, lanes, o.priorityFor(batch), clock())
	}
	// Counts that an error has kept at zero would say that there was nothing to do.
	if err == nil || count.total() > 0 || count.Withdrawn {
		if err := count.print(p, o, asJSON); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return &ended{exitInterrupted, errors.New("interrupted: what is counted is in the queue; the same command goes on")}
	case err != nil:
		if refused, is := errors.AsType[*ledger.CancelledError](err); is {
			return failure(fmt.Errorf("%w; first take that back: %s", refused, p.command("retry", refused.Batch, "--outcome", tasks.Cancelled)))
		}
		return b.failure(err)
	case count.Refused+count.WindowClosed > 0:
		return &ended{code: exitRefused}
	}
	return nil
}

// priorityFor is as for a file with so many rows.
func (o retryFlags) priorityFor(batch ledger.Batch) tasks.Priority {
	n := batch.Failed()
	if o.outcome != "" {
		n = batch.Outcomes[o.outcome]
	}
	switch {
	case o.priority != "":
		return tasks.Priority(o.priority)
	case n > urgentUpTo:
		return tasks.Bulk
	}
	return tasks.Urgent
}

func (c *retried) total() int64 { return c.Enqueued + c.WindowClosed + c.Duplicate + c.Refused }

func (c *retried) add(f tasks.Failure, res tasks.Result, err error) {
	var refused *tasks.FieldError
	switch {
	case errors.As(err, &refused):
		if c.Refused++; c.Refused <= refusalsShown {
			c.says(f.Recall.MessageID + ": " + sayFieldError(refused))
		}
		return
	case res.Status == tasks.Expired:
		c.WindowClosed++
		return
	case res.Status == tasks.Enqueued:
		c.Enqueued++
	default:
		c.Duplicate++
	}
	c.lanes[f.Recall.Provider+":"+res.App] = true
}

// noticeLanes says of each lane what somebody in a hurry should know.
func (b *book) noticeLanes(ctx context.Context, names map[string]bool, published []tasks.Lane, priority tasks.Priority, now time.Time) {
	paused := pausedQueues(ctx, b.rdb, published)
	for _, l := range published {
		if !names[l.Name()] {
			continue
		}
		for _, text := range b.p.laneNotices(l.Name(), l, true, paused[tasks.Queue(l.Provider, l.App, priority)], now) {
			fmt.Fprintln(b.p.stderr, printable(text))
		}
	}
}

func (c *retried) print(p *program, o retryFlags, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(c)
	}
	_, err := fmt.Fprintf(p.stdout, "batch %s: %s\n", c.Batch, c.words(o))
	return err
}

func (c *retried) words(o retryFlags) string {
	var parts []string
	if c.Withdrawn {
		text := "the cancellation is withdrawn"
		if c.GoOn > 0 {
			text += ": " + stillOpen(c.GoOn)
		}
		parts = append(parts, text)
	}
	switch {
	case c.total() > 0:
		parts = append(parts, recalls(c.Enqueued)+" enqueued again")
	case o.outcome != "":
		parts = append(parts, "no recall that ended as "+o.outcome)
	default:
		parts = append(parts, "no recall that failed")
	}
	if c.WindowClosed > 0 {
		parts = append(parts, fmt.Sprintf("%d could not be: the window has closed", c.WindowClosed))
	}
	if c.Duplicate > 0 {
		parts = append(parts, fmt.Sprintf("%d %s open or taken back by now", c.Duplicate, plural(c.Duplicate, "was not needed: it is", "were not needed: they are")))
	}
	if c.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", c.Refused))
	}
	return strings.Join(parts, "; ")
}

func stillOpen(n int64) string {
	if n == 1 {
		return "1 recall that was still open goes on"
	}
	return recalls(n) + " that were still open go on"
}
