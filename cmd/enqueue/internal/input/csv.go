package input

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// records splits lines into CSV records as RFC 4180 has them: a quoted cell may hold the delimiter, doubled quotes and line
// ends. encoding/csv parses each record, but is not let near the stream: it would read a quote that is never closed, and
// the whole file behind it, into memory.
type records struct {
	lines *lines
	comma byte

	raw    bytes.Buffer // the record that was read last
	source bytes.Reader
	buffer *bufio.Reader
}

func newRecords(l *lines, comma byte) *records {
	l.comma = comma
	return &records{lines: l, comma: comma, buffer: bufio.NewReader(nil)}
}

// next returns the next record that is not empty. A record that cannot be read is a [*Fault]; what follows it can be.
func (r *records) next() (number int, cells []string, fault *Fault, err error) {
	for {
		number, fault, err = r.collect()
		if err != nil || fault != nil {
			return number, nil, fault, err
		}
		if len(bytes.TrimSpace(r.raw.Bytes())) == 0 {
			continue
		}
		cells, err = parseRecord(r)
		if err != nil {
			return number, nil, &Fault{Raw: r.raw.String(), Reason: sayCSVError(err)}, nil
		}
		if allEmpty(cells) { // what a spreadsheet leaves of rows that were cleared
			continue
		}
		return number, cells, nil, nil
	}
}

const (
	// mostAhead is how far a quote's end is looked for, in bytes.
	mostAhead = 16 * MaxRow
	// lineCost is what a line takes beside its text.
	lineCost = 64
)

// collect reads the lines of one record into r.raw. What is inside of quotes is never taken for rows, however long it is: it may look
// like one. A quote that is not closed at all, within [mostAhead] or before the end of the input, costs the line that it is in and not the
// ones after it.
func (r *records) collect() (number int, fault *Fault, err error) {
	r.raw.Reset()
	first, err := r.lines.next()
	if err != nil {
		return 0, nil, err
	}
	state := first.quotes(r.comma, closed)
	if state != open {
		if first.tooLong {
			return first.number, longLine(first), nil
		}
		r.raw.Write(first.text)
		return first.number, nil, nil
	}
	first.text = bytes.Clone(first.text)
	more, state, err := r.toQuotesEnd(len(first.text))
	if err != nil {
		return 0, nil, err
	}
	fits := r.join(first, more)
	switch {
	case state == open, state == broken && !fits:
		r.lines.takeBack(more)
		return first.number, &Fault{
			Raw:    string(first.text),
			Reason: "a quote opens a cell in this line and is not closed; double a quote that belongs to the text",
		}, nil
	case !fits:
		return first.number, longLine(first), nil
	}
	return first.number, nil, nil
}

// toQuotesEnd reads the lines in which a quoted cell goes on. If it is still open then, its end was not found.
func (r *records) toQuotesEnd(length int) (more []line, state quoting, err error) {
	for state = open; state == open && length <= mostAhead; {
		l, err := r.lines.next()
		if errors.Is(err, io.EOF) {
			return more, open, nil
		}
		if err != nil {
			return nil, open, err
		}
		l.text = bytes.Clone(l.text)
		more = append(more, l)
		length += lineCost + len(l.text)
		state = l.quotes(r.comma, open)
	}
	return more, state, nil
}

// join writes the lines of a record into r.raw. It is false if that is longer than a row may be.
func (r *records) join(first line, more []line) bool {
	r.raw.Write(first.text)
	whole := !first.tooLong
	for _, l := range more {
		if whole = whole && !l.tooLong && r.raw.Len()+1+len(l.text) <= MaxRow; !whole {
			return false
		}
		r.raw.WriteByte('\n')
		r.raw.Write(l.text)
	}
	return whole
}

// quoting is how the quotes of a record stand at the end of a line.
type quoting byte

const (
	closed quoting = iota
	open           // a quoted cell goes on in the next line
	broken         // a quote is where none may be: encoding/csv refuses the record, which ends with this line
)

// quotes follows the quotes of a record through a line, which may come in pieces.
type quotes struct {
	comma     byte
	state     quoting
	cellStart bool
	pending   bool // the last byte was a quote in a quoted cell: doubled, or its end
}

func newQuotes(comma byte, at quoting) *quotes {
	return &quotes{comma: comma, state: at, cellStart: at == closed}
}

func (q *quotes) feed(text []byte) {
	for _, c := range text {
		switch {
		case q.state == broken:
			return
		case q.state == open && q.pending:
			q.pending = false
			switch c {
			case '"':
			case q.comma:
				q.state, q.cellStart = closed, true
			default:
				q.state = broken
			}
		case q.state == open:
			q.pending = c == '"'
		case c == q.comma:
			q.cellStart = true
		case c == '"' && !q.cellStart:
			q.state = broken
		case c == '"':
			q.state = open
		default:
			q.cellStart = false
		}
	}
}

func (q *quotes) end() quoting {
	if q.state == open && q.pending {
		return closed
	}
	return q.state
}

func parseRecord(r *records) ([]string, error) {
	r.source.Reset(r.raw.Bytes())
	r.buffer.Reset(&r.source)
	parser := csv.NewReader(r.buffer) // takes r.buffer as it is, so nothing large is allocated
	parser.Comma = rune(r.comma)
	parser.FieldsPerRecord = -1
	return parser.Read()
}

func sayCSVError(err error) string {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return err.Error()
	}
	switch {
	case errors.Is(parse.Err, csv.ErrBareQuote):
		return fmt.Sprintf("a quote at byte %d in a cell that does not begin with one; quote the whole cell and double the quote", parse.Column)
	case errors.Is(parse.Err, csv.ErrQuote):
		return fmt.Sprintf("text after the closing quote at byte %d; double a quote that belongs to the text", parse.Column)
	}
	return parse.Err.Error()
}

func allEmpty(cells []string) bool {
	for _, c := range cells {
		if strings.TrimSpace(c) != "" {
			return false
		}
	}
	return true
}

func longLine(l line) *Fault {
	return &Fault{
		Raw:    string(l.text),
		Reason: fmt.Sprintf("the line is longer than %d bytes; only its beginning is shown", MaxRow),
	}
}
