-- load: all that a worker needs to go on, under its grant. Reads only.
--
-- KEYS 1 the transaction (suffixes `:snap`, `:view`, `:names`, `:timers`, `:outbox`)
-- ARGV 1 epoch
-- Answers: vanished | fenced | loaded, meta values, newest snapshot [id, fields], view's head or nil, names as a flat list,
--          timers (member, ms from now; -1 where it stands in the inbox), fields of the outbox, ms since the first claim
--
-- include: clock, wake, timers
local tx = KEYS[1]
local m = read_meta(tx, 'epoch', 'started')
if not m then
  return { 'vanished' } -- branch: vanished
end
if m.epoch ~= ARGV[1] or m.status ~= 'running' then
  return { 'fenced' } -- branch: fenced
end
local values = redis.call('HMGET', tx, 'number', 'head', 'returned', 'passes', 'attempts', 'crashes', 'cancel', 'keep', 'note', 'parent', 'lineage', 'priority')
local snapshot = redis.call('XREVRANGE', tx .. ':snap', '+', '-', 'COUNT', 1)[1]
local timers = redis.call('ZRANGE', tx .. ':timers', 0, -1, 'WITHSCORES')
for i = 2, #timers, 2 do
  local at = tonumber(timers[i])
  timers[i] = at >= NEVER and -1 or int(math.max(0, at - now))
end
return { -- branch: loaded
  'loaded', values, snapshot, redis.call('HGET', tx .. ':view', 'head'), redis.call('HGETALL', tx .. ':names'),
  timers, redis.call('HKEYS', tx .. ':outbox'), int(now - tonumber(m.started)),
}
