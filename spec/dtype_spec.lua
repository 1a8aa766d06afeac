-- SPDX-License-Identifier: MIT
local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core

local RANK, SIZE = mpi.rank(), mpi.size()
local HERE = debug.getinfo(1, "S").short_src

if not pcall(ffi.typeof, "struct dtype_spec_particle") then
  ffi.cdef [[
    struct dtype_spec_particle { double x, y; int32_t id; };
    typedef struct { float r; uint8_t tag; } dtype_spec_anonymous;
    typedef struct dtype_spec_named { int16_t a; } dtype_spec_alias;
    struct dtype_spec_nest {
      struct dtype_spec_particle inner[2];
      struct { int8_t flag; char name[6]; } label;
      double _Complex z;
    };
    union dtype_spec_union { double d; int32_t i[3]; };
    struct __attribute__((packed)) dtype_spec_packed { char c; double d; };
    struct dtype_spec_bits { unsigned a : 3; unsigned b : 29; };
    struct dtype_spec_same_size { double x, y; int32_t id; };
    struct dtype_spec_empty {};
    struct dtype_spec_open { int n; double x[?]; };
    struct dtype_spec_opaque;
    typedef struct { int n; } dtype_spec_const_first;
    struct dtype_spec_named_const_first { int n; };
    enum dtype_spec_unsigned { DTYPE_SPEC_A, DTYPE_SPEC_B };
    enum dtype_spec_signed { DTYPE_SPEC_C = -1, DTYPE_SPEC_D };
  ]]
end

-- Code, name, C type, bytes, and for pairs the offset of the index.
local TABLE = {
  { "NMPI_INT8", "int8", "int8_t", 1 },
  { "NMPI_INT16", "int16", "int16_t", 2 },
  { "NMPI_INT32", "int32", "int32_t", 4 },
  { "NMPI_INT64", "int64", "int64_t", 8 },
  { "NMPI_UINT8", "uint8", "uint8_t", 1 },
  { "NMPI_UINT16", "uint16", "uint16_t", 2 },
  { "NMPI_UINT32", "uint32", "uint32_t", 4 },
  { "NMPI_UINT64", "uint64", "uint64_t", 8 },
  { "NMPI_FLOAT", "float", "float", 4 },
  { "NMPI_DOUBLE", "double", "double", 8 },
  { "NMPI_COMPLEX_FLOAT", "complex float", "float _Complex", 8 },
  { "NMPI_COMPLEX_DOUBLE", "complex double", "double _Complex", 16 },
  { "NMPI_BOOL", "bool", "_Bool", 1 },
  { "NMPI_CHAR", "char", "char", 1 },
  { "NMPI_FLOAT_INT", "float_int", "nmpi_float_int", 8, 4 },
  { "NMPI_DOUBLE_INT", "double_int", "nmpi_double_int", 16, 8 },
  { "NMPI_LONG_INT", "long_int", "nmpi_long_int", 2 * ffi.sizeof "long", ffi.sizeof "long" },
  { "NMPI_SHORT_INT", "short_int", "nmpi_short_int", 8, 4 },
  { "NMPI_2INT", "2int", "nmpi_2int", 8, 4 },
}

local LONG = ffi.sizeof "long" == 8 and "64" or "32"

-- Other names, and what they stand for.
local ALIASES = {
  float32 = "float", float64 = "double", complex64 = "complex float", complex128 = "complex double",
  complex = "complex double", int = "int32", unsigned = "uint32", ["unsigned int"] = "uint32", signed = "int32",
  short = "int16", ["unsigned short"] = "uint16", ["short int"] = "int16", long = "int" .. LONG,
  ["unsigned long"] = "uint" .. LONG, ["long int"] = "int" .. LONG, ["long long"] = "int64",
  ["unsigned long long"] = "uint64", ["signed char"] = "int8", ["unsigned char"] = "uint8", size_t = "uint64",
  ssize_t = "int64", ptrdiff_t = "int64", intptr_t = "int64", uintptr_t = "uint64", int8_t = "int8",
  int16_t = "int16", int32_t = "int32", int64_t = "int64", uint8_t = "uint8", uint16_t = "uint16",
  uint32_t = "uint32", uint64_t = "uint64", _Bool = "bool", ["float complex"] = "complex float",
  ["double complex"] = "complex double", ["float _Complex"] = "complex float", ["double _Complex"] = "complex double",
  ["const double"] = "double", ["int const"] = "int32", nmpi_2int = "2int", ["struct nmpi_2int"] = "2int",
  nmpi_float_int = "float_int", nmpi_double_int = "double_int", nmpi_long_int = "long_int",
  nmpi_short_int = "short_int", ["struct nmpi_long_int"] = "long_int",
  ["enum dtype_spec_unsigned"] = "uint32", ["enum dtype_spec_signed"] = "int32",
}

local function rejects(value, described)
  local function try() mpi.zeros(3, value) end
  local ok, message = pcall(try)
  assert.is_false(ok)
  assert.equal(("%s:%d: nmpi.zeros: argument 'dtype': expected int8 ... int64, uint8 ... uint64, float, double, "
    .. "complex float, complex double, bool, char, a pair (double_int ...) or a C struct of fixed size, got %s")
    :format(HERE, debug.getinfo(try, "S").linedefined, described), message)
end

describe("dtypes: the table", function()
  it("names every code, its C type, its pointer and its size", function()
    assert.equal(core.NMPI_DTYPE_COUNT - 2, #TABLE)
    local seen = {}
    for _, row in ipairs(TABLE) do
      local code, name, ctype, size = core[row[1]], row[2], row[3], row[4]
      assert.is_nil(seen[code])
      seen[code] = true
      assert.equal(name, ffi.string(core.nmpi_dtype_name(code)))
      assert.equal(ffi.typeof(ctype), ffi.typeof(ffi.string(core.nmpi_dtype_ctype(code))))
      assert.equal(size, core.nmpi_dtype_size(code))
      assert.equal(size, ffi.sizeof(ctype))
      local field = ffi.string(core.nmpi_dtype_field(code))
      assert.equal(ffi.typeof(ctype .. " *"), ffi.typeof(ffi.new("nmpi_array").p[field]))
      if row[5] then assert.equal(row[5], ffi.offsetof(ctype, "index")) end
    end
  end)

  it("knows nothing of other codes", function()
    for _, code in ipairs { -1, core.NMPI_NONE, core.NMPI_DTYPE_COUNT, 1000 } do
      assert.is_true(core.nmpi_dtype_name(code) == nil)
      assert.is_true(core.nmpi_dtype_ctype(code) == nil)
      assert.is_true(core.nmpi_dtype_field(code) == nil)
      assert.equal(0, core.nmpi_dtype_size(code))
    end
    assert.equal("struct", ffi.string(core.nmpi_dtype_name(core.NMPI_STRUCT)))
    assert.is_true(core.nmpi_dtype_ctype(core.NMPI_STRUCT) == nil)
    assert.equal(0, core.nmpi_dtype_size(core.NMPI_STRUCT))
  end)

  it("gives arrays their name, size and pointer", function()
    for _, row in ipairs(TABLE) do
      local name, ctype, size = row[2], row[3], row[4]
      for _, a in ipairs {
        mpi.zeros(5, name), mpi.empty({ 2, 3 }, name, "F"), mpi.zeros({}, name), mpi.array({}, name),
        mpi.wrap(ffi.new(ctype .. "[4]"), nil, name),
      } do
        assert.equal(name, a.dtype)
        assert.equal(size, a.itemsize)
        assert.equal(ffi.typeof(ctype .. " *"), ffi.typeof(a.data))
      end
    end
  end)
end)

describe("dtypes: names", function()
  it("have aliases, and C's names", function()
    for alias, name in pairs(ALIASES) do
      assert.equal(name, mpi.zeros(2, alias).dtype)
    end
  end)

  it("may be ctypes", function()
    for _, row in ipairs(TABLE) do
      local expected = row[2] == "char" and "int8" or row[2]
      assert.equal(expected, mpi.zeros(2, ffi.typeof(row[3])).dtype)
    end
    for alias, name in pairs(ALIASES) do
      local known, ctype = pcall(ffi.typeof, alias)
      if known then assert.equal(name, mpi.zeros(2, ctype).dtype) end
    end
    assert.equal("float", mpi.zeros(2, ffi.typeof("const float")).dtype)
  end)

  it("tell char from int8 only where a script says so, for to LuaJIT they are one", function()
    local c = ffi.new("char[3]", 65, 66, 67)
    assert.equal("int8", mpi.wrap(c).dtype)
    assert.equal("char", mpi.wrap(c, nil, "char").dtype)
    assert.equal("char", mpi.zeros(3, "char").dtype)
    assert.equal("ABC", mpi.wrap(c, nil, "char"):tostring())
    assert.equal("int8", mpi.wrap(ffi.new "int8_t[3]").dtype)
    assert.equal("uint8", mpi.wrap(ffi.new "unsigned char[3]").dtype)
  end)

  it("of what raw FFI arrays hold are found out", function()
    for _, row in ipairs(TABLE) do
      local expected = row[2] == "char" and "int8" or row[2]
      for _, declaration in ipairs { "%s[3]", "%s[2][3]", "const %s[3]" } do
        assert.equal(expected, mpi.wrap(ffi.new(declaration:format(row[3]))).dtype)
      end
      assert.equal(expected, mpi.wrap(ffi.new(row[3] .. "[?]", 3)).dtype)
      assert.equal(expected, mpi.wrap(ffi.cast(row[3] .. " *", ffi.new(row[3] .. "[3]")), 3).dtype)
    end
    assert.equal("int32", mpi.wrap(ffi.new "enum dtype_spec_signed[2]").dtype)
  end)

  it("that are wrong are rejected at the caller's line", function()
    for _, name in ipairs {
      "flaot", "", "Double", "float16", "int128", "string", "number", "boolean", "none", "void", "long double",
      "volatile int", "int *", "double[3]", "double[?]", "int(", "$", "struct", "struct dtype_spec_unknown",
      "struct dtype_spec_opaque", "nmpi_comm", "struct dtype_spec_empty", "struct dtype_spec_open", "enum",
      "int __attribute__((vector_size(16)))",
    } do
      rejects(name, ("the string %q"):format(name))
    end
  end)

  it("that are no names are rejected", function()
    rejects(3, "3")
    rejects(true, "true")
    rejects({}, "a table")
    rejects(print, "a function")
    rejects(ffi.new "int", "cdata of type int")
    rejects(ffi.new "struct dtype_spec_particle", "cdata of type struct dtype_spec_particle")
    rejects(mpi.zeros(2), "an array of double, shape (2,)")
    for _, ctype in ipairs { "int *", "double[3]", "void", "int ()", "struct dtype_spec_empty", "long double" } do
      rejects(ffi.typeof(ctype), tostring(ffi.typeof(ctype)))
    end
  end)
end)

describe("dtypes: structs", function()
  it("go by any name of theirs", function()
    for _, names in ipairs {
      { "struct dtype_spec_particle", ffi.typeof "struct dtype_spec_particle" },
      { "dtype_spec_anonymous", ffi.typeof "dtype_spec_anonymous" },
      { "struct dtype_spec_named", "dtype_spec_alias", ffi.typeof "dtype_spec_alias", "struct dtype_spec_named " },
      { "struct dtype_spec_nest", "const struct dtype_spec_nest" },
      { "union dtype_spec_union", ffi.typeof "union dtype_spec_union" },
    } do
      local first = mpi.zeros(3, names[1])
      for _, name in ipairs(names) do
        local a = mpi.empty(3, name)
        assert.equal(first.dtype, a.dtype)
        assert.equal(ffi.sizeof(names[1]), a.itemsize)
        assert.equal(tostring(ffi.typeof(first.data)), tostring(ffi.typeof(a.data)))
        a:assign(first)
      end
      assert.equal(first.dtype, mpi.zeros(1, first.dtype).dtype)
      assert.equal(first.dtype, mpi.wrap(ffi.new(ffi.typeof("$[2]", ffi.typeof(names[1])))).dtype)
    end
    assert.equal("struct dtype_spec_particle", mpi.zeros(1, "struct dtype_spec_particle").dtype)
    assert.equal("struct dtype_spec_named", mpi.zeros(1, "dtype_spec_alias").dtype)
    assert.equal("union dtype_spec_union", mpi.zeros(1, "union dtype_spec_union").dtype)
  end)

  it("have the size that C gives them", function()
    for name, size in pairs {
      ["struct dtype_spec_particle"] = 24, dtype_spec_anonymous = 8, dtype_spec_alias = 2,
      ["struct dtype_spec_nest"] = 72, ["union dtype_spec_union"] = 16, ["struct dtype_spec_packed"] = 9,
      ["struct dtype_spec_bits"] = 4,
    } do
      local a = mpi.zeros({ 2, 3 }, name)
      assert.equal(size, a.itemsize)
      assert.equal(size * 4, ffi.cast("char *", a.data + 4) - ffi.cast("char *", a.data))
      assert.equal(("\0"):rep(6 * size), ffi.string(a.data, 6 * size))
    end
  end)

  it("hold their fields in arrays of any layout", function()
    for _, order in ipairs { "C", "F" } do
      local a = mpi.zeros({ 4, 5 }, "struct dtype_spec_particle", order)
      for i = 0, 3 do
        for j = 0, 4 do
          if j % 2 == 0 then
            a:set(i, j, { i + RANK, -j, 10 * i + j })
          else
            local p = a:get(i, j)
            p.x, p.y, p.id = i + RANK, -j, 10 * i + j
          end
        end
      end
      local b = a:slice({ nil, nil, -1 }, { 1, nil, 2 }):copy()
      for i = 0, 3 do
        for j = 0, 1 do
          local p = b:get(i, j)
          assert.same({ 3 - i + RANK, -(2 * j + 1), 10 * (3 - i) + 2 * j + 1 }, { p.x, p.y, p.id })
        end
      end
      b:fill { x = 1.5, id = RANK }
      assert.same({ 1.5, 0, RANK }, { b:get(3, 1).x, b:get(3, 1).y, b:get(3, 1).id })
      b:fill(a:get(1, 1))
      assert.same({ 1 + RANK, -1, 11 }, { b:get(0, 0).x, b:get(0, 0).y, b:get(0, 0).id })
    end
  end)

  it("may nest, and hold arrays and padding", function()
    local a = mpi.zeros(3, "struct dtype_spec_nest")
    a[1].inner[1].id = 7 + RANK
    a[1].label.flag = -3
    a[1].label.name = "abc"
    a[1].z = ffi.new("complex", 1, RANK)
    local b = a:copy():slice { nil, nil, -1 }:copy()
    assert.same({ 7 + RANK, -3, "abc", RANK, 0 },
      { b[1].inner[1].id, b[1].label.flag, ffi.string(b[1].label.name), b[1].z.im, b[0].inner[1].id })
    a[2] = { inner = { { 1, 2, 3 }, { 4, 5, 6 } }, label = { flag = 1, name = "xyz" } }
    assert.same({ 3, 5, "xyz" }, { a[2].inner[0].id, a[2].inner[1].y, ffi.string(a[2].label.name) })
    local u = mpi.zeros(2, "union dtype_spec_union")
    u[1].i[2] = RANK
    assert.equal(RANK, u:copy()[1].i[2])
    local bits = mpi.zeros(2, "struct dtype_spec_bits")
    bits[1] = { 5, 1000 + RANK }
    assert.same({ 5, 1000 + RANK }, { bits:copy()[1].a, bits:copy()[1].b })
    local packed = mpi.array({ { 65, 0.1 }, { 66, 0.2 + RANK } }, "struct dtype_spec_packed")
    assert.same({ 66, 0.2 + RANK }, { packed[1].c, packed[1].d })
  end)

  it("need no name at all", function()
    local ctype = ffi.typeof "struct { int32_t a; double b[2]; }"
    local a = mpi.zeros(3, ctype)
    a[2].b[1] = 2.5 + RANK
    assert.equal(24, a.itemsize)
    local b = mpi.wrap(ffi.new(ffi.typeof("$[3]", ctype)))
    assert.equal(a.dtype, b.dtype)
    b:assign(a)
    assert.equal(2.5 + RANK, b[2].b[1])
    assert.equal(2.5 + RANK, mpi.wrap(ffi.cast(ffi.typeof("$ *", ctype), b.data), 3)[2].b[1])
    assert.not_equal(a.dtype, mpi.zeros(1, ffi.typeof "struct { int32_t a; double b[2]; }").dtype)
  end)

  it("are not const, however they were met first", function()
    assert.equal("struct dtype_spec_named_const_first",
      mpi.wrap(ffi.new "const struct dtype_spec_named_const_first[2]").dtype)
    pcall(mpi.wrap, ffi.new "const dtype_spec_const_first[2]")
    for _, name in ipairs { "struct dtype_spec_named_const_first", "dtype_spec_const_first" } do
      local a = mpi.zeros(2, name)
      a[1] = { 3 + RANK }
      assert.equal(3 + RANK, a[1].n)
      local b = mpi.array({ a[1], a[0] })
      assert.equal(a.dtype, b.dtype)
      assert.equal(3 + RANK, b[0].n)
    end
  end)

  it("convert to nothing else", function()
    local particles = mpi.zeros(2, "struct dtype_spec_particle")
    for _, other in ipairs { "struct dtype_spec_same_size", "double", "2int", "dtype_spec_anonymous" } do
      local a = mpi.zeros(2, other)
      local ok, message = pcall(a.assign, a, particles)
      assert.is_false(ok)
      assert.truthy(message:find("cannot be converted", 1, true))
      assert.is_false((pcall(particles.assign, particles, a)))
    end
  end)
end)

describe("dtypes: pairs", function()
  it("have a value and an index", function()
    for k = 15, 19 do
      local name, ctype = TABLE[k][2], TABLE[k][3]
      local a = mpi.array({ { 3, 4 }, { value = 5 + RANK, index = 6 } }, name)
      assert.same({ 3, 4, 5 + RANK, 6 },
        { tonumber(a[0].value), a[0].index, tonumber(a[1].value), a[1].index })
      a[0] = ffi.new(ctype, -1, -2)
      a:get(1).index = RANK
      assert.same({ -1, -2, RANK }, { tonumber(a[0].value), a[0].index, a[1].index })
    end
    assert.equal(-9007199254740993LL, mpi.array({ { -9007199254740993LL, 1 } }, "long_int")[0].value)
    assert.equal(tonumber(ffi.new("float", 0.1)), mpi.array({ { 0.1, 1 } }, "float_int")[0].value)
    assert.equal(0.1, mpi.array({ { 0.1, 1 } }, "double_int")[0].value)
  end)
end)

describe("dtypes: between ranks", function()
  it("keep their bytes", function()
    local root = SIZE - 1
    local names = { "struct dtype_spec_nest", "struct dtype_spec_packed", "dtype_spec_anonymous" }
    for _, row in ipairs(TABLE) do names[#names + 1] = row[2] end
    local got, expected = {}, {}
    for k, name in ipairs(names) do
      local a = mpi.zeros(5, name)
      local bytes = ffi.cast("uint8_t *", a.data)
      -- Bits that are valid in every dtype, small floating-point numbers among them; padding stays zero.
      local function set(from)
        for i = 0, 4 do
          local p = bytes + i * a.itemsize
          p[0] = name == "bool" and (i + from) % 2 or 16 * i + from
        end
      end
      set(root)
      expected[k] = ffi.string(bytes, 5 * a.itemsize)
      set(RANK)
      assert.equal(mpi.SUCCESS, mpi.bcast(a, root))
      got[k] = ffi.string(a.data, 5 * a.itemsize)
    end
    for k, name in ipairs(names) do assert(got[k] == expected[k], name) end
  end)
end)
