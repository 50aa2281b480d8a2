-- start: a new transaction: meta, first snapshot, ready or due.
--
-- KEYS 1 the transaction (suffix `:snap`), 2 its partition (suffixes `:index`, those of lib/wake)
-- ARGV 1 id  2 state  3 version  4 queue  5 fields  6 body digest  7 connection hooks ('1' or '')  8 keep updates
--      9 retain ms  10 delay ms  11 at this ms, or ''  12 priority  13 parent and the key of its child, or ''
--      14 lineage (the States from the first ancestor on)  15 three digits
-- Answers: started | existed, status, result or nil, error type or nil, error message or nil (the same start was done before)
--          | taken (the id is another start's)
--
-- include: clock, wake
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local before = redis.call('HMGET', tx, 'digest', 'status', 'result', 'error_type', 'error_message')
if before[1] == ARGV[6] then
  return { 'existed', before[2], before[3], before[4], before[5] } -- branch: existed
elseif before[1] then
  return { 'taken' } -- branch: taken
end

local epoch = next_epoch(nil, ARGV[15])
redis.call('XADD', tx .. ':snap', '0-' .. epoch, 'v', ARGV[3], 'f', ARGV[5], 'h', '0')
local m = { state = ARGV[2], version = ARGV[3], queue = ARGV[4], priority = ARGV[12] }
redis.call('HSET', tx, 'state', m.state, 'version', m.version, 'queue', m.queue, 'priority', m.priority,
  'status', 'pending', 'epoch', epoch, 'writer', epoch, 'owner', '', 'number', '0', 'head', '0', 'snapped', '0',
  'digest', ARGV[6], 'hooks', ARGV[7], 'keep', ARGV[8], 'retain', ARGV[9], 'created', int(now), 'lineage', ARGV[14],
  'attempts', '0', 'crashes', '0', 'passes', '0', 'returned', '0', 'received', '0')
if ARGV[13] ~= '' then
  redis.call('HSET', tx, 'parent', ARGV[13]) -- branch: child
end
redis.call('ZADD', part .. ':index', int(now), id)
local at = ARGV[11] ~= '' and tonumber(ARGV[11]) or now + tonumber(ARGV[10])
if at <= now then
  make_ready(part, id, m) -- branch: ready
else
  due_at(part, 't:' .. id, at) -- branch: delayed
end
return { 'started' }
