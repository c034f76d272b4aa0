-- Take a job that needs no more work off its lane.
-- KEYS: 1 lane, 2 its waiting index
-- ARGV: 1 group, 2 entry id, 3 request (empty if unknown)
-- Returns 1 if it was there.
-- Atomic because an acknowledged entry that is not deleted stays in the stream for ever. The index is the hub's
-- to keep, but a hub may have died, and a job that was refused is never claimed. It names the request and not the
-- entry: where the entry is gone already, the place is that of a newer attempt, which waits in the same lane.
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
local was_there = redis.call('XDEL', KEYS[1], ARGV[2])
if was_there == 1 then redis.call('ZREM', KEYS[2], ARGV[3]) end
return was_there
