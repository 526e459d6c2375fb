package tasks

import (
	"slices"
	"strings"
	"sync"
)

// fields are the fields of a row, in the order in which they are shown, each with the vendors' own names for it.
var fields = []struct {
	name    string
	aliases []string
}{
	{"provider", nil},
	{"app", nil},
	// Jiguang: msgid; EngageLab: msg_id; TIMPush: TaskId; Tencent Chat: MsgKey; RongCloud: messageUID in its API, msgUID in
	// its history log and callbacks.
	{"message_id", []string{"msgid", "msg_id", "TaskId", "task_id", "MsgKey", "msg_key", "messageUID", "message_uid", "msgUID", "msg_uid"}},
	// RongCloud: sentTime in its API, dateTime in its history log; Tencent's callbacks: MsgTime.
	{"sent_at", []string{"sentTime", "sent_time", "dateTime", "date_time", "MsgTime", "msg_time"}},
	{"from", []string{"From_Account", "fromUserId", "from_user_id"}},
	{"to", []string{"To_Account"}},
	{"offline_push_title", nil},
	{"offline_push_desc", nil},
	{"is_admin", []string{"isAdmin"}},
	{"is_delete", []string{"isDelete"}},
	{"disable_update_last_msg", []string{"disableUpdateLastMsg"}},
	{"extra", nil},
	{"ref", nil},
}

// ignored are what our own output adds: reports and rejects are valid input.
var ignored = []string{
	"reject_reason", "reject_line", "id", "outcome", "code", "error", "attempts", "batch", "seq", "recall_by", "finished_at",
	"stream_id",
}

// Fields returns the names of the fields of a row, in the order in which they are shown.
func Fields() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// Aliases returns the vendors' own names that are accepted for a field.
func Aliases(field string) []string {
	for _, f := range fields {
		if f.name == field {
			return slices.Clone(f.aliases)
		}
	}
	return nil
}

// names are all names of fields, as written and in lower case. Nothing changes them.
var names = sync.OnceValue(func() map[string]string {
	all := make(map[string]string)
	for _, f := range fields {
		all[f.name] = f.name
		for _, alias := range f.aliases {
			all[alias] = f.name // as the vendor writes it, which is the common case
			all[strings.ToLower(alias)] = f.name
		}
	}
	return all
})

// Canonical returns the field that a name means: itself, or what a vendor's own name for it stands for. Case does not
// matter, because databases change it on export.
func Canonical(name string) (field string, ok bool) {
	field, ok = names()[name]
	if !ok {
		field, ok = names()[strings.ToLower(name)]
	}
	return field, ok
}

// Ignored reports whether a name is one of those that our own reports and rejects add, which input leaves alone.
func Ignored(name string) bool { return slices.Contains(ignored, name) }
