-- Take a job back if nobody has claimed it.
-- KEYS: 1 lane, 2 its waiting index
-- ARGV: 1 group, 2 entry id, 3 request
-- Returns the consumer that has claimed it; nil if nobody has: then it is gone now.
-- Atomic because a job claimed between the look and the deletion would run unseen.
redis.call('ZREM', KEYS[2], ARGV[3])
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if not pending.err and #pending > 0 then return pending[1][2] end
redis.call('XDEL', KEYS[1], ARGV[2])
return false
