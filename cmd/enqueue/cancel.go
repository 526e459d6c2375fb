package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

func (p *program) cancelCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "cancel BATCH",
		Short: "Stop a batch: calls that have not started are not made",
		Long: "Stop a batch. Within a second no call that has not started is made any more; the recalls that were open end as\n" +
			"cancelled, also those that wait for another try or behind a closed lane. A call that is under way is finished.\n" +
			"Messages that were taken back stay so.\n\n" +
			"Running the input again with the same --batch, or enqueue retry BATCH --outcome cancelled, brings it back.",
		Example:           "  enqueue cancel incident-41\n  enqueue cancel incident-41 --by alice && enqueue watch incident-41",
		Args:              oneBatch,
		ValidArgsFunction: p.completeBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			if !isOneLine(by) {
				return errors.New("--by: use one line of at most 1,024 bytes")
			}
			if by == "" {
				by = userAtHost()
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
			now, err := b.now(cmd.Context())
			if err != nil {
				return err
			}
			if cancellable(batch, now) {
				if err := b.Cancel(cmd.Context(), batch.Name, by, now); err != nil {
					return b.failure(err)
				}
			}
			return p.sayCancelled(batch, now, asJSON)
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who cancels it, kept with the batch (`WHO`; default user@host)")
	completeFlags(cmd)
	return cmd
}

// cancellable reports whether there is anything to cancel: a recall that has not ended, or an input that may bring some.
func cancellable(b ledger.Batch, now time.Time) bool {
	return !b.Ended(now) && (b.Open > 0 || b.Reading > 0)
}

// sayCancelled says what was cancelled, by how the batch stood before.
func (p *program) sayCancelled(before ledger.Batch, now time.Time, asJSON bool) error {
	lost := before.Lost(now)
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(struct {
			Batch string `json:"batch"`
			Open  int64  `json:"open"`
		}{before.Name, before.Open - lost})
	}
	switch {
	case lost > 0:
		_, err := fmt.Fprintf(p.stdout, "batch %s has ended, with %d lost, so there is nothing to cancel; see %s\n", before.Name, lost, p.command("report", before.Name))
		return err
	case !cancellable(before, now):
		_, err := fmt.Fprintf(p.stdout, "batch %s: nothing is open, so there is nothing to cancel\n", before.Name)
		return err
	}
	was := ""
	if !before.CancelledAt.IsZero() {
		was = fmt.Sprintf(" (it was already, by %s at %s)", cmp.Or(before.CancelledBy, "somebody"), tasks.FormatTime(before.CancelledAt))
	}
	were := fmt.Sprintf("%d were open", before.Open)
	if before.Open == 1 {
		were = "1 was open"
	}
	fmt.Fprintf(p.stdout, "batch %s is cancelled%s: of %s, %s; calls that have not started are not made\n", before.Name, was, recalls(before.Total), were)
	if before.Reading > 0 {
		fmt.Fprintln(p.stdout, "an input of it may still be read; what it goes on to enqueue is cancelled too")
	}
	_, err := fmt.Fprintf(p.stdout, "if this was a mistake: %s\n", p.command("retry", before.Name, "--outcome", tasks.Cancelled))
	return err
}
