package simulator

import (
	"slices"
	"testing"
	"time"
)

// arrivals plays calls at given times and returns the codes that they were answered with.
func arrivals(t *testing.T, opt Options, provider string, waits ...time.Duration) []string {
	t.Helper()
	clock := newHandClock()
	opt.Now, opt.KnowAll = clock.Now, true
	sim, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, wait := range waits {
		clock.Add(wait)
		serve(sim, good(provider, ids[provider], clock.Now()))
		c := latest(sim)
		if (c.Violation != "") != (c.Code == tooMany[provider]) {
			t.Errorf("code %s has the violation %q", c.Code, c.Violation)
		}
		codes = append(codes, c.Code)
	}
	return codes
}

func TestRealLimits(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tc := range []struct {
		name, provider string
		waits          []time.Duration
		want           []string
	}{
		{"timpush, 1 a second", TIMPush, []time.Duration{0, 999 * ms, ms, time.Second}, []string{"0", "90051", "90051", "90050"}},
		{"timpush, in time", TIMPush, []time.Duration{0, time.Second, time.Second}, []string{"0", "90050", "90050"}},
		{"rongcloud, 2 an hour", RongCloud,
			[]time.Duration{0, 30 * time.Minute, 29 * time.Minute, 61 * time.Minute}, []string{"200", "200", "1008", "1008"}},
		// 18:00, 18:30, 19:30 in Shanghai; the fourth of the day at 21:00; the first of the next at 00:00.
		{"rongcloud, 3 a day", RongCloud,
			[]time.Duration{0, 30 * time.Minute, time.Hour, 90 * time.Minute, 3*time.Hour - ms, ms},
			[]string{"200", "200", "200", "1008", "1008", "200"}},
	} {
		if got := arrivals(t, Options{}, tc.provider, tc.waits...); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestRollingHourAndDay shows that the day starts at midnight in Shanghai, and that refused calls count.
func TestRollingHourAndDay(t *testing.T) {
	t.Parallel()
	got := arrivals(t, Options{}, RongCloud, 0, time.Second, time.Second, time.Hour-time.Second)
	// The third is refused and counts, so that an hour after the first there are two more in the hour before.
	if want := []string{"200", "200", "1008", "1008"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestEngageLabLimit(t *testing.T) {
	t.Parallel()
	waits := make([]time.Duration, 501)
	got := arrivals(t, Options{}, EngageLab, append(waits, time.Second)...)
	if got[499] == "23008" || got[500] != "23008" || got[501] == "23008" {
		t.Errorf("calls 500, 501 and one a second later: %v", got[499:])
	}
	clock := newHandClock()
	sim, err := New(Options{Now: clock.Now, Limits: map[string][]Limit{EngageLab: {{Calls: 1, Per: time.Second}}}})
	if err != nil {
		t.Fatal(err)
	}
	serve(sim, good(EngageLab, "1", base))
	if g := serve(sim, good(EngageLab, "1", base)); g.status != 400 {
		t.Errorf("23008 has status %d, want 400", g.status)
	}
}

// TestTencentAppLimit shows that 60011 is about both APIs of an SDKAppID.
func TestTencentAppLimit(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, err := New(Options{Now: clock.Now, KnowAll: true, Limits: map[string][]Limit{Tencent: {{Calls: 2, Per: time.Second}}, TIMPush: nil}})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, provider := range []string{TIMPush, TIMChat, TIMPush, TIMChat} {
		serve(sim, good(provider, ids[provider], base))
		codes = append(codes, last(sim))
	}
	if want := []string{"0", "0", "60011", "60011"}; !slices.Equal(codes, want) {
		t.Errorf("%v, want %v", codes, want)
	}
	if c := sim.Ledger()[2]; c.Violation != "2 per 1s" || c.Recalled {
		t.Errorf("ledger: %+v", c)
	}
}

func TestLimitsReplacedAndOff(t *testing.T) {
	t.Parallel()
	if got := arrivals(t, Options{NoLimits: true}, TIMPush, 0, 0, 0); !slices.Equal(got, []string{"0", "90050", "90050"}) {
		t.Errorf("off: %v", got)
	}
	if got := arrivals(t, Options{Limits: map[string][]Limit{TIMPush: {}}}, TIMPush, 0, 0); !slices.Equal(got, []string{"0", "90050"}) {
		t.Errorf("none for timpush: %v", got)
	}
	if got := arrivals(t, Options{Limits: map[string][]Limit{EngageLab: {}}}, TIMPush, 0, 0); !slices.Equal(got, []string{"0", "90051"}) {
		t.Errorf("none for engagelab: %v", got)
	}
	if got := arrivals(t, Options{Limits: map[string][]Limit{Jiguang: {{Calls: 1, Per: time.Minute}}}}, Jiguang, 0, time.Second); !slices.Equal(got, []string{"0", "1015030"}) {
		t.Errorf("jiguang: %v", got)
	}
	if got := arrivals(t, Options{Limits: map[string][]Limit{TIMChat: {{Calls: 1, Per: time.Minute}}}}, TIMChat, 0, time.Second); !slices.Equal(got, []string{"0", "60007"}) {
		t.Errorf("timchat: %v", got)
	}
}

// TestLimitsAreOfAccounts shows that one account's calls do not count for another, and that those with bad credentials do
// not count at all: anybody could use up a limit otherwise.
func TestLimitsAreOfAccounts(t *testing.T) {
	t.Parallel()
	a, b := sample(TIMPush), Account{Provider: TIMPush, Account: "1400000001", Secret: "s", Identifier: "administrator"}
	wrong := a
	wrong.Secret = "wrong"
	sim, err := New(Options{Accounts: []Account{a, b}, Now: func() time.Time { return base }, KnowAll: true})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, who := range []Account{wrong, a, b, a} {
		serve(sim, as(who, TIMPush, ids[TIMPush], base))
		codes = append(codes, last(sim))
	}
	if want := []string{"70005", "0", "0", "90051"}; !slices.Equal(codes, want) {
		t.Errorf("%v, want %v", codes, want)
	}
}

// TestOrderOfArrival shows that two calls too close to each other are seen also if the later one is dealt with first.
func TestOrderOfArrival(t *testing.T) {
	t.Parallel()
	c := &counter{}
	rule := Limit{Calls: 1, Per: time.Second}
	if c.add(rule, base) {
		t.Error("the first call is refused")
	}
	if !c.add(rule, base.Add(-time.Millisecond)) {
		t.Error("a call a millisecond before the first is let in")
	}
	if c.add(rule, base.Add(time.Second)) {
		t.Error("a call a second after the first is refused")
	}
	c, rule = &counter{}, Limit{Calls: 2, Per: time.Second}
	for _, at := range []time.Duration{10, 0, 1005} {
		if c.add(rule, base.Add(at*time.Millisecond)) {
			t.Errorf("the call at %d ms is refused", at)
		}
	}
}
