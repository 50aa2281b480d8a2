-- The server's clock and what is made from it.
-- `now`: milliseconds since 1970. `int`: a number as decimal text (tostring loses digits past the 14th).
-- `next_epoch`: an epoch that this transaction never had: 16 digits of microseconds, at least the last one's plus one,
-- then three digits from the caller, so that two servers after a failover don't draw the same.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function int(number)
  return string.format('%.0f', number)
end

local function next_epoch(last, digits)
  local us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  if last then
    us = math.max(us, tonumber(string.sub(last, 1, 16)) + 1)
  end
  return int(us) .. digits
end
