-- permit: asks for a permit of a limit, or holds on to it. Who gets none waits in the order of asking.
--
-- KEYS 1 the limit's partition (suffixes of lib/limits)
-- ARGV 1 limit  2 transaction  3 most, 0: any number  4 ms between two that begin, 0: none  5 lease ms  6 priority
-- Answers: '1' held or '0' waits; then the ids of others that got one
--
-- include: clock, wake, limits
local part, name, id = KEYS[1], ARGV[1], ARGV[2]
local held, waiting = part .. ':held:' .. name, part .. ':waiting:' .. name
redis.call('HSET', part .. ':limit:' .. name, 'most', ARGV[3], 'gap', ARGV[4], 'lease', ARGV[5])
if redis.call('ZSCORE', held, id) then
  redis.call('ZADD', held, int(now + tonumber(ARGV[5])), id) -- branch: held before
  keep(part .. ':limit:' .. name, held, tonumber(ARGV[5]))
  return { '1' }
end
redis.call('ZADD', waiting, 'NX', int(now - tonumber(ARGV[6]) * 1e13), id)
local answer = { '0' }
for _, one in ipairs(admit(part, name)) do
  if one == id then
    answer[1] = '1' -- branch: given
  else
    answer[#answer + 1] = one -- branch: given to others
  end
end
return answer -- branch: asked
