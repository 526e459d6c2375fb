package simulator

import (
	"compress/zlib"
	"net/url"
	"testing"
	"time"
)

// exampleKey is the sample key in the README of github.com/tencentyun/tls-sig-api-v2-golang.
const exampleKey = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"

// TestUserSigVectors checks the signature against values that the vendor's own library made or accepted.
func TestUserSigVectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		sig  userSig
		want string
	}{
		{userSig{Identifier: "administrator", SDKAppID: 1400000000, Time: 1700000000, Expire: 86400}, "yLAe+w7WUeUuqbV9h/TX78u21oTGi+i9Zp1u3PpnY60="},
		{userSig{Identifier: "xiaojun", SDKAppID: 1400000000, Time: 1795166673, Expire: 15552000}, "d155U9Sl2amL8+AST2Avv/ADV/UU6HjUW88TOYQ//zg="},
	} {
		if got := tc.sig.sign(exampleKey); got != tc.want {
			t.Errorf("%+v: signed %s, want %s", tc.sig, got, tc.want)
		}
	}
	const whole = "eJyqVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgZQAJFJrSjILEpVsrIwM4EJlWTmpipZGZqjKizOTFeyUqr0" +
		"cUzVLjcPD00NLS1MCrPM0A*JMLcoNTLMD3HP1M60jCowLDUOKMiLNDOwVaoFBAAA--*8iDOS"
	u, err := parseUserSig(whole)
	if err != nil {
		t.Fatal(err)
	}
	want := userSig{Version: "2.0", Identifier: "administrator", SDKAppID: 1400000000, Time: 1700000000, Expire: 86400, Sig: "yLAe+w7WUeUuqbV9h/TX78u21oTGi+i9Zp1u3PpnY60="}
	if u != want {
		t.Errorf("read %+v, want %+v", u, want)
	}
	// The vendor's library packs without compressing, and with a line end.
	second := userSig{Version: "2.0", Identifier: "xiaojun", SDKAppID: 1400000000, Time: 1795166673, Expire: 15552000, Sig: "d155U9Sl2amL8+AST2Avv/ADV/UU6HjUW88TOYQ//zg="}
	if got, err := parseUserSig(pack(second, zlib.NoCompression)); err != nil || got != second {
		t.Errorf("read %+v, %v, want %+v", got, err, second)
	}
	for n := range len(whole) {
		if _, err := parseUserSig(whole[:n]); err == nil {
			t.Errorf("a UserSig cut off after %d characters was read", n)
		}
	}
}

// TestTencentCredentials goes through what Tencent's gateway refuses.
func TestTencentCredentials(t *testing.T) {
	t.Parallel()
	const other = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	accounts := []Account{{Provider: Tencent, Account: "1400000000", Secret: exampleKey}, {Provider: Tencent, Account: "1400000001", Secret: other}}
	usual := func(key string, at time.Time, expire int64) string {
		return makeUserSig("1400000000", "administrator", key, at, expire)
	}
	for _, tc := range []struct {
		name  string
		query url.Values
		want  string
	}{
		{"good", url.Values{"usersig": {usual(exampleKey, base, 86400)}}, "0"},
		{"last second", url.Values{"usersig": {usual(exampleKey, base.Add(-60*time.Second), 60)}}, "0"},
		{"one second too late", url.Values{"usersig": {usual(exampleKey, base.Add(-61*time.Second), 60)}}, "70001"},
		{"from a clock that is ahead", url.Values{"usersig": {usual(exampleKey, base.Add(time.Minute), 60)}}, "0"},
		{"none", url.Values{"usersig": {""}}, "70002"},
		{"no UserSig", url.Values{"usersig": {"abc"}}, "70003"},
		{"key of nobody", url.Values{"usersig": {usual("b"+exampleKey[1:], base, 86400)}}, "70005"},
		{"key of another app", url.Values{"usersig": {usual(other, base, 86400)}}, "70009"},
		{"another identifier", url.Values{"usersig": {usual(exampleKey, base, 86400)}, "identifier": {"xiaojun"}}, "70013"},
		{"another SDKAppID", url.Values{"usersig": {makeUserSig("1400000001", "administrator", other, base, 86400)}}, "70014"},
		{"unknown SDKAppID", url.Values{"sdkappid": {"1400000002"}}, "70020"},
		{"no identifier", url.Values{"identifier": {""}}, "60004"},
		{"no admin", url.Values{"usersig": {makeUserSig("1400000000", "xiaojun", exampleKey, base, 86400)}, "identifier": {"xiaojun"}}, "90009"},
	} {
		sim, err := New(Options{Accounts: accounts, Now: func() time.Time { return base }, KnowAll: true})
		if err != nil {
			t.Fatal(err)
		}
		query := url.Values{"sdkappid": {"1400000000"}, "identifier": {"administrator"}, "usersig": {usual(exampleKey, base, 86400)}, "random": {"0"}, "contenttype": {"json"}}
		for name, values := range tc.query {
			query[name] = values
		}
		serve(sim, post("/v4/openim/admin_msgwithdraw?"+query.Encode(), "application/json", `{"From_Account":"a","To_Account":"b","MsgKey":"1_2_3"}`))
		if got := last(sim); got != tc.want {
			t.Errorf("%s: code %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestLock shows 70050: after three bad signatures in a row nothing is let in for a minute, good ones neither.
func TestLock(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, err := New(Options{Now: clock.Now, KnowAll: true, LockAfter: 3})
	if err != nil {
		t.Fatal(err)
	}
	a := sample(Tencent)
	call := func(secret string) string {
		serve(sim, as(Account{Account: a.Account, Identifier: a.Identifier, Secret: secret}, TIMChat, "1_2_3", clock.Now()))
		return last(sim)
	}
	for i, step := range []struct {
		wait   time.Duration
		secret string
		want   string
	}{
		{0, "x", "70005"}, {0, "x", "70005"}, {0, a.Secret, "0"}, // a good one between them starts the count again
		{0, "x", "70005"}, {0, "x", "70005"}, {0, "x", "70005"}, {0, a.Secret, "70050"},
		{59 * time.Second, a.Secret, "70050"}, {time.Second, a.Secret, "20023"},
	} {
		clock.Add(step.wait)
		if got := call(step.secret); got != step.want {
			t.Errorf("step %d: code %s, want %s", i+1, got, step.want)
		}
	}
}

// TestShiftedClock shows that credentials are judged by the clock that is shared with the clients, and messages by the
// vendors' own.
func TestShiftedClock(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	sim, err := New(Options{Now: clock.Now, ClockOffset: time.Hour, ClockSpeed: 60})
	if err != nil {
		t.Fatal(err)
	}
	if got := sim.Now(); !got.Equal(base.Add(time.Hour)) {
		t.Errorf("starts at %s", got)
	}
	clock.Add(time.Minute)
	sim.Advance(72 * time.Hour)
	if got := sim.Now(); !got.Equal(base.Add(74 * time.Hour)) {
		t.Errorf("after a minute and three days it is %s", got)
	}
	if err := sim.Know(Message{Provider: TIMPush, ID: ids[TIMPush], SentAt: base}); err != nil {
		t.Fatal(err)
	}
	serve(sim, good(TIMPush, ids[TIMPush], clock.Now()))
	if got := last(sim); got != "90052" {
		t.Errorf("code %s, want 90052: the message is old, the UserSig is not", got)
	}
}

func TestRongCloudCredentials(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header, value string
		want, lenient       string
	}{
		{"good", "", "", "200", "200"},
		{"unknown app key", "App-Key", "nobody", "1001", "1001"},
		{"no app key", "App-Key", "", "1001", "1001"},
		{"signature", "Signature", "DD11A264276F438B045B3B236A2741DDC89D48DF", "1004", "1004"},
		{"no signature", "Signature", "", "1004", "1004"},
		{"nonce changed", "Nonce", "14315", "1004", "1004"},
		{"timestamp changed", "Timestamp", "1", "1004", "1004"},
		{"timestamp no number", "Timestamp", "now", "1004", "1004"},
		{"long request id", "X-Request-ID", "0123456789012345678901234567890123456", "1005", "200"},
	} {
		for lenient, want := range map[bool]string{false: tc.want, true: tc.lenient} {
			sim, err := New(Options{Now: func() time.Time { return base }, Lenient: lenient})
			if err != nil {
				t.Fatal(err)
			}
			r := good(RongCloud, ids[RongCloud], base)
			if tc.header != "" {
				r.Header.Set(tc.header, tc.value)
			}
			serve(sim, r)
			if got := last(sim); got != want {
				t.Errorf("%s (lenient %v): code %s, want %s", tc.name, lenient, got, want)
			}
		}
	}
}

// TestNonce shows that a nonce may have 18 characters. The vendor's own SDK sends 19 at times.
func TestNonce(t *testing.T) {
	t.Parallel()
	for nonce, want := range map[string]string{"123456789012345678": "200", "1234567890123456789": "1004"} {
		sim, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := good(RongCloud, ids[RongCloud], base)
		sign(r, nonce)
		serve(sim, r)
		if got := last(sim); got != want {
			t.Errorf("nonce %s: code %s, want %s", nonce, got, want)
		}
	}
}
