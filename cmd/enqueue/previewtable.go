package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// print writes what a person decides by: the lanes side by side, then what there is to be said about each.
func (v *previewing) print(out io.Writer) {
	names := slices.Sorted(maps.Keys(v.found))
	now := v.now()
	v.table(out, names, now)
	for _, name := range names {
		for _, text := range v.notes(name, now) {
			say(out, text)
		}
	}
	for _, name := range names {
		v.found[name].printTexts(out)
	}
	for _, name := range names {
		v.found[name].printList(out)
	}
	v.printMemory(out)
	if v.seen.full() {
		say(out, fmt.Sprintf("rows that come twice were told apart among the first %s only", thousands(seenMost)))
	}
	say(out, fmt.Sprintf("dry run: nothing was enqueued; the rows would be %s", v.priority))
}

// say writes a sentence, wrapped at the page's width.
func say(out io.Writer, text string) {
	for i, line := range wrap(printable(text), pageWidth-2) {
		if i > 0 {
			line = "  " + line
		}
		fmt.Fprintln(out, line)
	}
}

// aspects are the lines of the table.
var aspects = []struct {
	label string
	value func(l *lanePreview, now time.Time) string
}{
	{"rows", func(l *lanePreview, _ time.Time) string { return thousands(l.rows) }},
	{"already too late", func(l *lanePreview, _ time.Time) string { return thousands(l.tooLate) }},
	{"queued or ended already", func(l *lanePreview, _ time.Time) string { return l.ifKnown(l.duplicate) }},
	{"to be enqueued", func(l *lanePreview, _ time.Time) string { return thousands(l.enqueue) }},
	{"waiting before them", func(l *lanePreview, _ time.Time) string { return l.ifKnown(l.before) }},
	{"time at the limits", (*lanePreview).sayNeeds},
	{"will not fit in time", func(l *lanePreview, _ time.Time) string { return thousands(l.noSlot) }},
	{"first window closes in", (*lanePreview).sayCloses},
}

// ifKnown is a number, or a question mark where Redis could not be asked.
func (l *lanePreview) ifKnown(n int64) string {
	if l.status == nil {
		return "?"
	}
	return thousands(n)
}

func (l *lanePreview) sayNeeds(now time.Time) string {
	switch {
	case len(l.lane.Limits) == 0:
		return "no limits"
	case l.last.Sub(now) < time.Second:
		return "under 1s"
	}
	return sayLong(l.last.Sub(now))
}

func (l *lanePreview) sayCloses(now time.Time) string {
	if l.closes.IsZero() {
		return "-"
	}
	return shortTime(l.closes.Sub(now))
}

// The widths of the table's columns. A lane's name is cut where it would take more than a table's width.
const (
	aspectWidth = 23
	narrowest   = 11
	columnGap   = 2
)

// table shows as many lanes beside each other as fit into the page's width, and the others below.
func (v *previewing) table(out io.Writer, names []string, now time.Time) {
	for len(names) > 0 {
		width, n := aspectWidth, 0
		for n < len(names) {
			more := columnGap + columnWidth(names[n])
			if n > 0 && width+more > pageWidth {
				break
			}
			width, n = width+more, n+1
		}
		v.columns(out, names[:n], now)
		names = names[n:]
		fmt.Fprintln(out)
	}
}

func columnWidth(name string) int {
	return max(narrowest, min(cells(name), pageWidth-aspectWidth-columnGap))
}

func (v *previewing) columns(out io.Writer, names []string, now time.Time) {
	line := func(label string, value func(name string) string) {
		text := fmt.Sprintf("%-*s", aspectWidth, label)
		for _, name := range names {
			width := columnWidth(name)
			text += fmt.Sprintf("  %*s", width, cutTo(value(name), width))
		}
		fmt.Fprintln(out, strings.TrimRight(printable(text), " "))
	}
	line("", func(name string) string { return name })
	for _, a := range aspects {
		line(a.label, func(name string) string { return a.value(v.found[name], now) })
	}
}

// notes are what somebody should know about a lane before its recalls are enqueued.
func (v *previewing) notes(name string, now time.Time) []string {
	l := v.found[name]
	var notes []string
	if !v.anyLane {
		notes = v.p.laneNotices(name, l.lane, l.published, v.paused[tasks.Queue(l.lane.Provider, l.lane.App, v.priority)], now)
	}
	if len(l.lane.Limits) > 0 {
		notes = append(notes, fmt.Sprintf("lane %s: its limits are %s", name, sayLimits(l.lane.Limits)))
	}
	if l.noSlot > 0 {
		notes = append(notes, fmt.Sprintf("lane %s: %s will get no slot before their windows close, and end as expired", name, recalls(l.noSlot)))
	}
	return notes
}

// printTexts shows what users will see in the place of a push.
func (l *lanePreview) printTexts(out io.Writer) {
	if len(l.texts) == 0 {
		return
	}
	fmt.Fprintf(out, "lane %s: users will see\n", shown(l.lane.Name()))
	for _, t := range l.texts {
		indent := "  "
		for _, line := range brokenWhole(recalls(t.recalls)+": "+t.say(l), pageWidth-4) {
			fmt.Fprintln(out, indent+line)
			indent = "    "
		}
	}
	if l.others > 0 {
		fmt.Fprintf(out, "  %s: other texts\n", recalls(l.others))
	}
}

func (t shownText) say(l *lanePreview) string {
	switch {
	case t.title != "" && t.desc != "":
		return fmt.Sprintf("title %q, text %q", t.title, t.desc)
	case t.title != "":
		return fmt.Sprintf("title %q", t.title)
	case t.desc != "":
		return fmt.Sprintf("text %q", t.desc)
	case l.lane.HasDefaultText:
		return "the default text that the app is configured with"
	case !l.published:
		return "the app's default text, if it is configured with one"
	}
	return "no new text, so that the old one may stay"
}

// printList lists the recalls of a slow lane with their times.
func (l *lanePreview) printList(out io.Writer) {
	if len(l.listed) == 0 {
		return
	}
	fmt.Fprintf(out, "lane %s, one by one, at the earliest:\n", shown(l.lane.Name()))
	for _, line := range l.listed {
		fmt.Fprintln(out, printable(line))
	}
	if l.more > 0 {
		fmt.Fprintf(out, "  and %s more without a slot in time\n", thousands(l.more))
	}
}

// printMemory says how much memory of Redis the rows take, and how much is free.
func (v *previewing) printMemory(out io.Writer) {
	var waiting, ended int64
	kept := time.Duration(0)
	for _, l := range v.found {
		waiting += l.memory
		ended += l.memory + l.enqueue*endedBytes
		kept = max(kept, l.lane.Retention)
	}
	if kept == 0 {
		kept = tasks.DefaultRetention
	}
	text := fmt.Sprintf("redis memory: %s while they wait, %s once they have ended, which is kept for %s; ", bytesOf(waiting), bytesOf(ended), shortTime(kept))
	switch r := v.report; {
	case r == nil || r.UsedMemory == 0:
		text += "how much is free is not known"
	case r.MaxMemory == 0:
		text += fmt.Sprintf("%s are in use, and Redis has no bound of its own (maxmemory)", bytesOf(r.UsedMemory))
	default:
		text += fmt.Sprintf("%s of %s (maxmemory) are free", bytesOf(max(r.MaxMemory-r.UsedMemory, 0)), bytesOf(r.MaxMemory))
		if r.UsedMemory+ended > r.MaxMemory/100*fullPercent {
			text += fmt.Sprintf("; that will be more than %d %% full, where enqueueing stops: free memory or raise maxmemory first, or add --yes", fullPercent)
		}
	}
	say(out, text)
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
