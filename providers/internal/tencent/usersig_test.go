package tencent

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sampleKey is the one in the README of Tencent's own library.
const sampleKey = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"

// ticket is what a UserSig holds, read as Tencent's VerifyUserSig reads it.
type ticket struct {
	Version    string `json:"TLS.ver"`
	Identifier string `json:"TLS.identifier"`
	SDKAppID   int64  `json:"TLS.sdkappid"`
	Expire     int64  `json:"TLS.expire"`
	Time       int64  `json:"TLS.time"`
	Sig        string `json:"TLS.sig"`
}

func unpack(t *testing.T, sig string) ticket {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_", "=").Replace(sig))
	if err != nil {
		t.Fatalf("base64: %v", err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatalf("zlib: %v", err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("zlib: %v", err)
	}
	var got ticket
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("json: %v in %s", err, text)
	}
	return got
}

// The first vector was accepted by VerifyUserSig of tls-sig-api-v2-golang v1.4.0, the second was made by that library.
func TestUserSigVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		identifier   string
		time, expire int64
		sig          string
	}{
		{"administrator", 1700000000, 86400, "yLAe+w7WUeUuqbV9h/TX78u21oTGi+i9Zp1u3PpnY60="},
		{"xiaojun", 1795166673, 15552000, "d155U9Sl2amL8+AST2Avv/ADV/UU6HjUW88TOYQ//zg="},
	} {
		a := Account{SDKAppID: 1400000000, SecretKey: sampleKey, Identifier: v.identifier}
		got := unpack(t, userSig(a, time.Unix(v.time, 999_999_999), time.Duration(v.expire)*time.Second))
		want := ticket{"2.0", v.identifier, 1400000000, v.expire, v.time, v.sig}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", v.identifier, d)
		}
	}
}

// A UserSig that passed Tencent's own verifier holds what ours does.
func TestUserSigLikeAVerifiedOne(t *testing.T) {
	t.Parallel()
	const verified = "eJyqVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgZQAJFJrSjILEpVsrIwM4EJlWTmpipZGZqjKizOTFeyUqr0cUzVLjcPD00NLS1MCrPM0A*JMLcoNTLMD3HP1M60jCowLDUOKMiLNDOwVaoFBAAA--*8iDOS"
	a := Account{SDKAppID: 1400000000, SecretKey: sampleKey}
	ours := unpack(t, userSig(a, time.Unix(1700000000, 0), 24*time.Hour))
	if d := cmp.Diff(unpack(t, verified), ours); d != "" {
		t.Error(d)
	}
}

func TestUserSigNeedsNoEscapingInAPath(t *testing.T) {
	t.Parallel()
	for i := range 200 {
		sig := userSig(Account{SDKAppID: int64(i + 1), SecretKey: sampleKey}, time.Unix(1700000000+int64(i), 0), sigValidity)
		if strings.ContainsAny(sig, "+/=") {
			t.Fatalf("%s is in plain base64", sig)
		}
	}
}

// clock is a wall clock that moves on by step at each reading, so that two UserSigs are never alike by chance.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newSigner(step time.Duration) (*Signer, *clock) {
	c := &clock{now: time.Unix(1795166673, 0), step: step}
	return NewSigner(Account{SDKAppID: 1400000000, SecretKey: sampleKey}, c.Now), c
}

func TestSignerKeepsItsSigAndRenewsItEarly(t *testing.T) {
	t.Parallel()
	s, c := newSigner(0)
	first := s.Sig()
	c.move(sigRenewal - time.Second)
	if s.Sig().text != first.text {
		t.Error("renewed before its time")
	}
	c.move(time.Second)
	second := s.Sig()
	if second.text == first.text {
		t.Fatal("not renewed at half its validity")
	}
	got := unpack(t, second.text)
	if got.Time != c.now.Unix() {
		t.Errorf("signed at %d, want %d", got.Time, c.now.Unix())
	}
	if left := time.Duration(unpack(t, first.text).Expire)*time.Second - sigRenewal; left < 24*time.Hour {
		t.Errorf("%s were left of the old one; Tencent advises 24 h", left)
	}
}

// What was signed while the clock was ahead is not to be trusted once it is set back.
func TestSignerFollowsAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	s, c := newSigner(0)
	first := s.Sig()
	c.move(-time.Hour)
	if got := s.Sig(); got.text == first.text {
		t.Error("kept a UserSig from the future")
	}
}

// A monotonic clock that stands still, as while a machine sleeps, must not keep an old UserSig in use.
func TestSignerIgnoresTheMonotonicClock(t *testing.T) {
	t.Parallel()
	now := time.Now() // has a monotonic part
	s := NewSigner(Account{SDKAppID: 1, SecretKey: sampleKey}, func() time.Time { return now })
	if m := s.Sig().minted; strings.Contains(m.String(), "m=") {
		t.Errorf("signed at %s: kept the monotonic part", m)
	}
}

func TestRefusedSig(t *testing.T) {
	t.Parallel()
	t.Run("replaced, also within the same second", func(t *testing.T) {
		t.Parallel()
		s, _ := newSigner(0)
		used := s.Sig()
		s.Refused(used)
		if s.Sig().text == used.text {
			t.Error("the refused UserSig is still in use")
		}
	})
	t.Run("late: a newer one stays", func(t *testing.T) {
		t.Parallel()
		s, c := newSigner(0)
		used := s.Sig()
		c.move(2 * time.Minute)
		s.Refused(used)
		newer := s.Sig()
		c.move(time.Second)
		s.Refused(used)
		if s.Sig().text != newer.text {
			t.Error("another call's refusal dropped the newer UserSig")
		}
	})
}

// Each reading of the clock is a second later, so that each signature made is another: 50 goroutines must see one.
func TestSignerMakesOneForAll(t *testing.T) {
	t.Parallel()
	s, c := newSigner(time.Second)
	old := s.Sig()
	c.move(sigRenewal)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]int{}
	)
	for range 50 {
		wg.Go(func() {
			for range 20 {
				sig := s.Sig()
				mu.Lock()
				seen[sig.text]++
				mu.Unlock()
				s.Refused(old)
			}
		})
	}
	wg.Wait()
	if len(seen) != 1 || seen[old.text] != 0 {
		t.Errorf("saw %d UserSigs (the old one %d times), want one new one", len(seen), seen[old.text])
	}
}

func TestSigDoesNotPrint(t *testing.T) {
	t.Parallel()
	s, _ := newSigner(0)
	sig := s.Sig()
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if got := fmt.Sprintf(verb, sig); strings.Contains(got, sig.text) {
			t.Errorf("%s prints the UserSig", verb)
		}
	}
}
