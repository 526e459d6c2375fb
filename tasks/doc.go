// Package tasks is what is in recallq's queue, and what a push system imports to put recalls there.
//
// A push system needs a Redis client and five lines:
//
//	producer := tasks.NewProducer(rdb)
//	result, err := producer.Enqueue(ctx, tasks.Recall{
//		Provider: "timpush", MessageID: taskID, SentAt: sentAt,
//	})
//
// The package holds the [Recall] with its identity and its payload, the validation of a [Row] of input, the names of
// queues, the [Lane]s that workers publish, and the [Producer]. It links none of the vendors' HTTP clients.
//
// Sizes are in bytes, times are UTC with milliseconds. Values are safe to copy; everything but a Row being filled is safe
// for concurrent use.
package tasks
