-- Rows of sessions. Needs clock, wake, timers.
-- A row stands in the hash `:sess` as `<x>:<public name>`: m last mid, p place, a the number of the attach that took
-- one last, t the place that the State was told ('' gone), u subject, n unread messages, b bar text. `:conn` holds those with a
-- place, `:seen` those without one, by when they left; `:changes` those whose place isn't the one told, by when the State is to
-- be told.
-- Suffixes of the transaction's key: those; of the partition's: `:places:<edge>`, member `<id>:<public name>`.
local function row(tx, public, ...)
  local fields = {}
  for i, x in ipairs({ ... }) do
    fields[i] = x .. ':' .. public
  end
  return unpack(redis.call('HMGET', tx .. ':sess', unpack(fields)))
end

local function edge_of(place)
  return string.match(place, '^[^/]*')
end

local function forget(tx, public)
  redis.call('HDEL', tx .. ':sess', 'm:' .. public, 'p:' .. public, 'a:' .. public, 't:' .. public, 'u:' .. public,
    'n:' .. public, 'b:' .. public)
  redis.call('ZREM', tx .. ':seen', public)
end

local function vacate(tx, part, id, public, place)
  redis.call('HDEL', tx .. ':sess', 'p:' .. public)
  redis.call('ZREM', tx .. ':conn', public)
  redis.call('ZREM', part .. ':places:' .. edge_of(place), id .. ':' .. public)
end

-- Frees a session's place. The State that was told of it is to be told that it is gone, after the grace; a row that nothing
-- hangs on goes at once.
local function free(tx, part, id, public, place, m, grace)
  local told, mid, bar = row(tx, public, 't', 'm', 'b')
  local change = m.hooks == '1' and told and told ~= '' and (not ENDED[m.status] or m.status == 'failed')
  if change then
    redis.call('ZADD', tx .. ':changes', int(now + grace), public) -- branch: to be told
  else
    redis.call('ZREM', tx .. ':changes', public) -- branch: nothing to tell
  end
  if change or mid or bar then
    redis.call('ZADD', tx .. ':seen', int(now), public) -- branch: remembered
    vacate(tx, part, id, public, place)
  else
    vacate(tx, part, id, public, place) -- branch: forgotten
    forget(tx, public)
  end
  if change and m.status == 'running' then
    rouse(tx, part, id, m, 'change') -- branch: owner to tell
  elseif change and m.status == 'idle' then
    wake_by(part, id, now + grace) -- branch: wakes to tell
  end
end

-- Forgets a few sessions that left long ago; one with an unread message, or of whose leaving the State isn't told, is
-- looked at again later.
local function expire_few(tx, retain)
  for _, public in ipairs(redis.call('ZRANGEBYSCORE', tx .. ':seen', '-inf', int(now - retain), 'LIMIT', 0, 4)) do
    if row(tx, public, 'n') or redis.call('ZSCORE', tx .. ':changes', public) then
      redis.call('ZADD', tx .. ':seen', int(now), public) -- branch: looked at later
    else
      forget(tx, public) -- branch: expired
    end
  end
end
