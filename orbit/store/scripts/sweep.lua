-- sweep: frees the places of an edge that is gone, some at a time.
--
-- KEYS 1 the partition (suffixes of lib/wake and lib/sessions), 2 the prefix of its transactions (suffix `:<id>`, then those of lib/sessions)
-- ARGV 1 edge  2 at most so many  3 grace ms  4 the end of the range of places that are freed, by when they were taken: '(<ms>', or '+inf'
-- Answers: how many were looked at; 0: none are left
--
-- include: clock, wake, timers, sessions
local part, edge = KEYS[1], ARGV[1]
local members = redis.call('ZRANGEBYSCORE', part .. ':places:' .. edge, '-inf', ARGV[4], 'LIMIT', 0, tonumber(ARGV[2]))
for _, member in ipairs(members) do
  local id, public = string.match(member, '^([^:]*):(.*)$')
  local tx = KEYS[2] .. ':' .. id
  local place = row(tx, public, 'p')
  local m = read_meta(tx, 'hooks')
  if m and place and edge_of(place) == edge then
    free(tx, part, id, public, place, m, tonumber(ARGV[3])) -- branch: freed
  else
    redis.call('ZREM', part .. ':places:' .. edge, member) -- branch: stale
  end
end
return #members
