package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// Any language enqueues with one XADD; a bad row is answered on the stream of outcomes and keeps nobody waiting.
func TestARowInTheInboxIsCarriedOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"jiguang", "news", ""})
	s.worker()
	for _, row := range []string{
		`{"provider":"jiguang","message_id":"","sent_at":"2026-11-20T01:00:00Z"}`,
		fmt.Sprintf(`{"provider":"jiguang","msgid":%q}`, ums(1).MessageID),
	} {
		if err := s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "recallq:inbox", Values: []string{"row", row, "priority", "urgent"}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	outcomes := map[string]string{}
	s.until(10*time.Second, func() bool {
		entries, err := s.rdb.XRange(t.Context(), "recallq:outcomes", "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			outcomes[fmt.Sprint(e.Values["message_id"])] = fmt.Sprint(e.Values["outcome"])
		}
		return len(outcomes) == 2
	})
	if outcomes[""] != "refused" || outcomes[ums(1).MessageID] != tasks.Recalled {
		t.Errorf("outcomes %v", outcomes)
	}
	if n, err := s.rdb.XLen(t.Context(), "recallq:inbox").Result(); err != nil || n != 0 {
		t.Errorf("%d entries left in the inbox, %v", n, err)
	}
}
