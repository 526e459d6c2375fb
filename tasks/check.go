package tasks

import (
	"strings"
	"time"
	"unicode"

	"github.com/recallq/recallq/providers"
)

// Class is a kind of warning; warnings are counted by it.
type Class string

// The classes of warnings.
const (
	// IDTime: the id's own time differs from sent_at by more than [Tolerance]; the earlier of the two sets recall_by.
	IDTime Class = "id_time"
	// NoText: a timpush recall has neither title nor description. It means nothing if the app has default texts, which
	// [Lane.HasDefaultText] says.
	NoText Class = "no_text"
)

// Warning is something that does not refuse a recall but that a person should hear of.
type Warning struct {
	Class Class
	Field string
	Text  string // one line, lower case
}

// Check checks a recall as a row of input is checked, except for what depends on its lane: whether the app exists and
// whether the window has closed ([Resolve]). It returns the recall with SentAt filled in from the id if it was zero, and
// with times cut to milliseconds.
//
// A SentAt given wins over the id's own time as what the vendor is sent. What is refused is a [FieldError], nil if nothing is: see there
// before it becomes an error.
func (r Recall) Check(now time.Time) (Recall, []Warning, *FieldError) {
	spec, ok := lookup(r.Provider)
	if !ok {
		return r, nil, unknownProvider(r.Provider)
	}
	if err := r.checkFields(spec); err != nil {
		return r, nil, err
	}
	r, idTime, err := r.withSentAt(spec, now)
	if err != nil {
		return r, nil, err
	}
	return r, r.warnings(idTime), nil
}

func (r Recall) checkFields(spec providers.Spec) *FieldError {
	for _, f := range r.texts() {
		if err := checkText(f.name, f.value); err != nil {
			return err
		}
	}
	if r.App != "" {
		if err := CheckApp(r.App); err != nil {
			return refuse("app", r.App, err.Error())
		}
	}
	if r.Batch != "" {
		if err := CheckBatch(r.Batch); err != nil {
			return refuse("batch", r.Batch, err.Error())
		}
	}
	if err := r.checkID(spec); err != nil {
		return err
	}
	for _, f := range spec.Required {
		if r.text(f) == "" {
			return refusef(string(f), "", "is missing; %s needs it", spec.Name)
		}
	}
	return r.checkUse(spec)
}

func (r Recall) checkID(spec providers.Spec) *FieldError {
	if r.MessageID == "" {
		return refusef("message_id", "", "is missing; give the vendor's %s, like %s", spec.IDName, spec.IDExample)
	}
	if fromSpreadsheet(r.MessageID) {
		return refuse("message_id", r.MessageID, spreadsheetHint)
	}
	if err := spec.CheckID(r.MessageID); err != nil {
		return refuse("message_id", r.MessageID, err.Error())
	}
	return checkExport(r.MessageID)
}

// someFields are the fields that only some providers use.
var someFields = []providers.Field{
	providers.From, providers.To, providers.OfflinePushTitle, providers.OfflinePushDesc,
	providers.IsAdmin, providers.IsDelete, providers.DisableUpdateLastMsg, providers.Extra,
}

func (r Recall) checkUse(spec providers.Spec) *FieldError {
	for _, f := range someFields {
		if spec.Uses(f) {
			continue
		}
		if value := r.text(f); value != "" {
			return unused(spec, string(f), value)
		}
		if r.flag(f) {
			return unused(spec, string(f), "true")
		}
	}
	for _, f := range []providers.Field{providers.From, providers.To} {
		value := r.text(f)
		if strings.ContainsFunc(value, unicode.IsControl) {
			return refuse(string(f), value, "holds a control character, which no account has")
		}
		if fromSpreadsheet(value) {
			return refuse(string(f), value, spreadsheetHint)
		}
	}
	return nil
}

// withSentAt fills in SentAt and returns the id's own time, zero if it has none.
func (r Recall) withSentAt(spec providers.Spec, now time.Time) (Recall, time.Time, *FieldError) {
	own := idTime(spec, r.MessageID, now)
	r.SentAt = cut(r.SentAt)
	if r.SentAt.IsZero() {
		r.SentAt = own
	}
	switch {
	case r.SentAt.IsZero() && spec.IDCarriesTime():
		return r, own, refusef("sent_at", "", "is missing, and this %s does not tell when the message was sent; %s", spec.IDName, sentAtForms)
	case r.SentAt.IsZero():
		return r, own, refusef("sent_at", "", "is missing, and a %s does not tell when the message was sent; %s", spec.IDName, sentAtForms)
	case !writable(r.SentAt):
		return r, own, refuse("sent_at", r.SentAt.String(), "is no time a message can have been sent at; "+sentAtForms)
	case r.SentAt.After(now.Add(Tolerance)):
		return r, own, refusef("sent_at", FormatTime(r.SentAt), "is in the future (it is %s now); check its zone and its unit: %s", FormatTime(now), sentAtForms)
	}
	return r, own, nil
}

// idTime reads the time in an id. The vendor's clock may be ahead of ours by as much as is tolerated elsewhere: a recall
// enqueued in the second after the message must not be refused for that.
func idTime(spec providers.Spec, id string, now time.Time) time.Time {
	t, ok := spec.SentAt(id, now.Add(Tolerance))
	if !ok {
		return time.Time{}
	}
	return cut(t)
}

func (r Recall) warnings(idTime time.Time) []Warning {
	var list []Warning
	if !idTime.IsZero() && apart(idTime, r.SentAt) {
		list = append(list, Warning{Class: IDTime, Field: "sent_at", Text: "the id says " + FormatTime(idTime) +
			", the row " + FormatTime(r.SentAt) + "; the earlier of the two sets recall_by"})
	}
	if r.Provider == providers.TIMPush && r.OfflinePushTitle == "" && r.OfflinePushDesc == "" {
		list = append(list, Warning{Class: NoText, Field: string(providers.OfflinePushTitle),
			Text: "no offline_push_title and no offline_push_desc, so users may go on seeing the old text"})
	}
	return list
}

func apart(a, b time.Time) bool { return a.Sub(b).Abs() > Tolerance }
