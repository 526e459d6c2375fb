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
			"that, it is said on standard error. After a crash of a worker an entry may come twice, with the same id.\n\n" +
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
			var err error
			if t.book, err = p.openBook(cmd.Context()); err != nil {
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

func (t *tailing) run(ctx context.Context) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	out := bufio.NewWriterSize(t.p.stdout, 64<<10)
	for {
		err := t.copy(ctx, out)
		if flushErr := out.Flush(); flushErr != nil {
			return failure(fmt.Errorf("the outcomes could not be written: %w", flushErr))
		}
		switch {
		case ctx.Err() != nil:
			return &ended{exitInterrupted, fmt.Errorf("interrupted; to go on from here: %s", t.resume())}
		case err == nil:
			return nil
		}
		if err := t.away(ctx, err); err != nil {
			return err
		}
		sleep(ctx, time.Second)
	}
}

// begin turns now into the place of the last entry, which stays the same when Redis has to be asked again.
func (t *tailing) begin(ctx context.Context) error {
	if t.after != ledger.FromNow {
		return nil
	}
	last, err := t.book.rdb.XRevRangeN(ctx, ledger.OutcomesKey, "+", "-", 1).Result()
	if err != nil {
		return t.book.failure(err)
	}
	t.after = ledger.FromStart
	if len(last) > 0 {
		t.after = last[0].ID
	}
	return nil
}

// copy prints what comes, until the end or an error of Redis.
func (t *tailing) copy(ctx context.Context, out *bufio.Writer) error {
	lines := json.NewEncoder(out)
	for e, err := range t.book.Outcomes(ctx, t.after, t.follow) {
		if err != nil {
			return err
		}
		if t.outage.over() {
			fmt.Fprintln(t.p.stderr, "Redis answers again; going on")
		}
		if e.Missed {
			fmt.Fprintf(t.p.stderr, "outcomes after %s were missed: the stream goes back to %s only; the batches' reports have what failed\n", t.after, e.StreamID)
		}
		if err := lines.Encode(e); err != nil {
			return failure(fmt.Errorf("the outcomes could not be written: %w", err))
		}
		if t.follow && out.Flush() != nil {
			return nil // run finds it, too
		}
		t.after = e.StreamID
	}
	return nil
}

// away waits out a Redis that is away, when there is something to wait for. Its error ends the run.
func (t *tailing) away(ctx context.Context, err error) error {
	if end, ok := err.(*ended); ok {
		return end
	}
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
	command := "enqueue outcomes"
	if t.follow {
		command += " --follow"
	}
	return command + " --after " + t.after
}
