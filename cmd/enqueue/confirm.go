package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// askAfter is the number of rows that are enqueued without a question.
const askAfter = 10_000

// ahead is a source whose first rows were read already.
type ahead struct {
	items []input.Item
	err   error // what came after them, if that is known
	rest  rowSource
}

func (a *ahead) Next() (input.Item, error) {
	if len(a.items) > 0 {
		item := a.items[0]
		a.items[0] = input.Item{} // not kept until the end
		a.items = a.items[1:]
		return item, nil
	}
	if a.err != nil {
		return input.Item{}, a.err
	}
	return a.rest.Next()
}

// readAhead reads the first n rows. Its error is the context's.
func readAhead(ctx context.Context, source rowSource, n int) (*ahead, error) {
	done := make(chan *ahead, 1)
	go func() { // a read from standard input cannot be broken off
		a := &ahead{rest: source}
		for len(a.items) < n && a.err == nil && ctx.Err() == nil {
			var item input.Item
			if item, a.err = source.Next(); a.err == nil {
				a.items = append(a.items, item)
			}
		}
		done <- a
	}()
	select {
	case a := <-done:
		return a, ctx.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// confirm lets somebody look before more than askAfter rows are enqueued: a file may be the wrong one, or of the wrong app.
// Until that is answered nothing is written. It returns the source to go on with.
func (e *enqueuing) confirm(ctx context.Context, source rowSource) (rowSource, error) {
	if e.set.confirm {
		return source, nil
	}
	t := e.p.terminal(slices.Contains(e.set.files, input.Stdin))
	if t != nil {
		defer t.close()
		if e.set.yes {
			return source, nil
		}
	}
	a, err := readAhead(ctx, source, askAfter+1)
	switch {
	case err != nil:
		return nil, &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	case len(a.items) <= askAfter:
		return a, nil
	case t == nil:
		return nil, fmt.Errorf("there are more than %s rows and no terminal to ask at; look at them with --dry-run, then add --confirm (nothing was enqueued)", thousands(askAfter))
	}
	return a, e.ask(ctx, t, a.items[:askAfter])
}

// ask shows what the first rows are and asks whether to go on, and why if that was not said.
func (e *enqueuing) ask(ctx context.Context, t *terminal, items []input.Item) error {
	fmt.Fprintf(t.out, "The first %s rows, and there are more:\n\n", thousands(int64(len(items))))
	for _, line := range e.countLanes(items) {
		fmt.Fprintln(t.out, "  "+printable(line))
	}
	fmt.Fprintln(t.out)
	answer, err := t.ask(ctx, fmt.Sprintf("Enqueue all of them as batch %s? [y/N] ", e.set.batch))
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return &ended{exitInterrupted, errors.New("nothing was enqueued")}
	}
	if e.set.reason != "" || e.rdb.HGet(ctx, tasks.BatchKey(e.set.batch), "reason").Val() != "" {
		return nil
	}
	answer, err = t.ask(ctx, "Why are they recalled? One line, kept with the batch: ")
	e.set.reason = providers.Line(answer, maxReason)
	return err
}

// countLanes says how many of the rows go to which lane.
func (e *enqueuing) countLanes(items []input.Item) []string {
	const refused = "refused"
	count := make(map[string]int)
	opt := e.set.row
	opt.Now = e.now()
	for _, item := range items {
		name := refused
		if item.Fault == nil {
			if r, _, fault := item.Row.Recall(opt); fault == nil {
				if r, fault = e.lookUp(r, opt.Now); fault == nil {
					name = r.Provider + ":" + r.App
				}
			}
		}
		count[name]++
	}
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	lines := make([]string, len(names))
	for i, name := range names {
		lines[i] = fmt.Sprintf("%7s  %s", thousands(int64(count[name])), name)
	}
	return lines
}

// terminal is where a person can be asked.
type terminal struct {
	in    *bufio.Reader
	out   io.Writer
	close func()
}

// terminal returns nil when there is nobody to ask. stdinIsInput says that standard input has the rows; the answer is then
// read from the terminal that the messages go to.
func (p *program) terminal(stdinIsInput bool) *terminal {
	var in io.Reader
	if f, ok := p.stdin.(*os.File); ok && !stdinIsInput && term.IsTerminal(int(f.Fd())) {
		in = f
	}
	var out io.Writer
	if isTerminal(p.stderr) {
		out = p.stderr
	}
	if in == nil && out == nil {
		return nil
	}
	end := func() {}
	if in == nil || out == nil {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil
		}
		end = func() { _ = tty.Close() }
		if in == nil {
			in = tty
		}
		if out == nil {
			out = tty
		}
	}
	return &terminal{bufio.NewReader(in), out, end}
}

// ask asks for one line. No line is an empty one; the error is about an interruption.
func (t *terminal) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(t.out, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := t.in.ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case line := <-answer:
		return line, nil
	case <-ctx.Done():
		fmt.Fprintln(t.out)
		return "", &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	}
}
