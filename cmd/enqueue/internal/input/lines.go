package input

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/recallq/recallq/tasks"
)

// MaxRow is the greatest length of a row in bytes, its line end not counted.
const MaxRow = tasks.MaxRow

// keptOfLongLine is how much of a line that is longer than [MaxRow] goes into the rejects: enough to find it again.
const keptOfLongLine = 4 << 10

// line is one physical line, without its line end.
type line struct {
	number  int
	text    []byte // valid until the next call of lines.next
	tooLong bool   // text is only the line's beginning

	// ends is how the quotes of CSV stand at the end of a line that is too long, by how they stood before it.
	ends [2]quoting
}

// quotes is how the quotes of a record stand at the end of the line.
func (l line) quotes(comma byte, before quoting) quoting {
	if l.tooLong {
		return l.ends[before]
	}
	q := newQuotes(comma, before)
	q.feed(l.text)
	return q.end()
}

// lines splits a stream into physical lines of bounded length, and can take lines back.
type lines struct {
	r       *bufio.Reader
	number  int
	pending []line
	comma   byte // of CSV
}

func newLines(r *bufio.Reader) *lines { return &lines{r: r} }

// readSize is the buffer that newLines needs, so that a row of [MaxRow] bytes with its line end fits.
const readSize = MaxRow + len("\r\n")

// next returns io.EOF after the last line. Any other error means that the stream broke off; what was read of the line
// that it broke off in is not handed out, because half an id may be the id of another message.
func (l *lines) next() (line, error) {
	if len(l.pending) > 0 {
		first := l.pending[0]
		l.pending = l.pending[1:]
		return first, nil
	}
	text, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
	case errors.Is(err, bufio.ErrBufferFull):
		return l.skipLong(text)
	case errors.Is(err, io.EOF) && len(text) > 0:
	default:
		return line{}, err
	}
	l.number++
	text = cutLineEnd(text)
	if len(text) > MaxRow {
		long := l.long(text)
		return long.end(l.number), nil
	}
	return line{number: l.number, text: text}, nil
}

// skipLong reads to the end of a line that is too long and keeps its beginning.
func (l *lines) skipLong(text []byte) (line, error) {
	long := l.long(text)
	for {
		text, err := l.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return line{}, err
		}
		whole := !errors.Is(err, bufio.ErrBufferFull)
		if whole {
			text = cutLineEnd(text)
		}
		long.feed(text)
		if whole {
			l.number++
			return long.end(l.number), nil
		}
	}
}

// longText is a line of which only the beginning and the quotes are kept.
type longText struct {
	kept             []byte
	outside, inQuote *quotes
}

func (l *lines) long(text []byte) *longText {
	t := &longText{kept: bytes.Clone(text[:keptOfLongLine]), outside: newQuotes(l.comma, closed), inQuote: newQuotes(l.comma, open)}
	t.feed(text)
	return t
}

func (t *longText) feed(text []byte) {
	t.outside.feed(text)
	t.inQuote.feed(text)
}

func (t *longText) end(number int) line {
	return line{number: number, text: t.kept, tooLong: true, ends: [2]quoting{closed: t.outside.end(), open: t.inQuote.end()}}
}

// takeBack makes next return these lines again. Their texts must not be l's own buffer.
func (l *lines) takeBack(back []line) { l.pending = append(back, l.pending...) }

func cutLineEnd(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r"))
}
