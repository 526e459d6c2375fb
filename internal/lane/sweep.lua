-- Looks through a part of a queue's pending list for recalls that are too late, or whose batch was cancelled, and moves them
-- to the end that is taken from next.
--
-- KEYS[1] asynq's pending list
-- ARGV[1] first position, from the end that is added to   ARGV[2] how many
-- ARGV[3] prefix of the tasks' hashes                     ARGV[4] now, as the payload writes times
-- ARGV[5] the newest version of a payload that is known: a newer one is not ours to cancel
-- ARGV[6...] cancelled batches
--
-- Returns {how many were looked at, id, id, ...}.
local ids = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local found = {#ids}
local gone = '-' -- no id of ours
for i, id in ipairs(ids) do
  local msg = redis.call('HGET', ARGV[3] .. id, 'msg')
  if msg then
    -- The payload stands in the message as it is, and texts in it cannot hold an unescaped quote.
    local by = string.match(msg, '"recall_by":"([^"]+)"')
    local batch = string.match(msg, '"batch":"([^"]+)"')
    local hit = by and by <= ARGV[4]
    local version = tonumber(string.match(msg, '"v":(%d+)') or 0)
    for n = 6, version <= tonumber(ARGV[5]) and #ARGV or 0 do
      hit = hit or batch == ARGV[n]
    end
    if hit then
      found[#found + 1] = id
      redis.call('LSET', KEYS[1], ARGV[1] + i - 1, gone)
    end
  end
end
if #found > 1 then
  redis.call('LREM', KEYS[1], #found - 1, gone)
  for i = 2, #found do
    redis.call('RPUSH', KEYS[1], found[i])
  end
end
return found
