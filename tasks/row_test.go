package tasks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/recallq/recallq/tasks"
)

const (
	timChatID  = "31906_833502_1795132800" // 2026-11-20T00:00:00Z
	uidID      = "BC52-ESJ0-022O-001H"     // 2019
	inventedID = "5FGT-7VA9-G4DD-4V5P"     // 1993: the vendor's example, which is invented
)

var midnight = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func read(t *testing.T, line string, opt tasks.RowOptions) (tasks.Recall, []tasks.Warning, *tasks.FieldError) {
	t.Helper()
	if opt.Now.IsZero() {
		opt.Now = now
	}
	row, err := tasks.DecodeRow([]byte(line))
	if err != nil {
		var refused *tasks.FieldError
		if !errors.As(err, &refused) {
			t.Fatalf("DecodeRow returned another error than a FieldError: %v", err)
		}
		return tasks.Recall{}, nil, refused
	}
	return row.Recall(opt)
}

func TestRowsThatAreAccepted(t *testing.T) {
	t.Parallel()
	shanghai := time.FixedZone("", 8*3600)
	tests := map[string]struct {
		line string
		opt  tasks.RowOptions
		want tasks.Recall
	}{
		"ids that carry their time": {
			`{"provider":"timchat","message_id":"` + timChatID + `","from":"jared","to":"tommy"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "timchat", MessageID: timChatID, From: "jared", To: "tommy", SentAt: midnight},
		},
		"jiguang's time": {
			`{"provider":"jiguang","msgid":"v:1t:1795132800p:27133n:2"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "jiguang", MessageID: "v:1t:1795132800p:27133n:2", SentAt: midnight},
		},
		"timpush's time": {
			`{"provider":"timpush","TaskId":"6aff9000_537ed82a"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "timpush", MessageID: "6aff9000_537ed82a", SentAt: time.Unix(0x6aff9000, 0).UTC()},
		},
		"rongcloud's time": {
			`{"provider":"rongcloud","messageUID":"` + uidID + `","fromUserId":"u"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "rongcloud", MessageID: uidID, From: "u", SentAt: time.UnixMilli(1564049525120).UTC()},
		},
		"a vendor's clock that is a little ahead": {
			`{"provider":"timchat","MsgKey":"1_2_1795176060","From_Account":"a","To_Account":"b"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "timchat", MessageID: "1_2_1795176060", From: "a", To: "b", SentAt: now.Add(time.Minute)},
		},
		"an integer taken literally": {
			`{"provider":"engagelab","msg_id":18282567570000000001,"sent_at":1795132800}`, tasks.RowOptions{},
			tasks.Recall{Provider: "engagelab", MessageID: "18282567570000000001", SentAt: midnight},
		},
		"integers as accounts and ref": {
			`{"provider":"timchat","MsgKey":"` + timChatID + `","From_Account":100,"To_Account":200,"ref":7}`, tasks.RowOptions{},
			tasks.Recall{Provider: "timchat", MessageID: timChatID, From: "100", To: "200", Ref: "7", SentAt: midnight},
		},
		"null and empty are absent": {
			`{"provider":"engagelab","msg_id":"1","sent_at":"1795132800","from":null,"to":"","app":null}`, tasks.RowOptions{},
			tasks.Recall{Provider: "engagelab", MessageID: "1", SentAt: midnight},
		},
		"flags in every form": {
			`{"provider":"rongcloud","msgUID":"` + uidID + `","from":"u","isAdmin":1,"is_delete":"true","disableUpdateLastMsg":false,"extra":"x"}`, tasks.RowOptions{},
			tasks.Recall{
				Provider: "rongcloud", MessageID: uidID, From: "u", IsAdmin: true, IsDelete: true, Extra: "x",
				SentAt: time.UnixMilli(1564049525120).UTC(),
			},
		},
		"what our own output adds": {
			`{"provider":"engagelab","msg_id":"1","sent_at":1795132800,"reject_reason":"r","reject_line":"l","id":"i","outcome":"expired","code":"c",` +
				`"error":"e","attempts":3,"batch":"b","seq":4,"recall_by":"x","finished_at":"y"}`, tasks.RowOptions{},
			tasks.Recall{Provider: "engagelab", MessageID: "1", SentAt: midnight},
		},
		"defaults, where the provider uses the field": {
			`{"message_id":"1","sent_at":1795132800}`,
			tasks.RowOptions{Defaults: map[string]string{
				"provider": "engagelab", "app": "abroad", "ref": "r", "from": "not used", "is_admin": "1", "offline_push_title": "not used",
			}},
			tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: "1", Ref: "r", SentAt: midnight},
		},
		"a field wins over its default": {
			`{"provider":"timpush","message_id":"t","sent_at":1795132800,"offline_push_title":"mine"}`,
			tasks.RowOptions{Defaults: map[string]string{"offline_push_title": "theirs", "offline_push_desc": "d"}},
			tasks.Recall{Provider: "timpush", MessageID: "t", OfflinePushTitle: "mine", OfflinePushDesc: "d", SentAt: midnight},
		},
		"a time in a given zone": {
			`{"provider":"engagelab","msg_id":"1","dateTime":"2026-11-20 08:00:00.250"}`, tasks.RowOptions{TimeZone: shanghai},
			tasks.Recall{Provider: "engagelab", MessageID: "1", SentAt: midnight.Add(250 * time.Millisecond)},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, refused := read(t, test.line, test.opt)
			if refused != nil {
				t.Fatal(refused)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRowsThatAreRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	tests := map[string]struct {
		line  string
		field string
		says  string
	}{
		"nothing":              {``, "row", "too early"},
		"no object":            {`[1]`, "row", "does not begin with {"},
		"a bare number":        {`17`, "row", "does not begin with {"},
		"cut off":              {`{"provider":"jiguang","msgid":"v`, "row", "too early"},
		"cut off after a key":  {`{"provider"`, "row", "too early"},
		"two objects":          {`{"provider":"jiguang"}{"a":1}`, "row", "follows"},
		"missing comma":        {`{"provider":"jiguang" "msgid":"1"}`, "row", "broken at \"msgid"},
		"unknown key":          {`{"provider":"jiguang","colour":"red"}`, "colour", "is no field"},
		"unknown null":         {`{"provider":"jiguang","colour":null}`, "colour", "is no field"},
		"repeated key":         {`{"provider":"jiguang","msgid":"1","msgid":"2"}`, "message_id", "twice"},
		"repeated alias":       {`{"provider":"jiguang","msgid":"1","message_id":"2"}`, "message_id", "twice, as msgid and as message_id"},
		"repeated null":        {`{"provider":"jiguang","msgid":null,"msgid":"2"}`, "message_id", "twice"},
		"null repeated":        {`{"provider":"jiguang","msgid":"2","msgid":null}`, "message_id", "twice"},
		"ignored repeated":     {`{"provider":"jiguang","code":"1","code":"2"}`, "code", "twice"},
		"nested":               {`{"provider":"jiguang","msgid":{"a":1}}`, "msgid", "object or an array"},
		"not UTF-8":            {"{\"provider\":\"jiguang\",\"msgid\":\"\xc4\xe3\xba\xc3\"}", "row", "looks like GBK"},
		"half a surrogate":     {`{"provider":"engagelab","msgid":"1","ref":"\ud800"}`, "ref", "surrogate"},
		"row too long":         {`{"provider":"jiguang","ref":"` + strings.Repeat("x", 70000) + `"}`, "row", "at most 65536"},
		"field too long":       {`{"provider":"timpush","TaskId":"t","offline_push_desc":"` + long + `"}`, "offline_push_desc", "5000 bytes long; at most 4096"},
		"ref too long":         {`{"provider":"timpush","TaskId":"t","ref":"` + long[:257] + `"}`, "ref", "257 bytes long; at most 256"},
		"id too long":          {`{"provider":"jiguang","msgid":"` + long[:257] + `"}`, "message_id", "at most 256"},
		"no provider":          {`{"msgid":"1"}`, "provider", "is missing; give one of jiguang"},
		"unknown provider":     {`{"provider":"smoke","msgid":"1"}`, "provider", "is no provider"},
		"provider a number":    {`{"provider":5,"msgid":"1"}`, "provider", "is no provider"},
		"no id":                {`{"provider":"timpush"}`, "message_id", "is missing; give the vendor's TaskId"},
		"id with a space":      {`{"provider":"jiguang","msgid":"a b"}`, "message_id", "printable ASCII"},
		"id not ASCII":         {`{"provider":"jiguang","msgid":"ü"}`, "message_id", "printable ASCII"},
		"id a path":            {`{"provider":"jiguang","msgid":".."}`, "message_id", "is no id"},
		"id from a sheet":      {`{"provider":"engagelab","msgid":"1.8E+09"}`, "message_id", "spreadsheet"},
		"id from a sheet, de":  {`{"provider":"engagelab","msgid":"1,8E+09"}`, "message_id", "spreadsheet"},
		"id a float":           {`{"provider":"engagelab","msgid":1.8E+09}`, "message_id", "spreadsheet"},
		"id a float, lower":    {`{"provider":"engagelab","msgid":1e9}`, "message_id", "spreadsheet"},
		"id true":              {`{"provider":"engagelab","msgid":true}`, "message_id", "true or false"},
		"no MsgKey":            {`{"provider":"timchat","MsgKey":"144115233406643804-1727580296-4026038328","from":"a","to":"b"}`, "message_id", "is not a MsgKey"},
		"scheduled push":       {`{"provider":"timpush","TaskId":"12345"}`, "message_id", "scheduled"},
		"no messageUID":        {`{"provider":"rongcloud","messageUID":"x","from":"a"}`, "message_id", "is not a messageUID"},
		"from missing":         {`{"provider":"timchat","MsgKey":"` + timChatID + `","to":"b"}`, "from", "is missing; timchat needs it"},
		"to missing":           {`{"provider":"timchat","MsgKey":"` + timChatID + `","from":"b"}`, "to", "is missing; timchat needs it"},
		"from from a sheet":    {`{"provider":"timchat","MsgKey":"` + timChatID + `","from":"1.38E+10","to":"b"}`, "from", "spreadsheet"},
		"from with a newline":  {`{"provider":"timchat","MsgKey":"` + timChatID + `","from":"a\n","to":"b"}`, "from", "control character"},
		"from not used":        {`{"provider":"jiguang","msgid":"1","from":"a"}`, "from", "is not used by jiguang"},
		"flag not used":        {`{"provider":"jiguang","msgid":"1","is_admin":false}`, "is_admin", "is not used by jiguang"},
		"flag neither":         {`{"provider":"rongcloud","messageUID":"` + uidID + `","from":"a","isAdmin":"yes"}`, "is_admin", "neither yes nor no"},
		"flag 2":               {`{"provider":"rongcloud","messageUID":"` + uidID + `","from":"a","isAdmin":2}`, "is_admin", "neither yes nor no"},
		"app in capitals":      {`{"provider":"jiguang","app":"News","msgid":"1"}`, "app", "is no app name"},
		"app reserved":         {`{"provider":"jiguang","app":"bulk","msgid":"1"}`, "app", "reserved"},
		"sent_at missing":      {`{"provider":"engagelab","msgid":"1"}`, "sent_at", "a msg_id does not tell"},
		"sent_at not in id":    {`{"provider":"jiguang","msgid":"1"}`, "sent_at", "this msgid does not tell"},
		"id of 1993":           {`{"provider":"rongcloud","messageUID":"` + inventedID + `","from":"u"}`, "sent_at", "this messageUID does not tell"},
		"id of the future":     {`{"provider":"timchat","MsgKey":"1_2_1795179600","from":"a","to":"b"}`, "sent_at", "this MsgKey does not tell"},
		"sent_at no time":      {`{"provider":"engagelab","msgid":"1","sent_at":"yesterday"}`, "sent_at", "is no time; give RFC 3339"},
		"sent_at an age":       {`{"provider":"engagelab","msgid":"1","sent_at":"40m"}`, "sent_at", "is no time"},
		"sent_at without zone": {`{"provider":"engagelab","msgid":"1","sent_at":"2026-11-20 01:55:10"}`, "sent_at", "no time zone"},
		"sent_at from a sheet": {`{"provider":"engagelab","msgid":"1","sent_at":"1.79E+09"}`, "sent_at", "spreadsheet"},
		"sent_at true":         {`{"provider":"engagelab","msgid":"1","sent_at":true}`, "sent_at", "is no time"},
		"sent_at negative":     {`{"provider":"engagelab","msgid":"1","sent_at":-5}`, "sent_at", "is no time"},
		"sent_at too new":      {`{"provider":"engagelab","msgid":"1","sent_at":"2026-11-20T12:05:01Z"}`, "sent_at", "is in the future"},
		"sent_at in micros":    {`{"provider":"engagelab","msgid":"1","sent_at":1795132800000000}`, "sent_at", "is no time"},
		"year 10000":           {`{"provider":"engagelab","msgid":"1","sent_at":"9999-12-31T23:59:59-01:00"}`, "sent_at", "is no time"},
		"sent_at in days":      {`{"provider":"engagelab","msgid":"1","sent_at":46346.08}`, "sent_at", "as spreadsheets count days"},
		"id of a data frame":   {`{"provider":"engagelab","msgid":"1828256757.0","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id below zero":        {`{"provider":"engagelab","msgid":"-1828256756","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id with a comma":      {`{"provider":"engagelab","msgid":"1828256759,0","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id with dots":         {`{"provider":"engagelab","msgid":"1.828.256.757","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id in thousands":      {`{"provider":"engagelab","msgid":"1,828,256,757","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id as a formula":      {`{"provider":"engagelab","msgid":"=\"1828256757\"","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id with apostrophe":   {`{"provider":"engagelab","msgid":"'1828256757","sent_at":1795132800}`, "message_id", "spreadsheet"},
		"id NULL":              {`{"provider":"engagelab","msgid":"NULL","sent_at":1795132800}`, "message_id", "where there is no id"},
		"id \\N":               {`{"provider":"engagelab","msgid":"\\N","sent_at":1795132800}`, "message_id", "where there is no id"},
		"id #VALUE!":           {`{"provider":"jiguang","msgid":"#VALUE!","sent_at":1795132800}`, "message_id", "where there is no id"},
		"id with a wide digit": {`{"provider":"engagelab","msgid":"１","sent_at":1795132800}`, "message_id", "contains '１'"},
		"not yet mended":       {`{"reject_line":"{oops","reject_reason":"r"}`, "provider", "still to be mended"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, refused := read(t, test.line, tasks.RowOptions{})
			if refused == nil {
				t.Fatalf("accepted: %+v", r)
			}
			if refused.Field != test.field || !strings.Contains(refused.Error(), test.says) {
				t.Errorf("field %q, %v\nwant field %q and %q", refused.Field, refused, test.field, test.says)
			}
			if refused.IsExpired() {
				t.Error("counted as expired")
			}
			if text := refused.Error(); len(text) > 500 || strings.ContainsAny(text, "\n\r") {
				t.Errorf("not one short line: %q", text)
			}
		})
	}
}

func TestSentAtForms(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	ms := midnight.Add(123 * time.Millisecond)
	for in, want := range map[string]time.Time{
		`"2026-11-20T00:00:00Z"`:              midnight,
		`"2026-11-20T08:00:00+08:00"`:         midnight,
		`"2026-11-20t00:00:00z"`:              midnight,
		`"2026-11-20 08:00:00+08:00"`:         midnight,
		`"2026-11-20 08:00:00 +08:00"`:        midnight,
		`"2026-11-20 08:00:00+08"`:            midnight,
		`"2026-11-20 08:00:00+0800"`:          midnight,
		`"2026-11-20T08:00:00.123+0800"`:      ms,
		`"2026-11-20T00:00:00.123999Z"`:       ms,
		`1795132800`:                          midnight,
		`"1795132800"`:                        midnight,
		`1795132800123`:                       ms,
		`"1795132800123"`:                     ms,
		`1795132800.123`:                      ms,
		`"1795132800.1239"`:                   ms,
		`1795132800123.75`:                    ms,
		`"2026-11-20 01:00:00"`:               midnight,
		`"2026-11-20T01:00:00.123"`:           ms,
		`"2026-06-20 02:00:00"`:               time.Date(2026, 6, 20, 0, 0, 0, 0, time.UTC), // summer time
		`"2026-11-20T12:05:00Z"`:              now.Add(5 * time.Minute),
		`1`:                                   time.Unix(1, 0).UTC(),
		`99999999999`:                         {}, // the last that is seconds: the year 5138
		`100000000000`:                        time.Date(1973, 3, 3, 9, 46, 40, 0, time.UTC),
		`"2026-11-20T00:00:00.123456789012Z"`: ms,
	} {
		r, _, refused := read(t, `{"provider":"engagelab","msgid":"1","sent_at":`+in+`}`, tasks.RowOptions{TimeZone: paris})
		if want.IsZero() {
			if refused == nil || !strings.Contains(refused.Reason, "future") {
				t.Errorf("%s: %v, %v", in, r.SentAt, refused)
			}
			continue
		}
		if refused != nil || r.SentAt != want {
			t.Errorf("%s: %v, %v; want %v", in, r.SentAt, refused, want)
		}
	}
}

// Null and the empty text are no field, also beside a vendor's own name for it.
func TestNothingBesideAField(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"provider":"engagelab","message_id":"1","msgid":null,"sent_at":1795132800}`,
		`{"provider":"engagelab","msg_id":"","message_id":"1","sent_at":1795132800}`,
		`{"provider":"engagelab","message_id":"1","sent_at":1795132800,"dateTime":null}`,
	} {
		row, err := tasks.DecodeRow([]byte(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if r, _, refused := row.Recall(tasks.RowOptions{Now: now}); refused != nil || r.MessageID != "1" || r.SentAt != midnight {
			t.Errorf("%s: %+v, %v", line, r, refused)
		}
	}
}

func TestParseSentAtTakesAnAge(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Time{
		"40m": now.Add(-40 * time.Minute), "1h30m": now.Add(-90 * time.Minute), "0s": now, "1.5h": now.Add(-90 * time.Minute),
		"1d": now.Add(-24 * time.Hour), "1h 5m": now.Add(-65 * time.Minute), "3d 2h": now.Add(-74 * time.Hour),
		"1795132800": midnight, "2026-11-20T00:00:00Z": midnight,
	} {
		if got, err := tasks.ParseSentAt(in, nil, now); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"-40m", "-1d", "soon", "2026-11-20 00:00:00", "", "d", "40", "1d2x", "999999d", "40min"} {
		if got, err := tasks.ParseSentAt(in, nil, now); err == nil && in != "40" { // 40 is 40 s after 1970
			t.Errorf("%q: %v", in, got)
		}
	}
	if _, err := tasks.ParseSentAt("40min", nil, now); !strings.HasSuffix(err.Reason, ", or an age such as 40m, 2h 30m or 1d") {
		t.Errorf("%v", err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	chat := `{"provider":"timchat","MsgKey":"` + timChatID + `","from":"a","to":"b","sent_at":"%s"}`
	push := `{"provider":"timpush","TaskId":"t","sent_at":1795132800%s}`
	for line, want := range map[string][]tasks.Class{
		fmt.Sprintf(chat, "2026-11-20T00:05:00Z"):                  nil,
		fmt.Sprintf(chat, "2026-11-19T23:55:00Z"):                  nil,
		fmt.Sprintf(chat, "2026-11-20T00:05:00.001Z"):              {tasks.IDTime},
		fmt.Sprintf(chat, "2026-11-19T23:54:59Z"):                  {tasks.IDTime},
		fmt.Sprintf(push, ``):                                      {tasks.NoText},
		fmt.Sprintf(push, `,"offline_push_title":"t"`):             nil,
		fmt.Sprintf(push, `,"offline_push_desc":"d"`):              nil,
		`{"provider":"timpush","TaskId":"6aff9000_1","sent_at":1}`: {tasks.IDTime, tasks.NoText},
	} {
		_, warnings, refused := read(t, line, tasks.RowOptions{})
		if refused != nil {
			t.Errorf("%s: %v", line, refused)
		}
		var got []tasks.Class
		for _, w := range warnings {
			got = append(got, w.Class)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}

// A refused row goes into the rejects file and, mended there, comes back as the same row.
func TestRejectsAreInput(t *testing.T) {
	t.Parallel()
	const line = `{"provider":"engagelab","msg_id":18282567570000000001,"sent_at":"soon \"\n","ref":"ü"}`
	row, err := tasks.DecodeRow([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	_, _, refused := row.Recall(tasks.RowOptions{Now: now})
	reject := row.AppendReject(nil, refused.Error())
	want := `{"provider":"engagelab","message_id":18282567570000000001,"sent_at":"soon \"\n","ref":"ü","reject_reason":`
	if !bytes.HasPrefix(reject, []byte(want)) || !json.Valid(reject) {
		t.Errorf("%s", reject)
	}
	mended := bytes.Replace(reject, []byte(`"soon \"\n"`), []byte(`1795132800`), 1)
	got, _, refused := read(t, string(mended), tasks.RowOptions{})
	if refused != nil || got.MessageID != "18282567570000000001" || got.Ref != "ü" {
		t.Errorf("%+v, %v", got, refused)
	}
}

func TestRowsOfCells(t *testing.T) {
	t.Parallel()
	var row tasks.Row
	for _, c := range [][2]string{{"PROVIDER", "timchat"}, {"msgkey", timChatID}, {"From_Account", "a"}, {"To_Account", "b"}, {"ref", ""}, {"outcome", "x"}} {
		if err := row.Set(c[0], c[1]); err != nil {
			t.Fatal(err)
		}
	}
	r, _, refused := row.Recall(tasks.RowOptions{Now: now})
	if refused != nil || r.ID() != (tasks.Recall{Provider: "timchat", MessageID: timChatID, From: "a", To: "b"}).ID() {
		t.Errorf("%+v, %v", r, refused)
	}
	if err := row.Set("MsgKey", "1_2_3"); err == nil {
		t.Error("a second message id is accepted")
	}
	if err := row.Set("colour", "red"); err == nil {
		t.Error("an unknown field is accepted")
	}
	for range 20 {
		row = tasks.Row{}
		for _, f := range []string{"message_id", "offline_push_title", "offline_push_desc", "extra", "ref"} {
			_ = row.Set(f, strings.Repeat("x", 20000))
		}
	}
	if _, _, refused := row.Recall(tasks.RowOptions{Now: now}); refused == nil {
		t.Error("a row of 100 kB is accepted")
	}
	if v, ok := tasks.IDRow("7").Get("message_id"); v != "7" || !ok {
		t.Error("Get")
	}
}

func TestGuessEncoding(t *testing.T) {
	t.Parallel()
	const western = "Latin-1 or Windows-1252 (Western Windows)"
	for in, want := range map[string]string{
		"plain":                  "",
		"\xff\xfea\x00b\x00":     "UTF-16 (in a spreadsheet: \"Unicode text\")",
		"a\x00b\x00c\x00":        "UTF-16 without a byte order mark",
		"\x00\x01\x02\x03abcdef": "binary data",
		"\xc4\xe3\xba\xc3,hello": "GBK or GB18030 (Chinese Windows)",
		"caf\xe9, d\xe9j\xe0 vu": western,
		"na\xefve":               western,
		"caf\xe9":                western,
		"M\xfcller":              western,
		"a\xff":                  western,
	} {
		if got := tasks.GuessEncoding([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Every alias is accepted, and no name means two fields.
func TestAliases(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, field := range tasks.Fields() {
		for _, name := range append(tasks.Aliases(field), field) {
			lower := strings.ToLower(name)
			if other, ok := seen[lower]; ok {
				t.Errorf("%s means both %s and %s", name, other, field)
			}
			seen[lower] = field
			if got, ok := tasks.Canonical(name); !ok || got != field {
				t.Errorf("%s means %q", name, got)
			}
			if tasks.Ignored(name) {
				t.Errorf("%s is ignored", name)
			}
		}
	}
	for _, name := range []string{"msgid", "msg_id", "TaskId", "MsgKey", "messageUID", "msgUID", "From_Account", "To_Account", "fromUserId", "sentTime", "dateTime"} {
		if _, ok := tasks.Canonical(name); !ok {
			t.Errorf("%s, which the contract names, is unknown", name)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add([]byte(`{"provider":"timchat","MsgKey":"31906_833502_1795132800","from":"a","to":"b"}`))
	f.Add([]byte(`{"provider":"rongcloud","messageUID":"BC52-ESJ0-022O-001H","from":"u","isAdmin":1,"sent_at":1.5,"ref":null}`))
	f.Add([]byte(`{"a":[],"b":"\ud800"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		row, err := tasks.DecodeRow(line)
		if err != nil {
			var refused *tasks.FieldError
			if !errors.As(err, &refused) || refused.Field == "" || refused.Reason == "" {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		sameAsEncodingJSON(t, line, row)
		checkRow(t, row)
	})
}

// sameAsEncodingJSON holds our reader against encoding/json, which is slow but right.
func sameAsEncodingJSON(t *testing.T, line []byte, row tasks.Row) {
	t.Helper()
	if !json.Valid(line) {
		t.Fatal("accepts what is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var want map[string]any
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	for name, v := range want {
		field, known := tasks.Canonical(name)
		got, have := row.Get(field)
		if !known || v == nil || v == "" {
			if known && have {
				t.Fatalf("%s is absent, and read as %q", name, got)
			}
			continue
		}
		if text := fmt.Sprint(v); got != text {
			t.Fatalf("%s is %q, and read as %q", name, text, got)
		}
	}
}

func FuzzRowRecall(f *testing.F) {
	f.Add("timchat", "31906_833502_1795132800", "2026-11-20 00:00:00", "a", "b", "1", "x")
	f.Add("rongcloud", "BC52-ESJ0-022O-001H", "1795132800.5", "a", "", "true", "x")
	f.Add("engagelab", "1.8E+09", "1e9", "", "", "", "")
	f.Fuzz(func(t *testing.T, provider, id, sentAt, from, to, admin, extra string) {
		var row tasks.Row
		for _, c := range [][2]string{
			{"provider", provider}, {"message_id", id}, {"sent_at", sentAt}, {"from", from}, {"to", to}, {"is_admin", admin}, {"extra", extra},
		} {
			if err := row.Set(c[0], c[1]); err != nil {
				t.Fatal(err)
			}
		}
		checkRow(t, row)
	})
}

// checkRow holds what is true of every row: what is accepted can be written, read again and be called with; what is
// refused is valid input after its refusal.
func checkRow(t *testing.T, row tasks.Row) {
	t.Helper()
	r, _, refused := row.Recall(tasks.RowOptions{Now: now, TimeZone: time.UTC})
	if refused != nil {
		if refused.Field == "" || refused.Reason == "" || strings.ContainsAny(refused.Error(), "\n\r\x00") {
			t.Fatalf("a refusal nobody can read: %q", refused.Error())
		}
		if reject := row.AppendReject(nil, refused.Error()); !json.Valid(reject) {
			t.Fatalf("a reject that is no JSON: %s", reject)
		}
		return
	}
	if r.SentAt.IsZero() || r.SentAt.After(now.Add(tasks.Tolerance)) {
		t.Fatalf("sent at %v", r.SentAt)
	}
	resolved, refused := tasks.Resolve(r, []tasks.Lane{{Provider: r.Provider, App: "a", Window: 100 * 365 * 24 * time.Hour}}, now, true)
	if refused != nil {
		if !refused.IsExpired() {
			t.Fatal(refused)
		}
		return
	}
	payload, err := resolved.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := tasks.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	resolved.V = tasks.Version
	if again != resolved || again.ID() != resolved.ID() {
		t.Fatalf("changed on the way:\n%+v\n%+v", resolved, again)
	}
}

func BenchmarkRow(b *testing.B) {
	line := []byte(`{"provider":"timchat","app":"chat","MsgKey":"31906_833502_1795132800","From_Account":"jared","To_Account":"tommy"}`)
	b.ReportAllocs()
	for b.Loop() {
		row, err := tasks.DecodeRow(line)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, refused := row.Recall(tasks.RowOptions{Now: now}); refused != nil {
			b.Fatal(refused)
		}
	}
}
