-- SPDX-License-Identifier: MIT
--- NumPy's .npy files: one array, which all ranks of a communicator write or read together, by MPI-IO.
--
-- `npy.write` and `npy.read` are **collective**: all ranks of the communicator call them, and what fails on one rank is
-- raised as an error on all of them, with the cause. There is no status. Elements are of every dtype but pairs and
-- structs; char is NumPy's `S1`.
-- @module nmpi.npy

require "nmpi" -- initialises MPI
local ffi = require "ffi"
local bit = require "bit"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local dtypes = require "nmpi.dtype"
local file = require "nmpi.file"

local tonumber, tostring, ipairs = tonumber, tostring, ipairs
local mismatch, raise, success = check.mismatch, check.raise, check.success

-- NumPy's name of each dtype, after the mark of the byte order.
local DESCRIPTIONS = {
  int8 = "i1", int16 = "i2", int32 = "i4", int64 = "i8", uint8 = "u1", uint16 = "u2", uint32 = "u4", uint64 = "u8",
  float = "f4", double = "f8", ["complex float"] = "c8", ["complex double"] = "c16", bool = "b1", char = "S1",
}
local DTYPES = {}
for dtype, description in pairs(DESCRIPTIONS) do DTYPES[description] = dtype end

local MAGIC = "\147NUMPY"
local ORDER, OTHER_ORDER = "<", ">"
if ffi.abi "be" then ORDER, OTHER_ORDER = OTHER_ORDER, ORDER end

local npy = {}

-- ---- the header ----

local function header_of(dtype, shape)
  local description = DESCRIPTIONS[dtype]
  local text = ("{'descr': '%s%s', 'fortran_order': False, 'shape': %s, }"):format(
    description:find "1$" and "|" or ORDER, description, file.show(shape))
  -- The data begins at a multiple of 64 bytes. Version 1.0 has two bytes for the length of the text.
  local padding = -(#MAGIC + 4 + #text + 1) % 64
  local length = #text + padding + 1
  return MAGIC .. string.char(1, 0, length % 256, bit.rshift(length, 8)) .. text .. (" "):rep(padding) .. "\n"
end

local function parse(path, text, where)
  local order, description = text:match "['\"]descr['\"]: *['\"]([<>|=]?)(%w+)['\"]"
  local fortran = text:match "['\"]fortran_order['\"]: *(%a+)"
  local extents = text:match "['\"]shape['\"]: *%(([%d, L]*)%)"
  if not fortran or not extents then raise(where, ("'%s' is no .npy file: its header is unknown"):format(path)) end
  local dtype = description and DTYPES[description]
  if not dtype then raise(where, ("'%s' has elements of a type that is no dtype: %s"):format(path, text)) end
  if order == OTHER_ORDER and not description:find "1$" then
    raise(where, ("'%s' has elements of the other byte order"):format(path))
  end
  local shape = {}
  for extent in extents:gmatch "%d+" do shape[#shape + 1] = tonumber(extent) end
  return { shape = shape, dtype = dtype, order = fortran == "True" and "F" or "C" }
end

local function read_header(path, where)
  local handle, problem = io.open(path, "rb")
  if not handle then raise(where, problem) end
  local start = handle:read(12) or ""
  local version, low, high, higher, highest = start:byte(7), start:byte(9, 12)
  local offset = version == 1 and 10 or 12
  local length = highest and (version == 1 and low + 256 * high
    or low + 256 * high + 65536 * higher + 16777216 * highest)
  if start:sub(1, 6) ~= MAGIC or not length or version > 3 or length > 1024 * 1024 then
    handle:close()
    raise(where, ("'%s' is no .npy file"):format(path))
  end
  handle:seek("set", offset)
  local text = handle:read(length)
  handle:close()
  if not text or #text < length then raise(where, ("'%s' is no .npy file: it is too short"):format(path)) end
  return parse(path, text, where), offset + length
end

--- What a file holds. Not collective.
-- @string path
-- @treturn table fields: `shape` (a list of extents), `dtype`, `order` ("C" or "F")
function npy.info(path)
  return (read_header(file.path(path, "npy.info"), "npy.info"))
end

-- ---- arrays ----

-- What the core is told of an array's place in the file; `fortran`: the first index varies fastest there.
local function part_of(a, shape, start, fortran, where)
  local offsets, extents = file.place(a, shape, start, where)
  local part, ndim = ffi.new "nmpi_part", #shape
  part.ndim = ndim
  for d = 1, ndim do
    local k = fortran and ndim - d or d - 1
    part.shape[k], part.start[k], part.extent[k] = shape[d], offsets[d], extents[d]
  end
  return part
end

local OPTIONS = { shape = true, start = true, comm = true, overwrite = true }

-- The arguments of npy.write: the array, the global shape, and the array's part.
local function writing(path, array, options, comm, where)
  options = file.options(options, OPTIONS, where)
  file.new_path(path, where)
  file.boolean(options.overwrite, where, "overwrite")
  local a = file.array(array, where, "array")
  if not DESCRIPTIONS[a.dtype] then mismatch(where, "array", "an array of numbers, bool or char", array) end
  local shape = options.shape
  if shape == nil then
    if comm:size() > 1 then mismatch(where, "shape", "the shape of the whole array", nil) end
    shape = a.shape
  end
  shape = file.list(shape, nil, 0, where, "shape")
  if #shape > C.NMPI_MAX_NDIM then
    raise(where, ("argument 'shape': expected at most %d dimensions, got %d"):format(C.NMPI_MAX_NDIM, #shape))
  end
  return a, shape, part_of(a, shape, options.start, false, where)
end

--- Writes one array, of which each rank has a part. The file gets its name when it is complete: before, the data is in
-- `path .. ".part"`.
-- @string path
-- @tparam array array this rank's part, of any layout and of the same dtype on every rank; one of fewer dimensions
-- stands for the last ones; an empty one takes part with nothing
-- @tparam[opt] table options `shape`, that of the whole array (by default, on one rank, that of `array`), which the
-- parts fill without overlap; `start`, the part's first index in each dimension, from 0 (all 0); `comm` (COMM_WORLD);
-- `overwrite` (false), whether a file of this name is replaced, where otherwise it is an error
-- @usage npy.write("height.npy", domain:interior(height), { shape = domain.global, start = domain.start })
function npy.write(path, array, options)
  local where = "npy.write"
  local comm = file.comm(options, where)
  local a, shape, part = file.together(comm, where, writing, path, array, options, comm, where)
  local overwrite = options ~= nil and options.overwrite == true
  -- An empty part may be of any dtype.
  local total = file.sum(comm, where, tonumber(a.length))
  local dtype = file.common_dtype(comm, where, a, a.length > 0 or total == 0)
  file.same(comm, where, { { "path", path }, { "overwrite", tostring(overwrite) }, { "shape", file.show(shape) } })
  local elements = 1
  for _, extent in ipairs(shape) do elements = elements * extent end
  if total ~= elements then
    raise(where, ("the parts of all ranks have %.0f elements, and the shape %s has %.0f"):format(total,
      file.show(shape), elements))
  end
  local header = header_of(dtype, shape)
  local place, bytes = file.part(path), #header + elements * dtypes.by_name[dtype].itemsize
  file.together(comm, where, function()
    if comm:rank() == 0 then file.begin(path, overwrite, header, bytes, where) end
  end)
  local good, problem = pcall(file.together, comm, where, function()
    success(C.nmpi_file_write(place, #header, a, part, comm), where)
  end)
  if not good then
    if comm:rank() == 0 then os.remove(place) end
    error(problem, 0)
  end
  file.together(comm, where, function()
    if comm:rank() == 0 then file.finish(place, path, bytes, where) end
  end)
end

--- Reads a part of the array that a file holds.
-- @string path the same on every rank
-- @tparam array array what to read into, of any layout and of the file's dtype; one of fewer dimensions stands for the
-- last ones; an empty one takes part with nothing
-- @tparam[opt] table options `start`, the part's first index in each dimension, from 0 (all 0); `comm` (COMM_WORLD)
-- @treturn array the array
function npy.read(path, array, options)
  local where = "npy.read"
  local comm = file.comm(options, where)
  file.checked(comm, where, function() return { { "path", file.path(path, where) } } end)
  local a, part, offset = file.together(comm, where, function()
    options = file.options(options, { start = true, comm = true }, where)
    local into = file.writable(array, where, "array")
    local info, length = read_header(path, where)
    if into.length > 0 and into.dtype ~= info.dtype then
      mismatch(where, "array", "an array of the file's dtype, " .. info.dtype, array)
    end
    if #info.shape > C.NMPI_MAX_NDIM then raise(where, ("'%s' has too many dimensions"):format(path)) end
    local bytes = dtypes.by_name[info.dtype].itemsize
    for _, extent in ipairs(info.shape) do bytes = bytes * extent end
    if file.size(path, where) < length + bytes then raise(where, ("'%s' is too short"):format(path)) end
    local fortran = info.order == "F"
    local part = part_of(into, info.shape, options.start, fortran, where)
    return fortran and into:transpose() or into, part, length
  end)
  file.together(comm, where, function() success(C.nmpi_file_read(path, offset, a, part, comm), where) end)
  return array
end

return npy
