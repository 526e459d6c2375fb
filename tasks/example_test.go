package tasks_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// A push system takes back a message that it has just sent. The first lines stand in for a Redis with a running worker; what
// a push system needs is between the two rules.
func Example() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = rdb.Close() }()
	served := tasks.Lane{Provider: "timpush", App: "chat", Window: 24 * time.Hour, LastSeen: time.Now()}
	if err := tasks.PublishLane(ctx, rdb, served); err != nil {
		log.Fatal(err)
	}
	sentAt := time.Now().Add(-10 * time.Minute)
	taskID := fmt.Sprintf("%08x_537ed82a_200000cd7ee17f5", sentAt.Unix()) // as the vendor's push answered

	// ------------------------------------------------------------------------------------------------------
	producer := tasks.NewProducer(rdb) // one for the whole program
	result, err := producer.Enqueue(ctx, tasks.Recall{
		Provider: "timpush", MessageID: taskID, SentAt: sentAt,
		OfflinePushTitle: "Recalled", OfflinePushDesc: "This message was sent by mistake.", Ref: "campaign-7",
	})
	// ------------------------------------------------------------------------------------------------------

	fmt.Println(result.Status, result.Queue, err)

	again, err := producer.Enqueue(ctx, tasks.Recall{Provider: "timpush", MessageID: taskID, SentAt: sentAt})
	fmt.Println(again.Status, again.Existing.Standing, err)

	late, err := producer.Enqueue(ctx, tasks.Recall{Provider: "timpush", MessageID: "5f0cc447_537ed82a_200000cd7ee17f5"})
	fmt.Println(late.Status, err)

	_, err = producer.Enqueue(ctx, tasks.Recall{Provider: "timpush", MessageID: taskID, From: "jared"})
	fmt.Println(err)

	// Output:
	// enqueued timpush:chat <nil>
	// duplicate open <nil>
	// expired <nil>
	// from "jared" is not used by timpush; leave it out
}
