package redisconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// MinVersion is the oldest Redis that recallq works with: asynq archives tasks by commands that came with it, and so does the
// inbox take over entries of dead workers.
const MinVersion = "6.2"

// MinBulkLen is the least proto-max-bulk-len that recallq needs, in bytes: a batch has a byte for each of its recalls, and Redis takes no
// longer string. Redis's own is four times as much.
const MinBulkLen = 128 << 20

// fullAt is how full Redis's memory may be before it is said, in percent of maxmemory.
const fullAt = 80

// Report is what a Redis was found to be. Of a Cluster it is about all masters.
type Report struct {
	// Version is "7.0.15", the oldest of a Cluster's; empty if it could not be found out.
	Version string
	// MaxMemory is Redis's own bound in bytes, zero if it has none or is not known, and UsedMemory what it uses. Of a Cluster
	// they are those of the node that has the least left: one lane's recalls are all on one node.
	MaxMemory, UsedMemory int64
	// Warnings are for people, one line each.
	Warnings []Warning
	// Unchecked are for people too: what could not be found out because Redis does not let this user look.
	Unchecked []string

	hidden []string // what was not found out of how well Redis keeps recalls
}

// Warning is something that is wrong with a Redis but does not keep recallq from working with it.
type Warning struct {
	Text string
	// Loss is true if recalls may get lost or evicted by it.
	Loss bool
	// Short is true if large batches do not fit.
	Short bool
}

// String returns the text.
func (w Warning) String() string { return w.Text }

// Free returns how many bytes Redis still takes; false if it has no bound of its own, or did not tell.
func (r Report) Free() (int64, bool) {
	return max(r.MaxMemory-r.UsedMemory, 0), r.MaxMemory > 0
}

// Durable is for require_durable: an error that joins the warnings about recalls that may get lost or evicted, or says that it
// could not be found out. It is nil if Redis keeps what it is given.
func (r Report) Durable() error {
	var faults []error
	for _, w := range r.Warnings {
		if w.Loss {
			faults = append(faults, errors.New(w.Text))
		}
	}
	for _, what := range r.hidden {
		faults = append(faults, fmt.Errorf("%s could not be checked; let this user of Redis run info", what))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("redis.require_durable: %w", errors.Join(faults...))
}

// Inspect asks Redis what it is and how well it keeps what it is given. The error says that Redis does not answer, is too old,
// is a read-only replica, or has some of the keys only. What Redis does not let this user ask (by its ACL, or because it is a managed service) is
// listed in the Report, and is no error.
func Inspect(ctx context.Context, rdb redis.UniversalClient) (Report, error) {
	nodes, err := look(ctx, rdb)
	if err != nil {
		return Report{}, err
	}
	r, err := report(nodes)
	if err != nil {
		return Report{}, err
	}
	return r, reach(ctx, rdb)
}

// reach looks for keys all over a Redis Cluster. One node of it answers everything else although it has a part of the keys only, and
// so does a Cluster that has lost some.
func reach(ctx context.Context, rdb redis.UniversalClient) error {
	const keys = 16
	pipe := rdb.Pipeline()
	for i := range keys {
		pipe.Exists(ctx, fmt.Sprintf("recallq:due:{%d}", i))
	}
	cmds, _ := pipe.Exec(ctx) // each has an error of its own
	for _, cmd := range cmds {
		switch err := cmd.Err(); {
		case err == nil, withheld(err):
		case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"):
			return errors.New("redis is a node of a Cluster and has only some of the keys; name its nodes under the key cluster, instead of url")
		default:
			return err
		}
	}
	return nil
}

// node is what one Redis server says about itself.
type node struct {
	addr    string // of a Cluster's node; empty otherwise
	version string
	replica bool
	// info and config are what INFO and CONFIG GET said; empty where they are not allowed.
	info, config map[string]string
}

// look asks the server, or all masters of a Cluster.
func look(ctx context.Context, rdb redis.UniversalClient) ([]node, error) {
	many, ok := rdb.(*redis.ClusterClient)
	if !ok {
		n, err := ask(ctx, rdb)
		return []node{n}, err
	}
	var mu sync.Mutex
	var nodes []node
	err := many.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		n, err := ask(ctx, c)
		n.addr = c.Options().Addr
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, n)
		return err
	})
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.addr, b.addr) })
	return nodes, err
}

// asked are the settings that are asked for one by one: before 7.0 Redis takes one name at a time.
var asked = [...]string{"appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "proto-max-bulk-len"}

func ask(ctx context.Context, rdb redis.Cmdable) (node, error) {
	n := node{info: map[string]string{}, config: map[string]string{}}
	pipe := rdb.Pipeline()
	ping := pipe.Ping(ctx)
	hello := pipe.Do(ctx, "HELLO") // allowed to everybody, and new in 6.0
	info := pipe.Info(ctx)
	var settings [len(asked)]*redis.MapStringStringCmd
	for i, name := range asked {
		settings[i] = pipe.ConfigGet(ctx, name)
	}
	_, _ = pipe.Exec(ctx) // each has an error of its own
	if err := ping.Err(); err != nil {
		return n, err
	}
	for _, cmd := range []redis.Cmder{hello, info, settings[0]} {
		if err := cmd.Err(); err != nil && !withheld(err) {
			return n, err
		}
	}
	for _, line := range strings.Split(info.Val(), "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			n.info[key] = value
		}
	}
	for i, name := range asked {
		if value, ok := settings[i].Val()[name]; ok {
			n.config[name] = value
		}
	}
	said := pairs(hello.Val())
	n.version = said["version"]
	if own := n.info["redis_version"]; own != "" {
		n.version = own
	}
	role := said["role"] + n.info["role"]
	n.replica = strings.Contains(role, "slave") || strings.Contains(role, "replica")
	return n, nil
}

// withheld reports whether Redis has answered, and only does not tell: not allowed, renamed, or not known.
func withheld(err error) bool {
	var said redis.Error
	return redis.HasErrorPrefix(err, "NOPERM") || errors.As(err, &said) && strings.HasPrefix(said.Error(), "ERR ")
}

// pairs reads a map as RESP2 and RESP3 write it.
func pairs(reply any) map[string]string {
	said := map[string]string{}
	switch list := reply.(type) {
	case []any:
		for i := 0; i+1 < len(list); i += 2 {
			said[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
		}
	case map[any]any:
		for key, value := range list {
			said[fmt.Sprint(key)] = fmt.Sprint(value)
		}
	}
	return said
}

// report says what the answers come to.
func report(nodes []node) (Report, error) {
	var r Report
	var f findings
	for i, n := range nodes {
		if err := n.refusal(); err != nil {
			return Report{}, err
		}
		if r.Version == "" || n.version != "" && older(n.version, r.Version) {
			r.Version = n.version
		}
		if limit, used := n.memory(); i == 0 || limit > 0 && (r.MaxMemory == 0 || limit-used < r.MaxMemory-r.UsedMemory) {
			r.MaxMemory, r.UsedMemory = limit, used
		}
	}
	for _, check := range []func(node, *findings){node.persistence, node.eviction, node.fullness, node.lengths, node.standing} {
		for _, n := range nodes {
			check(n, &f)
		}
	}
	for _, found := range f {
		text := found.text
		if len(found.nodes) < len(nodes) {
			text = "node " + strings.Join(found.nodes, ", ") + ": " + text
		}
		switch {
		case !found.unchecked:
			r.Warnings = append(r.Warnings, Warning{Text: text, Loss: found.loss, Short: found.short})
		case found.loss:
			r.hidden = append(r.hidden, text)
			fallthrough
		default:
			r.Unchecked = append(r.Unchecked, text+" could not be checked")
		}
	}
	return r, nil
}

// finding is something to be said about some nodes.
type finding struct {
	text      string
	nodes     []string
	loss      bool
	short     bool
	unchecked bool
}

type findings []finding

func (f *findings) add(n node, found finding) {
	for i := range *f {
		if have := &(*f)[i]; have.text == found.text {
			have.nodes = append(have.nodes, n.addr)
			return
		}
	}
	found.nodes = []string{n.addr}
	*f = append(*f, found)
}

func (f *findings) warn(n node, format string, args ...any) {
	f.add(n, finding{text: fmt.Sprintf(format, args...)})
}

func (f *findings) loss(n node, format string, args ...any) {
	f.add(n, finding{text: fmt.Sprintf(format, args...), loss: true})
}

// refusal says why recallq cannot work with this server at all.
func (n node) refusal() error {
	where := "redis"
	if n.addr != "" {
		where += " node " + n.addr
	}
	if n.version != "" && older(n.version, MinVersion) {
		return fmt.Errorf("%s has version %s; recallq needs %s or newer", where, n.version, MinVersion)
	}
	if n.replica && n.info["slave_read_only"] != "0" {
		return fmt.Errorf("%s is a read-only replica; name the primary, or the Sentinels", where)
	}
	return nil
}

// older compares versions number by number. What is no number counts as zero.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		var p, q int
		if i < len(x) {
			p, _ = strconv.Atoi(x[i])
		}
		if i < len(y) {
			q, _ = strconv.Atoi(y[i])
		}
		if p != q {
			return p < q
		}
	}
	return false
}

func (n node) persistence(f *findings) {
	file := n.info["aof_enabled"] == "1" || n.config["appendonly"] == "yes"
	_, told := n.info["aof_enabled"]
	if _, ok := n.config["appendonly"]; !told && !ok {
		f.add(n, finding{text: "whether redis keeps its data on disk", loss: true, unchecked: true})
		return
	}
	if !file {
		n.snapshots(f)
		return
	}
	switch fsync, ok := n.config["appendfsync"]; {
	case !ok:
		f.add(n, finding{text: "how often redis writes to disk (appendfsync)", unchecked: true})
	case fsync == "no":
		f.loss(n, "redis leaves it to the system when its file is written to disk (appendfsync no): a power cut loses the recalls of half a minute; set appendfsync to everysec or always")
	}
	if status := n.info["aof_last_write_status"]; status != "" && status != "ok" {
		f.loss(n, "redis could not write its append-only file; see its log and its disk")
	}
}

// snapshots are what is left without an append-only file.
func (n node) snapshots(f *findings) {
	save, told := n.config["save"]
	switch {
	case !told:
		f.loss(n, "redis has no append-only file: a crash loses all recalls since its last snapshot, if it makes any; set appendonly to yes")
	case save == "":
		f.loss(n, "redis keeps nothing on disk (appendonly no, save \"\"): a restart loses all recalls; set appendonly to yes")
	default:
		f.loss(n, "redis writes snapshots only (appendonly no, save %q): a crash loses all recalls since the last one; set appendonly to yes", save)
	}
}

func (n node) eviction(f *findings) {
	policy := n.info["maxmemory_policy"]
	if policy == "" {
		policy = n.config["maxmemory-policy"]
	}
	switch policy {
	case "noeviction":
	case "":
		f.add(n, finding{text: "what redis does when its memory is full (maxmemory-policy)", loss: true, unchecked: true})
	default:
		f.loss(n, "redis throws keys away when its memory is full (maxmemory-policy %s), recalls among them; set maxmemory-policy to noeviction", policy)
	}
}

// memory returns the node's bound and what it uses, in bytes; zero where it is not known.
func (n node) memory() (limit, used int64) {
	text := n.info["maxmemory"]
	if text == "" {
		text = n.config["maxmemory"]
	}
	limit, _ = strconv.ParseInt(text, 10, 64)
	used, _ = strconv.ParseInt(n.info["used_memory"], 10, 64)
	return limit, used
}

func (n node) fullness(f *findings) {
	const mib = 1 << 20
	limit, used := n.memory()
	if limit == 0 || used < limit/100*fullAt {
		return
	}
	f.warn(n, "redis has used %d MiB of its %d MiB (maxmemory); once that is full it takes no more recalls", used/mib, limit/mib)
}

// lengths are about batches that are yet to grow, so that only what Redis tells is looked at.
func (n node) lengths(f *findings) {
	most, err := strconv.ParseInt(n.config["proto-max-bulk-len"], 10, 64)
	if err != nil || most >= MinBulkLen {
		return
	}
	f.add(n, finding{short: true, text: fmt.Sprintf(
		"redis takes no string of more than %d bytes (proto-max-bulk-len), so that a batch of more recalls cannot count them; set proto-max-bulk-len to 128mb or more", most)})
}

func (n node) standing(f *findings) {
	if n.replica {
		f.loss(n, "redis is a replica (replica-read-only no): what is written to it is gone with its next synchronisation; name the primary")
	}
	if n.version == "" {
		f.add(n, finding{text: "the version of redis", unchecked: true})
	}
}
