package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// hurt serves a simulator that has one fault for Jiguang, and makes one call.
func hurt(t *testing.T, b Behaviour) (got, *Simulator, error) {
	t.Helper()
	sim, srv := start(t, Options{KnowAll: true})
	if _, err := sim.Fault(Fault{Provider: Jiguang, Times: 1, Behaviour: b}); err != nil {
		t.Fatal(err)
	}
	g, err := do(t, toServer(srv, good(Jiguang, fresh(), time.Now())))
	return g, sim, err
}

// fresh is an id of a message that was sent a moment ago.
func fresh() string { return strings.Replace(ids[Jiguang], "1795168800", unix(time.Now()), 1) }

// settled waits until the only call is answered, and returns it.
func settled(t *testing.T, sim *Simulator) Call {
	t.Helper()
	var c Call
	eventually(t, "the call is answered", func() bool {
		list := sim.Ledger()
		if len(list) != 1 {
			t.Fatalf("%d calls in the ledger, want 1", len(list))
		}
		c = list[0]
		return !c.Open
	})
	return c
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestAnswersOnRequest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		b      Behaviour
		status int
		body   string // exact, or what it starts with if it ends in …
		header map[string]string
		fault  string // in the ledger
		code   string
	}{
		{"code", Behaviour{Code: "1015030"}, 400, `{ "code":1015030, "message":"API请求超过频率限制，请稍后再试" }`, nil, "code 1015030", "1015030"},
		{"code and text", Behaviour{Code: "99", Message: "no \"such\" <thing>"}, 400, `{ "code":99, "message":"no \"such\" <thing>" }`, nil, "code 99", "99"},
		{"code and status", Behaviour{Code: "5000", Status: 503}, 503, `{ "code":5000, "message":"服务端错误" }`, nil, "code 5000", "5000"},
		{"word", Behaviour{Code: "credentials"}, 401, `{ "code":4005, …`, nil, "code credentials", "4005"},
		{"status", Behaviour{Status: 503}, 503, "Service Unavailable\n", map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "HTTP 503", ""},
		{"status and Retry-After", Behaviour{Status: 429, RetryAfter: "7"}, 429, "Too Many Requests\n", map[string]string{"Retry-After": "7"}, "HTTP 429, retry-after", ""},
		{"Retry-After on the usual answer", Behaviour{RetryAfter: "Fri, 20 Nov 2026 10:00:00 GMT"}, 200, `{ "code":0, "message":"success" }`,
			map[string]string{"Retry-After": "Fri, 20 Nov 2026 10:00:00 GMT"}, "retry-after", "0"},
		{"body", Behaviour{Body: `{"a":1}`, Status: 502, ContentType: "application/problem+json"}, 502, `{"a":1}`, map[string]string{"Content-Type": "application/problem+json"}, "HTTP 502", ""},
		{"body alone", Behaviour{Body: `{}`}, 200, `{}`, map[string]string{"Content-Type": "application/json"}, "body", ""},
		{"page", Behaviour{Mode: HTML}, 200, "<!DOCTYPE html>…", map[string]string{"Content-Type": "text/html; charset=utf-8"}, "html", ""},
		{"page with status", Behaviour{Mode: HTML, Status: 502}, 502, "<!DOCTYPE html>…", nil, "html", ""},
		{"redirect", Behaviour{Mode: Redirect}, 302, "", map[string]string{"Location": "/_sim/redirected"}, "redirect", ""},
		{"redirect elsewhere", Behaviour{Mode: Redirect, Status: 307, Location: "http://127.0.0.1:1/x"}, 307, "", map[string]string{"Location": "http://127.0.0.1:1/x"}, "redirect", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, sim, err := hurt(t, tc.b)
			if err != nil {
				t.Fatal(err)
			}
			start, cut := strings.CutSuffix(tc.body, "…")
			if g.status != tc.status || !cut && g.body != tc.body || cut && !strings.HasPrefix(g.body, start) {
				t.Errorf("%d %q, want %d %q", g.status, g.body, tc.status, tc.body)
			}
			for name, want := range tc.header {
				if got := g.header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			c := settled(t, sim)
			if c.Fault != tc.fault || c.Code != tc.code || c.Status != tc.status || c.Recalled != (tc.code == "0") {
				t.Errorf("ledger: %+v", c)
			}
		})
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	g, _, err := hurt(t, Behaviour{Mode: Garbage})
	if err != nil || g.status != 200 || json.Valid([]byte(g.body)) || utf8.ValidString(g.body) || g.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v, %d %q", err, g.status, g.body)
	}
}

func TestHuge(t *testing.T) {
	t.Parallel()
	for _, provider := range names {
		sim, srv := start(t, Options{KnowAll: true})
		if _, err := sim.Fault(Fault{Behaviour: Behaviour{Mode: Huge}}); err != nil {
			t.Fatal(err)
		}
		g, err := do(t, toServer(srv, good(provider, ids[provider], time.Now())))
		if err != nil {
			t.Fatal(err)
		}
		// It is a success of the vendor's to who reads it all.
		if len(g.body) < 10<<20 || !json.Valid([]byte(g.body)) || !strings.Contains(g.body[10<<20:], `"`) || g.status != 200 {
			t.Errorf("%s: %d bytes, status %d, valid %v", provider, len(g.body), g.status, json.Valid([]byte(g.body)))
		}
	}
}

func TestResets(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		b        Behaviour
		recalled bool
	}{
		{Behaviour{Mode: ResetBefore}, false},
		{Behaviour{Mode: ResetAfter}, false},
		{Behaviour{Mode: ResetAfter, Recall: true}, true},
	} {
		g, sim, err := hurt(t, tc.b)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, %v, want a reset", tc.b, g, err)
		}
		c := settled(t, sim)
		if c.Recalled != tc.recalled || c.Status != 0 || c.Code != "" || c.MessageID == "" || c.Fault != tc.b.String() {
			t.Errorf("%s: ledger %+v", tc.b, c)
		}
	}
}

// TestLostAnswer is the whole story: carried out, the answer is lost, and the second call is told that it was done before.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for provider, want := range map[string]string{Jiguang: "1015055", EngageLab: "21003", TIMPush: "90050", TIMChat: "20023", RongCloud: "200"} {
		sim, srv := start(t, Options{Limits: map[string][]Limit{TIMPush: nil}})
		if err := sim.Know(Message{Provider: provider, ID: ids[provider], SentAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if _, err := sim.Fault(Fault{MessageID: ids[provider], Times: 1, Behaviour: Behaviour{Mode: ResetAfter, Recall: true}}); err != nil {
			t.Fatal(err)
		}
		if g, err := do(t, toServer(srv, good(provider, ids[provider], time.Now()))); err == nil {
			t.Errorf("%s: answered %+v", provider, g)
		}
		if _, err := do(t, toServer(srv, good(provider, ids[provider], time.Now()))); err != nil {
			t.Error(err)
		}
		if got := last(sim); got != want {
			t.Errorf("%s: the second call's code is %s, want %s", provider, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	g, sim, err := hurt(t, Behaviour{Mode: Cut})
	if !errors.Is(err, io.ErrUnexpectedEOF) || g.body != `{ "code":0, "mes` {
		t.Errorf("%q, %v", g.body, err)
	}
	if c := settled(t, sim); c.Recalled || c.Status != 200 {
		t.Errorf("ledger: %+v", c)
	}
	_, sim, _ = hurt(t, Behaviour{Mode: Cut, Recall: true})
	if c := settled(t, sim); !c.Recalled {
		t.Errorf("ledger: %+v", c)
	}
}

func TestDripAndLatency(t *testing.T) {
	t.Parallel()
	for _, b := range []Behaviour{{Mode: Drip, Interval: 2 * time.Millisecond}, {Latency: 60 * time.Millisecond}} {
		began := time.Now()
		g, sim, err := hurt(t, b)
		if err != nil || g.body != `{ "code":0, "message":"success" }` {
			t.Errorf("%s: %q, %v", b, g.body, err)
		}
		if took := time.Since(began); took < 60*time.Millisecond {
			t.Errorf("%s: took %s only", b, took)
		}
		if c := settled(t, sim); !c.Recalled || c.Took < 60*time.Millisecond {
			t.Errorf("%s: ledger %+v", b, c)
		}
	}
}

// TestHang shows that a call that hangs is in the ledger meanwhile, that it ends when its caller gives up, and that the
// recall is carried out if that was asked for.
func TestHang(t *testing.T) {
	t.Parallel()
	for _, carriedOut := range []bool{false, true} {
		sim, srv := start(t, Options{KnowAll: true})
		if _, err := sim.Fault(Fault{Account: sample(Jiguang).Account, Behaviour: Behaviour{Mode: Hang, Recall: carriedOut}}); err != nil {
			t.Fatal(err)
		}
		id := fresh()
		ctx, giveUp := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		c := client(t)
		go func() {
			_, err := c.Do(toServer(srv, good(Jiguang, id, time.Now())).WithContext(ctx))
			ended <- err
		}()
		eventually(t, "the call hangs", func() bool {
			list := sim.Ledger()
			return len(list) == 1 && list[0].Open && list[0].MessageID == id && list[0].Recalled == carriedOut && list[0].Fault != ""
		})
		if n := sim.Stats().Providers[Jiguang].Open; n != 1 {
			t.Errorf("%d calls open in the sums, want 1", n)
		}
		giveUp()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if c := settled(t, sim); c.Status != 0 || c.Recalled != carriedOut {
			t.Errorf("ledger: %+v", c)
		}
	}
}

// TestCloseLetsGo shows that nothing hangs on after Close, and that the caller sees a broken connection.
func TestCloseLetsGo(t *testing.T) {
	t.Parallel()
	sim, srv := start(t, Options{KnowAll: true})
	if _, err := sim.Fault(Fault{Behaviour: Behaviour{Mode: Hang}}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	c := client(t)
	go func() {
		_, err := c.Do(toServer(srv, good(Jiguang, fresh(), time.Now())))
		ended <- err
	}()
	eventually(t, "the call hangs", func() bool { return len(sim.Ledger()) == 1 && sim.Ledger()[0].MessageID != "" })
	sim.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestWhichCallsAFaultIsFor(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{KnowAll: true, NoLimits: true, Now: func() time.Time { return base }})
	if err != nil {
		t.Fatal(err)
	}
	add := func(f Fault) int {
		id, err := sim.Fault(f)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	codes := func(want ...string) {
		t.Helper()
		for i, provider := range names {
			serve(sim, good(provider, ids[provider], base))
			if got := last(sim); got != want[i] {
				t.Errorf("%s: code %q, want %q", provider, got, want[i])
			}
		}
	}
	codes("0", "", "0", "0", "200")
	id := add(Fault{Behaviour: Behaviour{Code: "internal"}})
	codes("5000", "27000", "91000", "91000", "1000")
	if !sim.RemoveFault(id) || sim.RemoveFault(id) {
		t.Error("a fault must be there to be removed once")
	}
	codes("1015055", "21003", "90050", "20023", "200")
	add(Fault{Provider: Tencent, Times: 3, Behaviour: Behaviour{Code: "60011"}})
	add(Fault{Account: sample(EngageLab).Account, Behaviour: Behaviour{Code: "23009"}})
	add(Fault{MessageID: ids[RongCloud], Times: 1, Behaviour: Behaviour{Code: "1050"}})
	codes("1015055", "23009", "60011", "60011", "1050")
	codes("1015055", "23009", "60011", "20023", "200")
	sim.ClearFaults()
	codes("1015055", "21003", "90050", "20023", "200")
	add(Fault{Behaviour: Behaviour{Code: "expired"}}) // two of the vendors have no such answer
	codes("4004", "21003", "90052", "20023", "200")
}

// TestFaultWithWrongCredentials shows that a fault comes before the look at the credentials, since proxies do, and a lost
// recall does not: with wrong credentials nothing is carried out.
func TestFaultWithWrongCredentials(t *testing.T) {
	t.Parallel()
	wrong := sample(TIMChat)
	wrong.Secret = "wrong"
	for _, tc := range []struct {
		b    Behaviour
		want string
	}{{Behaviour{Code: "91000"}, "91000"}, {Behaviour{Code: "91000", Recall: true}, "91000"}, {Behaviour{Latency: 1}, "70005"}} {
		sim, err := New(Options{KnowAll: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sim.Fault(Fault{Behaviour: tc.b}); err != nil {
			t.Fatal(err)
		}
		serve(sim, as(wrong, TIMChat, ids[TIMChat], time.Now()))
		if c := sim.Ledger()[0]; c.Recalled || c.Code != tc.want {
			t.Errorf("%s: ledger %+v", tc.b, c)
		}
	}
}

// TestLimitBeforeFault shows that a call beyond a limit uses up no fault: the limit is at the door.
func TestLimitBeforeFault(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, err := New(Options{KnowAll: true, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Fault(Fault{Times: 2, Behaviour: Behaviour{Code: "91000"}}); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		wait time.Duration
		want string
	}{{0, "91000"}, {0, "90051"}, {time.Second, "91000"}, {time.Second, "0"}} {
		clock.Add(step.wait)
		serve(sim, good(TIMPush, ids[TIMPush], clock.Now()))
		if got := last(sim); got != step.want {
			t.Errorf("call %d: code %s, want %s", i+1, got, step.want)
		}
	}
}

func TestBadFaults(t *testing.T) {
	t.Parallel()
	sim, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		f    Fault
		want string
	}{
		{Fault{}, "nothing that is to go wrong"},
		{Fault{Provider: "nobody", Behaviour: Behaviour{Status: 500}}, `"nobody"`},
		{Fault{Times: -1, Behaviour: Behaviour{Status: 500}}, "times"},
		{Fault{Behaviour: Behaviour{Code: "E1"}}, `"E1"`},
		{Fault{Behaviour: Behaviour{Code: "1", Body: "x"}}, "one of them"},
		{Fault{Behaviour: Behaviour{Status: 99}}, "99"},
		{Fault{Behaviour: Behaviour{Mode: "explode"}}, `"explode"`},
		{Fault{Behaviour: Behaviour{Mode: Drip, Interval: -1}}, "negative"},
		{Fault{Behaviour: Behaviour{Mode: ResetBefore, Recall: true}}, "reset_after"},
		{Fault{Provider: RongCloud, Behaviour: Behaviour{Code: "already"}}, "documents no such answer"},
	} {
		if _, err := sim.Fault(tc.f); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want an error with %q", tc.f, err, tc.want)
		}
	}
}

// TestRefused shows a vendor that is away for a while.
func TestRefused(t *testing.T) {
	t.Parallel()
	sim, srv := start(t, Options{KnowAll: true})
	call := func() error {
		_, err := do(t, toServer(srv, good(Jiguang, fresh(), time.Now())))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	srv.Close()
	if err := call(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
	if err := srv.Open(); err != nil {
		t.Fatal(err)
	}
	if err := srv.Open(); err != nil {
		t.Fatal(err)
	}
	if err := call(); err != nil {
		t.Error(err)
	}
	if n := len(sim.Ledger()); n != 2 {
		t.Errorf("%d calls in the ledger, want 2", n)
	}
}

// TestFollowedRedirect shows that a client which follows a redirect is found out.
func TestFollowedRedirect(t *testing.T) {
	t.Parallel()
	sim, srv := start(t, Options{KnowAll: true})
	if _, err := sim.Fault(Fault{Behaviour: Behaviour{Mode: Redirect}}); err != nil {
		t.Fatal(err)
	}
	c := client(t)
	c.CheckRedirect = nil
	a, err := c.Do(toServer(srv, good(Jiguang, fresh(), time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if n := sim.Stats().FollowedRedirects; n != 1 || a.StatusCode != http.StatusTeapot {
		t.Errorf("%d redirects followed, status %d", n, a.StatusCode)
	}
}
