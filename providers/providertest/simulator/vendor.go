package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// asked is what a call asks for, read as far as it can be.
type asked struct {
	account  string // as claimed
	id       string
	from, to string
	details  Details
	problem  string // the code for a request that cannot be read, or lacks something
	reason   string
	pedantic string // the code for something that no document allows, refused unless Options.Lenient
	why      string
}

// vendor is what tells one vendor's API from another's.
type vendor struct {
	name   string
	method string
	prefix string // the path; the message id follows if it ends in a slash
	window time.Duration
	// repeats is true where a message can be recalled again and again.
	repeats bool
	// words are the vendor's own codes for what all of them can say in some way.
	words map[string]string

	read         func(r *http.Request, segment string, body []byte) asked
	authenticate func(s *Simulator, r *http.Request, q asked) *answer
	success      func(q asked) answer
	// fail answers with a code; message replaces the text that goes with it.
	fail func(code, message string) answer
	// sentAt reads the send time from an id.
	sentAt func(id string) (time.Time, bool)
	// plausible reports whether an id that was never announced may be taken for one, which Options.KnowAll asks for.
	plausible func(id string) bool
	// wrongMethod answers a method that is not the API's.
	wrongMethod func() answer
}

// vendors are the five. Nothing changes them.
var vendors = map[string]*vendor{
	Jiguang:   jiguang(),
	EngageLab: engagelab(),
	TIMPush:   timpush(),
	TIMChat:   timchat(),
	RongCloud: rongcloud(),
}

// names is the order in which the five are shown.
var names = []string{Jiguang, EngageLab, TIMPush, TIMChat, RongCloud}

// vendorOf returns the vendor that a path belongs to, and the message id in it, still escaped. An id is one segment: a slash
// in it must have been escaped.
func vendorOf(path string) (*vendor, string) {
	for _, name := range names {
		v := vendors[name]
		if path == v.prefix && !strings.HasSuffix(v.prefix, "/") {
			return v, ""
		}
		id, ok := strings.CutPrefix(path, v.prefix)
		if ok && strings.HasSuffix(v.prefix, "/") && id != "" && !strings.Contains(id, "/") {
			return v, id
		}
	}
	return nil, ""
}

// day is the window of those vendors that have one.
const day = 24 * time.Hour

// outcome turns what was found into the vendor's answer.
func (v *vendor) outcome(found state, q asked) answer {
	switch found {
	case unknown:
		if v.words["unknown"] == "" {
			return v.success(q)
		}
		return v.fail(v.words["unknown"], "")
	case already:
		return v.fail(v.words["already"], "")
	case expired:
		return v.fail(v.words["expired"], "")
	case needsOfflinePush:
		return v.fail("90053", "")
	}
	return v.success(q)
}

// check refuses a request that is not as the documents want it.
func (v *vendor) check(q asked, lenient bool) *answer {
	code, reason := q.problem, q.reason
	if code == "" && !lenient {
		code, reason = q.pedantic, q.why
	}
	if code == "" {
		return nil
	}
	a := v.fail(code, reason)
	return &a
}

// sentAt returns when a message was sent: what its id says, else now. A time before 2015 or in the future is a coincidence.
func sentAt(v *vendor, id string, now time.Time) time.Time {
	t, ok := v.sentAt(id)
	if !ok || t.Year() < 2015 || t.After(now) {
		return now
	}
	return t
}

// quote writes a string as JSON, without escaping what need not be.
func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// only reports whether a request's query names are just the wanted ones, each once.
func only(r *http.Request, wanted ...string) bool {
	query := r.URL.Query()
	if len(query) != len(wanted) {
		return false
	}
	for _, name := range wanted {
		if len(query[name]) != 1 {
			return false
		}
	}
	return true
}
