-- forget: takes a process out of its register.
--
-- KEYS 1 the register (workers or edges)
-- ARGV 1 its id  2 '1': only if it stopped beating
-- Answers: 1 taken out | 0 not there, or alive
--
-- include: clock
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record or (ARGV[2] == '1' and tonumber(string.match(record, '^%d+')) > now) then
  return 0 -- branch: kept
end
return redis.call('HDEL', KEYS[1], ARGV[1]) -- branch: forgotten
