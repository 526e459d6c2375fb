package tasks

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// autoPipelined is a Redis client whose reads of a task and whose scripts are sent together with those of other goroutines;
// each still gets its own answer. All other commands go the usual way.
//
// go-redis marks this as experimental, so nothing else in recallq touches it. Commands of a connection that drops are
// sent again: what goes through here must bear that. asynq's enqueue does, since a task that is there already is known as
// our own by its payload. A dequeue or a removal would not.
type autoPipelined struct {
	redis.UniversalClient
	auto *redis.AutoPipeliner
}

// pipelined wraps a client. What it starts ends with the client.
func pipelined(rdb redis.UniversalClient) (autoPipelined, error) {
	o := redis.DefaultBlockingAutoPipelineOptions()
	// Redis works on one lot while the next is written: half as fast again as taking turns, and far more over a slow link.
	o.FullDuplex = true
	auto, err := rdb.AutoPipelineWithOptions(o)
	if err != nil {
		return autoPipelined{}, fmt.Errorf("this Redis client cannot send commands together: %w", err)
	}
	return autoPipelined{UniversalClient: rdb, auto: auto}, nil
}

func (c autoPipelined) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.auto.EvalSha(ctx, sha, keys, args...)
}

func (c autoPipelined) HMGet(ctx context.Context, key string, fields ...string) *redis.SliceCmd {
	return c.auto.HMGet(ctx, key, fields...)
}

func (c autoPipelined) Exists(ctx context.Context, keys ...string) *redis.IntCmd {
	return c.auto.Exists(ctx, keys...)
}
