package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// A push system learns what became of its recalls from the stream of outcomes. A consumer group remembers how far it has read,
// also when it is not running, and shares the entries between its processes.
func Example_outcomes() {
	server, err := miniredis.Run() // in life, the Redis that the workers use
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	ctx := context.Background()

	// "0" reads what the stream still holds; the group is made once.
	const group, consumer = "push-system", "host-1"
	err = rdb.XGroupCreateMkStream(ctx, tasks.OutcomesKey, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		log.Fatal(err)
	}
	aWorkerEndsTwoRecalls(ctx, rdb)

	for {
		streams, err := rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: group, Consumer: consumer, Streams: []string{tasks.OutcomesKey, ">"}, Count: 100, Block: 50 * time.Millisecond,
		}).Result()
		if errors.Is(err, redis.Nil) {
			break // in life, go on
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, entry := range streams[0].Messages {
			// An entry may come again with the same id: what is done here should bear that.
			v := entry.Values
			if outcome := v["outcome"].(string); tasks.Succeeded(outcome) {
				fmt.Printf("%s: taken back\n", v["ref"])
			} else {
				fmt.Printf("%s: %s (%s %s)\n", v["ref"], outcome, v["code"], v["error"])
			}
			if err := rdb.XAck(ctx, tasks.OutcomesKey, group, entry.ID).Err(); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// order 1001: taken back
	// order 1002: not_found (20022 the message does not exist)
}

func aWorkerEndsTwoRecalls(ctx context.Context, rdb *redis.Client) {
	for _, values := range [][]any{
		{"id", "timchat_01", "ref", "order 1001", "outcome", tasks.Recalled, "code", "0", "error", ""},
		{"id", "timchat_02", "ref", "order 1002", "outcome", tasks.NotFound, "code", "20022", "error", "the message does not exist"},
	} {
		if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: values}).Err(); err != nil {
			log.Fatal(err)
		}
	}
}

// A bulk recall goes through a batch: it counts each recall once, however often its input is run, and enqueues fastest when many
// goroutines share it.
func ExampleProducer_OpenBatch() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	ctx := context.Background()

	const input = "affected.csv"
	batch, err := tasks.NewProducer(rdb).OpenBatch(ctx, tasks.BatchOptions{
		Name: "incident-42", By: "push-system", Reason: "wrong price", Inputs: []string{input},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"1001", "1002", "1001"} {
		recall := tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: id, SentAt: time.Now()}
		result, err := batch.Enqueue(ctx, recall, tasks.WithPriority(tasks.Bulk), tasks.AllowUnserved())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(id, result.Status)
	}
	if err := errors.Join(batch.Done(ctx, input), batch.Close(ctx)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the batch:", rdb.HGet(ctx, tasks.BatchKey("incident-42"), "total").Val())
	// Output:
	// 1001 enqueued
	// 1002 enqueued
	// 1001 duplicate
	// in the batch: 2
}
