-- log: entries after a cursor, if the log confirms that cursor: it holds this very entry, or it is the last trimmed one. Reads only.
--
-- KEYS 1 the transaction (suffixes `:log`, `:view`)
-- ARGV 1 cursor ('0': the start)  2 at most so many entries  3 at most so many bytes
-- Answers: missing | page, number, head, status, entries, '1' where there are more
--          | reset, number, head, status, trimmed or rewound, cursor to go on from, view or nil
local tx, after, limit, room = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local log = tx .. ':log'
local m = redis.call('HMGET', tx, 'number', 'head', 'status', 'trimmed')
local number, head, status, trimmed = m[1], m[2], m[3], m[4]
if not number then
  return { 'missing' } -- branch: missing
end

local function confirmed()
  if after == '0' then
    return not trimmed -- branch: from the start
  end
  return after == trimmed or redis.call('XRANGE', log, after, after, 'COUNT', 1)[1] -- branch: confirmed
end

if not confirmed() then
  local view = redis.call('HMGET', tx .. ':view', 'head', 'data')
  local seq, epoch = string.match(after, '^(%d+)%-?(%d*)$')
  local reason = 'rewound' -- branch: rewound
  if trimmed then
    local trimmed_seq, trimmed_epoch = string.match(trimmed, '^(%d+)%-(%d+)$')
    if tonumber(seq) < tonumber(trimmed_seq) and epoch <= trimmed_epoch then
      reason = 'trimmed' -- branch: trimmed
    end
  end
  return { 'reset', number, head, status, reason, view[1] or trimmed or '0', view[2] }
end

local entries, from, more, count = {}, after == '0' and '-' or '(' .. after, '', 8
local asked
repeat
  asked = count
  local page = redis.call('XRANGE', log, from, '+', 'COUNT', asked)
  for _, entry in ipairs(page) do
    if #entries == limit or (room <= 0 and #entries > 0) then
      more = '1' -- branch: more
      break
    end
    entries[#entries + 1] = entry
    for i = 2, #entry[2], 2 do
      room = room - #entry[2][i]
    end
    from = '(' .. entry[1]
  end
  -- The next bite is as large as what was read says that there is room for.
  local each = math.max(1, (tonumber(ARGV[3]) - room) / math.max(1, #entries))
  count = math.max(1, math.min(limit - #entries + 1, math.floor(room / each) + 1))
until #page < asked or more == '1'
return { 'page', number, head, status, entries, more } -- branch: page
