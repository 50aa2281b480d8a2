-- recent: the transactions that committed since, with their commit numbers. Reads only.
--
-- KEYS 1 the partition (suffix `:recent`), 2 the prefix of its transactions (suffix `:<id>`)
-- ARGV 1 since, ms
-- Answers: now in ms; then id and number of each
--
-- include: clock
local answer = { int(now) }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. ':recent', ARGV[1], '+inf')) do
  local number = redis.call('HGET', KEYS[2] .. ':' .. id, 'number')
  if number then
    answer[#answer + 1] = id -- branch: recent
    answer[#answer + 1] = number
  end
end
return answer
