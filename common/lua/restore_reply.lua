-- Give back what was lost of a reply.
-- KEYS: 1 reply
-- ARGV: 1 id of the entry that opens it, 2 its TTL (ms), then of each entry: its id, how many words follow, its
--       fields, name and value by turns
-- Returns 1 if it was not there at all.
-- Atomic because a provider appends only to a reply that is there: it must not find one that lacks what came before.
-- An entry as old as the newest one, or older, is refused by XADD: it is there, or was overtaken.
local was_lost = redis.call('EXISTS', KEYS[1]) == 0
if was_lost then redis.call('XADD', KEYS[1], ARGV[1], 'open', '1') end
local at = 3
while ARGV[at] do
  local words = tonumber(ARGV[at + 1])
  if words > 0 then redis.pcall('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, at + 1 + words)) end
  at = at + 2 + words
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return was_lost and 1 or 0
