package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestLedgerMemory holds the ledger to 128 bytes a call, as much as a million calls may well take.
func TestLedgerMemory(t *testing.T) {
	const calls = 200_000
	b := newBook()
	before := heap()
	for i := range calls {
		c := Call{
			Time: base, Clock: base, Provider: TIMChat, Account: "1400000000", MessageID: fmt.Sprintf("%d_83350212_1572869830", i),
			From: "admin", To: fmt.Sprintf("user-%08d", i),
		}
		n := b.open(c)
		c.Status, c.Code = 200, "0"
		b.put(n, c)
	}
	each := float64(heap()-before) / calls
	t.Logf("%.0f bytes a call", each)
	if each > 128 {
		t.Errorf("%.0f bytes a call, want at most 128", each)
	}
	if got := b.call(123_456); got.MessageID != "123456_83350212_1572869830" || got.From != "admin" || got.To != "user-00123456" || got.Code != "0" {
		t.Errorf("%+v", got)
	}
	runtime.KeepAlive(b)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestLedgerBounds shows that a caller who makes up names does not make the ledger run out of numbers.
func TestLedgerBounds(t *testing.T) {
	t.Parallel()
	b := newBook()
	for i := range mostWords + 10 {
		c := Call{Account: fmt.Sprint("account ", i), MessageID: strings.Repeat("x", 100_000*(i%2)), Details: Details{Extra: fmt.Sprint(i)}}
		b.put(b.open(c), c)
	}
	got := b.call(mostWords + 9)
	if got.Account != "(too many to keep)" || len(got.MessageID) > 600 || got.Extra != fmt.Sprint(mostWords+9) {
		t.Errorf("%+v", got)
	}
	if got := b.call(5); got.Account != "account 5" {
		t.Errorf("%+v", got)
	}
}

func TestResetWhileACallIsOpen(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := sim.arrive(Jiguang)
	sim.ResetLedger()
	sim.settle(c)
	if n := len(sim.Ledger()); n != 0 {
		t.Errorf("%d calls, want none", n)
	}
}

// TestDetails shows what is written down of a request.
func TestDetails(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	told := make(chan Call, 9)
	sim, err := New(Options{Now: clock.Now, ClockOffset: time.Hour, KnowAll: true, OnCall: func(c Call) { told <- c }})
	if err != nil {
		t.Fatal(err)
	}
	serve(sim, post("/v4/timpush/revoke?"+tencentQuery(sample(TIMPush), base).Encode(), "application/json",
		`{"TaskId":"6b001a20_1","OfflinePushInfo":{"Title":"t","Desc":"d"}}`))
	r := post("/message/broadcast/recall.json", "application/x-www-form-urlencoded",
		"fromUserId=vinson&messageUID=BC52-ESJ0-022O-001H&sentTime=1564049525120&isAdmin=1&isDelete=0&disableUpdateLastMsg=true&extra=x+y")
	r.Header.Set("App-Key", sample(RongCloud).Account)
	r.Header.Set("Timestamp", "1795168800000")
	r.Header.Set("X-Request-ID", "rongcloud_0123456789")
	sign(r, "1")
	serve(sim, r)
	want := []Call{
		{Seq: 1, Provider: TIMPush, Account: "1400000000", MessageID: "6b001a20_1", Status: 200, Code: "0", Recalled: true,
			Details: Details{Title: "t", Desc: "d", HasOfflinePush: true}},
		{Seq: 2, Provider: RongCloud, Account: "uwd1c0sxdlx2", MessageID: "BC52-ESJ0-022O-001H", From: "vinson", Status: 200, Code: "200", Recalled: true,
			Details: Details{SentTime: "1564049525120", IsAdmin: "1", IsDelete: "0", DisableUpdateLastMsg: "true", Extra: "x y", RequestID: "rongcloud_0123456789"}},
	}
	for i, got := range sim.Ledger() {
		heard := <-told
		heard.Took, heard.Time = got.Took, got.Time
		if got != heard {
			t.Errorf("ledger:\n%+v\ntold:\n%+v", got, heard)
		}
		if age := time.Since(got.Time); age < 0 || age > time.Minute || !got.Clock.Equal(base.Add(time.Hour)) {
			t.Errorf("arrived at %s, by the vendors' clock at %s", got.Time, got.Clock)
		}
		got.Time, got.Clock, got.Took = time.Time{}, time.Time{}, 0
		if got != want[i] {
			t.Errorf("ledger:\n%+v\nwant:\n%+v", got, want[i])
		}
	}
	if n := len(sim.CallsFor(TIMPush, "6b001a20_1")); n != 1 {
		t.Errorf("%d calls for the TIMPush message, want 1", n)
	}
}

// ask calls the control API.
func ask(t *testing.T, srv *Server, method, path, body string) got {
	t.Helper()
	r, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	g, err := do(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestControl drives a simulator as another process does.
func TestControl(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, srv := start(t, Options{Now: clock.Now})
	want := func(g got, status int, body string) {
		t.Helper()
		if g.status != status || !strings.Contains(g.body, body) {
			t.Errorf("%d %s, want %d and %q", g.status, g.body, status, body)
		}
		for _, a := range SampleAccounts() {
			if strings.Contains(g.body, a.Secret) {
				t.Errorf("a secret is in %s", g.body)
			}
		}
	}
	want(ask(t, srv, "GET", "/_sim/healthz", ""), 200, "ok\n")
	want(ask(t, srv, "POST", "/_sim/messages", `{"provider":"jiguang","id":"a","script":["internal",{"code":"1015030","latency":"1ms"},"lost"]}

{"provider":"timpush","id":"b","sent_at":"2026-11-19T00:00:00Z"}
{"provider":"timchat","id":"1_2_3","from":"vinson","to":"dramon","recalled":true}
`), 200, `{"messages":3}`)
	want(ask(t, srv, "POST", "/_sim/faults", `{"provider":"timchat","id":"1_2_3","times":1,"status":429,"retry_after":"3","latency":"1ms"}`), 200, `{"fault":1}`)
	want(ask(t, srv, "POST", "/_sim/faults", `{"provider":"engagelab","mode":"drip","interval":"1ms"}`), 200, `{"fault":2}`)
	want(ask(t, srv, "GET", "/_sim/faults", ""), 200,
		`[{"fault":1,"provider":"timchat","id":"1_2_3","times":1,"status":429,"retry_after":"3","latency":"1ms"},{"fault":2,"provider":"engagelab","mode":"drip","interval":"1ms"}]`)
	for _, step := range []struct{ provider, id, code string }{
		{Jiguang, "a", "5000"}, {Jiguang, "a", "1015030"}, {Jiguang, "a", ""}, {Jiguang, "a", "1015055"},
		{TIMPush, "b", "90052"}, {TIMPush, "b", "90051"}, {TIMChat, "1_2_3", ""}, {TIMChat, "1_2_3", "20023"}, {EngageLab, "9", "21003"},
	} {
		_, err := do(t, toServer(srv, good(step.provider, step.id, base)))
		eventually(t, "the call is answered", func() bool { list := sim.Ledger(); return !list[len(list)-1].Open })
		if got := last(sim); got != step.code {
			t.Errorf("%s %s: code %q (%v), want %q", step.provider, step.id, got, err, step.code)
		}
	}
	want(ask(t, srv, "DELETE", "/_sim/faults?fault=2", ""), 204, "")
	want(ask(t, srv, "DELETE", "/_sim/faults?fault=2", ""), 404, "used up")
	want(ask(t, srv, "DELETE", "/_sim/faults", ""), 204, "")

	g := ask(t, srv, "GET", "/_sim/ledger", "")
	want(g, 200, `"provider":"timpush","account":"1400000000","id":"b","status":200,"code":"90051","recalled":false,"violation":"1 per 1s"}`)
	lines := json.NewDecoder(strings.NewReader(g.body))
	for _, c := range sim.Ledger() {
		var got Call
		if err := lines.Decode(&got); err != nil {
			t.Fatal(err)
		}
		c.Time, c.Took = c.Time.Truncate(time.Microsecond), c.Took.Truncate(time.Millisecond)
		if got != c {
			t.Errorf("ledger over HTTP:\n%+v\nwant:\n%+v", got, c)
		}
	}
	if err := lines.Decode(new(Call)); err != io.EOF {
		t.Errorf("after the last call: %v", err)
	}
	for query, n := range map[string]int{"?provider=jiguang": 4, "?id=b&provider=timpush": 2, "?violations=1": 1, "?account=nobody": 0} {
		if g := ask(t, srv, "GET", "/_sim/ledger"+query, ""); strings.Count(g.body, "\n") != n {
			t.Errorf("%s: %d calls, want %d", query, strings.Count(g.body, "\n"), n)
		}
	}
	want(ask(t, srv, "GET", "/_sim/ledger?privider=x", ""), 400, "privider")

	g = ask(t, srv, "GET", "/_sim/stats", "")
	want(g, 200, `"jiguang":{"calls":4,"recalled":1,"violations":0,"faults":3,"open":0,"codes":{"1015030":1,"1015055":1,"5000":1,"no answer":1}}`)
	want(g, 200, `"timchat":{"calls":2,"recalled":0,"violations":0,"faults":1,"open":0,"codes":{"20023":1,"HTTP 429":1}}`)
	want(g, 200, `"accounts":[{"provider":"engagelab","account":"c96f42e0d2e662e45d035ab1"},`)

	want(ask(t, srv, "POST", "/_sim/clock", `{"advance":"25h"}`), 200, `{"clock":"2026-11-21T11:00:00Z"}`)
	want(ask(t, srv, "POST", "/_sim/accounts", `{"provider":"jiguang","account":"7d431e42dfa6a6d693ac2d04","secret":"another"}`), 204, "")
	want(ask(t, srv, "POST", "/_sim/reset", ""), 204, "")
	if st := sim.Stats(); len(st.Providers) != 0 || st.Messages != 0 || st.Faults != 0 || st.Recalled != 0 {
		t.Errorf("after a reset: %+v", st)
	}
	if g, err := do(t, toServer(srv, good(Jiguang, "a", base))); err != nil || g.status != 401 {
		t.Errorf("with the old secret: %+v, %v", g, err)
	}
	want(ask(t, srv, "DELETE", "/_sim/ledger", ""), 204, "")
	want(ask(t, srv, "GET", "/_sim/ledger", ""), 200, "")
	if n := len(sim.Ledger()); n != 0 {
		t.Errorf("%d calls after the ledger was deleted", n)
	}
}

func TestControlRefuses(t *testing.T) {
	t.Parallel()
	_, srv := start(t, Options{})
	for _, tc := range []struct{ path, body, want string }{
		{"messages", "{\"provider\":\"jiguang\",\"id\":\"a\"}\n{\"provider\":\"jiguang\"}\n", "line 2: id of a message of jiguang: is empty; messages known before it: 1"},
		{"messages", `{"provider":"jiguang","ID":"a","x":1}`, `"x"`},
		{"messages", `{"provider":"jiguang","id":"a","script":["nonsense"]}`, `"nonsense"`},
		{"faults", `{"mode":"explode"}`, `"explode"`},
		{"faults", `{"modes":"hang"}`, `"modes"`},
		{"faults", `{"latency":5}`, "durations as text"},
		{"faults", `{"latency":"5"}`, `duration "5"`},
		{"faults", `{} {}`, "more than one"},
		{"clock", `{"advance":"-1h"}`, "backwards"},
		{"clock", `{"advance":"soon"}`, `"soon"`},
		{"accounts", `{"provider":"nobody","account":"a","secret":"hush"}`, `"nobody"`},
	} {
		g := ask(t, srv, "POST", "/_sim/"+tc.path, tc.body)
		if g.status != http.StatusBadRequest || !strings.Contains(g.body, tc.want) || strings.Contains(g.body, "hush") {
			t.Errorf("%s %s: %d %s, want 400 and %q", tc.path, tc.body, g.status, g.body, tc.want)
		}
	}
	if g := ask(t, srv, "GET", "/_sim/reset", ""); g.status != http.StatusMethodNotAllowed {
		t.Errorf("GET reset: %d", g.status)
	}
	if g := ask(t, srv, "GET", "/_sim/nothing", ""); g.status != http.StatusNotFound {
		t.Errorf("unknown path: %d", g.status)
	}
}

// TestControlIsForLoopback shows that the control API is not for other machines unless that was asked for.
func TestControlIsForLoopback(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		remote string
		open   bool
		want   int
	}{
		{"127.0.0.1:1234", false, 200}, {"[::1]:1234", false, 200}, {"[::ffff:127.0.0.1]:1", false, 200},
		{"192.0.2.1:1234", false, 403}, {"192.0.2.1:1234", true, 200}, {"", false, 403},
	} {
		sim, err := New(Options{RemoteControl: tc.open})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/_sim/healthz", nil)
		r.RemoteAddr = tc.remote
		if g := serve(sim, r); g.status != tc.want {
			t.Errorf("%q (remote control %v): %d, want %d", tc.remote, tc.open, g.status, tc.want)
		}
	}
}

// TestLedgerStreams shows that a ledger of many calls is written while it is read.
func TestLedgerStreams(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{NoLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	const calls = 3*chunkSize + 7
	for i := range calls {
		c := sim.arrive(EngageLab)
		c.MessageID = fmt.Sprint(i)
		sim.settle(c)
	}
	r := httptest.NewRequest(http.MethodGet, "/_sim/ledger", nil)
	r.RemoteAddr = "127.0.0.1:1"
	g := serve(sim, r)
	n := 0
	for line := range bytes.Lines([]byte(g.body)) {
		var c Call
		if err := json.Unmarshal(line, &c); err != nil || c.MessageID != fmt.Sprint(n) || c.Seq != n+1 {
			t.Fatalf("line %d: %s %v", n+1, line, err)
		}
		n++
	}
	if n != calls {
		t.Errorf("%d lines, want %d", n, calls)
	}
}
