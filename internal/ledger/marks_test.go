package ledger

import (
	"testing"
	"time"
)

func TestAMovedRecallTakesItsMarksAlongUntilSomethingNewerIsOnRecord(t *testing.T) {
	t.Parallel()
	headers := map[string]string{"rq_attempts": "3", "rq_maybe": "1", "rq_refusals": "2", "rq_refused_at": "1700000000000"}
	got := State{}.WithMarks(headers)
	want := State{Attempts: 3, Maybe: true, Refusals: 2, RefusedAt: time.UnixMilli(1700000000000)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	newer := State{Attempts: 4}
	if got := newer.WithMarks(headers); got != newer {
		t.Errorf("got %+v, want %+v", got, newer)
	}
	if got := (State{}).WithMarks(map[string]string{"rq_attempts": "many", "traceparent": "x"}); got != (State{}) {
		t.Errorf("got %+v from headers that are not marks", got)
	}
}
