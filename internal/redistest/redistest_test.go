package redistest_test

import (
	"context"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/redistest"
)

func TestKillAndRestartKeepTheData(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	if got, err := c.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("after the restart: %q, %v", got, err)
	}
	s.Stop()
	s.Restart()
	if got, err := c.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("after stop and restart: %q, %v", got, err)
	}
}

func TestAFrozenServerDoesNotAnswerUntilItThaws(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Client(t).Ping(ctx).Err(); err == nil {
		t.Fatal("a frozen server answers")
	}
	s.Thaw()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatalf("after the thaw: %v", err)
	}
}

func TestArgumentsWin(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxmemory", "12mb", "--appendonly", "no")
	got, err := s.Client(t).ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "12582912" {
		t.Fatalf("maxmemory %v, %v", got, err)
	}
}
