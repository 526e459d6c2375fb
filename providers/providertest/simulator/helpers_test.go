package simulator

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// base is the time at which most tests happen: 18:00 in Shanghai.
var base = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

// handClock is a clock that a test moves by hand.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: base} }

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// ids are a well-formed id of each vendor, sent at base if it says when.
var ids = map[string]string{
	Jiguang:   "v:1t:1795168800p:27133n:2",
	EngageLab: "1180003",
	TIMPush:   "6b001a20_537ed82a_200000cd7ee17f5",
	TIMChat:   "31906_833502_1795168800",
	RongCloud: "5FGT-7VA9-G4DD-4V5P",
}

// sample returns the credentials of a vendor's sample account.
func sample(provider string) Account {
	for _, a := range SampleAccounts() {
		if a.Provider == family(provider) {
			return a
		}
	}
	panic("no sample account of " + provider)
}

// good returns a call that a vendor has nothing against, signed at now.
func good(provider, id string, now time.Time) *http.Request {
	return as(sample(provider), provider, id, now)
}

func as(a Account, provider, id string, now time.Time) *http.Request {
	switch provider {
	case Jiguang:
		return withBasic(a, httptest.NewRequest(http.MethodPost, "/v1/retract/"+url.PathEscape(id), nil))
	case EngageLab:
		return withBasic(a, httptest.NewRequest(http.MethodDelete, "/v4/push/withdraw/"+url.PathEscape(id), nil))
	case TIMPush:
		return post("/v4/timpush/revoke?"+tencentQuery(a, now).Encode(), "application/json", `{"TaskId":"`+id+`"}`)
	case TIMChat:
		return post("/v4/openim/admin_msgwithdraw?"+tencentQuery(a, now).Encode(), "application/json",
			`{"From_Account":"vinson","To_Account":"dramon","MsgKey":"`+id+`"}`)
	}
	r := post("/message/broadcast/recall.json", "application/x-www-form-urlencoded",
		url.Values{"fromUserId": {"vinson"}, "messageUID": {id}}.Encode())
	stamp := fmt.Sprint(now.UnixMilli())
	sum := sha1.Sum([]byte(a.Secret + "14314" + stamp))
	for name, value := range map[string]string{
		"App-Key": a.Account, "Nonce": "14314", "Timestamp": stamp, "Signature": hex.EncodeToString(sum[:]),
	} {
		r.Header.Set(name, value)
	}
	return r
}

func withBasic(a Account, r *http.Request) *http.Request {
	r.SetBasicAuth(a.Account, a.Secret)
	return r
}

func post(target, kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return r
}

func tencentQuery(a Account, now time.Time) url.Values {
	return url.Values{
		"sdkappid": {a.Account}, "identifier": {a.Identifier}, "random": {"4294967295"}, "contenttype": {"json"},
		"usersig": {makeUserSig(a.Account, a.Identifier, a.Secret, now, 86400)},
	}
}

func makeUserSig(account, identifier, secret string, at time.Time, expire int64) string {
	u := userSig{Version: "2.0", Identifier: identifier, Expire: expire, Time: at.Unix()}
	if _, err := fmt.Sscan(account, &u.SDKAppID); err != nil {
		panic(err)
	}
	u.Sig = u.sign(secret)
	return pack(u, zlib.DefaultCompression)
}

func pack(u userSig, level int) string {
	plain, err := json.Marshal(u)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		panic(err)
	}
	_, _ = z.Write(append(plain, '\n'))
	_ = z.Close()
	return strings.NewReplacer("+", "*", "/", "-", "=", "_").Replace(base64.StdEncoding.EncodeToString(b.Bytes()))
}

// got is what a call came to: status and body.
type got struct {
	status int
	body   string
	header http.Header
}

// serve hands a request to the simulator without a network.
func serve(sim *Simulator, r *http.Request) got {
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, r)
	return got{w.Code, w.Body.String(), w.Header()}
}

// latest returns the latest call. It does not go through them all, as Ledger does.
func latest(sim *Simulator) Call {
	b := sim.ledger.book()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.call(b.count - 1)
}

// last returns the code that the ledger has for the latest call.
func last(sim *Simulator) string { return latest(sim).Code }

// toServer turns a request made by good into one for a server.
func toServer(srv *Server, r *http.Request) *http.Request {
	u, err := url.Parse(srv.URL)
	if err != nil {
		panic(err)
	}
	r.URL.Scheme, r.URL.Host, r.Host, r.RequestURI = u.Scheme, u.Host, "", ""
	return r
}

// client returns a client that keeps no connections and follows no redirects.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do makes a call over the network and reads the answer to its end.
func do(t *testing.T, r *http.Request) (got, error) {
	t.Helper()
	a, err := client(t).Do(r)
	if err != nil {
		return got{}, err
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(a.Body)
	return got{a.StatusCode, string(body), a.Header}, err
}

// sign signs a RongCloud request again, with another nonce.
func sign(r *http.Request, nonce string) {
	sum := sha1.Sum([]byte(sample(RongCloud).Secret + nonce + r.Header.Get("Timestamp")))
	r.Header.Set("Nonce", nonce)
	r.Header.Set("Signature", hex.EncodeToString(sum[:]))
}

func unix(t time.Time) string { return fmt.Sprint(t.Unix()) }
