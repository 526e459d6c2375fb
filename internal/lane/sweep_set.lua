-- Looks through a part of one of a queue's sorted sets for recalls that are too late, or whose batch was cancelled, and moves
-- them to the end of the pending list that is taken from next.
--
-- KEYS[1] asynq's set of retries, of scheduled tasks or of leases   KEYS[2] its pending list
-- KEYS[3] with the leases: its active list, which such a recall is taken out of
-- ARGV[1] first position                  ARGV[2] how many
-- ARGV[3] prefix of the tasks' hashes     ARGV[4] now, in nanoseconds, as asynq writes pending_since
-- ARGV[5] now, as the payload writes times; empty: what is too late is left alone
-- ARGV[6] highest score
-- ARGV[7] the newest version of a payload that is known: a newer one is not ours to cancel
-- ARGV[8...] cancelled batches
--
-- Returns {how many were looked at, id, id, ...}.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[6], 'LIMIT', ARGV[1], ARGV[2])
local found = {#ids}
for _, id in ipairs(ids) do
  local msg = redis.call('HGET', ARGV[3] .. id, 'msg')
  local by = msg and string.match(msg, '"recall_by":"([^"]+)"')
  local batch = msg and string.match(msg, '"batch":"([^"]+)"')
  local hit = by and by <= ARGV[5]
  local version = tonumber(msg and string.match(msg, '"v":(%d+)') or 0)
  for n = 8, version <= tonumber(ARGV[7]) and #ARGV or 0 do
    hit = hit or batch == ARGV[n]
  end
  if hit and KEYS[3] then
    hit = redis.call('LREM', KEYS[3], 1, id) == 1
  end
  if hit then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', ARGV[3] .. id, 'state', 'pending', 'pending_since', ARGV[4])
    redis.call('RPUSH', KEYS[2], id)
    found[#found + 1] = id
  end
end
return found
