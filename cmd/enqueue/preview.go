package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// lanePreview is what a dry run finds out for one lane.
type lanePreview struct {
	lane      tasks.Lane
	published bool
	rows      int
	tooLate   int
	noText    int
	closes    time.Time // the first window to close
}

// preview is --dry-run: every check, nothing written to Redis, a summary by lane.
func (e *enqueuing) preview(ctx context.Context, source rowSource) error {
	lanes, known, err := e.previewLanes(ctx)
	if err != nil {
		return errors.Join(err, e.refusals.close())
	}
	found := make(map[string]*lanePreview)
	var readErr error
	for readErr == nil && ctx.Err() == nil {
		var item input.Item
		if item, readErr = source.Next(); readErr == nil {
			e.previewRow(item, lanes, known, found)
		}
	}
	e.console.done()
	code := e.tally.code()
	if err := e.refusals.close(); err != nil {
		return failure(err)
	}
	switch {
	case ctx.Err() != nil && !errors.Is(readErr, io.EOF):
		code = exitInterrupted
		e.console.say("interrupted: the preview is of the rows read so far")
	case !errors.Is(readErr, io.EOF):
		code = exitFailure
		e.console.say("enqueue: %s", readErr)
	}
	out := e.p.stdout
	if e.set.json {
		out = e.p.stderr
	}
	e.printPreview(out, found)
	return e.close(code)
}

// previewLanes reads the published lanes. Without Redis a dry run goes on with what the providers document.
func (e *enqueuing) previewLanes(ctx context.Context) (lanes []tasks.Lane, known bool, err error) {
	rdb, err := connect(ctx, e.set.redis)
	if err == nil {
		defer rdb.Close()
		lanes, err = tasks.Lanes(ctx, rdb)
	}
	if err == nil {
		return lanes, true, nil
	}
	if ctx.Err() != nil {
		return nil, false, &ended{exitInterrupted, errors.New("interrupted before any row was read")}
	}
	var end *ended
	if !errors.As(err, &end) { // connect has said where and why
		err = fmt.Errorf("%s: %s", redisconn.Describe(e.set.redis), sayRedis(err))
	}
	e.console.say("%s", err)
	e.console.say("not checked for want of Redis: which lanes have workers, their own windows and limits; the providers' are used")
	return nil, false, nil
}

func (e *enqueuing) previewRow(item input.Item, lanes []tasks.Lane, known bool, found map[string]*lanePreview) {
	opt := e.set.row
	opt.Now = e.p.now()
	r, warnings, ok := e.check(item, opt)
	if !ok {
		return
	}
	if !known && r.App == "" {
		r.App = unknownApp
	}
	resolved, refused := tasks.Resolve(r, lanes, opt.Now, !known || e.set.allowUnserved)
	if refused != nil && !refused.IsExpired() {
		e.refuse(item, sayFieldError(refused), false)
		return
	}
	l := previewOf(found, resolved, lanes)
	l.rows++
	if refused != nil {
		l.tooLate++
		e.refuse(item, sayFieldError(refused), true)
		return
	}
	if l.closes.IsZero() || resolved.RecallBy.Before(l.closes) {
		l.closes = resolved.RecallBy
	}
	if slices.ContainsFunc(warnings, func(w tasks.Warning) bool { return w.Class == tasks.NoText }) && l.lane.HasDefaultText {
		warnings = without(warnings, tasks.NoText)
	}
	e.tally.result(e.set.batch, tasks.Result{Status: tasks.Enqueued}, warnings)
	e.console.step()
}

// unknownApp stands for the provider's only app while Redis cannot be asked which that is.
const unknownApp = "?"

func previewOf(found map[string]*lanePreview, r tasks.Recall, lanes []tasks.Lane) *lanePreview {
	name := r.Provider + ":" + r.App
	if l, have := found[name]; have {
		return l
	}
	l := &lanePreview{lane: tasks.Lane{Provider: r.Provider, App: r.App}}
	if spec, ok := providers.Lookup(r.Provider); ok {
		l.lane.Window, l.lane.Limits = spec.Window, spec.Limits
	}
	for _, published := range lanes {
		if published.Name() == name {
			l.lane, l.published = published, true
		}
	}
	found[name] = l
	return l
}

func (e *enqueuing) printPreview(out io.Writer, found map[string]*lanePreview) {
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	now := e.p.now()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LANE\tROWS\tTOO LATE\tLIMITS\tTIME NEEDED\tFIRST WINDOW CLOSES")
	for _, name := range names {
		l := found[name]
		closes := "-"
		if !l.closes.IsZero() {
			closes = "in " + shortTime(l.closes.Sub(now))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", name, l.rows, l.tooLate, sayLimits(l.lane.Limits),
			sayNeed(l.rows-l.tooLate, l.lane.Limits), closes)
	}
	_ = w.Flush()
	for _, name := range names {
		l := found[name]
		need := timeNeeded(l.rows-l.tooLate, l.lane.Limits)
		if !l.closes.IsZero() && now.Add(need).After(l.closes) {
			fmt.Fprintf(out, "lane %s: its limits need longer than its first window is open; some recalls will end as expired\n", name)
		}
		if l.published {
			for _, text := range laneNotices(name, l.lane, true, now) {
				fmt.Fprintln(out, text)
			}
		}
	}
	fmt.Fprintln(out, "dry run: nothing was enqueued; rows that are in the queue already were not told apart")
}

func sayLimits(limits []providers.Limit) string {
	if len(limits) == 0 {
		return "none"
	}
	texts := make([]string, len(limits))
	for i, l := range limits {
		texts[i] = l.String()
	}
	return strings.Join(texts, ", ")
}

func sayNeed(n int, limits []providers.Limit) string {
	need := timeNeeded(n, limits)
	if need < time.Second {
		return "under 1s"
	}
	return shortTime(need)
}

// timeNeeded is how long a lane's limits spread n calls out when nothing else waits, from the first call to the last.
func timeNeeded(n int, limits []providers.Limit) time.Duration {
	var need time.Duration
	for _, l := range limits {
		per := l.Per
		if l.Day {
			per = 24 * time.Hour
		}
		if n > 0 && l.Calls > 0 {
			need = max(need, time.Duration((n-1)/l.Calls)*per)
		}
	}
	return need
}
