-- Refuses what the transcoder lets pass: unknown fields, fields given twice,
-- text that is not quite JSON. `MESSAGES` and `RPCS` come before this text,
-- generated from the descriptors by lua.py:
--   MESSAGES[name][key] = {field, kind, message, repeated, map}
--   RPCS[route] = {message of the body or false, message of the query or false,
--                  fields that the query must not give, fields that the body must not give}
-- kind is "m" for a message, "v" for one value, "a" for anything.

local DEPTH_MAX = 32
local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local format = string.format

local text     -- the body being read
local trail    -- trail[depth] is the key or index that led there

local function escaped(value)
  return (value:gsub('[%c"\\\128-\255]', function(c) return format("\\u%04x", byte(c)) end))
end

local function fail(reason, description, depth)
  local names = {}
  for i = 1, depth do names[i] = tostring(trail[i]):sub(1, 100) end
  error({reason = reason, description = description, field = table.concat(names, ".")}, 0)
end

local function malformed(position, expected, depth)
  fail("MALFORMED_JSON", format("expected %s at byte %d", expected, position), depth)
end

local function skip(position)
  return find(text, "[^ \t\r\n]", position) or #text + 1
end

-- Return the position after the string that starts at `position`, and whether it has escapes.
local function after_string(position, depth)
  local plain = true
  local at = position + 1
  while true do
    at = find(text, '["\\%c]', at)
    if not at then malformed(#text + 1, "the end of a string", depth) end
    local c = byte(text, at)
    if c == 34 then return at + 1, plain end
    if c == 92 then
      plain = false
      if find(text, '^["\\/bfnrt]', at + 1) then at = at + 2
      elseif find(text, "^u%x%x%x%x", at + 1) then at = at + 6
      else malformed(at, "an escape sequence", depth) end
    elseif c == 127 then at = at + 1
    else malformed(at, "no control character in a string", depth) end
  end
end

local function after_number(position, depth)
  local at = match(text, "^-?0()", position) or match(text, "^-?[1-9]%d*()", position)
  if not at then malformed(position, "a value", depth) end
  at = match(text, "^%.%d+()", at) or at
  return match(text, "^[eE][+-]?%d+()", at) or at
end

local ESCAPES = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}

-- One pass, so that an escaped backslash does not start an escape of its own.
-- Keys beyond ASCII name no field: their escapes stay as they are.
local function unescaped(key)
  return (key:gsub("\\(.)(%x?%x?%x?%x?)", function(c, hex)
    if c ~= "u" then return (ESCAPES[c] or c) .. hex end
    local code = tonumber(hex, 16)
    return code < 128 and string.char(code) or nil
  end))
end

local value  -- below: object and array need it

local function field_of(message, key, depth)
  trail[depth] = key
  local field = message[key]
  if not field then fail("UNKNOWN_FIELD", "unknown field", depth) end
  return field
end

-- `message` is nil for free objects, `entry` the field of a map whose values these
-- are, `taken` the fields that the path gives.
local function object(position, depth, message, entry, taken)
  local seen = {}
  local at = skip(position + 1)
  if byte(text, at) == 125 then return at + 1 end
  while true do
    if byte(text, at) ~= 34 then malformed(at, "a key in quotes", depth - 1) end
    local stop, plain = after_string(at, depth - 1)
    local key = sub(text, at + 1, stop - 2)
    if not plain then key = unescaped(key) end
    local field = entry
    local name = key
    if message then
      field = field_of(message, key, depth)
      name = field[1]
    end
    trail[depth] = key
    if seen[name] then fail("DUPLICATE_FIELD", "given more than once", depth) end
    if taken and taken[name] then fail("DUPLICATE_FIELD", "given in the path", depth) end
    seen[name] = true
    at = skip(stop)
    if byte(text, at) ~= 58 then malformed(at, "a colon", depth) end
    at = skip(value(skip(at + 1), depth, field, entry ~= nil))
    local c = byte(text, at)
    if c == 125 then return at + 1 end
    if c ~= 44 then malformed(at, "a comma or the end of the object", depth - 1) end
    at = skip(at + 1)
  end
end

local function array(position, depth, field)
  local index = 0
  local at = skip(position + 1)
  if byte(text, at) == 93 then return at + 1 end
  while true do
    trail[depth] = index
    at = skip(value(at, depth, field, true))
    local c = byte(text, at)
    if c == 93 then return at + 1 end
    if c ~= 44 then malformed(at, "a comma or the end of the list", depth - 1) end
    at = skip(at + 1)
    index = index + 1
  end
end

local function expect(wanted, depth)
  fail("WRONG_TYPE", "expected " .. wanted, depth)
end

-- Read the value of `field` (nil: anything) and return the position after it.
-- `inside` is true for the elements of a list or map.
function value(position, depth, field, inside)
  if depth >= DEPTH_MAX then fail("MALFORMED_JSON", "nested too deeply", depth) end
  local c = byte(text, position)
  local kind = field and field[2] or "a"
  local listed = field and field[4] and not inside
  if c == 123 then
    if listed then expect("a list", depth) end
    if field and field[5] and not inside then return object(position, depth + 1, nil, field) end
    if kind == "v" then expect("a value", depth) end
    return object(position, depth + 1, kind == "m" and MESSAGES[field[3]] or nil)
  elseif c == 91 then
    if kind ~= "a" and not listed then expect("no list", depth) end
    return array(position, depth + 1, field)
  end
  if c == 110 and sub(text, position, position + 3) == "null" then return position + 4 end
  if listed then expect("a list", depth) end
  if kind == "m" or (field and field[5] and not inside) then
    if not c then malformed(position, "a value", depth) end
    expect("an object", depth)
  end
  if c == 34 then return (after_string(position, depth)) end
  if c == 116 and sub(text, position, position + 3) == "true" then return position + 4 end
  if c == 102 and sub(text, position, position + 4) == "false" then return position + 5 end
  return after_number(position, depth)
end

local function check_body(body, message, taken)
  text, trail = body, {}
  local at = skip(1)
  if byte(text, at) ~= 123 then malformed(at, "an object", 0) end
  at = skip(object(at, 1, MESSAGES[message], nil, taken))
  if at <= #text then malformed(at, "the end of the text", 0) end
end

local function decoded(part)
  part = part:gsub("+", " ")
  return (part:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function check_query(query, message, taken)
  trail = {}
  local seen = {}
  for part in query:gmatch("[^&]+") do
    local key = decoded(match(part, "^[^=]*"))
    local known, depth, field, canonical = message and MESSAGES[message], 0, nil, {}
    for name in (key .. "."):gmatch("([^.]*)%.") do
      depth = depth + 1
      if depth > DEPTH_MAX then fail("UNKNOWN_FIELD", "nested too deeply", DEPTH_MAX) end
      trail[depth] = name
      if not known then fail("UNKNOWN_FIELD", "unknown parameter", depth) end
      field = known[name]
      if not field then fail("UNKNOWN_FIELD", "unknown parameter", depth) end
      canonical[depth] = field[1]
      known = field[2] == "m" and not field[4] and MESSAGES[field[3]] or nil
    end
    if field[2] == "m" or field[5] then fail("WRONG_TYPE", "expected one of its fields", depth) end
    local name = table.concat(canonical, ".")
    if taken[canonical[1]] then fail("DUPLICATE_FIELD", "given elsewhere", depth) end
    if seen[name] and not field[4] then fail("DUPLICATE_FIELD", "given more than once", depth) end
    seen[name] = true
  end
end

local function answer(handle, status, code, reason, message, violation)
  local details = format(
    '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"%s",' ..
    '"domain":"interchange","metadata":{}}',
    reason)
  if violation then
    details = details .. format(
      ',{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":' ..
      '[{"field":"%s","description":"%s","reason":"%s"}]}',
      escaped(violation.field), escaped(violation.description), reason)
  end
  handle:respond(
    {[":status"] = status, ["content-type"] = "application/json"},
    format('{"code":%d,"message":"%s","details":[%s]}', code, escaped(message), details))
end

function envoy_on_request(handle)
  local rpc = RPCS[handle:filterContext():get("rpc")]
  local query = match(handle:headers():get(":path"), "%?([^#]*)")
  local body = handle:body()
  local bytes = body and body:length() > 0 and body:getBytes(0, body:length())
  local good, problem = pcall(function()
    if query and query ~= "" then check_query(query, rpc[2], rpc[3]) end
    if bytes then
      trail = {}
      if not rpc[1] then fail("MALFORMED_JSON", "the call takes no body", 0) end
      check_body(bytes, rpc[1], rpc[4])
    end
  end)
  text = nil
  if good then return end
  if type(problem) ~= "table" then
    -- A fault of this text must not let the call pass.
    handle:logErr(tostring(problem))
    return answer(handle, "500", 13, "INTERNAL", "the request could not be checked")
  end
  local message = problem.description
  if problem.field ~= "" then message = problem.field .. ": " .. message end
  answer(handle, "400", 3, problem.reason, message, problem.field ~= "" and problem or nil)
end
