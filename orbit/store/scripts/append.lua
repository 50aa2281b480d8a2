-- append: a message into the inbox, if its mid is the next of its session, its place is the session's, and there is room.
--
-- KEYS 1 the transaction (suffixes `:inbox`, `:keys`), 2 its partition (suffixes of lib/wake and lib/sessions)
-- ARGV 1 id  2 public name or ''  3 mid or ''  4 place or ''  5 subject or ''  6 key or ''  7 data
--      8 eighteen digits  9 how many unread messages there may be  10 how long a key is remembered, ms
-- Answers: missing | over, status | barred, text | place (a newer attach holds it, or the session is another subject's)
--          | duplicate, last mid | wrong, last mid | full, last mid | stored, last mid
--
-- include: clock, wake, timers, sessions
local tx, part, id, public, mid, place, subject, key = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local m = read_meta(tx, 'received')
if not m then
  return { 'missing' } -- branch: missing
end
if ENDED[m.status] then
  return { 'over', m.status } -- branch: over
end
local last, here, owner, bar
if public ~= '' then
  last, here, owner, bar = row(tx, public, 'm', 'p', 'u', 'b')
  if bar then
    return { 'barred', bar } -- branch: barred
  end
  if place ~= '' and here ~= place then
    return { 'place' } -- branch: not the place
  end
  if place == '' and owner and owner ~= subject then
    return { 'place' } -- branch: subject
  end
end
last = last or '0'
if mid ~= '' then
  if tonumber(mid) <= tonumber(last) then
    return { 'duplicate', last } -- branch: duplicate mid
  elseif tonumber(mid) ~= tonumber(last) + 1 then
    return { 'wrong', last } -- branch: wrong mid
  end
end
local expires = key ~= '' and redis.call('ZSCORE', tx .. ':keys', key)
if expires and tonumber(expires) > now then
  return { 'duplicate', last } -- branch: duplicate key
end
if redis.call('XLEN', tx .. ':inbox') >= tonumber(ARGV[9]) then
  return { 'full', last } -- branch: full
end

local n = int(tonumber(m.received) + 1)
local command = { 'XADD', tx .. ':inbox', n .. '-' .. ARGV[8], 'd', ARGV[7] }
for field, value in pairs({ s = public, m = mid, p = place, u = subject ~= '' and subject or owner or '' }) do
  if value ~= '' then
    command[#command + 1] = field
    command[#command + 1] = value
  end
end
redis.call(unpack(command))
redis.call('HSET', tx, 'received', n)
if public ~= '' then
  redis.call('HINCRBY', tx .. ':sess', 'n:' .. public, 1)
  if mid ~= '' then
    redis.call('HSET', tx .. ':sess', 'm:' .. public, mid)
    last = mid
  end
  if subject ~= '' and not owner then
    redis.call('HSET', tx .. ':sess', 'u:' .. public, subject)
  end
  if not here then
    redis.call('ZADD', tx .. ':seen', int(now), public) -- branch: detached session
  end
end
if key ~= '' then
  redis.call('ZADD', tx .. ':keys', int(now + tonumber(ARGV[10])), key) -- branch: keyed
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', tx .. ':keys', '-inf', int(now), 'LIMIT', 0, 8)) do
    redis.call('ZREM', tx .. ':keys', old)
  end
end
rouse(tx, part, id, m, 'message')
return { 'stored', last } -- branch: stored
