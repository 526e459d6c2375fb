package redisconn

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
)

func inspect(t *testing.T, o Options) Report {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r, err := Inspect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// says compares what people are told, and whether require_durable refuses.
func (r Report) says(t *testing.T, durable bool, warnings, unchecked []string) {
	t.Helper()
	var texts []string
	for _, w := range r.Warnings {
		texts = append(texts, w.Text)
	}
	if diff := cmp.Diff(warnings, texts); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(unchecked, r.Unchecked); diff != "" {
		t.Errorf("not checked (-want +got):\n%s", diff)
	}
	if err := r.Durable(); (err == nil) != durable {
		t.Errorf("require_durable says %v", err)
	}
}

const (
	nothingKept = `redis keeps nothing on disk (appendonly no, save ""): a restart loses all recalls; set appendonly to yes`
	evicts      = `redis throws keys away when its memory is full (maxmemory-policy allkeys-lru), recalls among them; set maxmemory-policy to noeviction`
)

func TestInspectSaysWhatMayBeLost(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args    []string
		durable bool
		want    []string
	}{
		"append-only file": {args: []string{"--appendfsync", "everysec"}, durable: true},
		"nothing kept":     {args: []string{"--appendonly", "no"}, want: []string{nothingKept}},
		"snapshots": {
			args: []string{"--appendonly", "no", "--save", "3600 1 60 10000"},
			want: []string{`redis writes snapshots only (appendonly no, save "3600 1 60 10000"): a crash loses all recalls since the last one; set appendonly to yes`},
		},
		"no fsync": {
			args: []string{"--appendfsync", "no"},
			want: []string{"redis leaves it to the system when its file is written to disk (appendfsync no): a power cut loses the recalls of half a minute; set appendfsync to everysec or always"},
		},
		"eviction": {args: []string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"}, want: []string{evicts}},
		"both":     {args: []string{"--appendonly", "no", "--maxmemory-policy", "allkeys-lru"}, want: []string{nothingKept, evicts}},
		"short strings": {args: []string{"--proto-max-bulk-len", "1mb"}, durable: true, want: []string{
			"redis takes no string of more than 1048576 bytes (proto-max-bulk-len), so that a batch of more recalls cannot count them; set proto-max-bulk-len to 128mb or more",
		}},
		"strings as long as needed": {args: []string{"--proto-max-bulk-len", "128mb"}, durable: true},
		"a bound, empty":            {args: []string{"--maxmemory", "1gb"}, durable: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := inspect(t, Options{URL: redistest.Start(t, c.args...).URL})
			r.says(t, c.durable, c.want, nil)
			if older(r.Version, MinVersion) {
				t.Errorf("version %q", r.Version)
			}
		})
	}
}

func TestInspectSaysThatMemoryRunsOut(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	if err := c.SetRange(t.Context(), "k", 20<<20, "x").Err(); err != nil { // without buffers that come and go
		t.Fatal(err)
	}
	used := inspect(t, Options{URL: s.URL}).UsedMemory
	if used < 20<<20 {
		t.Fatalf("%d bytes used", used)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(used+used/20, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	r := inspect(t, Options{URL: s.URL})
	if free, bounded := r.Free(); !bounded || free > used/10 {
		t.Errorf("%d bytes free (%v), of %d", free, bounded, r.MaxMemory)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Text, " MiB (maxmemory); once that is full it takes no more recalls") {
		t.Errorf("warnings %v", r.Warnings)
	}
	if err := r.Durable(); err != nil { // it refuses what does not fit, and loses nothing
		t.Error(err)
	}
}

func TestInspectRefusesAReplica(t *testing.T) {
	t.Parallel()
	host, port, _ := net.SplitHostPort(redistest.Start(t).Addr)
	s := redistest.Start(t, "--replicaof", host+" "+port)
	const want = "redis is a read-only replica; name the primary, or the Sentinels"
	if _, err := Inspect(t.Context(), s.Client(t)); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := s.Client(t).ConfigSet(t.Context(), "replica-read-only", "no").Err(); err != nil {
		t.Fatal(err)
	}
	r := inspect(t, Options{URL: s.URL})
	r.says(t, false, []string{"redis is a replica (replica-read-only no): what is written to it is gone with its next synchronisation; name the primary"}, nil)
}

func TestInspectWithoutThePermissionToLook(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	for user, rule := range map[string]string{"blind": "+ping", "looks": "+ping +info", "reads": "+ping +config|get"} {
		args := []any{"ACL", "SETUSER", user, "on", ">secret", "~*"}
		for _, r := range strings.Fields(rule) {
			args = append(args, r)
		}
		if err := s.Client(t).Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	as := func(user string) Report { return inspect(t, Options{URL: s.URL, Username: user, Password: "secret"}) }

	blind := as("blind")
	blind.says(t, false, nil, []string{
		"whether redis keeps its data on disk could not be checked",
		"what redis does when its memory is full (maxmemory-policy) could not be checked",
	})
	if older(blind.Version, MinVersion) {
		t.Errorf("version %q", blind.Version)
	}
	if err := blind.Durable(); err == nil || !strings.Contains(err.Error(), "let this user of Redis run info") {
		t.Errorf("require_durable says %v", err)
	}
	as("looks").says(t, false, []string{evicts}, []string{"how often redis writes to disk (appendfsync) could not be checked"})
	as("reads").says(t, false, []string{evicts}, nil)
}

// The demo's embedded Redis answers little of this, and nobody is to be alarmed by it.
func TestInspectOfTheEmbeddedRedis(t *testing.T) {
	t.Parallel()
	r := inspect(t, Options{URL: "redis://" + miniredis.RunT(t).Addr() + "/0"})
	if len(r.Warnings) != 0 {
		t.Errorf("warnings %v", r.Warnings)
	}
}

func TestInspectAsksEveryNodeOfACluster(t *testing.T) {
	t.Parallel()
	servers := redistest.StartCluster(t)
	o := Options{Cluster: []string{servers[1].Addr}}
	inspect(t, o).says(t, true, nil, nil)
	for _, s := range servers {
		if err := s.Client(t).ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers[2].Client(t).ConfigSet(t.Context(), "appendonly", "no").Err(); err != nil {
		t.Fatal(err)
	}
	inspect(t, o).says(t, false, []string{"node " + servers[2].Addr + ": " + nothingKept, evicts}, nil)
}

func TestInspectRefusesOneNodeOfACluster(t *testing.T) {
	t.Parallel()
	servers := redistest.StartCluster(t)
	const want = "redis is a node of a Cluster and has only some of the keys; name its nodes under the key cluster, instead of url"
	for _, s := range servers {
		if _, err := Inspect(t.Context(), s.Client(t)); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	servers[0].Kill()
	c, err := New(Options{Cluster: []string{servers[1].Addr, servers[2].Addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := Inspect(t.Context(), c); err == nil {
		t.Error("a Cluster that has lost a master is good")
	}
}

// A Cluster of one node has all keys, and needs no other client.
func TestInspectAcceptsTheOnlyNodeOfACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	c := s.Client(t)
	if _, err := Inspect(t.Context(), c); !redis.HasErrorPrefix(err, "CLUSTERDOWN") {
		t.Errorf("a Cluster without slots: %v", err)
	}
	if err := c.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := Inspect(t.Context(), c)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestInspectOfASentinelsMaster(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, "topsecret", "sentinelsecret")
	o := Options{URL: "redis-sentinel://" + strings.Join(s.Addrs, ",") + "/5?master=" + redistest.MasterName, Password: "topsecret", SentinelPassword: "sentinelsecret"}
	inspect(t, o).says(t, true, nil, nil)
}

func TestInspectWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	s.Kill()
	if _, err := Inspect(t.Context(), c); err == nil {
		t.Error("a Redis that is away is inspected")
	}
	s.Restart()
	s.Freeze()
	defer s.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	patient := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true})
	defer func() { _ = patient.Close() }()
	if _, err := Inspect(ctx, patient); err == nil {
		t.Error("a frozen Redis is inspected")
	}
}

func TestInspectRefusesWhatIsTooOld(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"5.0.14": "redis has version 5.0.14; recallq needs 6.2 or newer",
		"6.0.16": "redis has version 6.0.16; recallq needs 6.2 or newer",
		"6.2.0":  "", "6.10.1": "", "7.0.15": "", "10.0": "", "": "",
	} {
		_, err := report([]node{{version: version}})
		if got := ""; err != nil {
			got = err.Error()
			if got != want {
				t.Errorf("%q: %s, want %q", version, got, want)
			}
		} else if want != "" {
			t.Errorf("%q is let pass", version)
		}
	}
	_, err := report([]node{{addr: "10.0.0.1:6379", version: "7.2.4"}, {addr: "10.0.0.2:6379", version: "6.0.16"}})
	if err == nil || err.Error() != "redis node 10.0.0.2:6379 has version 6.0.16; recallq needs 6.2 or newer" {
		t.Errorf("a Cluster with an old node: %v", err)
	}
}
