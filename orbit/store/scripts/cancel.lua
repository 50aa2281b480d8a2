-- cancel: sets the flag; from then on any end is written as `cancelled`. What never ran ends here and now, under a new epoch.
--
-- KEYS 1 the transaction (suffixes of lib/log and lib/ending), 2 its partition (suffix `:recent`, those of lib/wake)
-- ARGV 1 id  2 reason  3 three digits
-- Answers: missing | over, status | set, status
--
-- include: clock, wake, log, timers, outbox, ending
local tx, part, id = KEYS[1], KEYS[2], ARGV[1]
local m = read_meta(tx, 'cancel', 'started', 'epoch', 'number', 'head', 'retain', 'parent')
if not m then
  return { 'missing' } -- branch: missing
end
if ENDED[m.status] then
  return { 'over', m.status } -- branch: over
end
if m.cancel then
  return { 'set', m.status } -- branch: set before
end

redis.call('HSET', tx, 'cancel', ARGV[2])
if not m.started then
  local epoch, number = next_epoch(m.epoch, ARGV[3]), int(tonumber(m.number) + 1) -- branch: never ran
  local head = finish(tx, part, id, seq_of(m.head), epoch, m.retain, m.parent,
    { status = 'cancelled', result = '', error_type = '', error_message = '', trace = '' })
  redis.call('HSET', tx, 'number', number, 'writer', epoch)
  if redis.call('EXISTS', tx .. ':outbox') == 1 then
    deliver_by(part, id, now) -- branch: parent to tell
  end
  redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id)
  redis.call('ZADD', part .. ':recent', int(now), id)
  publish(tx, number, epoch, m.number, m.head, head, 'cancelled')
  return { 'set', 'cancelled' }
end
if m.status == 'pending' and not m.waits then
  make_ready(part, id, m) -- branch: pending
  redis.call('ZREM', part .. ':due', 't:' .. id)
else
  rouse(tx, part, id, m, 'cancel') -- branch: running, idle, or waits
end
return { 'set', m.status == 'idle' and 'pending' or m.status }
