-- What came of a call: it is no longer in flight, and the lane opens or closes accordingly.
--
-- KEYS[1] the lane's hash   KEYS[2] calls in flight   KEYS[3] calls made
-- KEYS[4] hash: since when these credentials have had no other answer than that of ARGV[15], and when it came last
-- ARGV[1] call id           ARGV[2] class: ok, answered, unavailable, throttled, refused, unmade
-- ARGV[3] fingerprint       ARGV[4] "1": the request was written, so it has arrived by now, if ever
-- ARGV[5] "1": the lane has limits
-- ARGV[6] when the call was let through, ms
-- ARGV[7] schedule's first step, ms   ARGV[8] its last, ms   ARGV[9] "1": exactly the first step, not doubled
-- ARGV[10] reason (throttled, credentials, misconfigured, unavailable)   ARGV[11] the vendor's words, for people
-- ARGV[12] unavailable answers in a row that hold the lane   ARGV[13] "1": leave the lane open (refused, but others succeed)
-- ARGV[14] id of the recall's task: the next probe should be another one
-- ARGV[15] "too many calls" that may as well mean "not allowed at all": given again and again for so many ms, without any other
-- answer, it counts as refused for credentials; 0: it is what it says
-- ARGV[16] "1": the recall is urgent
--
-- Returns {change, until, now, reason, since, says, spared}; change is "", closed or opened. says is for closed: the vendor's words,
-- and ours where they need explaining. spared is "1" if the recall was refused, and the lane is open because others succeed.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local class, fp = ARGV[2], ARGV[3]
local began = tonumber(ARGV[6])
local first, most = tonumber(ARGV[7]), tonumber(ARGV[8])

redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[5] == '1' then
  if ARGV[4] == '1' then
    redis.call('ZADD', KEYS[3], now, ARGV[1])
  else
    redis.call('ZREM', KEYS[3], ARGV[1])
  end
end

local reason, says = ARGV[10], ARGV[11]
if class == 'throttled' and tonumber(ARGV[15]) > 0 then
  local age = tonumber(ARGV[15])
  local since, last = unpack(redis.call('HMGET', KEYS[4], 'since', 'last'))
  -- Where nobody has asked for as long, there being no other answer says nothing. So it takes three answers at least.
  if not since or now - tonumber(last) >= age then since = now end
  redis.call('HSET', KEYS[4], 'since', since, 'last', now)
  redis.call('EXPIRE', KEYS[4], math.ceil(age / 1000)) -- it counts for nothing then
  if now - tonumber(since) >= age then
    class, reason, says = 'refused', 'credentials', says .. '; no other answer for a day: it may not be enabled for the account'
    first = math.max(first, 30000) -- as with other refusals
  end
elseif class ~= 'throttled' and class ~= 'unmade' then
  redis.call('DEL', KEYS[4])
end

local function step(n)
  if ARGV[9] == '1' then return first end
  local d = first
  for _ = 1, math.min(n, 40) do
    if d >= most then break end
    d = d * 2
  end
  return math.min(d, math.max(most, first))
end
local function get(name)
  local text = redis.call('HGET', KEYS[1], name)
  return text and cjson.decode(text)
end
local function put(name, hold) redis.call('HSET', KEYS[1], name, cjson.encode(hold)) end

local any, mine = get('hold:any'), get('hold:' .. fp)
local was = any or mine

-- The probe is over, whatever it brought.
local probed = false
for name, hold in pairs({['hold:any'] = any or nil, ['hold:' .. fp] = mine or nil}) do
  if hold.probe == ARGV[1] then
    probed = true
    hold.probe, hold.probe_until = '', 0
    if class == 'refused' or class == 'unavailable' then hold.last, hold.passed = ARGV[14], false end
    hold.urgent = class == 'refused' and ARGV[16] == '1'
    put(name, hold)
  end
end

local function grow()
  if fp == '' then return end -- another lane of the account told us
  local allow = tonumber(redis.call('HGET', KEYS[1], 'allow:' .. fp) or 1)
  if allow < 4096 then redis.call('HSET', KEYS[1], 'allow:' .. fp, allow * 2) end
end

if class == 'ok' or class == 'answered' then
  redis.call('HDEL', KEYS[1], 'bad', 'shut_n', 'hold:any', 'hold:' .. fp)
  if class == 'ok' then redis.call('HSET', KEYS[1], 'ok_at:' .. fp, now) end
  grow()
  if was then return {'opened', 0, now, was.reason, was.since} end
  return {'', 0, now, '', 0}
end

if class == 'throttled' then
  grow()
  local shut_at = tonumber(redis.call('HGET', KEYS[1], 'shut_at') or 0)
  local shut_until = tonumber(redis.call('HGET', KEYS[1], 'shut_until') or 0)
  local n = tonumber(redis.call('HGET', KEYS[1], 'shut_n') or 0)
  -- It lasts as long as one comes soon after the other. A wait that the vendor has named is no step of ours.
  if now - shut_until > shut_until - shut_at + 30000 then n = 0 end
  -- Calls that were under way together are told off together: that is one throttling, not several.
  if began > shut_at or ARGV[9] == '1' then
    local at = math.max(shut_until, now + step(n))
    if ARGV[9] ~= '1' then n = n + 1 end
    redis.call('HSET', KEYS[1], 'shut_until', at, 'shut_at', now, 'shut_n', n, 'shut_reason', 'throttled')
    if shut_until <= now then return {'closed', at, now, 'throttled', now, says} end
    return {'', at, now, 'throttled', shut_at}
  end
  return {'', shut_until, now, 'throttled', shut_at}
end

if class == 'unavailable' then
  grow()
  if any then
    if probed then
      any.n = any.n + 1
      any.next = now + step(any.n)
      put('hold:any', any)
    end
    return {'', any.next, now, any.reason, any.since}
  end
  if mine then
    if probed then
      mine.next = now + mine.step
      put('hold:' .. fp, mine)
    end
    return {'', mine.next, now, mine.reason, mine.since}
  end
  local bad = redis.call('HINCRBY', KEYS[1], 'bad', 1)
  if bad < tonumber(ARGV[12]) then return {'', 0, now, '', 0} end
  local hold = {reason = reason, says = says, since = now, n = 0, next = now + step(0), step = step(0), probe = '', probe_until = 0, last = ARGV[14], passed = false}
  put('hold:any', hold)
  redis.call('HSET', KEYS[1], 'allow:' .. fp, 1)
  return {'closed', hold.next, now, hold.reason, now, hold.says}
end

if class == 'refused' then
  -- The vendor answers: whatever it was that kept it from answering is over.
  redis.call('HDEL', KEYS[1], 'hold:any', 'bad')
  local ok_at = tonumber(redis.call('HGET', KEYS[1], 'ok_at:' .. fp) or 0)
  if not mine and (ARGV[13] == '1' or ok_at > began) then
    -- The account works for others: this recall alone is refused.
    if any then return {'opened', 0, now, any.reason, any.since, '', '1'} end
    return {'', 0, now, '', 0, '', '1'}
  end
  if mine then
    if probed or began > mine.since then
      mine.n = mine.n + 1
      mine.step = step(mine.n)
      mine.next = now + mine.step
      mine.reason, mine.says = reason, says
      put('hold:' .. fp, mine)
    elseif first > mine.step then
      -- One that was under way when the hold began, with an answer that asks for a longer wait than the first one did.
      mine.step = first
      mine.next = math.max(mine.next, now + first)
      mine.reason, mine.says = reason, says
      put('hold:' .. fp, mine)
    end
    return {'', mine.next, now, mine.reason, mine.since}
  end
  local hold = {reason = reason, says = says, since = now, n = 0, next = now + step(0), step = step(0), probe = '', probe_until = 0,
    last = ARGV[14], passed = false, urgent = ARGV[16] == '1'}
  put('hold:' .. fp, hold)
  redis.call('HSET', KEYS[1], 'allow:' .. fp, 1)
  return {'closed', hold.next, now, hold.reason, now, hold.says}
end

return {'', 0, now, '', 0}
