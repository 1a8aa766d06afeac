-- SPDX-License-Identifier: MIT
-- What a script passes as data, turned into an array for the core: arrays as they are, raw FFI arrays and
-- numbers through scratch arrays that are made once.

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local dtype = require "nmpi.dtype"

local type, tonumber, tostring = type, tonumber, tostring
local cast, istype, sizeof, typeof = ffi.cast, ffi.istype, ffi.sizeof, ffi.typeof

local array_ct = typeof "nmpi_array"

local buffer = {
  IN_PLACE = array_ct { flags = C.NMPI_IN_PLACE },
}

-- ---- raw FFI arrays ----

-- A compiled trace cannot ask ffi.sizeof for the length of a VLA, but the object's header holds it, just before
-- the part that all cdata share. Where that proves wrong we ask ffi.sizeof, at the cost of the trace.
local vla_length_index
for index = -8, -2 do
  local holds = true
  for _, n in ipairs { 1, 77, 12345, 1000003 } do
    local vla = ffi.new("char[?]", n)
    holds = holds and cast("const uint32_t *", cast("uintptr_t", vla))[index] == n
  end
  if holds then vla_length_index = index end
end

local uint32_pointer = typeof "const uint32_t *"

local function vla_bytes(vla)
  if vla_length_index then return cast(uint32_pointer, vla)[vla_length_index] end
  return (sizeof(vla))
end

-- What is known of a cdata type, by its id; false if it is no array of elements.
local types = {}

local function examine(ctype)
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
    length = not vla and sizeof(ctype) / description.itemsize or nil,
    flags = element:find "^const " and C.NMPI_READONLY or 0,
  }
end

-- It runs once for a type: a trace of that call would be of no use to later ones, which would link to it.
jit.off(examine)

--- What is known of a cdata's type: description, shape, vla, length, flags. Nil if it is no array of elements.
function buffer.type_of(value)
  local ctype = typeof(value)
  if tonumber(value) then return nil end -- a ctype, which has the type id that its objects have
  local id = tonumber(ctype)
  local known = types[id]
  if known == nil then
    known = examine(ctype)
    types[id] = known
  end
  return known or nil
end

--- The bytes of a raw FFI array.
function buffer.bytes_of(value, known)
  return known.vla and vla_bytes(value) or known.length * known.description.itemsize
end

local type_of = buffer.type_of

--- Whether a value can be a buffer: an array or a raw FFI array.
function buffer.is_buffer(value)
  return type(value) == "cdata" and (istype(array_ct, value) or type_of(value) ~= nil)
end

local EXPECTED = "an array (nmpi or FFI)"

local function resolve(value, where, argument, scratch)
  if type(value) ~= "cdata" then return check.mismatch(where, argument, EXPECTED, value) end
  local known = type_of(value)
  if not known then
    local pointer = tostring(typeof(value)):find "[*]"
    return check.mismatch(where, argument,
      EXPECTED .. (pointer and "; a pointer needs a count: mpi.wrap(pointer, count)" or ""), value)
  end
  local description = known.description
  local length = known.vla and vla_bytes(value) / description.itemsize or known.length
  return (C.nmpi_array_borrow(scratch, value, description.code, description.itemsize, description.ctype,
    length, known.flags))
end

-- ---- arrays for the core ----

local send_scratch, recv_scratch = array_ct(), array_ct()

--- The array to send from. Nil passes: the core knows whether this rank may leave the buffer out.
function buffer.send(value, where, argument)
  if type(value) == "nil" or istype(array_ct, value) then return value end
  return (resolve(value, where, argument, send_scratch))
end

--- The array to receive into.
function buffer.recv(value, where, argument)
  if type(value) == "nil" or istype(array_ct, value) then return value end
  return (resolve(value, where, argument, recv_scratch))
end

--- What must be kept alive while MPI uses the memory of a value beyond the call.
function buffer.keep(value)
  return value
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
