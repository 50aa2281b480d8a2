-- outbox: what a transaction wants done in other partitions. Reads only.
--
-- KEYS 1 the transaction (suffix `:outbox`)
-- Answers: missing | outbox, number, status, result or nil, error type or nil, error message or nil, parent to tell or nil, fields
local tx = KEYS[1]
local m = redis.call('HMGET', tx, 'number', 'status', 'result', 'error_type', 'error_message')
if not m[1] then
  return { 'missing' } -- branch: missing
end
local box = tx .. ':outbox'
return { 'outbox', m[1], m[2], m[3], m[4], m[5], redis.call('HGET', box, 'e'), redis.call('HKEYS', box) } -- branch: outbox
