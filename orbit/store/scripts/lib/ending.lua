-- The end of a transaction: what commit and cancel have in common. Needs clock, wake, log, timers, outbox.
-- `finish`: a `rejected` `ended` for each message left in the inbox that has a session to tell, in order; the end entry;
-- what only a live transaction needs goes (a failed one keeps snapshots, names, timers, children and what its State is to be
-- told of sessions: it may be retried); a parent is to be told, children of a cancelled one are to be cancelled; removal becomes due.
-- Returns the end entry's id. All of it is written under `epoch`, which is new: what is left in the inbox may be
-- another thing when the same commit is done again after Redis lost it, so it must not stand under the grant's own epoch.
-- Suffixes of the transaction's key: `:inbox`, `:changes`, `:conn`, `:keys`, `:seen`, `:snap`, `:names`, `:timers`, `:outbox`.
local function refuse_unread(tx, seq, epoch)
  local from = '-'
  repeat
    local entries = redis.call('XRANGE', tx .. ':inbox', from, '+', 'COUNT', 8)
    for _, entry in ipairs(entries) do
      local message = {}
      for i = 1, #entry[2], 2 do
        message[entry[2][i]] = entry[2][i + 1]
      end
      if message.s and message.m then
        seq = seq + 1 -- branch: unread refused
        write_entry(tx, int(seq) .. '-' .. epoch, 'r', {
          s = message.s, m = message.m, c = 'ended', t = 'the transaction ended before this message was handled',
        })
      end
      from = '(' .. entry[1]
    end
  until #entries == 0
  return seq
end

local function finish(tx, part, id, seq, epoch, retain, parent, over)
  seq = refuse_unread(tx, seq, epoch)
  local head = int(seq + 1) .. '-' .. epoch
  write_entry(tx, head, 'e', {
    c = over.status, d = over.result, y = over.error_type, t = over.error_message,
  })
  redis.call('HSET', tx, 'status', over.status, 'epoch', epoch, 'head', head, 'ended', int(now),
    'result', over.result, 'error_type', over.error_type, 'error_message', over.error_message, 'trace', over.trace,
    'owner', '')
  redis.call('HDEL', tx, 'lease', 'note', 'waits')
  redis.call('UNLINK', tx .. ':inbox', tx .. ':keys')
  redis.call('ZREM', part .. ':due', 'l:' .. id, 't:' .. id, 'o:' .. id)
  if over.status == 'failed' then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', tx .. ':timers', int(NEVER), '+inf')) do
      redis.call('ZADD', tx .. ':timers', int(now), member) -- branch: its inbox entry is gone
    end
  else
    redis.call('UNLINK', tx .. ':snap', tx .. ':names', tx .. ':seen', tx .. ':changes', tx .. ':conn', tx .. ':timers') -- branch: never again
    if redis.call('EXISTS', tx .. ':outbox') == 1 then
      if over.status == 'cancelled' then
        redis.call('HSET', tx .. ':outbox', 'x', '1') -- branch: children to cancel
      end
      deliver_by(part, id, now + LATE_MS) -- branch: children that may not be started yet
    end
  end
  if parent then
    redis.call('HSET', tx .. ':outbox', 'e', parent) -- branch: parent to tell
    deliver_by(part, id, now + LATE_MS)
  end
  due_at(part, 'r:' .. id, now + tonumber(retain))
  return head
end
