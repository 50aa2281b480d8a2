-- deployment: records how many partitions a deployment has, its secret and its durability, at its first use; says what is
-- recorded.
--
-- KEYS 1 the deployment
-- ARGV 1 partitions  2 secret  3 format  4 durability
-- Answers: partitions, secret, format, durability, as recorded
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
redis.call('HSETNX', KEYS[1], 'secret', ARGV[2])
redis.call('HSETNX', KEYS[1], 'format', ARGV[3])
redis.call('HSETNX', KEYS[1], 'durability', ARGV[4])
return redis.call('HMGET', KEYS[1], 'partitions', 'secret', 'format', 'durability') -- branch: recorded
