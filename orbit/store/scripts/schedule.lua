-- schedule: a schedule, new or another one under the same name. The same again changes nothing.
--
-- KEYS 1 the schedule's partition (suffixes `:schedules`, `:fires`, those of lib/wake)
-- ARGV 1 name  2 record  3 when it fires first, ms
-- Answers: 1 recorded | 0 it was there
--
-- include: clock, wake
local part, name = KEYS[1], ARGV[1]
if redis.call('HGET', part .. ':schedules', name) == ARGV[2] then
  return 0 -- branch: the same
end
redis.call('HSET', part .. ':schedules', name, ARGV[2])
redis.call('HSET', part .. ':fires', name, ARGV[3])
due_at(part, 's:' .. name, tonumber(ARGV[3]))
return 1 -- branch: recorded
