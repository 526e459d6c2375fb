package redisconn

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
)

// roundTrip writes and reads through a client for the options, and returns the client for more.
func roundTrip(t *testing.T, o Options) redis.UniversalClient {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Set(t.Context(), "recallq:test", "here", 0).Err(); err != nil {
		t.Fatalf("%s: %v", Describe(o), err)
	}
	if got, err := c.Get(t.Context(), "recallq:test").Result(); err != nil || got != "here" {
		t.Fatalf("%s: %q, %v", Describe(o), got, err)
	}
	return c
}

func TestRealSingle(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--databases", "16")
	roundTrip(t, Options{URL: "redis://" + s.Addr + "/7"})
	// The database counts: the key is in 7, not in 0.
	direct := redis.NewClient(&redis.Options{Addr: s.Addr, DB: 7})
	t.Cleanup(func() { _ = direct.Close() })
	if n := direct.Exists(t.Context(), "recallq:test").Val(); n != 1 {
		t.Error("the key is not in database 7")
	}
	if n := s.Client(t).Exists(t.Context(), "recallq:test").Val(); n != 0 {
		t.Error("the key is in database 0")
	}
}

func TestRealPasswordAndUser(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Client(t)
	ctx := t.Context()
	// A user with no more than data commands: what a client says by itself when it connects must not need more.
	if err := admin.Do(ctx, "ACL", "SETUSER", "worker", "on", ">topsecret", "~*", "+get", "+set").Err(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, Options{URL: "redis://worker:topsecret@" + s.Addr + "/0"})
	roundTrip(t, Options{URL: s.URL, Username: "worker", Password: "topsecret"})
	denied, err := admin.Do(ctx, "ACL", "LOG").Slice()
	if err != nil || len(denied) != 0 {
		t.Errorf("connecting was refused something: %v, %v", denied, err)
	}

	if err := admin.ConfigSet(ctx, "requirepass", "topsecret").Err(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, Options{URL: s.URL, Password: "topsecret"})
	for _, o := range []Options{{URL: s.URL}, {URL: s.URL, Password: "wrongsecret"}} {
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Ping(ctx).Err()
		if err == nil || strings.Contains(err.Error(), "wrongsecret") {
			t.Errorf("a wrong password gives %v", err)
		}
		_ = c.Close()
	}
}

func TestRealUnixSocket(t *testing.T) {
	t.Parallel()
	_, socket := redistest.StartUnix(t)
	roundTrip(t, Options{URL: "unix://" + socket + "?db=1"})
}

func TestRealTLS(t *testing.T) {
	t.Parallel()
	files := redistest.NewCertificates(t)
	_, url := redistest.StartTLS(t, files)
	roundTrip(t, Options{URL: url, CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key})

	refused := map[string]Options{
		"without a client certificate":  {URL: url, CAFile: files.CA},
		"with the system's authorities": {URL: url, CertFile: files.Cert, KeyFile: files.Key},
		"with another name":             {URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key},
	}
	for name, o := range refused {
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Errorf("a connection %s is made", name)
		}
		_ = c.Close()
	}
}

func TestRealSentinel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := redistest.StartSentinels(t, "topsecret", "sentinelsecret")
	o := Options{
		URL:              "redis-sentinel://:topsecret@" + strings.Join(s.Addrs, ",") + "/5?master=" + redistest.MasterName,
		SentinelPassword: "sentinelsecret",
	}
	roundTrip(t, o)
	direct := redis.NewClient(&redis.Options{Addr: s.Master.Addr, DB: 5, Password: "topsecret"})
	t.Cleanup(func() { _ = direct.Close() })
	if n := direct.Exists(ctx, "recallq:test").Val(); n != 1 {
		t.Error("the key is not in the master's database 5")
	}
	o.SentinelPassword = "wrongsecret"
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a wrong Sentinel password connects")
	}
}

func TestRealCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	servers := redistest.StartCluster(t)
	c := roundTrip(t, Options{Cluster: []string{servers[0].Addr}})
	for i := range 100 { // keys of all three nodes
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		if n := s.Client(t).DBSize(ctx).Val(); n < 10 {
			t.Errorf("the node %s has %d keys", s.Addr, n)
		}
	}
}

// TestRealFrozen holds the time-outs: a frozen Redis costs one command and its repetition, not minutes.
func TestRealFrozen(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := roundTrip(t, Options{URL: s.URL})
	s.Freeze()
	defer s.Thaw()
	start := time.Now()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a frozen Redis answers")
	}
	if took := time.Since(start); took > 12*time.Second {
		t.Errorf("a command to a frozen Redis took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start = time.Now()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a frozen Redis answers")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a context of 200 ms ended after %s", took)
	}
}
