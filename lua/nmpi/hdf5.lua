-- SPDX-License-Identifier: MIT
--- HDF5 files that all ranks of a communicator write and read together, by MPI-IO.
--
-- `require "nmpi.hdf5"` needs the HDF5 library that was built for the running MPI; all else of nmpi works without it.
--
-- Every function and method here is **collective**: all ranks of the file's communicator call it, in the same order
-- and, but for the data and where they go, with the same arguments. There is no status: what fails on one rank is
-- raised as an error on all of them, with the cause. One thread of a process at a time may use HDF5.
--
-- Elements are of every dtype but pairs and structs: complex numbers as compounds of `r` and `i` and bool as an
-- enumeration, as h5py has them, and char as strings of one byte.
-- @module nmpi.hdf5

require "nmpi" -- initialises MPI
local ffi = require "ffi"
local C = require("nmpi.lib").core
local arrays = require "nmpi.array"
local check = require "nmpi.check"
local dtypes = require "nmpi.dtype"
local file = require "nmpi.file"

local type, tonumber, tostring, ipairs, setmetatable = type, tonumber, tostring, ipairs, setmetatable
local mismatch, raise = check.mismatch, check.raise

-- ---- the library ----

-- HDF5's own declarations; its hid_t is an int64_t since 1.10, and its hsize_t a uint64_t.
ffi.cdef [[
  int H5open(void);
  int H5dont_atexit(void);
  int H5free_memory(void *);
  int H5get_libversion(unsigned *, unsigned *, unsigned *);
  int H5Eset_auto2(int64_t, void *, void *);
  int H5Eprint2(int64_t, void *);
  int H5Pset_fapl_mpio(int64_t, void *, void *);

  extern int64_t H5P_CLS_FILE_ACCESS_ID_g, H5P_CLS_DATASET_CREATE_ID_g, H5P_CLS_DATASET_XFER_ID_g,
    H5P_CLS_LINK_CREATE_ID_g;
  int64_t H5Pcreate(int64_t);
  int H5Pclose(int64_t);
  int H5Pset_fclose_degree(int64_t, int);
  int H5Pset_create_intermediate_group(int64_t, unsigned);
  int H5Pset_char_encoding(int64_t, int);
  int H5Pset_dxpl_mpio(int64_t, int);
  int H5Pset_chunk(int64_t, int, const uint64_t *);
  int H5Pset_deflate(int64_t, unsigned);
  int H5Pset_obj_track_times(int64_t, bool);
  int H5Pget_chunk(int64_t, int, uint64_t *);
  int H5Pget_layout(int64_t);
  int H5Pget_nfilters(int64_t);

  extern int64_t H5T_NATIVE_INT8_g, H5T_NATIVE_INT16_g, H5T_NATIVE_INT32_g, H5T_NATIVE_INT64_g, H5T_NATIVE_UINT8_g,
    H5T_NATIVE_UINT16_g, H5T_NATIVE_UINT32_g, H5T_NATIVE_UINT64_g, H5T_NATIVE_FLOAT_g, H5T_NATIVE_DOUBLE_g, H5T_C_S1_g;
  int64_t H5Tcreate(int, size_t);
  int64_t H5Tcopy(int64_t);
  int64_t H5Tenum_create(int64_t);
  int H5Tenum_insert(int64_t, const char *, const void *);
  int H5Tinsert(int64_t, const char *, size_t, int64_t);
  int H5Tset_size(int64_t, size_t);
  int H5Tset_strpad(int64_t, int);
  int H5Tset_cset(int64_t, int);
  int H5Tget_class(int64_t);
  size_t H5Tget_size(int64_t);
  int H5Tget_sign(int64_t);
  int H5Tis_variable_str(int64_t);
  int H5Tequal(int64_t, int64_t);
  int H5Tclose(int64_t);

  int64_t H5Screate(int);
  int64_t H5Screate_simple(int, const uint64_t *, const uint64_t *);
  int H5Sget_simple_extent_ndims(int64_t);
  int H5Sget_simple_extent_dims(int64_t, uint64_t *, uint64_t *);
  int H5Sselect_hyperslab(int64_t, int, const uint64_t *, const uint64_t *, const uint64_t *, const uint64_t *);
  int H5Sselect_none(int64_t);
  int H5Sclose(int64_t);

  int64_t H5Fcreate(const char *, unsigned, int64_t, int64_t);
  int64_t H5Fopen(const char *, unsigned, int64_t);
  int H5Fflush(int64_t, int);
  int H5Fclose(int64_t);

  int64_t H5Gcreate2(int64_t, const char *, int64_t, int64_t, int64_t);
  int64_t H5Oopen(int64_t, const char *, int64_t);
  int H5Oclose(int64_t);
  int H5Iget_type(int64_t);

  int64_t H5Dcreate2(int64_t, const char *, int64_t, int64_t, int64_t, int64_t, int64_t);
  int64_t H5Dget_type(int64_t);
  int64_t H5Dget_space(int64_t);
  int64_t H5Dget_create_plist(int64_t);
  int H5Dset_extent(int64_t, const uint64_t *);
  int H5Dwrite(int64_t, int64_t, int64_t, int64_t, int64_t, const void *);
  int H5Dread(int64_t, int64_t, int64_t, int64_t, int64_t, void *);

  int64_t H5Acreate2(int64_t, const char *, int64_t, int64_t, int64_t, int64_t);
  int64_t H5Aopen(int64_t, const char *, int64_t);
  int H5Aexists(int64_t, const char *);
  int H5Adelete(int64_t, const char *);
  int64_t H5Aget_type(int64_t);
  int64_t H5Aget_space(int64_t);
  int H5Awrite(int64_t, int64_t, const void *);
  int H5Aread(int64_t, int64_t, void *);
  int H5Aclose(int64_t);

  void *nmpi_open_memstream(char **, size_t *) __asm__("open_memstream");
  int nmpi_fclose(void *) __asm__("fclose");
  void nmpi_free(void *) __asm__("free");
]]

-- The names that Debian gives the libraries, the newest first; without a number where the -dev package is installed.
local VERSIONS = { "", ".320", ".310", ".103" }
local ABI = ffi.string(C.nmpi_abi())

-- A library that is unloaded would leave MPI with a function to call at MPI_Finalize.
local function load_for_good(path)
  local RTLD_NOW, RTLD_NODELETE = 2, ffi.os == "OSX" and 0x80 or 0x1000
  local loaded, namespace = pcall(ffi.load, path)
  if not loaded then return nil, namespace end
  ffi.C.nmpi_dlopen(path, RTLD_NOW + RTLD_NODELETE)
  return namespace
end

local function load()
  local path = os.getenv "NMPI_HDF5"
  if path and path ~= "" then
    local namespace, reason = load_for_good(path)
    if not namespace then error(("nmpi.hdf5: NMPI_HDF5=%s could not be loaded: %s"):format(path, reason), 0) end
    return namespace
  end
  local reasons = {}
  for _, version in ipairs(VERSIONS) do
    local namespace, reason = load_for_good(("libhdf5_%s.so%s"):format(ABI, version))
    if namespace then return namespace end
    reasons[#reasons + 1] = reason
  end
  return error(("nmpi.hdf5: no HDF5 library for this MPI (%s) could be loaded: %s. Install it (Debian's package is "
    .. "called libhdf5-%s-103-1 or libhdf5-%s-310), or set NMPI_HDF5 to the path of a parallel HDF5 library that "
    .. "was built for this MPI."):format(ABI, table.concat(reasons, "; "), ABI, ABI), 0)
end

local H = load()

if not pcall(function() return H.H5Pset_fapl_mpio end) then
  error("nmpi.hdf5: the HDF5 library is a serial one: it has no H5Pset_fapl_mpio. Install one that was built for the "
    .. "running MPI, " .. ABI, 0)
end
H.H5dont_atexit() -- MPI will be finalised then
if H.H5open() < 0 then error("nmpi.hdf5: the HDF5 library could not be initialised", 0) end

local DEFAULT = 0 -- H5P_DEFAULT, H5E_DEFAULT
H.H5Eset_auto2(DEFAULT, nil, nil) -- prints nothing

-- HDF5's error stack of its last failure: what it could not do, and why, down to the cause.
local function reason()
  local text, size = ffi.new "char *[1]", ffi.new "size_t[1]"
  local stream = ffi.C.nmpi_open_memstream(text, size)
  H.H5Eprint2(DEFAULT, stream)
  ffi.C.nmpi_fclose(stream)
  local stack = ffi.string(text[0], size[0])
  ffi.C.nmpi_free(text[0])
  local causes = {}
  for cause in (stack .. "\n  #"):gmatch "%(%): (.-)\n    major:" do
    causes[#causes + 1] = cause:gsub("%s+", " ")
  end
  if #causes == 0 then return "HDF5 gives no reason" end
  return table.concat(causes, ": ")
end

-- The result of a function of HDF5, which is negative where it has failed.
local function got(result, where)
  if result < 0 then raise(where, reason()) end
  return result
end

-- ---- lists of properties and types, made once ----

local function list_of(class, set, ...)
  local list = got(H.H5Pcreate(class), "hdf5")
  if set then got(set(list, ...), "hdf5") end
  return list
end

local COLLECTIVE, UTF8, STRONG = 1, 1, 3 -- H5FD_MPIO_COLLECTIVE, H5T_CSET_UTF8, H5F_CLOSE_STRONG
local transfer = list_of(H.H5P_CLS_DATASET_XFER_ID_g, H.H5Pset_dxpl_mpio, COLLECTIVE)
local links = list_of(H.H5P_CLS_LINK_CREATE_ID_g, H.H5Pset_create_intermediate_group, 1)
H.H5Pset_char_encoding(links, UTF8)

local INTEGER, FLOAT, STRING, COMPOUND = 0, 1, 3, 6 -- H5T_class_t
local NULLPAD = 1
local VARIABLE = ffi.cast("size_t", -1LL)

local function complex_type(real, size)
  local id = H.H5Tcreate(COMPOUND, 2 * size)
  H.H5Tinsert(id, "r", 0, real)
  H.H5Tinsert(id, "i", size, real)
  return id
end

local function bool_type()
  local id, value = H.H5Tenum_create(H.H5T_NATIVE_INT8_g), ffi.new "int8_t[1]"
  H.H5Tenum_insert(id, "FALSE", value)
  value[0] = 1
  H.H5Tenum_insert(id, "TRUE", value)
  return id
end

local function string_type(size)
  local id = H.H5Tcopy(H.H5T_C_S1_g)
  H.H5Tset_size(id, size)
  if size == VARIABLE then H.H5Tset_cset(id, UTF8) else H.H5Tset_strpad(id, NULLPAD) end
  return id
end

local text_type = string_type(VARIABLE)

-- HDF5's types in memory, which are those of new files as well, by dtype.
local TYPES = {
  int8 = H.H5T_NATIVE_INT8_g, int16 = H.H5T_NATIVE_INT16_g, int32 = H.H5T_NATIVE_INT32_g,
  int64 = H.H5T_NATIVE_INT64_g, uint8 = H.H5T_NATIVE_UINT8_g, uint16 = H.H5T_NATIVE_UINT16_g,
  uint32 = H.H5T_NATIVE_UINT32_g, uint64 = H.H5T_NATIVE_UINT64_g,
  float = H.H5T_NATIVE_FLOAT_g, double = H.H5T_NATIVE_DOUBLE_g,
  ["complex float"] = complex_type(H.H5T_NATIVE_FLOAT_g, 4),
  ["complex double"] = complex_type(H.H5T_NATIVE_DOUBLE_g, 8),
  bool = bool_type(), char = string_type(1),
}

-- The dtype of elements of a type in a file, of any byte order; nil where there is none.
local function dtype_of(id)
  local class, size = H.H5Tget_class(id), tonumber(H.H5Tget_size(id))
  if class == INTEGER then
    local name = (H.H5Tget_sign(id) == 0 and "uint" or "int") .. size * 8
    return TYPES[name] and name
  elseif class == FLOAT then
    return size == 4 and "float" or size == 8 and "double" or nil
  end
  for _, name in ipairs { "complex double", "complex float", "bool", "char" } do
    if H.H5Tequal(id, TYPES[name]) > 0 then return name end
  end
end

local function new_dtype(value, where)
  local name = dtypes.resolve(value, where).name
  if not TYPES[name] then mismatch(where, "dtype", "a number, bool or char", value) end
  return name
end

-- ---- shapes ----

local MAX_NDIM = 32 -- H5S_MAX_RANK
local UNLIMITED = math.huge

local function dims_of(list)
  local dims = ffi.new("uint64_t[?]", math.max(#list, 1))
  for d, extent in ipairs(list) do dims[d - 1] = extent == UNLIMITED and -1ULL or extent end
  return dims
end

local function new_space(shape, maxshape, where)
  if #shape == 0 then return got(H.H5Screate(0), where) end
  return got(H.H5Screate_simple(#shape, dims_of(shape), maxshape and dims_of(maxshape)), where)
end

-- The shape and the greatest shape of a dataspace, which is closed.
local function shape_of(space)
  local n = H.H5Sget_simple_extent_ndims(space)
  local dims, maxdims, shape, maxshape = ffi.new("uint64_t[?]", MAX_NDIM), ffi.new("uint64_t[?]", MAX_NDIM), {}, {}
  H.H5Sget_simple_extent_dims(space, dims, maxdims)
  for d = 1, n do
    shape[d] = tonumber(dims[d - 1])
    maxshape[d] = maxdims[d - 1] == -1ULL and UNLIMITED or tonumber(maxdims[d - 1])
  end
  H.H5Sclose(space)
  return shape, maxshape
end

local function shape_of_array(a)
  local shape = {}
  for d = 1, a.ndim do shape[d] = tonumber(a.extent[d - 1]) end
  return shape
end

-- ---- objects ----

local hdf5 = {
  --- In `maxshape`: an extent without a limit.
  UNLIMITED = UNLIMITED,
}

local group, dataset, opened_file = {}, {}, {}

-- An object's file, if it can be used.
local function open_file(object, where)
  local f = type(object) == "table" and object.file
  if not f then mismatch(where, "self", "an object of an HDF5 file (is it called with a colon?)", object) end
  if not f.comm then raise(where, ("the file '%s' has been closed"):format(f.path)) end
  check.value(C.nmpi_comm_rank(f.comm), where)
  return f
end

-- What a call may add beside its data.
local OVERHEAD = 16 * 1024

-- HDF5 cannot cope with a full disk: ranks that find it out wait for others, or crash when they close the file. So rank
-- 0 reserves space for what is to come. It knows the size at the last flush, and adds what each call may need.
local function reserve(f, bytes, where)
  if not f.writable then raise(where, ("'%s' is open for reading"):format(f.path)) end
  if f.comm:rank() > 0 then return end
  local needed = f.needed + bytes + OVERHEAD
  if needed > f.reserved then f.reserved = file.reserve(f.place, needed, where) end
  f.needed = needed
end

-- A flush cuts the file to its size, unless that is the same as at the last one.
local function flush(f, where)
  got(H.H5Fflush(f.id, 1), where)
  if f.comm:rank() > 0 then return end
  local size = file.size(f.place, where)
  if size == f.reserved then
    file.cut(f.place, f.size, where)
  else
    f.size = size
  end
  f.needed, f.reserved = f.size, 0
end

-- Calls a function that adds at most so many bytes to the file. After a failure to write it is incomplete for good, and
-- HDF5 must not be asked to close it.
local function change(f, bytes, where, action, ...)
  local enough, refusal = pcall(file.together, f.comm, where, reserve, f, bytes, where)
  if not enough then
    f.broken = f.writable
    error(refusal, 0)
  end
  local good, a, b, c = pcall(file.together, f.comm, where, action, ...)
  if good then return a, b, c end
  if tostring(a):find "driver" then
    f.broken, f.lost = true, true
    C.nmpi_file_lose()
  end
  return error(a, 0)
end

local function check_name(name, where)
  if type(name) ~= "string" or name == "" or name:find("\0", 1, true) then mismatch(where, "name", "a name", name) end
  return name
end

local function adopt(f, class, id, name)
  return setmetatable({ file = f, id = id, name = name }, class)
end

local function describe_dataset(self)
  self.shape, self.maxshape = shape_of(H.H5Dget_space(self.id))
  local id = H.H5Dget_type(self.id)
  self.dtype = dtype_of(id)
  H.H5Tclose(id)
  local list = H.H5Dget_create_plist(self.id)
  local CHUNKED = 2
  if H.H5Pget_layout(list) == CHUNKED then
    local dims = ffi.new("uint64_t[?]", #self.shape)
    H.H5Pget_chunk(list, #self.shape, dims)
    self.chunks = {}
    for d = 1, #self.shape do self.chunks[d] = tonumber(dims[d - 1]) end
    self.filtered = H.H5Pget_nfilters(list) > 0
  end
  H.H5Pclose(list)
  return self
end

-- ---- attributes ----

-- The value of an attribute as text, or as an array that is contiguous.
local function attribute_value(value, where)
  if type(value) == "string" then
    if value:find("\0", 1, true) then mismatch(where, "value", "a string without zero bytes", value) end
    return value
  end
  local kind = type(value)
  local plain = kind == "table" and #value > 0 or kind == "number" or kind == "boolean"
  local a = plain and arrays.array(value) or file.array(value, where, "value")
  if not TYPES[a.dtype] then mismatch(where, "value", "a number, boolean, string or array of these", value) end
  return a:is_contiguous() and a or a:copy()
end

-- What tells whether two values are the same.
local function contents(value)
  if type(value) == "string" then return value end
  return value.dtype .. tostring(value.shape) .. ffi.string(value.p.any, tonumber(value.length) * value.itemsize)
end

local function write_attribute(id, name, value, where)
  local is_text = type(value) == "string"
  local kind = is_text and text_type or TYPES[value.dtype]
  local space = new_space(is_text and {} or shape_of_array(value), nil, where)
  if got(H.H5Aexists(id, name), where) > 0 then got(H.H5Adelete(id, name), where) end
  local attribute = got(H.H5Acreate2(id, name, kind, space, DEFAULT, DEFAULT), where)
  got(H.H5Awrite(attribute, kind, is_text and ffi.new("const char *[1]", { value }) or value.p.any), where)
  H.H5Aclose(attribute)
  H.H5Sclose(space)
end

-- Sets an attribute of a file, group or dataset, or replaces it.
local function set_attribute(self, name, value)
  local where = "hdf5.set_attribute"
  local f = open_file(self, where)
  local stored
  file.checked(f.comm, where, function()
    check_name(name, where)
    stored = attribute_value(value, where)
    return { { "name", name }, { "value", contents(stored), check.describe(value) } }
  end)
  local bytes = type(stored) == "string" and #stored or tonumber(stored.length) * stored.itemsize
  change(f, bytes, where, write_attribute, self.id, name, stored, where)
end

-- The strings of an attribute whose type has class STRING: one, or a list.
local function read_text(attribute, kind, shape, where)
  local count, list = 1, {}
  for _, extent in ipairs(shape) do count = count * extent end
  if H.H5Tis_variable_str(kind) > 0 then
    local texts = ffi.new("char *[?]", math.max(count, 1))
    got(H.H5Aread(attribute, kind, texts), where)
    for i = 1, count do
      list[i] = texts[i - 1] ~= nil and ffi.string(texts[i - 1]) or ""
      H.H5free_memory(texts[i - 1])
    end
  else
    local size = tonumber(H.H5Tget_size(kind))
    local texts = ffi.new("char[?]", math.max(count * size, 1))
    got(H.H5Aread(attribute, kind, texts), where)
    for i = 1, count do list[i] = ffi.string(texts + (i - 1) * size, size):gsub("%z.*", "") end
  end
  return #shape == 0 and list[1] or list
end

local function read_attribute(id, name, where)
  if got(H.H5Aexists(id, name), where) == 0 then return nil end
  local attribute = got(H.H5Aopen(id, name, DEFAULT), where)
  local kind, shape = H.H5Aget_type(attribute), shape_of(H.H5Aget_space(attribute))
  local dtype, value = dtype_of(kind), nil
  if H.H5Tget_class(kind) == STRING and (dtype ~= "char" or #shape == 0) then
    value = read_text(attribute, kind, shape, where)
  elseif dtype and #shape <= C.NMPI_MAX_NDIM then
    value = arrays.empty(shape, dtype)
    got(H.H5Aread(attribute, TYPES[dtype], value.p.any), where)
    if #shape == 0 then value = value:get() end
  else
    raise(where, ("'%s' has a type or shape that no array has"):format(name))
  end
  H.H5Tclose(kind)
  H.H5Aclose(attribute)
  return value
end

-- An attribute of a file, group or dataset.
local function get_attribute(self, name)
  local where = "hdf5.attribute"
  local f = open_file(self, where)
  file.checked(f.comm, where, function() return { { "name", check_name(name, where) } } end)
  return (file.together(f.comm, where, read_attribute, self.id, name, where))
end

--- Sets an attribute, or replaces it. Files, groups and datasets have this method.
-- @string name
-- @param value a number, boolean, string, list of numbers or array, the same on every rank
-- @function file:set_attribute
group.set_attribute, dataset.set_attribute = set_attribute, set_attribute

--- The value of an attribute. Files, groups and datasets have this method.
-- @string name
-- @return a number, boolean, cdata number (of 64 bits or complex), string, array, or list of strings; nil where there
-- is no such attribute
-- @function file:attribute
group.attribute, dataset.attribute = get_attribute, get_attribute

-- ---- files ----

local CREATE, READ, CHANGE = 2, 0, 1 -- H5F_ACC_TRUNC, H5F_ACC_RDONLY, H5F_ACC_RDWR

-- The file's communicator is its own, for the caller may free his.
local function open(comm, path, name, flags, where)
  local own = comm:dup()
  local good, id = pcall(file.together, comm, where, function()
    local access = list_of(H.H5P_CLS_FILE_ACCESS_ID_g, H.H5Pset_fclose_degree, STRONG)
    got(C.nmpi_file_give_comm(own, ffi.cast("void *", H.H5Pset_fapl_mpio), access), where)
    local result = flags == CREATE and H.H5Fcreate(name, flags, DEFAULT, access) or H.H5Fopen(name, flags, access)
    if result >= 0 then
      H.H5Pclose(access)
      return result
    end
    local message = reason()
    H.H5Pclose(access)
    return raise(where, ("'%s': %s"):format(path, message))
  end)
  if not good then
    if flags == CREATE and comm:rank() == 0 then os.remove(name) end
    own:free()
    error(id, 0)
  end
  own:set_name "nmpi.hdf5"
  -- `place` is where the data is.
  local f = { path = path, place = name, comm = own, writable = flags ~= READ, id = id, name = "/" }
  f.file = f
  f.needed, f.reserved = flags == CHANGE and comm:rank() == 0 and file.size(name, where) or 0, 0
  if flags == CREATE then file.begun[path] = true end
  return setmetatable(f, opened_file)
end

--- Creates a file. Until `file:close` its data is in `path .. ".part"`: no half-written file looks whole.
-- @string path
-- @tparam[opt] table options `comm` (COMM_WORLD), the communicator of the ranks that share the file; `overwrite`
-- (false), whether a file of this name is replaced, where otherwise it is an error
-- @treturn file
-- @usage local file = hdf5.create("state.h5", { overwrite = true })
function hdf5.create(path, options)
  local where = "hdf5.create"
  local comm = file.comm(options, where)
  local overwrite
  file.checked(comm, where, function()
    options = file.options(options, { comm = true, overwrite = true }, where)
    file.new_path(path, where)
    overwrite = file.boolean(options.overwrite, where, "overwrite")
    return { { "path", path }, { "overwrite", tostring(overwrite) } }
  end)
  file.together(comm, where, function()
    if comm:rank() == 0 then file.begin(path, overwrite, "", 0, where) end
  end)
  return open(comm, path, file.part(path), CREATE, where)
end

--- Opens a file.
-- @string path
-- @tparam[opt] table options `comm` (COMM_WORLD); `mode`: "r" (read, the default) or "r+" (change, in place)
-- @treturn file
function hdf5.open(path, options)
  local where = "hdf5.open"
  local comm = file.comm(options, where)
  local mode
  file.checked(comm, where, function()
    options = file.options(options, { comm = true, mode = true }, where)
    file.path(path, where)
    mode = options.mode == nil and "r" or options.mode
    if mode ~= "r" and mode ~= "r+" then mismatch(where, "mode", "'r' or 'r+'", mode) end
    return { { "path", path }, { "mode", mode } }
  end)
  return open(comm, path, path, mode == "r+" and CHANGE or READ, where)
end

--- Sees to it that what has been written is on the disk.
-- @function file:flush
function opened_file.flush(self)
  local where = "hdf5.flush"
  local f = open_file(self, where)
  change(f, 0, where, flush, f, where)
end

--- Closes the file and all its objects. A new file gets its name now, if nothing that wrote to it has failed.
-- @function file:close
function opened_file.close(self)
  local where = "hdf5.close"
  local f = open_file(self, where)
  local comm = f.comm
  local good, message = true, nil
  -- The next step, unless one has failed.
  local function step(call, ...)
    if good then good, message = pcall(call, ...) end
  end

  if f.writable then
    step(change, f, 0, where, function()
      if f.broken then raise(where, ("'%s' is incomplete: an earlier call has failed"):format(f.path)) end
      flush(f, where)
    end)
  end
  if not f.lost then
    local closed, problem = pcall(file.together, comm, where, function() got(H.H5Fclose(f.id), where) end)
    step(function() if not closed then error(problem, 0) end end)
  end
  if f.writable then
    step(file.together, comm, where, function()
      if comm:rank() == 0 then file.finish(f.place, f.path, f.size, where) end
    end)
  end
  f.comm = nil
  file.begun[f.path] = nil
  comm:free()
  if not good then error(message, 0) end
end

-- ---- groups ----

--- Creates a group, and those on the way to it. Files and groups have this method.
-- @string name such as "fluid" or "fluid/velocity"
-- @treturn group
-- @function file:create_group
function group.create_group(self, name)
  local where = "hdf5.create_group"
  local f = open_file(self, where)
  file.checked(f.comm, where, function() return { { "name", check_name(name, where) } } end)
  local id = change(f, 0, where, function()
    return (got(H.H5Gcreate2(self.id, name, links, DEFAULT, DEFAULT), where))
  end)
  return adopt(f, group, id, name)
end

local CHUNK_BYTES = 1024 * 1024

-- Chunks of all of the dimensions that cannot grow, halved until they are small enough.
local function guess_chunks(shape, maxshape, itemsize)
  local chunks, bytes = {}, itemsize
  for d, extent in ipairs(shape) do
    chunks[d] = maxshape and maxshape[d] ~= extent and 1 or math.max(extent, 1)
    bytes = bytes * chunks[d]
  end
  while bytes > CHUNK_BYTES do
    local longest = 1
    for d = 2, #chunks do
      if chunks[d] > chunks[longest] then longest = d end
    end
    bytes = bytes / chunks[longest]
    chunks[longest] = math.ceil(chunks[longest] / 2)
    bytes = bytes * chunks[longest]
  end
  return chunks
end

-- What a part of a dataset needs at most, in chunks or without, from its first index on.
local function bytes_of(extents, chunks, dtype, offsets)
  local bytes, count = dtypes.by_name[dtype].itemsize, 1
  for d, extent in ipairs(extents) do
    if chunks then
      local from = offsets and offsets[d] or 0
      local blocks = extent == 0 and 0 or math.floor((from + extent - 1) / chunks[d]) - math.floor(from / chunks[d]) + 1
      count, extent = count * blocks, blocks * chunks[d]
    end
    bytes = bytes * extent
  end
  return bytes + (chunks and 256 * count or 0) -- an entry of the index, and what does not compress
end

-- The options of create_dataset, checked.
local function layout_of(options, where)
  options = file.options(options, { dtype = true, shape = true, maxshape = true, chunks = true, deflate = true }, where)
  local dtype = new_dtype(options.dtype, where)
  if options.shape == nil then mismatch(where, "shape", "a list of extents", nil) end
  local shape = file.list(options.shape, nil, 0, where, "shape")
  if #shape > C.NMPI_MAX_NDIM then
    raise(where, ("argument 'shape': expected at most %d dimensions, got %d"):format(C.NMPI_MAX_NDIM, #shape))
  end
  local maxshape, chunks, deflate = options.maxshape, options.chunks, options.deflate
  if maxshape ~= nil then
    maxshape = file.list(maxshape, #shape, 0, where, "maxshape", UNLIMITED)
    for d, extent in ipairs(shape) do
      if extent > maxshape[d] then
        raise(where, ("argument 'maxshape': expected no less than the shape %s, got %s"):format(file.show(shape),
          file.show(maxshape)))
      end
    end
  end
  if deflate ~= nil and (type(deflate) ~= "number" or deflate % 1 ~= 0 or deflate < 0 or deflate > 9) then
    mismatch(where, "deflate", "a level from 0 to 9", deflate)
  end
  if chunks ~= nil then
    chunks = file.list(chunks, #shape, 1, where, "chunks")
    for d, extent in ipairs(maxshape or shape) do
      if chunks[d] > math.max(extent, 1) then
        raise(where, ("argument 'chunks': expected no more than the shape can be, %s, got %s"):format(
          file.show(maxshape or shape), file.show(chunks)))
      end
    end
  elseif maxshape or deflate then
    chunks = guess_chunks(shape, maxshape, dtypes.by_name[dtype].itemsize)
  end
  if chunks and #shape == 0 then raise(where, "a dataset of no dimensions has no chunks and cannot grow") end
  return { dtype = dtype, shape = shape, maxshape = maxshape, chunks = chunks, deflate = deflate }
end

local function create_dataset(id, name, layout, where)
  local list = list_of(H.H5P_CLS_DATASET_CREATE_ID_g, H.H5Pset_obj_track_times, false)
  if layout.chunks then got(H.H5Pset_chunk(list, #layout.chunks, dims_of(layout.chunks)), where) end
  if layout.deflate then got(H.H5Pset_deflate(list, layout.deflate), where) end
  local space = new_space(layout.shape, layout.maxshape, where)
  local made = got(H.H5Dcreate2(id, name, TYPES[layout.dtype], space, links, list, DEFAULT), where)
  H.H5Sclose(space)
  H.H5Pclose(list)
  return made
end

--- Creates a dataset. Files and groups have this method.
-- @string name
-- @tparam table options `shape`, a list of at most 8 extents; `dtype` ("double"); `maxshape`, the extents that it can
-- grow to, `hdf5.UNLIMITED` among them; `chunks`, the shape of the blocks that it is stored in (by default one block
-- without `maxshape` and `deflate`, else at most 1 MiB each, of extent 1 in dimensions that can grow); `deflate`, the
-- level of compression, 0 to 9
-- @treturn dataset
-- @usage local height = file:create_dataset("height", { shape = { 0, 512, 512 },
--   maxshape = { hdf5.UNLIMITED, 512, 512 } })
-- @function file:create_dataset
function group.create_dataset(self, name, options)
  local where = "hdf5.create_dataset"
  local f = open_file(self, where)
  local layout
  file.checked(f.comm, where, function()
    check_name(name, where)
    layout = layout_of(options, where)
    return {
      { "name", name }, { "dtype", layout.dtype }, { "shape", file.show(layout.shape) },
      { "maxshape", layout.maxshape and file.show(layout.maxshape) or "nil" },
      { "chunks", layout.chunks and file.show(layout.chunks) or "nil" }, { "deflate", tostring(layout.deflate) },
    }
  end)
  local bytes = bytes_of(layout.shape, layout.chunks, layout.dtype)
  local id = change(f, bytes, where, create_dataset, self.id, name, layout, where)
  return describe_dataset(adopt(f, dataset, id, name))
end

--- Opens a group or dataset. Files and groups have this method.
-- @string name
-- @return group or dataset
-- @function file:open_object
function group.open_object(self, name)
  local where = "hdf5.open_object"
  local f = open_file(self, where)
  file.checked(f.comm, where, function() return { { "name", check_name(name, where) } } end)
  local id = file.together(f.comm, where, function()
    local opened = H.H5Oopen(self.id, name, DEFAULT)
    if opened < 0 then raise(where, ("'%s': %s"):format(name, reason())) end
    return opened
  end)
  local GROUP, DATASET = 2, 5
  local kind = H.H5Iget_type(id)
  if kind == GROUP then return adopt(f, group, id, name) end
  if kind == DATASET then return describe_dataset(adopt(f, dataset, id, name)) end
  return raise(where, ("'%s' is neither a group nor a dataset"):format(name))
end

-- ---- datasets ----

-- The array, where it goes, and what HDF5 is given: contiguous memory.
local function prepare(self, value, start, read, where)
  if not self.dtype then raise(where, ("'%s' has elements of a type that is no dtype"):format(self.name)) end
  local a = (read and file.writable or file.array)(value, where, "array")
  local offsets, extents = file.place(a, self.shape, start, where)
  if a.length == 0 then return a, a, nil end
  if a.dtype ~= self.dtype then
    mismatch(where, "array", "an array of the dataset's dtype, " .. self.dtype, value)
  end
  local whole = a
  if not a:is_contiguous() then whole = read and arrays.empty(shape_of_array(a), a.dtype) or a:copy() end
  return a, whole, { offsets = offsets, extents = extents }
end

local function move(self, routine, whole, selection, where)
  local space, memory = H.H5Dget_space(self.id), new_space(selection and selection.extents or { 1 }, nil, where)
  if not selection then
    H.H5Sselect_none(space)
    H.H5Sselect_none(memory)
  elseif #selection.extents > 0 then
    got(H.H5Sselect_hyperslab(space, 0, dims_of(selection.offsets), nil, dims_of(selection.extents), nil), where)
  end
  local code = routine(self.id, TYPES[self.dtype], memory, space, transfer, whole.p.any)
  check.keep_reads()
  local message = code < 0 and reason()
  H.H5Sclose(memory)
  H.H5Sclose(space)
  if message then raise(where, ("'%s': %s"):format(self.name, message)) end
end

--- Writes an array into a part of the dataset.
-- @tparam array array of any layout and of the dataset's dtype; one of fewer dimensions stands for the last ones; an
-- empty one takes part with nothing. The parts of different ranks must not overlap
-- @param[opt] start the part's first index in each dimension of the dataset, from 0; by default all 0
-- @function dataset:write
-- @usage height:write(domain:interior(field), { step, domain.start[1], domain.start[2] })
function dataset.write(self, array, start)
  local where = "hdf5.write"
  local f = open_file(self, where)
  local _, whole, selection = file.together(f.comm, where, prepare, self, array, start, false, where)
  local bytes = 0
  if self.filtered then
    bytes = file.sum(f.comm, where,
      selection and bytes_of(selection.extents, self.chunks, self.dtype, selection.offsets) or 0)
  end
  change(f, bytes, where, move, self, H.H5Dwrite, whole, selection, where)
end

--- Reads a part of the dataset.
-- @tparam array array as for `dataset:write`
-- @param[opt] start the part's first index in each dimension of the dataset, from 0; by default all 0
-- @treturn array the array
-- @function dataset:read
function dataset.read(self, array, start)
  local where = "hdf5.read"
  local f = open_file(self, where)
  local a, whole, selection = file.together(f.comm, where, prepare, self, array, start, true, where)
  file.together(f.comm, where, function()
    move(self, H.H5Dread, whole, selection, where)
    if whole ~= a and selection then a:assign(whole) end
  end)
  return array
end

--- Changes the dataset's shape, within its `maxshape`.
-- @param shape a list of extents
-- @function dataset:resize
function dataset.resize(self, shape)
  local where = "hdf5.resize"
  local f = open_file(self, where)
  local wanted
  file.checked(f.comm, where, function()
    wanted = file.list(shape, #self.shape, 0, where, "shape")
    for d, extent in ipairs(wanted) do
      if extent > self.maxshape[d] then
        raise(where, ("argument 'shape': expected no more than the maxshape %s, got %s"):format(
          file.show(self.maxshape), file.show(wanted)))
      end
    end
    return { { "shape", file.show(wanted) } }
  end)
  local chunks, dtype = self.chunks, self.dtype
  local more = math.max(0, bytes_of(wanted, chunks, dtype) - bytes_of(self.shape, chunks, dtype))
  change(f, more, where, function() got(H.H5Dset_extent(self.id, dims_of(wanted)), where) end)
  self.shape = wanted
end

for name, method in pairs(group) do opened_file[name] = method end
group.__index, dataset.__index, opened_file.__index = group, dataset, opened_file

return hdf5
