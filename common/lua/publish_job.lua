-- Admit a job to a lane, or say that the model's queue is full.
-- KEYS: 1 lane to join, 2 its waiting index, 3 set of lanes, then every lane of the model, in the order of claiming
-- ARGV: 1 group, 2 most waiting jobs of this model, 3 request, 4 TTL of index and set (ms),
--       5 the lane's name in the set, then the job's fields
-- Returns {entry id, jobs ahead}, or {false, jobs waiting} when the queue is full. One whose answer was lost may be
-- repeated: a job that is there already is not added once more.
-- Atomic because two hubs that look before they add would both take the last place. The index is in the order of the
-- entry ids, as the lane is: no clock of a hub could tell it (score: ms of the id and three digits of its number).
local group = ARGV[1]
local place = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[3]) or 0)
local old = string.format('%.0f-%.0f', math.floor(place / 1000), place % 1000)
if place % 1000 < 999 and #redis.call('XRANGE', KEYS[1], old, old) > 0 then return {old, 0} end
local waiting, ahead, passed = 0, 0, false
for i = 4, #KEYS do
  local here = redis.call('XLEN', KEYS[i])
  if here > 0 then
    local pending = redis.pcall('XPENDING', KEYS[i], group)
    if not pending.err then here = here - pending[1] end
  end
  waiting = waiting + here
  if not passed then ahead = ahead + here end
  if KEYS[i] == KEYS[1] then passed = true end
end
if waiting >= tonumber(ARGV[2]) then return {false, waiting} end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[1], group, '0', 'MKSTREAM') end
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 6))
local ms, number = string.match(id, '(%d+)-(%d+)')
redis.call('ZADD', KEYS[2], ms .. string.format('%03d', math.min(number, 999)), ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('SADD', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {id, ahead}
