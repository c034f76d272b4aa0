-- Take up to COUNT waiting jobs, looking through the lanes in the order given.
-- KEYS: lanes, most urgent first
-- ARGV: 1 group, 2 consumer, 3 count
-- Returns a flat list: lane, entries, lane, entries …; empty when nothing waits. The error of a lane that cannot be
-- read (NOGROUP) is returned only if nothing was taken: what was taken before it is claimed, and would be lost with it.
-- Atomic because XREADGROUP's COUNT is per stream: over many lanes at once it would take more than there are slots.
local left = tonumber(ARGV[3])
local found, failed = {}, nil
for _, lane in ipairs(KEYS) do
  if left <= 0 then break end
  local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', lane, '>')
  if read and read.err then
    failed = read
  elseif read then
    local entries = read[1][2]
    found[#found + 1] = lane
    found[#found + 1] = entries
    left = left - #entries
  end
end
if failed and #found == 0 then return failed end
return found
