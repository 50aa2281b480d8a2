-- load: all that a worker needs to go on, under its grant. Reads only.
--
-- KEYS 1 the transaction (suffixes `:snap`, `:view`, `:names`), 2 its partition (suffix `:due`)
-- ARGV 1 id  2 epoch
-- Answers: vanished | fenced | loaded, meta values, newest snapshot [id, fields], view's head or nil, names as a flat list, ms until its wake time or nil
--
-- include: clock, wake
local tx, id = KEYS[1], ARGV[1]
local m = read_meta(tx, 'epoch')
if not m then
  return { 'vanished' } -- branch: vanished
end
if m.epoch ~= ARGV[2] or m.status ~= 'running' then
  return { 'fenced' } -- branch: fenced
end
local values = redis.call('HMGET', tx, 'number', 'head', 'returned', 'passes', 'attempts', 'crashes', 'cancel', 'keep', 'note')
local snapshot = redis.call('XREVRANGE', tx .. ':snap', '+', '-', 'COUNT', 1)[1]
local wake = redis.call('ZSCORE', KEYS[2] .. ':due', 't:' .. id)
return { -- branch: loaded
  'loaded', values, snapshot, redis.call('HGET', tx .. ':view', 'head'), redis.call('HGETALL', tx .. ':names'),
  wake and int(math.max(0, tonumber(wake) - now)),
}
