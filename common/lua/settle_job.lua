-- Take a job that needs no more work off its lane.
-- KEYS: 1 lane, 2 its waiting index
-- ARGV: 1 group, 2 entry id, 3 request (empty if unknown)
-- Returns 1 if it was there.
-- Atomic because an acknowledged entry that is not deleted stays in the stream for ever. The index is the hub's
-- to keep, but a hub may have died, and a job that was refused is never claimed.
redis.call('ZREM', KEYS[2], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
