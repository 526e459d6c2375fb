package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// documentedUsers are the users of Redis that docs/operations.md tells operators to make, as arguments of ACL SETUSER.
func documentedUsers(t *testing.T) map[string][]any {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	users := map[string][]any{}
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != "ACL" || words[1] != "SETUSER" {
			continue
		}
		var args []any
		for _, w := range words {
			args = append(args, w)
		}
		users[words[2]] = args
	}
	return users
}

// aclForm is a Redis whose users have exactly the rights that docs/operations.md gives them; its default user is the test's own.
func aclForm(t *testing.T) form {
	s := redistest.Start(t)
	admin := s.Client(t)
	users := documentedUsers(t)
	secret := map[string]string{}
	for _, name := range []string{"worker", "operator", "producer", "push", "reader"} {
		if users[name] == nil {
			t.Fatalf("docs/operations.md has no ACL SETUSER %s", name)
		}
		secret[name] = "secret-of-" + name
		args := append(users[name], "resetpass", ">"+secret[name])
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("ACL SETUSER %s: %v", name, err)
		}
	}
	section := func(user string) string {
		return fmt.Sprintf("{url: %q, username: %s, password: %s}", s.URL, user, secret[user])
	}
	options := func(user string) redisconn.Options {
		return redisconn.Options{URL: s.URL, Username: user, Password: secret[user]}
	}
	return form{
		worker: section("worker"), operator: section("operator"),
		admin: redisconn.Options{URL: s.URL}, push: options("push"), producer: options("producer"), reader: options("reader"),
		after: func(t *testing.T) { refusedNothing(t, admin) },
	}
}

// On a Cluster every user has to find out which node has which keys; the worker's page shows more of it.
const (
	onACluster     = "+cluster|slots +command"
	pageOnACluster = "+cluster|info +cluster|nodes +cluster|keyslot"
)

// aclClusterForm is the same on a Cluster, whose nodes each have the users.
func aclClusterForm(t *testing.T) form {
	nodes := redistest.StartCluster(t)
	users := documentedUsers(t)
	var addrs []string
	for _, s := range nodes {
		addrs = append(addrs, s.Addr)
		for _, name := range []string{"worker", "operator", "producer", "push", "reader"} {
			args := append(slices.Clone(users[name]), "resetpass", ">secret-of-"+name)
			rights := onACluster
			if name == "worker" {
				rights += " " + pageOnACluster
			}
			for _, right := range strings.Fields(rights) {
				args = append(args, right)
			}
			if err := s.Client(t).Do(t.Context(), args...).Err(); err != nil {
				t.Fatalf("ACL SETUSER %s: %v", name, err)
			}
		}
	}
	section := func(user string) string {
		return fmt.Sprintf("{cluster: [%q, %q, %q], username: %s, password: secret-of-%s}", addrs[0], addrs[1], addrs[2], user, user)
	}
	options := func(user string) redisconn.Options {
		return redisconn.Options{Cluster: addrs, Username: user, Password: "secret-of-" + user}
	}
	return form{
		worker: section("worker"), operator: section("operator"), admin: redisconn.Options{Cluster: addrs[:1]},
		push: options("push"), producer: options("producer"), reader: options("reader"),
		after: func(t *testing.T) {
			for _, s := range nodes {
				refusedNothing(t, s.Client(t))
			}
		},
	}
}

// refusedNothing looks into Redis's own record of what it has refused.
func refusedNothing(t *testing.T, admin *redis.Client) {
	t.Helper()
	denied, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range denied {
		e, ok := entry.(map[any]any)
		if !ok {
			t.Fatalf("ACL LOG answers %v", entry)
		}
		if e["object"] == "config|get" || e["object"] == "info" {
			continue // the look at the start, which does without
		}
		t.Errorf("Redis refused %v the %v %v (%v)", e["username"], e["reason"], e["object"], e["context"])
	}
}

// Operators and the worker's inbox enqueue as producers do.
func TestWhoeverEnqueuesHasAProducersRights(t *testing.T) {
	users := documentedUsers(t)
	for _, right := range users["producer"][4:] {
		for _, user := range []string{"operator", "worker"} {
			if text := right.(string); text[0] != '>' && !covers(users[user], text) {
				t.Errorf("%s lacks %s, which producer has", user, text)
			}
		}
	}
}

// covers reports whether a user's rights hold one: a command, or a pattern of keys or channels.
func covers(rights []any, right string) bool {
	return slices.ContainsFunc(rights, func(r any) bool {
		prefix, open := strings.CutSuffix(r.(string), "*")
		return r == right || open && strings.HasPrefix(right, prefix)
	})
}

// produces enqueues as a push system does: a recall, one in a batch, and one that waited and is urgent now. Another batch has so many
// duplicates that their numbers are bits.
func (s *formSite) produces() {
	s.t.Helper()
	ctx := s.t.Context()
	p := tasks.NewProducer(s.client(s.producer))
	urgent := ums(100)
	urgent.SentAt = base
	if res, err := p.Enqueue(ctx, urgent); err != nil || res.Status != tasks.Enqueued {
		s.t.Errorf("the producer: %+v, %v", res, err)
	}
	b, err := p.OpenBatch(ctx, tasks.BatchOptions{Name: "produced", By: "the push system", Inputs: []string{"a"}})
	if err != nil {
		s.t.Fatal(err)
	}
	waits := push(100)
	waits.SentAt = base
	if res, err := b.Enqueue(ctx, waits, tasks.WithPriority(tasks.Bulk)); err != nil || res.Status != tasks.Enqueued {
		s.t.Errorf("the producer's batch: %+v, %v", res, err)
	}
	if err := b.Done(ctx, "a"); err != nil {
		s.t.Error(err)
	}
	if err := b.Close(ctx); err != nil {
		s.t.Error(err)
	}
	if res, err := p.Enqueue(ctx, waits); err != nil || !res.Promoted {
		s.t.Errorf("the producer's promotion: %+v, %v", res, err)
	}
	again, err := p.OpenBatch(ctx, tasks.BatchOptions{Name: "again", By: "the push system"})
	if err != nil {
		s.t.Fatal(err)
	}
	if res, err := again.Enqueue(ctx, waits); err != nil || res.Existing.Batch != "produced" {
		s.t.Errorf("the producer's duplicate: %+v, %v", res, err)
	}
	if err := again.Close(ctx); err != nil {
		s.t.Error(err)
	}
	var many []tasks.Count
	for seq := range int64(600) {
		many = append(many, tasks.Count{ID: waits.ID(), As: tasks.Duplicate, Of: tasks.Number{Batch: "produced", Seq: 2 + seq}})
	}
	if _, err := tasks.CountIn(ctx, s.client(s.producer), "again", many...); err != nil {
		s.t.Error(err)
	}
}

// follows reads outcomes as a consumer group.
func (s *formSite) follows() {
	s.t.Helper()
	ctx, c := s.t.Context(), s.client(s.reader)
	const group = "billing"
	if err := c.XGroupCreate(ctx, "recallq:outcomes", group, "0").Err(); err != nil {
		s.t.Fatal(err)
	}
	read, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: "one", Streams: []string{"recallq:outcomes", ">"}, Count: 10}).Result()
	if err != nil || len(read) != 1 || len(read[0].Messages) != 10 {
		s.t.Fatalf("read %v, %v", read, err)
	}
	if n, err := c.XAck(ctx, "recallq:outcomes", group, read[0].Messages[0].ID).Result(); err != nil || n != 1 {
		s.t.Errorf("acknowledged %d, %v", n, err)
	}
}

// client is one of the form's users; without such a user, the test's own.
func (s *formSite) client(o redisconn.Options) redis.UniversalClient {
	s.t.Helper()
	if o.URL == "" && len(o.Cluster) == 0 {
		return s.rdb
	}
	c, err := redisconn.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}
