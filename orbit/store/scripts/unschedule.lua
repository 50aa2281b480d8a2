-- unschedule: takes a schedule away.
--
-- KEYS 1 the schedule's partition (suffixes `:schedules`, `:fires`, `:due`)
-- ARGV 1 name
-- Answers: 1 taken away | 0 there is none
local part, name = KEYS[1], ARGV[1]
if redis.call('HDEL', part .. ':schedules', name) == 0 then
  return 0 -- branch: none
end
redis.call('HDEL', part .. ':fires', name)
redis.call('ZREM', part .. ':due', 's:' .. name)
return 1 -- branch: taken away
