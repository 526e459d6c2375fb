package main

import (
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
			now := p.now()
			if !asJSON {
				return p.batchesTable(list, now)
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

func (p *program) batchesTable(list []ledger.Batch, now time.Time) error {
	if len(list) == 0 {
		fmt.Fprintln(p.stdout, "no batch: none is kept in this Redis")
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BATCH\tBEGUN\tBY\tSTATE\tTOTAL\tTAKEN BACK\tOPEN\tFAILED\tDUPLICATE\tREASON")
	for _, b := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", b.Name, sayBegun(b, now), providers.Line(b.By, 40), sayBatchState(b, now),
			b.Total, b.Succeeded(), b.Open, b.Failed(), b.Duplicate, providers.Line(b.Reason, 60))
	}
	return w.Flush()
}

func sayBegun(b ledger.Batch, now time.Time) string {
	if b.CreatedAt.IsZero() {
		return "-"
	}
	return shortTime(max(now.Sub(b.CreatedAt), 0)) + " ago"
}

// sayBatchState says in a word or two where a batch is.
func sayBatchState(b ledger.Batch, now time.Time) string {
	state := "open"
	switch {
	case b.Lost(now) > 0:
		state = fmt.Sprintf("ended, %d lost", b.Lost(now))
	case b.Ended(now):
		state = "ended"
	case b.Reading > 0:
		state = "being read"
	}
	if !b.CancelledAt.IsZero() {
		state = "cancelled"
		if !b.Ended(now) {
			state = "being cancelled"
		}
	}
	return state
}
