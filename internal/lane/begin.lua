-- May this lane make a call now? Counts the call as in flight if so.
--
-- KEYS[1] the lane's hash          KEYS[2] calls in flight (zset: call id -> end of its lease, ms)
-- KEYS[3] calls made (zset: call id -> when it can last have arrived, ms)
-- KEYS[4] asynq's pending list of the lane's urgent queue   KEYS[5] its paused mark
-- ARGV[1] call id; empty: claim, for a dequeue    ARGV[2] recall_by, ms; 0: none
-- ARGV[3] "1" if the recall is urgent             ARGV[4] fingerprint of the credentials
-- ARGV[5] lease of the call or claim, ms          ARGV[6] how long calls made are kept, ms
-- ARGV[7] the dequeuer that claims, or whose claim the call makes use of
-- ARGV[8] id of the recall's task; empty for a claim
-- ARGV[9...] the limits, four each: calls, window in ms (0: a calendar day), the day's first ms, the next day's first ms
--
-- A claim keeps the slot, or the probe, for the one recall that the dequeuer goes on to take from its queue; without it,
-- all workers would take one each, and all but one would have to put theirs back.
--
-- Returns {verdict, now, until, reason, probe, ok_at}; verdict is go (until: when the next may be let through), wait,
-- another (this recall was the last to be refused: another one had better be the probe), expired, or day (the days given are not today's).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local claim = 'claim:' .. ARGV[7]
local id = ARGV[1] == '' and claim or ARGV[1]
local urgent = ARGV[3] == '1'
local limited = #ARGV > 8
local edge = 1000 -- how far the vendor's midnight may be from ours

local recall_by = tonumber(ARGV[2])
if recall_by > 0 and now >= recall_by then
  return {'expired', now, 0, '', 0, 0}
end

-- A call whose worker died counts from the end of its lease: it can have arrived until then.
local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES')
for i = 1, #dead, 2 do
  if limited and string.sub(dead[i], 1, 6) ~= 'claim:' then redis.call('ZADD', KEYS[3], dead[i + 1], dead[i]) end
  redis.call('ZREM', KEYS[2], dead[i])
end
redis.call('ZREM', KEYS[2], claim)
local flying = redis.call('ZCARD', KEYS[2])

local raw = redis.call('HMGET', KEYS[1], 'shut_until', 'shut_reason', 'hold:any', 'hold:' .. ARGV[4],
  'allow:' .. ARGV[4], 'ok_at:' .. ARGV[4], 'urgent_until')
local ok_at = tonumber(raw[6] or 0)

local function wait(at, why)
  return {'wait', now, at, why, 0, ok_at}
end

-- Holds: one probe at a time, when it is due. Of two the later one counts; the credentials' own is the one that is probed.
local probe, held, hold = 0, nil, nil
local opens, why = 0, ''
for i, name in ipairs({'hold:any', 'hold:' .. ARGV[4]}) do
  if raw[i + 2] then
    held, hold, probe = name, cjson.decode(raw[i + 2]), 1
    local at = hold.next
    if hold.probe_until > now and hold.probe ~= claim then at = math.max(at, hold.probe_until) end
    if at > opens then opens, why = at, hold.reason end
  end
end
if opens > now then return wait(opens, why) end
if probe == 1 and urgent and hold.urgent and now < hold.next + 500 then
  -- The last probe was an urgent recall, and was refused. A bulk one, if there is any, may tell more: for a moment it goes first.
  return wait(now + 250, hold.reason)
end
if probe == 1 and ARGV[8] ~= '' and hold.last == ARGV[8] and not hold.passed then
  -- It goes behind all that waits. When it comes round again, there was no other.
  hold.passed, hold.probe, hold.probe_until = true, '', 0
  redis.call('HSET', KEYS[1], held, cjson.encode(hold))
  return {'another', now, now, hold.reason, 0, ok_at}
end

local shut_until = tonumber(raw[1] or 0)
if shut_until > now then
  return wait(shut_until, raw[2] or 'throttled')
end

-- Limits: when is the next slot, how many are free, and when is the one after this? Calls in flight count. But what they have is not
-- gone for sure, since a call may not be written and a claim come to nothing: what only they keep is asked for again soon.
local at, free, after = now, 1e9, 0
if limited then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[6]))
end
for i = 9, #ARGV, 4 do
  local calls, per = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local from, room
  local soon = now + 500
  if per > 0 then
    from = now - per - 2 -- clocks are read to the millisecond
    room = function(e) return e + per + 2 end
    soon = now + math.min(per / 2, 500)
  else
    local first, last = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    if now < first or now >= last then
      return {'day', now, 0, '', 0, ok_at}
    end
    from = first - edge
    room = function() return last + edge end
    if now < first + edge then at = math.max(at, first + edge) end
  end
  local made = redis.call('ZCOUNT', KEYS[3], '(' .. from, '+inf')
  local function opening(taken) -- when there is a slot beside so many: the call that must leave the window has left it
    if taken < calls then return now end
    local e = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', taken - calls, 1)
    return e[2] and room(tonumber(e[2])) or soon
  end
  local function slot(more) -- the same beside the calls made, those in flight and more
    return math.max(opening(made + more), math.min(opening(made + flying + more), soon))
  end
  at = math.max(at, slot(0))
  free = math.min(free, math.max(0, calls - made - flying))
  if made + flying + 1 >= calls then after = math.max(after, slot(1)) end
end

-- Slow start: wrong credentials must cost one call, not one for each worker.
local allow = tonumber(raw[5] or 1)
local starting = probe == 0 and allow < 4096 -- where settle.lua ends it

-- An urgent recall takes the next slot, whether it waits in its queue or at this gate.
local first = 0
if (limited or starting) and not urgent and not (probe == 1 and hold.urgent) then
  if redis.call('EXISTS', KEYS[5]) == 0 then first = redis.call('LLEN', KEYS[4]) end
  if tonumber(raw[7] or 0) > now then first = first + 1 end
  if limited and at <= now and first >= free then
    return wait(now + 250, 'urgent')
  end
end

if at > now then
  if urgent then redis.call('HSET', KEYS[1], 'urgent_until', at + 250) end
  return wait(at, 'limit')
end

-- Of the few calls at the start some are left to urgent recalls, but not more than they have workers.
if starting and flying + math.min(first, 2) >= allow then
  if urgent then redis.call('HSET', KEYS[1], 'urgent_until', now + 500) end
  return wait(now + 250, 'start')
end

redis.call('ZADD', KEYS[2], now + tonumber(ARGV[5]), id)
if held then
  hold.probe, hold.probe_until = id, now + tonumber(ARGV[5])
  redis.call('HSET', KEYS[1], held, cjson.encode(hold))
  after, why = math.max(after, hold.probe_until), hold.reason -- nobody else passes while it is under way
end
if urgent and raw[7] then redis.call('HDEL', KEYS[1], 'urgent_until') end
return {'go', now, after, why, probe, ok_at}
