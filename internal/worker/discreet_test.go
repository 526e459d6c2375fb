package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func TestDiscreet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		r          tasks.Recall
		text, want string
	}{
		{"both users", tasks.Recall{From: "alice.smith", To: "bob"}, "rejected (90003): To_Account bob of alice.smith is unknown", "rejected (90003): To_Account [to] of [from] is unknown"},
		{"a short id is no part of a word", tasks.Recall{From: "a", To: "42"}, "rejected (90042): a bad account 42, ask again", "rejected (90042): [from] bad account [to], ask again"},
		{"next to ideographs", tasks.Recall{From: "bob", To: "张三"}, "用户bob给张三不存在", "用户[from]给[to]不存在"},
		{"a long id anywhere", tasks.Recall{From: "u-10001"}, "no such uid_u-10001x", "no such uid_[from]x"},
		{"one within the other", tasks.Recall{From: "bob", To: "bob@example.com"}, "no bob@example.com for bob", "no [to] for [from]"},
		{"as JSON and as a form", tasks.Recall{OfflinePushTitle: `say "no"`, From: "a b&c"}, `cannot read {"Title":"say \"no\""} of fromUserId=a+b%26c`, `cannot read {"Title":"[text]"} of fromUserId=[from]`},
		{"over two lines", tasks.Recall{OfflinePushDesc: "one\ntwo"}, "bad text one two", "bad text [text]"},
		{"cut off", tasks.Recall{To: "alice.smith"}, "no such account alice.s…", "no such account [to]…"},
		{"cut off too early to tell", tasks.Recall{To: "alice.smith"}, "no such account al…", "no such account al…"},
		{"nothing of it", tasks.Recall{From: "alice.smith"}, "unavailable (HTTP 503): away", "unavailable (HTTP 503): away"},
		{"a recall that says nothing", tasks.Recall{}, "text", "text"},
	} {
		if got := discreet(c.r, c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whatever a vendor quotes of users and texts, the log, asynq's page and the lane's hold do not show it. The outcome does.
func TestUsersAndTextsStayOutOfLogAndPage(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMChat, nil)
	says := func(kind providers.Kind, code string) *providers.Fault {
		return &providers.Fault{Kind: kind, Code: code, Message: "user alice and user bob are wrong"}
	}
	b.vendor.answers("1_1_1", says(providers.Invalid, "90003"))
	b.vendor.answers("2_1_1", says(providers.Unavailable, "91000"), says(providers.Invalid, "90003"))
	b.vendor.answers("3_1_1", says(providers.Credentials, "70003"))
	first := b.enqueue("1_1_1", time.Now())
	b.enqueue("2_1_1", time.Now())
	b.work()
	entries := b.outcomes(2)
	for id, e := range entries {
		if want := "user alice and user bob are wrong"; !strings.Contains(e["error"].(string), want) {
			t.Errorf("%s: the outcome does not keep the vendor's words: %v", id, e)
		}
	}
	if info := b.info(first, asynq.TaskStateArchived); !strings.Contains(info.LastErr, "user [from] and user [to] are wrong") {
		t.Errorf("the page shows %q", info.LastErr)
	}
	held := b.enqueue("3_1_1", time.Now())
	b.until(func() bool { return strings.Contains(b.logged(), `"lane closed"`) })
	info := b.info(held, asynq.TaskStatePending)
	state := b.rdb.HGetAll(t.Context(), "recallq:lane:{timchat:app}").Val()
	for where, text := range map[string]string{"the log": b.logged(), "the task": info.LastErr, "the lane's hold": state["hold:f1"]} {
		if strings.Contains(text, "alice") || strings.Contains(text, "bob") {
			t.Errorf("%s shows users: %s", where, text)
		}
	}
	// A person can still run it again.
	if err := asynq.NewInspectorFromRedisClient(b.rdb).RunTask(first.Queue, first.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.rdb.HDel(t.Context(), "recallq:lane:{timchat:app}", "hold:f1").Err(); err != nil {
		t.Fatal(err)
	}
	b.until(func() bool { return b.vendor.count("1_1_1") == 2 })
}
