-- unpermit: gives a permit back, or waits for one no more.
--
-- KEYS 1 the limit's partition (suffixes of lib/limits)
-- ARGV 1 limit  2 transaction
-- Answers: the ids of others that got one
--
-- include: clock, wake, limits
local part, name, id = KEYS[1], ARGV[1], ARGV[2]
redis.call('ZREM', part .. ':held:' .. name, id)
redis.call('ZREM', part .. ':waiting:' .. name, id)
return admit(part, name) -- branch: given back
