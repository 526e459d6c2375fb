package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/recallq/recallq/tasks"
)

const (
	// readWithin bounds a scrape: without Redis the other metrics must still come.
	readWithin = 2 * time.Second
	// mostQueues bounds the label "queue", because producers may enqueue for apps that no worker serves.
	mostQueues = 1000
)

// state is one of asynq's states, and where the tasks in it are counted.
type state struct {
	name string
	list bool // a list; otherwise a sorted set
	open bool // the recall has not ended
}

func states() []state {
	return []state{
		{name: "pending", list: true, open: true},
		{name: "active", list: true, open: true},
		{name: "scheduled", open: true},
		{name: "retry", open: true},
		{name: "archived"},
		{name: "completed"},
	}
}

// queueCollector reads the queues' figures by LLEN and ZCARD. asynq's Inspector would also ask for each queue's memory, which
// costs more than all the rest and which some managed Redis services refuse.
type queueCollector struct {
	rdb      redis.UniversalClient
	own      func() []string
	within   time.Duration
	reading  singleflight.Group
	tasks    *prometheus.Desc
	unserved *prometheus.Desc
}

func newQueueCollector(rdb redis.UniversalClient, own func() []string) *queueCollector {
	return &queueCollector{
		rdb: rdb, own: own, within: readWithin,
		tasks: prometheus.NewDesc("recallq_queue_tasks",
			"Tasks in a queue, by asynq's state. Every worker reports the same: use max by (queue, state).",
			[]string{"queue", "state"}, nil),
		unserved: prometheus.NewDesc("recallq_unserved_tasks",
			"Open tasks in queues of lanes that no worker serves now. Every worker reports the same: use max.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.tasks
	ch <- c.unserved
}

// figures is one reading of all queues.
type figures struct {
	queues   []queueFigures
	unserved int64
	// lanes is false if the published lanes could not be read, so that unserved is not known.
	lanes bool
}

type queueFigures struct {
	name   string
	counts []int64 // as states()
}

// Collect implements prometheus.Collector. When Redis does not answer in time the figures are left out: old ones would be
// taken for true, and an error would take the other metrics with it.
func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	f, ok := c.read()
	if !ok {
		return
	}
	for _, q := range f.queues {
		for i, s := range states() {
			ch <- prometheus.MustNewConstMetric(c.tasks, prometheus.GaugeValue, float64(q.counts[i]), q.name, s.name)
		}
	}
	if f.lanes {
		ch <- prometheus.MustNewConstMetric(c.unserved, prometheus.GaugeValue, float64(f.unserved))
	}
}

// read makes one reading for all scrapes that come while it lasts. A frozen Redis can hold a client longer than its context
// says, so the reading has a goroutine of its own, which ends with the client's own time-outs.
func (c *queueCollector) read() (figures, bool) {
	answer := c.reading.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), c.within)
		defer cancel()
		return readFigures(ctx, c.rdb, c.own())
	})
	patience := time.NewTimer(c.within)
	defer patience.Stop()
	select {
	case r := <-answer:
		if r.Err != nil {
			return figures{}, false
		}
		return r.Val.(figures), true
	case <-patience.C:
		return figures{}, false
	}
}

func readFigures(ctx context.Context, rdb redis.UniversalClient, own []string) (figures, error) {
	found, err := rdb.SMembers(ctx, tasks.QueuesKey).Result()
	if err != nil {
		return figures{}, fmt.Errorf("reading the queues' names: %w", err)
	}
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return figures{}, fmt.Errorf("reading the time: %w", err)
	}
	lanes, err := published(ctx, rdb)
	f := figures{lanes: err == nil}
	if f.queues, err = count(ctx, rdb, names(own, lanes, found)); err != nil {
		return figures{}, err
	}
	for _, q := range f.queues {
		if !served(q.name, lanes, now) {
			f.unserved += q.open()
		}
	}
	return f, nil
}

// published reads the lanes that workers have published, by name. One that cannot be read is nil.
func published(ctx context.Context, rdb redis.UniversalClient) (map[string]*tasks.Lane, error) {
	texts, err := rdb.HGetAll(ctx, tasks.LanesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the published lanes: %w", err)
	}
	lanes := map[string]*tasks.Lane{}
	for name, text := range texts {
		var l tasks.Lane
		lanes[name] = nil
		if json.Unmarshal([]byte(text), &l) == nil {
			lanes[name] = &l
		}
	}
	return lanes, nil
}

// names lists the queues to look at: this worker's, then those of other published lanes, then what else producers have
// filled. Queues that are not recallq's are somebody else's.
func names(own []string, lanes map[string]*tasks.Lane, found []string) []string {
	list := slices.Clone(own)
	for _, name := range slices.Sorted(maps.Keys(lanes)) {
		if l := lanes[name]; l != nil {
			list = append(list, tasks.Queue(l.Provider, l.App, tasks.Urgent), tasks.Queue(l.Provider, l.App, tasks.Bulk))
		}
	}
	slices.Sort(found)
	for _, q := range found {
		if _, _, _, ok := tasks.ParseQueue(q); ok {
			list = append(list, q)
		}
	}
	seen := map[string]bool{}
	list = slices.DeleteFunc(list, func(q string) bool {
		was := seen[q]
		seen[q] = true
		return was
	})
	return list[:min(len(list), mostQueues)]
}

func count(ctx context.Context, rdb redis.UniversalClient, queues []string) ([]queueFigures, error) {
	if len(queues) == 0 {
		return nil, nil
	}
	pipe := rdb.Pipeline()
	var replies []*redis.IntCmd
	for _, q := range queues {
		for _, s := range states() {
			key := tasks.QueueKey(q, s.name)
			if s.list {
				replies = append(replies, pipe.LLen(ctx, key))
			} else {
				replies = append(replies, pipe.ZCard(ctx, key))
			}
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("counting tasks: %w", err)
	}
	list := make([]queueFigures, 0, len(queues))
	for _, q := range queues {
		f := queueFigures{name: q}
		for range states() {
			f.counts = append(f.counts, replies[0].Val())
			replies = replies[1:]
		}
		list = append(list, f)
	}
	return list, nil
}

// open is the number of tasks that have not ended.
func (f queueFigures) open() int64 {
	var n int64
	for i, s := range states() {
		if s.open {
			n += f.counts[i]
		}
	}
	return n
}

// served reports whether a worker has been seen on the queue's lane within the last minute, by Redis's clock, which is the
// one that workers publish by. A lane whose entry cannot be read counts as served: a newer worker writes such entries, and during
// an upgrade that is no reason to wake anybody. The log names it.
func served(queue string, lanes map[string]*tasks.Lane, now time.Time) bool {
	provider, app, _, _ := tasks.ParseQueue(queue)
	l, known := lanes[provider+":"+app]
	return known && (l == nil || l.Served(now))
}
