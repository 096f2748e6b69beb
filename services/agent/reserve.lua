-- Takes the first free of the best few agents for one conversation.
--
-- KEYS: mark of the pool, then of each candidate his state and his holds.
-- ARGV: token, channel, milliseconds of a hold, milliseconds of a state; then of each
--       candidate version, online (1 or 0), load and limit as the caller knows them.
-- Returns: which candidate (0 none), whether a hold was in the way, whether a state was
--          newer than the caller's, whether the pool is whole.
--
-- A state that is missing or older is set to what the caller knows. A hold counts as
-- load until the caller's commit is told here, or until it runs out with its caller.
local token, channel = ARGV[1], ARGV[2]
local hold_ms, keep_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local whole = redis.call('EXISTS', KEYS[1])
local held, newer = 0, 0
for i = 1, (#KEYS - 1) / 2 do
    local state, holds = KEYS[2 * i], KEYS[2 * i + 1]
    local at = 4 * i
    local version, online = tonumber(ARGV[at + 1]), ARGV[at + 2]
    local load, limit = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local known = redis.call('HMGET', state, 'version', 'online', 'load:' .. channel,
                             'limit:' .. channel)
    local known_version = tonumber(known[1] or '0')
    if known_version > version then
        newer = 1
        online = known[2] or online
        load, limit = tonumber(known[3] or '0'), tonumber(known[4] or '0')
    elseif known_version < version or not known[4] then
        if known_version < version then
            redis.call('DEL', state)
        end
        redis.call('HSET', state, 'version', version, 'online', online,
                   'load:' .. channel, load, 'limit:' .. channel, limit)
        redis.call('PEXPIRE', state, keep_ms)
    end
    if online == '1' and load < limit then
        redis.call('ZREMRANGEBYSCORE', holds, '-inf', now)
        local mine = channel .. ':' .. token
        local count = 0
        for _, member in ipairs(redis.call('ZRANGE', holds, 0, -1)) do
            if string.sub(member, 1, #channel + 1) == channel .. ':' and member ~= mine then
                count = count + 1
            end
        end
        if load + count < limit then
            redis.call('ZADD', holds, now + hold_ms, mine)
            redis.call('PEXPIRE', holds, hold_ms)
            return {i, held, newer, whole}
        end
        held = 1
    end
end
return {0, held, newer, whole}
