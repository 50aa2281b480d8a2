-- Entries of the log, and their announcement. Needs clock.
-- `write_entry`: appends one and keeps it for the announcement. `publish`: tells what was written since the script began
-- as MessagePack: [number, epoch, previous number, previous cursor, head, status, [[k, s, m, c, t, y, d, id], ...]], all bin.
-- `trim`: takes the oldest entries once the log is a tenth over its size, never past `base` (the head of the newest view,
-- or snapshot where there is none), nor the newest entry; returns the last trimmed entry's id, or nil.
-- Suffixes of the transaction's key: `:log`, `:live`.
local FIELDS = { 's', 'm', 'c', 't', 'y', 'd' }
local announced = {}

local function bin(text)
  local n = #text
  return '\198' .. string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. text
end

local function array(items)
  local n = #items
  return '\221' .. string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. table.concat(items)
end

local function write_entry(tx, id, kind, entry)
  local command = { 'XADD', tx .. ':log', id, 'k', kind }
  local packed = { bin(kind) }
  for _, field in ipairs(FIELDS) do
    local value = entry[field] or ''
    packed[#packed + 1] = bin(value)
    if value ~= '' then
      command[#command + 1] = field
      command[#command + 1] = value
    end
  end
  redis.call(unpack(command))
  packed[#packed + 1] = bin(id)
  announced[#announced + 1] = array(packed)
end

local function publish(tx, number, epoch, before_number, before_head, head, status)
  redis.call('SPUBLISH', tx .. ':live', array({
    bin(number), bin(epoch), bin(before_number), bin(before_head), bin(head), bin(status), array(announced),
  }))
end

local function seq_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local function trim(tx, seq, keep, base)
  if redis.call('XLEN', tx .. ':log') <= keep + math.max(16, math.floor(keep / 10)) then
    return nil -- branch: short enough
  end
  local last = math.min(seq - keep, base, seq - 1)
  local entry = last > 0 and redis.call('XRANGE', tx .. ':log', int(last), int(last), 'COUNT', 1)[1]
  if not entry then
    return nil -- branch: nothing to spare
  end
  redis.call('XTRIM', tx .. ':log', 'MINID', int(last + 1))
  return entry[1]
end
