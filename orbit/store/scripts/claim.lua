-- claim: hands the most urgent ready transactions to a worker: a lease and a new epoch each.
--
-- KEYS 1 the partition (suffixes `:claims:<worker>:<request>` and those of lib/wake), 2 the prefix of its transactions (suffix `:<id>`,
--        then those of lib/loading)
-- ARGV 1 worker  2 request  3 lease ms  4 at most so many  5 three digits  6 load what takes so many bytes at most
--      7.. queue, state, version of each thing that it can run
-- Answers: a list of id, epoch, number, queue, state, version, '1' where the lease before ran out, else '', how many
--          crashes there were without progress since, what lib/loading says of it or nil, '1' where something waits for it
--
-- include: clock, wake, timers, loading
local part, worker, lease, room = KEYS[1], ARGV[1], now + tonumber(ARGV[3]), tonumber(ARGV[4])
local request = part .. ':claims:' .. worker .. ':' .. ARGV[2]

local function whole(grant, tx)
  due_at(part, 'l:' .. grant[1], lease)
  grant[9], grant[10] = loaded(tx, tonumber(ARGV[6])), waits(tx) and '1' or ''
  return grant
end

local before = redis.call('GET', request)
if before then
  local grants = {} -- branch: repeated
  for line in string.gmatch(before, '[^\n]+') do
    local grant = {}
    for word in string.gmatch(line .. ' ', '([^ ]*) ') do
      grant[#grant + 1] = word
    end
    local tx = KEYS[2] .. ':' .. grant[1]
    local m = read_meta(tx, 'epoch')
    if m and m.epoch == grant[2] and m.status == 'running' then
      redis.call('HSET', tx, 'lease', int(lease)) -- branch: repeated and still held
      grants[#grants + 1] = whole(grant, tx)
    end
  end
  return grants
end

-- One from each set in turn, so that a crowded one doesn't starve the others; which begins changes with the digits.
local sets, wanted = {}, (#ARGV - 6) / 3
for i = 0, wanted - 1 do
  local at = 7 + 3 * ((i + tonumber(ARGV[5])) % wanted)
  sets[i + 1] = redis.call('ZRANGE', ready_key(part, ARGV[at], ARGV[at + 1], ARGV[at + 2]), 0, room - 1)
end
local candidates = {}
for rank = 1, room do
  for _, set in ipairs(sets) do
    candidates[#candidates + 1] = set[rank]
  end
end

local grants, lines, stale = {}, {}, {}
for _, id in ipairs(candidates) do
  if #grants == room then
    break
  end
  local tx = KEYS[2] .. ':' .. id
  local m = read_meta(tx, 'epoch', 'number', 'lease', 'crashes', 'started')
  if not m or ENDED[m.status] or (m.lease and tonumber(m.lease) > now) then
    stale[#stale + 1] = id -- branch: stale
  else
    local epoch, crashed, crashes = next_epoch(m.epoch, ARGV[5]), m.lease and '1' or '', m.crashes
    if crashed == '1' then
      crashes = int(tonumber(m.crashes) + 1) -- branch: crashed
    end
    redis.call('HSET', tx, 'status', 'running', 'epoch', epoch, 'owner', worker, 'lease', int(lease), 'crashes', crashes,
      'started', m.started or int(now))
    redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id)
    local grant = { id, epoch, m.number, m.queue, m.state, m.version, crashed, crashes }
    lines[#lines + 1] = table.concat(grant, ' ') -- branch: granted
    grants[#grants + 1] = whole(grant, tx)
  end
end
for _, id in ipairs(stale) do
  for i = 7, #ARGV, 3 do
    redis.call('ZREM', ready_key(part, ARGV[i], ARGV[i + 1], ARGV[i + 2]), id)
  end
end
if #grants == 0 then
  return grants -- branch: nothing
end
redis.call('SET', request, table.concat(lines, '\n'), 'PX', ARGV[3])
return grants
