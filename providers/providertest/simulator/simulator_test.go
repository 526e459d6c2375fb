package simulator

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestImports holds what the package is for: no client of recallq is in it, only the standard library.
func TestImports(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			first, _, _ := strings.Cut(strings.Trim(i.Path.Value, `"`), "/")
			if strings.Contains(first, ".") && !strings.HasSuffix(file, "_test.go") || strings.Contains(i.Path.Value, "recallq") {
				t.Errorf("%s imports %s", file, i.Path.Value)
			}
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		provider, unknown, first, again, old string
	}{
		{Jiguang, "4004", "0", "1015055", "4004"},
		{EngageLab, "21003", "", "21003", "21003"},
		{TIMPush, "90049", "0", "90050", "90052"},
		{TIMChat, "20022", "0", "20023", "0"},
		{RongCloud, "200", "200", "200", "200"},
	} {
		t.Run(tc.provider, func(t *testing.T) {
			t.Parallel()
			clock := newHandClock()
			sim, err := New(Options{Now: clock.Now, NoLimits: true})
			if err != nil {
				t.Fatal(err)
			}
			id := ids[tc.provider]
			step := func(what, want string, recalled bool) {
				t.Helper()
				serve(sim, good(tc.provider, id, clock.Now()))
				c := latest(sim)
				if c.Code != want || c.Recalled != recalled || c.MessageID != id || c.Provider != tc.provider {
					t.Errorf("%s: code %q, recalled %v (%+v), want code %q, recalled %v", what, c.Code, c.Recalled, c, want, recalled)
				}
			}
			know := func(m Message) {
				t.Helper()
				m.Provider, m.ID = tc.provider, id
				if err := sim.Know(m); err != nil {
					t.Fatal(err)
				}
			}
			windowless := tc.provider == TIMChat || tc.provider == RongCloud

			step("unknown", tc.unknown, false)
			sim.Reset()
			know(Message{})
			step("first", tc.first, true)
			step("again", tc.again, tc.provider == RongCloud)
			clock.Add(25 * time.Hour)
			step("again after the window", tc.again, tc.provider == RongCloud)
			know(Message{SentAt: clock.Now().Add(-24 * time.Hour)})
			step("announced again, at the window's end", tc.first, true)
			know(Message{SentAt: clock.Now().Add(-24*time.Hour - time.Second)})
			step("after the window", tc.old, windowless)
			know(Message{Recalled: true})
			step("announced as recalled", tc.again, tc.provider == RongCloud)
			sim.Reset()
			step("after a reset", tc.unknown, false)
		})
	}
}

// TestSentAtOfIDs shows that a message's age is read from its id: the ids' dates are those of the vendors' own examples.
func TestSentAtOfIDs(t *testing.T) {
	t.Parallel()
	now := base
	for _, tc := range []struct{ provider, id, want string }{
		{Jiguang, "v:1t:1603707455p:27133n:2", "2020-10-26T10:17:35Z"},
		{TIMPush, "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e", "2024-04-03T02:51:51Z"},
		{TIMChat, "31906_833502_1572869830", "2019-11-04T12:17:10Z"},
		{RongCloud, "BC52-ESJ0-022O-001H", "2019-07-25T10:12:05Z"},
		{RongCloud, "BKR5-28P4-JT85-SK8H", "2020-09-29T09:49:42Z"},
		{RongCloud, "5FGT-7VA9-G4DD-4V5P", "2026-11-20T10:00:00Z"}, // reads as 1993: a coincidence
		{EngageLab, "1828256757", "2026-11-20T10:00:00Z"},
		{TIMChat, "1_2_1999999999", "2026-11-20T10:00:00Z"}, // in the future
	} {
		if got := sentAt(vendors[tc.provider], tc.id, now).UTC().Format(time.RFC3339); got != tc.want {
			t.Errorf("%s %s: sent at %s, want %s", tc.provider, tc.id, got, tc.want)
		}
	}
	// The log of a client has this one's sentTime to the millisecond.
	if got, _ := rongTime("BKR5-28P4-JT85-SK8H"); got.UnixMilli() != 1601372982418 {
		t.Errorf("sent at %d ms, want 1601372982418", got.UnixMilli())
	}
}

func TestKnowAll(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, err := New(Options{Now: clock.Now, NoLimits: true, KnowAll: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ provider, id, want string }{
		{Jiguang, ids[Jiguang], "0"},
		{Jiguang, ids[Jiguang], "1015055"},
		{Jiguang, "v:1t:1603707455p:27133n:2", "4004"}, // too old, as its id says
		{EngageLab, "77", ""},
		{EngageLab, "77", "21003"},
		{EngageLab, "no-number", "21003"},
		{TIMPush, ids[TIMPush], "0"},
		{TIMPush, "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e", "90052"},
		{TIMPush, "123456", "90049"}, // a scheduled push's id
		{TIMChat, "1_2_1572869830", "0"},
		{RongCloud, ids[RongCloud], "200"},
	} {
		serve(sim, good(tc.provider, tc.id, clock.Now()))
		if got := last(sim); got != tc.want {
			t.Errorf("%s %s: code %q, want %q", tc.provider, tc.id, got, tc.want)
		}
	}
}

// TestRecipients shows that one MsgKey is a message to each of its recipients, and that sender and recipient count.
func TestRecipients(t *testing.T) {
	t.Parallel()
	now := base
	sim, err := New(Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Know(
		Message{Provider: TIMChat, ID: "1_2_3", From: "a", To: "b"},
		Message{Provider: TIMChat, ID: "1_2_3", From: "a", To: "c"},
		Message{Provider: TIMChat, ID: "4_5_6"},
	); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ id, from, to, want string }{
		{"1_2_3", "a", "b", "0"}, {"1_2_3", "a", "c", "0"}, {"1_2_3", "a", "b", "20023"},
		{"1_2_3", "b", "a", "20022"}, {"1_2_3", "a", "d", "20022"},
		{"4_5_6", "x", "y", "0"}, {"4_5_6", "x", "z", "0"}, {"4_5_6", "x", "y", "20023"},
	} {
		serve(sim, post("/v4/openim/admin_msgwithdraw?"+tencentQuery(sample(TIMChat), now).Encode(), "application/json",
			fmt.Sprintf(`{"From_Account":%q,"To_Account":%q,"MsgKey":%q}`, tc.from, tc.to, tc.id)))
		if got := last(sim); got != tc.want {
			t.Errorf("%v: code %s", tc, got)
		}
	}
}

// TestMessagesOfAccounts shows that a message announced for one account is unknown to another.
func TestMessagesOfAccounts(t *testing.T) {
	t.Parallel()
	other := Account{Provider: Jiguang, Account: "other", Secret: "s"}
	sim, err := New(Options{Accounts: []Account{sample(Jiguang), other}, Now: func() time.Time { return base }})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Know(Message{Provider: Jiguang, Account: "other", ID: ids[Jiguang]}); err != nil {
		t.Fatal(err)
	}
	serve(sim, good(Jiguang, ids[Jiguang], base))
	if got := last(sim); got != "4004" {
		t.Errorf("another account's message: code %s, want 4004", got)
	}
	serve(sim, as(other, Jiguang, ids[Jiguang], base))
	if got := last(sim); got != "0" {
		t.Errorf("the account's own message: code %s, want 0", got)
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{Now: func() time.Time { return base }, NoLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Know(Message{
		Provider: TIMPush, ID: ids[TIMPush], Script: []Behaviour{{Code: "91000"}, {Code: "internal"}},
	}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"91000", "91000", "0", "90050"} {
		serve(sim, good(TIMPush, ids[TIMPush], base))
		if got := last(sim); got != want {
			t.Errorf("call %d: code %s, want %s", i+1, got, want)
		}
	}
}

// TestRequests goes through what is wrong with requests of which the credentials are good.
func TestRequests(t *testing.T) {
	t.Parallel()
	query := func(change func(url.Values)) string {
		q := tencentQuery(sample(Tencent), base)
		change(q)
		return q.Encode()
	}
	same := func(url.Values) {}
	const push, chat, rong = "/v4/timpush/revoke?", "/v4/openim/admin_msgwithdraw?", "/message/broadcast/recall.json"
	const form, body = "application/x-www-form-urlencoded", `{"TaskId":"6b001a20_1"}`
	signed := func(r *http.Request) *http.Request {
		for name, values := range good(RongCloud, "x", base).Header {
			if name != "Content-Type" {
				r.Header[name] = values
			}
		}
		return r
	}
	for _, tc := range []struct {
		name    string
		r       *http.Request
		want    string // code
		lenient string // code with Options.Lenient
	}{
		{"random missing", post(push+query(func(q url.Values) { q.Del("random") }), "application/json", body), "60002", "60002"},
		{"random too large", post(push+query(func(q url.Values) { q.Set("random", "4294967296") }), "application/json", body), "60002", "60002"},
		{"random negative", post(push+query(func(q url.Values) { q.Set("random", "-1") }), "application/json", body), "60002", "60002"},
		{"contenttype", post(push+query(func(q url.Values) { q.Set("contenttype", "xml") }), "application/json", body), "60002", "60002"},
		{"query name in another case", post(push+query(func(q url.Values) { q.Del("contenttype"); q.Set("ContentType", "json") }), "application/json", body), "60002", "60002"},
		{"unknown query name", post(push+query(func(q url.Values) { q.Set("x", "y") }), "application/json", body), "60002", "0"},
		{"query name twice", post(push+query(func(q url.Values) { q.Add("random", "1") }), "application/json", body), "60002", "0"},
		{"no sdkappid", post(push+query(func(q url.Values) { q.Del("sdkappid") }), "application/json", body), "60012", "60012"},
		{"content type", post(push+query(same), form, body), "60003", "0"},
		{"no content type", post(push+query(same), "", body), "0", "0"},
		{"charset", post(push+query(same), "application/json; charset=utf-8", body), "0", "0"},
		{"no body", post(push+query(same), "application/json", ""), "90001", "90001"},
		{"no object", post(push+query(same), "application/json", `[]`), "90001", "90001"},
		{"two values", post(push+query(same), "application/json", body+body), "90001", "90001"},
		{"no task id", post(push+query(same), "application/json", `{}`), "90049", "90049"},
		{"task id in another case", post(push+query(same), "application/json", `{"taskId":"6b001a20_1"}`), "90049", "90049"},
		{"task id a number", post(push+query(same), "application/json", `{"TaskId":1}`), "90001", "90001"},
		{"unknown name", post(push+query(same), "application/json", `{"TaskId":"6b001a20_1","Title":"x"}`), "90001", "0"},
		{"name in another case", post(push+query(same), "application/json", `{"TaskId":"6b001a20_1","OfflinePushinfo":{}}`), "90001", "0"},
		{"offline push no object", post(push+query(same), "application/json", `{"TaskId":"6b001a20_1","OfflinePushInfo":"x"}`), "90001", "90001"},
		{"title no text", post(push+query(same), "application/json", `{"TaskId":"6b001a20_1","OfflinePushInfo":{"Title":1}}`), "90001", "90001"},
		{"all of it", post(push+query(same), "application/json", `{"TaskId":"6b001a20_1","OfflinePushInfo":{"PushFlag":0,"Title":"t","Desc":"d","Ext":"e"}}`), "0", "0"},
		{"chat: unknown name", post(chat+query(same), "application/json", `{"From_Account":"a","To_Account":"b","MsgKey":"1_2_3","x":1}`), "90001", "0"},
		{"chat: empty sender", post(chat+query(same), "application/json", `{"From_Account":"","To_Account":"b","MsgKey":"1_2_3"}`), "90008", "90008"},
		{"chat: recipient null", post(chat+query(same), "application/json", `{"From_Account":"a","To_Account":null,"MsgKey":"1_2_3"}`), "90003", "90003"},

		{"rong: JSON", signed(post(rong, "application/json", `{"fromUserId":"a"}`)), "1003", "1003"},
		{"rong: no id", signed(post(rong, form, "fromUserId=a")), "1002", "1002"},
		{"rong: sent time", signed(post(rong, form, "fromUserId=a&messageUID=b&sentTime=yesterday")), "1002", "1002"},
		{"rong: flag", signed(post(rong, form, "fromUserId=a&messageUID=b&isAdmin=true")), "1002", "1002"},
		{"rong: boolean", signed(post(rong, form, "fromUserId=a&messageUID=b&disableUpdateLastMsg=1")), "1002", "1002"},
		{"rong: twice", signed(post(rong, form, "fromUserId=a&messageUID=b&messageUID=c")), "1002", "1002"},
		{"rong: unknown field", signed(post(rong, form, "fromUserId=a&messageUID=b&disablePush=1")), "1002", "200"},
		{"rong: query", signed(post(rong+"?a=b", form, "fromUserId=a&messageUID=b")), "1002", "200"},
		{"rong: bad form", signed(post(rong, form, "fromUserId=%zz&messageUID=b")), "1002", "1002"},
		{"rong: all of it", signed(post(rong, form, "fromUserId=a&messageUID=b&sentTime=1&isAdmin=1&isDelete=0&extra=x%0Ay&disableUpdateLastMsg=true")), "200", "200"},

		{"jiguang: body", withBasic(sample(Jiguang), post("/v1/retract/v:1t:1795168800p:1n:1", "application/json", "{}")), "4004", "0"},
		{"jiguang: query", withBasic(sample(Jiguang), post("/v1/retract/v:1t:1795168800p:1n:2?a=b", "", "")), "4004", "0"},
		{"engagelab: query", withBasic(sample(EngageLab), httptest.NewRequest(http.MethodDelete, "/v4/push/withdraw/5?a=b", nil)), "21015", ""},
	} {
		body, err := io.ReadAll(tc.r.Body)
		if err != nil {
			t.Fatal(err)
		}
		for lenient, want := range map[bool]string{false: tc.want, true: tc.lenient} {
			sim, err := New(Options{Now: func() time.Time { return base }, KnowAll: true, Lenient: lenient})
			if err != nil {
				t.Fatal(err)
			}
			tc.r.Body = io.NopCloser(bytes.NewReader(body))
			serve(sim, tc.r)
			if got := last(sim); got != want {
				t.Errorf("%s (lenient %v): code %q, want %q", tc.name, lenient, got, want)
			}
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{Now: func() time.Time { return base }, KnowAll: true})
	if err != nil {
		t.Fatal(err)
	}
	a := sample(Jiguang)
	for _, tc := range []struct {
		path     string
		status   int
		provider string
		id       string
	}{
		{"/v1/retract/a%2Fb%3Fc", 200, Jiguang, "a/b?c"},
		{"/v1/retract/", 404, "", ""},
		{"/v1/retract", 404, "", ""},
		{"/v1/retract/a/b", 404, "", ""},
		{"/v1/retract/a/", 404, "", ""},
		{"/", 404, "", ""},
		{"/v4/push/withdraw", 404, "", ""},
		{"/v4/openim/sendmsg", 200, "", ""}, // Tencent's gateway: 60009
		{"/message/recall.json", 404, "", ""},
	} {
		g := serve(sim, withBasic(a, httptest.NewRequest(http.MethodPost, tc.path, nil)))
		c := latest(sim)
		if g.status != tc.status || c.Provider != tc.provider || c.MessageID != tc.id {
			t.Errorf("%s: %d %q, ledger %+v", tc.path, g.status, g.body, c)
		}
		if tc.provider == "" && c.Path != "POST "+tc.path {
			t.Errorf("%s: the ledger has the path %q", tc.path, c.Path)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		opt  Options
		want string
	}{
		{Options{ClockSpeed: -1}, "clock speed"},
		{Options{Mix: []Share{{Percent: 1}}}, "know-all"},
		{Options{KnowAll: true, Mix: []Share{{Percent: 101}}}, "not between"},
		{Options{KnowAll: true, Mix: []Share{{Percent: 60}, {Percent: 50}}}, "add up"},
		{Options{Limits: map[string][]Limit{"nobody": nil}}, `"nobody"`},
		{Options{Limits: map[string][]Limit{Jiguang: {{Calls: 0, Per: time.Second}}}}, "at least 1"},
		{Options{Limits: map[string][]Limit{Jiguang: {{Calls: 1}}}}, "calendar day"},
		{Options{Accounts: []Account{{Provider: "nobody"}}}, `"nobody"`},
		{Options{Accounts: []Account{{Provider: Jiguang, Account: "a"}}}, "secret is missing"},
		{Options{Accounts: []Account{{Provider: TIMPush, Account: "abc", Secret: "s"}}}, "SDKAppID"},
		{Options{Accounts: []Account{{Provider: Jiguang, Account: "a:b", Secret: "s"}}}, "colon"},
	} {
		if _, err := New(tc.opt); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want an error with %q", tc.opt, err, tc.want)
		}
	}
	sim, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Know(Message{Provider: Jiguang, ID: "a"}, Message{Provider: "nobody", ID: "b"}); err == nil {
		t.Error("a message of nobody was announced")
	}
	if n := sim.Stats().Messages; n != 0 {
		t.Errorf("%d messages were announced although one of them was wrong", n)
	}
}

// TestMixIsTheSameEachTime runs 10,000 recalls of unannounced ids twice.
func TestMixIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	mix, err := ParseMix("2% unknown, 1% already, 0.5% expired, 3% internal*2, 0.5% HTTP 503")
	if err != nil {
		t.Fatal(err)
	}
	run := func() map[string]int {
		sim, err := New(Options{Now: func() time.Time { return base }, NoLimits: true, KnowAll: true, Mix: mix})
		if err != nil {
			t.Fatal(err)
		}
		ends := map[string]int{}
		for i := range 10_000 {
			id := fmt.Sprintf("v:1t:1795168800p:%dn:1", i)
			trail := ""
			for {
				g := serve(sim, good(Jiguang, id, base))
				trail += " " + codeIn(g.body)
				if g.status < 500 {
					break
				}
			}
			ends[trail]++
		}
		return ends
	}
	first, second := run(), run()
	t.Log(first)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("two runs differ:\n%v\n%v", first, second)
	}
	for trail, want := range map[string]int{" 4004": 250, " 1015055": 100, " 5000 5000 0": 300, " page 0": 50, " 0": 9300} {
		if n := first[trail]; n < want*7/10 || n > want*13/10 {
			t.Errorf("%d of 10,000 ended as%s, want about %d", n, trail, want)
		}
	}
}

func codeIn(body string) string {
	_, rest, ok := strings.Cut(body, `"code":`)
	if !ok {
		return "page"
	}
	code, _, _ := strings.Cut(rest, ",")
	return code
}

func TestParseMix(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"unknown", "x% unknown", "1% nonsense", "1% internal*0", "1% internal*x", "0% unknown", "1%", "60% unknown, 60% already", "1% HTTP 99"} {
		if list, err := ParseMix(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, list)
		}
	}
	list, err := ParseMix("1%lost, 2%=91000*3, 1.5% hang, 1% 200ms")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(list); got != "[{1  [reset_after, recall]} {2  [code 91000 code 91000 code 91000]} {1.5  [hang]} {1  [latency 200ms]}]" {
		t.Error(got)
	}
}

// TestConcurrency is for the race detector: everything at once. Each message is recalled once, whoever comes first.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{Now: func() time.Time { return base }, NoLimits: true, KnowAll: true, OnCall: func(Call) {}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				serve(sim, good(Jiguang, fmt.Sprintf("v:1t:1795168800p:%dn:1", i), base))
				serve(sim, good(TIMChat, fmt.Sprintf("%d_1_1", i), base))
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 50 {
				_ = sim.Know(Message{Provider: EngageLab, ID: fmt.Sprint(i)})
				id, _ := sim.Fault(Fault{Provider: RongCloud, Behaviour: Behaviour{Code: "1000"}})
				_ = sim.Ledger()
				_ = sim.Stats()
				sim.Advance(time.Millisecond)
				_ = sim.SetAccount(sample(RongCloud))
				sim.RemoveFault(id)
			}
		})
	}
	wg.Wait()
	recalled := map[string]int{}
	for c := range sim.Calls() {
		if c.Recalled {
			recalled[c.Provider+c.MessageID]++
		}
		if c.Open {
			t.Fatalf("call %d is still open", c.Seq)
		}
	}
	if len(recalled) != 200 {
		t.Errorf("%d messages recalled, want 200", len(recalled))
	}
	for id, n := range recalled {
		if n != 1 {
			t.Errorf("%s was recalled %d times", id, n)
		}
	}
	if n := len(sim.Ledger()); n != 1600 {
		t.Errorf("%d calls in the ledger, want 1600", n)
	}
}
