-- deliver: the end of a child, into its parent's inbox. Again, it changes nothing.
--
-- KEYS 1 the parent (suffixes `:inbox`, `:outbox`), 2 its partition (suffixes of lib/wake)
-- ARGV 1 id  2 child  3 the child's key with the parent  4 how it ended  5 eighteen digits
-- Answers: gone (no parent, or one that is over for good) | over (it failed: it may be retried) | taken | delivered
--
-- include: clock, wake
local tx, part, id, child, digits = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[5]
local m = read_meta(tx, 'received')
if not m then
  return 'gone' -- branch: missing
end
if m.status == 'failed' then
  return 'over' -- branch: failed
end
if ENDED[m.status] then
  return 'gone' -- branch: over
end
local field = 's/' .. child .. '/' .. ARGV[3]
if redis.call('HEXISTS', tx .. ':outbox', field) == 0 then
  return 'taken' -- branch: taken
end
local entry = redis.call('HGET', tx .. ':outbox', 'i/' .. child)
if entry and redis.call('XRANGE', tx .. ':inbox', entry, entry)[1] then
  return 'delivered' -- branch: delivered before
end
local n = int(tonumber(m.received) + 1)
redis.call('XADD', tx .. ':inbox', n .. '-' .. digits, 'k', 'c', 'f', field, 'd', ARGV[4])
redis.call('HSET', tx, 'received', n)
redis.call('HSET', tx .. ':outbox', 'i/' .. child, n .. '-' .. digits)
rouse(tx, part, id, m, 'child')
return 'delivered' -- branch: delivered
