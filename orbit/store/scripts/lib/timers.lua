-- The times at which a transaction wakes by itself. Needs clock, wake.
-- `:timers` holds when, by member: `t/<generation>/<name>` is one of `set_timer`, which `fire` enters into the inbox (it
-- stays here then, at NEVER, until it is handled or cancelled); any other only wakes, and goes when it is over.
-- `first_timer`: the next time, or nil. `wake_by`: the wake time is at most that.
-- Suffixes of the transaction's key: `:timers`, `:inbox`; of the partition's: those of lib/wake.
local NEVER = 9e15
local FIRED_AT_ONCE = 100

local function first_timer(tx)
  local at = redis.call('ZRANGE', tx .. ':timers', 0, 0, 'WITHSCORES')[2]
  return at and tonumber(at) < NEVER and tonumber(at) or nil
end

local function wake_by(part, id, at)
  local set = redis.call('ZSCORE', part .. ':due', 't:' .. id)
  if not set or tonumber(set) > at then
    due_at(part, 't:' .. id, at) -- branch: wakes by then
  end
end

local function fire(tx, received, digits)
  local n = tonumber(received)
  local members = redis.call('ZRANGEBYSCORE', tx .. ':timers', '-inf', int(now), 'LIMIT', 0, FIRED_AT_ONCE)
  for _, member in ipairs(members) do
    if string.sub(member, 1, 2) == 't/' then
      n = n + 1 -- branch: into the inbox
      redis.call('XADD', tx .. ':inbox', int(n) .. '-' .. digits, 'k', 't', 'f', member)
      redis.call('HSET', tx, 'received', int(n))
      redis.call('ZADD', tx .. ':timers', int(NEVER), member)
    else
      redis.call('ZREM', tx .. ':timers', member) -- branch: only wakes
    end
  end
end
