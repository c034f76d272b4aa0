-- Functions of scripts that add jobs to lanes; part of each that says `Uses: lane_index.lua`.
-- The waiting index of a lane is in the order of the entry ids, as the lane is: no clock of a hub could tell it. A score
-- is the ms of an id and three digits of its number, so it may stand for several entries: each tells whose it is.

-- Add a job, given by its fields, to a lane, and its request to the lane's index; returns the entry id.
local function join(lane, index, lanes, name, group, request, ttl, ...)
  if redis.call('EXISTS', lane) == 0 then redis.call('XGROUP', 'CREATE', lane, group, '0', 'MKSTREAM') end
  local id = redis.call('XADD', lane, '*', ...)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  redis.call('ZADD', index, ms .. string.format('%03d', math.min(number, 999)), request)
  redis.call('PEXPIRE', index, ttl)
  redis.call('SADD', lanes, name)
  redis.call('PEXPIRE', lanes, ttl)
  return id
end

-- The entry id that an index has for a request; nil if it has none.
local function indexed(index, request)
  local place = redis.call('ZSCORE', index, request)
  return place and string.format('%.0f-%.0f', math.floor(place / 1000), place % 1000)
end

-- Whether an entry of a lane is a job of this request.
local function holds(lane, entry, request)
  local found = entry and redis.call('XRANGE', lane, entry, entry)[1]
  local fields = found and found[2] or {}
  for at = 1, #fields, 2 do
    if fields[at] == 'id' then return fields[at + 1] == request end
  end
  return false
end

