package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// A secret in a file is mended while its lane is held: work goes on without anybody telling the worker.
func TestASecretMendedOnDiskEndsTheHold(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong-for-now")
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"jiguang", "news",
		"channel_key: 7d431e42dfa6a6d693ac2d04, master_secret_file: " + secret})
	w := s.worker()
	s.enqueue(ums(1))
	s.until(15*time.Second, func() bool { return strings.Contains(w.output(), `"lane closed"`) })
	write("5e987ac6d2e04d95a9d8f0d1")
	e := s.follow()
	s.await(e, 1, 25*time.Second) // sooner than the probe, which comes after 30 s
	e.all(t, tasks.Recalled)
	for _, text := range []string{"wrong-for-now", "5e987ac6"} {
		if strings.Contains(w.output(), text) {
			t.Errorf("the log tells a secret: %s", text)
		}
	}
}

func TestAReloadKeepsTheOldConfigurationIfTheNewOneIsBad(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"jiguang", "news", ""})
	w := s.worker()
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(good, "  - {provider: nobody, app: x}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	s.until(10*time.Second, func() bool { return strings.Contains(w.output(), "the old one stays in force") })
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(good), "app: news", "app: news, limits: [{calls: 1, per: 1s}]", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	s.until(10*time.Second, func() bool { return strings.Contains(w.output(), `"changed":["jiguang:news"]`) })
	start := time.Now()
	for i := range 4 {
		s.enqueue(ums(i))
	}
	s.await(s.follow(), 4, 20*time.Second)
	if took := time.Since(start); took < 3*time.Second {
		t.Errorf("4 recalls at the new limit of one a second took %v", took)
	}
}
