package providers

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

func lookup(t testing.TB, name string) Spec {
	t.Helper()
	s, ok := Lookup(name)
	if !ok {
		t.Fatalf("no spec of %q", name)
	}
	return s
}

func TestSpecsAreWhole(t *testing.T) {
	t.Parallel()
	var names []string
	for _, s := range Specs() {
		names = append(names, s.Name)
		if s.Title == "" || s.IDName == "" || s.Window <= 0 {
			t.Errorf("%s: title, id name or window is missing", s.Name)
		}
		if err := s.CheckID(s.IDExample); err != nil {
			t.Errorf("%s: the example id %q %v", s.Name, s.IDExample, err)
		}
		for _, f := range s.Identity {
			if !slices.Contains(s.Required, f) {
				t.Errorf("%s: %s is part of the identity but not required", s.Name, f)
			}
		}
		if _, ok := s.SentAt(s.IDExample, now); ok != s.IDCarriesTime() {
			t.Errorf("%s: the example id carries a time: %t, ids do: %t", s.Name, ok, s.IDCarriesTime())
		}
		for _, l := range s.Limits {
			if l.Calls <= 0 || l.Day == (l.Per > 0) {
				t.Errorf("%s: limit %+v", s.Name, l)
			}
		}
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("specs are of %v, want %v", names, Names())
	}
	for _, name := range []string{"", "Jiguang", "jpush", "jiguang "} {
		if _, ok := Lookup(name); ok {
			t.Errorf("there is a spec of %q", name)
		}
	}
}

// The table of contract section 3: which field belongs to whom.
func TestFields(t *testing.T) {
	t.Parallel()
	users := map[Field][]string{
		From: {TIMChat, RongCloud}, To: {TIMChat},
		OfflinePushTitle: {TIMPush}, OfflinePushDesc: {TIMPush},
		IsAdmin: {RongCloud}, IsDelete: {RongCloud}, DisableUpdateLastMsg: {RongCloud}, Extra: {RongCloud},
		"ref": nil, "": nil,
	}
	for field, want := range users {
		for _, name := range Names() {
			if got := lookup(t, name).Uses(field); got != slices.Contains(want, name) {
				t.Errorf("%s uses %q: %t", name, field, got)
			}
		}
	}
	if got := lookup(t, TIMChat).Required; !slices.Equal(got, []Field{From, To}) {
		t.Errorf("timchat requires %v", got)
	}
	if got := lookup(t, RongCloud).Required; !slices.Equal(got, []Field{From}) {
		t.Errorf("rongcloud requires %v", got)
	}
}

// The default limits of contract section 8, as people read them.
func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		Jiguang: "", EngageLab: "250 per second", TIMPush: "1 per second", TIMChat: "100 per second",
		RongCloud: "2 per hour, 3 per day (Asia/Shanghai)",
	} {
		var got []string
		for _, l := range lookup(t, name).Limits {
			got = append(got, l.String())
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %s, want %s", name, strings.Join(got, ", "), want)
		}
	}
	for want, l := range map[string]Limit{
		"5 per minute":    {Calls: 5, Per: time.Minute},
		"5 per 10s":       {Calls: 5, Per: 10 * time.Second},
		"1 per day (UTC)": {Calls: 1, Day: true},
	} {
		if got := l.String(); got != want {
			t.Errorf("%+v is %q, want %q", l, got, want)
		}
	}
}

func TestShanghaiIsEightHoursAhead(t *testing.T) {
	t.Parallel()
	zone := Shanghai()
	if _, offset := now.In(zone).Zone(); offset != 8*60*60 || zone.String() != "Asia/Shanghai" {
		t.Errorf("%s is %d s ahead of UTC", zone, offset)
	}
}

func TestSentAt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider, id, want string // want is empty if the id tells no time
	}{
		// Seed 000. The other two differ from the evident form.
		{Jiguang, "v:1t:1603707455p:27133n:2", "2020-10-26T10:17:35Z"},
		{Jiguang, "v:1t:1603707455", ""},
		{Jiguang, "v:1t:160370745p:27133n:2", ""},
		{Jiguang, "1603707455", ""},

		{EngageLab, "1828256757", ""}, // looks like a time and is none

		// Seed 002.
		{TIMPush, "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e", "2024-04-03T02:51:51Z"},
		{TIMPush, "660cc447", ""},
		{TIMPush, "660CC447_537ed82a", ""},
		{TIMPush, "60cc447_537ed82a", ""},

		// Seed 003, and https://tencentcloud.com/document/product/1047/68952.
		{TIMChat, "31906_833502_1572869830", "2019-11-04T12:17:10Z"},
		{TIMChat, "48374_2837546_1557481126", "2019-05-10T09:38:46Z"},
		{TIMChat, "31906_833502_99999999999999999999", ""},
		{TIMChat, "31906-833502-1572869830", ""},

		// A client's log with sentTime 1601372982418; the vendor's Go SDK, sdk/message_test.go;
		// https://juejin.cn/post/6844903945660268558.
		{RongCloud, "BKR5-28P4-JT85-SK8H", "2020-09-29T09:49:42.418Z"},
		{RongCloud, "BC52-ESJ0-022O-001H", "2019-07-25T10:12:05.12Z"},
		{RongCloud, "BD8U-FCOJ-LDC5-L789", "2019-09-19T03:44:12Z"},
		// Seed 004's own example reads as 1993: it is invented.
		{RongCloud, "5FGT-7VA9-G4DD-4V5P", ""},
		{RongCloud, "ZZZZ-ZZZZ-ZZZZ-ZZZZ", ""},
		{RongCloud, "BKR528P4JT85SK8H", ""},
		{RongCloud, "bkr5-28p4-jt85-sk8h", ""},

		// After now, and before 2015.
		{Jiguang, "v:1t:1900000000p:1n:1", ""},
		{TIMPush, "ffffffff_1", ""},
		{TIMChat, "1_1_0", ""},
		{TIMChat, "1_1_1420070399", ""},
		{TIMChat, "1_1_1420070400", "2015-01-01T00:00:00Z"},
	} {
		got, ok := lookup(t, c.provider).SentAt(c.id, now)
		if !ok {
			if c.want != "" || !got.IsZero() {
				t.Errorf("%s %s: no time, want %s", c.provider, c.id, c.want)
			}
			continue
		}
		text := got.Format(time.RFC3339Nano)
		if c.provider == RongCloud && c.want != "" && !strings.Contains(c.want, ".") {
			text = got.Truncate(time.Second).Format(time.RFC3339Nano) // this source gives seconds only
		}
		if text != c.want {
			t.Errorf("%s %s: %s, want %s", c.provider, c.id, text, c.want)
		}
	}
	sent := time.Unix(1603707455, 0)
	if _, ok := lookup(t, Jiguang).SentAt("v:1t:1603707455p:27133n:2", sent); !ok {
		t.Error("a message sent this very second was sent in the future")
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", 257)
	for _, c := range []struct {
		provider, id, want string // want is a part of the reason; empty if the id is well-formed
	}{
		{Jiguang, "v:1t:1603707455p:27133n:2", ""},
		{Jiguang, "anything-printable/1", ""},
		{EngageLab, "1828256757", ""},
		{EngageLab, long[:256], ""},
		{EngageLab, long, "257 bytes"},
		{EngageLab, "", "give the vendor's msg_id"},
		{EngageLab, "12 34", "' '"},
		{EngageLab, "12\n", `'\n'`},
		{EngageLab, "消息", "printable ASCII"},
		{EngageLab, "\x7f", `'\x7f'`},
		{EngageLab, ".", "is no id"},
		{EngageLab, "..", "is no id"},
		{EngageLab, "...", ""},
		{TIMPush, "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e", ""},
		{TIMPush, "some_other_form", ""},
		{TIMPush, "123456", "scheduled push"},
		{TIMChat, "31906_833502_1572869830", ""},
		{TIMChat, "144115198244471703-1572869830-833502", "client SDK"},
		{TIMChat, "31906_833502", "MsgSeq_MsgRandom_MsgTime"},
		{TIMChat, "31906_833502_1572869830_1", "MsgSeq_MsgRandom_MsgTime"},
		{TIMChat, "31906_833502_15728x", "MsgSeq_MsgRandom_MsgTime"},
		{RongCloud, "BC52-ESJ0-022O-001H", ""},
		{RongCloud, "5FGT-7VA9-G4DD-4V5P", ""},
		{RongCloud, "BC52ESJ0022O001H", "four groups of four"},
		{RongCloud, "bc52-esj0-022o-001h", "four groups of four"},
		{RongCloud, "BC52-ESJ0-022O-001H-0000", "four groups of four"},
	} {
		err := lookup(t, c.provider).CheckID(c.id)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s %q is refused: %v", c.provider, c.id, err)
		case c.want != "" && err == nil:
			t.Errorf("%s %q is taken", c.provider, c.id)
		case c.want != "" && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s %q: %q does not say %q", c.provider, c.id, err, c.want)
		}
	}
}

// Whatever stands in an id: a reason is one short line, an id that is taken is printable, and a time that is read from it
// is plausible.
func FuzzID(f *testing.F) {
	for _, s := range Specs() {
		f.Add(s.IDExample)
	}
	f.Add("5FGT-7VA9-G4DD-4V5P")
	f.Add("1_2_99999999999")
	f.Add("\x00\u2028..")
	f.Fuzz(func(t *testing.T, id string) {
		for _, s := range Specs() {
			if err := s.CheckID(id); err != nil {
				if text := err.Error(); Line(text, len(text)) != text || len(text) > MaxMessage {
					t.Errorf("%s: the reason is %q", s.Name, text)
				}
			} else if len(id) > 256 || Line(id, 256) != id || strings.Contains(id, " ") {
				t.Errorf("%s takes %q", s.Name, id)
			}
			sent, ok := s.SentAt(id, now)
			if ok && (sent.Before(earliest) || sent.After(now) || sent.Location() != time.UTC) {
				t.Errorf("%s reads %s from %q", s.Name, sent, id)
			}
			if !ok && !sent.IsZero() {
				t.Errorf("%s reads no time from %q, but %s", s.Name, id, sent)
			}
		}
	})
}
