package ops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/ops"
	"github.com/recallq/recallq/tasks"
)

// requireChromium is the environment variable that turns the skip of a machine without Chromium into a failure.
const requireChromium = "RECALLQ_REQUIRE_CHROMIUM"

func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv(requireChromium) == "1" {
		t.Fatalf("no Chromium on PATH, and %s=1 asks for one", requireChromium)
	}
	fmt.Fprintf(os.Stderr, "SKIPPED %s: no Chromium on PATH; install one to test the page in a browser\n", t.Name())
	t.Skip("no Chromium on PATH")
	return ""
}

// browser is one tab of a Chromium of its own, and what it complained of.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu      sync.Mutex
	foreign []string // addresses outside of base that the page asked for
	alerts  []string
}

// noteViolations runs before the page's own scripts and is not bound by its policy.
const noteViolations = `window.violations = [];
document.addEventListener('securitypolicyviolation', e => window.violations.push(e.violatedDirective + ' ' + e.blockedURI));`

func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path := findChromium(t)
	opts := append([]chromedp.ExecAllocatorOption{},
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1400, 1000),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	deadline, cancelDeadline := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancelDeadline)
	allocator, cancelAllocator := chromedp.NewExecAllocator(deadline, opts...)
	t.Cleanup(cancelAllocator)
	ctx, cancel := chromedp.NewContext(allocator)
	// Cancel waits until the program has ended, so that its folder can be removed.
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})

	b := &browser{t: t, ctx: ctx, base: base}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			b.note(e.Request.URL)
		case *cdppage.EventJavascriptDialogOpening:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.alerts = append(b.alerts, e.Message)
		}
	})
	if err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	_, err = chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: noteViolations})
	if err != nil {
		t.Fatalf("the browser: %v", err)
	}
	return b
}

func (b *browser) note(url string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.HasPrefix(url, b.base) && !strings.HasPrefix(url, "data:") {
		b.foreign = append(b.foreign, url)
	}
}

func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	answer, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
	return answer
}

// open goes to a path and waits until the page shows every one of the texts. It leaves a picture in the test's artifacts.
func (b *browser) open(path string, texts ...string) {
	b.t.Helper()
	run(b, chromedp.Navigate(b.base+path))
	b.shows(texts...)
	picture := run(b, chromedp.FullScreenshot(100))
	name := strings.Trim(strings.NewReplacer("/", "_", "?", "_", "=", "_", ":", "_").Replace(path), "_") + ".png"
	if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), "page_"+name), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range run(b, chromedp.Evaluate[[]string](`window.violations`)) {
		b.t.Errorf("%s breaks the policy: %s", path, v)
	}
}

func (b *browser) shows(texts ...string) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		shown := run(b, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
		missing := ""
		for _, text := range texts {
			if !strings.Contains(shown, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the page does not show %q within 30 s, but:\n%s", missing, shown)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

const (
	retryReason  = "unavailable (91000): internal service timeout"
	archiveError = "not_found (20022): the message does not exist"
)

// fill leaves one recall of each kind in the queue jiguang:news: one that succeeded, one that waits for its retry, one that
// was archived, and returns the archived one's task id.
func fill(t *testing.T, rdb *redis.Client) (archived string) {
	t.Helper()
	client := asynq.NewClientFromRedisClient(rdb)
	now := time.Now()
	ends := map[string]error{"4611686018427387904": nil, "4611686018427387905": errors.New(retryReason), "4611686018427387906": failure{}}
	for id := range ends {
		r := tasks.Recall{
			Provider: "jiguang", App: "news", MessageID: id, Batch: "storm-1", Ref: "order-" + id[16:],
			SentAt: now.Add(-40 * time.Minute), EnqueuedAt: now, RecallBy: now.Add(23*time.Hour + 20*time.Minute),
		}
		payload, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if ends[id] == (failure{}) {
			archived = r.ID()
		}
		_, err = client.Enqueue(asynq.NewTask("recall:jiguang", payload), asynq.TaskID(r.ID()),
			asynq.Queue("jiguang:news"), asynq.MaxRetry(tasks.MaxRetry), asynq.Retention(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
	}
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Queues: map[string]int{"jiguang:news": 1}, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		r, err := tasks.Decode(task.Payload())
		if err != nil {
			return err
		}
		if end := ends[r.MessageID]; end != nil {
			return end
		}
		result, err := tasks.Outcome{Outcome: tasks.Recalled, Code: "0", Attempts: 1, FinishedAt: now}.MarshalJSON()
		if err != nil {
			return err
		}
		_, err = task.ResultWriter().Write(result)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	eventually(t, func() bool {
		info, err := inspector.GetQueueInfo("jiguang:news")
		return err == nil && info.Completed == 1 && info.Retry == 1 && info.Archived == 1
	})
	return archived
}

// failure archives a task, in words of its own.
type failure struct{}

func (failure) Error() string        { return archiveError }
func (failure) Is(target error) bool { return target == asynq.SkipRetry }

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within 30 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func serve(t *testing.T, ui ops.UI) (base string, rdb *redis.Client) {
	t.Helper()
	redisServer := miniredis.RunT(t)
	rdb = redis.NewClient(&redis.Options{Addr: redisServer.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := ops.New(options(rdb, ui))
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return web.URL, rdb
}

// alerted waits for an alert with the text, and closes it.
func (b *browser) alerted(text string) {
	b.t.Helper()
	eventually(b.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.alerts) == 1 && strings.Contains(b.alerts[0], text)
	})
	_, err := chromedp.Call(b.ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
}

func (b *browser) noForeignRequests() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, url := range b.foreign {
		b.t.Errorf("the page asked for %s", url)
	}
}

func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	findChromium(t)
	base, rdb := serve(t, ops.UI{Enabled: true, ReadOnly: true})
	archived := fill(t, rdb)

	b := openBrowser(t, base)
	b.open("/", "jiguang:news")
	b.open("/queues/jiguang:news?status=retry", retryReason, `"message id": "4611686018427387905"`, `"time left": "23 h`, `"sent": "40 min`)
	b.open("/queues/jiguang:news?status=archived", archiveError, `"batch": "storm-1"`)
	b.open("/queues/jiguang:news?status=completed", `"outcome": "recalled"`, `"attempts": 1`)
	b.open("/queues/jiguang:news/tasks/"+archived, archiveError, archived, `"provider": "jiguang"`)
	b.open("/servers", "Servers")
	b.open("/redis", "Redis")
	b.noForeignRequests()
}

// press moves the mouse over a row's last cell, where asynqmon keeps its buttons, and presses one of them.
func (b *browser) press(title string) {
	b.t.Helper()
	row := chromedp.CSS(`tbody tr td:last-child button`)
	button := chromedp.CSS(`tbody button[title="` + title + `"], tbody button[aria-label="` + title + `"]`)
	run(b, chromedp.Steps(
		chromedp.WaitVisible(row), chromedp.Click(row),
		chromedp.WaitVisible(button), chromedp.Click(button),
	))
}

func TestRunInABrowserOnAWritablePage(t *testing.T) {
	t.Parallel()
	findChromium(t)
	base, rdb := serve(t, ops.UI{Enabled: true})
	archived := fill(t, rdb)
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	state := func() asynq.TaskState {
		info, err := inspector.GetTaskInfo("jiguang:news", archived)
		if err != nil {
			t.Fatal(err)
		}
		return info.State
	}

	b := openBrowser(t, base)
	b.open("/queues/jiguang:news?status=archived", archiveError)
	b.press("Delete")
	b.alerted("enqueue cancel")
	if s := state(); s != asynq.TaskStateArchived {
		t.Fatalf("after delete the task is %s, want it archived as before", s)
	}
	b.open("/queues/jiguang:news?status=archived", archiveError)
	b.press("Run")
	eventually(t, func() bool { return state() == asynq.TaskStatePending })
	b.noForeignRequests()
}
