-- rouse: something that a transaction waits for has happened elsewhere. Where it runs, its owner may be about to release it:
-- meta notes under which epoch it was told, so that a release to wait for it finds it.
--
-- KEYS 1 the transaction, 2 its partition (suffixes of lib/wake)
-- ARGV 1 id  2 what
-- Answers: 1 | 0 it isn't there, or is over
--
-- include: clock, wake
local m = read_meta(KEYS[1], 'epoch')
if not m or ENDED[m.status] then
  return 0 -- branch: nobody
end
if m.status == 'running' then
  redis.call('HSET', KEYS[1], 'roused', m.epoch) -- branch: noted for its owner
end
rouse(KEYS[1], KEYS[2], ARGV[1], m, ARGV[2]) -- branch: roused
return 1
