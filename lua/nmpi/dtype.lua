-- SPDX-License-Identifier: MIT
-- Element types: from what a script says to the core's code, and back.

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"

local type, tostring, tonumber = type, tostring, tonumber
local typeof = ffi.typeof

-- A description is a table: code, itemsize, ctype (the FFI id of a struct, else 0), name, element and pointer (ctypes).
local by_name, by_printed, by_id = {}, {}, {}
local structs = {} -- by ctype id

local NUMPY_NAMES = {
  float32 = "float", float64 = "double", complex64 = "complex float", complex128 = "complex double",
  complex = "complex double",
}

local function printed_name(ctype)
  return (tostring(ctype):match "^ctype<(.*)>$":gsub("^const ", ""))
end

for code = 1, C.NMPI_DTYPE_COUNT - 1 do
  if code ~= C.NMPI_STRUCT then
    local name, ctype = ffi.string(C.nmpi_dtype_name(code)), ffi.string(C.nmpi_dtype_ctype(code))
    local description = {
      code = code, itemsize = C.nmpi_dtype_size(code), ctype = 0, name = name,
      element = typeof(ctype), pointer = typeof(ctype .. " *"),
    }
    by_name[name] = description
    -- To LuaJIT char and int8_t are one type; it is the number unless a script says "char".
    local printed = printed_name(typeof(ctype))
    by_printed[printed] = by_printed[printed] or description
  end
end
for alias, name in pairs(NUMPY_NAMES) do by_name[alias] = by_name[name] end

local function examine(ctype)
  local printed = printed_name(ctype):gsub(" &$", "")
  if by_printed[printed] then return by_printed[printed] end
  -- Elements are neither const (that is the array's affair) nor references.
  if tostring(ctype) ~= "ctype<" .. printed .. ">" then
    local known, plain = pcall(typeof, printed)
    if not known then return nil end
    ctype = plain
  end
  if printed:match "^enum " then
    return by_name[ffi.cast(ctype, -1) < 0 and "int32" or "uint32"]
  end
  if printed == "struct nmpi_array" then return nil end -- a copy of one would not be counted
  if not printed:match "^struct [^*&[]*$" and not printed:match "^union [^*&[]*$" then return nil end
  local sized, size = pcall(ffi.sizeof, ctype)
  if not sized or not size or size == 0 then return nil end
  local description = {
    code = C.NMPI_STRUCT, itemsize = size, ctype = tonumber(ctype), name = printed,
    element = ctype, pointer = typeof("$ *", ctype),
  }
  structs[description.ctype] = description
  by_printed[printed] = description
  by_name[printed] = description
  return description
end

local dtype = { structs = structs, by_name = by_name }

--- The description of a ctype, or nil if it cannot be an element.
function dtype.of_ctype(ctype)
  local id = tonumber(ctype)
  if by_id[id] == nil then by_id[id] = examine(ctype) or false end
  return by_id[id] or nil
end

--- The description of a type by the name that LuaJIT prints, or nil: for structs seen before.
function dtype.of_printed(name)
  return by_printed[(name:gsub("^const ", ""))]
end

--- The description of what a script passes as dtype: nil for double, a name, or a ctype.
function dtype.resolve(value, where)
  if type(value) == "nil" then return by_name.double end
  if type(value) == "string" then
    if by_name[value] then return by_name[value] end
    local known, ctype = pcall(typeof, value)
    local description = known and dtype.of_ctype(ctype)
    if description then
      by_name[value] = description
      return description
    end
  elseif type(value) == "cdata" and tostring(value):match "^ctype<" then
    local description = dtype.of_ctype(value)
    if description then return description end
  end
  return check.mismatch(where, "dtype",
    "int8 ... int64, uint8 ... uint64, float, double, complex float, complex double, bool, char, "
    .. "a pair (double_int ...) or a C struct of fixed size", value)
end

return dtype
