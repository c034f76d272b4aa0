-- Have an Idempotency-Key stand for a request, unless it stands for another one.
-- KEYS: 1 the key's record
-- ARGV: 1 request, 2 sha256 of what it asks for, 3 now (Unix ms), 4 TTL (ms),
--       5 the request that is given up and may be replaced, or empty
-- Returns {request, sha256} that the key stands for now.
-- Atomic because two hubs that look before they write would both ask an engine.
local request, body = unpack(redis.call('HMGET', KEYS[1], 'request', 'body'))
if request and body and request ~= ARGV[5] then return {request, body} end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'request', ARGV[1], 'body', ARGV[2], 'created_at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], ARGV[2]}
