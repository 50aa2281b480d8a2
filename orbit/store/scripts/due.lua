-- due: makes ready what has an expired lease (the lease stays in meta: claim counts the crash) and what is to wake, fires
-- timers, gives permits that have become free, and says what is left to be done elsewhere. All who keep the partition's time
-- hear when it is needed next.
--
-- KEYS 1 the partition (suffixes `:recent`, `:fires`, those of lib/wake and lib/limits), 2 the prefix of its transactions
--        (suffix `:<id>`, then those of lib/timers and lib/outbox)
-- ARGV 1 at most so many  2 how long a commit is kept in the recent set, ms  3 eighteen digits
-- Answers: now in ms; ms until the next is due, or -1; how many were looked at; ids past their retention; ids with something
--          in their outbox; schedules that fire, each with the ms that it was to; limits, each with an
--          id that got a permit of it
--
-- include: clock, wake, timers, outbox, limits
local part, due = KEYS[1], KEYS[1] .. ':due'
local AGAIN_MS = { r = 60000, o = 15000, s = 15000 }
local members = redis.call('ZRANGEBYSCORE', due, '-inf', int(now), 'LIMIT', 0, tonumber(ARGV[1]))
local removable, undelivered, fires, admitted = {}, {}, {}, {}

local function expired(member, id, tx, m)
  if not m or m.status ~= 'running' then
    redis.call('ZREM', due, member) -- branch: lease of none
  elseif tonumber(m.lease) > now then
    redis.call('ZADD', due, m.lease, member) -- branch: lease extended
  else
    make_ready(part, id, m) -- branch: lease expired
    redis.call('ZREM', due, member)
  end
end

local function wakes(member, id, tx, m)
  redis.call('ZREM', due, member)
  if not m or ENDED[m.status] then
    return -- branch: nothing to wake
  end
  fire(tx, m.received, ARGV[3])
  local timer = first_timer(tx)
  if timer then
    due_at(part, member, math.max(timer, now)) -- branch: wakes again
  end
  if m.status == 'pending' and not m.waits then
    make_ready(part, id, m) -- branch: delay over
  else
    rouse(tx, part, id, m, 'timer') -- branch: woken
  end
end

-- Whoever is told does it; should that get lost, the next is told a little later.
local function tell(member, kind, into, what)
  redis.call('ZADD', due, int(now + AGAIN_MS[kind]), member)
  into[#into + 1] = what
end

local function of_a_transaction(member, kind, id)
  local tx = KEYS[2] .. ':' .. id
  local m = read_meta(tx, 'lease', 'received')
  if kind == 'l' then
    expired(member, id, tx, m)
  elseif kind == 't' then
    wakes(member, id, tx, m)
  elseif not m then
    redis.call('ZREM', due, member) -- branch: removed already
  elseif kind == 'r' then
    tell(member, kind, removable, id) -- branch: removable
  elseif redis.call('EXISTS', tx .. ':outbox') == 1 then
    tell(member, kind, undelivered, id) -- branch: undelivered
  else
    redis.call('ZREM', due, member) -- branch: delivered already
  end
end

for _, member in ipairs(members) do
  local kind, name = string.sub(member, 1, 1), string.sub(member, 3)
  if kind == 'p' then
    redis.call('ZREM', due, member)
    for _, id in ipairs(admit(part, name)) do
      admitted[#admitted + 1] = { name, id } -- branch: permit
    end
  elseif kind == 's' then
    local at = redis.call('HGET', part .. ':fires', name)
    if at then
      tell(member, kind, fires, { name, at }) -- branch: fires
    else
      redis.call('ZREM', due, member) -- branch: no schedule any more
    end
  else
    of_a_transaction(member, kind, name)
  end
end
redis.call('ZREMRANGEBYSCORE', part .. ':recent', '-inf', int(now - tonumber(ARGV[2])))
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local next_ms = first and int(math.max(0, tonumber(first) - now))
if next_ms then
  redis.call('SPUBLISH', part .. ':wake', 'due ' .. next_ms) -- branch: next told
end
return {
  int(now), next_ms or '-1', #members, removable, undelivered, fires, admitted,
}
