-- probe: uses each kind of command that the scripts use, so that a server whose rules forbid one says so at start-up.
--
-- KEYS 1 a key of no meaning (suffixes `:stream`, `:hash`, `:set`, `:text`, and the channel `:live`), gone afterwards
-- Answers: 1
--
-- include: clock
local stream, hash, set, text = KEYS[1] .. ':stream', KEYS[1] .. ':hash', KEYS[1] .. ':set', KEYS[1] .. ':text'
-- An id of the server's: one of ours would stand in the way of the next probe, where this one is refused half way.
local id = redis.call('XADD', stream, 'MAXLEN', '1', '*', 'f', 'v')
redis.call('XRANGE', stream, '-', '+')
redis.call('XREVRANGE', stream, '+', '-')
redis.call('XLEN', stream)
redis.call('XDEL', stream, id)
redis.call('XTRIM', stream, 'MINID', '2')
redis.call('HSET', hash, 'f', '1')
redis.call('HSETNX', hash, 'f', '1')
redis.call('HINCRBY', hash, 'f', 1)
redis.call('HGET', hash, 'f')
redis.call('HMGET', hash, 'f')
redis.call('HGETALL', hash)
redis.call('HDEL', hash, 'f')
redis.call('ZADD', set, '1', 'm')
redis.call('ZCARD', set)
redis.call('ZCOUNT', set, '-inf', '+inf')
redis.call('ZRANGE', set, 0, 0)
redis.call('ZRANGEBYSCORE', set, '-inf', '+inf')
redis.call('ZREVRANGEBYSCORE', set, '+inf', '-inf')
redis.call('ZSCORE', set, 'm')
redis.call('ZREMRANGEBYSCORE', set, '-inf', '0')
redis.call('ZREM', set, 'm')
redis.call('PEXPIRE', set, 1000)
redis.call('PERSIST', set)
redis.call('HEXISTS', hash, 'f')
redis.call('HKEYS', hash)
redis.call('HLEN', hash)
redis.call('EXISTS', hash)
redis.call('SET', text, 'v', 'PX', 1000)
redis.call('GET', text)
redis.call('SPUBLISH', KEYS[1] .. ':live', '')
redis.call('UNLINK', stream, hash, set, text)
return 1 -- branch: allowed
