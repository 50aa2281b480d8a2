-- list: a partition's transactions, newest first. Reads only.
--
-- KEYS 1 the partition (suffix `:index`), 2 the prefix of its transactions (suffix `:<id>`)
-- ARGV 1 go on after the one made at this ms, or ''  2 and of this id  3 State or ''  4 status or ''  5 at most so many  6 look at so many at most
--      7 stop after so many bytes
-- Answers: ms and id of the last one looked at, or '' where the partition has no more; then id, ms and meta (flat) of each that fits
local from, before, want, left, room = ARGV[1], ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local answer, offset, last, found = { '', '' }, 0, { '', '' }, 0
local function fits(meta)
  local state, status
  for i = 1, #meta, 2 do
    if meta[i] == 'state' then
      state = meta[i + 1]
    elseif meta[i] == 'status' then
      status = meta[i + 1]
    end
    room = room - #meta[i + 1]
  end
  return status and (ARGV[3] == '' or ARGV[3] == state) and (ARGV[4] == '' or ARGV[4] == status)
end

repeat
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1] .. ':index', from == '' and '+inf' or from, '-inf', 'WITHSCORES',
    'LIMIT', offset, 50)
  for i = 1, #page, 2 do
    local id, created = page[i], page[i + 1]
    if created ~= from or id < before then
      local meta = redis.call('HGETALL', KEYS[2] .. ':' .. id)
      left = left - 1
      last = { created, id }
      if fits(meta) then
        found = found + 1
        answer[#answer + 1] = { id, created, meta } -- branch: found
      end
    end
    if found == want or left <= 0 or room <= 0 then
      answer[1], answer[2] = last[1], last[2] -- branch: more
      return answer
    end
  end
  offset = offset + 50
until #page == 0
return answer -- branch: all
