-- Forget a consumer of a lane that holds no job.
-- KEYS: 1 lane
-- ARGV: 1 group, 2 consumer
-- Returns 1 if it was there and is forgotten now.
-- Atomic because the jobs that a consumer holds go with it: one claimed between the look and the deletion would be lost.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if pending.err or #pending > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
