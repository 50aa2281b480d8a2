-- What makes workers look. Needs clock.
-- `due_at`: enters a member into the partition's due set and says so where that is earlier than all others.
-- `make_ready`: into the ready set of its queue, State and version; announced, once in each script for each of these sets.
-- `rouse`: something waits: tells the owner of a running one, makes ready what is idle or waits for a limit, leaves what
-- is ready or delayed. `m` holds the fields that ROUSED names.
-- Suffixes of the partition's key: `:due`, `:ready:<queue>:<state>:<version>`, `:wake`, `:w:<owner>`.
--
-- Members of the due set, `<kind>:<id>`: l a lease's end, t a wake time, r the end of a retention, o an outbox to deliver;
-- s a schedule and p a limit, by their names.
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
local told_ready = {}
local function make_ready(part, id, m)
  local key, score = ready_key(part, m.queue, m.state, m.version), int(now - tonumber(m.priority) * 1e13)
  if redis.call('ZADD', key, 'NX', score, id) == 1 and not told_ready[key] then
    told_ready[key] = true
    redis.call('SPUBLISH', part .. ':wake', 'ready ' .. m.queue .. ' ' .. m.state .. ' ' .. m.version) -- branch: announced
  end
end

local function rouse(tx, part, id, m, why)
  if m.status == 'running' then
    redis.call('SPUBLISH', part .. ':w:' .. m.owner, why .. ' ' .. id) -- branch: owner told
  elseif m.status == 'idle' then
    make_ready(part, id, m) -- branch: made ready
    redis.call('HSET', tx, 'status', 'pending')
  elseif m.waits and not ENDED[m.status] then
    make_ready(part, id, m) -- branch: no longer waits
    redis.call('HDEL', tx, 'waits')
  end
end

-- The named fields of the meta hash as a table (absent ones are false), and those that `rouse` needs; nil where there is
-- no transaction.
local ROUSED = { 'status', 'owner', 'queue', 'state', 'version', 'priority', 'waits' }
local function read_meta(tx, ...)
  local names = { unpack(ROUSED) }
  for _, name in ipairs({ ... }) do
    names[#names + 1] = name
  end
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
