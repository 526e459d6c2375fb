package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// previewing is a dry run: every check, nothing written to Redis, and what each lane would have to do. What it keeps does not
// grow with the rows, but for seenMost ids.
type previewing struct {
	*enqueuing // its rdb is nil if Redis cannot be asked, or no longer
	report     *redisconn.Report
	priority   tasks.Priority
	found      map[string]*lanePreview
	seen       idSet
}

// preview is --dry-run.
func (e *enqueuing) preview(ctx context.Context, source rowSource) error {
	e.tally.dry = true
	v := &previewing{enqueuing: e, found: make(map[string]*lanePreview)}
	if err := v.connect(ctx); err != nil {
		e.refusals.discard()
		return err
	}
	if v.rdb != nil {
		defer v.rdb.Close()
	}
	readErr := v.read(ctx, source)
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
	v.print(out)
	return e.close(code)
}

// connect reads what Redis knows. Without it a dry run goes on with what the providers document.
func (v *previewing) connect(ctx context.Context) error {
	v.where, v.now = redisconn.Describe(v.set.redis), v.p.now
	rdb, err := connect(ctx, v.set.redis)
	if err == nil {
		v.rdb = rdb
		if err = v.readLanes(ctx); err != nil {
			_ = rdb.Close()
			v.rdb, v.now = nil, v.p.now
			err = fmt.Errorf("%s: %s", v.where, sayRedis(err))
		}
	}
	if ctx.Err() != nil {
		return &ended{exitInterrupted, errors.New("interrupted before any row was read")}
	}
	if err != nil {
		v.console.say("%s", err)
		v.console.say("not checked for want of Redis: which lanes have workers, their own windows and limits (the providers' are used), what waits in them, which rows are in the queue already or have ended, how much memory is free")
		v.anyLane = true
		return nil
	}
	v.inspect(ctx)
	return nil
}

func (v *previewing) inspect(ctx context.Context) {
	report, err := redisconn.Inspect(ctx, v.rdb)
	if err != nil {
		v.console.say("warning: %s: %s", v.where, sayInspect(err))
		return
	}
	v.report = &report
	for _, w := range report.Warnings {
		v.console.say("warning: %s", w)
	}
	for _, text := range report.Unchecked {
		v.console.say("%s", text)
	}
}

// peekAtOnce is how many rows are looked up in Redis together.
const peekAtOnce = 500

// read goes through all rows, a portion at a time. It ends with io.EOF, or another error of the source or the context.
func (v *previewing) read(ctx context.Context, source rowSource) error {
	type portion struct {
		items []input.Item
		err   error
	}
	portions := make(chan portion, 1)
	go func() { // a read from standard input cannot be broken off
		for {
			var p portion
			for len(p.items) < peekAtOnce && p.err == nil {
				var item input.Item
				if item, p.err = source.Next(); p.err == nil {
					p.items = append(p.items, item)
				}
			}
			select {
			case portions <- p:
			case <-ctx.Done():
				return
			}
			if p.err != nil {
				return
			}
		}
	}()
	var held []input.Item // until it is known whether the rows are few
	for v.priority = v.set.priority; ; {
		select {
		case <-ctx.Done():
			v.rows(ctx, held)
			return ctx.Err()
		case p := <-portions:
			held = append(held, p.items...)
			switch {
			case v.priority == "" && len(held) > urgentUpTo:
				v.priority = tasks.Bulk
			case v.priority == "" && p.err != nil:
				v.priority = tasks.Urgent
			}
			if v.priority != "" {
				v.rows(ctx, held)
				held = nil
			}
			if p.err != nil {
				return p.err
			}
		}
	}
}

// planned is a row that would reach its queue.
type planned struct {
	lane     *lanePreview
	recall   tasks.Recall
	warnings []tasks.Warning
}

func (v *previewing) rows(ctx context.Context, items []input.Item) {
	if v.priority == "" {
		v.priority = tasks.Urgent
	}
	plans := make([]planned, 0, len(items))
	for _, item := range items {
		if p, ok := v.row(ctx, item); ok {
			plans = append(plans, p)
		}
	}
	for i, res := range v.peek(ctx, plans) {
		p := plans[i]
		fresh := v.seen.add(res.ID)
		if !fresh && res.Status == tasks.Enqueued {
			res.Status, res.Existing = tasks.Duplicate, tasks.Existing{Standing: tasks.Open, Batch: thisBatch}
		}
		v.tally.result(v.set.batch, res, p.warnings)
		v.console.step()
		if res.Status == tasks.Duplicate {
			p.lane.duplicate++
		} else {
			p.lane.memory += memoryOf(p.recall, v.set.batch)
			p.lane.enqueue++
			p.lane.show(p.recall)
		}
		// One that is moved from the bulk to the urgent queue needs its slot now.
		if res.Status == tasks.Enqueued || res.Promoted && fresh {
			p.lane.schedule(p.recall)
		}
	}
}

// row checks one row. It is false for one that is refused, which is then counted and reported.
func (v *previewing) row(ctx context.Context, item input.Item) (planned, bool) {
	opt := v.set.row
	opt.Now = v.now()
	r, warnings, ok := v.check(item, opt)
	if !ok {
		return planned{}, false
	}
	if v.anyLane && r.App == "" {
		r.App = unknownApp
	}
	resolved, refused := v.lookUp(r, opt.Now)
	if refused != nil && !refused.IsExpired() {
		v.refuse(item, v.sayLane(item, refused), false)
		return planned{}, false
	}
	l := v.laneOf(ctx, resolved)
	l.rows++
	if refused != nil {
		l.tooLate++
		v.tally.warn(without(warnings, tasks.NoText))
		v.refuse(item, v.set.sayRow(item, refused), true)
		return planned{}, false
	}
	if l.closes.IsZero() || resolved.RecallBy.Before(l.closes) {
		l.closes = resolved.RecallBy
	}
	if l.lane.HasDefaultText {
		warnings = without(warnings, tasks.NoText)
	}
	return planned{l, resolved, warnings}, true
}

// unknownApp stands for the provider's only app while Redis cannot be asked which that is.
const unknownApp = "?"

// peek asks Redis which rows are there already. Once it does not answer, none is from then on.
func (v *previewing) peek(ctx context.Context, plans []planned) []tasks.Result {
	recalls := make([]tasks.Recall, len(plans))
	for i, p := range plans {
		recalls[i] = p.recall
	}
	if v.rdb != nil && len(plans) > 0 {
		call, cancel := context.WithTimeout(ctx, answerWithin)
		results, err := tasks.Peek(call, v.rdb, v.priority, recalls)
		cancel()
		if err == nil {
			return results
		}
		if ctx.Err() == nil {
			v.console.say("%s: which rows are in the queue already or have ended was not checked from the %s on: %s", v.where, v.nextRow(), sayRedis(err))
		}
		_ = v.rdb.Close()
		v.rdb = nil
	}
	results := make([]tasks.Result, len(plans))
	for i, r := range recalls {
		results[i] = tasks.Result{ID: r.ID(), Status: tasks.Enqueued}
	}
	return results
}

// nextRow names the first row of which nothing is known yet.
func (v *previewing) nextRow() string {
	if n := v.tally.read(); n > 0 {
		return "row after the first " + thousands(int64(n))
	}
	return "first row"
}

// lanePreview is what a dry run finds out for one lane.
type lanePreview struct {
	lane      tasks.Lane
	published bool
	status    *lane.Status // nil if it is not known
	before    int64        // recalls that wait before the rows

	rows, tooLate, duplicate, enqueue int64

	closes    time.Time      // the first window to close
	all, fits *lane.Schedule // of all calls, and of those that can be made in time
	last      time.Time      // when the last call could start if no window closed
	noSlot    int64          // recalls that get no slot before their windows close
	memory    int64

	slow   bool // slower than one call a minute
	listed []string
	more   int64 // recalls without a slot that are not listed
	texts  []shownText
	others int64 // recalls with further texts
}

func (v *previewing) laneOf(ctx context.Context, r tasks.Recall) *lanePreview {
	name := r.Provider + ":" + r.App
	if l, have := v.found[name]; have {
		return l
	}
	l := &lanePreview{lane: tasks.Lane{Provider: r.Provider, App: r.App}}
	if spec, ok := providers.Lookup(r.Provider); ok {
		l.lane.Window, l.lane.Limits = spec.Window, spec.Limits
	}
	if known, ok := v.lanes.find(r.Provider, r.App); ok {
		l.lane, l.published = known, true
	}
	now := v.now()
	from, made := now, []time.Time(nil)
	if v.rdb != nil {
		if s, err := lane.ReadBrief(ctx, v.rdb, l.lane, now); err == nil {
			l.status, from, made = &s, s.Opens(now), s.Made
			l.before = s.Urgent.Open()
			if v.priority == tasks.Bulk {
				l.before = s.Waiting()
			}
		}
	}
	l.all, l.fits = lane.NewSchedule(l.lane.Limits, from, made), lane.NewSchedule(l.lane.Limits, from, made)
	l.all.Skip(l.before)
	l.fits.Skip(l.before)
	l.slow = slices.ContainsFunc(l.lane.Limits, func(limit providers.Limit) bool {
		per := limit.Per
		if limit.Day {
			per = 24 * time.Hour
		}
		return per > time.Duration(limit.Calls)*time.Minute
	})
	v.found[name] = l
	return l
}

// listWithoutSlot is how many recalls that get no slot are listed one by one. Those that get one are as many as fit before
// their windows close, which on a slow lane is not many.
const listWithoutSlot = 50

// schedule gives a recall the lane's next slot, unless its window closes before.
func (l *lanePreview) schedule(r tasks.Recall) {
	l.last = l.all.Take()
	at := l.fits.Next()
	inTime := at.Before(r.RecallBy)
	if inTime {
		l.fits.Take()
	} else {
		l.noSlot++
	}
	switch {
	case !l.slow:
	case inTime:
		l.listed = append(l.listed, listedAt(at, r))
	case l.noSlot <= listWithoutSlot:
		l.listed = append(l.listed, listedAt(time.Time{}, r))
	default:
		l.more++
	}
}

func listedAt(at time.Time, r tasks.Recall) string {
	when := "no slot in time"
	if !at.IsZero() {
		when = at.UTC().Format("2006-01-02 15:04:05Z")
	}
	text := fmt.Sprintf("  %-20s  %s", when, r.MessageID)
	if r.To != "" {
		text += " to " + r.To
	}
	return text
}

// shownText is what users will see in the place of a message.
type shownText struct {
	title, desc string
	recalls     int64
}

// mostTexts is how many different texts are shown.
const mostTexts = 5

// show counts the text that users will see.
func (l *lanePreview) show(r tasks.Recall) {
	if r.Provider != providers.TIMPush {
		return
	}
	for i := range l.texts {
		if t := &l.texts[i]; t.title == r.OfflinePushTitle && t.desc == r.OfflinePushDesc {
			t.recalls++
			return
		}
	}
	if len(l.texts) == mostTexts {
		l.others++
		return
	}
	// The row's strings are part of its line, which need not be kept.
	l.texts = append(l.texts, shownText{strings.Clone(r.OfflinePushTitle), strings.Clone(r.OfflinePushDesc), 1})
}
