package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Mode is a way in which an answer can go wrong on its way.
type Mode string

// The modes.
const (
	// AsUsual delivers the answer whole.
	AsUsual Mode = ""
	// ResetBefore resets the connection when the request's head was read. Nothing is carried out, and no limit counts it.
	ResetBefore Mode = "reset_before"
	// ResetAfter reads the request and resets the connection instead of an answer.
	ResetAfter Mode = "reset_after"
	// Hang reads the request and never answers, until the caller gives up or the simulator is closed.
	Hang Mode = "hang"
	// Cut announces the whole answer, sends half of it and closes.
	Cut Mode = "cut"
	// Drip sends the usual answer byte by byte, every Interval. It is carried out.
	Drip Mode = "drip"
	// Garbage answers bytes that are no text, as JSON.
	Garbage Mode = "garbage"
	// HTML answers a page, as a proxy would.
	HTML Mode = "html"
	// Huge answers a success of 10 MB.
	Huge Mode = "huge"
	// Redirect sends the caller elsewhere: to Location, or to a place that counts who follows (see GET /_sim/stats).
	Redirect Mode = "redirect"
)

// Modes returns every mode but [AsUsual].
func Modes() []Mode {
	return []Mode{ResetBefore, ResetAfter, Hang, Cut, Drip, Garbage, HTML, Huge, Redirect}
}

// Behaviour is what a call runs into. Its zero value is the usual answer, delivered at once; what is set is combined: a code
// of the vendor's after 200 ms with a Retry-After header, for example.
type Behaviour struct {
	// Code answers with a code of the vendor's, in the vendor's form and with the HTTP status that belongs to it. Words that
	// mean each vendor's own code: internal, throttled, credentials, invalid, unknown, already, expired. A vendor that
	// documents no such answer answers as usual.
	Code string
	// Message replaces the text that goes with Code.
	Message string
	// Status is the HTTP status; with no Code and no Mode, and no Body, that is a plain page as proxies send them.
	Status int
	// Body and ContentType replace the answer's; a Body without Status has status 200.
	Body, ContentType string
	// RetryAfter is the header of that name: "7" or an HTTP date.
	RetryAfter string
	// Mode is how the answer goes wrong on its way.
	Mode Mode
	// Recall carries the recall out, as far as it can be, although the answer does not say so: with ResetAfter, Hang or Cut the
	// answer is lost. Without it nothing is carried out.
	Recall bool
	// Latency passes before anything is answered.
	Latency time.Duration
	// Interval is the time between two bytes of Drip; zero means 50 ms.
	Interval time.Duration
	// Location is where Redirect points to.
	Location string
}

// words are the codes that each vendor has its own of.
var words = []string{"internal", "throttled", "credentials", "invalid", "unknown", "already", "expired"}

func isWord(code string) bool { return slices.Contains(words, code) }

// Check says what is wrong with a behaviour.
func (b Behaviour) Check() error {
	if b.Mode != AsUsual && !slices.Contains(Modes(), b.Mode) {
		return fmt.Errorf("mode %q: give one of %v", cut(string(b.Mode), 40), Modes())
	}
	if b.Code != "" && !isWord(b.Code) && !regexp.MustCompile(`^\d{1,9}$`).MatchString(b.Code) {
		return fmt.Errorf("code %q: give a vendor's code, or one of %s", cut(b.Code, 40), strings.Join(words, ", "))
	}
	if b.Code != "" && b.Body != "" {
		return errors.New("code and body: give one of them")
	}
	if b.Status != 0 && (b.Status < 200 || b.Status > 599) {
		return fmt.Errorf("status %d: must be from 200 to 599", b.Status)
	}
	if b.Latency < 0 || b.Interval < 0 {
		return errors.New("latency and interval: must not be negative")
	}
	if b.Recall && b.Mode == ResetBefore {
		return errors.New("recall: nothing can be carried out with reset_before; give reset_after")
	}
	return nil
}

// String says in a few words what goes wrong: "code 91000", "HTTP 503", "hang", "lost". It is what the ledger shows.
func (b Behaviour) String() string {
	var list []string
	switch {
	case b.Mode != AsUsual:
		list = append(list, string(b.Mode))
	case b.Code != "":
		list = append(list, "code "+b.Code)
	case b.Status != 0:
		list = append(list, "HTTP "+strconv.Itoa(b.Status))
	case b.Body != "" || b.ContentType != "":
		list = append(list, "body")
	}
	if b.Latency > 0 {
		list = append(list, "latency "+b.Latency.String())
	}
	if b.RetryAfter != "" {
		list = append(list, "retry-after")
	}
	if b.Recall {
		list = append(list, "recall")
	}
	return strings.Join(list, ", ")
}

// replaces reports whether the answer is another than the usual one.
func (b Behaviour) replaces() bool {
	switch b.Mode {
	case Garbage, HTML, Huge, Redirect:
		return true
	}
	return b.Code != "" || b.Status != 0 || b.Body != ""
}

// withholds reports whether the call is not dealt with as usual, so that nothing is carried out unless Recall says so.
func (b Behaviour) withholds() bool {
	return b.replaces() || b.Mode == Hang || b.Mode == ResetAfter || b.Mode == Cut
}

// ParseBehaviour reads a behaviour from a word or two: a vendor's code or a word for it (see [Behaviour].Code), "HTTP 503", a
// [Mode], "lost" (carried out, then reset_after), or a time such as 200ms that the usual answer takes.
func ParseBehaviour(text string) (Behaviour, error) {
	text = strings.TrimSpace(text)
	b := Behaviour{}
	status, isStatus := strings.CutPrefix(strings.ToUpper(text), "HTTP ")
	latency, notTime := time.ParseDuration(text)
	switch {
	case text == "lost":
		b = Behaviour{Mode: ResetAfter, Recall: true}
	case slices.Contains(Modes(), Mode(text)):
		b.Mode = Mode(text)
	case isStatus:
		n, err := strconv.Atoi(status)
		if err != nil || n == 0 {
			return b, fmt.Errorf("%q: write a status like HTTP 503", text)
		}
		b.Status = n
	case notTime == nil && latency > 0:
		b.Latency = latency
	case text == "":
		return b, errors.New("empty: say what is to happen")
	default:
		b.Code = text
	}
	if err := b.Check(); err != nil {
		return Behaviour{}, err
	}
	return b, nil
}

// Fault is a [Behaviour] for all calls that match.
type Fault struct {
	// Provider, Account and MessageID are which calls; an empty one matches all. Provider may be "tencent". Account is what the
	// call claims, good credentials or not.
	Provider, Account, MessageID string
	// Times is how many matching calls run into it; zero means all until it is removed.
	Times int
	Behaviour
}

// Check says what is wrong with a fault.
func (f Fault) Check() error {
	if f.Provider != "" && f.Provider != Tencent && vendors[f.Provider] == nil {
		return fmt.Errorf("provider %q: give jiguang, engagelab, timpush, timchat, tencent or rongcloud, or none for all", cut(f.Provider, 40))
	}
	if f.Times < 0 {
		return fmt.Errorf("times %d: must not be negative; 0 means until removed", f.Times)
	}
	if f.String() == "" {
		return errors.New("fault: says nothing that is to go wrong; give code, status, body, mode, latency or retry_after")
	}
	if v := vendors[f.Provider]; v != nil && isWord(f.Code) && v.words[f.Code] == "" {
		return fmt.Errorf("code %q: %s documents no such answer", f.Code, f.Provider)
	}
	return f.Behaviour.Check()
}

func (f Fault) matches(provider string, q asked) bool {
	return (f.Provider == "" || f.Provider == provider || f.Provider == Tencent && family(provider) == Tencent) &&
		(f.Account == "" || f.Account == q.account) &&
		(f.MessageID == "" || f.MessageID == q.id)
}

type faults struct {
	mu   sync.Mutex
	last int
	list []numbered
}

type numbered struct {
	id int
	Fault
}

func (s *faults) add(f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.list = append(s.list, numbered{s.last, f})
	return s.last
}

// take returns the first fault that matches and is of the wanted kind, and uses up one of its times.
func (s *faults) take(provider string, q asked, want func(Mode) bool) (Behaviour, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(f numbered) bool { return want(f.Mode) && f.matches(provider, q) })
	if i < 0 {
		return Behaviour{}, false
	}
	b := s.list[i].Behaviour
	if s.list[i].Times == 1 {
		s.list = slices.Delete(s.list, i, i+1)
	} else if s.list[i].Times > 1 {
		s.list[i].Times--
	}
	return b, true
}

func (s *faults) remove(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.list)
	s.list = slices.DeleteFunc(s.list, func(f numbered) bool { return f.id == id })
	return len(s.list) < before
}

func (s *faults) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func (s *faults) all() []numbered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// spoil returns the answer that takes the usual one's place.
func (v *vendor) spoil(b Behaviour, q asked) answer {
	a := v.success(q)
	switch b.Mode {
	case Garbage:
		a = answer{status: http.StatusOK, kind: "application/json", body: garbage()}
	case HTML:
		a = answer{status: http.StatusOK, kind: "text/html; charset=utf-8",
			body: "<!DOCTYPE html>\n<html><head><title>Gateway</title></head><body><h1>The service is being maintained</h1></body></html>\n"}
	case Huge:
		a.body = `{"pad":"` + strings.Repeat("x", hugeBody) + `",` + strings.TrimSpace(a.body)[1:]
	case Redirect:
		a = answer{status: http.StatusFound, location: b.Location}
		if a.location == "" {
			a.location = "/_sim/redirected"
		}
	default:
		switch {
		case b.Code != "":
			code := b.Code
			if own := v.words[code]; own != "" {
				code = own
			}
			a = v.fail(code, b.Message)
		case b.Body != "":
			a = answer{status: http.StatusOK, kind: "application/json", body: b.Body}
		case b.Status != 0:
			a = plain(b.Status, http.StatusText(b.Status))
		}
	}
	if b.Status != 0 {
		a.status = b.Status
	}
	if b.ContentType != "" {
		a.kind = b.ContentType
	}
	return a
}

// hugeBody is ten times what a client should be ready to read.
const hugeBody = 10 << 20

// garbage is always the same, so that a failure can be looked at again. It is no UTF-8 and no JSON.
func garbage() string {
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(0x80 + i*37%113)
	}
	return string(b)
}
