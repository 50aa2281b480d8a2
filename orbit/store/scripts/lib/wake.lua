-- What makes workers look. Needs clock.
-- `due_at`: enters a member into the partition's due set and says so where that is earlier than all others.
-- `make_ready`: into the ready set of its queue, State and version; announced once.
-- `rouse`: something waits: tells the owner of a running one, makes an idle one ready, leaves a pending one.
-- Suffixes of the partition's key: `:due`, `:ready:<queue>:<state>:<version>`, `:wake`, `:w:<owner>`.
local ENDED = { finished = true, failed = true, cancelled = true }

local function due_at(part, member, at)
  local first = redis.call('ZRANGE', part .. ':due', 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', part .. ':due', int(at), member)
  if not first or at < tonumber(first) then
    redis.call('SPUBLISH', part .. ':wake', 'due ' .. int(math.max(0, at - now))) -- branch: earliest
  end
end

local function ready_key(part, queue, state, version)
  return part .. ':ready:' .. queue .. ':' .. state .. ':' .. version
end

-- The lower the score, the more urgent: 10^13 ms are three centuries, so a priority beats any age.
local function make_ready(part, id, m)
  local score = int(now - tonumber(m.priority) * 1e13)
  if redis.call('ZADD', ready_key(part, m.queue, m.state, m.version), 'NX', score, id) == 1 then
    redis.call('SPUBLISH', part .. ':wake', 'ready ' .. m.queue .. ' ' .. m.state .. ' ' .. m.version) -- branch: announced
  end
end

local function rouse(tx, part, id, m, why)
  if m.status == 'running' then
    redis.call('SPUBLISH', part .. ':w:' .. m.owner, why .. ' ' .. id) -- branch: owner told
  elseif m.status == 'idle' then
    make_ready(part, id, m) -- branch: made ready
    redis.call('HSET', tx, 'status', 'pending')
  end
end

-- The named fields of the meta hash as a table (absent ones are false), or nil where there is no transaction.
local function read_meta(tx, ...)
  local names = { 'status', ... }
  local values = redis.call('HMGET', tx, unpack(names))
  if not values[1] then
    return nil
  end
  local m = {}
  for i, name in ipairs(names) do
    m[name] = values[i]
  end
  return m
end
