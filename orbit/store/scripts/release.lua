-- release: hands a transaction over (ready), puts it to sleep (idle) where nothing waits for it, or lets it wait for a limit.
--
-- KEYS 1 the transaction (suffixes `:inbox`, `:changes`, those of lib/timers), 2 its partition (suffixes of lib/wake)
-- ARGV 1 id  2 epoch  3 number  4 id of the last inbox entry seen, or ''  5 '': hand over, 'idle', or 'waits' (for a limit)
--      6 what it waits for  7.. timers: member, ms from now
-- Answers: vanished | fenced | released, status
--
-- include: clock, wake, timers
local tx, part, id, last, how = KEYS[1], KEYS[2], ARGV[1], ARGV[4], ARGV[5]
local m = read_meta(tx, 'epoch', 'number', 'cancel', 'roused', 'received')
if not m then
  return { 'vanished' } -- branch: vanished
end
if m.epoch ~= ARGV[2] or ENDED[m.status] then
  return { 'fenced' } -- branch: fenced
end
if m.status ~= 'running' then
  return { 'released', m.status } -- branch: released before
end

-- Counted from the entry's own place on: after a rewind another entry may stand there; or its place may not be reached
-- again yet, and any entry may be one that wasn't seen.
local function unread()
  local from = last == '' and '-' or string.match(last, '^%d+')
  if last ~= '' and tonumber(from) > tonumber(m.received) then
    return true -- branch: the last one seen is lost
  end
  for _, entry in ipairs(redis.call('XRANGE', tx .. ':inbox', from, '+', 'COUNT', 2)) do
    if entry[1] ~= last then
      return true
    end
  end
  return false
end

redis.call('HSET', tx, 'owner', '')
for i = 7, #ARGV, 2 do
  redis.call('ZADD', tx .. ':timers', int(now + tonumber(ARGV[i + 1])), ARGV[i]) -- branch: timer
end
local wake, ready = first_timer(tx), false
local change = redis.call('ZRANGE', tx .. ':changes', 0, 0, 'WITHSCORES')[2]
if change then
  wake = math.min(wake or tonumber(change), tonumber(change)) -- branch: change
end
if m.number ~= ARGV[3] then
  ready = true -- branch: another number
elseif m.cancel then
  ready = true -- branch: cancelled
elseif how == '' then
  ready = true -- branch: handed over
elseif how == 'waits' and m.roused == m.epoch then
  ready = true -- branch: what it waits for is there
elseif unread() then
  ready = true -- branch: unread
else
  ready = wake and wake <= now -- branch: quiet
end

redis.call('HSET', tx, 'status', (ready or how == 'waits') and 'pending' or 'idle')
redis.call('HDEL', tx, 'lease')
redis.call('ZREM', part .. ':due', 'l:' .. id)
if wake then
  wake_by(part, id, wake)
else
  redis.call('ZREM', part .. ':due', 't:' .. id) -- branch: nothing to wake for
end
if ready then
  make_ready(part, id, m)
  return { 'released', 'pending' }
end
redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id)
if how == 'waits' then
  redis.call('HSET', tx, 'waits', ARGV[6]) -- branch: waits
  return { 'released', 'pending' }
end
return { 'released', 'idle' } -- branch: asleep
