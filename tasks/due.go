package tasks

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// DueStep is how finely [DueKey] tells the times at which windows close.
const DueStep = 15 * time.Second

// dueFor is how long a producer remembers that it has told a time already. It is short because Redis may have forgotten meanwhile, and a
// recall behind a closed lane then ends minutes late.
const dueFor = 3 * time.Second

// DueKey returns the key of a sorted set with the times, in Unix seconds and rounded up to [DueStep], at which windows of
// recalls in a queue close. A worker looks for recalls that are too late only then: to look at each recall of a lane that is
// closed, again and again, would keep Redis busy with nothing.
func DueKey(queue string) string { return "recallq:due:{" + queue + "}" }

// due tells at which times windows close, each once in a while.
type due struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// tell writes when recalls' windows close. It comes before the recalls themselves, which must not wait unseen.
func (d *due) tell(ctx context.Context, rdb redis.Cmdable, queue string, recallBys ...time.Time) error {
	const step = int64(DueStep / time.Second)
	var news []redis.Z
	last := int64(0)
	for _, recallBy := range recallBys {
		at := (recallBy.Unix()/step + 1) * step
		member := strconv.FormatInt(at, 10)
		if at != last && !d.fresh(queue+" "+member) {
			news = append(news, redis.Z{Score: float64(at), Member: member})
		}
		last = at // neighbours have the same, most of them
	}
	if len(news) == 0 {
		return nil
	}
	if err := rdb.ZAdd(ctx, DueKey(queue), news...).Err(); err != nil {
		return fmt.Errorf("noting when windows in %s close: %w", queue, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, z := range news {
		d.told[queue+" "+z.Member.(string)] = time.Now()
	}
	return nil
}

// fresh reports whether this was told lately, and forgets what was told long ago.
func (d *due) fresh(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.told == nil || len(d.told) > 10_000 {
		d.told = map[string]time.Time{}
	}
	return now.Sub(d.told[key]) < dueFor
}
