-- attach: the session's place is the caller's. Each attach has a number, by the server's clock and above the last one's: an
-- earlier attach that finds its place lost takes it again under its own number, but never from a later one.
--
-- KEYS 1 the transaction, 2 its partition (suffixes of lib/wake and lib/sessions)
-- ARGV 1 id  2 public name  3 place  4 subject or ''  5 how long a detached session is remembered, ms
--      6 how many sessions may be attached, 0: any number  7 '', or the number of the attach whose place it is to be again
-- Answers: missing | barred, text | subject (the session belongs to another one) | newer (a later attach has had the place)
--          | crowded | attached, place before or '', head, number, status, last mid, the attach's number. An ended one attaches too, and
--          takes no place
--
-- include: clock, wake, timers, sessions
local tx, part, id, public, place, subject = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local m = read_meta(tx, 'head', 'number', 'hooks')
if not m then
  return { 'missing' } -- branch: missing
end
local before, told, mid, owner, bar, newest = row(tx, public, 'p', 't', 'm', 'u', 'b', 'a')
if bar then
  return { 'barred', bar } -- branch: barred
end
if owner and owner ~= subject then
  return { 'subject' } -- branch: subject
end
local again, own = ARGV[7], int(tonumber(time[1]) * 1000000 + tonumber(time[2]))
if again ~= '' then
  own = again
  if newest and tonumber(newest) > tonumber(again) then
    return { 'newer' } -- branch: a newer one
  end
elseif newest and tonumber(newest) >= tonumber(own) then
  own = int(tonumber(newest) + 1) -- branch: the clock went back
end
local answer = { 'attached', before ~= place and before or '', m.head, m.number, m.status, mid or '0', own }
if ENDED[m.status] then
  return answer -- branch: ended
end
if again ~= '' and before == place then
  return answer -- branch: held still
end
local most = tonumber(ARGV[6])
if most > 0 and not before and redis.call('ZCARD', tx .. ':conn') >= most then
  return { 'crowded' } -- branch: crowded
end

redis.call('HSET', tx .. ':sess', 'p:' .. public, place, 'a:' .. public, own)
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
