package recallq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

const (
	integrate  = "docs/integrate.md"
	operations = "docs/operations.md"
)

// A push system in Go, as docs/integrate.md has it.
func Example_integrate() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	ctx := context.Background()
	aWorkerServes(ctx, rdb, "timpush", "chat")
	taskID, sentAt := "push-of-the-autumn-sale", time.Now()

	producer := tasks.NewProducer(rdb)
	result, err := producer.Enqueue(ctx, tasks.Recall{
		Provider: "timpush", App: "chat", MessageID: taskID, SentAt: sentAt, Ref: "order 1001",
	})

	var refused *tasks.FieldError
	switch {
	case errors.As(err, &refused):
		fmt.Println("this recall cannot work:", refused.Field, refused.Reason)
	case err != nil:
		fmt.Println("Redis's trouble; to enqueue it again is safe:", err)
	case result.Status == tasks.Expired:
		fmt.Println("too late since", result.RecallBy)
	default: // tasks.Enqueued, or tasks.Duplicate: it is there already
		fmt.Println(result.Status, result.ID)
	}
	// Output:
	// enqueued timpush_a7670790ae43d3298f86be7b9c7562ae
}

func aWorkerServes(ctx context.Context, rdb redis.Cmdable, provider, app string) {
	l := tasks.Lane{Provider: provider, App: app, Window: 24 * time.Hour, LastSeen: time.Now()}
	if err := tasks.PublishLane(ctx, rdb, l); err != nil {
		log.Fatal(err)
	}
}

func TestTheDocsGoIsTheExamples(t *testing.T) {
	t.Parallel()
	example := read(t, "docs_test.go")
	blocks := fenced(read(t, integrate), "go")
	if len(blocks) == 0 {
		t.Fatalf("%s shows no Go", integrate)
	}
	for _, block := range blocks {
		for _, line := range strings.Split(block, "\n") {
			if line = strings.TrimSpace(line); !strings.Contains(example, line) {
				t.Errorf("%s has the line %q, the example that is run has not", integrate, line)
			}
		}
	}
}

// What the SQL selects must be fields of a row.
func TestTheDocsQuerySelectsFieldsOfARow(t *testing.T) {
	t.Parallel()
	query := regexp.MustCompile(`(?s)SELECT (.*?)\sFROM`).FindStringSubmatch(read(t, integrate))
	if query == nil {
		t.Fatalf("%s has no query", integrate)
	}
	for _, column := range strings.Split(query[1], ",") {
		words := strings.Fields(column)
		name := strings.Trim(words[len(words)-1], `"`)
		if field, ok := tasks.Canonical(name); !ok || field != name {
			t.Errorf("the query's column %q is no field of a row", name)
		}
	}
}

func TestTheDocsFieldsAreARows(t *testing.T) {
	t.Parallel()
	text := read(t, integrate)
	for _, field := range tasks.Fields() {
		if !strings.Contains(text, "`"+field+"`") {
			t.Errorf("%s does not name the field %s", integrate, field)
		}
	}
	for _, name := range providers.Names() {
		if n := strings.Count(text, "\n| `"+name+"`"); n < 3 {
			t.Errorf("%s has %d rows on %s, want one each on what to keep, on what it does and on what recalled means", integrate, n, name)
		}
	}
}

func TestTheMetricsInTheDocsExist(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	m := metrics.New()
	m.Lane("timchat", "chat")
	m.Watch(rdb)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	scraped := w.Body.String()

	exist := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (recallq_\w+)`).FindAllStringSubmatch(scraped, -1) {
		exist[found[1]] = true
	}
	named := map[string]bool{}
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile(`\brecallq_[a-z_]+`).FindAllString(text, -1) {
			named[name] = true
			if !exist[name] {
				t.Errorf("%s names the metric %s, which does not exist", page, name)
			}
		}
		// The values that expressions look for have to be there from the start.
		for _, found := range regexp.MustCompile(`(recallq_\w+)\{(\w+)=~?"([^"]*)"\}`).FindAllStringSubmatch(text, -1) {
			for _, value := range strings.Split(found[3], "|") {
				series := regexp.MustCompile(found[1] + `\{[^}]*` + found[2] + `="` + value + `"`)
				if !series.MatchString(scraped) {
					t.Errorf("%s looks for %s with %s=%q, which no series has", page, found[1], found[2], value)
				}
			}
		}
	}
	for name := range exist {
		if !named[name] {
			t.Errorf("no page of the docs names the metric %s", name)
		}
	}
}

func TestTheRedisKeysInTheDocsExist(t *testing.T) {
	t.Parallel()
	key := regexp.MustCompile(`\brecallq:([a-z]+)`)
	exist := map[string]bool{}
	for _, text := range codeText(t) {
		for _, found := range regexp.MustCompile(`"recallq:([a-z]+)`).FindAllStringSubmatch(text, -1) {
			exist[found[1]] = true
		}
	}
	named := map[string]bool{}
	for page, text := range pages(t) {
		for _, found := range key.FindAllStringSubmatch(text, -1) {
			named[found[1]] = true
			if !exist[found[1]] {
				t.Errorf("%s names the key recallq:%s, which the code does not know", page, found[1])
			}
		}
	}
	for name := range exist {
		if !named[name] {
			t.Errorf("no page of the docs names the key recallq:%s", name)
		}
	}
}

// Every line that the log may have at its usual level is explained, and every line that is explained exists.
func TestTheLogLinesInTheDocsExist(t *testing.T) {
	t.Parallel()
	message := regexp.MustCompile(`\bMsg\("([^"]+)"`)
	var said []string
	for file, text := range codeText(t) {
		if !strings.HasPrefix(file, "internal/") && !strings.HasPrefix(file, "cmd/worker/") {
			continue
		}
		for _, line := range strings.Split(text, "\n") {
			if found := message.FindStringSubmatch(line); found != nil && !strings.Contains(line, "Debug()") {
				said = append(said, found[1])
			}
		}
	}
	text := read(t, operations)
	for _, line := range said {
		if !strings.Contains(text, "`"+line) {
			t.Errorf("%s does not explain the log line %q", operations, line)
		}
	}
	_, table, _ := strings.Cut(text, "\n| message | level |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, row := range strings.Split(table, "\n")[2:] {
		cell, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, found := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			if !slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(found[1], line) }) {
				t.Errorf("%s explains the log line %q, which no code says", operations, found[1])
			}
		}
	}
}

// The users of docs/operations.md can do their work, and not one another's.
func TestTheDocsRedisUsersCanDoTheirWork(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Client(t)
	lines := regexp.MustCompile(`(?m)^ACL SETUSER (\w+) .*$`).FindAllStringSubmatch(read(t, operations), -1)
	users := map[string]*redis.Client{}
	for _, line := range lines {
		var words []any
		for _, word := range strings.Fields(line[0]) {
			words = append(words, word)
		}
		if err := admin.Do(t.Context(), words...).Err(); err != nil {
			t.Fatalf("%s: %v", line[0], err)
		}
		name := line[1]
		users[name] = redis.NewClient(&redis.Options{Addr: s.Addr, Username: name, Password: name + "-password", DisableIdentity: true})
		t.Cleanup(func() { _ = users[name].Close() })
	}
	for _, name := range []string{"push", "producer", "reader", "operator", "worker"} {
		if users[name] == nil {
			t.Fatalf("%s has no line for the user %s, only for %v", operations, name, slices.Sorted(maps.Keys(users)))
		}
	}
	aWorkerServes(t.Context(), users["worker"], "engagelab", "abroad")
	produce(t, users["producer"], "1")
	produce(t, users["operator"], "2")
	if err := users["push"].XAdd(t.Context(), &redis.XAddArgs{Stream: inbox.Key, Values: []any{"row", "{}"}}).Err(); err != nil {
		t.Error(err)
	}
	readOutcomes(t, users["worker"], users["reader"])

	for name, commands := range map[string][][]any{
		"push":     {{"XRANGE", inbox.Key, "-", "+"}, {"XADD", tasks.OutcomesKey, "*", "a", "b"}, {"HGETALL", tasks.LanesKey}},
		"producer": {{"XRANGE", tasks.OutcomesKey, "-", "+"}, {"HSET", "recallq:lane:{engagelab:abroad}", "a", "b"}, {"FLUSHALL"}, {"KEYS", "*"}},
		"reader":   {{"XDEL", tasks.OutcomesKey, "1-1"}, {"XTRIM", tasks.OutcomesKey, "MAXLEN", "0"}, {"XGROUP", "DESTROY", tasks.OutcomesKey, "g"}, {"GET", "asynq:queues"}},
		"operator": {{"FLUSHALL"}, {"KEYS", "*"}, {"CONFIG", "SET", "maxmemory", "0"}, {"XADD", tasks.OutcomesKey, "*", "a", "b"}},
		"worker":   {{"FLUSHALL"}, {"KEYS", "*"}, {"CONFIG", "SET", "maxmemory", "0"}, {"GET", "another-program's"}},
	} {
		for _, c := range commands {
			if err := users[name].Do(t.Context(), c...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s: %v: %v, want it to be forbidden", name, c, err)
			}
		}
	}
}

// The users as a file of Redis's: the same lines, and nobody without a name any more.
func TestTheDocsRedisUsersCanBeInAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := redistest.Start(t, "--aclfile", file)
	admin := s.Client(t).Conn()
	t.Cleanup(func() { _ = admin.Close() })
	text := read(t, operations)
	var lines []string
	for _, line := range regexp.MustCompile(`(?m)^ACL SETUSER \w+ .*$|`+"`ACL SETUSER (?:admin|default) [^`]*`").FindAllString(text, -1) {
		lines = append(lines, strings.Replace(strings.Trim(line, "`"), "ACL SETUSER", "user", 1))
	}
	if len(lines) != 8 {
		t.Fatalf("%s has %d lines for users of Redis, want those of six, of the administrator and of default", operations, len(lines))
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(t.Context(), "ACL", "LOAD").Err(); err != nil {
		t.Fatal(err)
	}
	login := func(name, password string) error {
		rdb := redis.NewClient(&redis.Options{Addr: s.Addr, Username: name, Password: password, DisableIdentity: true})
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb.Ping(t.Context()).Err()
	}
	for _, name := range []string{"producer", "reader", "operator", "looker", "worker", "admin"} {
		if err := login(name, name+"-password"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := login("", ""); !redis.HasErrorPrefix(err, "NOAUTH") {
		t.Errorf("without a name: %v, want NOAUTH", err)
	}
}

// redis-cli goes on as the user default where a password is wrong.
func TestTheShellsInboxAddsNothingAsAnotherUser(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		if os.Getenv(redistest.Require) == "1" {
			t.Fatalf("no redis-cli on PATH, and %s=1 asks for it", redistest.Require)
		}
		fmt.Fprintf(os.Stderr, "SKIPPED %s: no redis-cli on PATH\n", t.Name())
		t.Skip("no redis-cli on PATH")
	}
	s := redistest.Start(t)
	rdb := s.Client(t)
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "push", "on", ">right", "~"+inbox.Key, "-@all", "+xadd").Err(); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(s.Addr)
	add := func(password string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "docs/examples/inbox.sh")
		cmd.Env = append(os.Environ(), "REDIS_HOST="+host, "REDIS_PORT="+port, "REDIS_USER=push", "REDISCLI_AUTH="+password)
		cmd.Stdin = strings.NewReader("{}\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := add("wrong"); err == nil || !strings.Contains(out, "AUTH failed") || rdb.Exists(t.Context(), inbox.Key).Val() != 0 {
		t.Errorf("a wrong password: %v, %q, and the inbox has %d entries", err, out, rdb.XLen(t.Context(), inbox.Key).Val())
	}
	if out, err := add("right"); err != nil || rdb.XLen(t.Context(), inbox.Key).Val() != 1 {
		t.Errorf("the right password: %v, %q", err, out)
	}
}

// A link leads to a file that is there, and to a heading in it.
func TestTheDocsLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "README.md", "CONTRIBUTING.md") {
		for _, found := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, file), -1) {
			path, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", file, found[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", file, found[1], target)
			}
		}
	}
}

// anchors are the names of a page's headings in links, as GitHub makes them.
func anchors(page string) []string {
	page = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(found[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// What docker-compose.yml tells people to type gives the worker a configuration that it takes, with no variable set.
func TestTheComposeRecipesConfigurationIsGood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, rest, _ := strings.Cut(read(t, "docker-compose.yml"), "cat > recallq.yaml <<'END'\n")
	recipe, _, found := strings.Cut(rest, "#   END\n")
	if !found {
		t.Fatal("docker-compose.yml does not say what to write into recallq.yaml")
	}
	text := strings.ReplaceAll(strings.ReplaceAll("\n"+recipe, "\n#   ", "\n"), "/run/secrets/", dir+"/")
	for name, content := range map[string]string{"recallq.yaml": text, "ui-password": "one\n", "jiguang": "two\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(filepath.Join(dir, "recallq.yaml"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Apps) == 0 {
		t.Error("no app")
	}
}

// produce does all that a producer does: alone and in a batch, a duplicate, and a bulk recall that becomes urgent.
func produce(t *testing.T, rdb *redis.Client, prefix string) {
	t.Helper()
	producer := tasks.NewProducer(rdb)
	recall := func(id string) tasks.Recall {
		return tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: prefix + id, SentAt: time.Now()}
	}
	batch, err := producer.OpenBatch(t.Context(), tasks.BatchOptions{Name: "batch-" + prefix, Inputs: []string{"file"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range batch.EnqueueAll(t.Context(), []tasks.Recall{recall("1"), recall("2")}, tasks.WithPriority(tasks.Bulk)) {
		if e.Err != nil || e.Result.Status != tasks.Enqueued {
			t.Errorf("%v, %v", e.Result.Status, e.Err)
		}
	}
	if err := errors.Join(batch.Done(t.Context(), "file"), batch.Close(t.Context())); err != nil {
		t.Error(err)
	}
	for _, want := range []tasks.Result{{Status: tasks.Duplicate, Promoted: true}, {Status: tasks.Duplicate}} {
		if got, err := producer.Enqueue(t.Context(), recall("1")); err != nil || got.Status != want.Status || got.Promoted != want.Promoted {
			t.Errorf("%v, promoted %t, %v; want %v, %t", got.Status, got.Promoted, err, want.Status, want.Promoted)
		}
	}
}

func readOutcomes(t *testing.T, worker, reader *redis.Client) {
	t.Helper()
	const group = "push-system"
	entry := &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: []any{"id", "x", "outcome", tasks.Recalled}}
	if err := errors.Join(
		worker.XAdd(t.Context(), entry).Err(),
		reader.XGroupCreateMkStream(t.Context(), tasks.OutcomesKey, group, "0").Err(),
	); err != nil {
		t.Fatal(err)
	}
	streams, err := reader.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: group, Consumer: "host-1", Streams: []string{tasks.OutcomesKey, ">"}, Block: -1,
	}).Result()
	if err != nil {
		t.Fatal(err)
	}
	claim := &redis.XAutoClaimArgs{Stream: tasks.OutcomesKey, Group: group, Consumer: "host-2", Start: "0"}
	if _, _, err := reader.XAutoClaim(t.Context(), claim).Result(); err != nil {
		t.Error(err)
	}
	if n, err := reader.XAck(t.Context(), tasks.OutcomesKey, group, streams[0].Messages[0].ID).Result(); err != nil || n != 1 {
		t.Errorf("%d acknowledged, %v", n, err)
	}
}

// fenced returns the blocks of code of a language.
func fenced(text, language string) []string {
	var blocks []string
	for _, found := range regexp.MustCompile("(?s)```"+language+"\n(.*?)\n```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, found[1])
	}
	return blocks
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages returns the pages for those who use recallq.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, file := range []string{"README.md", integrate, operations} {
		all[file] = read(t, file)
	}
	return all
}

// codeText returns the code without its tests.
func codeText(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"tasks/*.go", "internal/*/*.go", "cmd/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				all[filepath.ToSlash(file)] = read(t, file)
			}
		}
	}
	return all
}
