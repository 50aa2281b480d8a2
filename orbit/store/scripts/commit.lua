-- commit: all that a turn did, or nothing. The only way that a worker writes.
--
-- KEYS 1 the transaction (suffixes `:snap`, `:view`, `:names`, `:inbox`, those of lib/log, lib/timers, lib/outbox, lib/sessions
--        and lib/ending),
--      2 its partition (suffix `:recent`, those of lib/wake)
-- ARGV 1 id  2 epoch  3 the number that the log must be at  4 lease ms, or 0  5 snapshots kept  6 grace ms
--      7 snapshot or ''  8 its version  9 view or ''  10 '1': progressed  11 attempts or ''  12 run returned ('0', '1') or ''
--      13 passes or ''  14 note with '=' in front, or ''  15 end's status or ''  16 result  17 error type  18 error message  19 trace
--      20.. lists, each with its length in front: entries (k, s, m, c, t, d of each), consumed inbox ids, names (name,
--      value), forgotten names, told (public name, place), barred (public name, text), timers (member, ms from now), dropped
--      timers, outbox (field, value), dropped fields of the outbox
-- Answers: vanished | fenced | rewound | done or repeated, number, head, cancel reason (nil: none), unread messages
--
-- include: clock, wake, log, timers, outbox, sessions, ending
local tx, part, id, epoch, expected = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local m = read_meta(tx, 'epoch', 'writer', 'number', 'head', 'cancel', 'lease', 'hooks', 'keep', 'retain',
  'snapped', 'viewed', 'trimmed', 'parent')
if not m then
  return { 'vanished' } -- branch: vanished
end
local number = int(tonumber(expected) + 1)
local repeated = m.number == number and m.writer == epoch
if repeated and ENDED[m.status] then
  return { 'repeated', m.number, m.head, m.cancel, 0 } -- branch: repeated, ended
end
-- check: epoch
if m.epoch ~= epoch then
  return { 'fenced' } -- branch: fenced
end
-- end check
if repeated then
  return { 'repeated', m.number, m.head, m.cancel, redis.call('XLEN', tx .. ':inbox') } -- branch: repeated
end
if m.status ~= 'running' then
  return { 'fenced' } -- branch: released
end
-- check: number
if m.number ~= expected then
  return { 'rewound' } -- branch: another number
end
-- end check

local at = 20
local function next_list(width)
  local from, items = at + 1, {}
  for i = 1, tonumber(ARGV[at]) do
    items[i] = from + (i - 1) * width
  end
  at = from + #items * width
  return items
end
local entries, consumed, names = next_list(6), next_list(1), next_list(2)
local forgotten, told, barred = next_list(1), next_list(2), next_list(2)
local timers, dropped, outbox, taken = next_list(2), next_list(1), next_list(2), next_list(1)

local senders = {}
for _, i in ipairs(consumed) do
  local entry = redis.call('XRANGE', tx .. ':inbox', ARGV[i], ARGV[i])[1]
  -- check: consumed
  if not entry then
    return { 'rewound' } -- branch: consumed entry gone
  end
  -- end check
  for f = 1, entry and #entry[2] or 0, 2 do
    if entry[2][f] == 's' then
      senders[#senders + 1] = entry[2][f + 1]
    end
  end
end

local before = seq_of(m.head)
local seq, base = before + #entries, m.viewed or m.snapped
local head = #entries > 0 and int(seq) .. '-' .. epoch or m.head
local fields = { 'number', number, 'writer', epoch, 'head', head }
local function set(name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
if ARGV[7] ~= '' then
  set('version', ARGV[8])
  set('snapped', int(seq))
  base = m.viewed or seq
end
if ARGV[9] ~= '' then
  set('viewed', int(seq))
  base = seq
end
if ARGV[10] == '1' then
  set('attempts', '0') -- branch: progressed
  set('crashes', '0')
end
for name, i in pairs({ attempts = 11, returned = 12, passes = 13 }) do
  if ARGV[i] ~= '' then
    set(name, ARGV[i]) -- branch: counted
  end
end
if ARGV[14] ~= '' then
  set('note', string.sub(ARGV[14], 2)) -- branch: noted
end
local lease = tonumber(m.lease)
if ARGV[4] ~= '0' then
  lease = now + tonumber(ARGV[4]) -- branch: lease
  set('lease', int(lease))
end

-- All is checked. From here on it writes, and the first write is one that needs memory: a full server refuses it whole.
redis.call('HSET', tx, unpack(fields))
for n, i in ipairs(entries) do
  write_entry(tx, int(before + n) .. '-' .. epoch, ARGV[i], {
    s = ARGV[i + 1], m = ARGV[i + 2], c = ARGV[i + 3], t = ARGV[i + 4], d = ARGV[i + 5],
  })
end
if tonumber(m.lease) <= now and redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id) == 1 then
  due_at(part, 'l:' .. id, lease) -- branch: taken back
elseif ARGV[4] ~= '0' then
  due_at(part, 'l:' .. id, lease) -- branch: held for longer
end
if ARGV[7] ~= '' then
  redis.call('XADD', tx .. ':snap', 'MAXLEN', ARGV[5], number .. '-' .. epoch, 'v', ARGV[8], 'f', ARGV[7], 'h', head) -- branch: snapshot
end
if ARGV[9] ~= '' then
  redis.call('HSET', tx .. ':view', 'head', head, 'data', ARGV[9]) -- branch: view
end
for _, i in ipairs(names) do
  redis.call('HSET', tx .. ':names', ARGV[i], ARGV[i + 1]) -- branch: named
end
for _, i in ipairs(forgotten) do
  redis.call('HDEL', tx .. ':names', ARGV[i]) -- branch: forgotten
end
for _, i in ipairs(consumed) do
  redis.call('XDEL', tx .. ':inbox', ARGV[i]) -- branch: consumed
end
for _, public in ipairs(senders) do
  if redis.call('HINCRBY', tx .. ':sess', 'n:' .. public, -1) <= 0 then
    redis.call('HDEL', tx .. ':sess', 'n:' .. public)
  end
end

for _, i in ipairs(dropped) do
  redis.call('ZREM', tx .. ':timers', ARGV[i]) -- branch: timer dropped
end
for _, i in ipairs(timers) do
  local at = now + tonumber(ARGV[i + 1])
  redis.call('ZADD', tx .. ':timers', int(at), ARGV[i]) -- branch: timer set
  if string.sub(ARGV[i], 1, 2) == 't/' then
    wake_by(part, id, at) -- branch: fires while it runs, too
  end
end
for _, i in ipairs(taken) do
  redis.call('HDEL', tx .. ':outbox', ARGV[i], 'i/' .. string.match(ARGV[i], '^s/([^/]*)')) -- branch: end of a child taken
end
if #taken > 0 and redis.call('HLEN', tx .. ':outbox') == 0 then
  redis.call('ZREM', part .. ':due', 'o:' .. id) -- branch: no child left
end
for _, i in ipairs(outbox) do
  redis.call('HSET', tx .. ':outbox', ARGV[i], ARGV[i + 1]) -- branch: to be delivered
  deliver_by(part, id, now + LATE_MS)
end

local function tell(public, place)
  local here, mid, unread, bar = row(tx, public, 'p', 'm', 'n', 'b')
  if (here or '') ~= place then
    redis.call('HSET', tx .. ':sess', 't:' .. public, place)
    redis.call('ZADD', tx .. ':changes', 'NX', int(here and now or now + tonumber(ARGV[6])), public) -- branch: told, changed since
    return
  end
  redis.call('ZREM', tx .. ':changes', public)
  if place ~= '' then
    redis.call('HSET', tx .. ':sess', 't:' .. public, place) -- branch: told
  elseif mid or unread or bar then
    redis.call('HSET', tx .. ':sess', 't:' .. public, '') -- branch: told gone, remembered
  else
    forget(tx, public) -- branch: told gone, forgotten
  end
end
for _, i in ipairs(told) do
  tell(ARGV[i], ARGV[i + 1])
end
for _, i in ipairs(barred) do
  local public = ARGV[i]
  local place = row(tx, public, 'p')
  redis.call('HSET', tx .. ':sess', 'b:' .. public, ARGV[i + 1]) -- branch: barred
  if place then
    vacate(tx, part, id, public, place)
  end
  redis.call('HDEL', tx .. ':sess', 't:' .. public, 'a:' .. public)
  redis.call('ZREM', tx .. ':changes', public)
  redis.call('ZREM', tx .. ':seen', public)
end

local status = 'running'
if ARGV[15] ~= '' then
  local over = { status = ARGV[15], result = ARGV[16], error_type = ARGV[17], error_message = ARGV[18], trace = ARGV[19] }
  if m.cancel then
    over = { status = 'cancelled', result = '', error_type = '', error_message = '', trace = ARGV[19] } -- branch: cancelled
  end
  status = over.status
  head = finish(tx, part, id, seq, next_epoch(epoch, string.sub(epoch, -3)), m.retain, m.parent, over) -- branch: ended
  seq = seq_of(head)
end
local trimmed = trim(tx, seq, tonumber(m.keep), tonumber(base))
if trimmed then
  redis.call('HSET', tx, 'trimmed', trimmed) -- branch: trimmed
end
redis.call('ZADD', part .. ':recent', int(now), id)
publish(tx, number, epoch, m.number, m.head, head, status)
return { 'done', number, head, m.cancel, status == 'running' and redis.call('XLEN', tx .. ':inbox') or 0 } -- branch: done
