-- start: a new transaction: meta, first snapshot, ready or due.
--
-- KEYS 1 the transaction (suffix `:snap`), 2 its partition (suffixes `:index`, those of lib/wake)
-- ARGV 1 id  2 state  3 version  4 queue  5 fields  6 body digest  7 connection hooks ('1' or '')  8 keep updates
--      9 retain ms  10 delay ms  11 priority  12 three digits
-- Answers: started | existed (the same start was done before) | taken (the id is another start's)
--
-- include: clock, wake
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local digest = redis.call('HGET', tx, 'digest')
if digest == ARGV[6] then
  return { 'existed' } -- branch: existed
elseif digest then
  return { 'taken' } -- branch: taken
end

local epoch = next_epoch(nil, ARGV[12])
redis.call('XADD', tx .. ':snap', '0-' .. epoch, 'v', ARGV[3], 'f', ARGV[5], 'h', '0')
local m = { state = ARGV[2], version = ARGV[3], queue = ARGV[4], priority = ARGV[11] }
redis.call('HSET', tx, 'state', m.state, 'version', m.version, 'queue', m.queue, 'priority', m.priority,
  'status', 'pending', 'epoch', epoch, 'writer', epoch, 'owner', '', 'number', '0', 'head', '0', 'snapped', '0',
  'digest', ARGV[6], 'hooks', ARGV[7], 'keep', ARGV[8], 'retain', ARGV[9], 'created', int(now),
  'attempts', '0', 'crashes', '0', 'passes', '0', 'returned', '0', 'received', '0')
redis.call('ZADD', part .. ':index', int(now), id)
if ARGV[10] == '0' then
  make_ready(part, id, m) -- branch: ready
else
  due_at(part, 't:' .. id, now + tonumber(ARGV[10])) -- branch: delayed
end
return { 'started' }
