package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/providers"
)

func (p *program) batchesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "batches",
		Short: "List the batches, newest first",
		Long: "List the batches, newest first: who began each and when, how many recalls it has, how many of them were taken\n" +
			"back, are open, failed or are duplicates of other recalls, and why. A batch is kept 7 days after its latest\n" +
			"recall_by. With -o json, one object a line.",
		Example: "  enqueue batches\n  enqueue batches -o json | jq -r 'select(.open > 0) | .batch'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			b, err := p.openBook(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			list, err := b.Batches(cmd.Context())
			if err != nil {
				return b.failure(err)
			}
			now, err := b.now(cmd.Context())
			if err != nil {
				return err
			}
			if !asJSON {
				return p.batchesTable(cmd.Context(), b, list, now)
			}
			for _, one := range list {
				if err := writeHash(p.stdout, one, now); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *program) batchesTable(ctx context.Context, b *book, list []ledger.Batch, now time.Time) error {
	if len(list) == 0 {
		fmt.Fprintln(p.stdout, "no batch: none is kept in this Redis")
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BATCH\tBEGUN\tBY\tSTATE\tTOTAL\tTAKEN BACK\tOPEN\tFAILED\tDUPLICATE\tREASON")
	for _, one := range list {
		state := sayBatchState(one, now)
		if state == stateReading {
			inputs, err := b.ReadingInputs(ctx, one.Name)
			if err != nil {
				return b.failure(err)
			}
			state += ": " + nameInputs(inputs, 40)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", shown(one.Name), sayBegun(one, now), providers.Line(one.By, 40), state,
			one.Total, one.Succeeded(), one.Open-one.Lost(now), one.Failed(), one.Duplicate, providers.Line(one.Reason, 60))
	}
	return w.Flush()
}

// nameInputs names the inputs of a batch, as many as fit into so many bytes, the first in any case.
func nameInputs(names []string, width int) string {
	if len(names) == 0 {
		return "an input"
	}
	text, n := providers.Line(names[0], width), 1
	for n < len(names) && len(text)+2+len(names[n]) <= width {
		text += ", " + shown(names[n])
		n++
	}
	if more := len(names) - n; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func sayBegun(b ledger.Batch, now time.Time) string {
	if b.CreatedAt.IsZero() {
		return "-"
	}
	return shortTime(max(now.Sub(b.CreatedAt), 0)) + " ago"
}

const stateReading = "being read"

// sayBatchState says in a word or two where a batch is.
func sayBatchState(b ledger.Batch, now time.Time) string {
	cancelled := !b.CancelledAt.IsZero()
	state := "open"
	switch {
	case cancelled && b.Ended(now):
		state = "cancelled"
	case cancelled:
		return "being cancelled"
	case b.Ended(now) && b.Total == 0:
		state = "empty" // every row was refused
	case b.Ended(now):
		state = "ended"
	case b.Reading > 0:
		return stateReading
	}
	if lost := b.Lost(now); lost > 0 {
		state += fmt.Sprintf(", %d lost", lost)
	}
	return state
}
