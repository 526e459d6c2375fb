-- Counts recalls of one batch.
--
-- KEYS[1] the hash  KEYS[2] its bytes  KEYS[3] its failures  KEYS[4] its ids  KEYS[5] its inputs  KEYS[6] the others, and
-- KEYS[7...] the sheets of others that are asked for
-- ARGV[1] the latest recall_by as text, or empty  ARGV[2] when the keys expire then, Unix seconds
-- ARGV[3...] six for each recall: sequence number; letter; id in short; "reopened", "seen", "stays" or empty; the failure or empty;
-- where it is on the sheets ("<index in KEYS>:<bit>") or empty
--
-- Returns 1 if the batch is cancelled, else 0.
local hash, bytes, failures, ids, others = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local names = {r="recalled", a="already_recalled", e="expired", n="not_found", j="rejected", c="cancelled", d="duplicate"}
local delta, total = {}, 0
local indexed = redis.call("EXISTS", ids) == 1
local created = redis.call("EXISTS", bytes) == 0
local noted = false
local ended = {} -- ids whose old number has ended well, so that it is the one that counts

local function sum(letter, by)
	delta[letter] = (delta[letter] or 0) + by
	total = total + by
end

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
	if old and old ~= "x" then sum(old, -1) end
	if new ~= "x" then sum(new, 1) end
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

-- The number of an id stands first; behind it those that it had before, since others may know it by these.
local most = 16
local function number(known) return string.match(known, "^%d+") end
local function index(id, seq, known)
	local list = {seq}
	for old in string.gmatch(known or "", "%d+") do
		if old ~= seq and #list < most then list[#list+1] = old end
	end
	redis.call("HSET", ids, id, table.concat(list, ","))
	indexed, noted = true, true
end

-- A sheet of 8192 numbers is a set while they are few, which Redis keeps in two bytes each, and then a bit for each.
local few, last_bit = 512, 8191
local kinds = {}
local function sheet(place)
	local i, bit = string.match(place, "^(%d+):(%d+)$")
	local key = KEYS[tonumber(i)]
	kinds[key] = kinds[key] or redis.call("TYPE", key).ok
	return key, bit, kinds[key]
end
local function mark(place)
	local key, bit, kind = sheet(place)
	if kind == "string" then return redis.call("SETBIT", key, bit, 1) == 0 end
	if redis.call("SADD", key, bit) == 0 then return false end
	if kind == "none" then
		kinds[key] = "set"
		redis.call("SADD", others, string.match(key, ":o:(.+):%d+$"))
	end
	if redis.call("SCARD", key) > few then
		local all = redis.call("SMEMBERS", key)
		redis.call("DEL", key)
		redis.call("SETBIT", key, last_bit, 0) -- all of it at once: a string that grows is given twice what it needs
		for _, n in ipairs(all) do redis.call("SETBIT", key, n, 1) end
		kinds[key] = "string"
	end
	return true
end
local function unmark(place)
	local key, bit, kind = sheet(place)
	if kind == "string" then return redis.call("SETBIT", key, bit, 0) == 1 end
	return kind == "set" and redis.call("SREM", key, bit) == 1
end

local function succeeded(b) return b == "r" or b == "a" end

local function count(seq, what, id, how, failure, place)
	local known = indexed and redis.call("HGET", ids, id) or nil
	if what == "-" then
		if place == "" then
			if not known then index(id, seq) end
			return
		end
		local counted = unmark(place)
		if counted then sum("d", -1) end
		if seq ~= "0" then
			if not known then index(id, seq) end
		elseif counted and not known then
			seq = tostring(redis.call("HINCRBY", hash, "next_seq", 1))
			index(id, seq)
			put(seq, nil, "d")
		end
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
	local own = known and number(known)
	if what == "d" then
		if known and place ~= "" and unmark(place) then sum("d", -1) end
		if not known and place ~= "" then
			if mark(place) then
				sum("d", 1)
				noted = true
			end
			return
		elseif not known then
			if seq == "0" then seq = tostring(redis.call("HINCRBY", hash, "next_seq", 1)) end
			index(id, seq)
		elseif seq == "0" and at(own) == "o" then
			return -- another's task was met, and has gone since: ours is the one that is left
		else
			seq = own
		end
	elseif at(seq) == "x" and succeeded(what) and known and own ~= seq then
		seq = own -- it is the same message: it is taken back
	elseif at(seq) == "x" and how ~= "stays" then
		return -- late news of a row that was enqueued again meanwhile
	elseif known and own ~= seq then
		local before = at(own)
		if succeeded(before) or (how == "seen" and before == "o") then
			index(id, own, known .. "," .. seq)
			if succeeded(before) and not at(seq) then put(seq, nil, "x") end
			return
		end
		if before then
			put(own, before, "x")
			redis.call("HDEL", failures, own)
		end
		index(id, seq, known)
	end
	local old = at(seq)
	if old == "x" then old = nil end
	if succeeded(old) or (what == "o" and old and how ~= "reopened") then return end
	if old ~= what then put(seq, old, what) end
	if how == "stays" then index(id, seq, known) end
	if failure ~= "" then
		redis.call("HSET", failures, seq, failure)
		index(id, seq, known)
	elseif old and old ~= what and old ~= "o" then
		redis.call("HDEL", failures, seq)
	end
	-- What has ended well is not enqueued again while its task is kept, and that has the number.
	if indexed and succeeded(what) and not string.find(redis.call("HGET", ids, id) or "", ",", 1, true) then
		redis.call("HDEL", ids, id)
	end
end

for i = 3, #ARGV, 6 do
	count(ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5])
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
if created or noted then
	for _, key in ipairs(KEYS) do redis.call("EXPIREAT", key, expires) end
end
return redis.call("HEXISTS", hash, "cancelled_at")
