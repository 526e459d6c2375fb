package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestAnInterruptionEndsAReadThatWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	pipe, feed := io.Pipe()
	t.Cleanup(func() { feed.Close() })
	r := &interruptible{ctx: ctx, r: pipe}
	go func() {
		_, _ = feed.Write([]byte("abc"))
		cancel()
	}()
	done := make(chan error, 1)
	var got bytes.Buffer
	go func() {
		_, err := io.Copy(&got, r)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the read goes on")
	}
	if !strings.HasPrefix("abc", got.String()) {
		t.Errorf("read %q", got.String())
	}
}

func TestAnInterruptibleReadIsWhole(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 10_000)
	got, err := io.ReadAll(&interruptible{ctx: t.Context(), r: strings.NewReader(text)})
	if err != nil || string(got) != text {
		t.Errorf("%d of %d bytes, %v", len(got), len(text), err)
	}
}
