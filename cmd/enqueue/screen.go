package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rivo/uniseg"
	"golang.org/x/term"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

const (
	defaultWidth, defaultHeight = 80, 24
	// widest is how wide the picture gets, on a terminal that is wider.
	widest = 120
)

func terminalSize(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 20 || height < 5 {
		return defaultWidth, defaultHeight
	}
	return width, height
}

// screen shows views, as a picture that is drawn again in place or as lines. A terminal that is gone is no reason to stop, so
// errors are left alone.
type screen struct {
	out     io.Writer
	picture bool
	colour  bool
	size    func() (width, height int)

	notes []string // said lately, below the picture
	drawn []int    // the widths of the lines that are on the terminal

	said   string // the last line, without its times
	saidAt time.Time
	waits  *view // what was not said yet, because the last line is too young
}

// say shows a message.
func (s *screen) say(text string) {
	if !s.picture {
		fmt.Fprintln(s.out, text)
		return
	}
	s.notes = []string{text}
}

func (s *screen) show(v view) {
	if s.picture {
		width, height := s.size()
		s.draw(s.paint(v, min(width, widest)), width, height)
		return
	}
	text := v.line(false)
	if text == s.said || v.now.Sub(s.saidAt) < lineEvery {
		s.waits = nil
		if text != s.said {
			s.waits = &v
		}
		return
	}
	s.print(v)
}

func (s *screen) print(v view) {
	s.said, s.saidAt, s.waits = v.line(false), v.now, nil
	fmt.Fprintf(s.out, "%sZ %s\n", v.now.UTC().Format("15:04:05"), v.line(true))
}

// leave shows what was held back.
func (s *screen) leave() {
	if s.waits != nil {
		s.print(*s.waits)
	}
}

const (
	up         = "\x1b[%dA"
	toLineEnd  = "\x1b[K"
	toEnd      = "\x1b[J"
	noColour   = "\x1b[0m"
	lineFeed   = "\r\n"
	leftMargin = "  "
)

// draw replaces what is on the terminal, in one write and without clearing it first, so that nothing flickers.
func (s *screen) draw(lines []painted, width, height int) {
	lines = lines[:min(len(lines), height-1)]
	var b bytes.Buffer
	rows := 0
	for _, w := range s.drawn { // a terminal that was made narrower has wrapped them
		rows += max(1, (w+width-1)/width)
	}
	if rows > 0 {
		fmt.Fprintf(&b, up, min(rows, height-1))
	}
	b.WriteString("\r")
	s.drawn = s.drawn[:0]
	for _, l := range lines {
		text, w := l.fit(width-1, s.colour)
		b.WriteString(text + toLineEnd + lineFeed)
		s.drawn = append(s.drawn, w)
	}
	b.WriteString(toEnd)
	_, _ = s.out.Write(b.Bytes())
}

// painted is a line in pieces of one colour each.
type painted []piece

type piece struct {
	text, colour string
}

func plain(text string) painted { return painted{{text: text}} }

// fit cuts a line to a width in cells, and returns it with the cells that it takes.
func (l painted) fit(width int, colour bool) (string, int) {
	var b strings.Builder
	used := 0
	for _, p := range l {
		text := cutTo(p.text, width-used)
		used += uniseg.StringWidth(text)
		if colour && p.colour != "" && text != "" {
			text = p.colour + text + noColour
		}
		b.WriteString(text)
	}
	return b.String(), used
}

// cutTo cuts a text to a width in cells: a Chinese character takes two.
func cutTo(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	used := 0
	var b strings.Builder
	g := uniseg.NewGraphemes(text)
	for g.Next() {
		if used += g.Width(); used > width-1 {
			break
		}
		b.WriteString(g.Str())
	}
	if width > 0 {
		b.WriteString("~")
	}
	return b.String()
}

// mark is how the picture shows what a recall counts as. The characters take one cell everywhere and tell themselves apart
// without colours.
type mark struct {
	what, sign, colour string
}

func marks() []mark {
	const green, cyan, blue, red, yellow, grey = "\x1b[32m", "\x1b[36m", "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[90m"
	return []mark{
		{tasks.Recalled, "#", green}, {tasks.AlreadyRecalled, "+", cyan}, {tasks.Duplicate, "=", blue},
		{tasks.Expired, "x", red}, {tasks.NotFound, "?", red}, {tasks.Rejected, "!", red},
		{tasks.Cancelled, "-", yellow}, {tasks.Open, ".", grey},
	}
}

// paint makes the picture of a view.
func (s *screen) paint(v view, width int) []painted {
	b := v.batch
	title := "batch " + b.Name
	if b.Reason != "" {
		title += ": " + providers.Line(b.Reason, 200)
	}
	lines := []painted{plain(title), plain(v.subtitle()), plain(""), v.bar(width), plain("")}
	lines = append(append(lines, v.counts()...), plain(""))
	if left := v.sayLeft(); left != "" {
		lines = append(lines, plain(leftMargin+left))
	}
	const yellow = "\x1b[33m"
	for _, text := range append(v.warnings(), s.notes...) {
		lines = append(lines, painted{{leftMargin + text, yellow}})
	}
	return append(lines, v.laneLines()...)
}

func (v view) subtitle() string {
	b := v.batch
	parts := []string{providers.Line(b.By, 60)}
	if !b.CreatedAt.IsZero() {
		parts[0] += ", " + sayBegun(b, v.now)
	}
	inputs := "1 input"
	if b.Inputs != 1 {
		inputs = fmt.Sprintf("%d inputs", b.Inputs)
	}
	if b.Reading > 0 {
		inputs += fmt.Sprintf(", %d not read to its end", b.Reading)
	}
	parts = append(parts, inputs)
	if left := b.LastRecallBy.Sub(v.now); !b.LastRecallBy.IsZero() && left > 0 {
		parts = append(parts, "windows close in "+shortTime(left))
	}
	return strings.Join(parts, "; ")
}

func (v view) count(what string) int64 {
	switch what {
	case tasks.Duplicate:
		return v.batch.Duplicate
	case tasks.Open:
		return v.batch.Open
	}
	return v.batch.Outcomes[what]
}

// bar shares a line out among the outcomes. What there is one of at all is seen.
func (v view) bar(width int) painted {
	const around = len(leftMargin + "[]  100%")
	cells := max(width-1-around, 10)
	line := painted{{text: leftMargin + "["}}
	for i, n := range shares(v.barCounts(), cells) {
		m := marks()[i]
		line = append(line, piece{strings.Repeat(m.sign, n), m.colour})
	}
	if v.batch.Total == 0 {
		line = append(line, piece{text: strings.Repeat(" ", cells)})
	}
	return append(line, piece{text: fmt.Sprintf("]  %3d%%", v.percent())})
}

func (v view) barCounts() []int64 {
	counts := make([]int64, len(marks()))
	for i, m := range marks() {
		counts[i] = max(v.count(m.what), 0)
	}
	return counts
}

// percent is how much has ended, rounded down: 100 means all.
func (v view) percent() int64 {
	if v.batch.Total == 0 {
		return 0
	}
	return 100 * (v.batch.Total - v.batch.Open) / v.batch.Total
}

// shares divides cells among counts, in proportion; a count that is not zero gets one at least.
func shares(counts []int64, cells int) []int {
	var total int64
	for _, n := range counts {
		total += n
	}
	parts := make([]int, len(counts))
	if total == 0 {
		return parts
	}
	left, largest := cells, 0
	for i, n := range counts {
		parts[i] = int(float64(n) / float64(total) * float64(cells))
		if n > 0 && parts[i] == 0 {
			parts[i] = 1
		}
		left -= parts[i]
		if counts[i] > counts[largest] {
			largest = i
		}
	}
	parts[largest] += left
	return parts
}

// counts are the figures, in three columns.
func (v view) counts() []painted {
	columns := [][]string{
		{tasks.Recalled, tasks.AlreadyRecalled, tasks.Duplicate},
		{tasks.Expired, tasks.NotFound, tasks.Rejected},
		{tasks.Cancelled, tasks.Open, "total"},
	}
	var lines []painted
	for row := range columns[0] {
		line := plain(leftMargin)
		for _, column := range columns {
			line = append(line, v.figure(column[row])...)
		}
		lines = append(lines, line)
	}
	return lines
}

func (v view) figure(what string) painted {
	n, sign, colour := v.batch.Total, " ", ""
	for _, m := range marks() {
		if m.what == what {
			n, sign = v.count(what), m.sign
			if n > 0 {
				colour = m.colour
			}
		}
	}
	return painted{{sign, colour}, {text: fmt.Sprintf(" %-9s", strings.TrimSuffix(what, "_recalled"))}, {fmt.Sprintf("%11s", thousands(n)), colour}, {text: "   "}}
}

// laneLines say how the batch's lanes stand, those that are closed first.
func (v view) laneLines() []painted {
	const red = "\x1b[31m"
	var closed, open []painted
	for _, l := range v.lanes {
		name := fmt.Sprintf("%s%-18s %s waiting; ", leftMargin, l.name(), thousands(l.Waiting()))
		if why := l.say(v.now); why != "" {
			closed = append(closed, painted{{text: name}, {why, red}})
			continue
		}
		open = append(open, plain(name+"open, "+sayLaneLimits(l.published)))
	}
	if len(closed)+len(open) == 0 {
		return nil
	}
	return append(append([]painted{plain("")}, closed...), open...)
}

func sayLaneLimits(l tasks.Lane) string {
	if len(l.Limits) == 0 {
		return "no limits"
	}
	return sayLimits(l.Limits)
}
