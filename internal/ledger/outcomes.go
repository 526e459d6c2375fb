package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// Event is an entry of the stream of outcomes.
type Event struct {
	// StreamID is its place in the stream: reading goes on after it.
	StreamID string `json:"stream_id"`
	ID       string `json:"id"` // the task id; of a refused row of the inbox, its entry's
	Provider string `json:"provider"`
	App      string `json:"app"`
	// MessageID is the vendor's, and Ref the caller's.
	MessageID  string    `json:"message_id"`
	Ref        string    `json:"ref,omitempty"`
	Outcome    string    `json:"outcome"`
	Code       string    `json:"code"`
	Error      string    `json:"error,omitempty"`
	Attempts   int       `json:"attempts"`
	Batch      string    `json:"batch,omitempty"`
	Seq        int64     `json:"seq,omitempty"`
	SentAt     time.Time `json:"-"`
	FinishedAt time.Time `json:"-"`
	// Field and Reason say why an outcome is "refused": a row of the inbox that could not be enqueued.
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// MarshalJSON writes the entry under the stream's own names, with stream_id in front.
func (e Event) MarshalJSON() ([]byte, error) {
	type fields Event // without this method
	return json.Marshal(struct {
		fields
		SentAt     string `json:"sent_at,omitempty"`
		FinishedAt string `json:"finished_at,omitempty"`
	}{fields(e), timeText(e.SentAt), timeText(e.FinishedAt)})
}

// timeText is a time as the stream has it; empty for none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return tasks.FormatTime(t)
}

// values are the fields of the entry in the stream. Only what is refused has a field and a reason.
func (e Event) values() []any {
	seq := ""
	if e.Seq != 0 {
		seq = strconv.FormatInt(e.Seq, 10)
	}
	list := []any{
		"id", e.ID, "provider", e.Provider, "app", e.App, "message_id", e.MessageID, "ref", e.Ref,
		"outcome", e.Outcome, "code", e.Code, "error", providers.Line(e.Error, providers.MaxMessage),
		"attempts", e.Attempts, "batch", e.Batch, "seq", seq,
		"sent_at", timeText(e.SentAt), "finished_at", timeText(e.FinishedAt),
	}
	if e.Field != "" {
		list = append(list, "field", e.Field, "reason", providers.Line(e.Reason, providers.MaxMessage))
	}
	return list
}

func (e Event) streamed() *redis.XAddArgs {
	return &redis.XAddArgs{Stream: tasks.OutcomesKey, MaxLen: mostOutcomes, Approx: true, Values: e.values()}
}

// Tell writes entries to the stream alone. An outcome of a task is written by [Ledger.Record].
func (l *Ledger) Tell(ctx context.Context, events ...Event) error {
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, e := range events {
			pipe.XAdd(ctx, e.streamed())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write to %s: %w", tasks.OutcomesKey, err)
	}
	return nil
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

// Reader reads the stream of outcomes, page by page, and notices what was trimmed before it was read. It is for one goroutine
// at a time. An error of Redis leaves it where it was: the same call may be made again.
type Reader struct {
	l *Ledger
	// after is the place of the last entry that was read.
	after string
	// added is how many entries the stream ever had up to there; -1 if that is not known.
	added int64
	// told is the place after which something was said to be missed.
	told string
	// blind is true if this user of Redis may not look at the stream itself, only at its entries.
	blind bool
}

// Page is what a [Reader] has read at once.
type Page struct {
	Events []Event
	// Missed is nil if nothing was.
	Missed *Missed
}

// Missed says that entries were trimmed before they could be read: the stream keeps 24 hours, and about a million.
type Missed struct {
	// After is the last place that was read before.
	After string
	// First is the place of the first entry that is still there; empty if there is none.
	First string
	// Sure is false if it cannot be told whether there were any: the entry at After is gone itself, and Redis does not say
	// how many followed it.
	Sure bool
	// Count is how many they are; zero if that is not known.
	Count int64
}

// Reader returns a reader of what comes after a place: [FromStart], [FromNow], or the StreamID of the last entry that was read.
func (l *Ledger) Reader(after string) (*Reader, error) {
	if err := CheckPlace(after); err != nil {
		return nil, err
	}
	return &Reader{l: l, after: after, added: -1}, nil
}

// After is the place from which reading goes on.
func (r *Reader) After() string { return r.after }

// Next reads on. Without wait a page without events is the end of the stream; with it, nothing has come for a second.
func (r *Reader) Next(ctx context.Context, wait bool) (Page, error) {
	if r.after == FromNow {
		if err := r.begin(ctx); err != nil {
			return Page{}, err
		}
	}
	messages, err := r.l.next(ctx, r.after, wait)
	if err != nil {
		return Page{}, err
	}
	// The look comes after the reading: if the entry at the old place is still there then, nothing can have been missed.
	s, err := r.look(ctx)
	if err != nil {
		return Page{}, err
	}
	page := Page{Missed: r.compare(s, messages)}
	for _, m := range messages {
		page.Events = append(page.Events, readEvent(m))
		r.after = m.ID
	}
	return page, nil
}

// begin turns FromNow into a place: asking for "$" anew would leave out what came between two questions.
func (r *Reader) begin(ctx context.Context) error {
	s, err := r.look(ctx)
	if err != nil {
		return err
	}
	r.after, r.added = FromStart, s.added
	if s.last != "" {
		r.after = s.last
	}
	return nil
}

// standing is how the stream stands.
type standing struct {
	exists bool
	first  string // the first entry's place; empty if there is none
	last   string // the place of the last entry that there ever was; empty if that is not known
	length int64
	added  int64 // how many entries there ever were; -1 if that is not known (before Redis 7)
}

func (r *Reader) look(ctx context.Context) (standing, error) {
	s := standing{added: -1}
	if !r.blind {
		info, err := r.l.rdb.XInfoStream(ctx, tasks.OutcomesKey).Result()
		switch {
		case redis.HasErrorPrefix(err, "NOPERM"):
			r.blind = true
		case redis.HasErrorPrefix(err, "no such key"):
			return s, nil
		case err != nil:
			return s, wrapRead(err)
		default:
			s.exists, s.first, s.last, s.length = true, info.FirstEntry.ID, info.LastGeneratedID, info.Length
			if info.EntriesAdded > 0 {
				s.added = info.EntriesAdded
			}
		}
	}
	if s.first != "" || s.exists && s.length == 0 {
		return s, nil
	}
	err := r.lookAtEntries(ctx, &s)
	return s, err
}

// lookAtEntries finds out what the entries themselves tell.
func (r *Reader) lookAtEntries(ctx context.Context, s *standing) error {
	first, err := r.l.rdb.XRangeN(ctx, tasks.OutcomesKey, "-", "+", 1).Result()
	if err != nil || len(first) == 0 {
		return wrapRead(err)
	}
	s.exists, s.first = true, first[0].ID
	if s.last == "" {
		last, err := r.l.rdb.XRevRangeN(ctx, tasks.OutcomesKey, "+", "-", 1).Result()
		if err != nil || len(last) == 0 {
			return wrapRead(err)
		}
		s.last = last[0].ID
	}
	return nil
}

func wrapRead(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", tasks.OutcomesKey, err)
}

// compare finds out what was missed between the last place and the messages that were read after it, and remembers how many
// entries there were up to the last of them. s was looked at after the reading.
//
// Trimming leaves no trace but the number of entries ever added, and that tells something only to who knows what it was at the
// last place: it was the number of all when that was the last entry.
func (r *Reader) compare(s standing, read []redis.XMessage) *Missed {
	place := r.after
	gone := int64(0) // of those that were read
	for gone < int64(len(read)) && (s.first == "" || olderID(read[gone].ID, s.first)) {
		gone++
	}
	known := r.added
	r.added = -1
	if s.added >= 0 {
		r.added = s.added - s.length + int64(len(read)) - gone
	}
	trimmed := s.first == "" || olderID(place, s.first) // the entry at the place, and perhaps some after it
	switch {
	case isStart(place) && known < 0: // nothing was promised of what came before the first
		return nil
	case !trimmed:
		if r.added = known; known >= 0 {
			r.added += int64(len(read))
		} else if len(read) == 0 && place == s.last || len(read) > 0 && read[len(read)-1].ID == s.last {
			r.added = s.added
		}
		return nil
	case len(read) == 0 && s.first != "": // they came after the reading
		r.added = known
		return nil
	case len(read) == 0 && s.exists && s.last == place:
		return nil
	}
	return r.missed(s, place, known, gone)
}

func (r *Reader) missed(s standing, place string, known, gone int64) *Missed {
	m := &Missed{After: place, First: s.first}
	if known >= 0 && s.added >= 0 {
		m.Count = s.added - known - gone - s.length
	}
	switch {
	case known >= 0 && s.added >= 0 && m.Count == 0:
		return nil
	case m.Count > 0:
		m.Sure = true
	default: // the stream was begun anew, or its past is not known
		m.Count = 0
		m.Sure = gone == 0 && s.first == "" && s.last != "" && olderID(place, s.last)
	}
	if m.Sure && s.first == "" && gone == 0 {
		r.after = s.last
	}
	if r.told == place {
		return nil
	}
	r.told = place
	return m
}

func isStart(place string) bool { return strings.Trim(place, "0-") == "" }

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
	args := &redis.XReadArgs{Streams: []string{tasks.OutcomesKey, after}, Count: eventsAtOnce, Block: -1}
	if wait {
		args.Block = lookAgain
	}
	streams, err := l.rdb.XRead(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, wrapRead(err)
	}
	return streams[0].Messages, nil
}
