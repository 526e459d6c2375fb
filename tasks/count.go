package tasks

import (
	"context"
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
//	recallq:batch:{<name>}:d  hash: id -> sequence number, of recalls whose task may be another batch's, or gone
//	recallq:batch:{<name>}:i  hash: input -> whether it is still being read
//
// "open" is no counter: it is what total has beyond the others.
const batchPrefix = "recallq:batch:"

// BatchKey returns the key of a batch's hash.
func BatchKey(name string) string { return batchPrefix + "{" + name + "}" }

// BatchFailuresKey returns the key of the hash of a batch's recalls that did not succeed: sequence number -> [Failure].
func BatchFailuresKey(name string) string { return BatchKey(name) + ":f" }

// KeepBatch is how long a batch is kept after its latest recall_by.
const KeepBatch = 7 * 24 * time.Hour

// maxSeq bounds sequence numbers: the string of bytes is as long as the largest, and a payload that somebody else has written
// must not fill Redis.
const maxSeq = 1 << 27

// Count is what one recall of a batch counts as from now on.
//
// Counting is by sequence number and may be repeated: the same again changes nothing, a success is never replaced, and
// Open never replaces an outcome unless Reopened. So it does not matter whether the enqueuer or a fast worker comes first, nor
// how often either comes.
//
// A recall that has failed or is a duplicate is also known by its id. When its row is enqueued again under another number, that
// number takes its place in the sums.
type Count struct {
	// Seq is the recall's number. Zero for a Duplicate: it gets one, unless its id has one already.
	Seq int64
	// ID is the task id.
	ID string
	// As is Open, Duplicate or one of [Outcomes]; empty changes no sum and only makes the recall known by its id.
	As string
	// Reopened lets Open replace an outcome without success.
	Reopened bool
	// Seen says that Open was read off a task, and may be old news: it does not take the place of another number that is open.
	Seen bool
	// stays says that Open is the one task that is left of two: it counts also if its number was taken for another's meanwhile.
	stays bool
	// Failure is what to keep of an outcome without success.
	Failure *Failure
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

// countScript counts recalls of one batch.
//
// KEYS the hash, its bytes, its failures, its ids, its inputs
// ARGV[1] the latest recall_by as text, or empty; ARGV[2] when the keys expire then, Unix seconds
// ARGV[3...] for each recall: sequence number, letter, id in short, "reopened", "seen", "stays" or empty; the failure or empty
//
// Returns 1 if the batch is cancelled, else 0.
var countScript = redis.NewScript(`
local hash, bytes, failures, ids = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local names = {r="recalled", a="already_recalled", e="expired", n="not_found", j="rejected", c="cancelled", d="duplicate"}
local delta, total = {}, 0
local indexed = redis.call("EXISTS", ids) == 1
local created = redis.call("EXISTS", bytes) == 0
local noted = false
local ended = {} -- ids whose old number has ended well, so that it is the one that counts

-- A step counts neighbours, most of them: their bytes are read and written together.
local pages, written, fresh = {}, {}, {}
local function at(seq)
	seq = tonumber(seq)
	local b = written[seq]
	if not b then
		local page, offset = math.floor(seq / 512), seq % 512
		if not pages[page] then pages[page] = redis.call("GETRANGE", bytes, page * 512, page * 512 + 511) end
		b = string.sub(pages[page], offset + 1, offset + 1)
	end
	if b == "" or b == "\0" then return nil end
	return b
end
local function put(seq, old, new)
	if old and old ~= "x" then delta[old] = (delta[old] or 0) - 1; total = total - 1 end
	if new ~= "x" then delta[new] = (delta[new] or 0) + 1; total = total + 1 end
	seq = tonumber(seq)
	if not written[seq] then fresh[#fresh+1] = seq end
	written[seq] = new
end
local function write()
	table.sort(fresh)
	local i = 1
	while i <= #fresh do
		local first, run = fresh[i], {}
		while fresh[i] == first + #run do
			run[#run+1] = written[fresh[i]]
			i = i + 1
		end
		redis.call("SETRANGE", bytes, first, table.concat(run))
	end
end
local function index(id, seq)
	redis.call("HSET", ids, id, seq)
	indexed, noted = true, true
end
local function succeeded(b) return b == "r" or b == "a" end

local function count(seq, what, id, how, failure)
	local known = indexed and redis.call("HGET", ids, id) or nil
	if what == "-" then
		if not known then index(id, seq) end
		return
	end
	if what == "x" then
		local old = at(seq)
		if succeeded(old) then
			ended[id] = true
		elseif old ~= "x" then
			put(seq, old, "x")
			redis.call("HDEL", failures, seq)
		end
		return
	end
	if how == "stays" and ended[id] then
		local old = at(seq)
		if old ~= "x" then put(seq, old, "x") end
		return
	end
	if what == "d" then
		if not known then
			if seq == "0" then seq = tostring(redis.call("HINCRBY", hash, "next_seq", 1)) end
			index(id, seq)
		else
			seq = known
		end
	elseif at(seq) == "x" and succeeded(what) and known and known ~= seq then
		seq = known -- it is the same message: it is taken back
	elseif at(seq) == "x" and how ~= "stays" then
		return -- late news of a row that was enqueued again meanwhile
	elseif known and known ~= seq then
		local before = at(known)
		if succeeded(before) or (how == "seen" and before == "o") then return end
		if before then
			put(known, before, "x")
			redis.call("HDEL", failures, known)
		end
		index(id, seq)
	end
	local old = at(seq)
	if old == "x" then old = nil end
	if succeeded(old) or (what == "o" and old and how ~= "reopened") then return end
	if old ~= what then put(seq, old, what) end
	if how == "stays" then index(id, seq) end
	if failure ~= "" then
		redis.call("HSET", failures, seq, failure)
		index(id, seq)
	elseif old and old ~= what and old ~= "o" then
		redis.call("HDEL", failures, seq)
	end
	-- What has ended well is not enqueued again while its task is kept, and that has the number.
	if indexed and succeeded(what) then redis.call("HDEL", ids, id) end
end

for i = 3, #ARGV, 5 do
	count(ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4])
end
write()
for letter, by in pairs(delta) do
	if names[letter] and by ~= 0 then redis.call("HINCRBY", hash, names[letter], by) end
end
if total ~= 0 then redis.call("HINCRBY", hash, "total", total) end

-- Expiry is set where it may be missing, and not each time: a worker counts one recall a call.
local last, expires = unpack(redis.call("HMGET", hash, "last_recall_by", "expires_at"))
if ARGV[1] ~= "" and ARGV[1] > (last or "") then
	expires, created = ARGV[2], true
	redis.call("HSET", hash, "last_recall_by", ARGV[1], "expires_at", expires)
end
expires = expires or ARGV[2]
if created then
	for _, key in ipairs(KEYS) do redis.call("EXPIREAT", key, expires) end
elseif noted then
	redis.call("EXPIREAT", failures, expires)
	redis.call("EXPIREAT", ids, expires)
end
return redis.call("HEXISTS", hash, "cancelled_at")`)

// perCount is the number of arguments of countScript for one recall.
const perCount = 5

// CountScript returns the script that counts recalls of one batch, with its keys and arguments, for callers that send it with
// other commands. It returns 1 if the batch is cancelled. What has no number in range, or no known outcome, is left out.
func CountScript(batch string, counts ...Count) (script *redis.Script, keys []string, args []any, err error) {
	key := BatchKey(batch)
	args = make([]any, 2, 2+perCount*len(counts))
	var latest time.Time
	for _, c := range counts {
		letter := letters[c.As]
		if letter == "" || c.Seq < 0 || c.Seq > maxSeq || c.Seq == 0 && c.As != Duplicate {
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
		args = append(args, strconv.FormatInt(c.Seq, 10), letter, shortID(c.ID), how, failure)
		if c.RecallBy.After(latest) {
			latest = c.RecallBy
		}
	}
	text, from := "", time.Now()
	if !latest.IsZero() && writable(latest) {
		text, from = showTime(latest), latest
	}
	args[0], args[1] = text, from.Add(KeepBatch).Unix()
	return countScript, []string{key, key + ":s", key + ":f", key + ":d", key + ":i"}, args, nil
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
