-- remove: an ended transaction past its retention, whole.
--
-- KEYS 1 the transaction (suffixes below), 2 its partition (suffixes `:due`, `:index`, `:recent`)
-- ARGV 1 id
-- Answers: 1 removed | 0 not there, not over, or not yet
--
-- include: clock
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local m = redis.call('HMGET', tx, 'ended', 'retain')
if not m[1] then
  return 0 -- branch: not over
end
if tonumber(m[1]) + tonumber(m[2]) > now then
  return 0 -- branch: not yet
end
for _, suffix in ipairs({ 'log', 'snap', 'names', 'inbox', 'sess', 'changes', 'outbox', 'conn', 'seen', 'keys', 'view' }) do
  redis.call('UNLINK', tx .. ':' .. suffix)
end
redis.call('UNLINK', tx)
redis.call('ZREM', part .. ':due', 'r:' .. id)
redis.call('ZREM', part .. ':index', id)
redis.call('ZREM', part .. ':recent', id)
return 1 -- branch: removed
