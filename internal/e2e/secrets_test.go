package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// Everything is run with marked secrets, with vendors that refuse them and that repeat them in their answers; then they are
// looked for wherever somebody could read them.
func TestNoSecretIsToldAnywhere(t *testing.T) {
	t.Parallel()
	const mark = "s3cr3tmark"
	secret := func(name string) string { return mark + name + "0123456789" }
	accounts := []simulator.Account{
		{Provider: "jiguang", Account: "channel-1", Secret: secret("jiguang")},
		{Provider: "engagelab", Account: "appkey-1", Secret: secret("engagelab")},
		{Provider: "tencent", Account: "1400000001", Identifier: "administrator", Secret: secret("tencent")},
		{Provider: "rongcloud", Account: "appkey-2", Secret: secret("rongcloud")},
	}
	s := newSite(t, simulator.Options{KnowAll: true, NoLimits: true, Accounts: accounts},
		lane{"jiguang", "news", "channel_key: channel-1, master_secret: " + secret("jiguang")},
		lane{"jiguang", "wrong", "channel_key: channel-9, master_secret: " + secret("wrong")},
		lane{"engagelab", "abroad", "app_key: appkey-1, master_secret: " + secret("engagelab")},
		lane{"timpush", "chat", "limits: [], sdk_app_id: 1400000001, secret_key: " + secret("tencent")},
		lane{"timchat", "chat", "sdk_app_id: 1400000001, secret_key: " + secret("tencent")},
		lane{"rongcloud", "community", "limits: [], app_key: appkey-2, app_secret: " + secret("rongcloud")},
	)
	password := secret("redis")
	if err := s.rdb.ConfigSet(t.Context(), "requirepass", password).Err(); err != nil {
		t.Fatal(err)
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: s.redis.Addr, Password: password})
	t.Cleanup(func() { _ = s.rdb.Close() })
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	withPassword := strings.Replace(string(config), `"}`, fmt.Sprintf(`", password_file: %q}`, passwordFile), 1)
	if err := os.WriteFile(s.config, []byte(withPassword), 0o600); err != nil {
		t.Fatal(err)
	}

	// Vendors that repeat what they were sent, in texts and in pages.
	for i, account := range accounts {
		for _, b := range []simulator.Behaviour{
			{Code: "invalid", Message: "your secret is " + account.Secret},
			{Status: 500, Body: "<html>" + account.Secret + "</html>", ContentType: "text/html"},
		} {
			if _, err := s.sim.Fault(simulator.Fault{Provider: account.Provider, Times: 1 + i%2, Behaviour: b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := s.start("worker", "--config", s.config, "--log-level", "debug")
	page := ""
	s.until(10*time.Second, func() bool { page = between(w.output(), `"page":"`, `"`); return page != "" })
	var outputs []string
	n := 0
	for _, r := range []tasks.Recall{ums(1), ums(2), ums(3), push(1), push(2), push(3), chat(1), chat(2), chat(3)} {
		s.enqueue(r)
		n++
	}
	for i := range 3 {
		s.enqueue(tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: strconv.Itoa(7000 + i)})
		s.enqueue(tasks.Recall{Provider: "rongcloud", App: "community", From: "service", MessageID: fmt.Sprintf("0000-0000-0000-%04d", i)})
		n += 2
	}
	wrong := ums(9)
	wrong.App = "wrong"
	s.enqueue(wrong)
	s.await(s.follow(), n, time.Minute)
	s.until(20*time.Second, func() bool { return strings.Contains(w.output(), `"lane closed"`) })

	// The command line: a password in --redis is refused without being repeated; a wrong one fails without being repeated.
	for _, args := range [][]string{
		{"lanes", "--redis", "redis://:" + password + "@" + s.redis.Addr + "/0"},
		{"lanes", "--config", s.config},
		{"add", "--config", s.config, "--provider", "jiguang", "--app", "news", ums(20).MessageID},
	} {
		p := s.start("enqueue", args...)
		p.exit(20 * time.Second)
		outputs = append(outputs, p.output())
	}
	check := s.start("worker", "--check-config", "--call", "--config", s.config)
	check.exit(20 * time.Second)
	outputs = append(outputs, check.output(), commandLine(t, w))

	for _, path := range []string{"metrics", "readyz", "", "api/queues", "api/servers", "api/redis_info",
		"api/queues/jiguang:news/archived_tasks", "api/queues/jiguang:wrong/pending_tasks", "api/queues/jiguang:wrong/retry_tasks"} {
		res, err := http.Get(page + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", path, res.Status, err)
		}
		outputs = append(outputs, path+": "+string(body))
	}
	outputs = append(outputs, "log: "+w.output())
	outputs = append(outputs, s.everything()...)
	for _, text := range outputs {
		if i := strings.Index(text, mark); i >= 0 {
			t.Errorf("a secret is told: …%s…", text[max(0, i-200):min(len(text), i+60)])
		}
	}
	if all := strings.Join(outputs, "\n"); !strings.Contains(all, "[redacted]") {
		t.Error("no vendor's echo was redacted: the test does not test what it should")
	}
}

// commandLine is what a process list shows of a program.
func commandLine(t *testing.T, p *program) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
	if err != nil {
		t.Logf("the process list is not looked at, there is no /proc here: %v", err)
		return ""
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}

// everything is all that is in Redis, as text.
func (s *site) everything() []string {
	s.t.Helper()
	ctx := context.Background()
	var all []string
	keys := s.rdb.Scan(ctx, 0, "*", 100).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		var value any
		var err error
		switch kind := s.rdb.Type(ctx, key).Val(); kind {
		case "string":
			value, err = s.rdb.Get(ctx, key).Result()
		case "hash":
			value, err = s.rdb.HGetAll(ctx, key).Result()
		case "list":
			value, err = s.rdb.LRange(ctx, key, 0, -1).Result()
		case "set":
			value, err = s.rdb.SMembers(ctx, key).Result()
		case "zset":
			value, err = s.rdb.ZRange(ctx, key, 0, -1).Result()
		case "stream":
			value, err = s.rdb.XRange(ctx, key, "-", "+").Result()
		default:
			s.t.Fatalf("%s is a %s", key, kind)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("redis %s: %v", key, value))
	}
	if err := keys.Err(); err != nil {
		s.t.Fatal(err)
	}
	return all
}
