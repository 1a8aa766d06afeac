-- SPDX-License-Identifier: MIT
--- Arrays and views.
--
-- An array is one cdata of type `nmpi_array`: a pointer to its first element, a dtype, a shape and strides. Indices
-- are 0-based and ranges half-open; memory is row-major (C order) unless Fortran order is asked for. Slicing makes
-- another array on the same storage, which lives as long as any array on it.
--
-- **dtypes**: `int8` ... `int64`, `uint8` ... `uint64`, `float` (`float32`), `double` (`float64`), `complex float`
-- (`complex64`), `complex double` (`complex128`), `bool`, `char`, any C type that FFI knows as one of these (`int`,
-- `size_t`), the pairs of MAXLOC and MINLOC with the fields `value` and `index` (`float_int`, `double_int`,
-- `long_int`, `short_int`, `2int`), and any FFI struct of fixed size, as a ctype or its name.
--
-- **Fields** of an array `a`: `a.dtype` (name), `a.ndim`, `a.size` (elements), `a.itemsize` (bytes), `a.shape[d]` and
-- `a.strides[d]` (elements; d from 0), `a.data` (typed pointer to the first element; it does not keep the array
-- alive). `#a` is the extent of dimension 0.
--
-- **Elements**: `a[i]` and `a[i] = x` in one dimension, `a:get` and `a:set` in any. They cost what a raw pointer
-- costs and are checked against the bounds only under `NMPI_DEBUG=1`.
-- @module nmpi.array

local ffi = require "ffi"
local bit = require "bit"
local lib = require "nmpi.lib"
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local lists = require "nmpi.lists"
local dtypes = require "nmpi.dtype"
local C = lib.core

local type, tonumber, tostring = type, tonumber, tostring
local cast, istype, typeof, band = ffi.cast, ffi.istype, ffi.typeof, bit.band
local collectgarbage = collectgarbage
local new_struct = ffi.new

local array_ct = typeof "nmpi_array"
local FOREIGN, READONLY = C.NMPI_FOREIGN, C.NMPI_READONLY
local STRUCT, FLOAT_INT = C.NMPI_STRUCT, C.NMPI_FLOAT_INT
local MAX_NDIM = C.NMPI_MAX_NDIM
local THE_REST = 0x7fffffffffffffffLL -- to the core, the extent that reshape works out

local structs = dtypes.structs
local integer, mismatch, raise, status = check.integer, check.mismatch, check.raise, check.status

local anchors = buffer.anchors

-- ---- elements ----

-- The name of each dtype, and the member of the union `p` that points to it.
local NAME, FIELD = {}, {}
for code = 1, C.NMPI_DTYPE_COUNT - 1 do
  NAME[code] = ffi.string(C.nmpi_dtype_name(code))
  if code ~= STRUCT then FIELD[code] = ffi.string(C.nmpi_dtype_field(code)) end
end

local function pointer(a, where)
  local field = FIELD[a.type]
  if field then return a.p[field] end
  if a.type == STRUCT then return (cast(structs[a.ctype].pointer, a.p.any)) end
  local in_place = band(a.flags, C.NMPI_IN_PLACE) ~= 0
  return raise(where or "array", in_place and "IN_PLACE is no array" or "the array has no storage: it has been freed")
end

-- The description of an array's dtype.
local function description_of(a)
  return a.type == STRUCT and structs[a.ctype] or dtypes.resolve(NAME[a.type])
end

local function check_self(a, where)
  if not istype(array_ct, a) or a == nil then mismatch(where, "self", "an array (is it called with a colon?)", a) end
  pointer(a, where)
end

local function is_number(value, complex_too)
  if istype("complex", value) or istype("complex float", value) then return complex_too end
  return tonumber(value) ~= nil
end

-- An element of a pair or struct dtype.
local function aggregate(a, value, where)
  local kind = type(value)
  local made, x = false, nil
  if kind == "table" or kind == "cdata" then made, x = pcall(description_of(a).element, value) end
  if not made then mismatch(where, "x", "what FFI converts to dtype " .. a.dtype, value) end
  return x
end

-- Raises unless a value can be an element; most that are not numbers are left to FFI's conversion.
local function element(a, value, where)
  if a.type >= FLOAT_INT then return aggregate(a, value, where) end
  local kind = type(value)
  local bad = kind == "nil" or kind == "function" or kind == "userdata" or kind == "thread"
    or (kind == "string" and not (a.dtype == "char" and #value == 1))
    or kind == "table"
    or (kind == "boolean" and a.dtype ~= "bool")
    or (kind == "cdata" and not is_number(value, a.dtype:find "^complex"))
  if bad then mismatch(where, "x", "an element of dtype " .. a.dtype, value) end
  return kind == "string" and value:byte() or value
end

local function readonly_error(where)
  raise(where, "the array is read-only: it views const memory")
end

local function index_error(a, where, ...)
  pointer(a, where)
  local given, last = {}, select("#", ...)
  while last > a.ndim and select(last, ...) == nil do last = last - 1 end
  for k = 1, last do given[k] = check.describe((select(k, ...))) end
  raise(where, ("expected %d whole %s within the shape %s, got (%s)"):format(a.ndim,
    a.ndim == 1 and "index" or "indices", tostring(a.shape), table.concat(given, ", ")))
end

local methods, properties = {}, {}

local function get_index(a, key)
  if type(key) == "number" then
    if a.ndim ~= 1 then index_error(a, "array[i]", key) end
    return pointer(a)[key * a.stride[0]]
  end
  local method = methods[key]
  if method then return method end
  local property = properties[key]
  if property then return (property(a)) end
  if type(key) == "cdata" and tonumber(key) then return get_index(a, tonumber(key)) end
  return raise("array", ("an array has no field '%s'"):format(tostring(key)))
end

local function set_index(a, key, value)
  if type(key) == "cdata" then key = tonumber(key) end
  if type(key) ~= "number" then
    raise("array", ("the field '%s' of an array cannot be set"):format(tostring(key)))
  end
  if a.ndim ~= 1 then index_error(a, "array[i]", key) end
  if band(a.flags, READONLY) ~= 0 then readonly_error "array[i]" end
  if type(value) ~= "number" or a.type >= FLOAT_INT then value = element(a, value, "array[i]") end
  pointer(a)[key * a.stride[0]] = value
end

-- A number where there is a dimension, nil where there is none.
local function fits(index, there)
  return type(index) == (there and "number" or "nil")
end

-- The offset of an element in 4 to 8 dimensions: the strides of those that are not there are 0.
local function offset(a, where, i, j, k, l, m, n, o, p)
  local s, ndim = a.stride, a.ndim
  if type(i) ~= "number" or type(j) ~= "number" or type(k) ~= "number" or type(l) ~= "number"
    or not fits(m, ndim > 4) or not fits(n, ndim > 5) or not fits(o, ndim > 6) or not fits(p, ndim > 7) then
    index_error(a, where, i, j, k, l, m, n, o, p)
  end
  m, n, o, p = m or 0, n or 0, o or 0, p or 0
  return i * s[0] + j * s[1] + k * s[2] + l * s[3] + m * s[4] + n * s[5] + o * s[6] + p * s[7]
end

--- The element at an index.
-- @int ... one index for each dimension
-- @return a number; a boolean for bool; a cdata for int64, uint64 and complex; a reference into the array for
-- pairs and structs
-- @function array:get
function methods.get(a, i, j, k, l, m, n, o, p)
  local ndim, s = a.ndim, a.stride
  if ndim == 1 then
    if type(i) ~= "number" or j ~= nil then index_error(a, "array:get", i, j) end
    return pointer(a)[i * s[0]]
  elseif ndim == 2 then
    if type(i) ~= "number" or type(j) ~= "number" or k ~= nil then index_error(a, "array:get", i, j, k) end
    return pointer(a)[i * s[0] + j * s[1]]
  elseif ndim == 3 then
    if type(i) ~= "number" or type(j) ~= "number" or type(k) ~= "number" or l ~= nil then
      index_error(a, "array:get", i, j, k, l)
    end
    return pointer(a)[i * s[0] + j * s[1] + k * s[2]]
  elseif ndim == 0 then
    if i ~= nil then index_error(a, "array:get", i) end
    return pointer(a)[0]
  end
  return pointer(a)[offset(a, "array:get", i, j, k, l, m, n, o, p)]
end

--- Sets the element at an index.
-- @int ... one index for each dimension
-- @param x the value: a number, or what FFI converts to the dtype (a boolean for bool, a table for a struct, a
-- one-character string for char)
-- @function array:set
function methods.set(a, i, j, k, l, m, n, o, p, x)
  local ndim, s = a.ndim, a.stride
  if band(a.flags, READONLY) ~= 0 then readonly_error "array:set" end
  if ndim == 1 then
    if type(i) ~= "number" or k ~= nil then index_error(a, "array:set", i, k) end
    if type(j) ~= "number" or a.type >= FLOAT_INT then j = element(a, j, "array:set") end
    pointer(a)[i * s[0]] = j
  elseif ndim == 2 then
    if type(i) ~= "number" or type(j) ~= "number" or l ~= nil then index_error(a, "array:set", i, j, l) end
    if type(k) ~= "number" or a.type >= FLOAT_INT then k = element(a, k, "array:set") end
    pointer(a)[i * s[0] + j * s[1]] = k
  elseif ndim == 3 then
    if type(i) ~= "number" or type(j) ~= "number" or type(k) ~= "number" or m ~= nil then
      index_error(a, "array:set", i, j, k, m)
    end
    if type(l) ~= "number" or a.type >= FLOAT_INT then l = element(a, l, "array:set") end
    pointer(a)[i * s[0] + j * s[1] + k * s[2]] = l
  elseif ndim == 0 then
    if j ~= nil then index_error(a, "array:set", j) end
    if type(i) ~= "number" or a.type >= FLOAT_INT then i = element(a, i, "array:set") end
    pointer(a)[0] = i
  elseif ndim == 4 then
    pointer(a)[offset(a, "array:set", i, j, k, l, n)] = element(a, m, "array:set")
  elseif ndim == 5 then
    pointer(a)[offset(a, "array:set", i, j, k, l, m, o)] = element(a, n, "array:set")
  elseif ndim == 6 then
    pointer(a)[offset(a, "array:set", i, j, k, l, m, n, p)] = element(a, o, "array:set")
  elseif ndim == 7 then
    pointer(a)[offset(a, "array:set", i, j, k, l, m, n, o, x)] = element(a, p, "array:set")
  else
    pointer(a)[offset(a, "array:set", i, j, k, l, m, n, o, p)] = element(a, x, "array:set")
  end
end

if check.debugging then
  -- Every index must be whole and inside; only then is the element reached as usual.
  local function check_bounds(a, where, ...)
    pointer(a, where)
    for d = 0, a.ndim - 1 do
      local i = select(d + 1, ...)
      if type(i) ~= "number" or i % 1 ~= 0 or i < 0 or i >= tonumber(a.extent[d]) then
        index_error(a, where, ...)
      end
    end
  end

  local fast_get, fast_set, fast_get_index, fast_set_index = methods.get, methods.set, get_index, set_index

  function methods.get(a, ...)
    check_bounds(a, "array:get", ...)
    return fast_get(a, ...)
  end

  function methods.set(a, ...)
    check_bounds(a, "array:set", ...)
    return fast_set(a, ...)
  end

  function get_index(a, key)
    if type(key) == "number" then check_bounds(a, "array[i]", key) end
    return fast_get_index(a, key)
  end

  function set_index(a, key, value)
    if type(key) == "cdata" then key = tonumber(key) end
    if type(key) == "number" then check_bounds(a, "array[i]", key) end
    return fast_set_index(a, key, value)
  end
end

-- ---- properties ----

-- Shapes and strides: copies, indexed from 0 to ndim - 1. A compiled trace that reads single entries never makes one,
-- as the entries are fields that are given when it is made; for an array in the struct it would.
local extents_ct

local function extent_at(e, d)
  if d == 0 then return e.e0 end
  if d == 1 then return e.e1 end
  if d == 2 then return e.e2 end
  if d == 3 then return e.e3 end
  if d == 4 then return e.e4 end
  if d == 5 then return e.e5 end
  if d == 6 then return e.e6 end
  return e.e7
end

extents_ct = ffi.metatype("struct { int64_t e0, e1, e2, e3, e4, e5, e6, e7; int32_t n; }", {
  __index = function(e, d)
    if type(d) ~= "number" or d % 1 ~= 0 or d < 0 or d >= e.n then
      raise("array", "there is no dimension " .. check.describe(d))
    end
    return (tonumber(extent_at(e, d)))
  end,
  __newindex = function() raise("array", "the shape and strides of an array cannot be set; see reshape") end,
  __len = function(e) return e.n end,
  __tostring = function(e)
    local parts = {}
    for d = 0, e.n - 1 do parts[d + 1] = ("%d"):format(e[d]) end
    return "(" .. table.concat(parts, ", ") .. (e.n == 1 and ",)" or ")")
  end,
  __eq = function(e, f)
    if not istype(extents_ct, e) or not istype(extents_ct, f) or e.n ~= f.n then return false end
    for d = 0, e.n - 1 do
      if extent_at(e, d) ~= extent_at(f, d) then return false end
    end
    return true
  end,
})

local function extents(ndim, from)
  return extents_ct(from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7], ndim)
end

function properties.data(a)
  return (pointer(a))
end

function properties.dtype(a)
  if a.type == STRUCT then return structs[a.ctype].name end
  if a.type == C.NMPI_NONE then return "none" end
  return NAME[a.type]
end

function properties.size(a)
  return (tonumber(a.length))
end

function properties.shape(a)
  return (extents(a.ndim, a.extent))
end

function properties.strides(a)
  return (extents(a.ndim, a.stride))
end

-- ---- making arrays ----

local function set_extent(a, d, extent, where)
  if type(extent) ~= "number" or extent % 1 ~= 0 or extent < 0 or extent > 2 ^ 53 then
    mismatch(where, "shape", "whole extents of at least 0", extent)
  end
  status(C.nmpi_array_set_extent(a, d, extent), where)
end

-- A shape or strides as a script gives them: a number, a list (from 1), or another array's (from 0). Returns what to
-- index, the index of the first entry and how many there are.
local function list_of(value, where, argument)
  if type(value) == "number" then return { value }, 1, 1 end
  if istype(extents_ct, value) then return value, 0, value.n end
  return value, 1, (lists.length(value, where, argument, "a number or a list of numbers"))
end

-- Sets the extents of an array that is being made, and returns how many there are.
local function set_shape(a, value, where, allow_rest)
  local shape, base, ndim = list_of(value, where, "shape")
  if ndim > MAX_NDIM then
    raise(where, ("argument 'shape': expected at most %d dimensions, got %d"):format(MAX_NDIM, ndim))
  end
  for d = 0, ndim - 1 do
    local extent = shape[base + d]
    if allow_rest and extent == -1 then
      C.nmpi_array_set_extent(a, d, THE_REST)
    else
      set_extent(a, d, extent, where)
    end
  end
  return ndim
end

local function is_fortran(order, where)
  if order ~= nil and order ~= "C" and order ~= "F" then mismatch(where, "order", "'C' or 'F'", order) end
  return order == "F" and 1 or 0
end

-- Storage is not the garbage collector's own memory: it must be told when much of it has been made.
local function collect()
  collectgarbage()
  C.nmpi_memory_settle()
end

local function create(a, description, ndim, fortran, zero, where)
  if C.nmpi_memory_pressure() ~= 0 then collect() end
  local code = C.nmpi_array_create(a, description.code, description.itemsize, description.ctype, ndim, fortran, zero)
  if code ~= 0 then
    collect()
    code = C.nmpi_array_create(a, description.code, description.itemsize, description.ctype, ndim, fortran, zero)
  end
  status(code, where)
  return a
end

local function new(shape, dtype, order, zero, where)
  local a = new_struct(array_ct)
  local ndim = set_shape(a, shape, where)
  return (create(a, dtypes.resolve(dtype, where), ndim, is_fortran(order, where), zero, where))
end

local arrays = {}

--- A new array of zeros.
-- @param shape an extent, or a list of 0 to 8 extents; a list of none makes a 0-d array
-- @tparam[opt="double"] string|ctype dtype
-- @string[opt="C"] order "C" (row-major) or "F" (Fortran, column-major)
-- @treturn array
function arrays.zeros(shape, dtype, order)
  return (new(shape, dtype, order, 1, "zeros"))
end

--- A new array whose elements are undefined.
-- @param shape an extent, or a list of 0 to 8 extents
-- @tparam[opt="double"] string|ctype dtype
-- @string[opt="C"] order "C" (row-major) or "F" (Fortran, column-major)
-- @treturn array
function arrays.empty(shape, dtype, order)
  return (new(shape, dtype, order, 0, "empty"))
end

-- The extents of a nested list, after its first elements, and the first leaf.
local function examine_list(values, structured)
  local shape, leaf = {}, values
  while type(leaf) == "table" do
    if #shape == MAX_NDIM then
      raise("array", ("argument 'values': expected lists nested at most %d deep"):format(MAX_NDIM))
    end
    if structured and (#leaf == 0 or type(leaf[1]) ~= "table") and #shape > 0 then break end
    shape[#shape + 1] = #leaf
    if #leaf == 0 then return shape, nil end
    leaf = leaf[1]
  end
  return shape, leaf
end

local function dtype_of_leaf(leaf)
  if type(leaf) == "boolean" then return "bool" end
  if type(leaf) == "cdata" then
    local known = dtypes.of_ctype(typeof(leaf))
    if known then return known.name end
  end
  return "double"
end

local function fill_from_list(a, values, d, position, where)
  if d == a.ndim then
    if type(values) ~= "number" or a.type >= FLOAT_INT then values = element(a, values, where) end
    pointer(a)[position] = values
    return position + 1
  end
  local extent = tonumber(a.extent[d])
  if type(values) ~= "table" or #values ~= extent then
    raise(where, ("argument 'values': expected lists of %d at depth %d, got %s"):format(extent, d + 1,
      type(values) == "table" and ("one of %d"):format(#values) or check.describe(values)))
  end
  for i = 1, extent do position = fill_from_list(a, values[i], d + 1, position, where) end
  return position
end

--- A new array from values.
-- @param values a (nested) list; a number, boolean or cdata number for a 0-d array; a string for a 1-d array of char,
-- a byte an element; or an array of any kind, which is copied
-- @tparam[opt] string|ctype dtype by default what the first value is: "double", "bool", "char", or the cdata's type
-- @string[opt="C"] order "C" (row-major) or "F" (Fortran, column-major)
-- @treturn array
function arrays.array(values, dtype, order)
  local fortran = is_fortran(order, "array")
  if istype(array_ct, values) then
    if values == nil then mismatch("array", "values", "a list, a number, a string or an array", values) end
    pointer(values, "array")
    local a = new(values.shape, dtype or description_of(values).name, order, 0, "array")
    status(C.nmpi_array_assign(a, values), "array")
    return a
  end
  if type(values) == "string" then
    local a = new(#values, dtype or "char", order, 0, "array")
    if a.dtype ~= "char" and a.dtype ~= "int8" and a.dtype ~= "uint8" then
      mismatch("array", "dtype", "char, int8 or uint8 for a string", dtype)
    end
    ffi.copy(a.p.any, values, #values)
    return a
  end
  if buffer.is_buffer(values) then
    return arrays.array(buffer.shaped(values, "array", "values"), dtype, order)
  end
  local kind = type(values)
  if kind ~= "table" and kind ~= "number" and kind ~= "boolean" and kind ~= "cdata" then
    mismatch("array", "values", "a list, a number, a string or an array", values)
  end
  local description = dtype ~= nil and dtypes.resolve(dtype, "array")
  local shape, leaf = examine_list(values, description and description.code >= C.NMPI_FLOAT_INT)
  local a = new(shape, dtype or dtype_of_leaf(leaf), "C", 1, "array")
  if a.length > 0 then fill_from_list(a, values, 0, 0, "array") end
  return fortran == 1 and a:copy "F" or a
end

local function set_strides(a, value, ndim, where)
  local strides, base, count = list_of(value, where, "strides")
  if count ~= ndim then raise(where, ("argument 'strides': expected %d, got %d"):format(ndim, count)) end
  for d = 0, ndim - 1 do
    status(C.nmpi_array_set_stride(a, d, integer(strides[base + d], where, "strides")), where)
  end
end

-- A view of raw memory: see arrays.wrap.
function buffer.wrap(cdata, shape, dtype, strides, where)
  if type(cdata) ~= "cdata" or istype(array_ct, cdata) or tonumber(cdata) then
    mismatch(where, "cdata", "a raw FFI array or a pointer", cdata)
  end
  local told = dtype ~= nil and dtypes.resolve(dtype, where) -- first: it may tell of an unnamed struct
  local known = buffer.type_of(cdata)
  local bytes, description, flags
  if known then
    bytes, description, flags = buffer.bytes_of(cdata, known), known.description, known.flags
  else
    local pointed = buffer.pointee_of(cdata)
    if not pointed then mismatch(where, "cdata", "a raw FFI array or a pointer", cdata) end
    bytes, description, flags = -1, pointed.description, pointed.flags
    if shape == nil then
      mismatch(where, "shape", "a count or a shape, since a pointer does not tell it", shape)
    end
  end
  description = told or description
  if not description then
    mismatch(where, "dtype", "a dtype, since the pointer does not tell it", dtype)
  end
  if shape == nil then
    local same = known.description == description and not known.vla
    shape = same and known.shape or math.floor(bytes / description.itemsize)
  end
  local a = new_struct(array_ct)
  local ndim = set_shape(a, shape, where)
  if strides ~= nil then set_strides(a, strides, ndim, where) end
  status(C.nmpi_array_wrap(a, cdata, bytes, description.code, description.itemsize, description.ctype, ndim,
    strides ~= nil and 1 or 0, flags), where)
  anchors[a] = cdata
  return a
end

-- What is no nmpi array as one, in its own shape.
function buffer.shaped(value, where, argument)
  local resolver = buffer.resolver_of(value)
  if resolver then return (buffer.view(value, where, resolver(value))) end
  if not buffer.type_of(value) then buffer.refuse(value, where, argument) end
  return (buffer.wrap(value, nil, nil, nil, where))
end

--- A view of foreign memory, without a copy. The cdata is kept alive as long as any array on it; what a bare pointer
-- points to, or an FFI reference into something larger (`s.field`, `matrix[1]`), is not: that is up to the caller.
-- @param cdata a raw FFI array (`double[10]`, `double[?]`, `int[3][4]`) or a pointer; or, alone, an array of another
-- library, known by `mpi.register_buffer`
-- @param[opt] shape an extent or a list of extents; for a pointer it must be given. By default the FFI array's own
-- @tparam[opt] string|ctype dtype by default the type of the FFI array's elements; for `void *` it must be given
-- @param[opt] strides a number or a list of numbers, in elements; by default row-major
-- @treturn array
function arrays.wrap(cdata, shape, dtype, strides)
  local resolver = not istype(array_ct, cdata) and buffer.resolver_of(cdata)
  if not resolver then return (buffer.wrap(cdata, shape, dtype, strides, "wrap")) end
  if shape ~= nil then mismatch("wrap", "shape", "nil: register_buffer's resolver tells it", shape) end
  if dtype ~= nil then mismatch("wrap", "dtype", "nil: register_buffer's resolver tells it", dtype) end
  if strides ~= nil then mismatch("wrap", "strides", "nil: register_buffer's resolver tells it", strides) end
  return (buffer.view(cdata, "wrap", resolver(cdata)))
end

--- Makes arrays of another library known: from now on they are accepted wherever an array is, and `mpi.wrap(value)`
-- makes an array on their memory, without a copy. nmpi has registered those of Torch7, SciLua, GSL Shell and MAD-NG.
-- @func predicate is called with a table, userdata or cdata of any kind and returns whether it is of this one. Of
-- several predicates that say yes the one registered last counts. A cdata is asked about once for each ctype
-- @func resolver is called with the value in every routine that gets it, and returns what `mpi.wrap` takes: an FFI
-- array or a pointer to the first element, the shape, the dtype and the strides (in elements); what can be deduced may
-- be left out. The value is kept alive as long as its memory is used, and must keep that memory where it is
-- @usage mpi.register_buffer(
--   function(value) return type(value) == "table" and value.cells ~= nil end,
--   function(grid) return grid.cells, { grid.height, grid.width }, "double", { grid.pitch, 1 } end)
function arrays.register_buffer(predicate, resolver)
  buffer.register(predicate, resolver)
end

-- ---- views ----

local function share(view, a)
  if band(a.flags, FOREIGN) ~= 0 then anchors[view] = anchors[a] end
  return view
end

local function view_of(a, where)
  check_self(a, where)
  local view = new_struct(array_ct)
  status(C.nmpi_array_view(view, a), where)
  return (share(view, a))
end

-- Applies one range or index to dimension d of a view, and returns the dimension that comes next.
local function narrow(view, d, range)
  if type(range) == "number" then
    status(C.nmpi_array_select(view, d, integer(range, "array:slice", "range")), "array:slice")
    return d
  end
  if range ~= nil then
    if type(range) ~= "table" then
      mismatch("array:slice", "range", "{from, to, step}, a number or nil", range)
    end
    local from, to, step = range[1], range[2], range[3]
    local n = tonumber(view.extent[d])
    if step == nil then step = 1 end
    integer(step, "array:slice", "range")
    if from == nil then from = step > 0 and 0 or n - 1 end
    if to == nil then to = step > 0 and n or -n - 1 end
    if n == 0 and step < 0 then from, to, step = 0, 0, 1 end
    status(C.nmpi_array_range(view, d, integer(from, "array:slice", "range"), integer(to, "array:slice", "range"),
      step), "array:slice")
  end
  return d + 1
end

--- A view of a part.
-- @param ... for each dimension a range `{from, to, step}` (half-open, negative bounds count from the end; what is left
-- out means all), a number (drops the dimension) or nil (all); dimensions not named are taken whole
-- @treturn array a view
-- @function array:slice
-- @usage a:slice({1, -1}, 3)      -- column 3 without its ends
-- a:slice({nil, nil, -1})   -- the rows in reverse
function methods.slice(a, r1, r2, r3, r4, r5, r6, r7, r8, r9)
  local view = view_of(a, "array:slice")
  local given = r9 ~= nil and 9 or r8 ~= nil and 8 or r7 ~= nil and 7 or r6 ~= nil and 6 or r5 ~= nil and 5
    or r4 ~= nil and 4 or r3 ~= nil and 3 or r2 ~= nil and 2 or r1 ~= nil and 1 or 0
  if given > a.ndim then
    raise("array:slice", ("expected at most %d ranges for the shape %s, got %d"):format(a.ndim, tostring(a.shape),
      given))
  end
  local d = 0
  if given > 0 then d = narrow(view, d, r1) end
  if given > 1 then d = narrow(view, d, r2) end
  if given > 2 then d = narrow(view, d, r3) end
  if given > 3 then d = narrow(view, d, r4) end
  if given > 4 then d = narrow(view, d, r5) end
  if given > 5 then d = narrow(view, d, r6) end
  if given > 6 then d = narrow(view, d, r7) end
  if given > 7 then narrow(view, d, r8) end
  return view
end

local function select_at(a, d, i, where)
  check_self(a, where)
  if a.ndim ~= 2 then
    raise(where, ("expected an array of 2 dimensions, got shape %s"):format(tostring(a.shape)))
  end
  local view = view_of(a, where)
  status(C.nmpi_array_select(view, d, integer(i, where, "index")), where)
  return view
end

--- Row i of a 2-d array.
-- @int i negative: from the end
-- @treturn array a 1-d view
-- @function array:row
function methods.row(a, i)
  return (select_at(a, 0, i, "array:row"))
end

--- Column j of a 2-d array.
-- @int j negative: from the end
-- @treturn array a 1-d view
-- @function array:col
function methods.col(a, j)
  return (select_at(a, 1, j, "array:col"))
end

--- The array with its dimensions reversed.
-- @treturn array a view
-- @function array:transpose
function methods.transpose(a)
  local view = view_of(a, "array:transpose")
  status(C.nmpi_array_transpose(view), "array:transpose")
  return view
end

--- The same elements, in row-major order, under another shape.
-- @param shape an extent or a list of extents; one may be -1: what is left
-- @treturn array a view where strides can do it, else a copy
-- @function array:reshape
function methods.reshape(a, shape)
  check_self(a, "array:reshape")
  local view = new_struct(array_ct)
  local ndim = set_shape(view, shape, "array:reshape", true)
  local code = C.nmpi_array_reshape(view, a, ndim)
  if code == 1 then
    local copy = a:copy()
    return view_of(copy, "array:reshape"):reshape(shape)
  end
  status(code, "array:reshape")
  return (share(view, a))
end

--- All elements, in row-major order, in one dimension.
-- @treturn array a view where strides can do it, else a copy
-- @function array:flatten
function methods.flatten(a)
  check_self(a, "array:flatten")
  return a:reshape(-1)
end

-- ---- whole arrays ----

--- A copy with storage of its own.
-- @string[opt="C"] order "C" or "F"
-- @treturn array
-- @function array:copy
function methods.copy(a, order)
  check_self(a, "array:copy")
  local copy = new_struct(array_ct)
  for d = 0, a.ndim - 1 do C.nmpi_array_set_extent(copy, d, a.extent[d]) end
  create(copy, description_of(a), a.ndim, is_fortran(order, "array:copy"), 0, "array:copy")
  status(C.nmpi_array_assign(copy, a), "array:copy")
  return copy
end

-- One element of each dtype, for fill.
local values = {}

local function value_array(a)
  local key = a.type == STRUCT and -a.ctype or a.type
  if not values[key] then values[key] = new({}, description_of(a).name, "C", 1, "array:fill") end
  return values[key]
end

--- Sets every element.
-- @param x the value, as for `array:set`
-- @treturn array the array itself
-- @function array:fill
function methods.fill(a, x)
  check_self(a, "array:fill")
  local value = value_array(a)
  if type(x) ~= "number" or a.type >= FLOAT_INT then x = element(a, x, "array:fill") end
  pointer(value)[0] = x
  status(C.nmpi_array_fill(a, value), "array:fill")
  return a
end

--- Copies elements from another array of the same shape, converted to this one's dtype as C converts. The two may
-- overlap.
-- @tparam array b any array, or a string for an array of char; a number fills
-- @treturn array the array itself
-- @function array:assign
function methods.assign(a, b)
  check_self(a, "array:assign")
  if type(b) == "number" then return a:fill(b) end
  if type(b) == "string" then
    b = buffer.send(b, "array:assign", "b")
  elseif type(b) ~= "nil" and not istype(array_ct, b) then
    b = buffer.shaped(b, "array:assign", "b")
  end
  if b == nil or b.type == C.NMPI_NONE then mismatch("array:assign", "b", "an array", b) end
  local code = C.nmpi_array_assign(a, b)
  if code ~= 0 and a.shape ~= b.shape then
    mismatch("array:assign", "b", "an array of shape " .. tostring(a.shape), b)
  end
  status(code, "array:assign")
  return a
end

local function to_table(a, d, position)
  if d == a.ndim then
    local value = pointer(a)[position]
    if a.type >= FLOAT_INT then return (description_of(a).element(value)) end
    return value
  end
  local list = {}
  for i = 0, tonumber(a.extent[d]) - 1 do
    list[i + 1] = to_table(a, d + 1, position + i * a.stride[d])
  end
  return list
end

--- The elements as (nested) Lua lists.
-- @return a list; for a 0-d array its element
-- @function array:totable
function methods.totable(a)
  check_self(a, "array:totable")
  return to_table(a, 0, 0)
end

--- The text of a char array; any other array as `tostring` prints it.
-- @treturn string
-- @function array:tostring
function methods.tostring(a)
  if not istype(array_ct, a) or a == nil then check_self(a, "array:tostring") end
  if a.dtype ~= "char" then return tostring(a) end
  local copy = a:is_contiguous() and a or a:copy()
  return ffi.string(copy.p.ch, copy.length)
end

--- Whether the elements lie in memory without gaps.
-- @string[opt="C"] order in which order: "C" or "F"
-- @treturn boolean
-- @function array:is_contiguous
function methods.is_contiguous(a, order)
  check_self(a, "array:is_contiguous")
  return C.nmpi_array_is_contiguous(a, is_fortran(order, "array:is_contiguous")) ~= 0
end

--- Gives the storage back now rather than at the garbage collector's leisure. Other views of it keep it; this array
-- cannot be used any more. Freeing twice is harmless.
-- @function array:free
function methods.free(a)
  if not istype(array_ct, a) then check_self(a, "array:free") end
  C.nmpi_array_release(a)
  check.keep_reads()
  anchors[a] = nil
end

ffi.metatype(array_ct, {
  __index = get_index,
  __newindex = set_index,
  __len = function(a)
    check_self(a, "#array")
    if a.ndim == 0 then raise("array", "an array of 0 dimensions has no length") end
    return (tonumber(a.extent[0]))
  end,
  __tostring = function(a)
    if a == nil then return "nmpi array (NULL)" end
    if a.type == C.NMPI_NONE then
      return band(a.flags, C.NMPI_IN_PLACE) ~= 0 and "nmpi.IN_PLACE" or "nmpi array (freed)"
    end
    return require("nmpi.format")(a)
  end,
  -- A copy of the struct would not be counted.
  __new = function() return raise("array", "arrays are made by zeros, empty, array and wrap") end,
  __gc = C.nmpi_array_release,
})

return arrays
