package main

import (
	"context"
	"io"
)

// interruptible is standard input that an interruption ends: who types, or a pipe that nobody fills, may keep a read waiting for
// ever. A read that is under way then is left to the end of the program.
type interruptible struct {
	ctx context.Context
	r   io.Reader
	buf []byte // what was read and is not handed out yet
	err error  // what ended the reading
}

type chunk struct {
	text []byte
	err  error
}

// Read implements io.Reader.
func (i *interruptible) Read(p []byte) (int, error) {
	if len(i.buf) == 0 && i.err == nil {
		i.fill(len(p))
	}
	n := copy(p, i.buf)
	i.buf = i.buf[n:]
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, i.err
}

func (i *interruptible) fill(size int) {
	if i.err = context.Cause(i.ctx); i.err != nil {
		return
	}
	got := make(chan chunk, 1)
	go func() {
		text := make([]byte, size)
		n, err := i.r.Read(text)
		got <- chunk{text[:n], err}
	}()
	select {
	case c := <-got:
		i.buf, i.err = c.text, c.err
	case <-i.ctx.Done():
		i.err = context.Cause(i.ctx)
	}
}
