-- acknowledge: what of an outbox has been delivered. What stays in it is looked at again much later.
--
-- KEYS 1 the transaction (suffix `:outbox`), 2 its partition (suffixes of lib/wake)
-- ARGV 1 id  2 the number at which the outbox was read  3 how much later, ms  4.. fields that go
-- Answers: how many fields are left
--
-- include: clock, wake
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local number = redis.call('HGET', tx, 'number')
if number ~= ARGV[2] then
  return -1 -- branch: changed since
end
for i = 4, #ARGV do
  redis.call('HDEL', tx .. ':outbox', ARGV[i]) -- branch: delivered
end
local left = redis.call('HLEN', tx .. ':outbox')
if left == 0 then
  redis.call('ZREM', part .. ':due', 'o:' .. id) -- branch: all
else
  due_at(part, 'o:' .. id, now + tonumber(ARGV[3])) -- branch: some stay
end
return left
