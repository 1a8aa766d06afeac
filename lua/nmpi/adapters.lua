-- SPDX-License-Identifier: MIT
-- The arrays of other libraries that nmpi knows, by their layout alone: none of these libraries is needed or loaded.

local ffi = require "ffi"
local buffer = require "nmpi.buffer"

local type, tonumber, pcall, pairs, ipairs = type, tonumber, pcall, pairs, ipairs
local cast, istype, offsetof, typeof = ffi.cast, ffi.istype, ffi.offsetof, ffi.typeof
local loaded = package.loaded

-- The key of the first named C type that a cdata is of, and nil if it is of none; references and pointers count too.
local function named(value, names)
  for name, key in pairs(names) do
    local known, ctype = pcall(typeof, name)
    if known and istype(ctype, value) then return key end
  end
end

-- Whether a cdata is a struct, or a reference to one, with fields at these offsets; a pointer is not.
local function has_fields(value, offsets)
  for name, offset in pairs(offsets) do
    if offsetof(typeof(value), name) ~= offset then return false end
  end
  return true
end

-- ---- Torch7: userdata with methods ----

-- The tensors of CUDA are left out: their memory is not the host's.
local torch_dtypes = {
  ["torch.ByteTensor"] = "uint8", ["torch.CharTensor"] = "int8", ["torch.ShortTensor"] = "int16",
  ["torch.IntTensor"] = "int32", ["torch.LongTensor"] = "long", ["torch.HalfTensor"] = "THHalf",
  ["torch.FloatTensor"] = "float", ["torch.DoubleTensor"] = "double",
}
local nothing = ffi.new "char[1]"

local function is_torch(value)
  local torch = type(value) == "userdata" and loaded.torch
  return torch and torch_dtypes[torch.typename(value)] ~= nil
end

local function from_torch(tensor)
  local dtype = torch_dtypes[loaded.torch.typename(tensor)]
  -- To Torch a tensor without dimensions has no elements, and may have no memory.
  if tensor:dim() == 0 then return nothing, 0, dtype end
  return tensor:data(), tensor:size():totable(), dtype, tensor:stride():totable()
end

buffer.register(is_torch, from_torch)

-- ---- SciLua: sci.alg's matrices, of any element type, without names; a vector is a matrix of one column ----

local SCILUA = { _n = 0, _r = 4, _c = 8, _p = ffi.abi "64bit" and 16 or 12 }

local function is_scilua(value)
  return type(value) == "cdata" and has_fields(value, SCILUA)
end

local function from_scilua(matrix)
  return matrix._p, { matrix._r, matrix._c }
end

buffer.register(is_scilua, from_scilua)

-- ---- GSL and GSL Shell: matrices and vectors, of which the complex ones point to their real parts ----

local gsl_types = {} -- names, and what is known of them
local gsl_known = {} -- the same by type id
for _, suffix in ipairs {
  "", "_float", "_complex", "_complex_float", "_char", "_uchar", "_short", "_ushort", "_int", "_uint", "_long",
  "_ulong",
} do
  local dtype = suffix == "_complex" and "complex double" or suffix == "_complex_float" and "complex float" or nil
  gsl_types["gsl_vector" .. suffix] = { dtype = dtype, vector = true }
  gsl_types["gsl_matrix" .. suffix] = { dtype = dtype, vector = false }
end

local function is_gsl(value)
  local known = type(value) == "cdata" and named(value, gsl_types)
  if not known then return false end
  gsl_known[tonumber(typeof(value))] = known
  return true
end

local function from_gsl(x)
  if cast("void *", x) == nil then return nil end
  local known = gsl_known[tonumber(typeof(x))]
  if known.vector then return x.data, tonumber(x.size), known.dtype, tonumber(x.stride) end
  return x.data, { tonumber(x.size1), tonumber(x.size2) }, known.dtype, { tonumber(x.tda), 1 }
end

buffer.register(is_gsl, from_gsl)

-- ---- MAD-NG: matrices that hold their elements; a vector is a matrix of one column or one row ----

local MAD = { nr = 0, nc = 4, data = 8 }
local mad_types = {}
for _, kind in ipairs { "matrix", "cmatrix", "imatrix" } do
  mad_types["struct " .. kind] = true
  mad_types["struct " .. kind .. "_cview"] = true -- of which the elements are const
  mad_types[kind .. "_t"] = true -- of old
end

local function is_mad(value)
  return type(value) == "cdata" and has_fields(value, MAD) and named(value, mad_types) == true
end

local function from_mad(matrix)
  return matrix.data + 0, { matrix.nr, matrix.nc }
end

buffer.register(is_mad, from_mad)
