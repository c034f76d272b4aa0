-- Look at jobs of a lane without their bodies, which may be long.
-- KEYS: 1 lane
-- ARGV: 1 first entry, 2 last entry, both as XRANGE takes them, 3 most
-- Returns of each job: entry, request, attempt, reply, deadline, model; what a job lacks is empty.
-- A script because XRANGE cannot leave fields out. One entry at a time, so that only one body is held at once.
local found, from = {}, ARGV[1]
for _ = 1, tonumber(ARGV[3]) do
  local read = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 1)
  if #read == 0 then break end
  local entry, fields, job = read[1][1], read[1][2], {}
  for at = 1, #fields, 2 do job[fields[at]] = fields[at + 1] end
  local said = {entry}
  for _, name in ipairs({'id', 'attempt', 'reply', 'deadline', 'model'}) do said[#said + 1] = job[name] or '' end
  found[#found + 1] = said
  from = '(' .. entry
end
return found
