-- Everything about the limits of one client key, in one step: what its requests did, who may go next, what is left.
-- KEYS, all of one client key:
--   1 bucket    hash   `requests`, `tokens`: what may still be used now; `at`: when that was so (ms)
--   2 turns     zset   request -> end of its lease (ms): those that have their turn, published or running
--   3 unclaimed zset   the same, of those that no provider has claimed
--   4 waiting   zset   request -> its place: those that wait for their turn, the most urgent lane first
--   5 leases    zset   request -> end of its lease (ms): of those that wait
--   6 requests  hash   request -> hub, marks, tokens set aside, lane: all of both kinds
-- ARGV: 1 requests a minute, 2 tokens a minute, 3 most turns at once (-1: no limit, of each),
--       4 most unclaimed jobs in one lane, 5 most that wait, 6 lease (ms), 7 grace (ms), 8 TTL (ms), 9 hub that asks,
--       10 how many lanes may have room for more, then each with how many it has room for, then of each thing that
--       happened: verb, request, lane, urgency of the lane (0 is the most urgent), tokens.
--   reserve  a new request, for which so many tokens are set aside
--   wait     it still waits     queue  it has its turn and is not claimed     run  it has its turn and is claimed
--   end      it is over, and used so many tokens (-1: nobody knows; then what was set aside was used)
-- Returns {granted, orphans, places, verdict, wait, requests left, ms until full, tokens left, ms until full}:
--   granted and orphans are flat lists of request, hub; places of request, how many go before it. verdict is of the
--   last `reserve`: turn, wait, or why not: requests, tokens (and how many ms to wait), full.
-- Atomic because hubs that look before they take would together take more than there is. The time is the broker's.
-- A request whose hub doesn't renew it is marked at the end of its lease, a grace later told to the caller as an orphan
-- (who ends its reply, so that no provider goes on with it), and a grace after that gives its turn back.
local bucket, turns, unclaimed, waiting, leases, requests = unpack(KEYS)
local limits = {requests = tonumber(ARGV[1]), tokens = tonumber(ARGV[2])}
for what, size in pairs(limits) do
  if size < 0 then limits[what] = nil end
end
local most_turns, share, most_waiting = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local lease, grace, ttl, hub = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = time[1] * 1000000 + time[2]
local granted, orphans, places, verdict, wait_ms = {}, {}, {}, '', 0
local shares, first = {}, 11 + 2 * tonumber(ARGV[10])
for at = 11, first - 1, 2 do shares[ARGV[at]] = tonumber(ARGV[at + 1]) end
local touched = {[requests] = true}  -- those that live on

local function whole(number) return string.format('%.0f', number) end

-- Have a key live so long, or longer. Looking costs a fifth of telling.
local function keep(key, ms, more)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, whole(ms + more)) end
end

local function parse(entry)
  if not entry then return nil end
  local owner, marks, tokens, lane = string.match(entry, '^(%S+) (%d+) (%d+) (.*)$')
  return owner, tonumber(marks), tonumber(tokens), lane
end

local function read(request) return parse(redis.call('HGET', requests, request)) end

local function write(request, owner, marks, tokens, lane)
  redis.call('HSET', requests, request, owner .. ' ' .. marks .. ' ' .. whole(math.max(0, tokens)) .. ' ' .. lane)
end

local function add(index, score, request)
  touched[index] = true
  return redis.call('ZADD', index, whole(score), request) == 1
end

local function leave_line(request)
  redis.call('ZREM', waiting, request)
  redis.call('ZREM', leases, request)
end

-- A request has its turn or waits for it, never both.
local function forget(request)
  if redis.call('ZREM', turns, request) == 1 then redis.call('ZREM', unclaimed, request)
  else leave_line(request) end
  redis.call('HDEL', requests, request)
end

local function hold(request, is_claimed, is_unheard_of)
  local had_none = add(turns, now + lease, request)
  if is_claimed then redis.call('ZREM', unclaimed, request)
  else add(unclaimed, now + lease, request) end
  if had_none and not is_unheard_of then leave_line(request) end
end

local function queue(request, urgency, order)
  -- urgencies lie 3e15 apart: more than the microseconds of a century, and all of it within 53 bits
  touched[waiting] = true
  redis.call('ZADD', waiting, 'NX', whole(urgency * 3e15 + now_us + order), request)
  add(leases, now + lease + 2 * grace, request)
end

-- What a minute's allowance has grown to since it was last looked at (`common/records/limit_looks.py` tells it, too).
local stored = redis.call('HMGET', bucket, 'requests', 'tokens', 'at')
local levels = {requests = tonumber(stored[1]), tokens = tonumber(stored[2])}
local passed = math.max(0, now - (tonumber(stored[3]) or now))
for what, size in pairs(limits) do
  levels[what] = math.min(size, (levels[what] or size) + passed * size / 60000)
end

local function ms_until(what, level)
  if limits[what] <= 0 then return 60000 end
  return math.max(0, math.ceil((level - levels[what]) * 60000 / limits[what]))
end

-- Whether someone who waits may be able to go now. A call that says nothing asks just that.
local freed = #ARGV < first

-- Those whose hub has not spoken for them in time.
for _, request in ipairs(redis.call('ZRANGEBYSCORE', turns, '-inf', now, 'LIMIT', 0, 1000)) do
  local owner, marks, tokens, lane = read(request)
  if not owner or marks >= 2 then
    forget(request)
    freed = true
  else
    if marks == 1 then
      orphans[#orphans + 1] = request
      orphans[#orphans + 1] = owner
    end
    write(request, owner, marks + 1, tokens, lane)
    add(turns, now + grace, request)
  end
end
for _, request in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do forget(request) end

-- How many of the unclaimed lie in each lane, as far as was counted in this call: not before somebody must know.
local in_lane
local function count_lanes()
  in_lane = {}
  local all = redis.call('ZRANGE', unclaimed, 0, -1)
  for from = 1, #all, 500 do
    local entries = redis.call('HMGET', requests, unpack(all, from, math.min(from + 499, #all)))
    for _, entry in ipairs(entries) do
      local lane = entry and string.match(entry, '^%S+ %d+ %d+ (.*)$')
      if lane then in_lane[lane] = (in_lane[lane] or 0) + 1 end
    end
  end
end

-- Whether one more may wait unclaimed in a lane. Where fewer wait in all lanes together, each has room.
local function has_room(lane)
  local most = math.max(share, shares[lane] or 0)
  if not in_lane then
    if redis.call('ZCARD', unclaimed) < most then return true end
    count_lanes()
  end
  return (in_lane[lane] or 0) < most
end

local function let_go(request, lane, owner, is_unheard_of)
  hold(request, false, is_unheard_of)
  if in_lane then in_lane[lane] = (in_lane[lane] or 0) + 1 end
  granted[#granted + 1] = request
  granted[#granted + 1] = owner
end

local function free_turns()
  return most_turns < 0 and math.huge or most_turns - redis.call('ZCARD', turns)
end

-- Give free turns to those who wait. Whoever could go was let go by the call that freed its turn: so of a new request
-- only itself has to be looked at, and the line only after something came free.
local function grant()
  local free, from
  repeat
    local line = redis.call('ZRANGE', waiting, from or 0, (from or 0) + 99)
    if #line == 0 then return end
    free, from = free or free_turns(), from or 0
    local entries = redis.call('HMGET', requests, unpack(line))
    for at, request in ipairs(line) do
      local owner, _, _, lane = parse(entries[at])
      if not owner then
        forget(request)
      elseif free > 0 and has_room(lane) then
        let_go(request, lane, owner)
        free = free - 1
      else
        from = from + 1
      end
    end
  until free <= 0
end

local asked = {}
for at = first, #ARGV, 5 do
  local verb, request, lane = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local urgency, tokens = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local owner, marks, set_aside
  if verb ~= 'reserve' then owner, marks, set_aside = read(request) end
  if verb == 'end' then
    if owner and tokens >= 0 and limits.tokens then
      levels.tokens = math.min(limits.tokens, levels.tokens + set_aside - tokens)
    end
    forget(request)
  elseif verb == 'run' or verb == 'queue' then
    if owner ~= hub or marks > 0 then write(request, hub, 0, set_aside or tokens, lane) end
    hold(request, verb == 'run')
  elseif verb == 'wait' then
    write(request, hub, 0, set_aside or tokens, lane)
    if redis.call('ZSCORE', turns, request) then
      hold(request, false)
      granted[#granted + 1] = request
      granted[#granted + 1] = hub
    else
      queue(request, urgency, at)
      asked[#asked + 1] = request
    end
  elseif limits.requests and levels.requests < 1 then
    verdict, wait_ms = 'requests', ms_until('requests', 1)
  elseif limits.tokens and levels.tokens < math.min(tokens, limits.tokens) then
    verdict, wait_ms = 'tokens', ms_until('tokens', math.min(tokens, limits.tokens))
  else
    if limits.tokens then tokens = math.min(tokens, limits.tokens) end
    if freed then
      grant()
      freed = false
    end
    verdict = 'turn'
    if free_turns() > 0 and has_room(lane) then
      let_go(request, lane, hub, true)
    elseif redis.call('ZCARD', waiting) < most_waiting then
      verdict = 'wait'
      queue(request, urgency, 0)
      asked[#asked + 1] = request
    else
      verdict = 'full'
    end
    if verdict ~= 'full' then
      write(request, hub, 0, tokens, lane)
      if limits.requests then levels.requests = levels.requests - 1 end
      if limits.tokens then levels.tokens = levels.tokens - tokens end
    end
  end
  if verb ~= 'reserve' then freed, in_lane = true, nil end
end
if freed then grant() end

if #asked > 0 then
  if not in_lane then count_lanes() end
  for _, request in ipairs(asked) do
    local rank = redis.call('ZRANK', waiting, request)
    if rank then
      local _, _, _, lane = read(request)
      places[#places + 1] = request
      places[#places + 1] = rank + (in_lane[lane] or 0)
    end
  end
end

local left, kept = {}, {}
local full_ms = 0
for _, what in ipairs({'requests', 'tokens'}) do
  if not limits[what] then
    if stored[what == 'requests' and 1 or 2] then redis.call('HDEL', bucket, what) end
    left[#left + 1] = -1
    left[#left + 1] = 0
  else
    local ms = ms_until(what, limits[what])
    full_ms = math.max(full_ms, ms)
    left[#left + 1] = math.max(0, math.floor(levels[what]))
    left[#left + 1] = ms
    kept[#kept + 1] = what
    kept[#kept + 1] = string.format('%.3f', levels[what])
  end
end
if full_ms > 0 then
  redis.call('HSET', bucket, 'at', whole(now), unpack(kept))
  keep(bucket, full_ms + 1000, 10000)
elseif stored[3] then
  redis.call('DEL', bucket)
end
for index in pairs(touched) do keep(index, ttl, ttl / 2) end
return {granted, orphans, places, verdict, wait_ms, unpack(left)}
