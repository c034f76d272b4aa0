-- Let an Idempotency-Key stand for its request for so long from now; 0: no longer.
-- KEYS: 1 the key's record
-- ARGV: 1 request, 2 sha256 of what it asks for, 3 TTL (ms)
-- Returns 1 if it stands for this request.
-- Atomic because the key may have come to stand for another request meanwhile, which this must not touch. A record that
-- the broker has lost is made again.
local request = redis.call('HGET', KEYS[1], 'request')
if not request and tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[1], 'request', ARGV[1], 'body', ARGV[2])
elseif request ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
