-- Stores what was committed of one agent, and ends the holds that it settles.
--
-- KEYS: his state, his holds.
-- ARGV: version, forced (1 or 0), milliseconds of a state, number of fields; the fields
--       with their values; then the holds that end.
-- What is older than known is not stored, unless it is forced: read from the tables,
-- which know better.
local version, fields = tonumber(ARGV[1]), tonumber(ARGV[4])
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version >= known or ARGV[2] == '1' then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'version', version, unpack(ARGV, 5, 4 + 2 * fields))
    redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]))
end
if #ARGV > 4 + 2 * fields then
    redis.call('ZREM', KEYS[2], unpack(ARGV, 5 + 2 * fields))
end
return 0
