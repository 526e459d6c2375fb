package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	if !slices.Contains([]string{"", string(tasks.Urgent), string(tasks.Bulk)}, o.priority) {
		return fmt.Errorf("--priority %q: use urgent or bulk", o.priority)
	}
	return nil
}

// retried counts what came of the recalls that were tried again.
type retried struct {
	Batch        string `json:"batch"`
	Enqueued     int64  `json:"enqueued"`
	WindowClosed int64  `json:"window_closed"`
	Duplicate    int64  `json:"duplicate"`
	Refused      int64  `json:"refused"`

	lanes map[string]bool
	says  func(string)
}

func (p *program) retry(ctx context.Context, b *book, batch ledger.Batch, o retryFlags, asJSON bool) error {
	count := &retried{
		Batch: batch.Name, lanes: map[string]bool{},
		says: func(text string) { fmt.Fprintln(p.stderr, text) },
	}
	err := b.Retry(ctx, tasks.NewProducer(b.rdb, tasks.WithClock(p.now)), ledger.RetryOptions{
		Batch: batch.Name, Outcome: o.outcome,
		Enqueue: []tasks.EnqueueOption{tasks.WithPriority(o.priorityFor(batch))},
		Each:    count.add,
	})
	lanes, lanesErr := tasks.Lanes(ctx, b.rdb)
	if lanesErr == nil {
		p.noticeLanes(count.lanes, lanes)
	}
	if err := count.print(p, o, asJSON); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return &ended{exitInterrupted, errors.New("interrupted: what is counted is in the queue; the same command goes on")}
	case err != nil && o.outcome != tasks.Cancelled && !batch.CancelledAt.IsZero() && count.total() == 0:
		return failure(err) // the ledger says what to do first
	case err != nil:
		return b.failure(err)
	case count.Refused > 0:
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
func (p *program) noticeLanes(names map[string]bool, published []tasks.Lane) {
	now := p.now()
	for _, l := range published {
		if !names[l.Name()] {
			continue
		}
		for _, text := range laneNotices(l.Name(), l, true, now) {
			fmt.Fprintln(p.stderr, text)
		}
	}
}

func (c *retried) print(p *program, o retryFlags, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(c)
	}
	if c.total() == 0 {
		what := "no recall that failed"
		if o.outcome != "" {
			what = "no recall that ended as " + o.outcome
		}
		_, err := fmt.Fprintf(p.stdout, "batch %s: %s\n", c.Batch, what)
		return err
	}
	text := fmt.Sprintf("batch %s: %s enqueued again", c.Batch, recalls(c.Enqueued))
	if c.WindowClosed > 0 {
		text += fmt.Sprintf("; %d could not be: the window has closed", c.WindowClosed)
	}
	if c.Duplicate > 0 {
		text += fmt.Sprintf("; %d were not needed: they are open or taken back by now", c.Duplicate)
	}
	if c.Refused > 0 {
		text += fmt.Sprintf("; %d refused", c.Refused)
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}
