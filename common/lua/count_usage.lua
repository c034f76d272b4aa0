-- Add to what a client key used on one day, unless this was added before.
-- KEYS: 1 the day's usage
-- ARGV: 1 hub, 2 number of this addition, rising with each of this hub, then field, amount, field, amount …
-- Returns 1 if it was added, 0 if it was there already.
-- Atomic because an addition whose answer was lost is sent again: the mark `~<hub>` in the same hash tells whether it
-- was counted, and both are written or neither is.
local mark = '~' .. ARGV[1]
if tonumber(redis.call('HGET', KEYS[1], mark) or 0) >= tonumber(ARGV[2]) then return 0 end
for at = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('HSET', KEYS[1], mark, ARGV[2])
return 1
