-- Put the next attempt of a job into a lane, in place of the last one.
-- KEYS: 1 lane the last one is in, 2 lane to join, 3 waiting index of that lane, 4 set of lanes, 5 waiting index of
--       lane 1
-- ARGV: 1 group, 2 entry id, 3 request, 4 TTL of index and set (ms), 5 the new lane's name in the set,
--       then the fields of the next attempt
-- Returns the new entry id. The old entry may be gone: a broker may have forgotten it.
-- Atomic so that at no moment both attempts, or neither, are in a lane.
-- Uses: lane_index.lua
redis.call('ZREM', KEYS[5], ARGV[3])
redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return join(KEYS[2], KEYS[3], KEYS[4], ARGV[5], ARGV[1], ARGV[3], ARGV[4], unpack(ARGV, 6))
