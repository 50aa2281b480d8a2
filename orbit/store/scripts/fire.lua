-- fire: a schedule has fired, and when it does so next.
--
-- KEYS 1 the schedule's partition (suffixes `:schedules`, `:fires`, those of lib/wake)
-- ARGV 1 name  2 record  3 when it was to fire, ms  4 when it fires next, ms, or '': never again
-- Answers: 1 noted | 0 it was noted before, or is another one by now
--
-- include: clock, wake
local part, name = KEYS[1], ARGV[1]
if redis.call('HGET', part .. ':schedules', name) ~= ARGV[2] or redis.call('HGET', part .. ':fires', name) ~= ARGV[3] then
  return 0 -- branch: another one
end
if ARGV[4] == '' then
  redis.call('HDEL', part .. ':schedules', name) -- branch: never again
  redis.call('HDEL', part .. ':fires', name)
  redis.call('ZREM', part .. ':due', 's:' .. name)
else
  redis.call('HSET', part .. ':fires', name, ARGV[4]) -- branch: next
  due_at(part, 's:' .. name, tonumber(ARGV[4]))
end
return 1
