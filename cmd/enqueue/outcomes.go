package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
)

// fromNow is what a person says for [ledger.FromNow].
const fromNow = "now"

func (p *program) outcomesCommand() *cobra.Command {
	t := &tailing{p: p}
	cmd := &cobra.Command{
		Use:   "outcomes",
		Short: "Print the stream of outcomes as NDJSON",
		Long: "Print the outcomes of all recalls, in the order in which they came, one JSON object a line; with --follow, new ones\n" +
			"as they come. Each has a stream_id: with --after and the one of the last line that was read, reading goes on\n" +
			"where it stopped. The stream keeps 24 hours, and about a million entries; where entries were missed because of\n" +
			"that, or may have been, it is said on standard error. After a crash of a worker an entry may come twice, with the same id.\n\n" +
			"A program reads the stream recallq:outcomes in Redis itself, with a consumer group.",
		Example: "  enqueue outcomes | jq -c 'select(.batch == \"incident-41\")'\n" +
			"  enqueue outcomes --follow --after now\n" +
			"  enqueue outcomes --follow --after 1795132800000-0 >> outcomes.ndjson",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := p.common.json(); err != nil {
				return err
			}
			if t.after == fromNow {
				t.after = ledger.FromNow
			}
			if err := ledger.CheckPlace(t.after); err != nil {
				return fmt.Errorf("--after %w, or now", err)
			}
			if err := t.open(cmd.Context()); err != nil {
				return err
			}
			defer t.book.close()
			return t.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&t.follow, "follow", "f", false, "go on with new outcomes as they come, until Ctrl-C")
	cmd.Flags().StringVar(&t.after, "after", ledger.FromStart, "begin after the entry with this stream_id (`ID`; now: with the next one that comes)")
	completeFlags(cmd)
	return cmd
}

// tailing is one run of outcomes.
type tailing struct {
	p      *program
	book   *book
	follow bool
	after  string // the last entry that was printed
	outage outage
}

// open finds Redis. Who follows waits for one that is not there yet, as for one that goes away later.
func (t *tailing) open(ctx context.Context) error {
	var err error
	if t.follow {
		t.book, err = t.p.untriedBook()
	} else {
		t.book, err = t.p.openBook(ctx)
	}
	return err
}

func (t *tailing) run(ctx context.Context) error {
	reader, err := t.book.Reader(t.after)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(t.p.stdout, 64<<10)
	for {
		page, err := reader.Next(ctx, t.follow)
		if err != nil {
			t.after = reader.After() // "now" has become a place with the first answer, also if nothing has come yet
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return &ended{exitInterrupted, fmt.Errorf("interrupted; to go on from here: %s", t.resume())}
		case err != nil:
			if err := t.away(ctx, err); err != nil {
				return err
			}
			sleep(ctx, time.Second)
			continue
		case t.outage.over():
			fmt.Fprintln(t.p.stderr, "Redis answers again; going on")
		}
		if page.Missed != nil {
			fmt.Fprintln(t.p.stderr, printable(sayMissed(*page.Missed)))
		}
		if err := t.print(out, page.Events); err != nil {
			return failure(fmt.Errorf("the outcomes could not be written: %w", err))
		}
		t.after = reader.After()
		if len(page.Events) == 0 && !t.follow {
			return nil
		}
	}
}

func (t *tailing) print(out *bufio.Writer, events []ledger.Event) error {
	lines := json.NewEncoder(out)
	for _, e := range events {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return out.Flush()
}

// sayMissed says what is missing in the output, and how sure that is.
func sayMissed(m ledger.Missed) string {
	what := "outcomes"
	if m.Count > 0 {
		what = thousands(m.Count) + " outcomes"
		if m.Count == 1 {
			what = "1 outcome"
		}
	}
	what += " after " + m.After
	switch {
	case !m.Sure:
		what += " may have been missed"
	case m.Count == 1:
		what += " was missed"
	default:
		what += " were missed"
	}
	if m.First == "" {
		return what + ": the stream is empty by now; the batches' reports have what failed"
	}
	return what + ": the stream goes back to " + m.First + " only; the batches' reports have what failed"
}

// away waits out a Redis that is away, when there is something to wait for. Its error ends the run.
func (t *tailing) away(ctx context.Context, err error) error {
	what, words := judge(ctx, t.book.rdb, err)
	since, first := t.outage.began(t.p.now())
	if t.follow && what != lasting && t.p.now().Sub(since) < t.p.patience {
		if first {
			fmt.Fprintf(t.p.stderr, "%s: %s; waiting up to %s for it\n", t.book.where, words, shortTime(t.p.patience))
		}
		return nil
	}
	return failure(fmt.Errorf("%s: %s; to go on from here: %s", t.book.where, words, t.resume()))
}

func (t *tailing) resume() string {
	words := []string{"outcomes"}
	if t.follow {
		words = append(words, "--follow")
	}
	after := t.after
	if after == ledger.FromNow { // Redis never answered
		after = fromNow
	}
	return t.p.command(append(words, "--after", after)...)
}
