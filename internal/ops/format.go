package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynqmon"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// formatter writes payloads and results as a person reads them. What it returns is JSON, because the page sets that out line
// by line and in this order, in a box about 45 characters wide.
type formatter struct {
	now       func() time.Time
	simulated func(provider, app string) bool
}

// shownRecall leaves the texts out and shortens user ids: who runs a queue need not know who was written to, or what.
type shownRecall struct {
	Provider  string `json:"provider,omitempty"`
	App       string `json:"app,omitempty"`
	Simulated string `json:"simulated,omitempty"`
	MessageID string `json:"message id,omitempty"`
	Sent      string `json:"sent,omitempty"`
	SentAt    string `json:"sent at,omitempty"`
	TimeLeft  string `json:"time left,omitempty"`
	RecallBy  string `json:"recall by,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Batch     string `json:"batch,omitempty"`
	Ref       string `json:"ref,omitempty"`
	Note      string `json:"note,omitempty"`
}

// payload implements asynqmon.PayloadFormatterFunc.
func (f formatter) payload(taskType string, payload []byte) string {
	ours := func(provider string) bool { return taskType == tasks.TaskType(provider) }
	if !slices.ContainsFunc(providers.Names(), ours) {
		return asynqmon.DefaultPayloadFormatter(taskType, payload)
	}
	r, err := tasks.Decode(payload)
	s := shownRecall{
		Provider: r.Provider, App: r.App, MessageID: r.MessageID,
		Sent: f.ago(r.SentAt), SentAt: moment(r.SentAt), TimeLeft: f.left(r.RecallBy), RecallBy: moment(r.RecallBy),
		From: shorten(r.From), To: shorten(r.To), Batch: r.Batch, Ref: r.Ref,
	}
	if f.simulated != nil && f.simulated(r.Provider, r.App) {
		s.Simulated = "does not reach the vendor"
	}
	switch {
	case errors.Is(err, tasks.ErrNewerVersion):
		s.Note = tasks.ErrNewerVersion.Error()
	case err != nil:
		s.Note = "cannot be read: " + providers.Line(err.Error(), providers.MaxMessage)
	}
	return compact(s)
}

type shownOutcome struct {
	Outcome    string `json:"outcome"`
	Code       string `json:"code,omitempty"`
	Attempts   int    `json:"attempts"`
	FinishedAt string `json:"finished at"`
}

// result implements asynqmon.ResultFormatterFunc. On the page of a single task asynqmon does not say its type, so the result
// has to speak for itself.
func (f formatter) result(taskType string, result []byte) string {
	if len(result) == 0 {
		return ""
	}
	var o tasks.Outcome
	if err := json.Unmarshal(result, &o); err != nil || !slices.Contains(tasks.Outcomes(), o.Outcome) {
		return asynqmon.DefaultResultFormatter(taskType, result)
	}
	return compact(shownOutcome{Outcome: o.Outcome, Code: o.Code, Attempts: o.Attempts, FinishedAt: moment(o.FinishedAt)})
}

func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the page shows text, not HTML
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

func (f formatter) ago(t time.Time) string {
	past := f.now().Sub(t)
	if t.IsZero() || past < 0 {
		return ""
	}
	return span(past) + " ago"
}

func (f formatter) left(recallBy time.Time) string {
	if recallBy.IsZero() {
		return ""
	}
	if left := recallBy.Sub(f.now()); left > 0 {
		return span(left)
	}
	return "none"
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// span says a duration in its two largest units.
func span(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range units[:3] {
		if d >= u.size {
			next := units[i+1]
			return fmt.Sprintf("%d %s %d %s", d/u.size, u.name, d%u.size/next.size, next.name)
		}
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// shorten leaves as much of a user id as tells two apart who are being talked about.
func shorten(user string) string {
	if user == "" {
		return ""
	}
	letters := []rune(user)
	return string(letters[:min(3, len(letters)/2)]) + "…"
}
