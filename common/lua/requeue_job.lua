-- Replace a claimed job by its next attempt.
-- KEYS: 1 lane it is in, 2 lane to join, 3 waiting index of that lane, 4 set of lanes, 5 waiting index of lane 1
-- ARGV: 1 group, 2 entry id, 3 now (ms), 4 request, 5 TTL of index and set (ms), 6 the new lane's name in the set,
--       then the fields of the next attempt
-- Returns the new entry id, or false if the old entry is no longer there: someone else has requeued or settled it.
-- Atomic because of that: of any number of processes that see the same loss, only one adds the next attempt.
redis.call('ZREM', KEYS[5], ARGV[4])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return false end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM') end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 7))
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('SADD', KEYS[4], ARGV[6])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return id
