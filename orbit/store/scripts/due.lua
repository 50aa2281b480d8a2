-- due: makes ready what has an expired lease (the lease stays in meta: claim counts the crash) and what is to wake.
--
-- KEYS 1 the partition (suffixes `:recent` and those of lib/wake), 2 the prefix of its transactions (suffix `:<id>`)
-- ARGV 1 at most so many  2 how long a commit is kept in the recent set, ms
-- Answers: ms until the next is due, or -1; how many were looked at; then the ids that are past their retention
--
-- include: clock, wake
local part, due = KEYS[1], KEYS[1] .. ':due'
local members = redis.call('ZRANGEBYSCORE', due, '-inf', int(now), 'LIMIT', 0, tonumber(ARGV[1]))
local removable = {}

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
  if m and m.status == 'pending' then
    make_ready(part, id, m) -- branch: delay over
  elseif m and not ENDED[m.status] then
    rouse(tx, part, id, m, 'change') -- branch: woken
  end
  redis.call('ZREM', due, member)
end

for _, member in ipairs(members) do
  local id = string.sub(member, 3)
  local tx = KEYS[2] .. ':' .. id
  local m = read_meta(tx, 'owner', 'lease', 'queue', 'state', 'version', 'priority')
  local kind = string.sub(member, 1, 1)
  if kind == 'l' then
    expired(member, id, tx, m)
  elseif kind == 't' then
    wakes(member, id, tx, m)
  elseif not m then
    redis.call('ZREM', due, member) -- branch: removed already
  else
    redis.call('ZADD', due, int(now + 60000), member) -- branch: removable
    removable[#removable + 1] = id
  end
end
redis.call('ZREMRANGEBYSCORE', part .. ':recent', '-inf', int(now - tonumber(ARGV[2])))
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
return { first and int(math.max(0, tonumber(first) - now)) or '-1', #members, unpack(removable) }
