package simulator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Share is a share of the messages that were never announced, and what becomes of them. See [Options].Mix.
type Share struct {
	Percent float64
	// State is what the vendor finds. A vendor that documents no such state answers as usual.
	State State
	// Script is what the first calls run into, as in [Message].Script.
	Script []Behaviour
}

// State is what a vendor finds when it looks a message up.
type State string

// The states of a share.
const (
	StateSent    State = ""        // sent, and still to be recalled
	StateUnknown State = "unknown" // never heard of
	StateAlready State = "already" // recalled before
	StateExpired State = "expired" // too old
)

// ParseMix reads shares such as "2% unknown, 1% already, 3% internal*2": two of a hundred ids are unknown, one was recalled
// before, and three answer twice with the vendor's internal error and then as usual. After the share stands
//
//   - a state: unknown, already, expired;
//   - or what the first N calls run into ("*N", else 1): a vendor's code (91000), a word that each vendor has a code of its own
//     for (internal, throttled, credentials, invalid), an HTTP status (HTTP 503), or a mode of [Behaviour] (hang, reset_after, cut,
//     garbage, html, drip, huge, redirect), or lost: carried out, but the answer is lost.
func ParseMix(text string) ([]Share, error) {
	var list []Share
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		share, err := parseShare(part)
		if err != nil {
			return nil, fmt.Errorf("mix %q: %w", cut(part, 60), err)
		}
		list = append(list, share)
	}
	return list, checkMix(list)
}

func parseShare(text string) (Share, error) {
	number, what, ok := strings.Cut(text, "%")
	if !ok {
		return Share{}, errors.New("write a share like 2% unknown or 3% internal*2")
	}
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil {
		return Share{}, fmt.Errorf("%q is no number", number)
	}
	what = strings.TrimLeft(strings.TrimSpace(what), "= ")
	switch state := State(what); state {
	case StateUnknown, StateAlready, StateExpired:
		return Share{Percent: percent, State: state}, nil
	}
	what, times, repeated := strings.Cut(what, "*")
	n := 1
	if repeated {
		if n, err = strconv.Atoi(times); err != nil || n < 1 || n > 1000 {
			return Share{}, fmt.Errorf("%q is no number of calls from 1 to 1000", times)
		}
	}
	b, err := ParseBehaviour(what)
	if err != nil {
		return Share{}, err
	}
	share := Share{Percent: percent}
	for range n {
		share.Script = append(share.Script, b)
	}
	return share, nil
}

func checkMix(list []Share) error {
	sum := 0.0
	for _, s := range list {
		if !(s.Percent > 0 && s.Percent <= 100) {
			return fmt.Errorf("mix: a share of %v%% is not between 0 and 100", s.Percent)
		}
		switch s.State {
		case StateSent, StateUnknown, StateAlready, StateExpired:
		default:
			return fmt.Errorf("mix: state %q: give unknown, already or expired", s.State)
		}
		for _, b := range s.Script {
			if err := b.Check(); err != nil {
				return fmt.Errorf("mix: %w", err)
			}
		}
		sum += s.Percent
	}
	if sum > 100+1e-9 {
		return fmt.Errorf("mix: the shares add up to %v%%, which is more than 100", sum)
	}
	return nil
}

// pick returns the share that a message falls into, if any.
func pick(list []Share, k key) (Share, bool) {
	if len(list) == 0 {
		return Share{}, false
	}
	at := float64(binary.BigEndian.Uint64(k[:8])>>11) / (1 << 53) * 100
	for _, s := range list {
		if at < s.Percent {
			return s, true
		}
		at -= s.Percent
	}
	return Share{}, false
}
