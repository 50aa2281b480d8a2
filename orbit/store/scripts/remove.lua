-- remove: an ended transaction past its retention, whole.
--
-- KEYS 1 the transaction (suffixes below), 2 its partition (suffixes `:due`, `:index`, `:recent`)
-- ARGV 1 id  2 '1': a child's parent has taken its end
-- Answers: 1 removed | 0 not there, not over, or not yet | 2 its parent is to be asked first
--
-- include: clock
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local m = redis.call('HMGET', tx, 'ended', 'retain', 'parent')
if not m[1] then
  return 0 -- branch: not over
end
if tonumber(m[1]) + tonumber(m[2]) > now then
  return 0 -- branch: not yet
end
if m[3] and ARGV[2] ~= '1' then
  return 2 -- branch: ask its parent
end
for _, suffix in ipairs({ 'log', 'snap', 'names', 'inbox', 'sess', 'changes', 'outbox', 'conn', 'seen', 'keys', 'view', 'timers' }) do
  redis.call('UNLINK', tx .. ':' .. suffix)
end
redis.call('UNLINK', tx)
redis.call('ZREM', part .. ':due', 'r:' .. id, 'o:' .. id)
redis.call('ZREM', part .. ':index', id)
redis.call('ZREM', part .. ':recent', id)
return 1 -- branch: removed
