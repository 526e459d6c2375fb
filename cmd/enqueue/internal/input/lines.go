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
}

// lines splits a stream into physical lines of bounded length, and can take lines back.
type lines struct {
	r       *bufio.Reader
	number  int
	pending []line
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
		return line{number: l.number, text: text[:keptOfLongLine], tooLong: true}, nil
	}
	return line{number: l.number, text: text}, nil
}

// skipLong reads to the end of a line that is too long and keeps its beginning.
func (l *lines) skipLong(text []byte) (line, error) {
	kept := bytes.Clone(text[:keptOfLongLine])
	for {
		_, err := l.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return line{}, err
		}
		l.number++
		return line{number: l.number, text: kept, tooLong: true}, nil
	}
}

// takeBack makes next return these lines again. Their texts must not be l's own buffer.
func (l *lines) takeBack(back []line) { l.pending = append(back, l.pending...) }

func cutLineEnd(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r"))
}
