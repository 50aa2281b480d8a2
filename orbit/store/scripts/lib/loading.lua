-- What a worker needs to go on with a transaction, read in one instant. Needs clock, wake, timers.
-- `loaded`: meta values, newest snapshot [id, fields], view's head or nil, names as a flat list, timers (member, ms from
-- now; -1 where it stands in the inbox), fields of the outbox, ms since the first claim. Nil where the fields take more
-- than `most` bytes (nil: any number).
-- `waits`: whether a message, or a change of a connection, due now or later, is there for it.
-- Suffixes of the transaction's key: `:snap`, `:view`, `:names`, `:timers`, `:outbox`, `:inbox`, `:changes`.
local function loaded(tx, most)
  local values = redis.call('HMGET', tx, 'number', 'head', 'returned', 'passes', 'attempts', 'crashes', 'cancel', 'keep', 'note',
    'parent', 'lineage', 'priority', 'started')
  local snapshot = redis.call('XREVRANGE', tx .. ':snap', '+', '-', 'COUNT', 1)[1]
  if most then
    for i = 2, #snapshot[2], 2 do
      most = most - #snapshot[2][i]
    end
    if most < 0 or values[1] ~= '0' and redis.call('HLEN', tx .. ':names') > 100 then
      return false -- branch: too large
    end
  end
  local timers = redis.call('ZRANGE', tx .. ':timers', 0, -1, 'WITHSCORES')
  for i = 2, #timers, 2 do
    local at = tonumber(timers[i])
    timers[i] = at >= NEVER and -1 or int(math.max(0, at - now))
  end
  local view, names, outbox = false, {}, {}
  if values[1] ~= '0' then
    view, names = redis.call('HGET', tx .. ':view', 'head'), redis.call('HGETALL', tx .. ':names') -- branch: committed before
    outbox = redis.call('HKEYS', tx .. ':outbox')
  end
  return { values, snapshot, view, names, timers, outbox, int(now - tonumber(values[13])) }
end

local function waits(tx)
  return redis.call('XLEN', tx .. ':inbox') > 0 or redis.call('EXISTS', tx .. ':changes') == 1
end
