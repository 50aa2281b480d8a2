-- attach: the session's place is the caller's.
--
-- KEYS 1 the transaction, 2 its partition (suffixes of lib/wake and lib/sessions)
-- ARGV 1 id  2 public name  3 place  4 subject or ''  5 how long a detached session is remembered, ms
--      6 how many sessions may be attached, 0: any number
-- Answers: missing | barred, text | subject (the session belongs to another one) | crowded
--          | attached, place before or '', head, number, status, last mid. An ended one attaches too, and takes no place
--
-- include: clock, wake, timers, sessions
local tx, part, id, public, place, subject = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local m = read_meta(tx, 'head', 'number', 'hooks')
if not m then
  return { 'missing' } -- branch: missing
end
local before, told, mid, owner, bar = row(tx, public, 'p', 't', 'm', 'u', 'b')
if bar then
  return { 'barred', bar } -- branch: barred
end
if owner and owner ~= subject then
  return { 'subject' } -- branch: subject
end
local answer = { 'attached', before ~= place and before or '', m.head, m.number, m.status, mid or '0' }
if ENDED[m.status] then
  return answer -- branch: ended
end
local most = tonumber(ARGV[6])
if most > 0 and not before and redis.call('ZCARD', tx .. ':conn') >= most then
  return { 'crowded' } -- branch: crowded
end

redis.call('HSET', tx .. ':sess', 'p:' .. public, place)
if subject ~= '' then
  redis.call('HSET', tx .. ':sess', 'u:' .. public, subject)
end
if before and edge_of(before) ~= edge_of(place) then
  redis.call('ZREM', part .. ':places:' .. edge_of(before), id .. ':' .. public) -- branch: moved
end
redis.call('ZADD', part .. ':places:' .. edge_of(place), int(now), id .. ':' .. public)
redis.call('ZADD', tx .. ':conn', int(now), public)
redis.call('ZREM', tx .. ':seen', public)
if m.hooks == '1' and told ~= place then
  redis.call('ZADD', tx .. ':changes', int(now), public) -- branch: change
  rouse(tx, part, id, m, 'change')
else
  redis.call('ZREM', tx .. ':changes', public) -- branch: no change
end
expire_few(tx, tonumber(ARGV[5]))
return answer
