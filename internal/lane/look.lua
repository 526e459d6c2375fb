-- Looks through a part of what waits in a queue for the recall whose window closes first.
--
-- KEYS[1] asynq's pending list, or its set of retries
-- ARGV[1] LRANGE or ZRANGE, whichever reads it     ARGV[2], ARGV[3] first and last position
-- ARGV[4] prefix of the tasks' hashes
-- ARGV[5] a time, as payloads write it: a window that closes before it is as early as any can be, and ends the look
--
-- Returns {how many were looked at, when the first window closes; empty: there is none}.
local ids = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3])
local first = ''
for i, id in ipairs(ids) do
  local msg = redis.call('HGET', ARGV[4] .. id, 'msg')
  -- The payload stands in the message as it is, and texts in it cannot hold an unescaped quote.
  local by = msg and string.match(msg, '"recall_by":"(%d[^"]+)"')
  if by and (first == '' or by < first) then
    first = by
    if by < ARGV[5] then break end
  end
end
return {#ids, first}
