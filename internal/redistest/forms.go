package redistest

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
)

// StartTLS runs a server that also speaks TLS, on a port of its own, and lets in only clients with a certificate of the same
// authority. It skips the test where redis-server was built without TLS. url is rediss://; s.Addr stays the port without TLS, for
// the test's own use.
func StartTLS(t testing.TB, c Certificates, args ...string) (s *Server, url string) {
	t.Helper()
	needTLS(t)
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s = Start(t, append([]string{
		"--tls-port", port, "--tls-cert-file", c.Cert, "--tls-key-file", c.Key, "--tls-ca-cert-file", c.CA, "--tls-auth-clients", "yes",
	}, args...)...)
	return s, "rediss://" + addr + "/0"
}

func needTLS(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		missing(t)
	}
	out, _ := exec.Command(path, "--tls-port", "nonsense", "--port", "0").CombinedOutput()
	if strings.Contains(string(out), "built without TLS") || strings.Contains(string(out), "Bad directive") {
		if os.Getenv(Require) == "1" {
			t.Fatalf("this redis-server has no TLS, and %s=1 asks for it", Require)
		}
		fmt.Fprintf(os.Stderr, "SKIPPED %s: this redis-server has no TLS\n", t.Name())
		t.Skip("this redis-server has no TLS")
	}
}

// StartUnix runs a server that also listens on a Unix socket, and returns the socket's path.
func StartUnix(t testing.TB, args ...string) (s *Server, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rq") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	return Start(t, append([]string{"--unixsocket", socket}, args...)...), socket
}

// StartCluster runs a Cluster of three masters without replicas, and returns once all of them find it whole.
func StartCluster(t testing.TB, args ...string) []*Server {
	t.Helper()
	const nodes, slots = 3, 16384
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	var servers []*Server
	var buses []string
	for i := range nodes {
		bus, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(bus)
		s := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-port", port, "--cluster-node-timeout", "2000"}, args...)...)
		c := s.Client(t)
		if err := c.ClusterAddSlotsRange(ctx, i*slots/nodes, (i+1)*slots/nodes-1).Err(); err != nil {
			t.Fatal(err)
		}
		for j, other := range servers {
			host, port, _ := net.SplitHostPort(other.Addr)
			if err := c.Do(ctx, "CLUSTER", "MEET", host, port, buses[j]).Err(); err != nil {
				t.Fatal(err)
			}
		}
		servers, buses = append(servers, s), append(buses, port)
	}
	for _, s := range servers {
		c := s.Client(t)
		until(ctx, t, "the cluster is whole", func() bool {
			info := c.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:"+strconv.Itoa(nodes))
		})
	}
	return servers
}

// Sentinels are a master, a replica and three Sentinels that watch them.
type Sentinels struct {
	Master, Replica *Server
	Addrs           []string // of the Sentinels
}

// The name by which the Sentinels know the master, and how long it may be away before they agree to replace it.
const (
	MasterName = "mymaster"
	DownAfter  = 2 * time.Second
)

// StartSentinels runs them with a password for Redis and another for the Sentinels.
func StartSentinels(t testing.TB, password, sentinelPassword string) *Sentinels {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	secret := []string{"--requirepass", password, "--masterauth", password}
	s := &Sentinels{Master: Start(t, secret...)}
	host, port, _ := net.SplitHostPort(s.Master.Addr)
	s.Replica = Start(t, append(secret, "--replicaof", host+" "+port)...)
	replica := s.Replica.Client(t)
	until(ctx, t, "the replica follows", func() bool {
		return strings.Contains(replica.Info(ctx, "replication").Val(), "master_link_status:up")
	})
	for range 3 {
		s.Addrs = append(s.Addrs, startSentinel(ctx, t, s.Master.Addr, password, sentinelPassword))
	}
	for _, addr := range s.Addrs {
		c := redis.NewSentinelClient(&redis.Options{Addr: addr, Password: sentinelPassword})
		until(ctx, t, "the Sentinels know each other and the replica", func() bool {
			m, _ := c.Master(ctx, MasterName).Result()
			return m["num-other-sentinels"] == "2" && m["num-slaves"] == "1"
		})
		_ = c.Close()
	}
	return s
}

func startSentinel(ctx context.Context, t testing.TB, master, password, own string) string {
	t.Helper()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	host, masterPort, _ := net.SplitHostPort(master)
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf") // Sentinel writes to it
	text := strings.Join([]string{
		"bind 127.0.0.1", "port " + port, "dir " + dir, "logfile " + filepath.Join(dir, "sentinel.log"),
		"requirepass " + own, "sentinel sentinel-pass " + own,
		"sentinel monitor " + MasterName + " " + host + " " + masterPort + " 2",
		"sentinel auth-pass " + MasterName + " " + password,
		"sentinel down-after-milliseconds " + MasterName + " " + strconv.FormatInt(DownAfter.Milliseconds(), 10),
		"sentinel failover-timeout " + MasterName + " 10000",
	}, "\n") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(exec.Command(path, file, "--sentinel"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	c := redis.NewSentinelClient(&redis.Options{Addr: addr, Password: own, MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	until(ctx, t, "the Sentinel answers", func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second) // go-redis logs each connection that is refused; this does not
		if err != nil {
			return false
		}
		_ = conn.Close()
		return c.GetMasterAddrByName(ctx, MasterName).Err() == nil
	})
	return addr
}

// until asks until a condition holds.
func until(ctx context.Context, t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("redistest: it never came true that %s: %v", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
