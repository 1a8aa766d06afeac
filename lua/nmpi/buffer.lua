-- SPDX-License-Identifier: MIT
-- What a script passes as data, turned into an array for the core: arrays as they are, raw FFI arrays, strings and
-- numbers through scratch arrays that are made once, arrays of other libraries through the resolvers registered for
-- them.

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local dtype = require "nmpi.dtype"

local type, tonumber, tostring = type, tonumber, tostring
local cast, istype, sizeof, typeof = ffi.cast, ffi.istype, ffi.sizeof, ffi.typeof
local READONLY, CHAR = C.NMPI_READONLY, C.NMPI_CHAR

local array_ct = typeof "nmpi_array"

local buffer = {
  IN_PLACE = array_ct { flags = C.NMPI_IN_PLACE },
  --- What keeps foreign memory alive, by the arrays on it.
  anchors = setmetatable({}, { __mode = "k" }),
}
local anchors = buffer.anchors

-- ---- foreign arrays ----

local adapters = {} -- pairs of a predicate and a resolver, the newest first

-- The first pair whose predicate says yes, or nil. Generated without a loop: a loop of a few rounds within a routine
-- would spoil the traces of the script's loops around it.
local find_adapter = function() return nil end

local function generate()
  local lines = { "local a = ... return function(value)" }
  for i = 1, #adapters do
    lines[#lines + 1] = ("if a[%d].predicate(value) then return a[%d] end"):format(i, i)
  end
  lines[#lines + 1] = "return nil end"
  return loadstring(table.concat(lines, "\n"), "=nmpi.buffer")(adapters)
end

-- ---- raw FFI arrays ----

-- A compiled trace cannot ask ffi.sizeof for the length of a VLA, but the object's header holds it, just before
-- the part that all cdata share. Where that proves wrong we ask ffi.sizeof, at the cost of the trace.
local vla_length_index
local vlas = {} -- by length; one takes more than 16 bits
for _, n in ipairs { 1, 77, 12345, 70001 } do vlas[n] = ffi.new("char[?]", n) end
for index = -8, -2 do
  local holds = true
  for n, vla in pairs(vlas) do
    holds = holds and cast("const uint32_t *", cast("uintptr_t", vla))[index] == n
  end
  if holds then vla_length_index = index end
end

local uint32_pointer = typeof "const uint32_t *"

--- The bytes of a VLA.
function buffer.vla_bytes(vla)
  if vla_length_index then return cast(uint32_pointer, vla)[vla_length_index] end
  return (sizeof(vla))
end

local vla_bytes = buffer.vla_bytes

-- What is known of a cdata type, by its id: a raw FFI array's element type and shape, or a foreign array's adapter;
-- false if it is neither.
local types = {}

--- NMPI_READONLY if what a pointer or FFI array refers to is const, else 0: such a one does not become a `void *`.
-- The name of the type does not tell: that of a complex is printed without its const.
function buffer.constness(value)
  return pcall(ffi.new, "void *", value) and 0 or READONLY
end

local function examine(value, ctype)
  local printed = tostring(ctype):match "^ctype<(.*)>$"
  local element, extents = printed:match "^(.-) %(&%)(%[.*%])$"
  local reference = element ~= nil
  if not reference then element, extents = printed:match "^(.-) (%[.*%])$" end
  if not element or element:find "[*&(]" then return false end
  local known, element_ctype = pcall(typeof, element)
  local description
  if known then
    description = dtype.of_ctype(element_ctype)
  else
    description = dtype.of_printed(element) -- an unnamed struct has no name that typeof understands
  end
  if not description then return nil end -- an unnamed struct may become known later
  local shape = {}
  for extent in extents:gmatch "%[([^%]]*)%]" do shape[#shape + 1] = tonumber(extent) or false end
  local vla = shape[1] == false
  if vla and reference then return false end -- the last field of a struct: nothing tells its length
  return {
    description = description,
    shape = shape,
    vla = vla,
    reference = reference, -- into something larger
    length = not vla and sizeof(ctype) / description.itemsize or nil,
    flags = buffer.constness(value),
  }
end

local function examine_value(value, ctype)
  local known = examine(value, ctype)
  if known == false then return find_adapter(value) or false end
  return known
end

-- It runs once for a type: a trace of that call would be of no use to later ones, which would link to it.
jit.off(examine)
jit.off(examine_value)

-- What is known of a value that is neither nil, an nmpi array nor a string: nil if it is no array.
local function kind_of(value)
  local kind = type(value)
  if kind == "cdata" then
    local ctype = typeof(value)
    if tonumber(value) then return nil end -- a ctype, which has the type id that its objects have
    local id = tonumber(ctype)
    local known = types[id]
    if known == nil then
      known = examine_value(value, ctype)
      types[id] = known
    end
    return known or nil
  end
  -- Objects of one metatable may differ, so each is asked about.
  if kind == "table" or kind == "userdata" then return (find_adapter(value)) end
  return nil
end

--- What is known of a raw FFI array's type: description, shape, vla, length, flags. Nil for anything else.
function buffer.type_of(value)
  local known = kind_of(value)
  if known and known.resolver then return nil end
  return known
end

--- The resolver of a foreign array, or nil.
function buffer.resolver_of(value)
  local known = kind_of(value)
  return known and known.resolver
end

--- The bytes of a raw FFI array.
function buffer.bytes_of(value, known)
  return known.vla and vla_bytes(value) or known.length * known.description.itemsize
end

--- Whether a value can be received into, save for what its memory allows: an array, a raw FFI array or a foreign array.
function buffer.is_buffer(value)
  return type(value) == "cdata" and istype(array_ct, value) or kind_of(value) ~= nil
end

--- Adds a kind of foreign array; see `arrays.register_buffer`.
function buffer.register(predicate, resolver)
  if type(predicate) ~= "function" then
    check.mismatch("register_buffer", "predicate", "a function", predicate)
  elseif type(resolver) ~= "function" then
    check.mismatch("register_buffer", "resolver", "a function", resolver)
  end
  table.insert(adapters, 1, { predicate = predicate, resolver = resolver })
  find_adapter = generate()
  for id, known in pairs(types) do
    if not known or known.resolver then types[id] = nil end
  end
end

--- An array on the memory of a foreign array, which it keeps alive; memory, shape, dtype and strides are what its
-- resolver has returned. `buffer.wrap` is mpi.wrap for raw memory, and `buffer.shaped` makes an array, in its own
-- shape, of what is no nmpi array: array.lua, which needs this file, provides both.
function buffer.view(value, where, memory, shape, element, strides)
  local a = buffer.wrap(memory, shape, element, strides, where .. ": resolver of register_buffer")
  -- Both: the object may let go of its memory.
  anchors[a] = { value, memory }
  return a
end

-- By the type id of a pointer, what it points to: description (nil if it is no element) and flags; false for what is
-- no pointer.
local pointees = {}

local function examine_pointer(value)
  local printed = tostring(typeof(value)):match "^ctype<(.-) ?%*>$"
  if not printed or not pcall(cast, "const void *", value) then return false end
  local known, ctype = pcall(typeof, printed)
  local description
  if known then description = dtype.of_ctype(ctype) else description = dtype.of_printed(printed) end
  return { description = description, flags = buffer.constness(value) }
end

jit.off(examine_pointer) -- as examine

--- What is known of what a pointer points to: description (nil if it is no element) and flags; false if it is none.
function buffer.pointee_of(value)
  local id = tonumber(typeof(value))
  local known = pointees[id]
  if known == nil then
    known = examine_pointer(value)
    -- An unnamed struct may become known later.
    if known == false or known.description then pointees[id] = known end
  end
  return known
end

local function set(a, d, extent, stride)
  if type(extent) ~= "number" or extent < 0 or extent % 1 ~= 0 or extent > 2 ^ 53 then return false end
  if type(stride) ~= "number" or stride % 1 ~= 0 or stride < -2 ^ 53 or stride > 2 ^ 53 then return false end
  C.nmpi_array_set_extent(a, d, extent)
  C.nmpi_array_set_stride(a, d, stride)
  return true
end

-- For lists; where there are no strides, any numbers will do.
local function set_all(a, n, e, s)
  return n <= 8 and (n < 1 or set(a, 0, e[1], s[1])) and (n < 2 or set(a, 1, e[2], s[2]))
    and (n < 3 or set(a, 2, e[3], s[3])) and (n < 4 or set(a, 3, e[4], s[4]))
    and (n < 5 or set(a, 4, e[5], s[5])) and (n < 6 or set(a, 5, e[6], s[6]))
    and (n < 7 or set(a, 6, e[7], s[7])) and (n < 8 or set(a, 7, e[8], s[8]))
end

-- Describes what a resolver has returned by a scratch array. Nil where that needs more care: for what is wrong, or
-- rare. There are no loops here, and no new array with its finalizer: both would make traces of the script's loops
-- fail, and in the end those of all loops that call the same routine.
local function sketch(a, memory, shape, element, strides)
  if type(memory) ~= "cdata" or istype(array_ct, memory) or tonumber(memory) then return nil end
  local known, bytes = types[tonumber(typeof(memory))], -1
  if known and known.description then
    bytes = known.vla and vla_bytes(memory) or known.length * known.description.itemsize
    if not known.reference then anchors[a] = memory end -- a resolver may have made it for this call
  else
    known = buffer.pointee_of(memory)
    if not known then return nil end
  end
  local description = known.description
  if type(element) == "string" then description = dtype.by_name[element] end
  if not description or type(element) == "cdata" then return nil end

  local ndim, strided = 1, type(strides) ~= "nil"
  if type(shape) == "table" then
    ndim = #shape
    if strided and (type(strides) ~= "table" or #strides ~= ndim) then return nil end
    if not set_all(a, ndim, shape, strided and strides or shape) then return nil end
  elseif not set(a, 0, shape, strided and strides or 1) then
    return nil
  end
  local code = C.nmpi_array_wrap(a, memory, bytes, description.code, description.itemsize, description.ctype, ndim,
    strided and 1 or 0, known.flags)
  return code == 0 and a or nil
end

local function foreign(a, value, where, memory, shape, element, strides)
  local sketched = sketch(a, memory, shape, element, strides)
  if sketched then return sketched end
  return (buffer.view(value, where, memory, shape, element, strides))
end

local EXPECTED = "an array (nmpi or FFI)"

--- Raises the error for a value that is no array.
function buffer.refuse(value, where, argument)
  local expected, kind = EXPECTED, type(value)
  local ctype = kind == "cdata" and tostring(typeof(value)) or ""
  if ctype:find "[*]" then
    expected = expected .. "; a pointer needs a count: mpi.wrap(pointer, count)"
  elseif ctype:find "^ctype<[%a ]+ %d+ .*%[" then
    expected = expected .. "; elements without a name need a dtype: mpi.wrap(array, nil, ctype)"
  elseif kind == "table" or kind == "userdata" or (kind == "cdata" and not tonumber(value)) then
    expected = expected .. "; other kinds need mpi.register_buffer"
  end
  return check.mismatch(where, argument, expected, value)
end

local function resolve(value, where, argument, scratch, view)
  local known = kind_of(value)
  if not known then return buffer.refuse(value, where, argument) end
  if known.resolver then return (foreign(view, value, where, known.resolver(value))) end
  local description = known.description
  local length = known.vla and vla_bytes(value) / description.itemsize or known.length
  return (C.nmpi_array_borrow(scratch, value, description.code, description.itemsize, description.ctype,
    length, known.flags))
end

-- ---- arrays for the core ----

local send_scratch, recv_scratch = array_ct(), array_ct()
local send_view, recv_view = array_ct(), array_ct()

--- The array to send from. Nil passes: the core knows whether this rank may leave the buffer out.
function buffer.send(value, where, argument)
  if type(value) == "nil" or istype(array_ct, value) then return value end
  if type(value) == "string" then
    return (C.nmpi_array_borrow(send_scratch, value, CHAR, 1, 0, #value, READONLY))
  end
  return (resolve(value, where, argument, send_scratch, send_view))
end

--- The array to receive into.
function buffer.recv(value, where, argument)
  if type(value) == "nil" or istype(array_ct, value) then return value end
  if type(value) == "string" then return check.mismatch(where, argument, "a writable array", value) end
  return (resolve(value, where, argument, recv_scratch, recv_view))
end

--- The memory of a value that `send` or `recv` has accepted, where that is another object, which the value need not
-- keep alive: what an array is a view of, or what a resolver has returned, perhaps for this call alone. `array` is what
-- they made of the value.
function buffer.memory_of(value, array)
  if type(value) == "string" then return nil end
  if istype(array_ct, value) then return anchors[value] end
  return kind_of(value).resolver and anchors[array]
end

-- ---- numbers ----

local send_element, recv_element = ffi.new "double[1]", ffi.new "double[1]"

local send_number, recv_number = array_ct(), array_ct()
C.nmpi_array_borrow(send_number, send_element, C.NMPI_DOUBLE, 8, 0, 1, 0)
C.nmpi_array_borrow(recv_number, recv_element, C.NMPI_DOUBLE, 8, 0, 1, 0)

--- A number as an array of one double.
function buffer.send_number(number)
  send_element[0] = number
  return send_number
end

--- Where a reduction of numbers puts its result.
buffer.recv_number = recv_number

--- The number that arrived there.
function buffer.received_number()
  return recv_element[0]
end

return buffer
