-- SPDX-License-Identifier: MIT
-- Arrays of every dtype in every layout: each element tells its rank and index, guards lie around and between them.

local ffi = require "ffi"
local mpi = require "nmpi"

if not pcall(ffi.typeof, "struct nmpi_spec_particle") then
  ffi.cdef [[
    struct nmpi_spec_particle { double position[3]; int32_t id; char tag[4]; };
    struct nmpi_spec_colour { uint8_t r, g, b; };
    int memcmp(const void *, const void *, size_t);
    int nmpi_set_max_count(int64_t count);
  ]]
end

local data = {
  dtypes = {
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "complex float",
    "complex double", "bool", "char", "float_int", "double_int", "long_int", "short_int", "2int",
    "struct nmpi_spec_particle", "struct nmpi_spec_colour",
  },
  layouts = { "C", "Fortran", "stepped", "backwards", "transposed", "column", "block3", "block4" },
}

-- ---- elements ----

-- The top bits of a product, which differ even between neighbours.
local function mixed(k, bits)
  return math.floor((k * 2654435 + 12345) % 2 ^ 32 / 2 ^ (32 - bits))
end

local function wide(k)
  return ffi.cast("uint64_t", k) * 0x9e3779b97f4a7c15ULL
end

-- Seeds are whole numbers of at least 0 and below 2^30.
local value = {
  int8 = function(k) return mixed(k, 8) - 2 ^ 7 end,
  int16 = function(k) return mixed(k, 16) - 2 ^ 15 end,
  int32 = function(k) return mixed(k, 32) - 2 ^ 31 end,
  int64 = function(k) return ffi.cast("int64_t", wide(k)) end,
  uint8 = function(k) return mixed(k, 8) end,
  uint16 = function(k) return mixed(k, 16) end,
  uint32 = function(k) return mixed(k, 32) end,
  uint64 = wide,
  float = function(k) return (mixed(k, 24) - 2 ^ 23) / 16 end,
  double = function(k) return k / 7 - 1e5 end,
  bool = function(k) return mixed(k, 1) == 1 end,
}
value.char = value.int8
value["complex float"] = function(k) return ffi.new("complex float", value.float(k), value.float(k + 1)) end
value["complex double"] = function(k) return ffi.new("complex double", k / 3, -k / 7) end
value.float_int = function(k) return { value.float(k), value.int32(k) } end
value.double_int = function(k) return { value.double(k), value.int32(k) } end
value.long_int = function(k) return { value.int64(k), value.int32(k) } end
value.short_int = function(k) return { value.int16(k), value.int32(k) } end
value["2int"] = function(k) return { value.int32(k + 1), value.int32(k) } end
value["struct nmpi_spec_particle"] = function(k)
  return { { k / 3, k / 7, -k }, value.int32(k), { value.int8(k), 2, 3, value.int8(k + 1) } }
end
value["struct nmpi_spec_colour"] = function(k) return { mixed(k, 8), mixed(k + 1, 8), mixed(k + 2, 8) } end

data.value = value

--- The seed of what is no element.
data.GUARD = 2 ^ 29

--- What lies where nothing may be written.
function data.guard(dtype)
  return value[dtype](data.GUARD)
end

function data.is_pair(dtype)
  return dtype:find "int$" ~= nil and dtype:find "[_2]" ~= nil
end

--- The seed of a rank's elements.
function data.seed(rank)
  return (rank + 1) * 1000003
end

-- ---- layouts ----

local known_extents = {
  [0] = { [2] = { 3, 0 }, [3] = { 2, 0, 3 }, [4] = { 2, 3, 0, 1 }, [8] = { 1, 2, 1, 3, 0, 1, 2, 1 } },
  [7] = { [2] = { 1, 7 }, [3] = { 7, 1, 1 }, [4] = { 1, 7, 1, 1 } },
  [24] = { [2] = { 4, 6 }, [3] = { 2, 3, 4 }, [4] = { 3, 1, 4, 2 } },
  [1000] = { [2] = { 25, 40 }, [3] = { 5, 10, 20 }, [4] = { 4, 5, 2, 25 } },
  [200000] = { [2] = { 400, 500 }, [3] = { 25, 80, 100 }, [4] = { 8, 25, 20, 50 } },
}

-- The extents of n elements in ndim dimensions; those not listed are about equal.
local function extents(n, ndim)
  local known = known_extents[n] and known_extents[n][ndim]
  if known then return known end
  local e, factors, rest, p = {}, {}, n, 2
  for d = 1, ndim do e[d] = 1 end
  while rest > 1 do
    if p * p > rest then p = rest end
    if rest % p == 0 then
      factors[#factors + 1], rest = p, rest / p
    else
      p = p + 1
    end
  end
  for i = #factors, 1, -1 do
    local least = 1
    for d = 2, ndim do
      if e[d] < e[least] then least = d end
    end
    e[least] = e[least] * factors[i]
  end
  known_extents[n] = known_extents[n] or {}
  known_extents[n][ndim] = e
  return e
end

local function block(e, dtype)
  local shape, ranges = {}, {}
  for d = 1, #e do shape[d], ranges[d] = e[d] + 2, { 1, e[d] + 1 } end
  local base = mpi.zeros(shape, dtype)
  return base, base:slice(unpack(ranges))
end

-- Each returns the memory as a contiguous array, and the view of n of its elements.
local layouts = {}

function layouts.C(n, dtype)
  local base = mpi.zeros(n + 6, dtype)
  return base, base:slice { 3, n + 3 }
end

function layouts.Fortran(n, dtype)
  local e = extents(n, 2)
  local base = mpi.zeros({ e[1], e[2] + 2 }, dtype, "F")
  return base, base:slice(nil, { 1, e[2] + 1 })
end

function layouts.stepped(n, dtype)
  local base = mpi.zeros(3 * n + 2, dtype)
  return base, base:slice { 1, 3 * n + 1, 3 }
end

function layouts.backwards(n, dtype)
  local base = mpi.zeros(2 * n + 2, dtype)
  return base, base:slice { 2 * n, 0, -2 }
end

function layouts.transposed(n, dtype)
  local e = extents(n, 2)
  local base = mpi.zeros({ e[2], e[1] + 2 }, dtype)
  return base, base:slice(nil, { 1, e[1] + 1 }):transpose()
end

function layouts.column(n, dtype)
  local base = mpi.zeros({ n, 3 }, dtype)
  return base, base:col(1)
end

function layouts.block2(n, dtype) return block(extents(n, 2), dtype) end

function layouts.block3(n, dtype) return block(extents(n, 3), dtype) end

function layouts.block4(n, dtype) return block(extents(n, 4), dtype) end

-- Not in data.layouts: of large arrays it takes several times the memory.
function layouts.block8(n, dtype)
  local shape, ranges, e = {}, {}, extents(n, 8)
  for d = 1, 8 do
    local first = d % 2
    shape[d], ranges[d] = e[d] + 1, { first, first + e[d] }
  end
  local base = mpi.zeros(shape, dtype)
  return base, base:slice(unpack(ranges))
end

function layouts.scalar(n, dtype)
  assert(n == 1)
  local base = mpi.zeros(3, dtype)
  return base, base:slice(1)
end

--- The layouts that an array of n elements can have.
function data.layouts_of(n)
  if n ~= 1 then return data.layouts end
  local list = { "scalar" }
  for _, layout in ipairs(data.layouts) do list[#list + 1] = layout end
  return list
end

--- The layouts of large arrays: those that differ in kind, and by turns one of the others.
function data.large_layouts(position)
  return { "C", "Fortran", "stepped", "backwards", data.layouts[5 + position % (#data.layouts - 4)] }
end

--- The element of a list at any whole position, counted from 0 and round the list.
function data.at(list, position)
  return list[position % #list + 1]
end

-- ---- arrays ----

-- From here on no array is filled element by element, and its memory is used again.
local LARGE = 1000

-- Memories of large arrays of one dtype, all guards, by layout and size.
local spare = {}

local function spares(layout, n, dtype)
  if spare.dtype ~= dtype then spare = { dtype = dtype } end
  local key = layout .. n
  spare[key] = spare[key] or {}
  return spare[key]
end

--- A view of n elements, all of them guards, and the memory that it lies in.
function data.guards(layout, n, dtype)
  local used = n > LARGE and table.remove(spares(layout, n, dtype))
  if used then return used.view, used.memory end
  local base, view = layouts[layout](n, dtype)
  base:fill(data.guard(dtype))
  return view, base
end

-- Sets the elements from dimension d on, in row-major order; k is the position of the first. Returns that of the next.
local function set(a, d, offset, k)
  if d == a.ndim then
    if k < a.count then a.p[offset] = a.element(a.seed + k) end
    return k + 1
  end
  local extent, stride = a.shape[d], a.strides[d]
  if d < a.ndim - 1 then
    for i = 0, extent - 1 do k = set(a, d + 1, offset + i * stride, k) end
    return k
  end
  local p, element, first = a.p, a.element, a.seed + k
  for i = 0, math.min(extent, a.count - k) - 1 do p[offset + i * stride] = element(first + i) end
  return k + extent
end

--- Sets the elements of a view, or the first `count` of them, to value(seed), value(seed + 1), ...
function data.fill(view, seed, count, element)
  set({
    p = view.data, ndim = view.ndim, shape = view.shape, strides = view.strides, seed = seed,
    count = count or view.size, element = element or value[view.dtype],
  }, 0, 0, 0)
  return view
end

-- A prime, so that neither parts nor rows begin alike.
local PERIOD = 509

-- The elements of a period, by dtype and seed.
local periods = {}

local function period(dtype, seed)
  local key = dtype .. seed
  if not periods[key] then periods[key] = data.fill(mpi.zeros(PERIOD, dtype), seed) end
  return periods[key]
end

--- n contiguous elements: value(seed), value(seed + 1), ..., after a period the same again, which is fast to make.
-- Instead of values, element(0), element(1), ... where the function is given.
function data.pattern(n, dtype, seed, element)
  local a, done = mpi.zeros(n, dtype), math.min(n, PERIOD)
  if element then
    data.fill(a, 0, done, element)
  else
    ffi.copy(a.data, period(dtype, seed).data, done * a.itemsize)
  end
  while done < n do
    local more = math.min(done, n - done)
    ffi.copy(a.data + done, a.data, more * a.itemsize)
    done = done + more
  end
  return a
end

--- A view that holds the elements of a contiguous array, and the memory that it lies in, where the rest are guards.
function data.holding(layout, contents)
  local view, base = data.guards(layout, contents.size, contents.dtype)
  if contents.size > 100 then
    view:assign(contents:reshape(view.shape))
  else -- without the core's loops over views, which are under test
    local p = contents.data
    data.fill(view, 0, nil, function(k) return p[k] end)
  end
  return view, base
end

--- The same, filled.
function data.new(layout, n, dtype, seed, count, element)
  local view, base = data.guards(layout, n, dtype)
  return data.fill(view, seed, count, element), base
end

local function show(x, pair)
  return pair and ("{%s, %d}"):format(tostring(x.value), x.index) or tostring(x)
end

-- What does not travel: words of a dtype, from the n-th on, each so many words after the last.
local padding = {
  double_int = { dtype = "int32", first = 3, step = 4 },
  long_int = { dtype = "int32", first = 3, step = 4 },
  short_int = { dtype = "int16", first = 1, step = 4 },
}

local function clear_padding(a)
  local words = padding[a.dtype]
  if words == nil or a.size == 0 then return end
  local p = ffi.cast(ffi.typeof("$ *", ffi.typeof(words.dtype .. "_t")), a.data)
  mpi.wrap(p + words.first, a.size, words.dtype, words.step):fill(0)
end

--- What is different between two contiguous arrays, by default two memories of one layout; nil if nothing is.
-- Clears the padding of their elements.
function data.difference(got, expected, what)
  local bytes = got.itemsize
  clear_padding(got)
  clear_padding(expected)
  if ffi.C.memcmp(got.data, expected.data, got.size * bytes) == 0 then return nil end
  for i = 0, got.size - 1 do
    if ffi.C.memcmp(got.data + i, expected.data + i, bytes) ~= 0 then
      local pair = data.is_pair(got.dtype)
      return ("element %d of the %s is %s, expected %s"):format(i, what or "memory", show(got.data[i], pair),
        show(expected.data[i], pair))
    end
  end
end

-- Whether all elements of a memory are guards: the first is, and each is like the one before it.
local function only_guards(memory)
  local guard = mpi.zeros(1, memory.dtype)
  guard:fill(data.guard(memory.dtype))
  clear_padding(guard)
  clear_padding(memory)
  local p, bytes = memory.data, memory.itemsize
  return ffi.C.memcmp(p, guard.data, bytes) == 0 and ffi.C.memcmp(p, p + 1, (memory.size - 1) * bytes) == 0
end

--- What is wrong where a view should hold the elements of a contiguous array, and all else in its memory be guards; nil
-- if nothing is. Clears the padding of their elements. The view is used up: one of its kind may get its memory.
function data.mismatch(layout, view, memory, contents)
  if view.size <= LARGE then return data.difference(memory, select(2, data.holding(layout, contents))) end
  local flat = mpi.empty(view.size, view.dtype)
  flat:reshape(view.shape):assign(view)
  local wrong = data.difference(flat, contents, "array")
  view:fill(data.guard(view.dtype))
  if not only_guards(memory) then
    return wrong or data.difference(memory, select(2, data.guards(layout, view.size, view.dtype)))
  end
  table.insert(spares(layout, view.size, view.dtype), { view = view, memory = memory })
  return wrong
end

return data
