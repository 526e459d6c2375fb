package simulator

import (
	"net"
	"net/http"
	"strconv"
	"time"
)

// answer is what a vendor says.
type answer struct {
	status   int
	code     string // the vendor's, for the ledger
	kind     string // Content-Type
	body     string
	location string
	allow    string
}

// plain is a page that is in no vendor's form.
func plain(status int, text string) answer {
	return answer{status: status, kind: "text/plain; charset=utf-8", body: text + "\n"}
}

// deliver sends an answer, in the way that b says, and completes the ledger.
func (s *Simulator) deliver(w http.ResponseWriter, r *http.Request, c *call, b Behaviour, a answer) {
	defer s.settle(c)
	c.book.put(c.index, c.Call) // what was asked can be seen while the call hangs
	if !s.wait(r, s.opt.Latency+b.Latency) {
		return
	}
	switch b.Mode {
	case ResetBefore, ResetAfter:
		reset(w)
		return
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.closed:
		}
		panic(http.ErrAbortHandler)
	}
	c.Status, c.Code = a.status, a.code
	s.head(w, b, a)
	switch b.Mode {
	case Cut:
		_, _ = w.Write([]byte(a.body[:len(a.body)/2]))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case Drip:
		s.drip(w, r, b, a)
	default:
		_, _ = w.Write([]byte(a.body))
	}
}

func (s *Simulator) head(w http.ResponseWriter, b Behaviour, a answer) {
	h := w.Header()
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", a.kind)
	set("Location", a.location)
	set("Allow", a.allow)
	set("Retry-After", b.RetryAfter)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
}

// defaultInterval makes the shortest answer of the five take half a second.
const defaultInterval = 50 * time.Millisecond

func (s *Simulator) drip(w http.ResponseWriter, r *http.Request, b Behaviour, a answer) {
	interval := b.Interval
	if interval == 0 {
		interval = defaultInterval
	}
	control := http.NewResponseController(w)
	for i := range len(a.body) {
		if !s.wait(r, interval) {
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write([]byte{a.body[i]}); err != nil {
			return
		}
		_ = control.Flush()
	}
}

// wait waits, and reports false if the caller gave up meanwhile. A closed simulator no longer waits.
func (s *Simulator) wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return true
	case <-r.Context().Done():
		return false
	}
}

// reset closes the connection so that the caller sees a reset, not an orderly end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
