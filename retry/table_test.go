package retry

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
)

var update = flag.Bool("update", false, "write testdata/decisions.txt anew")

// row is one case of the decision table: an answer and a situation, each in words and as a Call.
type row struct {
	section string // starts a new part of the table
	answer  string
	fault   *providers.Fault
	when    string
	set     func(*Call)
	stopped Interruption
}

// ordinary is what a row says nothing about: the first call, 12 h before the window closes, jitter in the middle.
func ordinary() Call {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	return Call{Now: now, RecallBy: now.Add(12 * time.Hour), VendorWindow: now.Add(12 * time.Hour), Jitter: 0.5}
}

func left(d time.Duration) func(*Call) { return func(c *Call) { c.RecallBy = c.Now.Add(d) } }

func attempts(n int) func(*Call) { return func(c *Call) { c.Attempts = n } }

func refusal(n int, others bool) func(*Call) {
	return func(c *Call) { c.Refusals, c.OthersSucceed = n, others }
}

func probe(c *Call) { c.Probe = true }

func all(sets ...func(*Call)) func(*Call) {
	return func(c *Call) {
		for _, set := range sets {
			set(c)
		}
	}
}

func fault(kind providers.Kind, code, message string) *providers.Fault {
	return &providers.Fault{Kind: kind, Code: code, Message: message}
}

func after(f *providers.Fault, d time.Duration) *providers.Fault {
	f.RetryAfter = d
	return f
}

func ambiguous() *providers.Fault {
	f := fault(providers.NotFound, "21003", "msg_id not exist")
	f.Ambiguous = true
	return f
}

func renewed() *providers.Fault {
	f := fault(providers.Credentials, "70001", "UserSig expired")
	f.Renewed = true
	return f
}

func wholeAccount() *providers.Fault {
	f := fault(providers.Throttled, "60011", "too many requests")
	f.WholeAccount = true
	return f
}

func rows() []row {
	internal := func() *providers.Fault { return fault(providers.Unavailable, "91000", "internal error") }
	busy := func() *providers.Fault { return fault(providers.Unavailable, "HTTP 503", "busy") }
	rate := func() *providers.Fault { return fault(providers.Throttled, "HTTP 429", "slow down") }
	bad := func() *providers.Fault { return fault(providers.Credentials, "90009", "no admin rights") }
	lock := func() *providers.Fault { return fault(providers.Credentials, "70050", "locked") }
	wrong := func() *providers.Fault { return fault(providers.Misconfigured, "HTTP 404", "not the vendor's answer") }
	return []row{
		{section: "The vendor's last word: never retried", answer: "accepted"},
		{answer: "accepted", when: "0s past the window", set: left(0)},
		{answer: "90050 already recalled", fault: fault(providers.AlreadyRecalled, "90050", "repeated recall")},
		{answer: "90052 window closed", fault: fault(providers.WindowClosed, "90052", "window of 24 h exceeded")},
		{answer: "20022 not found", fault: fault(providers.NotFound, "20022", "message does not exist")},
		{answer: "90054 invalid", fault: fault(providers.Invalid, "90054", "MsgKey invalid")},
		{answer: "90054 invalid", when: "probe of a held lane", fault: fault(providers.Invalid, "90054", "MsgKey invalid"), set: probe},
		{answer: "21003, which may mean three things", fault: ambiguous()},
		{answer: "21003", when: "an earlier call may have gone through", fault: ambiguous(), set: func(c *Call) { c.Earlier = true }},
		{answer: "21003", when: "the vendor's window has closed", fault: ambiguous(), set: func(c *Call) { c.VendorWindow = c.Now }},
		{answer: "21003", when: "the vendor's window is not known", fault: ambiguous(), set: func(c *Call) { c.VendorWindow = time.Time{} }},
		{answer: "21003", when: "recall_by has passed", fault: ambiguous(), set: left(0)},

		{section: "Unavailable: retried until the window closes", answer: "91000", fault: internal()},
		{answer: "91000", when: "2nd attempt", fault: internal(), set: attempts(1)},
		{answer: "91000", when: "3rd attempt", fault: internal(), set: attempts(2)},
		{answer: "91000", when: "6th attempt", fault: internal(), set: attempts(5)},
		{answer: "91000", when: "9th attempt", fault: internal(), set: attempts(8)},
		{answer: "91000", when: "1000th attempt", fault: internal(), set: attempts(999)},
		{answer: "91000", when: "9th attempt, jitter 0", fault: internal(), set: all(attempts(8), func(c *Call) { c.Jitter = 0 })},
		{answer: "91000", when: "9th attempt, 3m left: last call", fault: internal(), set: all(attempts(8), left(3*time.Minute))},
		{answer: "91000", when: "9th attempt, 5.5s left: last call", fault: internal(), set: all(attempts(8), left(5500*time.Millisecond))},
		{answer: "91000", when: "9th attempt, 5s left", fault: internal(), set: all(attempts(8), left(5*time.Second))},
		{answer: "91000", when: "1st attempt, 4s left", fault: internal(), set: left(4 * time.Second)},
		{answer: "91000", when: "1st attempt, 1s left", fault: internal(), set: left(time.Second)},
		{answer: "91000", when: "0s past the window", fault: internal(), set: left(0)},
		{answer: "503, Retry-After 2m", fault: after(busy(), 2*time.Minute)},
		{answer: "503, Retry-After 1s", when: "9th attempt", fault: after(busy(), time.Second), set: attempts(8)},
		{answer: "503, Retry-After 2m", when: "2m1s left: last call", fault: after(busy(), 2*time.Minute), set: left(121 * time.Second)},
		{answer: "503, Retry-After 2m", when: "2m left", fault: after(busy(), 2*time.Minute), set: left(2 * time.Minute)},
		{answer: "91000", when: "probe of a held lane", fault: internal(), set: probe},
		{answer: "91000", when: "probe, 0s past the window", fault: internal(), set: all(probe, left(0))},

		{section: "Throttled: the lane waits, the recall is not blamed", answer: "429, Retry-After 30s", fault: after(rate(), 30*time.Second)},
		{answer: "429, Retry-After 3s", fault: after(rate(), 3*time.Second)},
		{answer: "429", fault: rate()},
		{answer: "90051, TIMPush's 1 recall a second", fault: fault(providers.Throttled, "90051", "too frequent")},
		{answer: "60011, all of the SDKAppID", fault: wholeAccount()},
		{answer: "1008, RongCloud's 2 an hour", fault: fault(providers.Throttled, "1008", "frequency exceeded")},
		{answer: "429, Retry-After 30s", when: "30s left", fault: after(rate(), 30*time.Second), set: left(30 * time.Second)},
		{answer: "429, Retry-After 300000h", when: "a vendor's slip", fault: after(rate(), 300_000*time.Hour)},
		{answer: "429", when: "0s past the window", fault: rate(), set: left(0)},
		{answer: "429", when: "probe of a held lane", fault: rate(), set: probe},

		{section: "Credentials and misconfigured: the lane is held", answer: "90009 credentials", fault: bad(), set: refusal(1, false)},
		{answer: "90009", when: "20th refusal, nobody succeeds", fault: bad(), set: refusal(20, false)},
		{answer: "90009", when: "1st refusal, others succeed", fault: bad(), set: refusal(1, true)},
		{answer: "90009", when: "2nd refusal, others succeed", fault: bad(), set: refusal(2, true)},
		{answer: "90009", when: "3rd refusal, others succeed", fault: bad(), set: refusal(3, true)},
		{answer: "90009", when: "2nd, others succeed, 20s left: last call", fault: bad(), set: all(refusal(2, true), left(20*time.Second))},
		{answer: "90009", when: "3rd, others succeeded, but now a probe", fault: bad(), set: all(refusal(3, true), probe)},
		{answer: "90009", when: "10s left", fault: bad(), set: all(refusal(1, false), left(10*time.Second))},
		{answer: "90009", when: "0s past the window", fault: bad(), set: all(refusal(1, false), left(0))},
		{answer: "401, Retry-After 10m", fault: after(fault(providers.Credentials, "HTTP 401", "no"), 10*time.Minute), set: refusal(1, false)},
		{answer: "70001, signature renewed", fault: renewed(), set: refusal(1, false)},
		{answer: "70001, signature renewed", when: "once more", fault: renewed(), set: all(refusal(2, false), func(c *Call) { c.Renewal = true })},
		{answer: "70001, signature renewed", when: "0s past the window", fault: renewed(), set: all(refusal(1, false), left(0))},
		{answer: "70050 signature lock", fault: lock(), set: refusal(1, false)},
		{answer: "70050", when: "3rd refusal, others succeed", fault: lock(), set: refusal(3, true)},
		{answer: "404 without the vendor's envelope", fault: wrong(), set: refusal(1, false)},
		{answer: "404", when: "3rd refusal, others succeed", fault: wrong(), set: refusal(3, true)},

		{section: "Interrupted: not the vendor's doing", answer: "none: the worker died", stopped: WorkerDied},
		{answer: "none: the worker stops", stopped: Shutdown},
		{answer: "none: the queue took it back", stopped: ContextDone},
		{answer: "none: recallq panicked", stopped: Panic},
		{answer: "none: recallq panicked", when: "9th attempt, 1m left: last call", stopped: Panic, set: all(attempts(8), left(time.Minute))},
		{answer: "none: recallq panicked", when: "1s left", stopped: Panic, set: left(time.Second)},
	}
}

func (r row) decide() Decision {
	c := ordinary()
	c.Fault = r.fault
	if r.set != nil {
		r.set(&c)
	}
	if r.stopped != 0 {
		return Interrupted(r.stopped, c)
	}
	return Decide(c)
}

func then(d Decision) string {
	switch d.Action {
	case Finish:
		return d.Outcome
	case Again:
		return "again at once"
	}
	text := d.Action.String()
	if d.Delay > 0 {
		text += " after " + d.Delay.String()
	}
	if d.InPlace {
		text += ", in place"
	}
	return text
}

func laneWords(l Lane) string {
	if l.Works {
		return "works"
	}
	if l.Close == Open {
		return "goes on"
	}
	var b strings.Builder
	if l.After > 0 {
		fmt.Fprintf(&b, "after %d in a row: ", l.After)
	}
	b.WriteString(l.Close.String())
	if l.HoldReason != "" {
		b.WriteString(" (" + string(l.HoldReason) + ")")
	}
	if l.NextSlot {
		b.WriteString(" until the next slot, else")
	}
	b.WriteString(" " + l.Wait.First.String())
	if l.Wait.Max > l.Wait.First {
		b.WriteString(", doubling up to " + l.Wait.Max.String())
	}
	if l.WholeAccount {
		b.WriteString(", all lanes of the account")
	}
	return b.String()
}

const tableHead = `# What a call to a vendor leads to. This is the policy: each row is a case that the code was run on.
# Unless a row says otherwise: first attempt, 12h left of the window, jitter 0.5 (the middle of its range), no probe.
# "works" ends a hold. "counts" tells whether the call is an attempt. Written by: go test ./retry -update
`

func table() string {
	columns := [][]string{}
	var b strings.Builder
	b.WriteString(tableHead)
	all := rows()
	for _, r := range all {
		d := r.decide()
		counts := "no"
		if d.Attempt {
			counts = "counts"
		}
		columns = append(columns, []string{r.answer, r.when, then(d), laneWords(d.Lane), counts, d.Reason})
	}
	head := []string{"answer", "situation", "the recall", "the lane", "counts", "reason"}
	width := make([]int, len(head))
	for _, cells := range append([][]string{head}, columns...) {
		for i, cell := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	write := func(cells []string) {
		var l strings.Builder
		for i, cell := range cells {
			l.WriteString(cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			if i < len(cells)-1 {
				l.WriteString(" | ")
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	for i, cells := range columns {
		if all[i].section != "" {
			b.WriteString("\n## " + all[i].section + "\n\n")
			write(head)
		}
		write(cells)
	}
	return b.String()
}

func TestDecisionTable(t *testing.T) {
	path := filepath.Join("testdata", "decisions.txt")
	got := table()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the policy has changed; if that is meant, run with -update and read the table (-want +got):\n%s", diff)
	}
}
