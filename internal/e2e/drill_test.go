package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// Ten thousand recalls with mixed outcomes, two workers, one of them killed in the middle: the watch ends, the report adds up,
// and what it says of each recall is what the vendor knows of it.
func TestTenThousandRecallsAgreeWithTheVendorsOwnLedger(t *testing.T) {
	long(t)
	t.Parallel()
	mix, err := simulator.ParseMix("3% unknown, 2% already, 3% internal*2, 1% lost, 1% invalid")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true, Mix: mix, Latency: 20 * time.Millisecond},
		lane{"timchat", "chat", "limits: [], concurrency: 16"})
	const n = 10_000
	file := filepath.Join(t.TempDir(), "export.csv")
	var rows strings.Builder
	rows.WriteString("MsgKey,From_Account,To_Account\n")
	for i := range n {
		r := chat(i)
		fmt.Fprintf(&rows, "%s,%s,%s\n", r.MessageID, r.From, r.To)
	}
	if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	first := s.worker()
	s.worker()
	enqueue := s.start("enqueue", "--redis", s.redis.URL, "--file", file, "--provider", "timchat", "--batch", "drill", "--confirm")
	e := s.follow()
	s.await(e, n/4, time.Minute)
	first.signal(syscall.SIGKILL)
	if code := enqueue.exit(time.Minute); code != 0 {
		t.Fatalf("enqueue left with %d:\n%s", code, tail(enqueue.output()))
	}
	watch := s.start("enqueue", "watch", "drill", "--redis", s.redis.URL)
	if code := watch.exit(5 * time.Minute); code != 4 {
		t.Errorf("watch left with %d, want 4: some recalls did not succeed", code)
	}
	s.await(e, n, 10*time.Second)

	told := map[string]int{}
	recalled, last := map[string]bool{}, map[string]string{}
	for c := range s.sim.Calls() {
		recalled[c.MessageID] = recalled[c.MessageID] || c.Recalled
		last[c.MessageID] = c.Code
	}
	for i := range n {
		r := chat(i)
		outcome := e.outcomes[r.ID()]
		told[outcome]++
		want := map[string]string{"20022": tasks.NotFound, "20023": tasks.AlreadyRecalled, "0": tasks.Recalled}[last[r.MessageID]]
		if want == "" {
			want = tasks.Rejected
		}
		if recalled[r.MessageID] && !tasks.Succeeded(outcome) || outcome != want {
			t.Errorf("%s ended as %s; the vendor last said %s, taken back: %v", r.MessageID, outcome, last[r.MessageID], recalled[r.MessageID])
		}
	}
	report := s.start("enqueue", "report", "drill", "--redis", s.redis.URL, "-o", "json")
	if code := report.exit(20 * time.Second); code != 0 {
		t.Fatalf("report left with %d:\n%s", code, report.output())
	}
	var sums map[string]any
	if err := json.Unmarshal([]byte(report.output()), &sums); err != nil {
		t.Fatalf("%v:\n%s", err, report.output())
	}
	for _, outcome := range tasks.Outcomes() {
		if got := fmt.Sprint(sums[outcome]); got != fmt.Sprint(told[outcome]) {
			t.Errorf("the report has %s %s, the stream %d", got, outcome, told[outcome])
		}
	}
	if fmt.Sprint(sums["total"]) != fmt.Sprint(n) || fmt.Sprint(sums["open"]) != "0" {
		t.Errorf("total %v, open %v", sums["total"], sums["open"])
	}
	t.Logf("%v", told)
}
