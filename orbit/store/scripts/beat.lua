-- beat: a process is alive for some more time.
--
-- KEYS 1 the register (workers or edges)
-- ARGV 1 its id  2 for so many ms  3 what it says of itself
-- Answers: 1 it was known and alive | 0 it is new, or was late: others may have taken it for dead
--
-- include: clock
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], int(now + tonumber(ARGV[2])) .. ' ' .. ARGV[3])
if before and tonumber(string.match(before, '^%d+')) > now then
  return 1 -- branch: alive
end
return 0 -- branch: new or late
