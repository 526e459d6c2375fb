-- As asynq's own dequeue, but of one given recall, and from a paused queue as well: it is only to be ended, without a call.
--
-- KEYS and the first two ARGV are those of asynq's dequeue script; ARGV[3] is the id.
if redis.call('LINDEX', KEYS[1], -1) == ARGV[3] then
  redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
elseif redis.call('LREM', KEYS[1], -1, ARGV[3]) == 1 then
  redis.call('LPUSH', KEYS[3], ARGV[3])
else
  return nil
end
local key = ARGV[2] .. ARGV[3]
redis.call('HSET', key, 'state', 'active')
redis.call('HDEL', key, 'pending_since')
redis.call('ZADD', KEYS[4], ARGV[1], ARGV[3])
return redis.call('HGET', key, 'msg')
