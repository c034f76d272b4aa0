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
-- Atomic because two hubs that look before they add would both take the last place. The index is in the order of the
-- entry ids, as the lane is: no clock of a hub could tell it (score: ms of the id and three digits of its number).
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
-- Two lanes may both have an entry of this id.
local function holds(lane, entry)
  local found = redis.call('XRANGE', lane, entry, entry)
  local fields = #found > 0 and found[1][2] or {}
  for at = 1, #fields, 2 do
    if fields[at] == 'id' then return fields[at + 1] == ARGV[3] end
  end
  return false
end
local place = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[3]) or 0)
local old = string.format('%.0f-%.0f', math.floor(place / 1000), place % 1000)
if place % 1000 < 999 then
  if holds(KEYS[1], old) then return {old, 0, 0} end
  if own and holds(own, old) then return {old, 0, 1} end
end
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
if redis.call('EXISTS', lane) == 0 then redis.call('XGROUP', 'CREATE', lane, group, '0', 'MKSTREAM') end
local id = redis.call('XADD', lane, '*', unpack(ARGV, 7))
local ms, number = string.match(id, '(%d+)-(%d+)')
redis.call('ZADD', KEYS[2], ms .. string.format('%03d', math.min(number, 999)), ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('SADD', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {id, ahead, is_own}
