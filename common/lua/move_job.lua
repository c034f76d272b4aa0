-- Let a job that was set aside for a node go to its lane, where any node takes it, if that node has not claimed it.
-- KEYS: 1 the node's own lane, 2 lane to join, 3 waiting index of that, 4 set of lanes
-- ARGV: 1 group, 2 entry id, 3 request, 4 TTL of index and set (ms), 5 the lane's name in the set
-- Returns the job's new entry id; nil if the node has claimed it, or it is in neither lane. One whose answer was lost
-- may be repeated, and somebody else may have moved it: then where it lies.
-- Atomic so that at no moment the job is in both lanes, or in none. Its fields stay as they were signed. The index is
-- in the order of the entry ids, see publish_job.lua. It may have several requests under one number: the entry tells
-- whose it is.
local group = ARGV[1]
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then
  local place = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[3]) or 0)
  local moved = string.format('%.0f-%.0f', math.floor(place / 1000), place % 1000)
  local fields = (redis.call('XRANGE', KEYS[2], moved, moved)[1] or {nil, {}})[2]
  for at = 1, #fields, 2 do
    if fields[at] == 'id' and fields[at + 1] == ARGV[3] then return moved end
  end
  return false
end
local pending = redis.pcall('XPENDING', KEYS[1], group, ARGV[2], ARGV[2], 1)
if not pending.err and #pending > 0 then return false end
redis.call('XDEL', KEYS[1], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[2], group, '0', 'MKSTREAM') end
local id = redis.call('XADD', KEYS[2], '*', unpack(found[1][2]))
local ms, number = string.match(id, '(%d+)-(%d+)')
redis.call('ZADD', KEYS[3], ms .. string.format('%03d', math.min(number, 999)), ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('SADD', KEYS[4], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return id
