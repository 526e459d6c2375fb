package simulator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// controlAPI serves what a shell or another process needs. Its answers hold no secrets.
//
//	GET    /_sim/healthz
//	GET    /_sim/ledger      NDJSON, oldest first; ?provider= &account= &id= &violations=1 narrow it down
//	DELETE /_sim/ledger      forget the calls only
//	GET    /_sim/stats       sums, the clock, the faults
//	POST   /_sim/messages    NDJSON: {"provider","account","id","sent_at","from","to","recalled","needs_offline_push","script"}
//	GET    /_sim/faults
//	POST   /_sim/faults      {"provider","account","id","times", and what is to happen}; answers {"fault":1}
//	DELETE /_sim/faults      all of them, or ?fault=1
//	POST   /_sim/accounts    {"provider","account","secret","identifier"}: add one or change its secret
//	POST   /_sim/clock       {"advance":"25h"}
//	POST   /_sim/reset       messages, faults, calls and what the limits have counted
func (s *Simulator) controlAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_sim/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /_sim/ledger", s.getLedger)
	mux.HandleFunc("DELETE /_sim/ledger", func(w http.ResponseWriter, _ *http.Request) { s.ResetLedger(); done204(w) })
	mux.HandleFunc("GET /_sim/stats", s.getStats)
	mux.HandleFunc("POST /_sim/messages", s.postMessages)
	mux.HandleFunc("GET /_sim/faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.activeFaults()) })
	mux.HandleFunc("POST /_sim/faults", s.postFault)
	mux.HandleFunc("DELETE /_sim/faults", s.deleteFaults)
	mux.HandleFunc("POST /_sim/accounts", s.postAccount)
	mux.HandleFunc("POST /_sim/clock", s.postClock)
	mux.HandleFunc("POST /_sim/reset", func(w http.ResponseWriter, _ *http.Request) { s.Reset(); done204(w) })
	mux.HandleFunc("/_sim/redirected", func(w http.ResponseWriter, _ *http.Request) {
		s.followed.Add(1)
		http.Error(w, "nobody should have followed the redirect", http.StatusTeapot)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.opt.RemoteControl && r.URL.Path != "/_sim/redirected" && !loopback(r.RemoteAddr) {
			http.Error(w, "the control API answers loopback addresses only", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func loopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func done204(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone cannot be told
}

func refuse(w http.ResponseWriter, err error) { http.Error(w, err.Error(), http.StatusBadRequest) }

// callJSON is a call as the ledger shows it.
type callJSON struct {
	Seq       int    `json:"seq"`
	Time      string `json:"time"`
	Clock     string `json:"clock"`
	TookMS    int64  `json:"took_ms"`
	Provider  string `json:"provider,omitempty"`
	Account   string `json:"account,omitempty"`
	MessageID string `json:"id,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Details
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Recalled  bool   `json:"recalled"`
	Violation string `json:"violation,omitempty"`
	Fault     string `json:"fault,omitempty"`
	Open      bool   `json:"open,omitempty"`
}

const stamp = "2006-01-02T15:04:05.000000Z"

// MarshalJSON writes a call as the control API's ledger shows it: times in UTC with microseconds, took_ms in milliseconds.
func (c Call) MarshalJSON() ([]byte, error) {
	return json.Marshal(callJSON{
		Seq: c.Seq, Time: c.Time.UTC().Format(stamp), Clock: c.Clock.UTC().Format(stamp), TookMS: c.Took.Milliseconds(),
		Provider: c.Provider, Account: c.Account, MessageID: c.MessageID, From: c.From, To: c.To, Details: c.Details,
		Status: c.Status, Code: c.Code, Recalled: c.Recalled, Violation: c.Violation, Fault: c.Fault, Open: c.Open,
	})
}

// UnmarshalJSON reads what [Call.MarshalJSON] writes, for programs that drive a simulator in another process.
func (c *Call) UnmarshalJSON(raw []byte) error {
	var in callJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, in.Time)
	if err != nil {
		return err
	}
	clock, err := time.Parse(time.RFC3339Nano, in.Clock)
	if err != nil {
		return err
	}
	*c = Call{
		Seq: in.Seq, Time: at, Clock: clock, Took: time.Duration(in.TookMS) * time.Millisecond,
		Provider: in.Provider, Account: in.Account, MessageID: in.MessageID, From: in.From, To: in.To, Details: in.Details,
		Status: in.Status, Code: in.Code, Recalled: in.Recalled, Violation: in.Violation, Fault: in.Fault, Open: in.Open,
	}
	return nil
}

func (s *Simulator) getLedger(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		switch name {
		case "provider", "account", "id", "violations":
		default:
			refuse(w, fmt.Errorf("query %q: give provider, account, id or violations", cut(name, 40)))
			return
		}
	}
	wanted := func(name, have string) bool { return !query.Has(name) || query.Get(name) == have }
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	for c := range s.Calls() {
		if !wanted("provider", c.Provider) || !wanted("account", c.Account) || !wanted("id", c.MessageID) ||
			query.Has("violations") && c.Violation == "" {
			continue
		}
		if enc.Encode(c) != nil {
			return
		}
	}
	_ = out.Flush()
}

// Stats are sums over the ledger, and what else there is to know at a glance.
type Stats struct {
	Clock             time.Time                `json:"clock"` // the vendors'
	Providers         map[string]ProviderStats `json:"providers"`
	Messages          int                      `json:"messages"` // announced
	Recalled          int                      `json:"recalled"` // taken back by calls, each once
	Stray             int                      `json:"stray"`    // calls to no vendor's path
	FollowedRedirects int64                    `json:"followed_redirects"`
	Faults            int                      `json:"faults"`
	Accounts          []Account                `json:"accounts"` // without secrets
}

// ProviderStats are one vendor's sums.
type ProviderStats struct {
	Calls      int            `json:"calls"`
	Recalled   int            `json:"recalled"`   // calls that took a message back
	Violations int            `json:"violations"` // calls beyond a limit
	Faults     int            `json:"faults"`     // calls that went wrong on request
	Open       int            `json:"open"`       // not answered yet
	Codes      map[string]int `json:"codes"`      // answers by code, else "HTTP 503", else "no answer"
}

// Stats returns the sums of now.
func (s *Simulator) Stats() Stats {
	st := Stats{
		Clock: s.Now(), Providers: map[string]ProviderStats{}, FollowedRedirects: s.followed.Load(),
		Faults: len(s.faults.all()), Accounts: s.Accounts(),
	}
	st.Messages, st.Recalled = s.messages.count()
	for c := range s.Calls() {
		if c.Provider == "" {
			st.Stray++
			continue
		}
		p, ok := st.Providers[c.Provider]
		if !ok {
			p.Codes = map[string]int{}
		}
		p.add(c)
		st.Providers[c.Provider] = p
	}
	return st
}

func (p *ProviderStats) add(c Call) {
	p.Calls++
	if c.Recalled {
		p.Recalled++
	}
	if c.Violation != "" {
		p.Violations++
	}
	if c.Fault != "" {
		p.Faults++
	}
	switch {
	case c.Open:
		p.Open++
	case c.Code != "":
		p.Codes[c.Code]++
	case c.Status != 0:
		p.Codes["HTTP "+strconv.Itoa(c.Status)]++
	default:
		p.Codes["no answer"]++
	}
}

func (s *Simulator) getStats(w http.ResponseWriter, _ *http.Request) { reply(w, s.Stats()) }

// span is a time.Duration as text, such as "200ms".
type span time.Duration

func (d *span) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New("write durations as text, such as \"200ms\"")
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("duration %q: write it like 200ms, 5s or 25h", cut(text, 40))
	}
	*d = span(v)
	return nil
}

func (d span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// behaviourJSON is a behaviour as the control API has it. In a message's script, a text such as "91000" or "lost" will do:
// see [ParseBehaviour].
type behaviourJSON struct {
	Code        string `json:"code,omitempty"`
	Message     string `json:"message,omitempty"`
	Status      int    `json:"status,omitempty"`
	Body        string `json:"body,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	RetryAfter  string `json:"retry_after,omitempty"`
	Mode        Mode   `json:"mode,omitempty"`
	Recall      bool   `json:"recall,omitempty"`
	Latency     span   `json:"latency,omitzero"`
	Interval    span   `json:"interval,omitzero"`
	Location    string `json:"location,omitempty"`
}

func (b behaviourJSON) behaviour() Behaviour {
	return Behaviour{
		Code: b.Code, Message: b.Message, Status: b.Status, Body: b.Body, ContentType: b.ContentType, RetryAfter: b.RetryAfter,
		Mode: b.Mode, Recall: b.Recall, Latency: time.Duration(b.Latency), Interval: time.Duration(b.Interval), Location: b.Location,
	}
}

func (b Behaviour) json() behaviourJSON {
	return behaviourJSON{
		Code: b.Code, Message: b.Message, Status: b.Status, Body: b.Body, ContentType: b.ContentType, RetryAfter: b.RetryAfter,
		Mode: b.Mode, Recall: b.Recall, Latency: span(b.Latency), Interval: span(b.Interval), Location: b.Location,
	}
}

// stepJSON is one step of a script: a text or an object.
type stepJSON struct{ Behaviour }

func (st *stepJSON) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		b, err := ParseBehaviour(text)
		st.Behaviour = b
		return err
	}
	var b behaviourJSON
	if err := strictly(raw, &b); err != nil {
		return err
	}
	st.Behaviour = b.behaviour()
	return nil
}

type messageJSON struct {
	Provider         string     `json:"provider"`
	Account          string     `json:"account"`
	ID               string     `json:"id"`
	SentAt           time.Time  `json:"sent_at"`
	From             string     `json:"from"`
	To               string     `json:"to"`
	Recalled         bool       `json:"recalled"`
	NeedsOfflinePush bool       `json:"needs_offline_push"`
	Script           []stepJSON `json:"script"`
}

// strictly decodes one JSON value, without names that are not known.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// ParseMessage reads a message as the control API takes it, one JSON object.
func ParseMessage(line []byte) (Message, error) {
	var in messageJSON
	if err := strictly(line, &in); err != nil {
		return Message{}, err
	}
	m := Message{
		Provider: in.Provider, Account: in.Account, ID: in.ID, SentAt: in.SentAt, From: in.From, To: in.To,
		Recalled: in.Recalled, NeedsOfflinePush: in.NeedsOfflinePush,
	}
	for _, step := range in.Script {
		m.Script = append(m.Script, step.Behaviour)
	}
	return m, m.Check()
}

// Load announces the messages of an NDJSON stream, each as soon as it is read, and returns how many there were. The
// error names the line.
func (s *Simulator) Load(r io.Reader) (int, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxBody)
	n := 0
	for line := 1; lines.Scan(); line++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		m, err := ParseMessage(lines.Bytes())
		if err == nil {
			err = s.Know(m)
		}
		if err != nil {
			return n, fmt.Errorf("line %d: %w", line, err)
		}
		n++
	}
	return n, lines.Err()
}

func (s *Simulator) postMessages(w http.ResponseWriter, r *http.Request) {
	n, err := s.Load(r.Body)
	if err != nil {
		refuse(w, fmt.Errorf("%w; messages known before it: %d", err, n))
		return
	}
	reply(w, map[string]int{"messages": n})
}

type faultJSON struct {
	Fault     int    `json:"fault,omitempty"` // its number; ignored on input
	Provider  string `json:"provider,omitempty"`
	Account   string `json:"account,omitempty"`
	MessageID string `json:"id,omitempty"`
	Times     int    `json:"times,omitempty"`
	behaviourJSON
}

func (s *Simulator) activeFaults() []faultJSON {
	list := []faultJSON{}
	for _, f := range s.faults.all() {
		list = append(list, faultJSON{
			Fault: f.id, Provider: f.Provider, Account: f.Account, MessageID: f.MessageID, Times: f.Times, behaviourJSON: f.json(),
		})
	}
	return list
}

func (s *Simulator) postFault(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	var in faultJSON
	if err := strictly(raw, &in); err != nil {
		refuse(w, err)
		return
	}
	id, err := s.Fault(Fault{
		Provider: in.Provider, Account: in.Account, MessageID: in.MessageID, Times: in.Times, Behaviour: in.behaviour(),
	})
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, map[string]int{"fault": id})
}

func (s *Simulator) deleteFaults(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("fault")
	if text == "" {
		s.ClearFaults()
		done204(w)
		return
	}
	id, err := strconv.Atoi(text)
	if err != nil || !s.RemoveFault(id) {
		http.Error(w, fmt.Sprintf("fault %q: there is none of that number, or it is used up", cut(text, 40)), http.StatusNotFound)
		return
	}
	done204(w)
}

func (s *Simulator) postAccount(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	var a Account
	if err := strictly(raw, &a); err != nil {
		refuse(w, err)
		return
	}
	if err := s.SetAccount(a); err != nil {
		refuse(w, err)
		return
	}
	done204(w)
}

func (s *Simulator) postClock(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	var in struct {
		Advance span `json:"advance"`
	}
	if err := strictly(raw, &in); err != nil {
		refuse(w, err)
		return
	}
	if in.Advance < 0 {
		refuse(w, errors.New("advance: must not be negative; limits cannot be counted backwards"))
		return
	}
	s.Advance(time.Duration(in.Advance))
	reply(w, map[string]time.Time{"clock": s.Now()})
}
