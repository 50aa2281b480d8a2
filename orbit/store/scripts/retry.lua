-- retry: a failed transaction goes on from its last snapshot, after its end's cursor. It counts as a commit, so that whoever
-- knows it as ended hears or finds that it isn't; its entries are none, so the log holds the end that doesn't stand any more.
--
-- KEYS 1 the transaction (suffixes `:live`, those of lib/timers and lib/outbox), 2 its partition (suffix `:recent`, those of lib/wake)
-- ARGV 1 id  2 request (the same again: done before)  3 three digits
-- Answers: missing | other, status (it isn't failed) | retried, status
--
-- include: clock, wake, log, timers, outbox
local tx, part, id, request = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local m = read_meta(tx, 'epoch', 'number', 'head', 'retried')
if not m then
  return { 'missing' } -- branch: missing
end
if m.retried == request then
  return { 'retried', m.status } -- branch: retried before
end
if m.status ~= 'failed' then
  return { 'other', m.status } -- branch: not failed
end

local epoch, number = next_epoch(m.epoch, ARGV[3]), int(tonumber(m.number) + 1)
redis.call('HSET', tx, 'status', 'pending', 'epoch', epoch, 'writer', epoch, 'number', number, 'retried', request,
  'attempts', '0', 'crashes', '0')
redis.call('HDEL', tx, 'ended', 'result', 'error_type', 'error_message', 'trace')
redis.call('ZREM', part .. ':due', 'r:' .. id)
redis.call('ZADD', part .. ':recent', int(now), id)
local timer = first_timer(tx)
if timer then
  wake_by(part, id, timer) -- branch: timers go on
end
redis.call('HDEL', tx .. ':outbox', 'e')
if redis.call('EXISTS', tx .. ':outbox') == 1 then
  deliver_by(part, id, now) -- branch: children to look after
end
make_ready(part, id, m)
publish(tx, number, epoch, m.number, m.head, m.head, 'pending')
return { 'retried', 'pending' } -- branch: retried
