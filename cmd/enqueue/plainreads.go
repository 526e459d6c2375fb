package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/recallq/recallq/tasks"
)

// This file reads what asynq v0.26 keeps in Redis with plain commands. Its Inspector would do, but it runs scripts, and removes
// what is stale while it lists servers: who only looks should need no right to do either. Tests hold the layout against
// the Inspector, so that an asynq that changes it fails by name.

// asynqServersKey is asynq's sorted set of keys by the Unix second until which each is good.
const asynqServersKey = "asynq:servers"

// seenTask is a task as asynq keeps it.
type seenTask struct {
	queue, id, state string
	message          taskMessage
	next             time.Time // of one that waits for a time: when that is
}

// taskMessage are those parts of asynq's task message that are shown.
type taskMessage struct {
	payload   []byte
	headers   map[string]string
	lastError string
}

// findTask looks a task up in those queues that take recalls of its provider. It is nil if there is none.
func findTask(ctx context.Context, rdb redis.UniversalClient, id string) (*seenTask, error) {
	queues, err := rdb.SMembers(ctx, tasks.QueuesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the queues: %w", err)
	}
	slices.Sort(queues) // urgent before bulk
	for _, queue := range queues {
		provider, _, _, ours := tasks.ParseQueue(queue)
		if !ours || !strings.HasPrefix(id, provider+"_") {
			continue
		}
		task, err := readTask(ctx, rdb, queue, id)
		if task != nil || err != nil {
			return task, err
		}
	}
	return nil, nil
}

func readTask(ctx context.Context, rdb redis.UniversalClient, queue, id string) (*seenTask, error) {
	fields, err := rdb.HMGet(ctx, tasks.TaskKey(queue, id), "msg", "state").Result()
	if err != nil {
		return nil, fmt.Errorf("look for %s in %s: %w", id, queue, err)
	}
	msg, _ := fields[0].(string)
	if msg == "" { // the rest of one that was deleted is none
		return nil, nil
	}
	task := &seenTask{queue: queue, id: id, message: readMessage([]byte(msg))}
	task.state, _ = fields[1].(string)
	if task.state != stateRetry && task.state != stateScheduled {
		return task, nil
	}
	at, err := rdb.ZScore(ctx, tasks.QueueKey(queue, task.state), id).Result()
	if err != nil && !errors.Is(err, redis.Nil) { // it may just have left the set
		return nil, fmt.Errorf("look for %s in %s: %w", id, queue, err)
	}
	if err == nil {
		task.next = time.Unix(int64(at), 0)
	}
	return task, nil
}

// Fields of asynq's TaskMessage and ServerInfo, and of the entries of their maps.
const (
	messagePayload, messageError, messageHeaders = 2, 7, 15
	serverHost, serverPID, serverQueues          = 1, 2, 5
	entryKey, entryValue                         = 1, 2
)

func readMessage(msg []byte) taskMessage {
	m := taskMessage{headers: make(map[string]string)}
	for field, value := range protoFields(msg) {
		switch field {
		case messagePayload:
			m.payload = value
		case messageError:
			m.lastError = string(value)
		case messageHeaders:
			var key, text string
			for part, value := range protoFields(value) {
				switch part {
				case entryKey:
					key = string(value)
				case entryValue:
					text = string(value)
				}
			}
			m.headers[key] = text
		}
	}
	return m
}

// protoFields yields the fields of a message that have a length or are a number, numbers as decimal text, up to the first that
// cannot be read.
func protoFields(msg []byte) func(yield func(protowire.Number, []byte) bool) {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(msg) > 0 {
			field, kind, n := protowire.ConsumeTag(msg)
			if n < 0 {
				return
			}
			msg = msg[n:]
			length := protowire.ConsumeFieldValue(field, kind, msg)
			if length < 0 {
				return
			}
			var value []byte
			switch kind {
			case protowire.BytesType:
				value, _ = protowire.ConsumeBytes(msg)
			case protowire.VarintType:
				number, _ := protowire.ConsumeVarint(msg)
				value = strconv.AppendUint(nil, number, 10)
			}
			if value != nil && !yield(field, value) {
				return
			}
			msg = msg[length:]
		}
	}
}

// process is a running program that has asynq servers.
type process struct{ host, pid string }

// served are the queues that each process serves.
type served map[process]map[string]bool

// readServers reads which processes serve which queues.
func readServers(ctx context.Context, rdb redis.UniversalClient, now time.Time) (served, error) {
	keys, err := rdb.ZRangeByScore(ctx, asynqServersKey, &redis.ZRangeBy{Min: strconv.FormatInt(now.Unix(), 10), Max: "+inf"}).Result()
	if err != nil {
		return nil, fmt.Errorf("list the workers: %w", err)
	}
	all := make(served)
	for _, key := range keys {
		info, err := rdb.Get(ctx, key).Bytes()
		if errors.Is(err, redis.Nil) { // it has just stopped
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the workers: %w", err)
		}
		all.add(info)
	}
	return all, nil
}

func (s served) add(info []byte) {
	var p process
	var queues []string
	for field, value := range protoFields(info) {
		switch field {
		case serverHost:
			p.host = string(value)
		case serverPID:
			p.pid = string(value)
		case serverQueues:
			for part, name := range protoFields(value) {
				if part == entryKey {
					queues = append(queues, string(name))
				}
			}
		}
	}
	if s[p] == nil {
		s[p] = make(map[string]bool)
	}
	for _, q := range queues {
		s[p][q] = true
	}
}

// on counts the processes that serve one of the queues: each has two asynq servers a lane.
func (s served) on(queues ...string) int {
	n := 0
	for _, serves := range s {
		if slices.ContainsFunc(queues, func(q string) bool { return serves[q] }) {
			n++
		}
	}
	return n
}

// pausedQueues are the queues of lanes that somebody has paused. It is for notices only: where Redis does not let this user look, none
// is known to be.
func pausedQueues(ctx context.Context, rdb redis.Cmdable, lanes []tasks.Lane) map[string]bool {
	marks := make(map[string]*redis.IntCmd)
	pipe := rdb.Pipeline()
	for _, l := range lanes {
		for _, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			queue := tasks.Queue(l.Provider, l.App, p)
			marks[queue] = pipe.Exists(ctx, tasks.QueueKey(queue, "paused"))
		}
	}
	_, _ = pipe.Exec(ctx)
	paused := make(map[string]bool)
	for queue, mark := range marks {
		paused[queue] = mark.Val() > 0
	}
	return paused
}

// clockOf is Redis's clock, which windows and limits go by; this machine's for those who may not ask for it.
func clockOf(ctx context.Context, rdb redis.UniversalClient, ours func() time.Time) (time.Time, error) {
	now, err := rdb.Time(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return ours(), nil
	}
	return now, err
}

// clockFrom is [clockOf] for a run that needs it for every row: ours, put right by what Redis's is now.
func clockFrom(ctx context.Context, rdb redis.UniversalClient, ours func() time.Time) (func() time.Time, error) {
	now, err := clockOf(ctx, rdb, ours)
	ahead := now.Sub(ours())
	return func() time.Time { return ours().Add(ahead) }, err
}
