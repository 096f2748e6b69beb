-- Stores what was committed of one agent, and ends the holds that it settles.
--
-- KEYS: his state.
-- ARGV: version, forced (1 or 0), milliseconds of a state, number of fields; the fields
--       with their values; then the holds that end.
-- What is older than known is not stored, unless it is forced: read from the tables,
-- which know better. Holds of others stay.
local state, version, fields = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[4])
local known = tonumber(redis.call('HGET', state, 'version') or '0')
if version >= known or ARGV[2] == '1' then
    for _, field in ipairs(redis.call('HKEYS', state)) do
        if string.sub(field, 1, 5) ~= 'hold:' then
            redis.call('HDEL', state, field)
        end
    end
    redis.call('HSET', state, 'version', version, unpack(ARGV, 5, 4 + 2 * fields))
    redis.call('PEXPIRE', state, tonumber(ARGV[3]))
end
if #ARGV > 4 + 2 * fields then
    redis.call('HDEL', state, unpack(ARGV, 5 + 2 * fields))
end
return 0
