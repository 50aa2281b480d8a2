-- load: all that a worker needs to go on, under its grant. Reads only.
--
-- KEYS 1 the transaction (suffixes of lib/loading)
-- ARGV 1 epoch
-- Answers: vanished | fenced | loaded, what lib/loading says
--
-- include: clock, wake, timers, loading
local m = read_meta(KEYS[1], 'epoch')
if not m then
  return { 'vanished' } -- branch: vanished
end
if m.epoch ~= ARGV[1] or m.status ~= 'running' then
  return { 'fenced' } -- branch: fenced
end
return { 'loaded', loaded(KEYS[1]) } -- branch: loaded
