package simulator

import (
	"iter"
	"slices"
	"sync"
	"time"
)

// Call is one request that a vendor got, in the order of arrival.
type Call struct {
	Seq   int           // from 1, in the order of arrival
	Time  time.Time     // arrival, by the machine's clock
	Clock time.Time     // arrival, by the vendors' clock
	Took  time.Duration // until the last byte of the answer was handed to the connection, or the call was broken off

	Provider  string // empty if the path is no vendor's
	Account   string // as claimed: it may be wrong
	MessageID string
	From, To  string
	Details

	Status    int    // HTTP status; zero if there was none
	Code      string // the vendor's code; empty where there is none
	Recalled  bool   // this call took the message back (at RongCloud: again)
	Violation string // the limit that this call broke, such as "1 per 1s"
	Fault     string // what went wrong on request, such as "code 91000" or "hang"
	Open      bool   // not answered yet
}

// Details are what else was read from a request. Numbers and booleans are as they were sent.
type Details struct {
	Title          string `json:"offline_push_title,omitempty"`
	Desc           string `json:"offline_push_desc,omitempty"`
	HasOfflinePush bool   `json:"has_offline_push,omitempty"`

	SentTime             string `json:"sent_time,omitempty"`
	IsAdmin              string `json:"is_admin,omitempty"`
	IsDelete             string `json:"is_delete,omitempty"`
	DisableUpdateLastMsg string `json:"disable_update_last_msg,omitempty"`
	Extra                string `json:"extra,omitempty"`
	RequestID            string `json:"request_id,omitempty"` // X-Request-ID

	Path string `json:"path,omitempty"` // of a call to no vendor's path
}

// ledger keeps the calls. A million of them take about 100 MB: texts lie end to end in the chunks, words that repeat are
// kept once, and nothing is ever moved.
type ledger struct {
	mu      sync.Mutex
	current *book
}

// book is what a ledger holds between two resets. Calls that were open at a reset go on writing to theirs.
type book struct {
	mu      sync.Mutex
	chunks  []*chunk
	count   int
	words   map[string]uint16
	list    []string
	details map[Details]*Details
}

const chunkSize = 1024

type chunk struct {
	records [chunkSize]record
	text    []byte
}

type record struct {
	wall, clock                              int64 // Unix nanoseconds
	details                                  *Details
	text, took                               uint32 // offset in the chunk's text; microseconds
	id, from, to                             uint16 // lengths
	provider, account, code, violation, hurt uint16 // words
	status                                   uint16
	told, recalled, open                     bool
}

func newLedger() *ledger { return &ledger{current: newBook()} }

func newBook() *book {
	return &book{words: map[string]uint16{"": 0}, list: []string{""}, details: map[Details]*Details{}}
}

func (l *ledger) book() *book {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = newBook()
}

// open enters a call that has just arrived and returns its place.
func (b *book) open(c Call) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count%chunkSize == 0 {
		b.chunks = append(b.chunks, &chunk{})
	}
	index := b.count
	b.count++
	r := &b.chunks[index/chunkSize].records[index%chunkSize]
	*r = record{wall: c.Time.UnixNano(), clock: c.Clock.UnixNano(), provider: b.word(c.Provider), open: true}
	return index
}

// put writes down what is known of a call by now. What was asked is written the first time only: it does not change.
func (b *book) put(index int, c Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := b.chunks[index/chunkSize]
	r := &ch.records[index%chunkSize]
	if !r.told {
		r.told = true
		r.account, r.details = b.word(c.Account), b.detail(c.Details)
		r.text = uint32(len(ch.text))
		r.id, r.from, r.to = ch.add(c.MessageID), ch.add(c.From), ch.add(c.To)
	}
	r.code, r.violation, r.hurt = b.word(c.Code), b.word(c.Violation), b.word(c.Fault)
	r.status, r.recalled, r.open = uint16(c.Status), c.Recalled, c.Open
	r.took = uint32(min(c.Took.Microseconds(), 1<<32-1))
}

// longest is how much of an id is kept: the vendors' own are far shorter.
const longest = 512

func (c *chunk) add(text string) uint16 {
	text = cut(text, longest)
	c.text = append(c.text, text...)
	return uint16(len(text))
}

// mostWords and mostDetails bound what is kept once: a caller that makes up a new account with each call must not make
// the ledger grow without end, or run out of numbers.
const (
	mostWords   = 1 << 15
	mostDetails = 1 << 12
)

func (b *book) word(text string) uint16 {
	if n, ok := b.words[text]; ok {
		return n
	}
	if len(b.list) >= mostWords {
		text = "(too many to keep)"
		if n, ok := b.words[text]; ok {
			return n
		}
	}
	n := uint16(len(b.list))
	b.words[text], b.list = n, append(b.list, text)
	return n
}

func (b *book) detail(d Details) *Details {
	if d == (Details{}) {
		return nil
	}
	if have, ok := b.details[d]; ok {
		return have
	}
	if len(b.details) < mostDetails {
		b.details[d] = &d
	}
	return &d
}

// read copies up to len(into) calls from a place on.
func (b *book) read(from int, into []Call) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for ; n < len(into) && from+n < b.count; n++ {
		into[n] = b.call(from + n)
	}
	return n
}

func (b *book) call(index int) Call {
	ch := b.chunks[index/chunkSize]
	r := &ch.records[index%chunkSize]
	text := string(ch.text[r.text : int(r.text)+int(r.id)+int(r.from)+int(r.to)])
	c := Call{
		Seq: index + 1, Time: time.Unix(0, r.wall).UTC(), Clock: time.Unix(0, r.clock).UTC(),
		Took:     time.Duration(r.took) * time.Microsecond,
		Provider: b.list[r.provider], Account: b.list[r.account],
		MessageID: text[:r.id], From: text[r.id : r.id+r.from], To: text[r.id+r.from:],
		Status: int(r.status), Code: b.list[r.code], Recalled: r.recalled,
		Violation: b.list[r.violation], Fault: b.list[r.hurt], Open: r.open,
	}
	if r.details != nil {
		c.Details = *r.details
	}
	return c
}

// Calls goes through the calls since the last reset, in the order of arrival. Calls that arrive meanwhile may be left out.
// Nothing is blocked while it goes on, and memory does not grow with the number of calls.
func (s *Simulator) Calls() iter.Seq[Call] {
	b := s.ledger.book()
	return func(yield func(Call) bool) {
		part := make([]Call, 256)
		for from := 0; ; {
			n := b.read(from, part)
			if n == 0 {
				return
			}
			for _, c := range part[:n] {
				if !yield(c) {
					return
				}
			}
			from += n
		}
	}
}

// Ledger returns all calls since the last reset, in the order of arrival. [Simulator.Calls] does so without copying them
// all.
func (s *Simulator) Ledger() []Call { return slices.Collect(s.Calls()) }

// CallsFor returns the calls for one message. For timchat they are those of all its recipients.
func (s *Simulator) CallsFor(provider, messageID string) []Call {
	var list []Call
	for c := range s.Calls() {
		if c.Provider == provider && c.MessageID == messageID {
			list = append(list, c)
		}
	}
	return list
}
