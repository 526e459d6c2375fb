package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Event is an entry of the stream of outcomes, as it was read.
type Event struct {
	// StreamID is its place in the stream: reading goes on after it.
	StreamID string
	ID       string // the task id
	Provider string
	App      string
	// MessageID is the vendor's, and Ref the caller's.
	MessageID, Ref string
	Outcome        string
	Code, Error    string
	Attempts       int
	Batch          string
	Seq            int64
	SentAt         time.Time
	FinishedAt     time.Time
	// Field and Reason say why an outcome is "refused": a row of the inbox that could not be enqueued.
	Field, Reason string
	// Missed is true if entries before this one may have been trimmed since the last one that was read.
	Missed bool
}

type eventJSON struct {
	StreamID   string `json:"stream_id"`
	ID         string `json:"id"`
	Provider   string `json:"provider"`
	App        string `json:"app"`
	MessageID  string `json:"message_id"`
	Ref        string `json:"ref,omitempty"`
	Outcome    string `json:"outcome"`
	Code       string `json:"code"`
	Error      string `json:"error,omitempty"`
	Attempts   int    `json:"attempts"`
	Batch      string `json:"batch,omitempty"`
	Seq        int64  `json:"seq,omitempty"`
	SentAt     string `json:"sent_at,omitempty"`
	FinishedAt string `json:"finished_at,omitempty"`
	Field      string `json:"field,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// MarshalJSON writes the entry under the stream's own names, with stream_id in front.
func (e Event) MarshalJSON() ([]byte, error) {
	w := eventJSON{
		StreamID: e.StreamID, ID: e.ID, Provider: e.Provider, App: e.App, MessageID: e.MessageID, Ref: e.Ref,
		Outcome: e.Outcome, Code: e.Code, Error: e.Error, Attempts: e.Attempts, Batch: e.Batch, Seq: e.Seq,
		Field: e.Field, Reason: e.Reason,
	}
	if !e.SentAt.IsZero() {
		w.SentAt = FormatTime(e.SentAt)
	}
	if !e.FinishedAt.IsZero() {
		w.FinishedAt = FormatTime(e.FinishedAt)
	}
	return json.Marshal(w)
}

func readEvent(m redis.XMessage) Event {
	text := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	at := func(name string) time.Time {
		t, _ := time.Parse(time.RFC3339, text(name))
		return t
	}
	attempts, _ := strconv.Atoi(text("attempts"))
	seq, _ := strconv.ParseInt(text("seq"), 10, 64)
	return Event{
		StreamID: m.ID, ID: text("id"), Provider: text("provider"), App: text("app"), MessageID: text("message_id"),
		Ref: text("ref"), Outcome: text("outcome"), Code: text("code"), Error: text("error"), Attempts: attempts,
		Batch: text("batch"), Seq: seq, SentAt: at("sent_at"), FinishedAt: at("finished_at"),
		Field: text("field"), Reason: text("reason"),
	}
}

const (
	eventsAtOnce = 500
	// lookAgain is how long Redis is asked to wait for news: the end of the context is noticed that late at most.
	lookAgain = time.Second
)

// Start and now as places in the stream.
const (
	FromStart = "0"
	FromNow   = "$"
)

// CheckPlace reports what is wrong with a place in the stream: FromStart, FromNow, or the StreamID of the last entry read.
func CheckPlace(after string) error {
	ms, rest, _ := strings.Cut(after, "-")
	_, err := strconv.ParseUint(ms, 10, 64)
	if err == nil && rest != "" {
		_, err = strconv.ParseUint(rest, 10, 64)
	}
	if after != FromNow && err != nil {
		return fmt.Errorf("%q is no place in the stream of outcomes; use the stream_id of the last entry that was read, such as 1795132800000-0", after)
	}
	return nil
}

// Outcomes reads the stream after a place, to its end, or with follow until ctx ends; the end of ctx is no error. The first
// entry says if others before it may have been missed, because the stream keeps them for 24 hours only.
func (l *Ledger) Outcomes(ctx context.Context, after string, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := l.outcomes(ctx, after, follow, func(e Event) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, err)
		}
	}
}

func (l *Ledger) outcomes(ctx context.Context, after string, follow bool, yield func(Event) bool) error {
	if err := CheckPlace(after); err != nil {
		return err
	}
	after, err := l.place(ctx, after)
	if err != nil {
		return err
	}
	for {
		events, err := l.next(ctx, after, follow)
		if err != nil {
			return err
		}
		trimmed := false
		if len(events) > 0 {
			if trimmed, err = l.trimmed(ctx, after); err != nil {
				return err
			}
		}
		for i, m := range events {
			e := readEvent(m)
			e.Missed = i == 0 && trimmed
			if !yield(e) {
				return nil
			}
			after = m.ID
		}
		if len(events) == 0 && !follow {
			return nil
		}
	}
}

// place turns FromNow into the last entry's: asking for "$" anew would leave out what came between two questions.
func (l *Ledger) place(ctx context.Context, after string) (string, error) {
	if after != FromNow {
		return after, nil
	}
	last, err := l.rdb.XRevRangeN(ctx, OutcomesKey, "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read %s: %w", OutcomesKey, err)
	}
	if len(last) == 0 {
		return FromStart, nil
	}
	return last[0].ID, nil
}

// trimmed reports whether entries after a place may be gone: the entry there is.
func (l *Ledger) trimmed(ctx context.Context, after string) (bool, error) {
	if strings.Trim(after, "0-") == "" {
		return false, nil
	}
	first, err := l.rdb.XRangeN(ctx, OutcomesKey, "-", "+", 1).Result()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", OutcomesKey, err)
	}
	return len(first) > 0 && olderID(after, first[0].ID), nil
}

// olderID reports whether place a is before place b.
func olderID(a, b string) bool {
	parse := func(id string) (ms, n uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		n, _ = strconv.ParseUint(right, 10, 64)
		return ms, n
	}
	aMS, aN := parse(a)
	bMS, bN := parse(b)
	return aMS < bMS || aMS == bMS && aN < bN
}

func (l *Ledger) next(ctx context.Context, after string, wait bool) ([]redis.XMessage, error) {
	args := &redis.XReadArgs{Streams: []string{OutcomesKey, after}, Count: eventsAtOnce, Block: -1}
	if wait {
		args.Block = lookAgain
	}
	streams, err := l.rdb.XRead(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", OutcomesKey, err)
	}
	return streams[0].Messages, nil
}
