-- deployment: records how many partitions a deployment has and its secret, at its first use; says what is recorded.
--
-- KEYS 1 the deployment
-- ARGV 1 partitions  2 secret  3 format
-- Answers: partitions, secret, format, as recorded
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
redis.call('HSETNX', KEYS[1], 'secret', ARGV[2])
redis.call('HSETNX', KEYS[1], 'format', ARGV[3])
return redis.call('HMGET', KEYS[1], 'partitions', 'secret', 'format') -- branch: recorded
