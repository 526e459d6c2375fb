package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// ErrNewerVersion is returned by [Decode] for a payload that a newer recallq has written. It is not broken: a worker that
// knows the version can take it.
var ErrNewerVersion = errors.New("the payload is of a newer version; upgrade the worker")

// Encode writes the payload: JSON with the keys in the order of the struct, empty fields left out, times in UTC with
// milliseconds. V is always [Version]. The error is a *[FieldError] for a text that is not UTF-8 or a time that
// cannot be written.
func (r Recall) Encode() ([]byte, error) {
	if err := r.encodable(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 320+len(r.MessageID)+len(r.From)+len(r.To)+len(r.Extra)+len(r.Ref)+
		len(r.OfflinePushTitle)+len(r.OfflinePushDesc))
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, Version, 10)
	b = r.appendRow(b)
	b = appendWhen(b, "enqueued_at", r.EnqueuedAt)
	b = appendWhen(b, "recall_by", r.RecallBy)
	b = appendText(b, "batch", r.Batch)
	if r.Seq != 0 {
		b = append(appendKey(b, "seq"), strconv.FormatInt(r.Seq, 10)...)
	}
	return append(b, '}'), nil
}

// appendRow appends what is a row's own, each with a comma before it.
func (r Recall) appendRow(b []byte) []byte {
	b = appendText(b, "provider", r.Provider)
	b = appendText(b, "app", r.App)
	b = appendText(b, "message_id", r.MessageID)
	b = appendWhen(b, "sent_at", r.SentAt)
	b = appendText(b, "from", r.From)
	b = appendText(b, "to", r.To)
	b = appendText(b, "offline_push_title", r.OfflinePushTitle)
	b = appendText(b, "offline_push_desc", r.OfflinePushDesc)
	b = appendTrue(b, "is_admin", r.IsAdmin)
	b = appendTrue(b, "is_delete", r.IsDelete)
	b = appendTrue(b, "disable_update_last_msg", r.DisableUpdateLastMsg)
	b = appendText(b, "extra", r.Extra)
	b = appendText(b, "ref", r.Ref)
	return b
}

func (r Recall) encodable() error {
	for _, f := range r.texts() {
		if !utf8.ValidString(f.value) {
			return refuse(f.name, f.value, "is not UTF-8")
		}
	}
	for _, f := range r.times() {
		if !writable(f.value) {
			return refusef(f.name, strconv.Itoa(f.value.Year()), "is a year that cannot be written")
		}
	}
	return nil
}

type textField struct{ name, value string }

type timeField struct {
	name  string
	value time.Time
}

func (r Recall) texts() [10]textField {
	return [10]textField{
		{"provider", r.Provider}, {"app", r.App}, {"message_id", r.MessageID}, {"from", r.From}, {"to", r.To},
		{"offline_push_title", r.OfflinePushTitle}, {"offline_push_desc", r.OfflinePushDesc},
		{"extra", r.Extra}, {"ref", r.Ref}, {"batch", r.Batch},
	}
}

func (r Recall) times() [3]timeField {
	return [3]timeField{{"sent_at", r.SentAt}, {"enqueued_at", r.EnqueuedAt}, {"recall_by", r.RecallBy}}
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendQuoted(appendKey(b, key), value)
}

func appendTrue(b []byte, key string, value bool) []byte {
	if !value {
		return b
	}
	return append(appendKey(b, key), "true"...)
}

func appendWhen(b []byte, key string, value time.Time) []byte {
	if value.IsZero() {
		return b
	}
	b = append(appendKey(b, key), '"')
	return append(appendTime(b, value), '"')
}

// appendQuoted appends a JSON string. s is UTF-8; only what JSON demands is escaped, so that texts stay readable in
// asynqmon.
func appendQuoted(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// wireRecall is the payload as encoding/json reads it.
type wireRecall struct {
	V                    int      `json:"v"`
	Provider             string   `json:"provider"`
	App                  string   `json:"app"`
	MessageID            string   `json:"message_id"`
	SentAt               wireTime `json:"sent_at"`
	From                 string   `json:"from"`
	To                   string   `json:"to"`
	OfflinePushTitle     string   `json:"offline_push_title"`
	OfflinePushDesc      string   `json:"offline_push_desc"`
	IsAdmin              bool     `json:"is_admin"`
	IsDelete             bool     `json:"is_delete"`
	DisableUpdateLastMsg bool     `json:"disable_update_last_msg"`
	Extra                string   `json:"extra"`
	Ref                  string   `json:"ref"`
	EnqueuedAt           wireTime `json:"enqueued_at"`
	RecallBy             wireTime `json:"recall_by"`
	Batch                string   `json:"batch"`
	Seq                  int64    `json:"seq"`
}

func (w wireRecall) recall() Recall {
	return Recall{
		V: w.V, Provider: w.Provider, App: w.App, MessageID: w.MessageID, SentAt: time.Time(w.SentAt),
		From: w.From, To: w.To, OfflinePushTitle: w.OfflinePushTitle, OfflinePushDesc: w.OfflinePushDesc,
		IsAdmin: w.IsAdmin, IsDelete: w.IsDelete, DisableUpdateLastMsg: w.DisableUpdateLastMsg,
		Extra: w.Extra, Ref: w.Ref, EnqueuedAt: time.Time(w.EnqueuedAt), RecallBy: time.Time(w.RecallBy),
		Batch: w.Batch, Seq: w.Seq,
	}
}

// Decode reads a payload. It asks for what the worker cannot do without: a known provider, an app, a message id and
// recall_by; keys that it does not know it leaves alone.
//
// For a payload of a newer version the error is [ErrNewerVersion], and the Recall holds those of V, provider, app,
// message_id, recall_by, batch, seq and ref that could be read. Any other error is for good: the payload ends as rejected. The
// Recall then holds what could be read. It is never in a batch whose name is none.
func Decode(payload []byte) (Recall, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(payload, &keys); err != nil {
		return Recall{}, fmt.Errorf("the payload is not a JSON object: %w", err)
	}
	var version int
	if err := json.Unmarshal(keys["v"], &version); err != nil || version < 1 {
		return glean(keys), refuse("v", string(keys["v"]), "is no version of a payload")
	}
	if version > Version {
		return glean(keys), fmt.Errorf("payload version %d: %w", version, ErrNewerVersion)
	}
	var w wireRecall
	if err := json.Unmarshal(payload, &w); err != nil {
		return glean(keys), fmt.Errorf("the payload cannot be read: %w", err)
	}
	r := w.recall()
	err := r.usable()
	return r.inGoodBatch(), err
}

func (r Recall) usable() error {
	if _, ok := lookup(r.Provider); !ok {
		return refuse("provider", r.Provider, "is no provider")
	}
	if err := CheckApp(r.App); err != nil {
		return refuse("app", r.App, err.Error())
	}
	if r.MessageID == "" {
		return refuse("message_id", "", "is missing")
	}
	if r.RecallBy.IsZero() {
		return refuse("recall_by", "", "is missing")
	}
	if r.Batch != "" {
		if err := CheckBatch(r.Batch); err != nil {
			return refuse("batch", r.Batch, err.Error())
		}
	}
	return nil
}

// inGoodBatch takes a recall out of a batch that is none: its name would become part of Redis's keys, and in a cluster those of "}x" share
// no slot, so that not even the end of such a recall could be written.
func (r Recall) inGoodBatch() Recall {
	if r.Batch != "" && CheckBatch(r.Batch) != nil {
		r.Batch, r.Seq = "", 0
	}
	return r
}

// glean reads what can be read of a payload that as a whole cannot, each field for itself.
func glean(keys map[string]json.RawMessage) Recall {
	var w wireRecall
	for _, f := range []struct {
		key string
		to  any
	}{
		{"v", &w.V}, {"provider", &w.Provider}, {"app", &w.App}, {"message_id", &w.MessageID},
		{"recall_by", &w.RecallBy}, {"batch", &w.Batch}, {"seq", &w.Seq}, {"ref", &w.Ref},
	} {
		// A field of another type stays empty; that it cannot be read is known already.
		_ = json.Unmarshal(keys[f.key], f.to)
	}
	return w.recall().inGoodBatch()
}
