package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

const (
	// lookEvery is how often a batch that is watched is read.
	lookEvery = 500 * time.Millisecond
	// lineEvery is how often a line is written at most where there is no terminal.
	lineEvery = 2 * time.Second
	// rateOver is the time over which the rate is taken.
	rateOver = 15 * time.Second
)

func (p *program) watchCommand() *cobra.Command {
	var progress string
	cmd := &cobra.Command{
		Use:   "watch BATCH",
		Short: "Show the progress of a batch until it has ended",
		Long: "Show the progress of a batch until it has ended: every input was read to its end and nothing is open, or its last\n" +
			"recall_by was an hour ago. On a terminal it is a picture that is drawn again in place, elsewhere a line when\n" +
			"something has changed. Ctrl-C stops watching, not the batch.\n\n" +
			"With -o json, the batch's hash is printed at the end.\n\n" +
			"Exit codes: 0 every recall was taken back (duplicates are other batches'), 4 some were not, 1 failure,\n" +
			"130 interrupted.",
		Example: "  enqueue watch incident-41\n" +
			"  enqueue watch incident-41 -o json && echo all taken back",
		Args:              oneBatch,
		ValidArgsFunction: p.completeBatch,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			if err := checkProgress(progress); err != nil {
				return err
			}
			b, err := p.openBook(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			if _, err := b.named(cmd.Context(), args[0]); err != nil {
				return err
			}
			return p.watch(cmd.Context(), b, args[0], progress, asJSON)
		},
	}
	cmd.Flags().StringVar(&progress, "progress", "auto", progressHelp)
	completeFlags(cmd)
	return cmd
}

const progressHelp = "`WHEN` to draw the picture on standard error: auto (on a terminal), always or never"

// watch shows a batch until it has ended, and says how.
func (p *program) watch(ctx context.Context, b *book, name, progress string, asJSON bool) error {
	w := &watching{p: p, book: b, name: name, screen: p.newScreen(progress, asJSON)}
	last, err := w.run(ctx)
	if err != nil {
		return err
	}
	batch, now := last.batch, last.now
	if asJSON {
		err = writeHash(p.stdout, batch, now)
	} else {
		_, err = fmt.Fprintln(p.stdout, sayEnd(batch, now, p.place()))
	}
	if err == nil && batch.Failed()+batch.Lost(now) > 0 {
		err = &ended{code: exitUnsuccessful}
	}
	return err
}

func (p *program) newScreen(progress string, asJSON bool) *screen {
	picture := progress == "always" || progress == "auto" && isTerminal(p.stderr) && p.envOr("TERM", "") != "dumb"
	if picture {
		_, plain := p.env("NO_COLOR")
		return &screen{picture: true, out: p.stderr, colour: !plain && isTerminal(p.stderr), size: func() (int, int) { return sizeOf(p.stderr) }}
	}
	s := &screen{out: p.stdout}
	if asJSON {
		s.out = p.stderr
	}
	if progress == "never" {
		s.out = io.Discard
	}
	return s
}

func (p *program) envOr(name, otherwise string) string {
	if value, ok := p.env(name); ok {
		return value
	}
	return otherwise
}

// watching is one run of watch.
type watching struct {
	p      *program
	book   *book
	name   string
	screen *screen
	pace   pace
	outage outage
}

// view is what is known of a batch at one moment.
type view struct {
	batch ledger.Batch
	now   time.Time
	// rate is how many recalls ended in a second lately; negative if that is not known yet.
	rate  float64
	lanes []laneView
	// inputs are those that keep the batch from ending although nothing is open.
	inputs []string
}

// laneView is one lane of the batch.
type laneView struct {
	lane.Status
	published tasks.Lane // with a zero LastSeen: no worker has ever served the lane
	next      time.Time  // when the next call can start
	through   time.Time  // when what waits now can have been called, what others have enqueued included
	at        place
}

// resume is the command that lets it go on when somebody has paused it.
func (l laneView) resume() string {
	return l.at.command("resume", "--provider", shown(l.published.Provider), "--app", shown(l.published.App))
}

func (l laneView) name() string { return shown(l.published.Name()) }

// run returns how the batch has ended.
func (w *watching) run(ctx context.Context) (view, error) {
	defer w.screen.leave()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		v, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return v, w.stopped()
		case err != nil:
			if err := w.away(ctx, err); err != nil {
				return v, err
			}
		default:
			if w.outage.over() {
				w.screen.say("Redis answers again")
			}
			w.screen.show(v)
			if v.batch.Ended(v.now) {
				return v, nil
			}
		}
		select {
		case <-ctx.Done():
			return v, w.stopped()
		case <-tick.C:
		}
	}
}

// look reads the batch and its lanes.
func (w *watching) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	var v view
	var err error
	if v.now, err = clockOf(ctx, w.book.rdb, w.p.now); err != nil {
		return v, err
	}
	if v.batch, err = w.book.Batch(ctx, w.name); err != nil {
		return v, err
	}
	v.rate = w.pace.add(v.now, v.batch.Succeeded()+v.batch.Failed())
	if v.waitsForInput() {
		if v.inputs, err = w.book.ReadingInputs(ctx, w.name); err != nil {
			return v, err
		}
	}
	v.lanes, err = w.book.lanesOf(ctx, v.batch, v.now)
	return v, err
}

// lanesOf reads how the lanes of a batch stand.
func (b *book) lanesOf(ctx context.Context, batch ledger.Batch, now time.Time) ([]laneView, error) {
	published, _, err := publishedLanes(ctx, b.rdb) // not to be said with every look
	if err != nil {
		return nil, err
	}
	var list []tasks.Lane
	for _, name := range batch.Lanes() {
		provider, app, _ := strings.Cut(name, ":")
		l := tasks.Lane{Provider: provider, App: app}
		if i := slices.IndexFunc(published, func(l tasks.Lane) bool { return l.Name() == name }); i >= 0 {
			l = published[i]
		}
		list = append(list, l)
	}
	views := make([]laneView, len(list))
	for i, l := range list {
		status, err := lane.ReadBrief(ctx, b.rdb, l, now)
		if err != nil {
			return nil, err
		}
		views[i] = b.view(l, status, now)
	}
	return views, nil
}

// view is a lane with commands that mean this Redis.
func (b *book) view(l tasks.Lane, s lane.Status, now time.Time) laneView {
	v := viewOf(l, s, now)
	v.at = b.p.place()
	return v
}

func viewOf(l tasks.Lane, s lane.Status, now time.Time) laneView {
	v := laneView{Status: s, published: l}
	schedule := lane.NewSchedule(l.Limits, s.Opens(now), s.Made)
	v.next = schedule.Next()
	v.through = schedule.Skip(s.Waiting())
	return v
}

// away waits out a Redis that is away for a while. Its error ends the watching.
func (w *watching) away(ctx context.Context, err error) error {
	if errors.Is(err, ledger.ErrNoBatch) {
		return failure(fmt.Errorf("the batch %s is gone: it was removed, or Redis has lost it", w.name))
	}
	what, words := judge(ctx, w.book.rdb, err)
	since, first := w.outage.began(w.p.now())
	if what != lasting && w.p.now().Sub(since) < w.p.patience {
		if first {
			w.screen.say(fmt.Sprintf("%s: %s; waiting up to %s for it", w.book.where, words, shortTime(w.p.patience)))
		}
		return nil
	}
	if ctx.Err() != nil {
		return w.stopped()
	}
	return failure(fmt.Errorf("%s: %s; no longer watched, to look again: %s", w.book.where, words, w.p.command("watch", w.name)))
}

func (w *watching) stopped() error {
	return &ended{exitInterrupted, fmt.Errorf("stopped watching, the batch goes on; to look again: %s, to stop it: %s",
		w.p.command("watch", w.name), w.p.command("cancel", w.name))}
}

// pace finds out how fast recalls end.
type pace struct{ samples []sample }

type sample struct {
	at    time.Time
	ended int64
}

// add notes how many have ended by now, and returns the rate a second; -1 if there is nothing to compare with yet.
func (p *pace) add(now time.Time, ended int64) float64 {
	p.samples = append(p.samples, sample{now, ended})
	for len(p.samples) > 2 && now.Sub(p.samples[0].at) > rateOver {
		p.samples = p.samples[1:]
	}
	first := p.samples[0]
	over := now.Sub(first.at).Seconds()
	if over < 1 {
		return -1
	}
	return max(float64(ended-first.ended)/over, 0)
}

// waitsForInput reports whether the batch goes on only because an input was not read to its end.
func (v view) waitsForInput() bool {
	return v.batch.Open == 0 && v.batch.Reading > 0 && !v.batch.Ended(v.now)
}

// busy are the lanes with recalls that wait, those that make calls apart from those that make none until something changes that
// no limit foretells.
func (v view) busy() (going, stuck []laneView) {
	for _, l := range v.lanes {
		switch {
		case l.Waiting() == 0 || v.batch.Open == 0:
		case l.stuck(v.now) != "":
			stuck = append(stuck, l)
		default:
			going = append(going, l)
		}
	}
	return going, stuck
}

// atLimits is how long the lanes of the batch that make calls need for what waits in them; zero if nothing does.
func (v view) atLimits() time.Duration {
	var longest time.Duration
	going, _ := v.busy()
	for _, l := range going {
		longest = max(longest, l.through.Sub(v.now))
	}
	return longest
}

// sayLeft says how fast it goes and how long it will take, or what it waits for.
func (v view) sayLeft() string {
	var parts []string
	if v.rate >= 0 {
		parts = append(parts, fmt.Sprintf("%.3g a second", v.rate))
	}
	if !v.batch.CancelledAt.IsZero() { // its recalls end at once, whatever their lanes do
		return strings.Join(parts, "; ")
	}
	going, stuck := v.busy()
	atLimits := v.atLimits()
	switch {
	case len(stuck) > 0 && len(going) == 0:
		return strings.Join(append(parts, "waits for "+sayStuck(stuck, v.now)), "; ")
	case len(stuck) > 0 && atLimits >= time.Second:
		parts = append(parts, shortTime(atLimits)+" left at the lanes' limits, without "+sayStuck(stuck, v.now))
	case len(stuck) > 0:
		parts = append(parts, "waits also for "+sayStuck(stuck, v.now))
	case atLimits >= time.Second:
		parts = append(parts, shortTime(atLimits)+" left at the lanes' limits")
	}
	if v.rate > 0 && v.batch.Open > 0 && len(stuck) == 0 {
		// A lane that is closed makes no difference to the rate, so that it tells nothing where the limits need longer.
		if left := time.Duration(float64(v.batch.Open) / v.rate * float64(time.Second)); left > atLimits {
			parts = append(parts, shortTime(left)+" left at this rate")
		}
	}
	return strings.Join(parts, "; ")
}

// sayStuck names a single lane that makes no calls, and counts several.
func sayStuck(lanes []laneView, now time.Time) string {
	if len(lanes) == 1 {
		return lanes[0].name() + ", which is " + lanes[0].stuck(now)
	}
	var kinds []string
	count := make(map[string]int)
	for _, l := range lanes {
		kind := l.stuck(now)
		if count[kind]++; count[kind] == 1 {
			kinds = append(kinds, kind)
		}
	}
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", count[kind], kind)
	}
	return fmt.Sprintf("%d lanes: %s", len(lanes), strings.Join(kinds, ", "))
}

// stuck says in short why a lane makes no calls for what waits in it, and that no time can be told; empty otherwise.
func (l laneView) stuck(now time.Time) string {
	urgent, bulk := l.Urgent.Open() > 0, l.Bulk.Open() > 0
	switch {
	case l.Hold.Reason != "":
		return stateHeld
	case l.paused() != "" && (!urgent || l.Urgent.Paused) && (!bulk || l.Bulk.Paused):
		return statePaused
	case !l.published.Served(now):
		return "without a worker"
	}
	return ""
}

// warnings are what keeps the batch from ending well, or at all.
func (v view) warnings() []string {
	var list []string
	if last := v.batch.LastRecallBy; v.batch.Open > 0 && !last.IsZero() {
		if left := last.Sub(v.now); left > 0 && v.atLimits() > left {
			list = append(list, fmt.Sprintf("the last window closes in %s: at the lanes' limits some recalls will expire", shortTime(left)))
		}
	}
	if v.waitsForInput() {
		list = append(list, "nothing is open; waits for "+nameInputs(v.inputs, 60)+
			": it is being read, or has to be run again to its end, with --batch "+v.batch.Name)
	}
	if !v.batch.CancelledAt.IsZero() && v.batch.Open > 0 {
		list = append(list, "cancelled by "+cmp.Or(v.batch.CancelledBy, "somebody")+": calls that have not started are not made")
	}
	return list
}

// closed names in short what keeps a lane from making calls; empty if nothing does.
func (l laneView) closed(now time.Time) string {
	switch {
	case l.Hold.Reason != "":
		return l.Hold.Reason
	case l.Throttled.After(now):
		return lane.ReasonThrottled
	case l.Waiting() > 0 && l.next.Sub(now) > retry.InPlace:
		return lane.ReasonLimit
	}
	return ""
}

// paused says whether a person has paused the lane, or one of its queues; empty if not.
func (l laneView) paused() string {
	switch {
	case l.Urgent.Paused && l.Bulk.Paused:
		return "paused"
	case l.Urgent.Paused:
		return "urgent paused"
	case l.Bulk.Paused:
		return "bulk paused"
	}
	return ""
}

// say tells that a lane makes no calls, until when, and why, what matters most first; empty if it makes calls.
func (l laneView) say(now time.Time) string {
	state, why := l.standing(now)
	return strings.Join(append(state, why...), "; ")
}

// standing is how a lane that makes no calls stands, and what is to be known beside.
func (l laneView) standing(now time.Time) (state, why []string) {
	switch closed := l.closed(now); closed {
	case "":
	case lane.ReasonThrottled:
		state = append(state, "throttled"+sayUntil(l.Throttled, now))
		why = append(why, "the vendor asks for fewer calls")
	case lane.ReasonLimit:
		state = append(state, "out of slots"+sayUntil(l.next, now))
	default:
		state = append(state, l.sayHeld(now))
		why = append(why, shown(cmp.Or(l.Hold.Says, l.Hold.Reason)))
	}
	if paused := l.paused(); paused != "" {
		state = append(state, paused)
		why = append(why, l.resume())
	}
	if unserved := l.sayUnserved(now); unserved != "" {
		state = append(state, unserved)
	}
	return state, why
}

const noWorkerEver = "no worker has ever served it"

// sayUnserved tells that no worker serves the lane now; empty if one does.
func (l laneView) sayUnserved(now time.Time) string {
	switch {
	case neverServed(l.published):
		return noWorkerEver
	case !l.published.Served(now):
		return "no worker seen for " + shortTime(now.Sub(l.published.LastSeen))
	}
	return ""
}

func (l laneView) sayHeld(now time.Time) string {
	if l.Hold.Until.After(now) {
		return "held, next try" + sayWhen(l.Hold.Until, now)
	}
	return "held, next try due"
}

func sayUntil(t, now time.Time) string { return " until" + sayWhen(t, now) }

func sayWhen(t, now time.Time) string {
	return fmt.Sprintf(" %s (%s)", showClock(t, now), shortTime(t.Sub(now)))
}

// line says all of it in one line, for where there is no terminal. times are left out of what is compared with the line
// before.
func (v view) line(times bool) string {
	b := v.batch
	ended := b.Succeeded() + b.Failed()
	parts := []string{fmt.Sprintf("%s: %d of %d ended", b.Name, ended, b.Total-b.Duplicate)}
	for _, outcome := range tasks.Outcomes() {
		if n := b.Outcomes[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", outcome, n))
		}
	}
	parts = append(parts, fmt.Sprintf("duplicate %d", b.Duplicate), fmt.Sprintf("open %d", b.Open))
	text := strings.Join(parts, ", ")
	if left := v.sayLeft(); times && left != "" && b.Open > 0 {
		text += "; " + left
	}
	for _, l := range v.lanes {
		switch why := l.say(v.now); {
		case b.Open == 0:
		case why != "" && times:
			text += "; " + l.name() + " " + why
		case why != "":
			text += fmt.Sprint(l.name(), l.closed(v.now), l.paused())
		}
	}
	if times {
		text = strings.Join(append([]string{text}, v.warnings()...), "; ")
	}
	return providers.Line(text, 2000)
}

// sayEnd is the last line.
func sayEnd(b ledger.Batch, now time.Time, at place) string {
	text := "batch " + b.Name + " has ended: "
	mine := b.Total - b.Duplicate
	bad := b.Failed() + b.Lost(now)
	switch {
	case b.Total == 0:
		text += "it is empty"
	case mine == 0:
		text += "it has no recalls of its own"
	case bad == 0 && mine == 1:
		text += "its recall was taken back"
	case bad == 0:
		text += fmt.Sprintf("all %s were taken back", recalls(mine))
	default:
		text += fmt.Sprintf("%s of %s taken back, %s not", thousands(b.Succeeded()), recalls(mine), thousands(bad))
	}
	var parts []string
	if bad > 0 {
		for _, outcome := range tasks.Outcomes() {
			if n := b.Outcomes[outcome]; n > 0 && !tasks.Succeeded(outcome) {
				parts = append(parts, outcome+" "+thousands(n))
			}
		}
		if lost := b.Lost(now); lost > 0 {
			parts = append(parts, "lost "+thousands(lost))
		}
		text += " (" + strings.Join(parts, ", ") + "); for why: " + at.command("report", b.Name)
	}
	if b.Duplicate > 0 {
		text += fmt.Sprintf("; %s %s", thousands(b.Duplicate), plural(b.Duplicate, "row was a duplicate", "rows were duplicates"))
	}
	return text
}

func sizeOf(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		return terminalSize(f)
	}
	return defaultWidth, defaultHeight
}

// thenWatch is --watch: it watches the batch, unless the run before it has failed or was interrupted. Refused rows go before
// recalls that did not succeed.
func (e *enqueuing) thenWatch(ctx context.Context, ran error) error {
	if !e.set.watch || ran != nil && codeOf(ran) != exitRefused {
		return ran
	}
	watched := e.p.watch(ctx, e.p.bookOn(e.rdb, e.where), e.set.batch, e.set.progress, e.set.json)
	if ran != nil && (watched == nil || codeOf(watched) == exitUnsuccessful) {
		return ran
	}
	return watched
}

// codeOf is the exit code that an error leads to.
func codeOf(err error) int {
	var end *ended
	if errors.As(err, &end) {
		return end.code
	}
	return exitUsage
}
