-- SPDX-License-Identifier: MIT
-- Values on their way from one Lua state to another: copies of plain ones, and references to what the core holds.

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local dtypes = require "nmpi.dtype"
require "nmpi.array"

local cast, copy, istype, string_of, typeof = ffi.cast, ffi.copy, ffi.istype, ffi.string, ffi.typeof
local getmetatable, pairs, tonumber, tostring, type = getmetatable, pairs, tonumber, tostring, type
local mismatch = check.mismatch
local new_struct = ffi.new

local NIL, BOOLEAN, NUMBER, STRING = C.NMPI_VALUE_NIL, C.NMPI_VALUE_BOOLEAN, C.NMPI_VALUE_NUMBER, C.NMPI_VALUE_STRING
local TABLE, AGAIN, ARRAY = C.NMPI_VALUE_TABLE, C.NMPI_VALUE_AGAIN, C.NMPI_VALUE_ARRAY
local COMM, OP = C.NMPI_VALUE_COMM, C.NMPI_VALUE_OP
local NONE, STRUCT = C.NMPI_NONE, C.NMPI_STRUCT

local array_ct, comm_ct, op_ct = typeof "nmpi_array", typeof "nmpi_comm *", typeof "nmpi_op *"
local array_pointer = typeof "const nmpi_array *"
local values_ct = typeof "nmpi_value[?]"

local EXPECTED = "nil, a boolean, a number, a string, an array, a communicator, an operator, or a table of those"

local MAX_DEPTH = 100 -- each level is a recursion
local OPEN = 0 -- the number of a table that is being written

local values = {}

-- ---- writing ----

--- Where values are written. What they refer to must be kept until they have been read.
function values.writer()
  return { data = values_ct(16), room = 16, count = 0, depth = 0, tables = 0 }
end

--- Forgets what has been written.
function values.clear(w)
  w.count, w.depth, w.tables, w.known = 0, 0, 0, nil
end

local function grow(w)
  local room = 2 * w.room
  local data = values_ct(room)
  copy(data, w.data, w.count * ffi.sizeof "nmpi_value")
  w.data, w.room = data, room
end

local function append(w)
  if w.count == w.room then grow(w) end
  w.count = w.count + 1
  return w.data[w.count - 1]
end

local put

local function put_table(w, t, where, argument)
  if getmetatable(t) ~= nil then mismatch(where, argument, "a table without a metatable", t) end
  local known = w.known or {} -- by table: its number
  if known[t] == OPEN then mismatch(where, argument, "a table without cycles", t) end
  if known[t] then
    local v = append(w)
    v.kind, v.size = AGAIN, known[t]
    return
  end
  if w.depth == MAX_DEPTH then mismatch(where, argument, "tables at most 100 deep", t) end
  local head, number, pairs_put = w.count, w.tables + 1, 0
  w.known, w.tables, w.depth = known, number, w.depth + 1
  known[t] = OPEN
  append(w).kind = TABLE
  for key, value in pairs(t) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      mismatch(where, argument, "keys that are strings, numbers or booleans", key)
    end
    put(w, key, where, argument)
    put(w, value, where, argument, key)
    pairs_put = pairs_put + 1
  end
  w.data[head].size = pairs_put
  known[t], w.depth = number, w.depth - 1
end

local function put_array(w, a, where, argument)
  if a == nil or a.type == NONE then mismatch(where, argument, EXPECTED, a) end
  if a.owner == nil then
    mismatch(where, argument, "an array with storage of its own, which foreign memory has not (copy it)", a)
  end
  local v = append(w)
  v.kind, v.pointer = ARRAY, a
  C.nmpi_array_share(a) -- there is no other way to another thread
  if a.type ~= STRUCT then return end
  local name = a.dtype
  if name:find "^%a+ %d" then mismatch(where, argument, "an array of structs with a name (struct name { ... })", a) end
  put(w, name, where, argument)
end

--- Writes a value: the argument of that name, or, with a key, what the table of that name has there.
function put(w, value, where, argument, key)
  local kind = type(value)
  if kind == "number" then
    local v = append(w)
    v.kind, v.number = NUMBER, value
  elseif kind == "string" then
    local v = append(w)
    v.kind, v.pointer, v.size = STRING, value, #value
  elseif kind == "boolean" then
    local v = append(w)
    v.kind, v.number = BOOLEAN, value and 1 or 0
  elseif kind == "nil" then
    append(w).kind = NIL
  elseif istype(comm_ct, value) and value ~= nil then
    local v = append(w)
    v.kind, v.pointer = COMM, value
  elseif istype(op_ct, value) and value ~= nil then
    local v = append(w)
    v.kind, v.pointer = OP, value
  else
    if key ~= nil then argument = ("%s[%s]"):format(argument, tostring(key)) end
    if istype(array_ct, value) then
      put_array(w, value, where, argument)
    elseif kind == "table" then
      put_table(w, value, where, argument)
    else
      mismatch(where, argument, EXPECTED, value)
    end
  end
end

values.put = put

-- ---- reading ----

--- Where values are read from.
function values.reader(data)
  return { data = data, at = 0 }
end

local get

local function get_table(r, size)
  local t, tables = {}, r.tables or {}
  r.tables, tables[#tables + 1] = tables, t
  for _ = 1, size do
    local key = get(r)
    t[key] = get(r)
  end
  return t
end

-- The type of an array's elements has another id in each Lua state.
local function ctype_here(name, itemsize)
  local known, description = pcall(dtypes.resolve, name)
  if known and description.itemsize == itemsize then return description.ctype end
  return check.raise("thread", ("an array of %s has come to a thread that has not declared that type%s: give its "
    .. "declaration to thread.pool or thread.parallel, { n, cdef = \"...\" }"):format(name,
    known and " with this size" or ""))
end

local function get_array(r, from)
  local a, ctype = new_struct(array_ct), 0
  if from.type == STRUCT then ctype = ctype_here(get(r), from.itemsize) end
  check.status(C.nmpi_array_receive(a, from, ctype), "thread")
  return a
end

--- Reads the next value.
function get(r)
  local v = r.data[r.at]
  local kind = v.kind
  r.at = r.at + 1
  if kind == NUMBER then return v.number end
  if kind == STRING then return (string_of(v.pointer, v.size)) end
  if kind == BOOLEAN then return v.number ~= 0 end
  if kind == TABLE then return (get_table(r, tonumber(v.size))) end
  if kind == AGAIN then return r.tables[tonumber(v.size)] end
  if kind == ARRAY then return (get_array(r, cast(array_pointer, v.pointer))) end
  if kind == COMM then return (cast(comm_ct, v.pointer)) end
  if kind == OP then return (cast(op_ct, v.pointer)) end
  return nil
end

values.get = get

return values
