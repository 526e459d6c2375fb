package tasks

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A batch in Redis is these keys, which share a slot of a cluster:
//
//	recallq:batch:{<name>}    hash: who, when, why, its inputs, total, and a counter for each outcome and for duplicates
//	recallq:batch:{<name>}:s  string: one byte for each sequence number, what its recall counts as now
//	recallq:batch:{<name>}:f  hash: sequence number -> the recall that did not succeed, as a row of input
//	recallq:batch:{<name>}:d  hash: id -> sequence number and those before it, of recalls that failed, and of duplicates without a batch
//	recallq:batch:{<name>}:i  hash: input -> whether it is still being read
//	recallq:batch:{<name>}:o  set: the other batches of which it has duplicates
//	recallq:batch:{<name>}:o:<other>:<page>  the sequence numbers that its duplicates have in another batch, a sheet of them
//
// "open" is no counter: it is what total has beyond the others.
const batchPrefix = "recallq:batch:"

// BatchKey returns the key of a batch's hash.
func BatchKey(name string) string { return batchPrefix + "{" + name + "}" }

// BatchFailuresKey returns the key of the hash of a batch's recalls that did not succeed: sequence number -> [Failure].
func BatchFailuresKey(name string) string { return BatchKey(name) + ":f" }

// BatchInputsKey returns the key of the hash of a batch's inputs: name -> whether it is still being read.
func BatchInputsKey(name string) string { return BatchKey(name) + ":i" }

func bytesKey(batch string) string { return BatchKey(batch) + ":s" }

func idsKey(batch string) string { return BatchKey(batch) + ":d" }

func othersKey(batch string) string { return BatchKey(batch) + ":o" }

// KeepBatch is how long a batch is kept after its latest recall_by.
const KeepBatch = 7 * 24 * time.Hour

// MaxSeq bounds sequence numbers: the string of bytes is as long as the largest, and a payload that somebody else has written
// must not fill Redis.
const MaxSeq = 1 << 27

// Count is what one recall of a batch counts as from now on.
//
// Counting is by sequence number and may be repeated: the same again changes nothing, a success is never replaced, and
// Open never replaces an outcome unless Reopened. So it does not matter whether the enqueuer or a fast worker comes first, nor
// how often either comes.
//
// A recall that has failed is also known by its id. When its row is enqueued again under another number, that number takes its place
// in the sums. A duplicate is known by the number that it has in its own batch, and by its id if it has none.
type Count struct {
	// Seq is the recall's number. Zero for a Duplicate: it gets one if it needs one.
	Seq int64
	// ID is the task id.
	ID string
	// As is Open, Duplicate or one of [Outcomes]. Empty only makes the recall known by its id: what it counts as is the same, but for Of, as
	// whose duplicate it does not count any more if it has a Seq. Without one it becomes known only if it counts as that duplicate.
	As string
	// Of is the recall of another batch that a Duplicate is a duplicate of; zero if that has no batch.
	Of Number
	// Reopened lets Open replace an outcome without success.
	Reopened bool
	// Seen says that Open was read off a task, and may be old news: it does not take the place of another number that is open.
	Seen bool
	// stays says that Open is the one task that is left of two: it counts also if its number was taken for another's meanwhile.
	stays bool
	// Failure is what to keep of an outcome without success.
	Failure *Failure
	// queue is where the recall was enqueued just now.
	queue string
	// RecallBy keeps the batch until [KeepBatch] later. Zero: as long as it is kept anyway.
	RecallBy time.Time
}

// renumbered is what a number counts as whose recall is counted under another one: nothing, also when news of it come late.
const renumbered = "renumbered"

// letters are the bytes that stand for what a recall counts as. A zero byte stands for nothing yet, and x for a number whose
// row was enqueued again under another one.
var letters = map[string]string{
	"": "-", renumbered: "x", Open: "o", Recalled: "r", AlreadyRecalled: "a", Expired: "e", NotFound: "n", Rejected: "j", Cancelled: "c", Duplicate: "d",
}

//go:embed count.lua
var countSource string

var countScript = redis.NewScript(countSource)

// perCount is the number of arguments of countScript for one recall.
const perCount = 6

// CountScript returns the script that counts recalls of one batch, with its keys and arguments, for callers that send it with
// other commands. It returns 1 if the batch is cancelled. What has no number in range, or no known outcome, is left out.
func CountScript(batch string, counts ...Count) (script *redis.Script, keys []string, args []any, err error) {
	sheets := sheets{keys: []string{
		BatchKey(batch), bytesKey(batch), BatchFailuresKey(batch), idsKey(batch), BatchInputsKey(batch), othersKey(batch),
	}}
	args = make([]any, 2, 2+perCount*len(counts))
	var latest time.Time
	for _, c := range counts {
		letter := letters[c.As]
		if letter == "" || c.Seq < 0 || c.Seq > MaxSeq || c.Seq == 0 && c.As != Duplicate && !c.Of.known() {
			continue
		}
		var failure []byte
		if c.Failure != nil {
			if failure, err = c.Failure.stored(); err != nil {
				return nil, nil, nil, err
			}
		}
		how := ""
		switch {
		case c.Reopened:
			how = "reopened"
		case c.Seen:
			how = "seen"
		case c.stays:
			how = "stays"
		}
		args = append(args, strconv.FormatInt(c.Seq, 10), letter, shortID(c.ID), how, failure, sheets.place(batch, c.Of))
		if c.RecallBy.After(latest) {
			latest = c.RecallBy
		}
	}
	text, from := "", time.Now()
	if !latest.IsZero() && writable(latest) {
		text, from = FormatTime(latest), latest
	}
	args[0], args[1] = text, from.Add(KeepBatch).Unix()
	return countScript, sheets.keys, args, nil
}

// CountIn counts recalls of one batch, in one step. It reports whether the batch is cancelled.
func CountIn(ctx context.Context, rdb redis.Scripter, batch string, counts ...Count) (cancelled bool, err error) {
	script, keys, args, err := CountScript(batch, counts...)
	if err == nil {
		cancelled, err = script.Run(ctx, rdb, keys, args...).Bool()
	}
	if err != nil {
		return false, fmt.Errorf("counting in the batch %s: %w", batch, err)
	}
	return cancelled, nil
}

// shortID is the first 80 bits of a task id's hash. Two recalls of a batch of ten million share them once in 10^10 batches.
func shortID(id string) string {
	const length = 10
	_, digits, _ := strings.Cut(id, "_")
	hash, err := hex.DecodeString(digits)
	if err != nil || len(hash) < length {
		return id
	}
	return string(hash[:length])
}
