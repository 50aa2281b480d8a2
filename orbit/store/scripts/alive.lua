-- alive: all that beat, and when each is taken for dead. Reads only.
--
-- KEYS 1 the register (workers or edges)
-- Answers: now in ms; then id and `<ms> <what it says>` of each, flat
--
-- include: clock
local answer = redis.call('HGETALL', KEYS[1])
table.insert(answer, 1, int(now))
return answer -- branch: all
