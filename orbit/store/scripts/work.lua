-- work: what waits for a transaction's owner, in one instant. Reads only.
--
-- KEYS 1 the transaction (suffixes `:inbox`, `:changes`, those of lib/sessions)
-- ARGV 1 id of the last inbox entry seen, or ''  2 at most so many messages and so many changes  3 at most so many bytes
-- Answers: missing | work, number, epoch, cancel reason or nil, messages, '1' where there are more, changes that are due (public name,
--          place or nil, place told or nil, subject or nil), ms until the next change or nil, public name and place told of each message's session, '1' where Redis lost
--          the entry seen last
--
-- include: clock, wake, timers, sessions
local tx, after, limit, room = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local m = read_meta(tx, 'number', 'epoch', 'cancel', 'received')
if not m then
  return { 'missing' } -- branch: missing
end

-- From the last seen entry's own place on. After a rewind another entry may stand there, or none ever stood so far off:
-- then what stands before it may be new, too.
local from, lost, n = '-', '', string.match(after, '^%d+')
if n and tonumber(n) > tonumber(m.received) then
  lost = '1' -- branch: lost
elseif n then
  local there = redis.call('XRANGE', tx .. ':inbox', n, n)[1]
  if there and there[1] ~= after then
    lost = '1' -- branch: lost, its place taken again
  else
    from = n -- branch: after
  end
end
local messages, told, more = {}, {}, ''
repeat
  local page = redis.call('XRANGE', tx .. ':inbox', from, '+', 'COUNT', 8)
  for _, entry in ipairs(page) do
    if entry[1] ~= after then
      if #messages == limit or (room <= 0 and #messages > 0) then
        more = '1' -- branch: more
        break
      end
      messages[#messages + 1] = entry
      for i = 1, #entry[2], 2 do
        local value = entry[2][i + 1]
        room = room - #value
        if entry[2][i] == 's' then
          told[#told + 1] = { value, row(tx, value, 't') }
        end
      end
    end
    from = '(' .. entry[1]
  end
until #page == 0 or more == '1'

local changes = {}
for _, public in ipairs(redis.call('ZRANGEBYSCORE', tx .. ':changes', '-inf', int(now), 'LIMIT', 0, limit)) do
  changes[#changes + 1] = { public, row(tx, public, 'p', 't', 'u') } -- branch: change
end
local after_these = redis.call('ZRANGE', tx .. ':changes', #changes, #changes, 'WITHSCORES')[2]
return { -- branch: work
  'work', m.number, m.epoch, m.cancel, messages, more, changes,
  after_these and int(math.max(0, tonumber(after_these) - now)) or false, told, lost,
}
