package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/redistest"
)

// A new configuration counts also while the worker waits for Redis.
func TestSIGHUPWhileTheWorkerWaitsForRedis(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	w := newRunning(t, s.URL, oneLane)
	w.start()
	w.until(20*time.Second, "it waits", func() bool { return strings.Contains(w.said(), "redis does not answer") })
	w.write(strings.ReplaceAll(strings.Replace(oneLane, "base_url", "window: 2h, base_url", 1), "{REDIS}", s.URL))
	w.signals <- syscall.SIGHUP
	w.until(20*time.Second, "it is told", func() bool { return strings.Contains(w.said(), `"changed":["jiguang:news"]`) })
	s.Restart()
	w.ready()
	if text := s.Client(t).HGet(t.Context(), "recallq:lanes", "jiguang:news").Val(); !strings.Contains(text, `"window":"2h"`) {
		t.Errorf("published: %s", text)
	}
}

// On SIGHUP the page's password is read again; what takes a restart is named.
func TestSIGHUPTakesThePagesPasswordOverAndNamesWhatTakesARestart(t *testing.T) {
	s := redistest.Start(t)
	password, redisPassword := filepath.Join(t.TempDir(), "ui"), filepath.Join(t.TempDir(), "redis")
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(password, "secret-1")
	w := newRunning(t, s.URL, "ui: {password_file: "+password+"}\n"+oneLane)
	w.start()
	w.ready()
	page := func(password string) int {
		_, rest, _ := strings.Cut(w.said(), `"page":"`)
		url, _, _ := strings.Cut(rest, `"`)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ops", password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := page("secret-1"); got != http.StatusOK {
		t.Fatalf("the first password: %d", got)
	}
	put(password, "secret-2")
	w.signals <- syscall.SIGHUP
	w.until(10*time.Second, "it is told", func() bool { return strings.Contains(w.said(), `"changed":["ui"]`) })
	for password, want := range map[string]int{"secret-1": http.StatusUnauthorized, "secret-2": http.StatusOK} {
		if got := page(password); got != want {
			t.Errorf("the password %s: %d, want %d", password, got, want)
		}
	}
	if strings.Contains(w.said(), "takes a restart") {
		t.Error("nothing that has changed takes a restart")
	}
	put(redisPassword, "secret-3")
	text := "ui: {password_file: " + password + ", read_only: false}\nretention: 12h\n" + strings.Replace(oneLane, "url:", "password_file: "+redisPassword+", url:", 1)
	w.write(strings.ReplaceAll(text, "{REDIS}", s.URL))
	for range 2 { // as long as it is so
		w.signals <- syscall.SIGHUP
	}
	w.until(10*time.Second, "it is told", func() bool {
		return strings.Count(w.said(), `"sections":["redis","ui.read_only","retention"],`) == 2
	})
	if strings.Contains(w.said(), "retention is shorter") {
		t.Error("it warns of a retention that is not in force")
	}
	if strings.Contains(w.said(), "secret-") {
		t.Error("the log tells a password")
	}
}

// A page that others can reach does not lose its password.
func TestSIGHUPDoesNotOpenThePage(t *testing.T) {
	t.Parallel()
	var logins []string
	s := &settings{
		setLogin: func(_, password string) { logins = append(logins, password) },
		started:  config.Config{Listen: "0.0.0.0:8080", UI: config.UI{Enabled: true, Password: "first"}},
		cfg:      &config.Config{Listen: "0.0.0.0:8080", UI: config.UI{Enabled: true, Password: "first"}},
	}
	open := &config.Config{Listen: "127.0.0.1:8080", UI: config.UI{Enabled: true}}
	if s.login(open) || len(logins) > 0 {
		t.Errorf("the page was given the passwords %q", logins)
	}
	if got := strings.Join(s.restarts(open), " "); got != "listen ui.password" {
		t.Errorf("takes a restart: %s", got)
	}
}
