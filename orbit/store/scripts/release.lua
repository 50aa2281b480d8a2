-- release: hands a transaction over (ready), or puts it to sleep (idle) where nothing waits for it.
--
-- KEYS 1 the transaction (suffixes `:inbox`, `:changes`), 2 its partition (suffixes of lib/wake)
-- ARGV 1 id  2 epoch  3 number  4 id of the last inbox entry seen, or ''  5 '1': to sleep, '': hand over  6 not before so many ms, or ''
-- Answers: vanished | fenced | released, status
--
-- include: clock, wake
local tx, part, id, last = KEYS[1], KEYS[2], ARGV[1], ARGV[4]
local m = read_meta(tx, 'epoch', 'number', 'cancel', 'queue', 'state', 'version', 'priority')
if not m then
  return { 'vanished' } -- branch: vanished
end
if m.epoch ~= ARGV[2] or ENDED[m.status] then
  return { 'fenced' } -- branch: fenced
end
if m.status ~= 'running' then
  return { 'released', m.status } -- branch: released before
end

-- Counted from the entry's own place on: after a rewind another entry may stand there.
local function unread()
  local from = last == '' and '-' or string.match(last, '^%d+')
  for _, entry in ipairs(redis.call('XRANGE', tx .. ':inbox', from, '+', 'COUNT', 2)) do
    if entry[1] ~= last then
      return true
    end
  end
  return false
end

local wake = ARGV[6] ~= '' and now + tonumber(ARGV[6]) or nil
local ready = false
if m.number ~= ARGV[3] then
  ready = true -- branch: another number
elseif m.cancel then
  ready = true -- branch: cancelled
elseif ARGV[5] == '' then
  ready = not wake or wake <= now -- branch: handed over
elseif unread() then
  ready = true -- branch: unread
else
  local change = redis.call('ZRANGE', tx .. ':changes', 0, 0, 'WITHSCORES')[2]
  if change then
    wake = math.min(wake or tonumber(change), tonumber(change)) -- branch: change
  end
  ready = wake and wake <= now -- branch: quiet
end

local status = (ready or ARGV[5] == '') and 'pending' or 'idle'
redis.call('HSET', tx, 'status', status, 'owner', '')
redis.call('HDEL', tx, 'lease')
redis.call('ZREM', part .. ':due', 'l:' .. id)
if ready then
  redis.call('ZREM', part .. ':due', 't:' .. id)
  make_ready(part, id, m)
else
  redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id)
  if wake then
    due_at(part, 't:' .. id, wake) -- branch: waits in due
  else
    redis.call('ZREM', part .. ':due', 't:' .. id) -- branch: asleep
  end
end
return { 'released', status }
