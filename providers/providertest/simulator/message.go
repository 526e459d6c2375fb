package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Message is a message that was sent and can be recalled.
type Message struct {
	Provider string
	// Account is whose message it is; empty means any account's.
	Account string
	ID      string
	// SentAt is when it was sent. Zero means what the id says, else now.
	SentAt time.Time
	// From and To are who it was sent by and to. A timchat message with them is known between these two only; without them, and
	// at the other vendors, between all.
	From, To string
	// Recalled is true for a message that was taken back before.
	Recalled bool
	// NeedsOfflinePush is true for a TIMPush message that was pushed with OnlineOnlyFlag=0: a recall without OfflinePushInfo
	// answers 90053.
	NeedsOfflinePush bool
	// Script is what the first calls for this message run into, one step each. After that it answers as usual. A call that a
	// limit or a [Fault] decided uses up no step.
	Script []Behaviour
}

// Check says what is wrong with a message.
func (m Message) Check() error {
	if vendors[m.Provider] == nil {
		return fmt.Errorf("provider %q: give jiguang, engagelab, timpush, timchat or rongcloud", cut(m.Provider, 40))
	}
	if m.ID == "" {
		return fmt.Errorf("id of a message of %s: is empty", m.Provider)
	}
	for i, b := range m.Script {
		if err := b.Check(); err != nil {
			return fmt.Errorf("step %d of the script of message %q: %w", i+1, cut(m.ID, 80), err)
		}
	}
	return nil
}

// state is what a vendor finds when it looks a message up.
type state int

const (
	accepted state = iota
	unknown
	already
	expired
	needsOfflinePush
)

// key is a message's identity, hashed so that a million of them stay small.
type key [16]byte

func keyOf(parts ...string) key {
	h := sha256.New()
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var k key
	copy(k[:], h.Sum(nil))
	return k
}

// messages is the state machine: what was announced, and what calls have done since.
type messages struct {
	knowAll bool
	mix     []Share

	mu   sync.Mutex
	sent map[key]sent
	done map[key]done
}

// sent is an announced message. Its round tells it from the same message announced before, which starts afresh.
type sent struct {
	at               time.Time
	recalled         bool
	needsOfflinePush bool
	script           []Behaviour
	round            uint32
}

// done is what calls did to a message, of one recipient where a message has several.
type done struct {
	recalled bool
	steps    uint32 // of the script that were used up
}

func newMessages(knowAll bool, mix []Share) *messages {
	m := &messages{knowAll: knowAll, mix: mix}
	m.reset()
	return m
}

func (m *messages) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent, m.done = map[key]sent{}, map[key]done{}
}

func (m *messages) know(msg Message, now time.Time) {
	at := msg.SentAt
	if at.IsZero() {
		at = sentAt(vendors[msg.Provider], msg.ID, now)
	}
	if msg.Provider != TIMChat {
		msg.From, msg.To = "", ""
	}
	k := keyOf(msg.Provider, msg.Account, msg.ID, msg.From, msg.To)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[k] = sent{
		at: at, recalled: msg.Recalled, needsOfflinePush: msg.NeedsOfflinePush, script: msg.Script,
		round: m.sent[k].round + 1,
	}
}

// find returns an announced message.
func (m *messages) find(provider string, q asked) (sent, bool) {
	if len(m.sent) == 0 {
		return sent{}, false
	}
	for _, account := range []string{q.account, ""} {
		for _, pair := range [][2]string{{q.from, q.to}, {}} {
			if msg, ok := m.sent[keyOf(provider, account, q.id, pair[0], pair[1])]; ok {
				return msg, true
			}
		}
	}
	return sent{}, false
}

// look returns what the vendor knows of a message by itself: an announced one, or one that is made up. The other result is
// what calls did to it, and the key that this is kept under.
func (m *messages) look(v *vendor, q asked, now time.Time) (sent, done, key, bool) {
	msg, ok := m.find(v.name, q)
	if !ok {
		if !m.knowAll || !v.plausible(q.id) {
			return sent{}, done{}, key{}, false
		}
		msg, ok = m.invent(v, q, now)
	}
	k := keyOf(v.name, q.account, q.id, q.from, q.to, strconv.Itoa(int(msg.round)))
	return msg, m.done[k], k, ok
}

// invent makes up a message that was never announced, as the mix has it.
func (m *messages) invent(v *vendor, q asked, now time.Time) (sent, bool) {
	msg := sent{at: sentAt(v, q.id, now)}
	share, ok := pick(m.mix, keyOf(v.name, q.id, q.from, q.to))
	if !ok {
		return msg, true
	}
	switch share.State {
	case StateUnknown:
		return sent{}, false
	case StateAlready:
		msg.recalled = true
	case StateExpired:
		msg.at = now.Add(-v.window - time.Second)
	}
	msg.script = share.Script
	return msg, true
}

// script returns the step that a call for this message runs into, and uses it up.
func (m *messages) script(v *vendor, q asked, now time.Time) (Behaviour, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg, d, k, ok := m.look(v, q, now)
	if !ok || int(d.steps) >= len(msg.script) {
		return Behaviour{}, false
	}
	step := msg.script[d.steps]
	d.steps++
	m.done[k] = d
	return step, true
}

// recall takes a message back, if it can be.
func (m *messages) recall(v *vendor, q asked, now time.Time) state {
	m.mu.Lock()
	defer m.mu.Unlock()
	msg, d, k, ok := m.look(v, q, now)
	if !ok {
		return unknown
	}
	if (msg.recalled || d.recalled) && !v.repeats {
		return already
	}
	if v.window > 0 && now.Sub(msg.at) > v.window {
		return expired
	}
	if msg.needsOfflinePush && !q.details.HasOfflinePush {
		return needsOfflinePush
	}
	d.recalled = true
	m.done[k] = d
	return accepted
}

// count returns how many messages were announced, and how many calls have taken back.
func (m *messages) count() (announced, recalled int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.done {
		if d.recalled {
			recalled++
		}
	}
	return len(m.sent), recalled
}
