-- publish: a State as a worker runs it, unless a newer version is known.
--
-- KEYS 1 the States
-- ARGV 1 name  2 version  3 record
-- Answers: 1 recorded | 0 a newer one is known
local known = redis.call('HGET', KEYS[1], ARGV[1] .. ':version')
if known and tonumber(known) > tonumber(ARGV[2]) then
  return 0 -- branch: newer known
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[1] .. ':version', ARGV[2])
return 1 -- branch: recorded
