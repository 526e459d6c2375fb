// Package inbox turns the entries of a Redis stream into tasks, so that a producer in any language enqueues a recall with
// one command and needs to know nothing of asynq:
//
//	XADD recallq:inbox * row '<a row of input as JSON>' [batch NAME] [priority urgent|bulk]
//
// An entry is accepted once XADD has answered. One entry is one recall. Every worker reads the stream as a member of one
// consumer group, checks a row as "enqueue" does and hands it to the same [tasks.Producer]. An entry is acknowledged, and
// deleted, only after its task is in its queue and counted in its batch: at least once. What a worker that died leaves behind,
// others take over within 40 s. A recall is known by what identifies it, so an entry that is taken twice is one task.
//
// Without a priority a recall is bulk. "enqueue" treats a person's few recalls as urgent and a large file as bulk; a
// stream does not show how much is still to come, and a program that floods it must not get in front of a person's
// urgent recalls. On an idle lane a bulk recall starts as fast as an urgent one. A program that sends the few recalls that a
// person asked for says so with "priority urgent". The stream itself is read in its order, whatever the priority.
//
// A batch takes entries from the inbox beside any number of files; it never counts as still being read for them. While a
// batch is cancelled its entries are refused: reading on must not undo what an operator has just done.
//
// A refused entry is reported on recallq:outcomes with the fields that every outcome has: outcome is "refused", error names
// the field and the reason, id is the entry's own, as XADD answered it, since there is no task. Provider, app, message_id,
// ref, batch and sent_at are what could be read of it. A recall whose window had closed before it was enqueued is refused
// as well.
//
// A producer needs no more of Redis than ACL SETUSER push on >PASSWORD ~recallq:inbox -@all +xadd. Redis cannot forbid it the
// MAXLEN of XADD, with which it could drop entries that no worker has read yet.
package inbox
