package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

const (
	// Key is the stream that producers write to.
	Key = "recallq:inbox"
	// Group is the consumer group of all workers.
	Group = "recallq"
)

// createGroup creates the group, and the stream with it. It begins at the first entry: what came before the first worker
// was accepted as well.
func (in *Inbox) createGroup(ctx context.Context) error {
	err := in.rdb.XGroupCreateMkStream(ctx, Key, Group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("creating the group of %s: %w", Key, err)
	}
	return nil
}

// readNew waits for entries that nobody was given yet; none after a while.
func (in *Inbox) readNew(ctx context.Context) ([]entry, error) {
	ctx, cancel := context.WithTimeout(ctx, blockFor+answerWithin)
	defer cancel()
	return in.read(ctx, ">", "BLOCK", blockFor.Milliseconds())
}

// readOwn reads entries in our own hands, those behind the given one.
func (in *Inbox) readOwn(ctx context.Context, after string) ([]entry, error) {
	return in.read(ctx, after)
}

// read is XREADGROUP. go-redis's own keeps the fields of an entry in a map, in which the first of two rows is gone before
// anybody could refuse the second.
func (in *Inbox) read(ctx context.Context, from string, option ...any) ([]entry, error) {
	args := append([]any{"XREADGROUP", "GROUP", Group, in.consumer, "COUNT", stepSize}, option...)
	reply, err := in.rdb.Do(ctx, append(args, "STREAMS", Key, from)...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", Key, err)
	}
	switch streams := reply.(type) {
	case map[any]any: // RESP3
		return entriesOf(streams[Key])
	case []any:
		if len(streams) == 1 {
			if stream, ok := streams[0].([]any); ok && len(stream) == 2 {
				return entriesOf(stream[1])
			}
		}
	}
	return nil, errReply
}

// claim takes over entries that their consumers have left alone, and says where to go on.
func (in *Inbox) claim(ctx context.Context, from string) (list []entry, next string, err error) {
	reply, err := in.rdb.Do(ctx, "XAUTOCLAIM", Key, Group, in.consumer, in.deadAfter.Milliseconds(), from, "COUNT", stepSize).Slice()
	if err != nil {
		return nil, "", fmt.Errorf("taking over entries of %s: %w", Key, err)
	}
	if len(reply) < 2 {
		return nil, "", errReply
	}
	next, _ = reply[0].(string)
	list, err = entriesOf(reply[1])
	if all, _ := reply[1].([]any); len(list) < len(all) {
		in.behind = true // deleted ones, which are in our hands now and have yet to be acknowledged
	}
	return list, next, err
}

var errReply = errors.New("redis answers in a form that is not known")

func entriesOf(reply any) ([]entry, error) {
	all, ok := reply.([]any)
	if !ok {
		return nil, errReply
	}
	list := make([]entry, 0, len(all))
	for _, one := range all {
		if one == nil { // Redis 6.2 shows a deleted entry so when it is taken over
			continue
		}
		pair, ok := one.([]any)
		if !ok || len(pair) != 2 {
			return nil, errReply
		}
		id, ok := pair[0].(string)
		if !ok {
			return nil, errReply
		}
		e := entry{id: id}
		fields, _ := pair[1].([]any) // nil if somebody has deleted it
		for _, f := range fields {
			text, ok := f.(string)
			if !ok {
				return nil, errReply
			}
			e.fields = append(e.fields, text)
		}
		list = append(list, e)
	}
	return list, nil
}

// acknowledgeScript ends entries, in one step: what is acknowledged and not deleted would stay in the stream for good. A script
// does so also while Redis is full, when it would refuse a transaction.
var acknowledgeScript = redis.NewScript(`
redis.call("XACK", KEYS[1], unpack(ARGV))
return redis.call("XDEL", KEYS[1], unpack(ARGV, 2))`)

func (in *Inbox) acknowledge(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	args := []any{Group}
	for _, id := range ids {
		args = append(args, id)
	}
	if err := acknowledgeScript.Run(ctx, in.rdb, []string{Key}, args...).Err(); err != nil {
		return fmt.Errorf("acknowledging entries of %s: %w", Key, err)
	}
	return nil
}

// forgetConsumers removes consumers that have not been seen for long and have nothing in their hands: each start of a worker
// is a new one.
func (in *Inbox) forgetConsumers(ctx context.Context) error {
	consumers, err := in.rdb.XInfoConsumers(ctx, Key, Group).Result()
	if err != nil {
		return fmt.Errorf("listing the consumers of %s: %w", Key, err)
	}
	for _, c := range consumers {
		if c.Name == in.consumer || c.Pending > 0 || c.Idle < in.forgetAfter {
			continue
		}
		if err := in.forget(ctx, c.Name); err != nil {
			return err
		}
	}
	return nil
}

// forgetScript removes a consumer that has nothing in its hands. With a consumer Redis drops what it has: those entries would
// never be handed out again.
var forgetScript = redis.NewScript(`
if #redis.call("XPENDING", KEYS[1], ARGV[1], "-", "+", 1, ARGV[2]) > 0 then return 0 end
return redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], ARGV[2])`)

func (in *Inbox) forget(ctx context.Context, consumer string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := forgetScript.Run(ctx, in.rdb, []string{Key}, Group, consumer).Err(); err != nil {
		return fmt.Errorf("removing the consumer %s of %s: %w", consumer, Key, err)
	}
	return nil
}
