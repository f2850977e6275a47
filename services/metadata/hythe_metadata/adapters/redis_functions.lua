-- The server's part of the Redis body of the metadata store: every write and every question is one of these functions,
-- so each is one state, and none is half done. What the keys hold is said in redis_keys.py.
-- NAME is replaced by a name that no other version of this text has.

local STORE, BODY, BULK, UNIQUE, EDGES, NAMES, INDEX, OCCUPANTS, DUE, LOG, NUMBERS, AGES, OUTBOX, BATCHES, TURN, SENDER =
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
local TYPES = {'hash', 'hash', 'hash', 'hash', 'hash', 'zset', 'hash', 'hash', 'zset', 'stream', 'hash', 'zset', 'stream',
    'hash', 'string', 'string'}
local MAGIC = 'hythe-metadata'
local CHUNK_BYTES = 1048576

local function now_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns the revision and the mark of the store if it is the one that the caller opened, else nil and an error.
local function standing(keys, id)
    local found = redis.call('HMGET', keys[STORE], 'id', 'revision', 'mark', 'moved')
    if found[1] ~= id then
        return nil, nil, nil, redis.error_reply('HYTHEREPLACED ' .. (found[1] or 'empty'))
    end
    return found[2], found[3], found[4]
end

-- Returns many texts as two: their lengths, and all in one. A client reads two texts faster than thousands.
local function packed(texts)
    local lengths = {}
    for i = 1, #texts do
        lengths[i] = #texts[i]
    end
    return table.concat(lengths, ' '), table.concat(texts)
end

local function occupied(keys, place, change)
    if place ~= '' and redis.call('HINCRBY', keys[OCCUPANTS], place, change) == 0 then
        redis.call('HDEL', keys[OCCUPANTS], place)
    end
end

local function free(keys, key)
    for entry in string.gmatch(redis.call('HGET', keys[UNIQUE], key) or '', '[^\1]+') do
        if redis.call('HGET', keys[INDEX], entry) == key then
            redis.call('HDEL', keys[INDEX], entry)
        end
    end
end

local function remove(keys, key, place)
    free(keys, key)
    if redis.call('HDEL', keys[BODY], key) == 1 then
        redis.call('HDEL', keys[BULK], key)
        redis.call('HDEL', keys[UNIQUE], key)
        redis.call('HDEL', keys[EDGES], key)
        redis.call('ZREM', keys[NAMES], key)
        redis.call('ZREM', keys[DUE], key)
        occupied(keys, place, -1)
    end
end

local function set_or_delete(key, field, text)
    if text ~= '' then
        redis.call('HSET', key, field, text)
    else
        redis.call('HDEL', key, field)
    end
end

local function put(keys, now, key, body, bulk, unique, edges, place, keep_ms)
    free(keys, key)
    local made = redis.call('HSET', keys[BODY], key, body)
    if made == 1 then
        redis.call('ZADD', keys[NAMES], 0, key)
        occupied(keys, place, 1)
    end
    set_or_delete(keys[BULK], key, bulk)
    set_or_delete(keys[UNIQUE], key, unique)
    set_or_delete(keys[EDGES], key, edges)
    if keep_ms ~= '' then
        redis.call('ZADD', keys[DUE], now + tonumber(keep_ms), key)
    elseif made == 0 then
        redis.call('ZREM', keys[DUE], key)
    end
end

local function emit(keys, now, object, text)
    local number = redis.call('HINCRBY', keys[NUMBERS], object, 1)
    local sequence = redis.call('HINCRBY', keys[STORE], 'sequence', 1)
    redis.call('ZADD', keys[AGES], now, object)
    redis.call('XADD', keys[OUTBOX], sequence .. '-0', 'n', number, 't', now, 'e', text)
end

local function release(key, process)
    if redis.call('GET', key) == process then
        redis.call('DEL', key)
    end
end

-- Carries out a batch of changes made on the state that `expected` marks, unless the store has another mark by now.
-- A batch that was carried out already isn't a second time, however often it is sent.
local function commit(keys, args)
    local at = 0
    local function take()
        at = at + 1
        return args[at]
    end
    local id, process, batch, expected, revision, kept, channel = take(), take(), take(), take(), take(), take(), take()
    local present, mark, moved, replaced = standing(keys, id)
    if replaced then
        return replaced
    end
    local last = redis.call('HGET', keys[BATCHES], process)
    if last and string.match(last, '^%S+') == batch then
        return {'again', present, mark}
    end
    if moved then
        return redis.error_reply('HYTHEMOVED ' .. moved)
    end
    if mark ~= expected then
        return {'stale', present, mark}
    end
    local now = now_ms()
    for _ = 1, take() do -- first, for Redis refuses a revision that isn't a new one, and then nothing has happened yet
        redis.call('XADD', keys[LOG], 'MAXLEN', kept, take() .. '-0', 'c', take())
    end
    for _ = 1, take() do
        put(keys, now, take(), take(), take(), take(), take(), take(), take())
    end
    for _ = 1, take() do
        remove(keys, take(), take())
    end
    for _ = 1, take() do -- when all records have given up what they had
        redis.call('HSET', keys[INDEX], take(), take())
    end
    for _ = 1, take() do
        emit(keys, now, take(), take())
    end
    redis.call('HSET', keys[STORE], 'revision', revision, 'mark', batch)
    redis.call('HSET', keys[BATCHES], process, batch .. ' ' .. now)
    release(keys[TURN], process)
    redis.call('PUBLISH', channel, process)
    return {'done', revision, batch}
end

-- Returns records (body and bulk of each) and entries of the unique indexes.
local function get(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    local records = tonumber(args[2])
    local found = {revision, mark}
    for i = 3, 2 + records do
        found[#found + 1] = redis.call('HGET', keys[BODY], args[i])
        found[#found + 1] = redis.call('HGET', keys[BULK], args[i])
    end
    for i = 3 + records, #args do
        found[#found + 1] = redis.call('HGET', keys[INDEX], args[i])
    end
    return found
end

-- Returns the first records of a range of keys, key, body and bulk of each, and whether there may be more.
local function scan(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    local limit = tonumber(args[4])
    local names = redis.call('ZRANGE', keys[NAMES], args[2], args[3], 'BYLEX', 'LIMIT', 0, limit)
    local texts, bytes, taken = {}, 0, 0
    for _, name in ipairs(names) do
        local body = redis.call('HGET', keys[BODY], name)
        local bulk = redis.call('HGET', keys[BULK], name) or ''
        texts[#texts + 1], texts[#texts + 2], texts[#texts + 3] = name, body, bulk
        bytes, taken = bytes + #body + #bulk, taken + 1
        if bytes > CHUNK_BYTES then
            break
        end
    end
    local lengths, text = packed(texts)
    local more = (taken < #names or #names == limit) and 1 or 0
    return {revision, mark, more, lengths, text}
end

-- Returns some of the references and where to go on; a record may come twice, see `since`.
local function edges(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    local found = redis.call('HSCAN', keys[EDGES], args[2], 'COUNT', args[3])
    return {revision, mark, found[1], table.concat(found[2], '\2')}
end

local function first_of_log(keys)
    local first = redis.call('XRANGE', keys[LOG], '-', '+', 'COUNT', 1)[1]
    if first then
        return tonumber(string.match(first[1], '^%d+')) - 1
    end
    return tonumber(redis.call('HGET', keys[STORE], 'floor'))
end

-- Returns the keys of all records that changed after a revision, with their references now, and after which revision the
-- log begins.
local function since(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    local seen, texts = {}, {}
    for _, entry in ipairs(redis.call('XRANGE', keys[LOG], (args[2] + 1) .. '-0', '+')) do
        for change in string.gmatch(entry[2][2], '[^\1]+') do
            local key = string.sub(change, 2)
            if not seen[key] then
                seen[key] = true
                texts[#texts + 1], texts[#texts + 2] = key, redis.call('HGET', keys[EDGES], key) or ''
            end
        end
    end
    return {revision, mark, first_of_log(keys), table.concat(texts, '\2')}
end

-- Returns entries of the log of changes after a revision, and after which revision the log begins.
local function changes(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    local found = redis.call('XRANGE', keys[LOG], (args[2] + 1) .. '-0', '+', 'COUNT', args[3])
    return {revision, mark, first_of_log(keys), found}
end

local function occupants(keys, args)
    local revision, mark, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    return {revision, mark, redis.call('HGETALL', keys[OCCUPANTS])}
end

-- Forgets records whose time has come, and numbers of objects of which nothing was told for long.
local function forget(keys, args)
    local id, batch, limit, kept, channel, keep_numbers_ms = args[1], args[2], args[3], args[4], args[5], args[6]
    local revision, mark, moved, replaced = standing(keys, id)
    if replaced then
        return replaced
    end
    if moved then
        return {revision, mark, 0}
    end
    local internal = {}
    for i = 7, #args do
        internal[args[i]] = true
    end
    local now = now_ms()
    local due = redis.call('ZRANGE', keys[DUE], '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
    local told = {}
    for _, key in ipairs(due) do
        local kind, namespace = string.match(key, '^([^%z]*)%z([^%z]*)')
        remove(keys, key, internal[kind] and '' or namespace .. '\0' .. kind)
        told[#told + 1] = 'F' .. key
    end
    if #due > 0 then
        revision, mark = string.format('%.0f', revision + 1), batch
        redis.call('XADD', keys[LOG], 'MAXLEN', kept, revision .. '-0', 'c', table.concat(told, '\1'))
        redis.call('HSET', keys[STORE], 'revision', revision, 'mark', mark)
        redis.call('PUBLISH', channel, batch)
    end
    local oldest = redis.call('XRANGE', keys[OUTBOX], '-', '+', 'COUNT', 1)[1]
    local until_ms = now - tonumber(keep_numbers_ms)
    if oldest then
        until_ms = math.min(until_ms, tonumber(oldest[2][4]) - 1)
    end
    for _, object in ipairs(redis.call('ZRANGE', keys[AGES], '-inf', until_ms, 'BYSCORE', 'LIMIT', 0, limit)) do
        redis.call('HDEL', keys[NUMBERS], object)
        redis.call('ZREM', keys[AGES], object)
    end
    return {revision, mark, #due}
end

-- Returns events to the process that has the sender's turn, which it takes if nobody has it.
local function outgoing(keys, args)
    local id, process, after, limit, turn_ms = args[1], args[2], args[3], args[4], args[5]
    local _, _, moved, replaced = standing(keys, id)
    if replaced then
        return replaced
    end
    local holder = redis.call('GET', keys[SENDER])
    if moved or (holder and holder ~= process) then
        return {'other', {}}
    end
    local found = redis.call('XRANGE', keys[OUTBOX], (after + 1) .. '-0', '+', 'COUNT', limit)
    if not holder and #found == 0 then
        return {'none', {}}
    end
    if #found > 0 then
        redis.call('SET', keys[SENDER], process, 'PX', turn_ms)
    end
    return {holder and 'mine' or 'taken', found}
end

-- Forgets events that were sent.
local function sent(keys, args)
    local _, _, _, replaced = standing(keys, args[1])
    if replaced then
        return replaced
    end
    for i = 2, #args do
        redis.call('XDEL', keys[OUTBOX], args[i] .. '-0')
    end
    return #args - 1
end

-- Tells whether events wait that nobody has the turn to send; lengthens the turn of the process if it asks for that.
local function wait(keys, args)
    if args[3] ~= '' and redis.call('GET', keys[SENDER]) == args[2] then
        redis.call('PEXPIRE', keys[SENDER], args[3])
    end
    return (redis.call('EXISTS', keys[SENDER]) == 0 and redis.call('XLEN', keys[OUTBOX]) > 0) and 1 or 0
end

-- Gives up what a process holds.
local function leave(keys, args)
    release(keys[TURN], args[1])
    release(keys[SENDER], args[1])
    redis.call('HDEL', keys[BATCHES], args[1])
    return 1
end

-- Returns what is said of the store, which is made if there is nothing: magic, schema, id, era, revision, mark, moved.
local function open(keys, args)
    local others = false
    for i = 1, #TYPES do
        local type = redis.call('TYPE', keys[i]).ok
        if type ~= 'none' and type ~= TYPES[i] then
            return redis.error_reply('HYTHEFOREIGN ' .. keys[i] .. ' is a ' .. type)
        end
        others = others or (i > STORE and i < TURN and type ~= 'none')
    end
    if redis.call('EXISTS', keys[STORE]) == 0 then
        if others then
            return redis.error_reply('HYTHEDAMAGED ' .. keys[STORE] .. ' is missing, and records are there')
        end
        redis.call('HSET', keys[STORE], 'magic', MAGIC, 'schema', args[1], 'id', args[2], 'era', 1, 'revision', 0,
            'mark', args[2], 'sequence', 0, 'floor', 0)
    end
    local old = now_ms() - 86400000
    local batches = redis.call('HGETALL', keys[BATCHES])
    for i = 1, #batches, 2 do
        if tonumber(string.match(batches[i + 1], '%d+$')) < old then
            redis.call('HDEL', keys[BATCHES], batches[i])
        end
    end
    return redis.call('HMGET', keys[STORE], 'magic', 'schema', 'id', 'era', 'revision', 'mark', 'moved')
end

redis.register_function{function_name = 'NAME_open', callback = open}
redis.register_function{function_name = 'NAME_commit', callback = commit}
redis.register_function{function_name = 'NAME_forget', callback = forget, flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_outgoing', callback = outgoing, flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_sent', callback = sent, flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_wait', callback = wait, flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_leave', callback = leave, flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_get', callback = get, flags = {'no-writes'}}
redis.register_function{function_name = 'NAME_scan', callback = scan, flags = {'no-writes'}}
redis.register_function{function_name = 'NAME_edges', callback = edges, flags = {'no-writes'}}
redis.register_function{function_name = 'NAME_since', callback = since, flags = {'no-writes'}}
redis.register_function{function_name = 'NAME_changes', callback = changes, flags = {'no-writes'}}
redis.register_function{function_name = 'NAME_occupants', callback = occupants, flags = {'no-writes'}}
