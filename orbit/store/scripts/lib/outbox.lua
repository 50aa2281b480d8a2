-- What a transaction wants done in other partitions. Needs clock, wake.
-- `:outbox` holds, by field: `s/<child>/<key>` the start of a child, until its end was taken; `i/<child>` the inbox entry
-- with that end; `e` (of a child) its parent, which is to be told of its end; `x` the children are to be cancelled.
-- `deliver_by`: it is to be looked at then, at the latest.
-- Suffixes of the transaction's key: `:outbox`; of the partition's: those of lib/wake.
local LATE_MS = 3000

local function deliver_by(part, id, at)
  local set = redis.call('ZSCORE', part .. ':due', 'o:' .. id)
  if not set or tonumber(set) > at then
    due_at(part, 'o:' .. id, at) -- branch: due
  end
end
