-- Take a job that needs no more work off its lane.
-- KEYS: 1 lane
-- ARGV: 1 group, 2 entry id
-- Returns 1 if it was there.
-- Atomic because an acknowledged entry that is not deleted stays in the stream for ever.
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
