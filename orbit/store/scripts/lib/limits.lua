-- Limits for the whole fleet, each in the partition of its name. Needs clock, wake.
-- `:limit:<name>` holds most (0: any number), gap (ms between two that begin, 0: none), lease (ms), next (when the next may
-- begin); `:waiting:<name>` who waits, the most urgent first; `:held:<name>` who has a permit, and until when.
-- `admit`: gives permits to those who waited longest, as far as there is room; returns their ids. `keep`: what nobody asks
-- for any more goes by itself.
-- Suffixes of the partition's key: those, and those of lib/wake.
local BURST_MS = 100

local function keep(limit, held, lease)
  redis.call('PEXPIRE', limit, int(2 * lease))
  redis.call('PEXPIRE', held, int(2 * lease))
end

local function admit(part, name)
  local limit, waiting, held = part .. ':limit:' .. name, part .. ':waiting:' .. name, part .. ':held:' .. name
  redis.call('ZREMRANGEBYSCORE', held, '-inf', int(now))
  local set = redis.call('HMGET', limit, 'most', 'gap', 'lease', 'next')
  local most, gap, lease, next_at = tonumber(set[1] or 0), tonumber(set[2] or 0), tonumber(set[3] or 0), tonumber(set[4] or 0)
  local admitted, left = {}, redis.call('ZCARD', waiting)
  local room = most == 0 and left or math.min(left, most - redis.call('ZCARD', held))
  while room > 0 and (gap == 0 or next_at <= now) do
    local first = redis.call('ZRANGE', waiting, 0, 0)[1] -- branch: admitted
    redis.call('ZREM', waiting, first)
    redis.call('ZADD', held, int(now + lease), first)
    admitted[#admitted + 1] = first
    next_at = math.max(next_at, now - BURST_MS) + gap
    room, left = room - 1, left - 1
  end
  local member, expiry = 'p:' .. name, redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
  if gap > 0 then
    redis.call('HSET', limit, 'next', string.format('%.3f', next_at)) -- branch: by its rate
  end
  if left == 0 then
    redis.call('ZREM', part .. ':due', member) -- branch: nobody waits
    keep(limit, held, math.max(lease, gap))
  else
    local full = most > 0 and redis.call('ZCARD', held) >= most
    due_at(part, member, full and tonumber(expiry) or next_at) -- branch: some wait
    redis.call('PERSIST', limit)
    redis.call('PERSIST', held)
  end
  return admitted
end
