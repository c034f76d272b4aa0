-- Let a job that was set aside for a node go to its lane, where any node takes it, if that node has not claimed it.
-- KEYS: 1 the node's own lane, 2 lane to join, 3 waiting index of that, 4 set of lanes
-- ARGV: 1 group, 2 entry id, 3 request, 4 TTL of index and set (ms), 5 the lane's name in the set
-- Returns the job's new entry id; nil if the node has claimed it, or it is in neither lane. One whose answer was lost
-- may be repeated, and somebody else may have moved it: then where it lies.
-- Atomic so that at no moment the job is in both lanes, or in none. Its fields stay as they were signed.
-- Uses: lane_index.lua
local group = ARGV[1]
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then
  local moved = indexed(KEYS[3], ARGV[3])
  return holds(KEYS[2], moved, ARGV[3]) and moved
end
local pending = redis.pcall('XPENDING', KEYS[1], group, ARGV[2], ARGV[2], 1)
if not pending.err and #pending > 0 then return false end
redis.call('XDEL', KEYS[1], ARGV[2])
return join(KEYS[2], KEYS[3], KEYS[4], ARGV[5], group, ARGV[3], ARGV[4], unpack(found[1][2]))
