package redisconn

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	dir, err := os.MkdirTemp("", "rq") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	redistest.Start(t, "--unixsocket", socket)
	roundTrip(t, Options{URL: "unix://" + socket + "?db=1"})
}

func TestRealTLS(t *testing.T) {
	t.Parallel()
	needTLS(t)
	files := certificates(t)
	port := freePort(t)
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", files.cert, "--tls-key-file", files.key,
		"--tls-ca-cert-file", files.ca, "--tls-auth-clients", "yes")
	url := "rediss://127.0.0.1:" + port + "/0"
	roundTrip(t, Options{URL: url, CAFile: files.ca, CertFile: files.cert, KeyFile: files.key})

	refused := map[string]Options{
		"without a client certificate":  {URL: url, CAFile: files.ca},
		"with the system's authorities": {URL: url, CertFile: files.cert, KeyFile: files.key},
		"with another name":             {URL: "rediss://localhost:" + port + "/0", CAFile: files.ca, CertFile: files.cert, KeyFile: files.key},
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

// needTLS skips where redis-server was built without TLS.
func needTLS(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return // redistest says so, louder
	}
	out, _ := exec.Command(path, "--tls-port", "nonsense", "--port", "0").CombinedOutput()
	if strings.Contains(string(out), "built without TLS") || strings.Contains(string(out), "Bad directive") {
		t.Skip("this redis-server has no TLS")
	}
}

func TestRealSentinel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := redistest.Start(t)
	if err := master.Client(t).ConfigSet(ctx, "requirepass", "topsecret").Err(); err != nil {
		t.Fatal(err)
	}
	addr := startSentinel(t, master.Addr, "topsecret", "sentinelsecret")
	o := Options{
		URL:              "redis-sentinel://:topsecret@" + addr + "/5?master=mymaster",
		SentinelPassword: "sentinelsecret",
	}
	roundTrip(t, o)
	direct := redis.NewClient(&redis.Options{Addr: master.Addr, DB: 5, Password: "topsecret"})
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

// startSentinel runs a Sentinel that watches one master as mymaster, and returns its address.
func startSentinel(t *testing.T, master, password, sentinelPassword string) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	own := freePort(t)
	file := filepath.Join(t.TempDir(), "sentinel.conf") // Sentinel writes to it
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nrequirepass %s\nsentinel monitor mymaster %s %s 1\nsentinel auth-pass mymaster %s\n",
		own, sentinelPassword, host, port, password)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, file, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr := "127.0.0.1:" + own
	c := redis.NewSentinelClient(&redis.Options{Addr: addr, Password: sentinelPassword, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = c.Close() })
	until(t, "the Sentinel answers", func(ctx context.Context) bool {
		return c.GetMasterAddrByName(ctx, "mymaster").Err() == nil
	})
	return addr
}

func TestRealCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const nodes = 3
	var servers []*redistest.Server
	for range nodes {
		servers = append(servers, redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", freePort(t)))
	}
	for i, s := range servers {
		c := s.Client(t)
		const slots = 16384
		if err := c.ClusterAddSlotsRange(ctx, i*slots/nodes, (i+1)*slots/nodes-1).Err(); err != nil {
			t.Fatal(err)
		}
		for _, other := range servers[:i] {
			host, port, _ := net.SplitHostPort(other.Addr)
			bus := other.Client(t).ConfigGet(ctx, "cluster-port").Val()["cluster-port"]
			if err := c.Do(ctx, "CLUSTER", "MEET", host, port, bus).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range servers {
		c := s.Client(t)
		until(t, "the cluster is whole", func(ctx context.Context) bool {
			info := c.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:"+strconv.Itoa(nodes))
		})
	}
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

// until asks until a condition holds, for at most 30 seconds.
func until(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came true that %s", what)
		case <-tick.C:
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
