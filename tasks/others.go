package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A recall that another batch has in the queue already counts as a duplicate, once however often its row is enqueued. It is known by
// the number it has in that batch, which takes a bit, where its id would take sixty bytes. The number holds until the recall fails there: from
// then on another task may take its place, or none be left of it. But what has failed its own batch knows by its id. So
// before a row is enqueued, the batches that have duplicates of ours are asked for it ([Batch.recognize]); what they know is known by its id
// here, too, from then on.

// Number is a recall's number in a batch.
type Number struct {
	Batch string
	Seq   int64
}

// known reports whether there is such a number. A payload that others have written may say anything.
func (n Number) known() bool { return n.Seq > 0 && n.Seq <= MaxSeq && CheckBatch(n.Batch) == nil }

// sheetSize is how many numbers a sheet has. As a set of few it takes two bytes for each, as bits never more than a kilobyte.
const sheetSize = 8192

// sheets collects the keys of a script that counts.
type sheets struct{ keys []string }

// place says where a number is on the sheets of a batch: which key of the script, and which bit there. Empty for no number.
func (s *sheets) place(batch string, n Number) string {
	if !n.known() || n.Batch == batch {
		return ""
	}
	key := othersKey(batch) + ":" + n.Batch + ":" + strconv.FormatInt(n.Seq/sheetSize, 10)
	i := slices.Index(s.keys, key)
	if i < 0 {
		i = len(s.keys)
		s.keys = append(s.keys, key)
	}
	return strconv.Itoa(i+1) + ":" + strconv.FormatInt(n.Seq%sheetSize, 10)
}

const (
	// othersFor is how long the names of other batches are used without looking again. What this process has counted it knows at once.
	othersFor = time.Second
	// mostOthers is how many there may be: each is asked for each row. The duplicates of yet others are known by their ids.
	mostOthers = 32
)

// others are the batches that have recalls which count as duplicates in this one. It is safe for concurrent use.
type others struct {
	rdb   redis.Cmdable
	batch string

	mu    sync.Mutex
	names []string
	read  time.Time
}

// get returns the names. One caller reads them again now and then, and the rest does not wait for it.
func (o *others) get(ctx context.Context) ([]string, error) {
	names, due := o.look()
	if !due {
		return names, nil
	}
	names, err := o.rdb.SMembers(ctx, othersKey(o.batch)).Result()
	if err != nil {
		o.age(othersFor) // for the next caller to read them
		return nil, fmt.Errorf("looking for the duplicates of %s: %w", o.batch, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range o.names { // what is not counted yet
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	o.names = names
	return names, nil
}

// look returns the names as they were read last. It is true for the caller who is to read them again.
func (o *others) look() (names []string, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	due = time.Since(o.read) >= othersFor
	if due {
		o.read = time.Now()
	}
	return o.names, due
}

// age makes what was read older.
func (o *others) age(by time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read = o.read.Add(-by)
}

// admit reports whether a batch is one of the others now.
func (o *others) admit(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.names, name) {
		return true
	}
	if len(o.names) >= mostOthers {
		return false
	}
	o.names = append(slices.Clip(o.names), name)
	return true
}

// recognize has duplicates that their own batches know by their ids be known by these here as well.
func (b *Batch) recognize(ctx context.Context, ids ...string) error {
	names, err := b.others.get(ctx)
	if err != nil || len(names) == 0 || len(ids) == 0 {
		return err
	}
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = shortID(id)
	}
	asked := make([]*redis.SliceCmd, len(names))
	var wg sync.WaitGroup
	for i, name := range names { // at once, so that they are sent together, with what others send
		wg.Go(func() { asked[i] = b.producer.reader.HMGet(ctx, idsKey(name), short...) })
	}
	wg.Wait()
	var counts []Count
	for i, name := range names {
		if err := asked[i].Err(); err != nil {
			return fmt.Errorf("looking for recalls in the batch %s: %w", name, err)
		}
		for j, v := range asked[i].Val() {
			for _, seq := range numbersOf(v) {
				counts = append(counts, Count{ID: ids[j], Of: Number{name, seq}})
			}
		}
	}
	return countAll(ctx, b.producer.rdb, b.name, counts)
}

func countAll(ctx context.Context, rdb redis.Scripter, batch string, counts []Count) error {
	for step := range slices.Chunk(counts, mostCounts) {
		if _, err := CountIn(ctx, rdb, batch, step...); err != nil {
			return err
		}
	}
	return nil
}

// numbersOf reads what a batch has for an id: its number, and those it had before.
func numbersOf(v any) []int64 {
	text, _ := v.(string)
	var list []int64
	for _, digits := range strings.Split(text, ",") {
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// numberIn returns the number that a batch knows an id by; zero if it does not.
func numberIn(ctx context.Context, rdb redis.Cmdable, batch, id string) (int64, error) {
	text, err := rdb.HGet(ctx, idsKey(batch), shortID(id)).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if list := numbersOf(text); err == nil && len(list) > 0 {
		return list[0], nil
	}
	return 0, err
}
