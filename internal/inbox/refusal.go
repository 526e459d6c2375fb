package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// Refused is the outcome of an entry that no task was made of.
const Refused = "refused"

// asRefusal is the refusal in an error; nil if it is none.
func asRefusal(err error) *tasks.FieldError {
	var refused *tasks.FieldError
	errors.As(err, &refused)
	return refused
}

// tooLate is the refusal of a recall whose window has closed.
func tooLate(r tasks.Recall, res tasks.Result) *tasks.FieldError {
	return refuse("sent_at", tasks.FormatTime(r.SentAt), fmt.Sprintf("is too long ago: %s:%s closed its window at %s",
		r.Provider, res.App, tasks.FormatTime(res.RecallBy)))
}

// producersWords turns what package tasks advises somebody at a command line into what a program can do.
func producersWords(reason string) string {
	return strings.NewReplacer(
		", or map it with --columns", "",
		", or say --time-zone", "",
		"start one, or allow unserved lanes", "check the name, or have a worker started for it",
		"start one, or give the app and allow unserved lanes", "check the name, or have a worker started for it",
	).Replace(reason)
}

// report writes refusals to the stream of outcomes.
func (in *Inbox) report(ctx context.Context, items []*item, now time.Time) error {
	if len(items) == 0 {
		return nil
	}
	events := make([]ledger.Event, len(items))
	for i, it := range items {
		events[i] = it.refusal(now)
	}
	if err := in.book.Tell(ctx, events...); err != nil {
		return fmt.Errorf("reporting refused entries: %w", err)
	}
	last := items[len(items)-1]
	in.refusals.waiting += len(items)
	in.refusals.field, in.refusals.entry = last.refused.Field, last.id
	in.sayRefusals(now)
	return nil
}

// refusal is the entry in the stream of outcomes.
func (it *item) refusal(now time.Time) ledger.Event {
	refused := *it.refused
	refused.Reason = producersWords(refused.Reason)
	return ledger.Event{
		ID: it.id, Provider: it.shown("provider", maxShown), App: it.shown("app", maxShown),
		MessageID: it.shown("message_id", tasks.MaxID), Ref: it.shown("ref", tasks.MaxRef),
		Outcome: Refused, Error: refused.Error(), Batch: providers.Line(it.batch, maxShown),
		SentAt: it.recall.SentAt, FinishedAt: now, Field: refused.Field, Reason: refused.Reason,
	}
}

// shown is a field of the row as it was given, if it is no longer than a good one can be.
func (it *item) shown(field string, limit int) string {
	value, _ := it.row.Get(field)
	if len(value) <= limit {
		return value
	}
	return providers.Line(value, limit)
}

// refusals are refused entries that the log does not have yet.
type refusals struct {
	waiting      int
	field, entry string // of the last one
	said         time.Time
}

// sayRefusals logs refused entries, together with others: a producer that has gone wrong sends many. What was refused can be
// read from the stream of outcomes; values are not logged, since they may be accounts.
func (in *Inbox) sayRefusals(now time.Time) {
	r := &in.refusals
	if r.waiting == 0 || now.Sub(r.said) < refusalsEvery {
		return
	}
	in.log.Warn().Int("entries", r.waiting).Str("entry", r.entry).Str("field", r.field).
		Msg("entries of the inbox are refused; " + tasks.OutcomesKey + " says why")
	r.waiting, r.said = 0, now
}
