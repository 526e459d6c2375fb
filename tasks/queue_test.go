package tasks_test

import (
	"strings"
	"testing"

	"github.com/recallq/recallq/tasks"
)

func TestQueueNames(t *testing.T) {
	t.Parallel()
	for queue, want := range map[string]struct {
		provider, app string
		priority      tasks.Priority
	}{
		"jiguang:news":        {"jiguang", "news", tasks.Urgent},
		"jiguang:news:bulk":   {"jiguang", "news", tasks.Bulk},
		"timchat:my-app_2":    {"timchat", "my-app_2", tasks.Urgent},
		"rongcloud:bulk-2":    {"rongcloud", "bulk-2", tasks.Urgent},
		"timpush:pauses:bulk": {"timpush", "pauses", tasks.Bulk},
	} {
		provider, app, priority, ok := tasks.ParseQueue(queue)
		if !ok || provider != want.provider || app != want.app || priority != want.priority {
			t.Errorf("%s: %s %s %s %v", queue, provider, app, priority, ok)
		}
		if got := tasks.Queue(want.provider, want.app, want.priority); got != queue {
			t.Errorf("%s: %s", queue, got)
		}
	}
	for _, queue := range []string{"", "default", "jiguang", "jiguang:", "jiguang:bulk", "smoke:news", "jiguang:news:bulk:bulk", "jiguang:News", ":news", "jiguang:news:urgent"} {
		if _, _, _, ok := tasks.ParseQueue(queue); ok {
			t.Errorf("%q is taken for a queue of ours", queue)
		}
	}
	if got := tasks.TaskType("timpush"); got != "recall:timpush" {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, app := range []string{"a", "0", "news", "a_b-c", strings.Repeat("x", 63)} {
		if err := tasks.CheckApp(app); err != nil {
			t.Errorf("%s: %v", app, err)
		}
	}
	for _, app := range []string{"", "bulk", "pause", "resume", "A", "-a", "_a", "a b", "a:b", "ä", "a\n", strings.Repeat("x", 64)} {
		if tasks.CheckApp(app) == nil {
			t.Errorf("%q is accepted", app)
		}
	}
	for _, batch := range []string{"a", "A.b_c-9", strings.Repeat("x", 63)} {
		if err := tasks.CheckBatch(batch); err != nil {
			t.Errorf("%s: %v", batch, err)
		}
	}
	for _, batch := range []string{"", ".a", "-a", "a b", "a{b", "a\n", strings.Repeat("x", 64)} {
		if tasks.CheckBatch(batch) == nil {
			t.Errorf("%q is accepted", batch)
		}
	}
}
