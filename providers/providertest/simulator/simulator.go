package simulator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The providers' names, as everywhere in recallq.
const (
	Jiguang   = "jiguang"
	EngageLab = "engagelab"
	TIMPush   = "timpush"
	TIMChat   = "timchat"
	RongCloud = "rongcloud"

	// Tencent names what timpush and timchat share: an SDKAppID's credentials, and its limit over all APIs.
	Tencent = "tencent"
)

// Options say how a [Simulator] behaves. The zero value serves the [SampleAccounts] with the real limits.
type Options struct {
	// Accounts are the accounts that may call. None means [SampleAccounts].
	Accounts []Account

	// Now is the clock shared with the clients, which UserSigs are judged by; nil means time.Now.
	Now func() time.Time
	// ClockOffset is added to the vendors' clock, which windows and limits run on.
	ClockOffset time.Duration
	// ClockSpeed makes the vendors' clock run faster (60: an hour a minute) or slower; zero means 1.
	ClockSpeed float64

	// Limits replaces the [RealLimits] of the providers it names (and of "tencent"); an empty list means none.
	Limits map[string][]Limit
	// NoLimits turns all limits off.
	NoLimits bool
	// LockAfter makes an SDKAppID answer 70050 for a minute after so many bad signatures in a row; zero means never.
	LockAfter int
	// Lenient accepts what a vendor probably would, though its documents do not say so: unknown query names, form fields and
	// JSON keys, a body where none is wanted, a nonce longer than 18 characters. Without it such calls are refused.
	Lenient bool

	// KnowAll takes ids that were never announced for messages: sent when the id says so, else just now. Without it they are
	// unknown.
	KnowAll bool
	// Mix makes shares of the ids that were never announced answer in other ways, chosen by a hash of the id, so that a run
	// can be repeated. It needs KnowAll. See [ParseMix].
	Mix []Share

	// Latency is how long every answer takes.
	Latency time.Duration
	// OnCall, if set, is told each call once it was answered. It is called from the calls' own goroutines.
	OnCall func(Call)
	// RemoteControl lets others than loopback addresses use the control API under /_sim/.
	RemoteControl bool
}

// Simulator is the five vendors as one http.Handler. It is safe for concurrent use.
type Simulator struct {
	opt      Options
	clock    *clock
	accounts *accounts
	limits   *limiter
	messages *messages
	faults   *faults
	ledger   *ledger
	control  http.Handler

	followed atomic.Int64 // redirects

	closing sync.Once
	closed  chan struct{}
}

// New builds a simulator. It starts no goroutine and opens no listener; the error says which option is wrong.
func New(opt Options) (*Simulator, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.ClockSpeed == 0 {
		opt.ClockSpeed = 1
	}
	if opt.ClockSpeed < 0 {
		return nil, fmt.Errorf("clock speed %v: must not be negative", opt.ClockSpeed)
	}
	if len(opt.Accounts) == 0 {
		opt.Accounts = SampleAccounts()
	}
	if len(opt.Mix) > 0 && !opt.KnowAll {
		return nil, errors.New("mix: needs know-all, since it is about ids that were never announced")
	}
	if err := checkMix(opt.Mix); err != nil {
		return nil, err
	}
	limits, err := newLimiter(opt.Limits, opt.NoLimits)
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		opt:      opt,
		clock:    newClock(opt.Now, opt.ClockOffset, opt.ClockSpeed),
		accounts: newAccounts(opt.LockAfter),
		limits:   limits,
		messages: newMessages(opt.KnowAll, opt.Mix),
		faults:   &faults{},
		ledger:   newLedger(),
		closed:   make(chan struct{}),
	}
	for _, a := range opt.Accounts {
		if err := s.SetAccount(a); err != nil {
			return nil, err
		}
	}
	s.control = s.controlAPI()
	return s, nil
}

// Close lets go of calls that hang or drip. The simulator answers on afterwards, but nothing hangs any more. Close may be
// called more than once.
func (s *Simulator) Close() { s.closing.Do(func() { close(s.closed) }) }

// SetAccount adds an account, or replaces the secret of one.
func (s *Simulator) SetAccount(a Account) error { return s.accounts.set(a) }

// Accounts returns the accounts without their secrets, sorted.
func (s *Simulator) Accounts() []Account { return s.accounts.list() }

// Know announces messages that were sent, so that they can be recalled. A message announced again starts afresh. Nothing is
// announced if one of them is wrong.
func (s *Simulator) Know(list ...Message) error {
	for i := range list {
		if err := list[i].Check(); err != nil {
			return err
		}
	}
	now := s.clock.now()
	for _, m := range list {
		s.messages.know(m, now)
	}
	return nil
}

// Fault makes calls go wrong from now on, and returns the number by which [Simulator.RemoveFault] ends that. Faults are
// tried in the order they were added; the first that matches a call decides.
func (s *Simulator) Fault(f Fault) (int, error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	return s.faults.add(f), nil
}

// RemoveFault ends a fault. It reports whether there was such a fault.
func (s *Simulator) RemoveFault(id int) bool { return s.faults.remove(id) }

// ClearFaults ends all faults.
func (s *Simulator) ClearFaults() { s.faults.clear() }

// Now returns the vendors' clock.
func (s *Simulator) Now() time.Time { return s.clock.now() }

// Advance moves the vendors' clock, by which windows and limits run, forward by d.
func (s *Simulator) Advance(d time.Duration) { s.clock.advance(d) }

// Reset forgets messages, faults, calls and what the limits have counted. Accounts and clock stay.
func (s *Simulator) Reset() {
	s.messages.reset()
	s.faults.clear()
	s.limits.reset()
	s.accounts.unlock()
	s.ledger.reset()
}

// ResetLedger forgets the calls only.
func (s *Simulator) ResetLedger() { s.ledger.reset() }

// maxBody is the longest request body that is read.
const maxBody = 1 << 20

// ServeHTTP serves the five vendors, and the control API under /_sim/.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_sim/") {
		s.control.ServeHTTP(w, r)
		return
	}
	v, segment := vendorOf(r.URL.EscapedPath())
	if v == nil {
		s.stray(w, r)
		return
	}
	c := s.arrive(v.name)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.deliver(w, r, c, Behaviour{}, plain(http.StatusRequestEntityTooLarge, "request body could not be read"))
		return
	}
	q := v.read(r, segment, body)
	c.asked(q)
	b, a := s.decide(v, r, c, q)
	s.deliver(w, r, c, b, a)
}

// decide says what a call gets: an answer, and how it is to be delivered. The order is the vendors' as far as it can be
// known: a connection that breaks comes before anything; then the rate limit at the door; then what was asked for on
// purpose; then credentials, form and the message itself.
func (s *Simulator) decide(v *vendor, r *http.Request, c *call, q asked) (Behaviour, answer) {
	if b, ok := s.faults.take(v.name, q, func(m Mode) bool { return m == ResetBefore }); ok {
		c.Fault = b.String()
		return b, answer{}
	}
	if r.Method != v.method {
		return Behaviour{}, v.wrongMethod()
	}
	refused := v.authenticate(s, r, q)
	if refused == nil {
		if code, limit := s.limits.arrived(v.name, q.account, c.Clock); code != "" {
			c.Violation = limit.String()
			return Behaviour{}, v.fail(code, "")
		}
	}
	b := s.planned(v, c, q)
	if b.withholds() && !b.Recall {
		return b, v.spoil(b, q)
	}
	a := s.answer(v, c, q, refused)
	if b.replaces() {
		a = v.spoil(b, q)
	}
	return b, a
}

// planned returns what a fault or the message's own script has in store for this call: nothing, as a rule.
func (s *Simulator) planned(v *vendor, c *call, q asked) Behaviour {
	b, ok := s.faults.take(v.name, q, func(m Mode) bool { return m != ResetBefore })
	if !ok {
		b, ok = s.messages.script(v, q, c.Clock)
	}
	if !ok || isWord(b.Code) && v.words[b.Code] == "" { // a word that this vendor has no answer for
		return Behaviour{}
	}
	c.Fault = b.String()
	return b
}

// answer deals with a call as the vendor would.
func (s *Simulator) answer(v *vendor, c *call, q asked, refused *answer) answer {
	if refused != nil {
		return *refused
	}
	if bad := v.check(q, s.opt.Lenient); bad != nil {
		return *bad
	}
	found := s.messages.recall(v, q, c.Clock)
	c.Recalled = found == accepted
	return v.outcome(found, q)
}

// stray answers a call to no vendor's path: Tencent's gateway and RongCloud have words for that, others have not.
func (s *Simulator) stray(w http.ResponseWriter, r *http.Request) {
	c := s.arrive("")
	c.Path = cut(r.Method+" "+r.URL.Path, 200)
	a := plain(http.StatusNotFound, "404 page not found")
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v4/push/"): // EngageLab's, which shares the prefix with Tencent
	case strings.HasPrefix(path, "/v4/"):
		a = tencentFail("60009", "")
	case strings.HasPrefix(path, "/message/"):
		a = rongFail("404", "")
	}
	s.deliver(w, r, c, Behaviour{}, a)
}

// call is a call in progress: what the ledger will say of it.
type call struct {
	Call
	book  *book
	index int
}

func (c *call) asked(q asked) {
	c.Account, c.MessageID, c.From, c.To, c.Details = q.account, q.id, q.from, q.to, q.details
}

// arrive enters a call in the ledger. The time is taken first of all: it is what limits count.
func (s *Simulator) arrive(provider string) *call {
	c := &call{
		Call: Call{Clock: s.clock.now(), Time: time.Now(), Provider: provider, Open: true},
		book: s.ledger.book(),
	}
	c.index = c.book.open(c.Call)
	c.Seq = c.index + 1
	return c
}

// settle completes the call's entry in the ledger.
func (s *Simulator) settle(c *call) {
	c.Open, c.Took = false, time.Since(c.Time)
	c.book.put(c.index, c.Call)
	if s.opt.OnCall != nil {
		s.opt.OnCall(c.Call)
	}
}

func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
