-- The end of a transaction: what commit and cancel have in common. Needs clock, wake, log.
-- `finish`: a `rejected` `ended` for each message left in the inbox that has a session to tell, in order; the end entry;
-- what only a live transaction needs goes (a failed one keeps snapshots, names and what its State is to be told of sessions:
-- it may be retried); removal becomes due.
-- Returns the end entry's id. All of it is written under `epoch`, which is new: what is left in the inbox may be
-- another thing when the same commit is done again after Redis lost it, so it must not stand under the grant's own epoch.
-- Suffixes of the transaction's key: `:inbox`, `:changes`, `:outbox`, `:conn`, `:keys`, `:seen`, `:snap`, `:names`.
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

local function finish(tx, part, id, seq, epoch, retain, over)
  seq = refuse_unread(tx, seq, epoch)
  local head = int(seq + 1) .. '-' .. epoch
  write_entry(tx, head, 'e', {
    c = over.status, d = over.result, y = over.error_type, t = over.error_message,
  })
  redis.call('HSET', tx, 'status', over.status, 'epoch', epoch, 'head', head, 'ended', int(now),
    'result', over.result, 'error_type', over.error_type, 'error_message', over.error_message, 'trace', over.trace,
    'owner', '')
  redis.call('HDEL', tx, 'lease', 'note')
  redis.call('UNLINK', tx .. ':inbox', tx .. ':outbox', tx .. ':keys')
  if over.status ~= 'failed' then
    redis.call('UNLINK', tx .. ':snap', tx .. ':names', tx .. ':seen', tx .. ':changes', tx .. ':conn') -- branch: never again
  end
  redis.call('ZREM', part .. ':due', 'l:' .. id, 't:' .. id)
  due_at(part, 'r:' .. id, now + tonumber(retain))
  return head
end
