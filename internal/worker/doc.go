// Package worker takes recalls from their queues and carries them out.
//
// One recall goes through six steps, each a method of the handler in handler.go: decode, guard, limit, call, decide, record.
// What they come to is put into asynq's words in one place, asynq.go. Each lane has two servers of asynq's, one for urgent
// recalls and one for bulk, and everything else of its own that must not touch its neighbour.
package worker
