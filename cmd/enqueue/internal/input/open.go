package input

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Stdin is the file name that means standard input.
const Stdin = "-"

// Options say how inputs are to be read.
type Options struct {
	// Format is [Auto] unless the person said otherwise.
	Format Format
	// Columns are column names and keys of the input, and the fields they stand for, beside those that are known anyway.
	Columns map[string]string
	// Warn is told, at most once for each input, what was ignored. It must not be nil.
	Warn func(text string)
}

// BadInput is an input that cannot be used at all. It is found before any of its rows is handed out.
type BadInput struct {
	Input  string
	Reason string
}

func (e *BadInput) Error() string { return e.Input + ": " + e.Reason }

// ReadError says that an input broke off after some of its rows had been handed out.
type ReadError struct {
	Input string
	Line  int // the last line that was read whole
	Err   error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("%s: reading stopped after line %d: %v", e.Input, e.Line, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// Open opens a file, or standard input for [Stdin], and reads as far as its first row. Everything that makes the whole
// input useless (no such file, not UTF-8, no rows, no message ids) is a [*BadInput].
func Open(name string, stdin io.Reader, opt Options) (*Reader, error) {
	if name == Stdin {
		return NewReader("stdin", stdin, opt)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, &BadInput{name, sayFileError(err)}
	}
	if info.IsDir() {
		return nil, &BadInput{name, "is a folder; give its files one by one with --file"}
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, &BadInput{name, sayFileError(err)}
	}
	r, err := NewReader(name, file, opt)
	if err != nil {
		file.Close()
		return nil, err
	}
	r.file = file
	return r, nil
}

// sayFileError leaves the path out, which the message has already.
func sayFileError(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

// NewReader reads rows from a stream. The name is what messages call it; its ending tells the format where that is [Auto].
func NewReader(name string, stream io.Reader, opt Options) (*Reader, error) {
	bad := func(err error) (*Reader, error) { return nil, &BadInput{name, err.Error()} }

	text, err := plain(name, stream)
	if err != nil {
		return bad(err)
	}
	head, err := beginning(text)
	if err != nil && !errors.Is(err, io.EOF) {
		return bad(fmt.Errorf("cannot be read: %w", err))
	}
	if bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")) {
		_, _ = text.Discard(3)
		head = head[3:]
	}
	if guess := guessEncoding(head, errors.Is(err, io.EOF)); guess != "" {
		return bad(fmt.Errorf("is not UTF-8; it looks like %s: convert it first", guess))
	}
	if bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(bytes.TrimRight(head, "\r"), '\r') >= 0 {
		return bad(fmt.Errorf("its lines end in CR alone; convert them to LF or CRLF"))
	}

	format := opt.Format
	if format == Auto || format == "" {
		if format, err = detect(name, head, opt.known); err != nil {
			return bad(err)
		}
	}
	r := &Reader{name: name, format: format, lines: newLines(text), opt: opt, missing: make(map[string]bool)}
	for column := range opt.Columns {
		if format != IDs {
			r.missing[column] = true
		}
	}
	if format == CSV {
		if err := r.readHeader(firstLine(head)); err != nil {
			return bad(err)
		}
	}
	first, err := r.read()
	if errors.Is(err, io.EOF) {
		return bad(errors.New("has no rows"))
	}
	if err != nil {
		return bad(err)
	}
	r.first = &first
	return r, nil
}

// beginning is what an input's format and encoding are told from: all that a file's first read brings, and of a pipe that is
// filled slowly no more than its first line that is not blank, so that its rows need not wait for each other. Its error is
// io.EOF if it is the whole input.
func beginning(text *bufio.Reader) ([]byte, error) {
	for {
		head, _ := text.Peek(min(text.Buffered(), MaxRow))
		line := bytes.TrimLeft(head, "\xEF\xBB\xBF\r\n\t ")
		if len(head) == MaxRow || bytes.IndexByte(line, '\n') >= 0 {
			return head, nil
		}
		if _, err := text.Peek(text.Buffered() + 1); err != nil {
			return head, err
		}
	}
}

// plain undoes gzip. It goes by the content, which cannot be mistaken; the name only makes the message better.
func plain(name string, stream io.Reader) (*bufio.Reader, error) {
	raw := bufio.NewReaderSize(stream, readSize)
	magic, err := raw.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if !isGzip(magic) {
		if strings.HasSuffix(name, ".gz") && len(magic) > 0 {
			return nil, errors.New("is named .gz and is not gzip; rename it, or compress it again")
		}
		return raw, nil
	}
	unzipped, err := gzip.NewReader(raw)
	if err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	text := bufio.NewReaderSize(unzipped, readSize)
	if magic, _ := text.Peek(2); isGzip(magic) {
		return nil, errors.New("is gzipped twice; unzip it once")
	}
	return text, nil
}

func isGzip(magic []byte) bool { return bytes.Equal(magic, []byte{0x1F, 0x8B}) }
