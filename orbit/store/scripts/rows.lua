-- rows: the sessions that are connected. Reads only.
--
-- KEYS 1 the transaction (suffixes of lib/sessions)
-- ARGV 1 at most so many
-- Answers: how many there are; then public name, subject or nil, last mid or nil, place or nil of each
--
-- include: clock, wake, timers, sessions
local answer = { redis.call('ZCARD', KEYS[1] .. ':conn') }
for _, public in ipairs(redis.call('ZRANGE', KEYS[1] .. ':conn', 0, tonumber(ARGV[1]) - 1)) do
  answer[#answer + 1] = { public, row(KEYS[1], public, 'u', 'm', 'p') } -- branch: row
end
return answer
