package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func TestTheWorkerWarnsOfARetentionShorterThanAWindow(t *testing.T) {
	t.Parallel()
	for window, want := range map[string]int{"24h": 0, "25h": 1} {
		file := filepath.Join(t.TempDir(), "recallq.yaml")
		text := fmt.Sprintf("redis: {url: \"redis://%s/0\"}\napps:\n  - {provider: rongcloud, app: community, app_key: uwd1c0sxdlx2, app_secret: Y1W2MeFwwwRxa0, window: %s}\n",
			miniredis.RunT(t).Addr(), window)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM // it starts, and stops
		var stderr bytes.Buffer
		none := func(string) (string, bool) { return "", false }
		if code := run([]string{"--config", file, "--listen", "127.0.0.1:0"}, none, signals, &bytes.Buffer{}, &stderr); code != exitOK {
			t.Fatalf("it left with %d:\n%s", code, &stderr)
		}
		if n := strings.Count(stderr.String(), "retention is shorter"); n != want {
			t.Errorf("window %s: warned %d times, want %d:\n%s", window, n, want, &stderr)
		}
		if want > 0 && !strings.Contains(stderr.String(), `"provider":"rongcloud","app":"community","retention":"24h","window":"25h"`) {
			t.Errorf("the warning does not name app, retention and window:\n%s", &stderr)
		}
	}
}

func TestTheWorkerWarnsOfAWindowBeyondTheVendors(t *testing.T) {
	w := newRunning(t, "redis://"+miniredis.RunT(t).Addr()+"/0", strings.Replace(oneLane, "base_url", "window: 72h, base_url", 1))
	w.signals <- syscall.SIGTERM // it starts, and stops
	w.start()
	if code := w.exit(20 * time.Second); code != exitOK {
		t.Errorf("left with %d", code)
	}
	if n := strings.Count(w.said(), `"provider":"jiguang","app":"news","window":"72h"`); n != 1 || !strings.Contains(w.said(), "window is longer than the vendor's own") {
		t.Errorf("warned %d times", n)
	}
}
