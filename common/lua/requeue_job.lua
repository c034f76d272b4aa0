-- requeue_job
-- Put the next attempt of a job into a lane, in place of the last one.
-- KEYS: 1 lane the last one is in, 2 lane to join, 3 waiting index of that lane, 4 set of lanes, 5 waiting index of
--       lane 1
-- ARGV: 1 group, 2 entry id, 3 request, 4 TTL of index and set (ms), 5 the new lane's name in the set,
--       then the fields of the next attempt
-- Returns the new entry id. The old entry may be gone: a broker may have forgotten it.
-- Atomic so that at no moment both attempts, or neither, are in a lane. The index is in the order of the entry ids,
-- see publish_job.lua.
local group = ARGV[1]
redis.call('ZREM', KEYS[5], ARGV[3])
redis.pcall('XACK', KEYS[1], group, ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[2], group, '0', 'MKSTREAM') end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6))
local ms, number = string.match(id, '(%d+)-(%d+)')
redis.call('ZADD', KEYS[3], ms .. string.format('%03d', math.min(number, 999)), ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('SADD', KEYS[4], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return id
