-- renew: extends the leases that a worker still holds. Held: under its epoch, at the commit number that it knows or a later one
-- (a commit of its own may be under way); a lower one means that Redis lost writes. Takes back what `due` had made ready.
--
-- KEYS 1 the partition (suffixes of lib/wake), 2 the prefix of its transactions (suffix `:<id>`, then `:inbox`, `:changes`)
-- ARGV 1 worker  2 lease ms  3.. id, epoch, number of each
-- Answers: for each 0 lost, or 1 held, plus 2 where something waits, plus 4 where its cancel flag is set
--
-- include: clock, wake
local part, worker, lease = KEYS[1], ARGV[1], now + tonumber(ARGV[2])
local answers = {}
for i = 3, #ARGV, 3 do
  local id, tx, answer = ARGV[i], KEYS[2] .. ':' .. ARGV[i], 0
  local m = read_meta(tx, 'epoch', 'number', 'cancel')
  if not m then
    answer = 0 -- branch: missing
  elseif m.epoch ~= ARGV[i + 1] then
    answer = 0 -- branch: another epoch
  elseif m.status ~= 'running' or m.owner ~= worker then
    answer = 0 -- branch: released
  elseif tonumber(m.number) < tonumber(ARGV[i + 2]) then
    answer = 0 -- branch: rewound
  else
    answer = 1 -- branch: held
    redis.call('HSET', tx, 'lease', int(lease))
    if redis.call('ZSCORE', part .. ':due', 'l:' .. id) then
      redis.call('ZADD', part .. ':due', int(lease), 'l:' .. id)
    else
      due_at(part, 'l:' .. id, lease) -- branch: taken back
      redis.call('ZREM', ready_key(part, m.queue, m.state, m.version), id)
    end
    if redis.call('XLEN', tx .. ':inbox') > 0 or redis.call('ZCOUNT', tx .. ':changes', '-inf', int(now)) > 0 then
      answer = answer + 2 -- branch: waiting
    end
    if m.cancel then
      answer = answer + 4 -- branch: cancelled
    end
  end
  answers[#answers + 1] = answer
end
return answers
