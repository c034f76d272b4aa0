-- Take away the own lane of a node that is gone, if it holds no job.
-- KEYS: 1 the node's own lane, 2 set of lanes
-- ARGV: 1 the lane's name in the set
-- Returns 1 if it is gone now.
-- Atomic because a job that a hub sets aside between the look and the deletion would be lost.
if redis.call('XLEN', KEYS[1]) > 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
return 1
