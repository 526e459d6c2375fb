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

// collect reads the lines of one record into r.raw. A quote that is opened and not closed within [MaxRow] bytes, or before
// the end of the input, costs the line that it is in and not the ones after it.
func (r *records) collect() (number int, fault *Fault, err error) {
	r.raw.Reset()
	first, err := r.lines.next()
	if err != nil {
		return 0, nil, err
	}
	if first.tooLong {
		return first.number, longLine(first), nil
	}
	r.raw.Write(first.text)
	if !quoteOpen(first.text, r.comma, false) {
		return first.number, nil, nil
	}
	firstLength := len(first.text)
	var more []line
	for open := true; open; {
		l, err := r.lines.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		if err == nil {
			l.text = bytes.Clone(l.text)
			more = append(more, l)
		}
		if err != nil || l.tooLong || r.raw.Len()+1+len(l.text) > MaxRow {
			r.lines.takeBack(more)
			return first.number, &Fault{
				Raw:    string(r.raw.Bytes()[:firstLength]),
				Reason: "a quote opens a cell in this line and is not closed; double a quote that belongs to the text",
			}, nil
		}
		r.raw.WriteByte('\n')
		r.raw.Write(l.text)
		open = quoteOpen(l.text, r.comma, true)
	}
	return first.number, nil, nil
}

// quoteOpen reports whether a quoted cell is still open at the end of a line. Where encoding/csv will refuse a quote it
// says no, because the record then ends with this line.
func quoteOpen(text []byte, comma byte, open bool) bool {
	cellStart := true
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case open && c != '"':
		case open && i+1 < len(text) && text[i+1] == '"':
			i++
		case open:
			open, cellStart = false, false
			if i+1 < len(text) && text[i+1] != comma {
				return false
			}
		case c == comma:
			cellStart = true
		case c == '"' && !cellStart:
			return false
		case c == '"':
			open = true
		default:
			cellStart = false
		}
	}
	return open
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
