-- detach: frees a session's place, if it is still the caller's.
--
-- KEYS 1 the transaction, 2 its partition (suffixes of lib/wake and lib/sessions)
-- ARGV 1 id  2 public name  3 place  4 grace ms  5 how long a detached session is remembered, ms
-- Answers: 1 freed | 0 another's, or none
--
-- include: clock, wake, timers, sessions
local tx, part, id, public, place = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
if row(tx, public, 'p') ~= place then
  return 0 -- branch: not the place
end
local m = read_meta(tx, 'hooks')
free(tx, part, id, public, place, m, tonumber(ARGV[4]))
expire_few(tx, tonumber(ARGV[5]))
return 1 -- branch: freed
