package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func mini(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func onBoth(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, mini(t))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, redistest.Start(t, "--appendfsync", "no").Client(t))
	})
}

func publishLane(t testing.TB, rdb redis.Cmdable) {
	t.Helper()
	err := tasks.PublishLane(t.Context(), rdb, tasks.Lane{Provider: providers.Jiguang, App: "app", Window: 24 * time.Hour, LastSeen: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
}

// counted is what one recall counts as in one batch, and under which number.
type counted struct {
	as  string
	seq int64
}

// task is a task as the model knows it.
type task struct {
	Task
	batch   string
	seq     int64
	state   string
	outcome string // on record at the task
	rerun   bool   // a person has run it again
}

// failed reports whether a new row may take the task's place.
func (k *task) failed() bool {
	switch {
	case tasks.Succeeded(k.outcome), k.state == "active", k.state == "completed":
		return false
	}
	return k.state == "archived" || k.outcome != ""
}

// model says, in the simplest words there are, what every batch must count. It plays the worker and asynq against the real
// Redis, step by step, and dies in the middle of a record when it likes.
type model struct {
	t         *testing.T
	rdb       *redis.Client
	rnd       *rand.Rand
	ledger    *Ledger
	producer  *tasks.Producer
	sentAt    time.Time
	tasks     map[string]*task              // by message id
	batches   map[string]map[string]counted // by name and message id
	replaced  map[string][]int64            // numbers that others have taken the place of, by batch and message id
	cancelled map[string]bool
	log       []string
}

const (
	modelRecalls = 8
	modelSteps   = 150
)

var (
	modelBatches = []string{"a", "b", "c"}
	failures     = []string{tasks.Expired, tasks.NotFound, tasks.Rejected, tasks.Cancelled}
)

func newModel(t *testing.T, rdb *redis.Client, seed uint64) *model {
	publishLane(t, rdb)
	return &model{
		t: t, rdb: rdb, rnd: rand.New(rand.NewPCG(seed, 1)), ledger: New(rdb), producer: tasks.NewProducer(rdb),
		sentAt: time.Now().Truncate(time.Second), tasks: map[string]*task{}, batches: map[string]map[string]counted{}, cancelled: map[string]bool{},
		replaced: map[string][]int64{},
	}
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.story())
	}
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) story() string {
	text := ""
	for i, line := range m.log {
		text += fmt.Sprintf("%3d %s\n", i+1, line)
	}
	return text
}

func (m *model) row(id string) tasks.Recall {
	return tasks.Recall{Provider: providers.Jiguang, App: "app", MessageID: id, SentAt: m.sentAt, Ref: "ref " + id}
}

// open is a run of an input: it makes the batch if need be, and takes a cancel back.
func (m *model) open(name string) *tasks.Batch {
	b, err := m.producer.OpenBatch(m.t.Context(), tasks.BatchOptions{Name: name, By: "ops", Inputs: []string{"file"}})
	m.must(err)
	m.cancelled[name] = false
	if m.batches[name] == nil {
		m.batches[name] = map[string]counted{}
	}
	return b
}

// enqueue runs rows of a file through a batch.
func (m *model) enqueue(name string, priority tasks.Priority, ids ...string) {
	m.note("enqueue %v in %s, %s", ids, name, priority)
	b := m.open(name)
	if m.rnd.IntN(2) == 0 {
		slices.Sort(ids) // of one that is there twice, either may come first
		ids = slices.Compact(ids)
		rows := make([]tasks.Recall, len(ids))
		for i, id := range ids {
			rows[i] = m.row(id)
		}
		for i, e := range b.EnqueueAll(m.t.Context(), rows, tasks.WithPriority(priority)) {
			m.must(e.Err)
			m.expect(name, ids[i], priority, e.Result)
		}
		ids = nil
	}
	for _, id := range ids {
		res, err := b.Enqueue(m.t.Context(), m.row(id), tasks.WithPriority(priority))
		m.must(err)
		m.expect(name, id, priority, res)
	}
	m.must(b.Done(m.t.Context(), "file"))
	m.must(b.Close(m.t.Context()))
}

// expect tells the model of a row that was enqueued, and compares what came of it.
func (m *model) expect(name, id string, priority tasks.Priority, res tasks.Result) {
	m.t.Helper()
	want := m.put(name, id, priority, res)
	if res.Status != want {
		m.t.Fatalf("%s in %s is %s, not %s\n%s", id, name, res.Status, want, m.story())
	}
	k, have := m.tasks[id], m.batches[name][id]
	switch {
	case k.batch != name:
		if !tasks.Succeeded(have.as) {
			m.batches[name][id] = counted{tasks.Duplicate, have.seq}
		}
	case tasks.Succeeded(have.as):
	case tasks.Succeeded(k.outcome):
		m.set(name, id, k.outcome, k.seq)
	case have.seq != k.seq || have.as == "":
		m.set(name, id, tasks.Open, k.seq)
	}
}

// set has a recall count as something, perhaps under a new number.
func (m *model) set(name, id, as string, seq int64) {
	if old := m.batches[name][id].seq; old != 0 && old != seq {
		m.replaced[name+" "+id] = append(m.replaced[name+" "+id], old)
	}
	m.batches[name][id] = counted{as, seq}
}

// put is what the queue makes of a row.
func (m *model) put(name, id string, priority tasks.Priority, res tasks.Result) tasks.Status {
	k := m.tasks[id]
	switch {
	case k != nil && k.failed():
		if k.outcome != "" && !tasks.Succeeded(m.batches[k.batch][id].as) {
			m.set(k.batch, id, k.outcome, k.seq) // if nobody had counted it
		}
	case k != nil:
		bulk := k.Queue == tasks.Queue(providers.Jiguang, "app", tasks.Bulk)
		if bulk && priority == tasks.Urgent && k.state != "active" && k.state != "completed" && !tasks.Succeeded(k.outcome) {
			k.Queue, k.state = tasks.Queue(providers.Jiguang, "app", tasks.Urgent), "pending"
		}
		return tasks.Duplicate
	}
	m.tasks[id] = &task{Task: Task{res.Queue, res.ID}, batch: name, seq: res.Seq, state: "pending"}
	return tasks.Enqueued
}

// die enqueues a row the way an enqueuer does that is killed before it has counted it.
func (m *model) die(name string, priority tasks.Priority, id string) {
	m.note("enqueue %s in %s, %s, and die", id, name, priority)
	rdb := redis.NewClient(m.rdb.Options())
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(dying{tasks.BatchKey(name)})
	alive := m.producer
	m.producer = tasks.NewProducer(rdb)
	b := m.open(name)
	m.producer = alive
	res, err := b.Enqueue(m.t.Context(), m.row(id), tasks.WithPriority(priority))
	m.must(err)
	if err := b.Close(m.t.Context()); !errors.Is(err, errDied) {
		m.t.Fatalf("%v\n%s", err, m.story())
	}
	if want := m.put(name, id, priority, res); want != res.Status {
		m.t.Fatalf("%s in %s is %s, not %s\n%s", id, name, res.Status, want, m.story())
	}
}

var errDied = errors.New("died")

// dying is a client that dies when what it has enqueued in a batch is to be counted.
type dying struct{ batch string }

func (d dying) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.counts(cmd) {
			cmd.SetErr(errDied)
			return errDied
		}
		return next(ctx, cmd)
	}
}

func (d dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// counts reports whether a command counts a recall in the batch, other than to note what there was before it is enqueued: EVALSHA, the
// script, the number of keys, the keys, two arguments, and of each recall its number, its letter, its id, a word and its failure.
func (d dying) counts(cmd redis.Cmder) bool {
	args := cmd.Args()
	if name := cmd.Name(); name != "evalsha" && name != "eval" || args[3] != d.batch || args[2].(int) < 6 {
		return false // a batch is counted in six keys or more
	}
	recalls := args[3+args[2].(int)+2:]
	failure, _ := recalls[4].([]byte)
	return recalls[1] != "-" && len(failure) == 0
}

// key is a key of the task's queue in asynq.
func (k *task) queueKey(name string) string { return "asynq:{" + k.Queue + "}:" + name }

// move brings a task into another of asynq's states.
func (m *model) move(k *task, state string) {
	ctx := m.t.Context()
	_, err := m.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		switch k.state {
		case "pending", "active":
			pipe.LRem(ctx, k.queueKey(k.state), 0, k.ID)
		default:
			pipe.ZRem(ctx, k.queueKey(k.state), k.ID)
		}
		switch state {
		case "pending", "active":
			pipe.LPush(ctx, k.queueKey(state), k.ID)
		default:
			pipe.ZAdd(ctx, k.queueKey(state), redis.Z{Score: float64(time.Now().Unix()), Member: k.ID})
		}
		pipe.HSet(ctx, k.key(), "state", state)
		return nil
	})
	m.must(err)
	k.state = state
}

// work takes a waiting recall through a worker, which may die after some of its writes.
func (m *model) work(id string, writes int) {
	k := m.tasks[id]
	if k == nil || k.state != "pending" && k.state != "retry" {
		return
	}
	ctx := m.t.Context()
	m.move(k, "active")
	r := m.row(id)
	r.Batch, r.Seq, r.RecallBy = k.batch, k.seq, m.sentAt.Add(24*time.Hour)
	state, err := m.ledger.LookIn(ctx, k.Task, k.batch)
	m.must(err)
	if (state.Outcome != nil) != (k.outcome != "") || (state.Cancelled != "") != m.cancelled[k.batch] {
		m.t.Fatalf("%s: %+v, the model has %+v\n%s", id, state, *k, m.story())
	}
	outcome := tasks.Outcomes()[m.rnd.IntN(5)]
	switch {
	case k.outcome != "" && k.rerun && !tasks.Succeeded(k.outcome):
		m.must(m.ledger.Reopen(ctx, k.Task, r))
		k.outcome, k.rerun = "", false
		if !tasks.Succeeded(m.batches[k.batch][id].as) {
			m.set(k.batch, id, tasks.Open, k.seq)
		}
	case k.outcome != "":
		outcome = k.outcome
	}
	if k.outcome == "" && state.Cancelled != "" {
		outcome = tasks.Cancelled
	}
	m.note("work on %s of %s: %s, %d writes", id, k.batch, outcome, writes)
	e := Entry{ID: k.ID, Recall: r, Outcome: tasks.Outcome{Outcome: outcome, Attempts: 1, FinishedAt: time.Now()}}
	if !tasks.Succeeded(outcome) {
		e.Error = "why not"
	}
	m.record(k, id, e, writes)
	if writes < 4 {
		m.move(k, "retry") // by recovery
		return
	}
	if tasks.Succeeded(k.outcome) {
		m.move(k, "completed")
	} else {
		m.move(k, "archived")
	}
}

// record makes the first of the worker's writes: to the task, to the batch, to the stream, and once more all of them.
func (m *model) record(k *task, id string, e Entry, writes int) {
	ctx := m.t.Context()
	switch {
	case writes == 0:
		return
	case writes == 1 || writes == 2:
		result, err := e.Outcome.MarshalJSON()
		m.must(err)
		m.must(recordScript.Run(ctx, m.rdb, []string{k.key()}, result, 1, e.Error).Err())
		if writes == 2 {
			_, err := tasks.CountIn(ctx, m.rdb, k.batch, e.count())
			m.must(err)
		}
	default:
		for range writes - 2 {
			m.must(m.ledger.Record(ctx, k.Task, e))
		}
	}
	k.outcome = e.Outcome.Outcome
	if writes > 1 && !tasks.Succeeded(m.batches[k.batch][id].as) {
		m.set(k.batch, id, k.outcome, k.seq)
	}
}

// runAgain is asynqmon's "run" on an archived task.
func (m *model) runAgain(id string) {
	if k := m.tasks[id]; k != nil && k.state == "archived" {
		m.note("run %s again", id)
		m.move(k, "pending")
		k.rerun = true
	}
}

func (m *model) cancel(name string) {
	if m.batches[name] != nil {
		m.note("cancel %s", name)
		m.must(m.ledger.Cancel(m.t.Context(), name, "ops", time.Now()))
		m.cancelled[name] = true
	}
}

func (m *model) retry(name, outcome string, priority tasks.Priority) {
	if m.batches[name] == nil {
		return
	}
	m.note("retry %s, %q", name, outcome)
	refused := m.cancelled[name] && outcome != "" && outcome != tasks.Cancelled
	before := maps.Clone(m.batches[name])
	tried := 0
	err := m.ledger.Retry(m.t.Context(), m.producer, RetryOptions{
		Batch: name, Outcome: outcome, Enqueue: []tasks.EnqueueOption{tasks.WithPriority(priority)},
		Each: func(f tasks.Failure, res tasks.Result, err error) {
			m.must(err)
			tried++
			if was := before[f.Recall.MessageID]; was.as != f.Outcome.Outcome || f.Recall.Ref != "ref "+f.Recall.MessageID {
				m.t.Fatalf("%+v, in the model %+v\n%s", f, was, m.story())
			}
			m.expect(name, f.Recall.MessageID, priority, res)
		},
	})
	if refused {
		if err == nil {
			m.t.Fatalf("a cancelled batch took recalls\n%s", m.story())
		}
		return
	}
	m.must(err)
	m.cancelled[name] = false
	want := 0
	for _, c := range before {
		if slices.Contains(failures, c.as) && (outcome == "" || outcome == c.as) {
			want++
		}
	}
	if tried != want {
		m.t.Fatalf("%d of %d tried again\n%s", tried, want, m.story())
	}
}

// prune has the archive forget all there is.
func (m *model) prune() {
	m.note("prune")
	for _, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
		_, err := m.ledger.Prune(m.t.Context(), tasks.Queue(providers.Jiguang, "app", p), time.Now().Add(keepArchived+time.Minute))
		m.must(err)
	}
	for id, k := range m.tasks {
		if k.state == "archived" {
			delete(m.tasks, id)
		}
	}
}

// count is what comes late from an enqueuer: a recall that was enqueued is counted as open after a worker has counted it.
func (m *model) count(id string) {
	k := m.tasks[id]
	if k == nil {
		return
	}
	m.note("count %s of %s as open", id, k.batch)
	c := tasks.Count{Seq: k.seq, ID: k.ID, As: tasks.Open, RecallBy: m.sentAt.Add(24 * time.Hour)}
	_, err := tasks.CountIn(m.t.Context(), m.rdb, k.batch, c)
	m.must(err)
	if have := m.batches[k.batch][id]; !tasks.Succeeded(have.as) && have.seq != k.seq {
		m.set(k.batch, id, tasks.Open, k.seq)
	}
	// So does what an earlier number of the same row has left behind.
	for _, seq := range m.replaced[k.batch+" "+id] {
		c.Seq = seq
		_, err := tasks.CountIn(m.t.Context(), m.rdb, k.batch, c)
		m.must(err)
	}
}

// forget is the end of a completed task's retention, for a recall that its batch knows by its id as well: one that had
// failed before, or was moved.
func (m *model) forget(id string) {
	k := m.tasks[id]
	if k == nil || k.state != "completed" || !tasks.Succeeded(m.batches[k.batch][id].as) {
		return
	}
	ctx := m.t.Context()
	_, err := tasks.CountIn(ctx, m.rdb, k.batch, tasks.Count{Seq: k.seq, ID: k.ID})
	m.must(err)
	m.note("forget %s", id)
	m.must(m.rdb.ZRem(ctx, k.queueKey("completed"), k.ID).Err())
	m.must(m.rdb.Del(ctx, k.key()).Err())
	delete(m.tasks, id)
}

func (m *model) step() {
	name := modelBatches[m.rnd.IntN(len(modelBatches))]
	id := strconv.Itoa(m.rnd.IntN(modelRecalls))
	priority := []tasks.Priority{tasks.Urgent, tasks.Bulk}[m.rnd.IntN(2)]
	switch n := m.rnd.IntN(100); {
	case n < 35:
		ids := []string{id}
		for range m.rnd.IntN(3) {
			ids = append(ids, strconv.Itoa(m.rnd.IntN(modelRecalls))) // now and then one of them twice
		}
		m.enqueue(name, priority, ids...)
	case n < 42:
		m.die(name, priority, id)
	case n < 82:
		m.work(id, m.rnd.IntN(6))
	case n < 85:
		m.runAgain(id)
	case n < 87:
		m.count(id)
	case n < 88:
		m.forget(id)
	case n < 91:
		m.cancel(name)
	case n < 97:
		m.retry(name, append(failures, "")[m.rnd.IntN(5)], priority)
	default:
		m.prune()
	}
}

// check compares every batch with the model.
func (m *model) check() {
	m.t.Helper()
	for name, recalls := range m.batches {
		b, err := m.ledger.Batch(m.t.Context(), name)
		m.must(err)
		want, got := map[string]int64{"total": int64(len(recalls))}, map[string]int64{"total": b.Total}
		failed := map[string]string{}
		for id, c := range recalls {
			want[c.as]++
			if slices.Contains(failures, c.as) {
				failed[id] = c.as
			}
		}
		for outcome, n := range b.Outcomes {
			if n != 0 {
				got[outcome] = n
			}
		}
		for as, n := range map[string]int64{tasks.Duplicate: b.Duplicate, tasks.Open: b.Open} {
			if n != 0 {
				got[as] = n
			}
		}
		kept := map[string]string{}
		for f, err := range m.ledger.Failures(m.t.Context(), name) {
			m.must(err)
			kept[f.Recall.MessageID] = f.Outcome.Outcome
		}
		if diff := cmp.Diff(want, got) + cmp.Diff(failed, kept); diff != "" {
			m.t.Fatalf("batch %s: %s\n%s", name, diff, m.story())
		}
		if !b.CancelledAt.IsZero() != m.cancelled[name] {
			m.t.Fatalf("batch %s: cancelled %v\n%s", name, b.CancelledAt, m.story())
		}
	}
}

// end lets the workers finish all there is. Then every batch has ended and every recall of it is accounted for.
func (m *model) end() {
	for name := range m.batches { // its input is read to its end once more
		m.enqueue(name, tasks.Bulk, slices.Sorted(maps.Keys(m.batches[name]))...)
	}
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		m.work(id, 4)
	}
	m.check()
	for name := range m.batches {
		b, err := m.ledger.Batch(m.t.Context(), name)
		m.must(err)
		if b.Total > 0 && (!b.Ended(time.Now()) || b.Lost(time.Now()) != 0) {
			m.t.Fatalf("batch %s: %+v\n%s", name, b, m.story())
		}
	}
}

// Random rows, runs, cancels, retries and deaths against the model. RECALLQ_MODEL_SEED repeats one sequence.
func TestBatchesAgainstAModel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		seeds := []uint64{1, 2, 3, 4, 5, 6, 7, uint64(time.Now().UnixNano())}
		if s := os.Getenv("RECALLQ_MODEL_SEED"); s != "" {
			seed, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			seeds = []uint64{seed}
		}
		for _, seed := range seeds {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				if err := rdb.FlushAll(context.WithoutCancel(t.Context())).Err(); err != nil {
					t.Fatal(err)
				}
				m := newModel(t, rdb, seed)
				for range modelSteps {
					m.step()
					m.check()
				}
				m.end()
			})
		}
	})
}
