-- Admit a job to a lane, or say that the model's queue is full.
-- KEYS: 1 lane to join, 2 its waiting index, 3 set of lanes, then every lane of the model, in the order of claiming,
--       and last, where the job is meant for a node, that node's own lane
-- ARGV: 1 group, 2 most waiting jobs of this model, 3 request, 4 TTL of index and set (ms),
--       5 the lane's name in the set, 6 how many jobs may wait in the node's own lane with this one (0: it has no such
--       key), then the job's fields
-- Returns {entry id, jobs ahead, 1 if it joined the node's own lane}, or {false, jobs waiting, 0} when the queue is
-- full. One whose answer was lost may be repeated: a job that is there already is not added once more.
-- A job is set aside for its node only where nobody waits for the model whom it would overtake, and the node's lane
-- is there to be read. It stands in the index of the lane that it goes to if the node doesn't take it.
-- Atomic because two hubs that look before they add would both take the last place.
-- Uses: lane_index.lua
local group, room = ARGV[1], tonumber(ARGV[6])
local lanes, own = #KEYS, nil
if room > 0 then lanes, own = #KEYS - 1, KEYS[#KEYS] end
local function waiting_in(lane)
  local here = redis.call('XLEN', lane)
  if here == 0 then return 0 end
  local pending = redis.pcall('XPENDING', lane, group)
  if pending.err then return here, true end
  return here - pending[1]
end
local old = indexed(KEYS[2], ARGV[3])
if holds(KEYS[1], old, ARGV[3]) then return {old, 0, 0} end
if own and holds(own, old, ARGV[3]) then return {old, 0, 1} end
local waiting, ahead, passed = 0, 0, false
for i = 4, lanes do
  local here = waiting_in(KEYS[i])
  waiting = waiting + here
  if not passed then ahead = ahead + here end
  if KEYS[i] == KEYS[1] then passed = true end
end
if waiting >= tonumber(ARGV[2]) then return {false, waiting, 0} end
local lane, is_own = KEYS[1], 0
if own and waiting == 0 and redis.call('EXISTS', own) == 1 then
  local here, has_no_group = waiting_in(own)
  if here < room and not has_no_group then lane, is_own = own, 1 end
end
return {join(lane, KEYS[2], KEYS[3], ARGV[5], group, ARGV[3], ARGV[4], unpack(ARGV, 7)), ahead, is_own}
