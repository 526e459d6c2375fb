-- Looks through a part of a queue's retries for recalls whose batch was cancelled, and moves them to the end of the queue that
-- is taken from next. Those that are too late need no looking for: no retry is due after its window has closed.
--
-- KEYS[1] asynq's sorted set of retries   KEYS[2] its pending list
-- ARGV[1] first position                  ARGV[2] how many
-- ARGV[3] prefix of the tasks' hashes     ARGV[4] now, in nanoseconds, as asynq writes pending_since
-- ARGV[5...] cancelled batches
--
-- Returns {how many were looked at, id, id, ...}.
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local found = {#ids}
for _, id in ipairs(ids) do
  local msg = redis.call('HGET', ARGV[3] .. id, 'msg')
  local batch = msg and string.match(msg, '"batch":"([^"]+)"')
  for n = 5, #ARGV do
    if batch == ARGV[n] then
      redis.call('ZREM', KEYS[1], id)
      redis.call('HSET', ARGV[3] .. id, 'state', 'pending', 'pending_since', ARGV[4])
      redis.call('RPUSH', KEYS[2], id)
      found[#found + 1] = id
    end
  end
end
return found
