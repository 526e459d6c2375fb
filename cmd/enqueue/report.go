package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// The forms of a report beside table and json.
const (
	formCSV    = "csv"
	formNDJSON = "ndjson"
)

func (p *program) reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report BATCH",
		Short: "Show the totals of a batch, and each recall that did not succeed",
		Long: "Show the totals of a batch, and the recalls that did not succeed by provider, code and reason, with an example of\n" +
			"each and what to do about it.\n\n" +
			"With -o json, the batch's hash is printed. With -o csv or -o ndjson, the recalls that did not succeed are, as\n" +
			"rows that can be mended and enqueued again. In CSV, cells that a spreadsheet would take for a formula begin\n" +
			"with an apostrophe, which enqueue --file takes away again.",
		Example: "  enqueue report incident-41\n" +
			"  enqueue report incident-41 -o ndjson > failed.ndjson\n" +
			"  enqueue report incident-41 -o csv > failed.csv\n" +
			"  enqueue --file failed.csv --batch incident-41   # once it is mended",
		Args:              oneBatch,
		ValidArgsFunction: p.completeBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			form := p.common.output
			if !slices.Contains(reportForms(), form) {
				return fmt.Errorf("--output %q: use table, json, csv or ndjson", form)
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
			switch form {
			case "json":
				return writeHash(p.stdout, batch, now)
			case formCSV, formNDJSON:
				return p.reportRows(cmd.Context(), b, batch, now, form)
			}
			return p.reportTable(cmd.Context(), b, batch, now)
		},
	}
	// The flag of all commands, which knows more forms here.
	cmd.Flags().StringVarP(&p.common.output, "output", "o", "table", "`FORM` of the report: table, json, csv or ndjson")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(reportForms(), cobra.ShellCompDirectiveNoFileComp))
	completeFlags(cmd)
	return cmd
}

func reportForms() []string { return []string{"table", "json", formCSV, formNDJSON} }

// reportRows prints the recalls that did not succeed, one row each, without holding them in memory.
func (p *program) reportRows(ctx context.Context, b *book, batch ledger.Batch, now time.Time, form string) error {
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	write := writeNDJSON(out)
	if form == formCSV {
		write = writeCSV(out)
	}
	n := int64(0)
	for f, err := range failuresOnce(b.Failures(ctx, batch.Name)) {
		if err != nil {
			_ = out.Flush()
			return p.readFailure(ctx, b, err)
		}
		if err := write(f); err != nil {
			return failure(fmt.Errorf("the report could not be written: %w", err))
		}
		n++
	}
	if err := out.Flush(); err != nil {
		return failure(fmt.Errorf("the report could not be written: %w", err))
	}
	if still := batch.Open; still > 0 {
		what := "open"
		if batch.Lost(now) > 0 {
			what = "lost"
		}
		fmt.Fprintf(p.stderr, "%d rows; %s beside them: %d\n", n, what, still)
	}
	return nil
}

// readFailure is the end of a report that could not be read to its end.
func (p *program) readFailure(ctx context.Context, b *book, err error) error {
	if ctx.Err() != nil {
		return &ended{exitInterrupted, fmt.Errorf("interrupted: the report is not complete")}
	}
	return b.failure(err)
}

// failuresOnce leaves out what comes a second time: Redis may show an entry twice while the hash grows. It remembers a bit for
// each sequence number of the batch.
func failuresOnce(all iter.Seq2[tasks.Failure, error]) iter.Seq2[tasks.Failure, error] {
	return func(yield func(tasks.Failure, error) bool) {
		var seen []uint64
		for f, err := range all {
			if err == nil && f.Recall.Seq >= 0 && f.Recall.Seq <= tasks.MaxSeq {
				word, bit := f.Recall.Seq/64, uint64(1)<<(f.Recall.Seq%64)
				if need := int(word) + 1 - len(seen); need > 0 {
					seen = append(seen, make([]uint64, need)...)
				}
				if seen[word]&bit != 0 {
					continue
				}
				seen[word] |= bit
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

func (p *program) reportTable(ctx context.Context, b *book, batch ledger.Batch, now time.Time) error {
	g := &groups{}
	for f, err := range failuresOnce(b.Failures(ctx, batch.Name)) {
		if err != nil {
			return p.readFailure(ctx, b, err)
		}
		g.add(f)
	}
	out := bufio.NewWriter(p.stdout)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, text string) {
		if text = shown(text); text != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	line("batch", batch.Name)
	line("by", providers.Line(batch.By, 200))
	line("reason", providers.Line(batch.Reason, 1024))
	if !batch.CreatedAt.IsZero() {
		line("begun", fmt.Sprintf("%s, %s", tasks.FormatTime(batch.CreatedAt), sayBegun(batch, now)))
	}
	line("state", sayReportState(batch, now))
	if batch.Reading > 0 && !batch.Ended(now) && batch.CancelledAt.IsZero() {
		inputs, err := b.ReadingInputs(ctx, batch.Name)
		if err != nil {
			return p.readFailure(ctx, b, err)
		}
		line("reading", sayReading(inputs, batch.Name))
	}
	if lost := batch.Lost(now); lost > 0 {
		line("lost", fmt.Sprintf("%d: removed by hand, or Redis has lost them; if their windows are open, run their input again under "+
			"a NEW --batch name (under %s they would be counted a second time)", lost, batch.Name))
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\n%s\n", sums(batch, now))
	g.print(out, batch, p.place())
	if err := out.Flush(); err != nil {
		return failure(fmt.Errorf("the report could not be written: %w", err))
	}
	return nil
}

func sayReportState(b ledger.Batch, now time.Time) string {
	state := sayBatchState(b, now)
	if !b.CancelledAt.IsZero() {
		_, lost, _ := strings.Cut(state, ",")
		state, _, _ = strings.Cut(state, ",")
		state += fmt.Sprintf(" by %s at %s", cmp.Or(providers.Line(b.CancelledBy, 200), "somebody"), tasks.FormatTime(b.CancelledAt))
		if lost != "" {
			state += "," + lost
		}
	}
	if !b.Ended(now) {
		state += "; the figures still move"
	}
	return state
}

// sayReading says which inputs keep a batch from ending, and what to do about those whose reading was interrupted.
func sayReading(inputs []string, batch string) string {
	return nameInputs(inputs, 200) + "; if nothing reads on: the same input, run again to its end with --batch " + batch + ", closes it"
}

// mostGroups bounds what is kept of failures with ever new reasons.
const mostGroups = 200

// groups are failures by what they have in common.
type groups struct {
	list  map[groupKey]*group
	other int64 // beyond mostGroups
}

type groupKey struct{ provider, outcome, code, reason string }

type group struct {
	groupKey
	count   int64
	example tasks.Failure
}

func (g *groups) add(f tasks.Failure) {
	key := groupKey{f.Recall.Provider, f.Outcome.Outcome, f.Outcome.Code, alike(f)}
	if g.list == nil {
		g.list = make(map[groupKey]*group)
	}
	one, have := g.list[key]
	switch {
	case have:
		one.count++
	case len(g.list) == mostGroups:
		g.other++
	default:
		g.list[key] = &group{key, 1, f}
	}
}

// own finds the parts of reasons that are one recall's own: times, how long something is, request numbers.
var own = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z|\b(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?(?:ms|µs|s)\b|\b[0-9a-fA-F-]{12,}\b`)

// alike is a failure's reason without what is its own, so that those with one cause are one group.
func alike(f tasks.Failure) string {
	// The heading says outcome and code already.
	reason := strings.TrimPrefix(f.Error, fmt.Sprintf("%s (%s): ", kindOf(f.Outcome.Outcome), f.Outcome.Code))
	for _, part := range []string{f.Recall.MessageID, f.Recall.From, f.Recall.To} {
		if len(part) >= 4 {
			reason = strings.ReplaceAll(reason, part, "…")
		}
	}
	return own.ReplaceAllString(reason, "…")
}

// kindOf is the kind of fault that leads to an outcome by itself.
func kindOf(outcome string) providers.Kind {
	switch outcome {
	case tasks.Expired:
		return providers.WindowClosed
	case tasks.Rejected:
		return providers.Invalid
	}
	return providers.NotFound
}

func (g *groups) print(out *bufio.Writer, b ledger.Batch, at place) {
	if len(g.list) == 0 {
		return
	}
	list := make([]*group, 0, len(g.list))
	for _, one := range g.list {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.provider, b.provider), cmp.Compare(a.outcome, b.outcome),
			cmp.Compare(a.code, b.code), cmp.Compare(a.reason, b.reason))
	})
	fmt.Fprintf(out, "\nnot taken back, by provider, code and reason:\n")
	for _, one := range list {
		fmt.Fprintf(out, "\n%s\n", shown(one.heading()))
		fmt.Fprintf(out, "    for example  %s\n", shown(sayExample(one.example)))
		fmt.Fprintf(out, "    what to do   %s\n", shown(advice(one.example, at)))
	}
	if g.other > 0 {
		fmt.Fprintf(out, "\n%d with other reasons; -o csv and -o ndjson have them all\n", g.other)
	}
	fmt.Fprintf(out, "\nall of them as rows: %s > failed.csv\n", at.command("report", b.Name, "-o", formCSV))
	mended, again := []string{"--file", "failed.csv", "--batch", b.Name}, []string{"retry", b.Name}
	if !b.CancelledAt.IsZero() { // it takes no other rows, and is to be called back as such
		mended, again = mended[:2], append(again, "--outcome", tasks.Cancelled)
	}
	fmt.Fprintf(out, "once mended:         %s\n", at.command(mended...))
	fmt.Fprintf(out, "as they are, again:  %s\n", at.command(again...))
}

func (g *group) heading() string {
	text := fmt.Sprintf("%d × %s %s", g.count, g.provider, g.outcome)
	if g.code != "" {
		text += " " + g.code
	}
	return text + ": " + cmp.Or(g.reason, "no reason is on record")
}

func sayExample(f tasks.Failure) string {
	r := f.Recall
	parts := []string{cmp.Or(r.MessageID, f.ID)}
	for _, named := range [][2]string{{"from", r.From}, {"to", r.To}, {"ref", r.Ref}} {
		if named[1] != "" {
			parts = append(parts, named[0]+" "+providers.Line(named[1], 80))
		}
	}
	return strings.Join(parts, ", ")
}
