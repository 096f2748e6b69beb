-- Takes the first free of the best few agents for one conversation.
--
-- KEYS: mark of the pool, then the state of each candidate.
-- ARGV: field of the hold, its channel, milliseconds of a hold, milliseconds of a state;
--       then `version,online,load,limit;` of each candidate as the caller knows them.
-- Returns: which candidate (0 none), whether a hold was in the way, whether a state was
--          newer than the caller's, whether the pool is whole.
--
-- A state that is missing or older is set to what the caller knows. A hold counts as
-- load until the caller's commit is told here, or until it runs out with its caller.
local mine, channel = ARGV[1], ARGV[2]
local hold_ms, keep_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local whole = redis.call('EXISTS', KEYS[1])
local holds = 'hold:' .. channel .. ':'
local held, newer, i = 0, 0, 1
for version, online, load, limit in string.gmatch(ARGV[5], '(%d+),(%d),(%d+),(%d+);') do
    i = i + 1
    local state = KEYS[i]
    version, load, limit = tonumber(version), tonumber(load), tonumber(limit)
    local pairs_found = redis.call('HGETALL', state)
    local known, count = {}, 0
    for n = 1, #pairs_found, 2 do
        local field, value = pairs_found[n], pairs_found[n + 1]
        if string.sub(field, 1, 5) ~= 'hold:' then
            known[field] = value
        elseif tonumber(value) <= now then
            redis.call('HDEL', state, field)
        elseif string.sub(field, 1, #holds) == holds and field ~= mine then
            count = count + 1
        end
    end
    local known_version = tonumber(known.version or '0')
    if known_version > version then
        newer = 1
        online = known.online or online
        load = tonumber(known['load:' .. channel] or '0')
        limit = tonumber(known['limit:' .. channel] or '0')
    elseif known_version < version or not known['limit:' .. channel] then
        if known_version < version then
            for field in pairs(known) do
                redis.call('HDEL', state, field)
            end
        end
        redis.call('HSET', state, 'version', version, 'online', online,
                   'load:' .. channel, load, 'limit:' .. channel, limit)
        redis.call('PEXPIRE', state, keep_ms)
    end
    if online == '1' and load < limit then
        if load + count < limit then
            redis.call('HSET', state, mine, now + hold_ms)
            return {i - 1, held, newer, whole}
        end
        held = 1
    end
end
return {0, held, newer, whole}
