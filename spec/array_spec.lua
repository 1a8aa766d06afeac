-- SPDX-License-Identifier: MIT
local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
require "spec.support.data" -- declares memcmp

local RANK, SIZE = mpi.rank(), mpi.size()
local INF = math.huge
local NAN, MINUS_ZERO = INF - INF, -1 / INF
local HERE = debug.getinfo(1, "S").short_src

pcall(ffi.cdef, "struct spec_point { double x; int16_t n; };")

-- Element k of the test data of each dtype: differs by k and by rank, and lies where only that dtype has it exactly.
local DATA = {
  int8 = function(k) return (k * 7 + RANK * 31) % 256 - 128 end,
  int16 = function(k) return (k * 257 + RANK * 31) % 65536 - 32768 end,
  int32 = function(k) return k * 65537 + RANK - 2147483648 end,
  int64 = function(k) return -9007199254740993LL * (RANK + 1) - k end,
  uint8 = function(k) return (k * 7 + RANK * 31 + 128) % 256 end,
  uint16 = function(k) return (k * 257 + RANK * 31 + 32768) % 65536 end,
  uint32 = function(k) return 4294967295 - k * 65537 - RANK end,
  uint64 = function(k) return 0xffffffffffffffffULL - k * 3 - RANK end,
  float = function(k) return k * 0.25 - RANK end,
  double = function(k) return k / 3 - RANK * 1e10 end,
  ["complex float"] = function(k) return ffi.new("complex float", k * 0.5, -RANK - k) end,
  ["complex double"] = function(k) return ffi.new("complex", k / 3, -RANK - k / 7) end,
  bool = function(k) return (k * 5 + RANK) % 3 == 0 end,
  char = function(k) return (k * 11 + RANK) % 256 - 128 end,
  float_int = function(k) return { k * 0.5 - RANK, k + RANK } end,
  double_int = function(k) return { k / 3 - RANK, k + RANK } end,
  long_int = function(k) return { -9007199254740993LL - k, k + RANK } end,
  short_int = function(k) return { k - 30000 - RANK, k + RANK } end,
  ["2int"] = function(k) return { k * 65537 - 2000000000, k + RANK } end,
  ["struct spec_point"] = function(k) return { k / 3 - RANK, k + RANK } end,
}

local DTYPES = {}
for dtype in pairs(DATA) do DTYPES[#DTYPES + 1] = dtype end
table.sort(DTYPES)

local NUMERIC = { "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double",
  "complex float", "complex double", "bool", "char" }

local PAIR_FIELDS, POINT_FIELDS = { "value", "index" }, { "x", "n" }

-- An element, or what one was made from, as something that == compares.
local function plain(x)
  if type(x) == "table" then return tostring(x[1]) .. "," .. tostring(x[2]) end
  if type(x) ~= "cdata" then return x end
  if ffi.istype("int64_t", x) or ffi.istype("uint64_t", x) then return tostring(x) end
  if ffi.istype("complex", x) or ffi.istype("complex float", x) then
    return tostring(x.re) .. "," .. tostring(x.im)
  end
  local fields = ffi.istype("struct spec_point", x) and POINT_FIELDS or PAIR_FIELDS
  return tostring(x[fields[1]]) .. "," .. tostring(x[fields[2]])
end

-- As assert, but without luassert's price, for loops over elements.
local function check(ok, format, ...)
  if not ok then error(format:format(...), 2) end
end

local function check_same(got, expected, format, ...)
  got, expected = plain(got), plain(expected)
  if got ~= expected then
    error(("%s: expected %s, got %s"):format(format:format(...), tostring(expected), tostring(got)), 2)
  end
end

local function product(list, from, to)
  local n = 1
  for i = from or 1, to or #list do n = n * list[i] end
  return n
end

-- Calls f(index, k) for every index (a list of 0-based numbers) of a shape, in row-major order.
local function each_index(shape, f)
  for k = 0, product(shape) - 1 do
    local index = {}
    for d = 1, #shape do index[d] = math.floor(k / product(shape, d + 1)) % shape[d] end
    f(index, k)
  end
end

-- The position in memory of an index, for an array without gaps.
local function position(shape, order, index)
  local p = 0
  if order == "F" then
    for d = #shape, 1, -1 do p = p * shape[d] + index[d] end
  else
    for d = 1, #shape do p = p * shape[d] + index[d] end
  end
  return p
end

local function list_of(extents)
  local list = {}
  for d = 0, #extents - 1 do list[d + 1] = extents[d] end
  return list
end

-- A new array whose elements are DATA[dtype](k), k counting in row-major order.
local function data_array(shape, dtype, order)
  local a = mpi.empty(shape, dtype, order)
  each_index(shape, function(index, k)
    index[#index + 1] = DATA[dtype](k)
    a:set(unpack(index))
  end)
  return a
end

-- All elements in row-major order, as a list without nesting.
local function elements(a)
  local list = {}
  each_index(list_of(a.shape), function(index, k)
    list[k + 1] = plain(a:get(unpack(index)))
  end)
  return list
end

-- The bytes of all arrays that are still there. Compiled code may hold on to some that nothing else refers to.
local function storage()
  jit.flush()
  for _ = 1, 3 do collectgarbage() end
  return tonumber(core.nmpi_memory_bytes())
end

-- The call in f must fail at f's own (only) line, with a message that holds the text.
local function rejects(f, text)
  local ok, message = pcall(f)
  local line = debug.getinfo(f, "S").linedefined
  check(not ok, "line %d: expected an error", line)
  local place = ("%s:%d: "):format(HERE, line)
  check(message:sub(1, #place) == place, "line %d: expected the error at %s, got %s", line, place, message)
  check(message:find(text, 1, true), "line %d: expected an error with %q, got %q", line, text, message)
end

local FULL_SHAPE = { 2, 3, 1, 2, 2, 1, 3, 2 }

local function shape_of(ndim)
  return { unpack(FULL_SHAPE, 1, ndim) }
end

pcall(ffi.cdef, "struct spec_tail { int n; double tail[?]; };")

describe("arrays: making", function()
  it("makes zeros of every dtype, order and number of dimensions", function()
    for _, dtype in ipairs(DTYPES) do
      for ndim = 0, 8 do
        for _, order in ipairs { "C", "F" } do
          local shape = shape_of(ndim)
          local a = mpi.zeros(shape, dtype, order)
          assert.equal(dtype, a.dtype)
          assert.equal(ndim, a.ndim)
          assert.equal(product(shape), a.size)
          assert.same(shape, list_of(a.shape))
          for d = 1, ndim do
            local stride = order == "C" and product(shape, d + 1) or product(shape, 1, d - 1)
            check(a.strides[d - 1] == stride, "%s %s stride %d", dtype, order, d - 1)
          end
          local bytes = a.size * a.itemsize
          check(ffi.string(a.data, bytes) == ("\0"):rep(bytes), "%s %s: not zero", dtype, order)
        end
      end
    end
  end)

  it("makes zeros where large arrays have been freed, for each array its own", function()
    local MIB = 2 ^ 20
    -- More of them, and more bytes, than are kept.
    for _, case in ipairs { { 6, 2 * MIB }, { 6, 2 * MIB + 1 }, { 2, 40 * MIB }, { 3, 4 * MIB } } do
      local n, bytes = unpack(case)
      for _ = 1, 3 do
        local arrays = {}
        for k = 1, n do
          local a = mpi.zeros(bytes, "int8")
          check(a[0] == 0 and ffi.C.memcmp(a.data, a.data + 1, bytes - 1) == 0, "%d bytes: not zero", bytes)
          arrays[k] = a:fill(k)
        end
        for k, a in ipairs(arrays) do
          check(a[0] == k and a[bytes - 1] == k, "%d bytes: not its own", bytes)
          a:free()
        end
      end
    end
  end)

  it("takes double, and C order, by default", function()
    for _, a in ipairs { mpi.zeros { 2, 3 }, mpi.empty { 2, 3 }, mpi.zeros({ 2, 3 }, nil, nil) } do
      assert.equal("double", a.dtype)
      assert.equal(8, a.itemsize)
      assert.same({ 3, 1 }, list_of(a.strides))
    end
  end)

  it("takes a number, a list, and another array's shape", function()
    assert.same({ 5 }, list_of(mpi.zeros(5).shape))
    assert.same({}, list_of(mpi.zeros({}).shape))
    local a = mpi.zeros { 4, 0, 2 }
    assert.same({ 4, 0, 2 }, list_of(mpi.empty(a.shape, "int8").shape))
    assert.is_true(mpi.empty(a.shape).shape == a.shape)
    assert.is_false(mpi.empty({ 4, 0 }).shape == a.shape)
    assert.is_false(mpi.empty({ 4, 0, 3 }).shape == a.shape)
    assert.equal("(4, 0, 2)", tostring(a.shape))
    assert.equal("(5,)", tostring(mpi.zeros(5).shape))
    assert.equal("()", tostring(mpi.zeros({}).shape))
  end)

  it("aligns its storage", function()
    for _, n in ipairs { 0, 1, 3, 1000, 300000 } do
      local address = tonumber(ffi.cast("uintptr_t", mpi.empty(n, "int8").data))
      assert.equal(0, address % core.NMPI_ALIGNMENT)
    end
  end)

  it("takes nested lists of any depth", function()
    for ndim = 0, 8 do
      local values, shape = RANK + 0.5, {}
      for d = ndim, 1, -1 do
        values, shape[d] = d % 2 == 0 and { values, values } or { values }, d % 2 == 0 and 2 or 1
      end
      for _, order in ipairs { "C", "F" } do
        local a = mpi.array(values, "double", order)
        assert.same(shape, list_of(a.shape))
        assert.same(values, a:totable())
        assert.is_true(a:is_contiguous(order))
      end
    end
    local a = mpi.array({ { 1, 2, 3 }, { 4, 5, 6 } }, "int16", "F")
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, a:totable())
    assert.same({ 1, 2 }, list_of(a.strides))
    assert.same({ 1, 4, 2, 5, 3, 6 }, mpi.wrap(a.data, 6):totable())
  end)

  it("takes the dtype from the first value", function()
    assert.equal("double", mpi.array({ 1, 2 }).dtype)
    assert.equal("double", mpi.array({}).dtype)
    assert.equal("double", mpi.array(3).dtype)
    assert.equal("bool", mpi.array({ { true }, { false } }).dtype)
    assert.equal("bool", mpi.array(false).dtype)
    assert.equal("char", mpi.array("text").dtype)
    assert.equal("int64", mpi.array({ 1LL, 2 }).dtype)
    assert.equal("uint64", mpi.array(5ULL).dtype)
    assert.equal("complex double", mpi.array({ ffi.new("complex", 1, 2) }).dtype)
    assert.equal("complex float", mpi.array({ ffi.new("complex float", 1, 2) }).dtype)
    assert.equal("struct spec_point", mpi.array({ ffi.new("struct spec_point", 1, 2) }).dtype)
    assert.equal("int8", mpi.array({ 1, 2 }, "int8").dtype)
  end)

  it("takes values of every dtype", function()
    for _, dtype in ipairs(DTYPES) do
      local values = {}
      for k = 0, 5 do values[k + 1] = DATA[dtype](k) end
      local a = mpi.array(values, dtype)
      assert.equal(6, a.size)
      for k = 0, 5 do check_same(a[k], values[k + 1], "%s", dtype) end
    end
    assert.same({ true, false, true }, mpi.array({ 2, 0, -1 }, "bool"):totable())
    assert.equal("xyz", mpi.array({ "x", "y", 122 }, "char"):tostring())
    local named = mpi.array({ { n = 3, x = 0.5 }, { x = -1 } }, "struct spec_point")
    assert.same({ 0.5, 3, -1, 0 }, { named[0].x, named[0].n, named[1].x, named[1].n })
  end)

  it("takes strings, byte by byte", function()
    local text = "rank " .. RANK .. "\0\n\255 end"
    local a = mpi.array(text)
    assert.equal(#text, a.size)
    assert.equal(text, a:tostring())
    assert.equal(-1, a[8])
    assert.equal(255, mpi.array(text, "uint8")[8])
    assert.equal(0, mpi.array("").size)
    assert.equal("", mpi.array(""):tostring())
  end)

  it("copies arrays", function()
    for _, dtype in ipairs { "int64", "complex float", "struct spec_point" } do
      local a = data_array({ 2, 3 }, dtype)
      local b = mpi.array(a:transpose(), nil, "F")
      assert.equal(dtype, b.dtype)
      assert.same(elements(a:transpose()), elements(b))
      assert.is_true(b:is_contiguous "F")
      assert.is_true(b.data ~= a.data)
    end
    assert.same({ 1, -2 }, mpi.array(mpi.array { 1.9, -2.9 }, "int32"):totable())
  end)

  it("makes empty arrays of every dtype", function()
    for _, dtype in ipairs(DTYPES) do
      for _, shape in ipairs { { 0 }, { 0, 3 }, { 3, 0 }, { 2, 0, 3 }, { 0, 0 }, { 1, 2, 1, 0, 1, 2, 1, 3 } } do
        for _, order in ipairs { "C", "F" } do
          local a = mpi.zeros(shape, dtype, order)
          assert.equal(0, a.size)
          assert.equal(shape[1], #a)
          assert.is_true(a.data ~= nil)
          assert.is_true(a:is_contiguous "C" and a:is_contiguous "F")
          assert.equal(0, a:copy().size)
          assert.same({ 0 }, list_of(a:flatten().shape))
          assert.equal(a.ndim, a:transpose().ndim)
          a:fill(DATA[dtype](1))
          a:assign(mpi.empty(shape, dtype))
          assert.equal(a.ndim == 1 and dtype == "char" and '""' or "[]", tostring(a))
          assert.same(list_of(a.shape), list_of(a:slice().shape))
        end
      end
    end
    assert.same({}, mpi.zeros(0):totable())
    assert.same({ {}, {} }, mpi.zeros({ 2, 0 }):totable())
    assert.same({ 0, 5 }, list_of(mpi.array({}):reshape({ 0, 5 }).shape))
    assert.same({ 2, 0 }, list_of(mpi.array({ {}, {} }).shape))
    assert.same({ 0, 3 }, list_of(mpi.zeros({ 3, 0 }):transpose().shape))
  end)
end)

describe("arrays: wrapping", function()
  it("sees raw FFI arrays with their own shape and dtype", function()
    local c = ffi.new("int[3][4]")
    local a = mpi.wrap(c)
    assert.same({ 3, 4 }, list_of(a.shape))
    assert.equal("int32", a.dtype)
    c[2][1] = 7 + RANK
    assert.equal(7 + RANK, a:get(2, 1))
    a:set(1, 3, -5)
    assert.equal(-5, c[1][3])
    assert.same({ 5 }, list_of(mpi.wrap(ffi.new("double[?]", 5)).shape))
    assert.same({ 0 }, list_of(mpi.wrap(ffi.new("float[?]", 0)).shape))
    assert.equal("complex double", mpi.wrap(ffi.new "complex[2]").dtype)
    assert.equal("struct spec_point", mpi.wrap(ffi.new "struct spec_point[2]").dtype)
    local holder = ffi.new "struct { int n; double v[3]; }"
    mpi.wrap(holder.v)[2] = 2.5
    assert.equal(2.5, holder.v[2])
  end)

  it("takes another shape, dtype and strides", function()
    local c = ffi.new "double[12]"
    for i = 0, 11 do c[i] = i + 100 * RANK end
    assert.same({ 100 * RANK + 3, 100 * RANK + 7 }, mpi.wrap(c, { 3, 4 }):slice({ 0, 2 }, 3):totable())
    assert.same({ 4, 3 }, list_of(mpi.wrap(c, mpi.zeros({ 4, 3 }).shape).shape))
    assert.same({ 24 }, list_of(mpi.wrap(c, nil, "float").shape))
    assert.equal(96, mpi.wrap(c, nil, "char").size)
    assert.same({ 5, 4, 3 }, mpi.wrap(ffi.cast("double *", c) + 5, 3, nil, -1)
      :assign(mpi.array { 5, 4, 3 }):totable())
    assert.same({ 3, 4, 5 }, { c[3], c[4], c[5] })
    local every = mpi.wrap(c, { 2, 3 }, nil, { 6, 2 })
    assert.same({ { c[0], c[2], c[4] }, { c[6], c[8], c[10] } }, every:totable())
    local diagonal = mpi.wrap(c, 3, nil, 5)
    assert.same({ c[0], c[5], c[10] }, diagonal:totable())
  end)

  it("repeats elements by a stride of zero", function()
    local c = ffi.new("int16_t[4]", 3, 5 + RANK, 7, 9)
    local a = mpi.wrap(c, { 2, 3 }, nil, { 1, 0 })
    assert.same({ { 3, 3, 3 }, { 5 + RANK, 5 + RANK, 5 + RANK } }, a:totable())
    assert.same({ 3, 5 + RANK, 3, 5 + RANK, 3, 5 + RANK }, a:transpose():flatten():totable())
    assert.same({ 3, 3, 3, 5 + RANK, 5 + RANK, 5 + RANK }, elements(a:copy()))
    assert.equal("[[3 3 3]\n [3 3 3]]", tostring(mpi.wrap(c, { 2, 3 }, nil, { 0, 0 })))
    assert.is_false(a:is_contiguous())
    c[0] = 4
    assert.equal(4, a:get(0, 2))
  end)

  it("walks backwards by negative strides in every dtype", function()
    for _, dtype in ipairs(DTYPES) do
      local a = data_array({ 12 }, dtype)
      local ctype = ffi.typeof(a.data)
      local back = mpi.wrap(a.data + 11, { 3, 2 }, dtype, { -4, -2 })
      each_index({ 3, 2 }, function(index)
        check_same(back:get(unpack(index)), DATA[dtype](11 - 4 * index[1] - 2 * index[2]), "%s", dtype)
      end)
      assert.equal(ctype, ffi.typeof(back.data))
      assert.same({ -4, -2 }, list_of(back.strides))
      assert.same(elements(back), elements(back:copy "F"))
      assert.equal(12, a.size)
    end
  end)

  it("takes pointers with a count", function()
    local c = ffi.new("float[6]", 1, 2, 3, 4, 5, 6)
    local p = ffi.cast("float *", c)
    assert.same({ 1, 2, 3, 4, 5, 6 }, mpi.wrap(p, 6):totable())
    assert.same({ { 3, 4 }, { 5, 6 } }, mpi.wrap(p + 2, { 2, 2 }):totable())
    assert.same({ 1, 2 }, mpi.wrap(ffi.cast("void *", c), 2, "float"):totable())
    assert.equal(0, mpi.wrap(p, 0).size)
    assert.same(c[0], mpi.wrap(p, {}):get())
  end)

  it("keeps what is const from being written to as a whole", function()
    local c = ffi.new("const double[4]", 1, 2, 3, 4)
    for _, a in ipairs { mpi.wrap(c), mpi.wrap(c):slice { 1, 3 }, mpi.wrap(c):reshape { 2, 2 },
      mpi.wrap(ffi.cast("const double *", c), 4) } do
      rejects(function() a:fill(1) end, "nmpi.array:fill: argument 'self': expected a writable array")
      rejects(function() a:assign(a) end, "nmpi.array:assign: argument 'self': expected a writable array")
    end
    assert.same({ 9, 9, 9, 9 }, mpi.wrap(c):copy():fill(9):totable())
    assert.equal(2, mpi.wrap(c)[1])
  end)
end)

describe("arrays: elements", function()
  it("lie where the shape and the order say, in every dtype and number of dimensions", function()
    for _, dtype in ipairs(DTYPES) do
      for ndim = 0, 8 do
        for _, order in ipairs { "C", "F" } do
          local shape = shape_of(ndim)
          local a = data_array(shape, dtype, order)
          local memory = a.data
          each_index(shape, function(index, k)
            local x = DATA[dtype](k)
            check_same(a:get(unpack(index)), x, "%s %s get", dtype, order)
            check_same(memory[position(shape, order, index)], x, "%s %s memory", dtype, order)
            if ndim == 1 then check_same(a[index[1]], x, "%s a[i]", dtype) end
          end)
        end
      end
    end
  end)

  it("are set by a[i] as by set", function()
    for _, dtype in ipairs(DTYPES) do
      local a = mpi.zeros(40, dtype):slice { 38, 1, -3 }
      for i = 0, #a - 1 do a[i] = DATA[dtype](i) end
      for i = 0, #a - 1 do
        check_same(a[i], DATA[dtype](i), "%s", dtype)
        check_same(a:get(i), DATA[dtype](i), "%s", dtype)
        check_same(a.data[-3 * i], DATA[dtype](i), "%s", dtype)
      end
      a[3LL] = DATA[dtype](100)
      check_same(a[3ULL], DATA[dtype](100), "%s", dtype)
    end
  end)

  it("are numbers, booleans, cdata numbers or references", function()
    assert.equal("number", type(mpi.zeros(1, "uint32")[0]))
    assert.equal("number", type(mpi.zeros(1, "char")[0]))
    assert.equal("boolean", type(mpi.zeros(1, "bool")[0]))
    assert.is_true(ffi.istype("int64_t", mpi.zeros(1, "int64")[0]))
    assert.is_true(ffi.istype("uint64_t", mpi.zeros({ 1, 1 }, "uint64"):get(0, 0)))
    local z = mpi.zeros(2, "complex")
    local first = z[0]
    z[0] = ffi.new("complex", 1, 2)
    assert.same({ 0, 0 }, { first.re, first.im })
    z[1] = 5
    assert.same({ 5, 0 }, { z[1].re, z[1].im })
    local found = mpi.zeros(2, "double_int")
    found[1].index = 3 + RANK
    found[0] = { value = 1.5 }
    assert.same({ 1.5, 0, 0, 3 + RANK }, { found[0].value, found[0].index, found[1].value, found[1].index })
    found[0] = found[1]
    assert.equal(3 + RANK, found[0].index)
    local text = mpi.array "abc"
    text[1] = "X"
    text:set(2, 89)
    assert.equal("aXY", text:tostring())
    local flags = mpi.zeros(3, "bool")
    flags[0], flags[1] = true, 7
    assert.same({ true, true, false }, flags:totable())
  end)

  it("hold the whole range of their dtype", function()
    local ranges = {
      int8 = { -128, 127 }, int16 = { -32768, 32767 }, int32 = { -2147483648, 2147483647 },
      uint8 = { 0, 255 }, uint16 = { 0, 65535 }, uint32 = { 0, 4294967295 },
      int64 = { -0x8000000000000000LL, 0x7fffffffffffffffLL }, uint64 = { 0, 0xffffffffffffffffULL },
      float = { -3.4028234663852886e38, 1.401298464324817e-45 }, double = { -1.7976931348623157e308, 5e-324 },
    }
    for dtype, range in pairs(ranges) do
      local a = mpi.array(range, dtype)
      assert.is_true(a[0] == range[1] and a[1] == range[2])
      assert.is_true(a:copy()[0] == range[1] and a:totable()[2] == range[2])
    end
    local odd = mpi.array { NAN, INF, -INF, MINUS_ZERO }
    assert.is_true(odd[0] ~= odd[0] and odd[1] == INF and odd[2] == -INF and 1 / odd[3] == -INF)
  end)

  it("are counted by size and #", function()
    local a = mpi.zeros({ 4, 5, 6 }, "int16")
    assert.equal(120, a.size)
    assert.equal(4, #a)
    assert.equal(3, #a.shape)
    assert.equal(2, #a:slice({ 1, 3 }))
    assert.equal(60, a:slice({ 1, 3 }).size)
  end)
end)

-- ---- slices, against lists of indices ----

-- The indices that a range of an extent of n takes, or nil where it is an error.
local function indices_of(range, n)
  if range == nil then range = {} end
  if type(range) == "number" then
    local i = range < 0 and range + n or range
    return i >= 0 and i < n and { i } or nil
  end
  local step = range[3] or 1
  local up = step > 0
  local from, to = range[1], range[2]
  if from == nil then
    from = up and 0 or n - 1
  else
    if from < 0 then from = from + n end
    if from < 0 or from > (up and n or n - 1) then return nil end
  end
  if to == nil then
    to = up and n or -1
  else
    if to < 0 then to = to + n end
    if to > (up and n or n - 1) or to < (up and 0 or -1) then return nil end
  end
  local list, i = {}, from
  while (up and i < to) or (not up and i > to) do
    list[#list + 1], i = i, i + step
  end
  return list
end

-- Compares a slice of an array with the elements that the model says; `values` are the array's, in row-major order.
local function check_slice(a, values, ranges)
  local shape = list_of(a.shape)
  local lists, expected_shape = {}, {}
  for d = 1, #shape do
    lists[d] = indices_of(ranges[d], shape[d])
    if not lists[d] then
      check(not pcall(a.slice, a, unpack(ranges, 1, #shape)), "expected an error")
      return nil
    end
    if type(ranges[d]) ~= "number" then expected_shape[#expected_shape + 1] = #lists[d] end
  end
  local view = a:slice(unpack(ranges, 1, #shape))
  local got_shape = list_of(view.shape)
  check(table.concat(got_shape, ",") == table.concat(expected_shape, ","), "shape %s instead of %s",
    table.concat(got_shape, ","), table.concat(expected_shape, ","))
  local got = elements(view)
  local counts = {}
  for d = 1, #shape do counts[d] = #lists[d] end
  check(#got == product(counts), "%d elements instead of %d", #got, product(counts))
  each_index(counts, function(index, k)
    local p = 0
    for d = 1, #shape do p = p * shape[d] + lists[d][index[d] + 1] end
    check(got[k + 1] == values[p + 1], "element %d is %s instead of %s", k, tostring(got[k + 1]),
      tostring(values[p + 1]))
  end)
  return view, got
end

-- Some ranges of an extent: all forms, whether or not the extent can take them.
local RANGES = { {}, 0, -1, 1, { 1 }, { nil, -1 }, { 1, 3 }, { nil, nil, 2 }, { nil, nil, -1 }, { -1, 0, -2 }, { 2, 1 },
  { -2, nil, 1 } }

describe("arrays: slices", function()
  it("follow every combination of from, to and step in one dimension", function()
    local done = 0
    for n = 0, 5 do
      local a = data_array({ n }, "int32")
      local values = elements(a)
      for from = -n - 2, n + 1 do
        for to = -n - 3, n + 1 do
          for _, step in ipairs { false, 1, 2, 3, 7, -1, -2, -3, -7 } do
            -- The lowest of each stands for nil.
            local range = { from, to, step or nil }
            if from == -n - 2 then range[1] = nil end
            if to == -n - 3 then range[2] = nil end
            if n > 0 or (step or 1) > 0 then check_slice(a, values, { range }) end
            done = done + 1
          end
        end
      end
      for i = -n - 2, n + 1 do check_slice(a, values, { i }) end
      for _, step in ipairs { -1, -2 } do
        assert.equal(0, mpi.zeros(0):slice({ nil, nil, step }).size)
      end
    end
    assert.is_true(done > 4000)
  end)

  it("combine in two dimensions", function()
    for _, order in ipairs { "C", "F" } do
      for _, dtype in ipairs { "int16", "complex double" } do
        local a = data_array({ 3, 4 }, dtype, order)
        local values = elements(a)
        for _, rows in ipairs(RANGES) do
          for _, columns in ipairs(RANGES) do check_slice(a, values, { rows, columns }) end
        end
      end
    end
  end)

  it("combine in three dimensions, and stack", function()
    local a = data_array({ 3, 2, 4 }, "double", "F")
    local values = elements(a)
    local some = { {}, -1, { nil, nil, -1 }, { 1, nil }, { nil, -1, 2 }, { 2, 0, -1 } }
    for _, i in ipairs(some) do
      for _, j in ipairs(some) do
        for _, k in ipairs(some) do
          local view, got = check_slice(a, values, { i, j, k })
          if view and view.ndim > 0 and view.size > 0 then
            check_slice(view, got, { { nil, nil, -2 } })
            check_slice(view, got, { -1 })
            check_slice(view:transpose(), elements(view:transpose()), { { 0, nil, 2 } })
          end
        end
      end
    end
  end)

  it("go up to eight dimensions", function()
    local a = data_array(FULL_SHAPE, "int32")
    local values = elements(a)
    local back = { nil, nil, -1 }
    check_slice(a, values, { back, back, back, back, back, back, back, back })
    check_slice(a, values, { 1, { 1 }, 0, back, -1, 0, { nil, nil, 2 }, {} })
    check_slice(a, values, { 1, 2, 0, 1, 0, 0, 2, 1 })
    check_slice(a, values, { nil, nil, nil, nil, nil, nil, nil, 1 })
    check_slice(a, values, { { 1, 1 } })
  end)

  it("take dimensions that are not named, or nil, whole", function()
    local a = data_array({ 2, 3, 4 }, "uint16")
    assert.same({ 3, 4 }, list_of(a:slice(1).shape))
    assert.same({ 2, 4 }, list_of(a:slice(nil, 1).shape))
    assert.same({ 2, 3, 4 }, list_of(a:slice().shape))
    assert.same({ 2, 3, 4 }, list_of(a:slice({}, nil, {}).shape))
    assert.same({}, list_of(a:slice(1, 2, 3).shape))
    assert.equal(DATA.uint16(23), a:slice(1, 2, 3):get())
    assert.same({ 2, 4 }, list_of(a:slice({ 0LL, 2LL }, 1).shape))
  end)

  it("write through to the array", function()
    local a = mpi.zeros({ 4, 5 }, "int32")
    a:slice({ 1, -1 }, { nil, nil, 2 }):fill(RANK + 1)
    a:slice(3):assign(mpi.array({ 1, 2, 3, 4, 5 }, "int32"))
    a:slice({ nil, nil, -1 }, 1):set(3, -7)
    local r = RANK + 1
    assert.same({ { 0, -7, 0, 0, 0 }, { r, 0, r, 0, r }, { r, 0, r, 0, r }, { 1, 2, 3, 4, 5 } }, a:totable())
  end)
end)

describe("arrays: views", function()
  it("of rows and columns", function()
    for _, order in ipairs { "C", "F" } do
      for _, dtype in ipairs(DTYPES) do
        local a = data_array({ 3, 4 }, dtype, order)
        for i = -3, 2 do
          local row = a:row(i)
          assert.same({ 4 }, list_of(row.shape))
          for j = 0, 3 do check_same(row[j], DATA[dtype](i % 3 * 4 + j), "row %d of %s", i, dtype) end
        end
        for j = -4, 3 do
          local col = a:col(j)
          assert.same({ 3 }, list_of(col.shape))
          for i = 0, 2 do check_same(col[i], DATA[dtype](i * 4 + j % 4), "column %d of %s", j, dtype) end
        end
        a:col(1)[2] = DATA[dtype](50)
        check_same(a:get(2, 1), DATA[dtype](50), "%s", dtype)
      end
    end
  end)

  it("transpose by reversing the dimensions", function()
    for ndim = 0, 8 do
      local shape, back = shape_of(ndim), {}
      for d = 1, ndim do back[d] = shape[ndim + 1 - d] end
      local a = data_array(shape, "int64", ndim % 2 == 0 and "C" or "F")
      local t = a:transpose()
      assert.same(back, list_of(t.shape))
      each_index(shape, function(index)
        local reversed = {}
        for d = 1, ndim do reversed[d] = index[ndim + 1 - d] end
        check_same(t:get(unpack(reversed)), a:get(unpack(index)), "%d dimensions", ndim)
      end)
      assert.same(elements(a), elements(t:transpose()))
      assert.is_true(t.data == a.data)
      assert.equal(a:is_contiguous "C", t:is_contiguous "F")
    end
  end)

  -- Shape, order, part ("T": transposed) as NumPy writes it, the shapes for which NumPy's reshape gives a view, and
  -- those for which it copies.
  local RESHAPES = {
    { "12", "C", "", "3,4 2,2,3 12,1 1,12 2,-1", "" },
    { "12", "C", "::2", "2,3 6,1", "" },
    { "12", "C", "::-1", "3,4", "" },
    { "3,4", "C", "", "12 2,6 4,3 3,2,2 3,4,1 1,3,1,4", "" },
    { "3,4", "F", "", "3,2,2 3,4 3,1,4", "12 4,3" },
    { "3,4", "C", "T", "4,3 2,2,3", "12 3,4" },
    { "3,4", "F", "T", "12 2,6", "" },
    { "4,6", "C", "::2,:", "2,2,3 2,6,1 2,3,2", "12 4,3" },
    { "4,6", "C", ":,::2", "12 2,6 2,2,3 4,3 3,4", "" },
    { "4,6", "C", ":,1:5", "4,2,2 2,2,4", "16 2,8" },
    { "4,6", "C", "::-1,:", "4,2,3 2,2,6", "24" },
    { "4,6", "C", "::-1,::-1", "24 8,3 2,12", "" },
    { "4,6", "C", "1", "2,3", "" },
    { "4,6", "C", ":,1", "2,2 4,1", "" },
    { "4,6", "F", ":,1", "2,2", "" },
    { "2,3,4", "C", "", "6,4 2,12 24 3,8 2,3,2,2", "" },
    { "2,3,4", "C", ":,1,:", "2,2,2", "8 4,2" },
    { "2,3,4", "C", ":,:,1", "6 3,2", "" },
    { "2,3,4", "C", ":,::2,:", "2,2,2,2", "16 2,8 4,4" },
    { "2,3,4", "C", ":,:2,:", "2,8", "16" },
    { "2,3,4", "C", "T", "4,3,2 2,2,3,2", "24 4,6 12,2" },
    { "2,3,4", "F", "", "2,3,2,2", "6,4 2,12" },
    { "2,3,4", "F", "T", "24 6,4", "" },
    { "2,1,6", "C", "::-1,:,::3", "2,2 2,1,2,1", "4" },
    { "1,5", "C", ":,::2", "3 3,1,1", "" },
    { "1,1,1", "F", "", "() 1 1,1,1,1", "" },
    { "2,2,2,2", "C", "T", "", "16 4,4 2,2,4" },
    { "2,2,2,2", "C", ":,::-1", "2,2,4", "2,8 16" },
    { "6", "C", "1:5", "2,2", "" },
  }

  local function numbers(text)
    local list = {}
    for word in text:gmatch "-?%d+" do list[#list + 1] = tonumber(word) end
    return list
  end

  local function part_of(a, text)
    if text == "T" then return a:transpose() end
    local ranges, n = {}, 0
    for word in text:gmatch "[^,]+" do
      n = n + 1
      local from, to, step = word:match "^(-?%d*):(-?%d*):?(-?%d*)$"
      ranges[n] = from and { tonumber(from), tonumber(to), tonumber(step) } or tonumber(word)
    end
    return a:slice(unpack(ranges, 1, n))
  end

  it("reshape without a copy where NumPy needs none", function()
    local cases = 0
    for _, case in ipairs(RESHAPES) do
      local a = data_array(numbers(case[1]), "double", case[2])
      local part = part_of(a, case[3])
      local values = elements(part)
      for k = 4, 5 do
        for shape in case[k]:gmatch "%S+" do
          local new = part:reshape(numbers(shape))
          assert.same(values, elements(new))
          local before = new:copy()
          part:fill(-1)
          local shared = new:copy():flatten()[0] == -1
          check(shared == (k == 4), "%s %s [%s] as %s: %s", case[1], case[2], case[3], shape,
            shared and "view" or "copy")
          part:assign(before:reshape(part.shape))
          cases = cases + 1
        end
      end
    end
    assert.equal(90, cases)
  end)

  it("reshape in every dtype, with -1 for what is left", function()
    for _, dtype in ipairs(DTYPES) do
      local a = data_array({ 4, 6 }, dtype)
      for _, shape in ipairs { -1, 24, { -1 }, { 2, -1 }, { -1, 3, 2 }, { 1, 24, -1 }, { 2, 2, 2, 3 } } do
        local b = a:reshape(shape)
        assert.equal(24, b.size)
        assert.same(elements(a), elements(b))
        assert.is_true(b.data == a.data)
      end
      local c = a:transpose():reshape(-1)
      each_index({ 6, 4 }, function(index, k)
        check_same(c[k], DATA[dtype](index[2] * 6 + index[1]), "%s", dtype)
      end)
    end
    assert.same({ 3, 0, 2 }, list_of(mpi.zeros({ 0, 5 }):reshape({ 3, 0, 2 }).shape))
    assert.same({ 0, 3 }, list_of(mpi.zeros({ 0, 5 }):reshape({ -1, 3 }).shape))
    assert.same({ 6, 4 }, list_of(mpi.zeros({ 4, 6 }):reshape(mpi.zeros({ 6, 4 }).shape).shape))
  end)

  it("flatten in row-major order", function()
    for _, order in ipairs { "C", "F" } do
      local a = data_array({ 2, 3, 4 }, "int32", order)
      local flat = a:flatten()
      assert.same({ 24 }, list_of(flat.shape))
      assert.same(elements(a), elements(flat))
      assert.equal(order == "C", flat.data == a.data)
    end
    assert.same({ 7 }, mpi.array({ { { 7 } } }):flatten():totable())
    assert.same({ 7 }, mpi.array(7):flatten():totable())
    assert.is_true(mpi.zeros({ 2, 3 }):slice({}, { nil, nil, -1 }):flatten():is_contiguous())
  end)

  it("know whether they are contiguous", function()
    local a = mpi.zeros { 4, 6 }
    local f = mpi.zeros({ 4, 6 }, "int8", "F")
    local cases = {
      { a, true, false }, { f, false, true }, { a:transpose(), false, true }, { a:slice { 1, 3 }, true, false },
      { a:slice({}, { 1, 3 }), false, false }, { f:slice({}, { 1, 3 }), false, true }, { a:row(1), true, true },
      { a:col(1), false, false }, { f:col(1), true, true }, { a:slice { nil, nil, 2 }, false, false },
      { a:slice { nil, nil, -1 }, false, false }, { a:slice({ 1, 2 }, {}), true, true },
      { a:slice({}, { 1, 2 }), false, false }, { a:slice(1, 1), true, true },
      { a:slice({ 1, 2 }, { 1, 2 }), true, true }, { a:slice({ 1, 1 }, { 1, 3 }), true, true },
      { mpi.zeros(5):slice { nil, nil, -1 }, false, false },
      { mpi.zeros { 1, 5, 1 }, true, true }, { mpi.zeros {}, true, true },
      { mpi.wrap(ffi.new "int[2]", { 2, 2 }, nil, { 0, 1 }), false, false },
    }
    for i, case in ipairs(cases) do
      check(case[1]:is_contiguous() == case[2], "case %d", i)
      check(case[1]:is_contiguous "C" == case[2], "case %d, C", i)
      check(case[1]:is_contiguous "F" == case[3], "case %d, F", i)
    end
  end)
end)

describe("arrays: whole ones", function()
  it("copy in either order", function()
    for _, dtype in ipairs(DTYPES) do
      for ndim = 0, 8 do
        local shape = shape_of(ndim)
        local a = data_array(shape, dtype, ndim % 2 == 0 and "F" or "C")
        for _, order in ipairs { "C", "F" } do
          local b = a:copy(order)
          assert.equal(dtype, b.dtype)
          assert.is_true(b:is_contiguous(order) and b.data ~= a.data)
          assert.same(elements(a), elements(b))
        end
      end
      local part = data_array({ 5, 6 }, dtype):slice({ nil, nil, -2 }, { 1, -1, 3 })
      local b = part:copy()
      part:fill(DATA[dtype](99))
      check_same(b:get(1, 0), DATA[dtype](13), "%s", dtype)
    end
  end)

  it("are filled with one value, and nothing beside them", function()
    for _, dtype in ipairs(DTYPES) do
      local a = data_array({ 4, 5, 6 }, dtype)
      local x = DATA[dtype](77)
      local part = a:slice({ 1, 3 }, { nil, nil, 2 }, { -2, 0, -3 })
      assert.is_true(part:fill(x) == part)
      each_index({ 4, 5, 6 }, function(index, k)
        local inside = index[1] >= 1 and index[1] < 3 and index[2] % 2 == 0 and (index[3] == 4 or index[3] == 1)
        local expected = DATA[dtype](k)
        if inside then expected = x end
        check_same(a:get(unpack(index)), expected, "%s", dtype)
      end)
    end
    assert.equal(RANK, mpi.zeros({}):fill(RANK):get())
    assert.same({ 3, 3 }, mpi.zeros(2):fill(3LL):totable())
    assert.equal("zzz", mpi.zeros(3, "char"):fill("z"):tostring())
    assert.same({ true, true }, mpi.zeros(2, "bool"):fill(true):totable())
  end)

  it("are assigned between all layouts", function()
    for _, dtype in ipairs(DTYPES) do
      local source = data_array({ 3, 4 }, dtype)
      local layouts = {
        mpi.zeros({ 3, 4 }, dtype), mpi.zeros({ 3, 4 }, dtype, "F"), mpi.zeros({ 4, 3 }, dtype):transpose(),
        mpi.zeros({ 6, 4 }, dtype):slice { nil, nil, 2 }, mpi.zeros({ 3, 12 }, dtype):slice({}, { nil, nil, -3 }),
        mpi.zeros({ 3, 2, 4 }, dtype):slice({}, 1),
      }
      for _, a in ipairs(layouts) do
        assert.is_true(a:assign(source) == a)
        assert.same(elements(source), elements(a))
        for _, b in ipairs(layouts) do
          if b ~= a then
            assert.same(elements(source), elements(b:assign(a)))
            b:fill(DATA[dtype](3))
          end
        end
        a:assign(source)
      end
    end
    assert.same({ 1, 2 }, mpi.zeros(2):assign(ffi.new("double[2]", 1, 2)):totable())
    assert.same({ 1, 2 }, mpi.zeros(2):assign(ffi.new("int8_t[2]", 1, 2)):totable())
    assert.same({ 4, 4 }, mpi.zeros(2):assign(4):totable())
    assert.equal(6, mpi.zeros({}, "int8"):assign(mpi.array(6)):get())
  end)

  it("convert between all numeric dtypes", function()
    local values = { 0, 1, 2, 100, 127 - RANK }
    local function expected(value, dtype)
      if dtype == "bool" then return value ~= 0 end
      if dtype:find "^complex" then return { value, 0 } end
      return dtype:find "int64" and ffi.new(dtype .. "_t", value) or value
    end
    for _, from in ipairs(NUMERIC) do
      for _, to in ipairs(NUMERIC) do
        local source = mpi.empty({ 5, 3 }, from):col(1)
        for k, value in ipairs(values) do source[k - 1] = from == "bool" and value ~= 0 or value end
        for _, target in ipairs { mpi.empty(5, to), mpi.empty({ 2, 5 }, to):slice(1, { nil, nil, -1 }) } do
          if from:find "^complex" and not to:find "^complex" and to ~= "bool" then
            check(not pcall(target.assign, target, source), "%s to %s", from, to)
          else
            target:assign(source)
            for k, value in ipairs(values) do
              if from == "bool" then value = value ~= 0 and 1 or 0 end
              check(plain(target[k - 1]) == plain(expected(value, to)), "%s to %s: %s is %s", from, to, value,
                tostring(plain(target[k - 1])))
            end
          end
        end
      end
    end
  end)

  it("convert as C does", function()
    local function converted(values, from, to)
      return mpi.zeros(#values, to):assign(mpi.array(values, from)):totable()
    end
    assert.same({ 3, -3, 0, 0 }, converted({ 3.99, -3.99, 0.5, -0.5 }, "double", "int32"))
    assert.same({ 3, -3 }, converted({ 3.99, -3.99 }, "float", "int8"))
    assert.same({ -56, -1, -128 }, converted({ 200, 255, 128 }, "uint8", "int8"))
    assert.same({ 255, 128 }, converted({ -1, -128 }, "int8", "uint8"))
    for dtype, values in pairs {
      int8 = { -128, 127 }, int16 = { -32768, 32767 }, int32 = { -2147483648, 2147483647 }, uint8 = { 0, 255 },
      uint16 = { 0, 65535 }, uint32 = { 0, 4294967295 },
    } do
      assert.same(values, converted(values, dtype, "double"))
      local wide = converted(values, dtype, "int64")
      assert.is_true(wide[1] == values[1] and wide[2] == values[2])
      assert.same(values, converted(wide, "int64", dtype))
      assert.same(values, converted(values, "double", dtype))
    end
    assert.same({ 4294967295 }, converted({ -1 }, "int16", "uint32"))
    assert.same({ 65535 }, converted({ -1 }, "int64", "uint16"))
    assert.same({ 120 }, converted({ 0x12345678 }, "int32", "int8"))
    assert.same({ 16777216, 16777218 }, converted({ 16777217, 16777218 }, "int32", "float"))
    assert.same({ 1 / 3 }, converted({ 1 / 3 }, "double", "double"))
    assert.same({ tonumber(ffi.new("float", 1 / 3)) }, converted({ 1 / 3 }, "double", "float"))
    assert.same({ INF }, converted({ 1e300 }, "double", "float"))
    assert.same({ true, true, false, true }, converted({ 0.25, -1, 0, NAN }, "double", "bool"))
    assert.same({ true, false }, converted({ 256, 0 }, "int32", "bool"))
    assert.same({ 1, 0 }, converted({ true, false }, "bool", "double"))
    assert.equal(9007199254740993LL, converted({ 9007199254740993ULL }, "uint64", "int64")[1])
    assert.equal(0xffffffffffffffffULL, converted({ -1LL }, "int64", "uint64")[1])
    assert.equal(0x8000000000000000ULL, converted({ 2 ^ 63 }, "double", "uint64")[1])
    assert.equal(18446744073709551615, converted({ 0xffffffffffffffffULL }, "uint64", "double")[1])
    local z = converted({ ffi.new("complex", 0.1, -3) }, "complex double", "complex float")[1]
    assert.is_true(ffi.istype("complex float", z))
    assert.same({ tonumber(ffi.new("float", 0.1)), -3 }, { z.re, z.im })
    assert.same({ true, false }, converted({ ffi.new("complex", 0, 1), ffi.new("complex", 0, 0) }, "complex", "bool"))
    assert.same({ "1,0" }, { plain(converted({ true }, "bool", "complex float")[1]) })
  end)

  it("may overlap when assigned", function()
    for _, dtype in ipairs(DTYPES) do
      local n = 9
      local function try(expected, assign)
        local a = data_array({ n }, dtype)
        assign(a)
        for i = 0, n - 1 do check_same(a[i], DATA[dtype](expected(i)), "%s element %d", dtype, i) end
      end
      try(function(i) return i > 0 and i - 1 or 0 end, function(a) a:slice({ 1 }):assign(a:slice { 0, -1 }) end)
      try(function(i) return i < 8 and i + 1 or 8 end, function(a) a:slice({ 0, -1 }):assign(a:slice { 1 }) end)
      try(function(i) return 8 - i end, function(a) a:assign(a:slice { nil, nil, -1 }) end)
      try(function(i) return i end, function(a) a:assign(a) end)
      try(function(i) return i % 2 == 0 and i / 2 or i end, function(a)
        a:slice({ nil, nil, 2 }):assign(a:slice { 0, 5 })
      end)
      local square = data_array({ 4, 4 }, dtype)
      square:assign(square:transpose())
      each_index({ 4, 4 }, function(index)
        check_same(square:get(unpack(index)), DATA[dtype](index[2] * 4 + index[1]), "%s transposed", dtype)
      end)
    end
    local c = ffi.new("double[4]", 1, 2, 3, 4)
    local narrow = mpi.wrap(c, 4, "int32")
    narrow:assign(mpi.wrap(c))
    assert.same({ 1, 2, 3, 4 }, narrow:totable())
    mpi.wrap(c):assign(narrow)
    assert.same({ 1, 2, 3, 4 }, { c[0], c[1], c[2], c[3] })
  end)

  it("become nested lists", function()
    local a = data_array({ 2, 1, 3 }, "int16", "F")
    local x = DATA.int16
    assert.same({ { { x(0), x(1), x(2) } }, { { x(3), x(4), x(5) } } }, a:totable())
    assert.equal(x(4), a:slice(1, 0, 1):totable())
    assert.same({ true, false }, mpi.array({ true, false }):totable())
    for _, dtype in ipairs(DTYPES) do
      local b = data_array({ 3 }, dtype)
      local list = b:totable()
      b:fill(DATA[dtype](50))
      for k = 0, 2 do check_same(list[k + 1], DATA[dtype](k), "%s", dtype) end
    end
  end)

  it("of char give their text", function()
    local a = mpi.array("0123456789 rank " .. RANK)
    assert.equal("0123456789 rank " .. RANK, a:tostring())
    assert.equal("97531", a:slice({ 9, 0, -2 }):tostring())
    assert.equal("0246", a:slice({ 0, 8 }):reshape({ 4, 2 }):col(0):tostring())
    assert.equal("02461357", a:slice({ 0, 8 }):reshape({ 4, 2 }):transpose():tostring())
    assert.equal("3", a:slice(3):tostring())
    assert.equal("[1 2]", mpi.array({ 1, 2 }, "int8"):tostring())
  end)
end)

describe("arrays: printing", function()
  -- dtype, shape, elements (a list, or a function of the row-major index; complex ones as pairs) and the text that
  -- NumPy 1.24 prints, but for the case of the booleans.
  local PRINTED = {
    { "double", {}, { 1 }, "1.0" },
    { "double", {}, { 0.1 }, "0.1" },
    { "double", {}, { MINUS_ZERO }, "-0.0" },
    { "double", {}, { 123456789.125 }, "123456789.125" },
    { "double", {}, { 1e+16 }, "1e+16" },
    { "double", {}, { 1.5e-05 }, "1.5e-05" },
    { "double", {}, { NAN }, "nan" },
    { "double", {}, { -INF }, "-inf" },
    { "double", {}, { 5.684341886080802e-14 }, "5.684341886080802e-14" },
    { "double", {}, { 5e-324 }, "5e-324" },
    { "double", {}, { 1.7976931348623157e+308 }, "1.7976931348623157e+308" },
    { "float", {}, { 0.1 }, "0.1" },
    { "float", {}, { 16777218 }, "16777218.0" },
    { "int64", {}, { -0x8000000000000000LL }, "-9223372036854775808" },
    { "uint64", {}, { 18446744073709551615ULL }, "18446744073709551615" },
    { "bool", {}, { true }, "true" },
    { "complex double", {}, { { 1, 2 } }, "(1+2j)" },
    { "complex double", {}, { { MINUS_ZERO, -2.5 } }, "(-0-2.5j)" },
    { "complex float", {}, { { 0.1, 0 } }, "(0.1+0j)" },
    { "double", { 3 }, { 1, 2, 3 }, "[1. 2. 3.]" },
    { "double", { 4 }, { 1.5, -2.25, 0, 1000 }, "[   1.5    -2.25    0.   1000.  ]" },
    { "double", { 3 }, { MINUS_ZERO, 0, -1 }, "[-0.  0. -1.]" },
    { "double", { 2 }, { 1, 1000 }, "[   1. 1000.]" },
    { "double", { 2 }, { 1, 1001 }, "[1.000e+00 1.001e+03]" },
    { "double", { 2 }, { 0.0001, 0.01 }, "[0.0001 0.01  ]" },
    { "double", { 2 }, { 9e-05, 0.01 }, "[9.e-05 1.e-02]" },
    { "double", { 2 }, { 99999999.5, 1000000 }, "[99999999.5  1000000. ]" },
    { "double", { 2 }, { 100000000, 1000000 }, "[1.e+08 1.e+06]" },
    { "double", { 2 }, { 0.3333333333333333, 0.6666666666666666 }, "[0.33333333 0.66666667]" },
    { "double", { 3 }, { 0.1, 0.30000000000000004, 12345.6789 }, "[1.00000000e-01 3.00000000e-01 1.23456789e+04]" },
    { "double", { 3 }, { 0.001953125, 0.005859375, 0.5 }, "[0.00195312 0.00585938 0.5       ]" },
    { "double", { 2 }, { 0.999999996, 0.5 }, "[1.  0.5]" },
    { "double", { 4 }, { 1, NAN, INF, -INF }, "[  1.  nan  inf -inf]" },
    { "double", { 2 }, { NAN, -1.5 }, "[ nan -1.5]" },
    { "double", { 3 }, { 10000000000, NAN, -INF }, "[1.e+10    nan   -inf]" },
    { "double", { 1 }, { NAN }, "[nan]" },
    { "double", { 2 }, { 1e-300, 1e+300 }, "[1.e-300 1.e+300]" },
    { "double", { 3 }, { -100000, 1e-05, 0 }, "[-1.e+05  1.e-05  0.e+00]" },
    { "float", { 3 }, { 0.3333333333333333, 0.1, 100 }, "[  0.33333334   0.1        100.        ]" },
    { "float", { 3 }, { 0.1, 1000000000, 0.000244140625 }, "[1.0000000e-01 1.0000000e+09 2.4414062e-04]" },
    { "float", { 2 }, { 59947152, 1000000 }, "[59947152.  1000000.]" },
    { "int8", { 2, 3 }, { -128, 0, 127, 1, -1, 100 }, [=[
[[-128    0  127]
 [   1   -1  100]]]=] },
    { "int64", { 2 }, { -0x8000000000000000LL, 9223372036854775807LL }, "[-9223372036854775808  9223372036854775807]" },
    { "uint64", { 2 }, { 0, 18446744073709551615ULL }, "[                   0 18446744073709551615]" },
    { "uint16", { 1, 4 }, { 0, 9, 10, 65535 }, "[[    0     9    10 65535]]" },
    { "bool", { 2, 2 }, { true, false, false, true }, [=[
[[ true false]
 [false  true]]]=] },
    { "bool", { 1 }, { true }, "[ true]" },
    { "complex double", { 2 }, { { 1, 2 }, { -0.5, -10 } }, "[ 1.  +2.j -0.5-10.j]" },
    { "complex double", { 3 }, { { 1e-05, 1 }, { NAN, -INF }, { 0, 0 } }, "[1.e-05 +1.j    nan-infj 0.e+00 +0.j]" },
    { "complex float", { 2, 1 }, { { 0.3333333333333333, -1 }, { 100, 2000000000 } }, [=[
[[  0.33333334-1.e+00j]
 [100.        +2.e+09j]]]=] },
    { "double", { 0 }, {}, "[]" },
    { "int32", { 2, 0, 3 }, {}, "[]" },
    { "double", { 20 }, function(i) return i / 7 end, [=[
[0.         0.14285714 0.28571429 0.42857143 0.57142857 0.71428571
 0.85714286 1.         1.14285714 1.28571429 1.42857143 1.57142857
 1.71428571 1.85714286 2.         2.14285714 2.28571429 2.42857143
 2.57142857 2.71428571]]=] },
    { "double", { 9 }, function(i) return 10 ^ (3 * i - 12) end,
      "[1.e-12 1.e-09 1.e-06 1.e-03 1.e+00 1.e+03 1.e+06 1.e+09 1.e+12]" },
    { "double", { 3, 4 }, function(i) return i * 1.5 end, [=[
[[ 0.   1.5  3.   4.5]
 [ 6.   7.5  9.  10.5]
 [12.  13.5 15.  16.5]]]=] },
    { "int32", { 30 }, function(i) return i * i - 100 end, [=[
[-100  -99  -96  -91  -84  -75  -64  -51  -36  -19    0   21   44   69
   96  125  156  189  224  261  300  341  384  429  476  525  576  629
  684  741]]=] },
    { "int32", { 2, 2, 3 }, function(i) return i end, [=[
[[[ 0  1  2]
  [ 3  4  5]]

 [[ 6  7  8]
  [ 9 10 11]]]]=] },
    { "int32", { 2, 1, 2, 2 }, function(i) return 7 - i end, [=[
[[[[7 6]
   [5 4]]]


 [[[3 2]
   [1 0]]]]]=] },
    { "uint8", { 1001 }, function(i) return i % 251 end, "[  0   1   2 ... 245 246 247]" },
    { "int32", { 40, 30 }, function(i) return i end, [=[
[[   0    1    2 ...   27   28   29]
 [  30   31   32 ...   57   58   59]
 [  60   61   62 ...   87   88   89]
 ...
 [1110 1111 1112 ... 1137 1138 1139]
 [1140 1141 1142 ... 1167 1168 1169]
 [1170 1171 1172 ... 1197 1198 1199]]]=] },
    { "double", { 2, 7, 80 }, function(i) return i / 8 - 50 end, [=[
[[[-50.    -49.875 -49.75  ... -40.375 -40.25  -40.125]
  [-40.    -39.875 -39.75  ... -30.375 -30.25  -30.125]
  [-30.    -29.875 -29.75  ... -20.375 -20.25  -20.125]
  ...
  [-10.     -9.875  -9.75  ...  -0.375  -0.25   -0.125]
  [  0.      0.125   0.25  ...   9.625   9.75    9.875]
  [ 10.     10.125  10.25  ...  19.625  19.75   19.875]]

 [[ 20.     20.125  20.25  ...  29.625  29.75   29.875]
  [ 30.     30.125  30.25  ...  39.625  39.75   39.875]
  [ 40.     40.125  40.25  ...  49.625  49.75   49.875]
  ...
  [ 60.     60.125  60.25  ...  69.625  69.75   69.875]
  [ 70.     70.125  70.25  ...  79.625  79.75   79.875]
  [ 80.     80.125  80.25  ...  89.625  89.75   89.875]]]]=] },
    { "int32", { 7, 1, 150 }, function(i) return i end, [=[
[[[   0    1    2 ...  147  148  149]]

 [[ 150  151  152 ...  297  298  299]]

 [[ 300  301  302 ...  447  448  449]]

 ...

 [[ 600  601  602 ...  747  748  749]]

 [[ 750  751  752 ...  897  898  899]]

 [[ 900  901  902 ... 1047 1048 1049]]]]=] },
    { "int32", { 2, 3, 200 }, function(i) return -i end, [=[
[[[    0    -1    -2 ...  -197  -198  -199]
  [ -200  -201  -202 ...  -397  -398  -399]
  [ -400  -401  -402 ...  -597  -598  -599]]

 [[ -600  -601  -602 ...  -797  -798  -799]
  [ -800  -801  -802 ...  -997  -998  -999]
  [-1000 -1001 -1002 ... -1197 -1198 -1199]]]]=] },
    { "bool", { 25 }, function(i) return i % 3 == 0 end, [=[
[ true false false  true false false  true false false  true false false
  true false false  true false false  true false false  true false false
  true]]=] },
    { "complex double", { 6 }, function(i) return { i / 3, 0 - i } end, [=[
[0.        +0.j 0.33333333-1.j 0.66666667-2.j 1.        -3.j
 1.33333333-4.j 1.66666667-5.j]]=] },
  }

  local function printed_array(dtype, shape, values, order)
    local n = product(shape)
    local list = {}
    for k = 0, n - 1 do
      local x = type(values) == "function" and values(k) or type(values) == "table" and values[k + 1]
      if dtype:find "^complex" then x = ffi.new(dtype == "complex float" and dtype or "complex", x[1], x[2]) end
      list[k + 1] = x
    end
    local a = mpi.array(list, dtype):reshape(shape)
    return order == "F" and a:copy "F" or a
  end

  it("follows NumPy", function()
    for _, case in ipairs(PRINTED) do
      for _, order in ipairs { "C", "F" } do
        assert.equal(case[4], tostring(printed_array(case[1], case[2], case[3], order)))
      end
    end
  end)

  it("shows views as it shows copies", function()
    local a = data_array({ 3, 40, 15 }, "int32")
    for _, view in ipairs { a:transpose(), a:slice({}, { nil, nil, -3 }), a:slice(1, { 3, 9 }), a:slice({}, 4, 5) } do
      assert.equal(tostring(view:copy()), tostring(view))
      assert.equal(tostring(view:copy()), view:tostring())
    end
  end)

  it("quotes text", function()
    local text = mpi.array("rank " .. RANK .. ', "x\\y"\n\0\t')
    assert.equal('"rank ' .. RANK .. ', \\"x\\\\y\\"\\n\\000\\t"', tostring(text))
    assert.equal('""', tostring(mpi.zeros(0, "char")))
    assert.equal('[["a" "\\n"]\n ["\\200" "b"]]', tostring(mpi.array("a\n\200b"):reshape { 2, 2 }))
    assert.equal('"q"', tostring(mpi.array("pq"):slice(1)))
    local long = mpi.array(("x"):rep(1200) .. "y")
    assert.equal('"' .. ("x"):rep(30) .. '"..."' .. ("x"):rep(29) .. 'y"', tostring(long))
  end)

  it("shows pairs and structs", function()
    local a = mpi.array({ { 1.5, 3 }, { -2, 10 } }, "double_int")
    assert.equal("[( 1.5,  3) (-2. , 10)]", tostring(a))
    assert.equal("(-2., 10)", tostring(a:slice(1)))
    assert.equal("[(-9007199254740993, 7)]", tostring(mpi.array({ { -9007199254740993LL, 7 } }, "long_int")))
    assert.equal("[(1, 2) (3, 4)]", tostring(mpi.array({ { 1, 2 }, { 3, 4 } }, "2int")))
    assert.equal("[(1, 2)]", tostring(mpi.array({ { 1, 2 } }, "short_int")))
    assert.equal("[(0.1, 2)]", tostring(mpi.array({ { 0.1, 2 } }, "float_int")))
    assert.equal("[<struct spec_point> <struct spec_point>]", tostring(mpi.zeros(2, "struct spec_point")))
  end)

  it("survives numbers whose bits LuaJIT reserves", function()
    local bits = mpi.empty(4, "int64"):fill(-1LL)
    assert.equal("[nan nan nan nan]", tostring(mpi.wrap(bits.data, 4, "double")))
    assert.equal("[nan nan]", tostring(mpi.wrap(bits.data, 2, "float")))
    assert.equal("[nan+nanj]", tostring(mpi.wrap(bits.data, 1, "complex double")))
    assert.equal(4, bits.size)
  end)

  it("looks at the edges of large arrays only", function()
    local one = ffi.new("double[1]", RANK)
    local text = tostring(mpi.wrap(one, { 2 ^ 40, 2 ^ 19 }, nil, { 0, 0 }))
    local row = (" %d."):rep(3):gsub("%%d", tostring(RANK))
    row = "[" .. row:sub(2) .. " ..." .. row .. "]"
    assert.equal(("[%s\n %s\n %s\n ...\n %s\n %s\n %s]"):gsub("%%s", row), text)
  end)

  it("names freed arrays", function()
    local a = mpi.zeros(3)
    a:free()
    assert.equal("nmpi array (freed)", tostring(a))
  end)
end)

describe("arrays: storage", function()
  -- Twice, so that what is made once for good is there before the first measurement.
  local function balanced(f)
    f()
    local before = storage()
    f()
    local after = storage()
    check(after == before, "%d bytes instead of %d", after, before)
  end

  it("is shared by views and kept until the last of them goes, in every order", function()
    local orders = {}
    local function permute(list, n)
      if n == 1 then
        orders[#orders + 1] = { unpack(list) }
        return
      end
      for i = 1, n do
        list[i], list[n] = list[n], list[i]
        permute(list, n - 1)
        list[i], list[n] = list[n], list[i]
      end
    end
    permute({ 1, 2, 3, 4 }, 4)
    assert.equal(24, #orders)
    local n = 4096

    local function alive(view, k)
      for i = 0, 63 do
        local p = i * 61
        local got
        if k == 1 then
          got = view[p]
        elseif k == 2 then
          got = view[n - 1 - p]
        elseif k == 3 then
          got = view:get(p % 64, math.floor(p / 64))
        else
          got = view:get(math.floor(p / 64), p % 64)
        end
        check(got == p + RANK * n, "view %d, element %d is %s", k, p, tostring(got))
      end
    end

    local function new_views()
      local a = mpi.empty(n)
      for i = 0, n - 1 do a[i] = i + RANK * n end
      local back = a:slice { nil, nil, -1 }
      local square = a:reshape { 64, 64 }
      return { a, back, square:transpose(), back:slice({ nil, nil, -1 }):reshape { 64, 64 } }
    end

    balanced(function()
      for _, order in ipairs(orders) do
        local views = new_views()
        for step, k in ipairs(order) do
          if step % 2 == 0 then views[k]:free() end
          views[k] = nil
          collectgarbage()
          mpi.empty(n):fill(-1):free()
          for left, view in pairs(views) do alive(view, left) end
        end
      end
    end)
  end)

  it("is each array's own, whatever its size, while others come and go", function()
    local KIB, MIB = 1024, 1024 * 1024
    local sizes = {
      1, 12 * KIB - 1, 12 * KIB, 3 * 4160, 3 * 4160 + 1, 20 * KIB, 128 * KIB, 100000, 777777, MIB, MIB + 1,
      504 * 4160, 504 * 4160 + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1,
    }
    local alive, seed = {}, 7 + RANK
    local function random(n)
      seed = seed * 48271 % 2147483647
      return seed % n
    end
    local function holds(a, value)
      local bytes = a.size
      for i = 0, bytes - 1, 4093 do check(a[i] == value, "%d in place of %d at %d of %d", a[i], value, i, bytes) end
      check(a[bytes - 1] == value, "%d in place of %d at the end of %d", a[bytes - 1], value, bytes)
    end
    balanced(function()
      for turn = 1, 600 do
        local k = random(40)
        local a = alive[k]
        if a then
          holds(a, k + 1)
          a:free()
          alive[k] = nil
        else
          local bytes, zero = sizes[random(#sizes) + 1], turn % 3 == 0
          alive[k] = mpi[zero and "zeros" or "empty"](bytes, "uint8")
          if zero then holds(alive[k], 0) end
          alive[k]:fill(k + 1)
        end
      end
      for k, a in pairs(alive) do
        holds(a, k + 1)
        a:free()
      end
      alive = {}
    end)
  end)

  -- What a file says; nothing where there is none.
  local function text_of(name)
    local file = io.open(name)
    local text = file and file:read "*a" or ""
    if file then file:close() end
    return text
  end

  -- Whether AddressSanitizer has replaced malloc, and is to see each array by itself.
  local function is_sanitized() return text_of("/proc/self/maps"):find("libasan", 1, true) ~= nil end

  it("lies on huge pages from 12 KiB on", function()
    if text_of "/sys/kernel/mm/transparent_hugepage/enabled" == "" then return pending "there are no huge pages" end
    if is_sanitized() then return pending "AddressSanitizer is to see each array by itself" end
    local HUGE_PAGE = 2 ^ 21
    local arrays, sizes = {}, {
      12 * 1024, 12 * 1024 + 1, 50000, 2 ^ 17, 2 ^ 20 + 1, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 5 * HUGE_PAGE,
    }
    for i, bytes in ipairs(sizes) do
      arrays[i] = mpi.empty(bytes, "uint8")
      local begin = tonumber(ffi.cast("uintptr_t", arrays[i].p.any))
      check(begin % (bytes < HUGE_PAGE and 64 or HUGE_PAGE) == 0, "%d bytes at %x", bytes, begin)
      local first, past, found
      for line in text_of("/proc/self/smaps"):gmatch "[^\n]+" do
        local from, to = line:match "^(%x+)%-(%x+) "
        if from then first, past = tonumber(from, 16), tonumber(to, 16) end
        local flags = line:match "^VmFlags:(.*)"
        if flags and first <= begin and begin < past then
          found = true
          check(begin + bytes <= past and (flags .. " "):find(" hg ", 1, true), "%d bytes: %s", bytes, flags)
        end
      end
      check(found, "%d bytes at %x are not mapped", bytes, begin)
    end
    for _, a in ipairs(arrays) do a:free() end
  end)

  it("takes little more memory than the arrays have, and gives it back", function()
    local function mapped() return tonumber(text_of("/proc/self/status"):match "VmData:%s*(%d+)" or 0) * 1024 end
    if mapped() == 0 then return pending "the system does not tell what a process has mapped" end
    if is_sanitized() then return pending "AddressSanitizer keeps what is freed" end
    local MIB, MOST = 2 ^ 20, 150 * 2 ^ 20
    local sizes = { 12 * 1024, 16 * 1024, 33000, 64 * 1024, 132 * 1024, 250000, 516 * 1024, MIB, MIB + 1, 2 * MIB - 1 }
    local arrays, bytes, seed = {}, 0, 11 + RANK
    local function random(n)
      seed = seed * 48271 % 2147483647
      return seed % n + 1
    end
    storage()
    local before = mapped()
    for round = 1, 6 do
      while bytes < MOST do
        -- Each round most are of one size.
        local size = sizes[random(3) == 1 and random(#sizes) or round + 2]
        arrays[#arrays + 1] = mpi.empty(size, "uint8")
        bytes = bytes + size
      end
      local more = mapped() - before
      check(more < 1.75 * bytes, "round %d: %d bytes mapped for %d", round, more, bytes)
      while bytes > MOST / 2 do
        local a = table.remove(arrays, random(#arrays))
        bytes = bytes - a.size
        a:free()
      end
    end
    for _, a in ipairs(arrays) do a:free() end
    local more = mapped() - before
    check(more < 24 * MIB, "%d bytes mapped in the end", more)
  end)

  it("is counted in bytes, once", function()
    local before = storage()
    local a = mpi.zeros({ 100, 10 }, "int16")
    assert.equal(before + 2000, storage())
    local b = a:transpose()
    local c = a:reshape(1000):slice { 3, 500 }
    assert.equal(before + 2000, storage())
    local d = b:copy()
    assert.equal(before + 4000, storage())
    a:free()
    b:free()
    assert.equal(before + 4000, storage())
    c:free()
    assert.equal(before + 2000, storage())
    d:free()
    assert.equal(before, storage())
  end)

  it("goes when the garbage collector takes the array", function()
    balanced(function()
      for _, dtype in ipairs(DTYPES) do
        for _ = 1, 20 do
          local a = mpi.zeros({ 11, 9 }, dtype)
          local b = a:slice({ 1, 4 }, 3):copy()
          b:assign(a:row(2):slice { 0, 3 })
          a:reshape(99):fill(DATA[dtype](2))
          a:transpose():flatten()
        end
      end
    end)
  end)

  it("is freed at once by free, and only once", function()
    local before = storage()
    local a = mpi.zeros(1000)
    local b = a:slice { 0, 10 }
    a:free()
    a:free()
    b[3] = 5
    assert.equal(5, b[3])
    assert.equal(before + 8000, tonumber(core.nmpi_memory_bytes()))
    b:free()
    b:free()
    assert.equal(before, tonumber(core.nmpi_memory_bytes()))
    assert.same({ 0, 0, "none" }, { a.size, a.ndim, a.dtype })
  end)

  it("of foreign memory is kept alive by every array on it", function()
    local weak = setmetatable({}, { __mode = "v" })
    local held = {}
    do
      local memory = ffi.new("double[?]", 1000)
      for i = 0, 999 do memory[i] = i * (RANK + 1) end
      weak[1] = memory
      held[1] = mpi.wrap(memory)
      held[2] = held[1]:slice { nil, nil, 10 }
      held[3] = held[2]:reshape({ 10, 10 }):transpose()
    end
    for k = 1, 3 do
      storage()
      assert.is_true(weak[1] ~= nil)
      assert.equal(990 * (RANK + 1), held[3]:get(9, 9))
      if k == 2 then held[k]:free() end
      held[k] = nil
    end
    for _ = 1, 3 do storage() end
    assert.is_nil(weak[1])
  end)

  it("of foreign memory is let go by free", function()
    local weak = setmetatable({}, { __mode = "v" })
    local a
    do
      local memory = ffi.new("int[?]", 100)
      weak[1] = memory
      a = mpi.wrap(memory)
    end
    storage()
    assert.is_true(weak[1] ~= nil)
    a:free()
    for _ = 1, 3 do storage() end
    assert.is_nil(weak[1])
    assert.equal(0, a.size)
  end)

  it("stays bounded while a loop makes garbage", function()
    local before = storage()
    for _, elements_each in ipairs { 1e6, 20000 } do
      local highest = 0
      for i = 1, 1.2e8 / elements_each do
        local a = mpi.empty(elements_each)
        a[i % elements_each] = i
        local now = tonumber(core.nmpi_memory_bytes())
        if now > highest then highest = now end
      end
      -- The least limit, and the array that goes past it.
      local limit = math.max(3e8, 1.4 * before) + 8 * elements_each
      check(highest <= limit, "%d bytes at the highest, %d at the start", highest, before)
      check(highest > 1e8, "only %d bytes at the highest", highest)
    end
    assert.equal(before, storage())
  end)

  it("holds arrays above 2 GiB", function()
    if RANK > 0 then return end
    for _, case in ipairs { { "uint8", 2 ^ 31 + 4096, 200 }, { "double", 2 ^ 28 + 17, 1 / 3 } } do
      local dtype, n, x = unpack(case)
      local made, a = pcall(mpi.empty, n, dtype)
      if not made then
        pending("no memory for it here: " .. a)
        return
      end
      a[0], a[n - 1], a[n - 2] = 1, x, 2
      assert.same({ 1, 2, x }, { a[0], a[n - 2], a[n - 1] })
      assert.equal(x, a:get(n - 1))
      assert.equal(n, a.size)
      local tail = a:slice { n - 2 }
      assert.same({ 2, x }, tail:totable())
      assert.equal(x, a:slice({ nil, nil, -1 })[0])
      assert.equal(x, a:slice { nil, nil, n - 1 }[1])
      tail:fill(7)
      assert.equal(7, a.data[n - 1])
      local half = math.floor(n / 3)
      assert.equal(7, a:reshape({ 3, half }):get(2, half - 1))
      tail:free()
      a:free()
    end
  end)
end)

describe("arrays: in compiled code", function()
  -- Enough for hot loops.
  local N = jit.status() and 3000 or 600

  -- What is to be compiled: the shape in which the N elements are read, that of an array to write to, and the loops.
  local LOOPS = {
    ["a[i]"] = { { N }, nil, function(a)
      local sum = 0
      for i = 0, a.size - 1 do sum = sum + a[i] end
      return sum
    end },
    ["a.data[i]"] = { { N }, nil, function(a)
      local sum, p = 0, a.data
      for i = 0, a.size - 1 do sum = sum + p[i * a.strides[0]] end
      return sum
    end },
    ["a.data in the loop"] = { { N }, nil, function(a)
      local sum = 0
      for i = 0, #a - 1 do sum = sum + a.data[i * a.strides[0]] end
      return sum
    end },
    ["a:get(i)"] = { { N }, nil, function(a)
      local sum = 0
      for i = 0, a.shape[0] - 1 do sum = sum + a:get(i) end
      return sum
    end },
    ["a:get(i, j)"] = { { N / 50, 50 }, nil, function(a)
      local sum = 0
      for k = 0, a.size - 1 do sum = sum + a:get((k - k % 50) / 50, k % 50) end
      return sum
    end },
    ["a:get(i, j) in two loops"] = { { N / 50, 50 }, nil, function(a)
      local sum = 0
      for i = 0, a.shape[0] - 1 do
        for j = 0, a.shape[1] - 1 do sum = sum + a:get(i, j) end
      end
      return sum
    end },
    ["a:get(i, j, k)"] = { { N / 10, 5, 2 }, nil, function(a)
      local sum = 0
      for k = 0, a.size - 1 do sum = sum + a:get((k - k % 10) / 10, (k % 10 - k % 2) / 2, k % 2) end
      return sum
    end },
    ["a:get of eight"] = { { 1, 1, N / 2, 1, 2, 1, 1, 1 }, nil, function(a)
      local sum = 0
      for k = 0, a.size - 1 do sum = sum + a:get(0, 0, (k - k % 2) / 2, 0, k % 2, 0, 0, 0) end
      return sum
    end },
    ["a[i] = x"] = { { N }, { N }, function(a, b)
      local sum = 0
      for i = 0, a.size - 1 do
        b[i] = a[i]
        sum = sum + b[i]
      end
      return sum
    end },
    ["a:set(i, j, x)"] = { { N }, { N, 2 }, function(a, b)
      local sum = 0
      for i = 0, a.size - 1 do
        b:set(i, 1, a[i])
        sum = sum + b:get(i, 1)
      end
      return sum
    end },
    ["a:set of five"] = { { N }, { 1, N, 1, 2, 1 }, function(a, b)
      local sum = 0
      for i = 0, a.size - 1 do
        b:set(0, i, 0, 1, 0, a[i])
        sum = sum + b:get(0, i, 0, 1, 0)
      end
      return sum
    end },
  }

  local function sum_by(case, a)
    local target = case[2] and mpi.empty(case[2], a.dtype, "F")
    return case[3](a:reshape(case[1]), target)
  end

  local SUMMED = { "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "char" }

  -- Small whole numbers, whose sum every dtype has exactly.
  local function summand(i) return (i * 7 + RANK) % 100 end

  it("elements are what they are in interpreted code", function()
    local expected = 0
    for i = 0, N - 1 do expected = expected + summand(i) end
    for _, dtype in ipairs(SUMMED) do
      local a = mpi.empty(N, dtype)
      for i = 0, N - 1 do a[i] = summand(i) end
      local backward = mpi.empty({ N, 2 }, dtype):slice({ nil, nil, -1 }, 1):assign(a)
      for name, case in pairs(LOOPS) do
        for _, view in ipairs { a, backward } do
          local sum = sum_by(case, view)
          check(sum == expected, "%s of %s: %s", name, dtype, tostring(sum))
        end
      end
    end
  end)

  it("elements of other dtypes are too", function()
    for _, dtype in ipairs { "bool", "complex float", "complex double", "double_int", "2int", "struct spec_point" } do
      local a, b = mpi.empty(N, dtype), mpi.empty({ 2, N }, dtype, "F")
      local x = DATA[dtype](3)
      for i = 0, N - 1 do
        a[i] = x
        b:set(1, N - 1 - i, a[i])
      end
      for i = 0, N - 1, 37 do
        check_same(a[i], x, "%s", dtype)
        check_same(b:get(1, i), x, "%s", dtype)
      end
    end
    local z, re, im = mpi.empty(N, "complex"), 0, 0
    for i = 0, N - 1 do z[i] = ffi.new("complex", i, RANK) end
    for i = 0, N - 1 do re, im = re + z[i].re, im + z[i].im end
    assert.same({ N * (N - 1) / 2, RANK * N }, { re, im })
    local flags, count = mpi.empty(N, "bool"), 0
    for i = 0, N - 1 do flags[i] = i % 3 == 0 end
    for i = 0, N - 1 do
      if flags[i] then count = count + 1 end
    end
    assert.equal(N / 3, count)
  end)

  it("views and whole-array calls give the same", function()
    local a = data_array({ 10, 12 }, "int32")
    local sum, expected = 0, 0
    for k = 0, N - 1 do
      local i, j = k % 10, k % 12
      sum = sum + a:row(i)[j] + a:col(j):get(i) + a:transpose():get(j, i) + a:slice({ i }, j)[0]
      expected = expected + 4 * DATA.int32(i * 12 + j)
    end
    assert.equal(expected, sum)
    for k = 0, N - 1 do a:row(k % 10):fill(k) end
    for i = 0, 9 do assert.equal(N - 10 + i, a:get(i, 11)) end
  end)

  it("errors are raised as in interpreted code", function()
    local a = mpi.zeros { 3, 4 }
    local b = mpi.zeros { 2, 2, 2 }
    rejects(function() for i = 0, N do a:row(i < N and 0 or 3) end end, "expected an index within an extent of 3")
    rejects(function() for i = 0, N do a:get(0, i < N and 0 or nil) end end, "expected 2 whole indices within")
    rejects(function() for i = 0, N do a:get(0, i < N and 0 or "1") end end, 'got (0, the string "1"')
    rejects(function() for i = 0, N do a:set(0, 0, i < N and i or "x") end end, "an element of dtype double")
    rejects(function() for i = 0, N do b:set(0, 0, 0, i < N and i or {}) end end, "got a table")
    rejects(function() for i = 0, N do a:slice { i < N and 0 or 4 } end end, "expected a start within")
    rejects(function() for i = 0, N do a:assign(i < N and 1 or b) end end, "an array of shape (3, 4)")
    rejects(function() for i = 0, N do mpi.zeros(i < N and 1 or -1):free() end end, "at least 0, got -1")
    rejects(function() for i = 0, N do local _ = a:row(0)[i < N and 0 or "zero"] end end, "no field 'zero'")
  end)

  it("loops over elements compile without an abort", function()
    if not jit.status() then
      pending "the JIT compiler is off"
      return
    end
    -- Only the loops under test are to be compiled, and no finalizer is to run meanwhile.
    jit.off(true, true)
    collectgarbage()
    collectgarbage "stop"
    local funcinfo, traceinfo = require("jit.util").funcinfo, require("jit.util").traceinfo
    local reasons, format = require("jit.vmdef").traceerr, string.format
    -- Traces that start in the function's own loops; others come of functions that are called often.
    local loop, ours, made, aborted
    local function watch(what, trace, func, pc, reason)
      if what == "start" then
        ours = func == loop and pc > 0
      elseif what == "stop" and ours then
        made = made + 1
        if traceinfo(trace).linktype == "stitch" then aborted[#aborted + 1] = "stitch" end
      elseif what == "abort" and ours then
        aborted[#aborted + 1] = format("%s: %s", tostring(funcinfo(func, pc).loc), tostring(reasons[reason]))
      end
    end
    for name, case in pairs(LOOPS) do
      for _, dtype in ipairs(SUMMED) do
        local a = mpi.zeros(case[1], dtype)
        local b = case[2] and mpi.zeros(case[2], dtype)
        -- LuaJIT counts by hashes of addresses. A collision can start a trace of an outer loop too early, which then
        -- aborts; so new copies of the code have some tries.
        for _ = 1, 10 do
          loop = loadstring(string.dump(case[3]))
          made, aborted = 0, {}
          jit.flush()
          jit.attach(watch, "trace")
          local ran, message = pcall(loop, a, b)
          jit.attach(watch)
          check(ran, "%s of %s: %s", name, dtype, tostring(message))
          if made > 0 and #aborted == 0 then break end
        end
        check(#aborted == 0, "%s of %s: aborted at %s", name, dtype, tostring(aborted[1]))
        check(made > 0, "%s of %s: not compiled", name, dtype)
      end
    end
    collectgarbage "restart"
  end)
end)

describe("arrays: mistakes", function()
  local a, line, cube = mpi.zeros { 2, 3 }, mpi.zeros(4), mpi.zeros { 2, 2, 2 }
  local four, eight = mpi.zeros { 1, 1, 1, 1 }, mpi.zeros { 1, 1, 1, 1, 1, 1, 1, 1 }
  local point = mpi.zeros({})

  it("in shapes are rejected", function()
    for _, make in ipairs { "zeros", "empty" } do
      local new, name = mpi[make], "nmpi." .. make .. ": argument 'shape': "
      rejects(function() new() end, name .. "expected a number or a list of numbers, got nil")
      rejects(function() new "3" end, name .. 'expected a number or a list of numbers, got the string "3"')
      rejects(function() new(-1) end, name .. "expected whole extents of at least 0, got -1")
      rejects(function() new(1.5) end, name .. "expected whole extents of at least 0, got 1.5")
      rejects(function() new(NAN) end, name .. "expected whole extents of at least 0, got nan")
      rejects(function() new(INF) end, name .. "expected whole extents of at least 0, got inf")
      rejects(function() new { 2, -3 } end, name .. "expected whole extents of at least 0, got -3")
      rejects(function() new { 2, "x" } end, name .. 'expected whole extents of at least 0, got the string "x"')
      rejects(function() new { 2, {} } end, name .. "expected whole extents of at least 0, got a table")
      rejects(function() new { 2 ^ 40, 2 ^ 40 } end, name .. "the size of the array overflows 2^63 - 1 bytes")
      rejects(function() new { 2 ^ 53, 2 ^ 7, 2 } end, name .. "the size of the array overflows 2^63 - 1 bytes")
      rejects(function() new { 0, 2 ^ 53, 2 ^ 53 } end, name .. "the size of the array overflows 2^63 - 1 bytes")
      rejects(function() new(2 ^ 53) end, name .. "no memory for 9007199254740992 elements of 8 bytes")
      rejects(function() new { 1, 1, 1, 1, 1, 1, 1, 1, 1 } end, name .. "expected at most 8 dimensions, got 9")
      rejects(function() new(print) end, name .. "expected a number or a list of numbers, got a function")
    end
  end)

  it("in dtypes and orders are rejected", function()
    rejects(function() mpi.zeros(3, "flaot") end, "nmpi.zeros: argument 'dtype': expected int8 ... int64, ")
    rejects(function() mpi.zeros(3, "flaot") end, 'got the string "flaot"')
    rejects(function() mpi.empty(3, 8) end, "got 8")
    rejects(function() mpi.array({ 1 }, {}) end, "nmpi.array: argument 'dtype': expected int8")
    rejects(function() mpi.wrap(ffi.new "int[2]", 2, "int *") end, "nmpi.wrap: argument 'dtype': expected int8")
    rejects(function() mpi.zeros(3, "int", "D") end, "nmpi.zeros: argument 'order': expected 'C' or 'F', got the")
    rejects(function() mpi.empty(3, nil, 1) end, "nmpi.empty: argument 'order': expected 'C' or 'F', got 1")
    rejects(function() mpi.array({ 3 }, nil, "c") end, "nmpi.array: argument 'order': expected 'C' or 'F', got the")
    rejects(function() a:copy "A" end, "nmpi.array:copy: argument 'order': expected 'C' or 'F', got the string \"A\"")
    rejects(function() a:is_contiguous(true) end, "nmpi.array:is_contiguous: argument 'order': expected 'C' or 'F'")
  end)

  it("in values are rejected", function()
    rejects(function() mpi.array() end, "nmpi.array: argument 'values': expected a list, a number, a string or an")
    rejects(function() mpi.array(print) end, "got a function")
    rejects(function() mpi.array { { 1, 2 }, { 3 } } end, "expected lists of 2 at depth 2, got one of 1")
    rejects(function() mpi.array { { 1, 2 }, 3 } end, "expected lists of 2 at depth 2, got 3")
    rejects(function() mpi.array { 1, { 3 } } end, "expected an element of dtype double, got a table")
    rejects(function() mpi.array { "x" } end, 'expected an element of dtype double, got the string "x"')
    rejects(function() mpi.array { 1, true } end, "expected an element of dtype double, got true")
    rejects(function() mpi.array({ 1, "xy" }, "char") end, 'expected an element of dtype char, got the string "xy"')
    rejects(function() mpi.array("text", "double") end, "expected char, int8 or uint8 for a string")
    rejects(function() mpi.array { { { { { { { { { 1 } } } } } } } } } end, "expected lists nested at most 8 deep")
  end)

  it("in wrapping are rejected", function()
    local c = ffi.new "double[3]"
    local p = ffi.cast("double *", c)
    local cdata = "nmpi.wrap: argument 'cdata': expected a raw FFI array or a pointer, got "
    rejects(function() mpi.wrap() end, cdata .. "nil")
    rejects(function() mpi.wrap(5) end, cdata .. "5")
    rejects(function() mpi.wrap {} end, cdata .. "a table")
    rejects(function() mpi.wrap(a) end, cdata .. "an array of double, shape (2, 3)")
    rejects(function() mpi.wrap(5LL) end, cdata .. "cdata of type int64_t")
    rejects(function() mpi.wrap(ffi.new "struct spec_point") end, cdata .. "cdata of type struct spec_point")
    rejects(function() mpi.wrap(ffi.new "int *[3]") end, cdata .. "cdata of type int *[3]")
    rejects(function() mpi.wrap(p) end, "nmpi.wrap: argument 'shape': expected a count or a shape, since a pointer")
    rejects(function() mpi.wrap(ffi.cast("void *", c), 3) end, "nmpi.wrap: argument 'dtype': expected a dtype, since")
    rejects(function() mpi.wrap(ffi.cast("int *", nil), 3) end, "expected memory, got a NULL pointer")
    rejects(function() mpi.wrap(c, 4) end, "the array would reach beyond the 24 bytes of memory given")
    rejects(function() mpi.wrap(c, 3, "complex") end, "the array would reach beyond the 24 bytes of memory given")
    rejects(function() mpi.wrap(c, 2, nil, 3) end, "the array would reach beyond the 24 bytes of memory given")
    rejects(function() mpi.wrap(c, 2, nil, -1) end, "the array would reach beyond the 24 bytes of memory given")
    rejects(function() mpi.wrap(c, -1) end, "nmpi.wrap: argument 'shape': expected whole extents of at least 0, got -1")
    rejects(function() mpi.wrap(p, { 2 ^ 40, 2 ^ 40 }) end, "the size of the array overflows 2^63 - 1 bytes")
    rejects(function() mpi.wrap(p, 2 ^ 53, nil, 2 ^ 53) end, "the array would reach beyond")
    rejects(function() mpi.wrap(c, 3, nil, { 1, 1 }) end, "nmpi.wrap: argument 'strides': expected 1, got 2")
    rejects(function() mpi.wrap(c, 3, nil, 0.5) end, "nmpi.wrap: argument 'strides': expected a whole number, got 0.5")
    rejects(function() mpi.wrap(c, 3, nil, "1") end, "nmpi.wrap: argument 'strides': expected a number or a list")
  end)

  it("in indices are rejected", function()
    rejects(function() local _ = a[0] end, "nmpi.array[i]: expected 2 whole indices within the shape (2, 3), got (0)")
    rejects(function() a[0] = 1 end, "nmpi.array[i]: expected 2 whole indices within the shape (2, 3), got (0)")
    rejects(function() local _ = point[0] end, "nmpi.array[i]: expected 0 whole indices within the shape ()")
    rejects(function() a:get() end, "nmpi.array:get: expected 2 whole indices within the shape (2, 3)")
    rejects(function() a:get(1) end, "nmpi.array:get: expected 2 whole indices within the shape (2, 3), got (1")
    rejects(function() a:get(0, 1, 2) end, "expected 2 whole indices within the shape (2, 3), got (0, 1, 2")
    rejects(function() a:get("0", 1) end, "nmpi.array:get: expected 2 whole indices within")
    rejects(function() line:get(0, 1) end, "nmpi.array:get: expected 1 whole index within the shape (4,)")
    rejects(function() line:get({}) end, "nmpi.array:get: expected 1 whole index within the shape (4,), got (a table")
    rejects(function() point:get(0) end, "nmpi.array:get: expected 0 whole indices within the shape ()")
    rejects(function() cube:get(0, 0) end, "nmpi.array:get: expected 3 whole indices within the shape (2, 2, 2)")
    rejects(function() cube:get(0, 0, 0, 0) end, "nmpi.array:get: expected 3 whole indices within the shape (2, 2, 2)")
    rejects(function() four:get(0, 0, 0) end, "nmpi.array:get: expected 4 whole indices within")
    rejects(function() four:get(0, 0, 0, 0, 0) end, "nmpi.array:get: expected 4 whole indices within")
    rejects(function() four:get(0, 0, 0, true) end, "nmpi.array:get: expected 4 whole indices within")
    rejects(function() eight:get(0, 0, 0, 0, 0, 0, 0) end, "nmpi.array:get: expected 8 whole indices within")
    rejects(function() eight:get(0, 0, 0, 0, 0, 0, 0, "0") end, "nmpi.array:get: expected 8 whole indices within")
    rejects(function() eight:get(0, 0, 0, 0, nil, 0, 0, 0) end, "nmpi.array:get: expected 8 whole indices within")
    rejects(function() eight:set(0, 0, 0, 0, 0, nil, 0, 0, 1) end, "nmpi.array:set: expected 8 whole indices within")
    rejects(function() a:set(0, 1, 2, 3) end, "nmpi.array:set: expected 2 whole indices within the shape (2, 3)")
    rejects(function() a:set("0", 1, 2) end, "nmpi.array:set: expected 2 whole indices within the shape (2, 3)")
    rejects(function() line:set(0, 1, 2) end, "nmpi.array:set: expected 1 whole index within the shape (4,)")
    rejects(function() point:set(0, 1) end, "nmpi.array:set: expected 0 whole indices within the shape ()")
    rejects(function() cube:set(0, 0, 0, 1, 2) end, "nmpi.array:set: expected 3 whole indices within")
    rejects(function() four:set(0, 0, 0, 0, 0, 1) end, "nmpi.array:set: expected 4 whole indices within")
    rejects(function() four:set(0, 0, 0, {}, 1) end, "nmpi.array:set: expected 4 whole indices within")
    rejects(function() eight:set(0, 0, 0, 0, 0, 0, 0, {}, 1) end, "nmpi.array:set: expected 8 whole indices within")
  end)

  it("in elements are rejected", function()
    local flags, text, whole = mpi.zeros(2, "bool"), mpi.zeros(2, "char"), mpi.zeros(2, "int64")
    local expected = "argument 'x': expected an element of dtype "
    rejects(function() line[0] = nil end, "nmpi.array[i]: " .. expected .. "double, got nil")
    rejects(function() line[0] = "1" end, expected .. 'double, got the string "1"')
    rejects(function() line[0] = true end, expected .. "double, got true")
    rejects(function() line[0] = print end, expected .. "double, got a function")
    rejects(function() line[0] = ffi.new "int *" end, expected .. "double, got cdata of type int *")
    rejects(function() line[0] = ffi.new "complex" end, expected .. "double, got cdata of type complex")
    rejects(function() line[0] = a end, expected .. "double, got an array of double, shape (2, 3)")
    rejects(function() whole[0] = "1" end, expected .. 'int64, got the string "1"')
    rejects(function() flags[0] = "true" end, expected .. 'bool, got the string "true"')
    rejects(function() text[0] = "ab" end, expected .. 'char, got the string "ab"')
    rejects(function() text[0] = "" end, expected .. 'char, got the string ""')
    rejects(function() line:set(0) end, "nmpi.array:set: " .. expected .. "double, got nil")
    rejects(function() point:set() end, "nmpi.array:set: " .. expected .. "double, got nil")
    rejects(function() a:set(0, 0, {}) end, expected .. "double, got a table")
    rejects(function() cube:set(0, 0, 0, {}) end, expected .. "double, got a table")
    rejects(function() four:set(0, 0, 0, 0, {}) end, expected .. "double, got a table")
    rejects(function() eight:set(0, 0, 0, 0, 0, 0, 0, 0) end, expected .. "double, got nil")
    rejects(function() a:fill() end, "nmpi.array:fill: " .. expected .. "double, got nil")
    rejects(function() a:fill {} end, "nmpi.array:fill: " .. expected .. "double, got a table")
    rejects(function() mpi.zeros(1, "complex"):fill { 1, 2 } end, expected .. "complex double, got a table")
    local pair, points = mpi.zeros(1, "2int"), mpi.zeros({ 1, 1 }, "struct spec_point")
    local convertible = "argument 'x': expected what FFI converts to dtype "
    rejects(function() pair[0] = 5 end, "nmpi.array[i]: " .. convertible .. "2int, got 5")
    rejects(function() pair[0] = { "x" } end, convertible .. "2int, got a table")
    rejects(function() pair:set(0, ffi.new "struct spec_point") end, convertible .. "2int, got cdata of type struct")
    rejects(function() pair:fill(0) end, "nmpi.array:fill: " .. convertible .. "2int, got 0")
    rejects(function() points:set(0, 0, 1) end, "nmpi.array:set: " .. convertible .. "struct spec_point, got 1")
    rejects(function() points:set(0, 0, "x") end, convertible .. 'struct spec_point, got the string "x"')
    rejects(function() mpi.array({ 1 }, "2int") end, "nmpi.array: " .. convertible .. "2int, got 1")
    assert.same({ 0, 0 }, { pair[0].value, points:get(0, 0).x })
  end)

  it("in ranges are rejected", function()
    local range = "nmpi.array:slice: argument 'range': "
    rejects(function() a:slice "x" end, range .. 'expected {from, to, step}, a number or nil, got the string "x"')
    rejects(function() a:slice(true) end, range .. "expected {from, to, step}, a number or nil, got true")
    rejects(function() a:slice(nil, print) end, range .. "expected {from, to, step}, a number or nil, got a function")
    rejects(function() a:slice(0.5) end, range .. "expected a whole number, got 0.5")
    rejects(function() a:slice(NAN) end, range .. "expected a whole number, got nan")
    rejects(function() a:slice(2) end, "nmpi.array:slice: argument 'index': expected an index within an extent of 2")
    rejects(function() a:slice(-3) end, "expected an index within an extent of 2 in dimension 0, got -3")
    rejects(function() a:slice(nil, 3) end, "expected an index within an extent of 3 in dimension 1, got 3")
    rejects(function() a:slice { 3 } end, range .. "expected a start within an extent of 2 in dimension 0, got 3")
    rejects(function() a:slice { -3 } end, range .. "expected a start within an extent of 2 in dimension 0, got -3")
    rejects(function() a:slice { 0, 3 } end, range .. "expected an end within an extent of 2 in dimension 0, got 3")
    rejects(function() a:slice { 0, -3 } end, range .. "expected an end within an extent of 2 in dimension 0, got -3")
    rejects(function() a:slice { 2, 0, -1 } end, range .. "expected a start within an extent of 2 in")
    rejects(function() a:slice { 1, 2, -1 } end, range .. "expected an end within an extent of 2 in dimension 0, got 2")
    rejects(function() a:slice { nil, nil, 0 } end, range .. "expected a step other than 0 in dimension 0")
    rejects(function() a:slice { 0.5 } end, range .. "expected a whole number, got 0.5")
    rejects(function() a:slice { 0, "1" } end, range .. 'expected a whole number, got the string "1"')
    rejects(function() a:slice { 0, 1, {} } end, range .. "expected a whole number, got a table")
    rejects(function() a:slice { 0, 1, 2 ^ 60 } end, range .. "expected a whole number, got 1.152")
    rejects(function() a:slice(0, 0, 0) end, "nmpi.array:slice: expected at most 2 ranges for the shape (2, 3), got 3")
    rejects(function() point:slice(0) end, "nmpi.array:slice: expected at most 0 ranges for the shape (), got 1")
    rejects(function() a:row(2) end, "nmpi.array:row: argument 'index': expected an index within an extent of 2")
    rejects(function() a:col(-4) end, "nmpi.array:col: argument 'index': expected an index within an extent of 3")
    rejects(function() a:row() end, "nmpi.array:row: argument 'index': expected a whole number, got nil")
    rejects(function() a:col "1" end, "nmpi.array:col: argument 'index': expected a whole number, got the string")
    rejects(function() line:row(0) end, "nmpi.array:row: expected an array of 2 dimensions, got shape (4,)")
    rejects(function() cube:col(0) end, "nmpi.array:col: expected an array of 2 dimensions, got shape (2, 2, 2)")
  end)

  it("in new shapes are rejected", function()
    local shape = "nmpi.array:reshape: argument 'shape': "
    rejects(function() a:reshape() end, shape .. "expected a number or a list of numbers, got nil")
    rejects(function() a:reshape { 4 } end, shape .. "expected the size of the array, 6, got 4")
    rejects(function() a:reshape {} end, shape .. "expected the size of the array, 6, got 1")
    rejects(function() a:reshape { -1, 4 } end, shape .. "6 elements cannot be divided into 4")
    rejects(function() a:reshape { -1, 0 } end, shape .. "6 elements cannot be divided into 0")
    rejects(function() a:reshape { -2, 3 } end, shape .. "expected whole extents of at least 0, got -2")
    rejects(function() a:reshape { 2.5 } end, shape .. "expected whole extents of at least 0, got 2.5")
    rejects(function() a:reshape { -1, -1 } end, shape .. "expected at most one extent of -1")
    rejects(function() mpi.zeros(0):reshape { -1, -1 } end, shape .. "expected at most one extent of -1")
    rejects(function() a:reshape { 2 ^ 53, 2 ^ 53 } end, shape .. "its size overflows; the array has 6 elements")
    rejects(function() a:reshape { 6, 1, 1, 1, 1, 1, 1, 1, 1 } end, shape .. "expected at most 8 dimensions, got 9")
  end)

  it("in whole-array calls are rejected", function()
    local b = "nmpi.array:assign: argument 'b': "
    rejects(function() a:assign() end, b .. "expected an array, got nil")
    rejects(function() a:assign { 1 } end, b .. "expected an array (nmpi or FFI); other kinds need "
      .. "mpi.register_buffer, got a table")
    rejects(function() a:assign(mpi.IN_PLACE) end, b .. "expected an array, got IN_PLACE")
    rejects(function() a:assign(mpi.zeros { 3, 2 }) end, b .. "expected an array of shape (2, 3), got")
    rejects(function() a:assign(mpi.zeros(6)) end, b .. "expected an array of shape (2, 3), got")
    rejects(function() a:assign(ffi.new "double[6]") end, b .. "expected an array of shape (2, 3), got")
    rejects(function() a:assign(ffi.new "double *") end, b .. "expected an array (nmpi or FFI); a pointer needs a")
    rejects(function() a:assign(mpi.zeros({ 2, 3 }, "complex")) end, b .. "complex double cannot be converted to")
    rejects(function() a:assign(mpi.zeros({ 2, 3 }, "2int")) end, b .. "2int cannot be converted to double")
    rejects(function() mpi.zeros(2, "2int"):assign(mpi.zeros(2)) end, b .. "double cannot be converted to 2int")
    rejects(function() mpi.zeros(2, "2int"):assign(mpi.zeros(2, "float_int")) end, b .. "float_int cannot be converted")
    rejects(function() line:assign(mpi.zeros(4, "struct spec_point")) end, b .. "struct cannot be converted to double")
    rejects(function() local _ = #point end, "nmpi.array: an array of 0 dimensions has no length")
  end)

  it("in a call without its array are rejected", function()
    for _, method in ipairs { "slice", "row", "col", "transpose", "reshape", "flatten", "copy", "fill", "assign",
      "totable", "tostring", "is_contiguous", "free" } do
      local ok, message = pcall(a[method], 5)
      assert.is_false(ok)
      if method ~= "flatten" then
        assert.matches("nmpi.array:" .. method .. ": argument 'self': expected an array", message, 1, true)
      end
      assert.is_false((pcall(a[method])))
    end
    rejects(function() require("ffi").typeof(a)(a) end, "arrays are made by zeros, empty, array and wrap")
  end)

  it("in what has no elements or too many dimensions are rejected", function()
    local loop, freed = {}, mpi.zeros(2)
    loop[1] = loop
    freed:free()
    rejects(function() mpi.array(loop) end, "expected lists nested at most 8 deep")
    rejects(function() mpi.array(freed) end, "it has been freed")
    rejects(function() mpi.IN_PLACE:fill(1) end, "IN_PLACE is no array")
    rejects(function() mpi.zeros { 2, nil, 3 } end, "argument 'shape': ")
    rejects(function() mpi.zeros { 2, x = 3 } end,
      "'shape': expected a number or a list of numbers, from index 1 and without holes")
    rejects(function() mpi.zeros { [0] = 2, 3 } end, "'shape': expected a number or a list of numbers, from index 1")
    rejects(function() mpi.zeros(0):reshape { 0, 2 ^ 53, 2 ^ 53 } end, "its size overflows")
    rejects(function() mpi.array("ab", "bool") end, "expected char, int8 or uint8 for a string")
    local struct = ffi.new("struct spec_tail", 5)
    rejects(function() mpi.wrap(struct.tail) end, "expected a raw FFI array or a pointer")
    rejects(function() mpi.bcast(struct.tail) end, "expected an array (nmpi or FFI)")
    rejects(function() mpi.wrap(ffi.typeof "double *", 2) end, "a raw FFI array or a pointer, got ctype<double *>")
    rejects(function() mpi.wrap(ffi.typeof "double[?]") end, "a raw FFI array or a pointer, got ctype<double [?]>")
    rejects(function() mpi.bcast(ffi.typeof "double[?]") end, "expected an array (nmpi or FFI), got ctype<double [?]>")
    rejects(function() mpi.barrier(ffi.cast("nmpi_array *", nil)) end, "expected a communicator, got a NULL pointer")
  end)

  it("of writing to const memory are rejected", function()
    local const = mpi.wrap(ffi.cast("const double *", mpi.zeros(3).data), 3)
    rejects(function() const[0] = 1 end, "the array is read-only")
    rejects(function() const:set(0, 1) end, "the array is read-only")
    rejects(function() const:fill(1) end, "expected a writable array")
  end)

  it("in fields are rejected", function()
    for _, field in ipairs { "ndim", "length", "type", "itemsize", "flags", "owner", "extent", "stride", "p" } do
      rejects(function() a[field] = 1 end, "attempt to write to constant location")
    end
    rejects(function() a.ndim = 3 end, "attempt to write to constant location")
    rejects(function() a.extent[0] = 3 end, "attempt to write to constant location")
    rejects(function() a.p.f64 = nil end, "attempt to write to constant location")
    for _, field in ipairs { "data", "dtype", "size", "shape", "strides", "get", "anything" } do
      rejects(function() a[field] = 1 end, "nmpi.array: the field '" .. field .. "' of an array cannot be set")
    end
    rejects(function() a.shape[0] = 3 end, "nmpi.array: the shape and strides of an array cannot be set; see reshape")
    rejects(function() a.strides[5] = 3 end, "nmpi.array: the shape and strides of an array cannot be set; see reshape")
    rejects(function() local _ = a.shape[2] end, "nmpi.array: there is no dimension 2")
    rejects(function() local _ = a.shape[-1] end, "nmpi.array: there is no dimension -1")
    rejects(function() local _ = a.strides.x end, "nmpi.array: there is no dimension the string \"x\"")
    rejects(function() local _ = a.anything end, "nmpi.array: an array has no field 'anything'")
    rejects(function() a:anything() end, "nmpi.array: an array has no field 'anything'")
    rejects(function() local _ = a[nil] end, "nmpi.array: an array has no field 'nil'")
    rejects(function() local _ = a[{}] end, "nmpi.array: an array has no field 'table: ")
    assert.same({ 2, 3 }, list_of(a.shape))
  end)

  it("with freed arrays are rejected", function()
    local f = mpi.zeros { 2, 3 }
    f:free()
    rejects(function() local _ = f[0] end, "the array has no storage: it has been freed")
    rejects(function() f[0] = 1 end, "the array has no storage: it has been freed")
    rejects(function() local _ = f.data end, "the array has no storage: it has been freed")
    rejects(function() f:get(0, 0) end, "nmpi.array:get: the array has no storage: it has been freed")
    rejects(function() f:set(0, 0, 1) end, "the array has no storage: it has been freed")
    rejects(function() f:slice() end, "nmpi.array:slice: the array has no storage: it has been freed")
    rejects(function() f:transpose() end, "nmpi.array:transpose: the array has no storage: it has been freed")
    rejects(function() f:reshape(6) end, "nmpi.array:reshape: the array has no storage: it has been freed")
    rejects(function() f:flatten() end, "the array has no storage: it has been freed")
    rejects(function() f:row(0) end, "nmpi.array:row: the array has no storage")
    rejects(function() f:col(0) end, "nmpi.array:col: the array has no storage")
    rejects(function() f:copy() end, "the array has no storage: it has been freed")
    rejects(function() f:fill(1) end, "the array has no storage: it has been freed")
    rejects(function() f:assign(a) end, "nmpi.array:assign: the array has no storage: it has been freed")
    rejects(function() f:totable() end, "nmpi.array:totable: the array has no storage: it has been freed")
    rejects(function() f:is_contiguous() end, "nmpi.array:is_contiguous: the array has no storage: it has been freed")
    rejects(function() a:assign(f) end, "nmpi.array:assign: argument 'b': expected an array, got an array that has")
  end)

  it("leave the arrays as they were", function()
    for _, array in ipairs { a, line, cube, four, eight, point } do
      for _, x in ipairs(elements(array)) do assert.equal(0, x) end
    end
  end)
end)

describe("arrays: between ranks", function()
  it("differ as the ranks do", function()
    local a = data_array({ 3, 5 }, "int32", "F")
    local sum = mpi.zeros({ 3, 5 }, "int32")
    local status = mpi.allreduce(mpi.zeros({ 3, 5 }, "int32"):fill(RANK), sum)
    assert.equal(mpi.SUCCESS, status)
    assert.same(mpi.zeros({ 3, 5 }, "int32"):fill(SIZE * (SIZE - 1) / 2):totable(), sum:totable())
    assert.equal(RANK - 2147483648, a:get(0, 0))
  end)
end)

describe("arrays: in a hot loop", function()
  local hot = require "spec.support.hot"
  local a, b = mpi.zeros { 3, 5 }, mpi.zeros { 3, 5 }
  hot.define(it, pending, {
    { "the shape and strides", function(n)
      local sum = 0
      for _ = 1, n do sum = sum + a.shape[0] * a.strides[0] + a.shape[1] * a.strides[1] end
      hot.ensure(sum == 20 * n)
    end },
    { "array:assign", function(n)
      for i = 1, n do
        a:set(2, 4, i)
        b:assign(a)
        hot.ensure(b:get(2, 4) == i)
      end
    end },
  })
end)
