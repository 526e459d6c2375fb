package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
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
		fmt.Fprintln(s.out, printable(text))
		return
	}
	s.notes = []string{text}
}

func (s *screen) show(v view) {
	if s.picture {
		width, height := s.size()
		s.draw(s.paint(v, min(width, widest), height), width, height)
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
		text := cutTo(printable(p.text), width-used)
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

// paint makes the picture of a view. Where there are too few rows for all of it, what matters least goes first: empty lines,
// then the lanes' second lines, then lanes, whose number is said, and at the very end all but the counts.
func (s *screen) paint(v view, width, height int) []painted {
	const yellow = "\x1b[33m"
	title := "batch " + v.batch.Name
	if v.batch.Reason != "" {
		title += ": " + providers.Line(v.batch.Reason, 200)
	}
	var notes []painted
	warn := func(texts []string) {
		for _, warning := range texts {
			for _, text := range indented(warning, width) {
				notes = append(notes, painted{{text, yellow}})
			}
		}
	}
	warn(s.notes)
	for _, text := range indented(v.sayLeft(), width) {
		notes = append(notes, plain(text))
	}
	warn(v.warnings())
	p := picture{
		width: width, title: []painted{plain(title)}, subtitle: paragraph(v.subtitle(), width, 2), bar: []painted{v.bar(width)},
		counts: v.counts(width), dense: v.denseCounts(width), notes: notes, lanes: v.laneLines(width),
	}
	return p.fit(height - 1)
}

// picture is the picture in its parts.
type picture struct {
	width                               int
	title, subtitle, bar, counts, notes []painted
	dense                               []painted // the counts one after the other, where columns take too many rows
	lanes                               []laneLines
}

// laneLines are what is shown of one lane.
type laneLines struct {
	lines  func(most int) []painted // with the last one cut if there is more to say
	most   int                      // as many as there are to be at most
	closed bool
}

// fit puts the parts together in so many rows.
func (p picture) fit(rows int) []painted {
	full := p.join(true, allLines(p.lanes))
	if len(full) <= rows {
		return full
	}
	for _, drop := range []func(){
		func() {},
		func() {
			if len(p.dense) < len(p.counts) {
				p.counts = p.dense
			}
		},
		func() { p.subtitle = p.subtitle[:min(len(p.subtitle), 1)] },
		func() { p.subtitle = nil },
		func() { p.notes = p.notes[:min(len(p.notes), 1)] },
		func() { p.bar = nil },
		func() { p.notes = nil },
		func() { p.title = nil },
	} {
		drop()
		if room := rows - len(p.join(false, nil)); room >= min(len(p.lanes), 2) {
			return p.join(false, p.someLanes(room))
		}
	}
	head := p.join(false, nil)
	if len(head) < rows {
		head = append(head, p.someLanes(rows-len(head))...)
	}
	return head[:min(len(head), rows)]
}

func (p picture) join(spaced bool, lanes []painted) []painted {
	parts := [][]painted{append(slices.Clone(p.title), p.subtitle...), p.bar, p.counts, p.notes, lanes}
	var lines []painted
	for _, part := range parts {
		if spaced && len(lines) > 0 && len(part) > 0 {
			lines = append(lines, plain(""))
		}
		lines = append(lines, part...)
	}
	return lines
}

func allLines(lanes []laneLines) []painted {
	var lines []painted
	for _, l := range lanes {
		lines = append(lines, l.lines(l.most)...)
	}
	return lines
}

// someLanes shows lanes in so many rows: one for each at least, or the first lanes and how many more there are.
func (p picture) someLanes(rows int) []painted {
	if all := allLines(p.lanes); len(all) <= rows {
		return all
	}
	fewer := slices.Clone(p.lanes)
	for most := 4; most > 0; most-- {
		for i, l := range fewer {
			if fewer[i].most = min(l.most, most); !l.closed {
				fewer[i].most = 1
			}
		}
		if lines := allLines(fewer); len(lines) <= rows {
			return lines
		}
	}
	return append(allLines(fewer[:rows-1]), plain(leftMargin+p.sayMore(rows-1)))
}

// sayMore says how many lanes are not shown.
func (p picture) sayMore(shown int) string {
	rest := p.lanes[shown:]
	closed := 0
	for _, l := range rest {
		if l.closed {
			closed++
		}
	}
	text := fmt.Sprint(len(rest))
	if shown > 0 {
		text += " more"
		if p.width >= 60 {
			text = "and " + text
		}
	}
	kind := ""
	switch closed {
	case len(rest):
		kind = "closed "
	case 0:
		kind = "open "
	}
	text += " " + kind + "lane"
	if len(rest) > 1 {
		text += "s"
	}
	if kind == "" {
		text += fmt.Sprintf(", %d closed", closed)
	}
	return text + ": enqueue lanes"
}

// indented wraps a text at the picture's width.
func indented(text string, width int) []string {
	if text == "" {
		return nil
	}
	lines := broken(text, width-1-len(leftMargin))
	for i := range lines {
		lines[i] = leftMargin + lines[i]
	}
	return lines
}

func broken(text string, width int) []string { return brokenWhole(shown(text), width) }

// brokenWhole wraps a text of any length, and breaks words that are longer than a line: Chinese has no spaces.
func brokenWhole(text string, width int) []string {
	var lines []string
	for _, line := range wrap(text, width) {
		for cells(line) > width {
			used, at := 0, 0
			for g := uniseg.NewGraphemes(line); g.Next(); {
				if used += g.Width(); used > width && at > 0 {
					break
				}
				_, at = g.Positions()
			}
			lines, line = append(lines, line[:at]), line[at:]
		}
		lines = append(lines, line)
	}
	return lines
}

// paragraph wraps a text into so many lines at most; the last one is cut.
func paragraph(text string, width, most int) []painted {
	lines := broken(text, width-1)
	if len(lines) > most {
		lines = append(lines[:most-1], strings.Join(lines[most-1:], " "))
	}
	list := make([]painted, len(lines))
	for i, line := range lines {
		list[i] = plain(line)
	}
	return list
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
	case figureTotal:
		return v.batch.Total
	}
	return v.batch.Outcomes[what]
}

// bar shares a line out among the outcomes. What there is one of at all is seen.
func (v view) bar(width int) painted {
	const around = len(leftMargin + "[]  100%")
	cells := max(width-1-around, 4)
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

const (
	nameWidth   = len("not_found")
	figureWidth = 10 // of a number, where there is room
	figuresGap  = 3
)

const figureTotal = "total"

func figures() []string {
	return []string{
		tasks.Recalled, tasks.AlreadyRecalled, tasks.Duplicate,
		tasks.Expired, tasks.NotFound, tasks.Rejected,
		tasks.Cancelled, tasks.Open, figureTotal,
	}
}

// denseCounts are the figures one after the other.
func (v view) denseCounts(width int) []painted {
	var parts []string
	for _, what := range figures() {
		parts = append(parts, strings.TrimSuffix(what, "_recalled")+" "+thousands(v.count(what)))
	}
	return paragraph(strings.Join(parts, ", "), width, len(parts))
}

// counts are the figures, in as many columns as there is room for: every one of them is always there.
func (v view) counts(width int) []painted {
	figures := figures()
	needs := len(thousands(v.batch.Total)) // no count is larger
	for columns := 3; columns > 0; columns-- {
		room := (width - 1 - len(leftMargin) - (columns-1)*figuresGap) / columns
		digits := room - len("# ") - nameWidth - 1
		if columns == 1 && digits < needs {
			digits += len(leftMargin)
		}
		if digits < needs && columns > 1 {
			continue
		}
		rows := (len(figures) + columns - 1) / columns
		lines := make([]painted, rows)
		for i, what := range figures {
			line := &lines[i%rows]
			gap := leftMargin
			switch {
			case i >= rows:
				gap = strings.Repeat(" ", figuresGap)
			case columns == 1 && digits < needs+len(leftMargin):
				gap = ""
			}
			*line = append(append(*line, piece{text: gap}), v.figure(what, min(digits, figureWidth))...)
		}
		return lines
	}
	return nil
}

// figure is a count in so many digits' room.
func (v view) figure(what string, room int) painted {
	n, sign, colour := v.count(what), " ", ""
	for _, m := range marks() {
		if m.what == what {
			sign = m.sign
			if n > 0 {
				colour = m.colour
			}
		}
	}
	number := thousands(n)
	if len(thousands(v.batch.Total)) > room {
		number = fmt.Sprint(n)
	}
	return painted{{sign, colour}, {text: fmt.Sprintf(" %-*s ", nameWidth, strings.TrimSuffix(what, "_recalled"))}, {fmt.Sprintf("%*s", room, number), colour}}
}

// laneLines say how the batch's lanes stand, those that are closed first.
func (v view) laneLines(width int) []laneLines {
	const red = "\x1b[31m"
	name := 0
	for _, l := range v.lanes {
		name = max(name, cells(l.name()))
	}
	if width < pageWidth {
		name = 0 // the names are not in line
	}
	var closed, open []laneLines
	for _, l := range v.lanes {
		waiting := thousands(l.Waiting()-l.Urgent.Active-l.Bulk.Active) + " waiting" // nobody waits for what is being worked on
		state, why := l.standing(v.now)
		if len(state) > 0 {
			text := strings.Join(append(append(state, waiting), why...), "; ")
			closed = append(closed, l.lines(name, text, red, width, 1+len(state), true))
			continue
		}
		open = append(open, l.lines(name, "open; "+waiting+"; "+sayLaneLimits(l.published), "", width, 2, false))
	}
	return append(closed, open...)
}

// lines are a lane's name and what there is to say of it, in so many lines at most, or one more where they are short.
func (l laneView) lines(pad int, text, colour string, width, most int, closed bool) laneLines {
	const hang = leftMargin + leftMargin
	if width < 60 {
		most++
	}
	head := leftMargin + l.name() + strings.Repeat(" ", max(pad-cells(l.name()), 0)) + leftMargin
	text = shown(text)
	first := wrap(text, max(width-1-cells(head), 1))[0]
	if cells(head)+cells(first) > width-1 { // no room for a word beside the name
		first = ""
	}
	rest := strings.TrimSpace(strings.TrimPrefix(text, first))
	return laneLines{most: most, closed: closed, lines: func(most int) []painted {
		if most == 1 {
			return []painted{{{text: head}, {text, colour}}}
		}
		lines := []painted{{{text: head}, {first, colour}}}
		if rest == "" {
			return lines
		}
		for _, line := range paragraph(rest, width-len(hang), most-1) {
			lines = append(lines, painted{{text: hang}, {line[0].text, colour}})
		}
		return lines
	}}
}

func sayLaneLimits(l tasks.Lane) string {
	if len(l.Limits) == 0 {
		return "no limits"
	}
	return sayLimits(l.Limits)
}
