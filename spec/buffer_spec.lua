-- SPDX-License-Identifier: MIT
-- What is accepted as an array: arrays of other libraries, raw FFI arrays of every dtype, strings and structs.

local ffi = require "ffi"
local mpi = require "nmpi"
local buffer = require "nmpi.buffer"
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
local SELF, SUCCESS, NULL = mpi.COMM_SELF, mpi.SUCCESS, mpi.PROC_NULL
local HERE = debug.getinfo(1, "S").short_src

-- f is to raise an error of its own line that has `part` in it.
local function raises(part, f)
  local ok, message = pcall(f)
  assert.is_false(ok)
  local place = ("%s:%d: "):format(HERE, debug.getinfo(f, "S").linedefined)
  assert.equal(place, message:sub(1, #place))
  assert(message:find(part, 1, true), ("expected '%s' in '%s'"):format(part, message))
end

-- The keys of a table, in the same order on every rank.
local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- ---- the registry ----

-- A grid of Lua, which is part of a larger one: rows of `width`, `pitch` elements from each other.
local function grid(height, width, pitch, ctype)
  return { kind = "grid", cells = ffi.new(ctype or "double[?]", height * pitch), height = height, width = width,
    pitch = pitch }
end

mpi.register_buffer(function(value) return type(value) == "table" and value.kind == "grid" end,
  function(g) return g.cells, { g.height, g.width }, nil, { g.pitch, 1 } end)

local function cells(g)
  local list = {}
  for i = 1, g.height * g.pitch do list[i] = tonumber(g.cells[i - 1]) end
  return list
end

local function filled(seed)
  local g = grid(2, 2, 3)
  for i = 0, 5 do g.cells[i] = seed + i end
  return g
end

describe("a registered kind of table", function()
  it("becomes a view, without a copy", function()
    local g = filled(0)
    local view = mpi.wrap(g)
    assert.equal("(2, 2)", tostring(view.shape))
    assert.equal("(3, 1)", tostring(view.strides))
    assert.same({ { 0, 1 }, { 3, 4 } }, view:totable())
    view:set(1, 1, 99)
    assert.equal(99, g.cells[4])
    assert.same({ 1, 99 }, view:col(1):totable())
  end)

  it("can be copied and assigned", function()
    local g = filled(5)
    local copy = mpi.array(g)
    local ints = mpi.array(g, "int32", "F")
    g.cells[0] = -1
    assert.same({ { 5, 6 }, { 8, 9 } }, copy:totable())
    assert.equal("int32", ints.dtype)
    assert.same({ { 5, 6 }, { 8, 9 } }, ints:totable())
    assert.same({ { -1, 6 }, { 8, 9 } }, mpi.zeros { 2, 2 }:assign(g):totable())
    raises("argument 'b': expected an array of shape (4,), got", function() mpi.zeros(4):assign(g) end)
  end)

  it("can be sent and received into", function()
    local sent, got, flat = filled(100 * rank), grid(2, 2, 3), mpi.zeros(4)
    local status = mpi.sendrecv(sent, right, got, left)
    local flat_status = mpi.sendrecv(sent, right, flat, left)
    local base = 100 * left
    assert.same({ SUCCESS, SUCCESS }, { status, flat_status })
    assert.same({ base, base + 1, 0, base + 3, base + 4, 0 }, cells(got))
    assert.same({ base, base + 1, base + 3, base + 4 }, flat:totable())
  end)

  it("can be sent to a neighbour with send and recv", function()
    if size == 1 then return end
    local got = grid(2, 2, 3)
    if rank % 2 == 0 then mpi.send(filled(10 * rank), right, 4) end
    local status = mpi.recv(got, left, 4)
    if rank % 2 == 1 then mpi.send(filled(10 * rank), right, 4) end
    mpi.barrier()
    assert.equal(SUCCESS, status)
    assert.same({ 10 * left, 10 * left + 1, 0, 10 * left + 3, 10 * left + 4, 0 }, cells(got))
  end)

  it("can be broadcast and reduced", function()
    local g, sum, place, all = filled(rank), grid(2, 2, 3), filled(rank), grid(2, 2, 3)
    mpi.bcast(g, size - 1)
    mpi.allreduce(filled(rank), sum)
    mpi.allreduce(mpi.IN_PLACE, place)
    mpi.reduce(filled(rank), rank == 0 and all or nil)
    local first, last = size * (size - 1) / 2, size - 1
    local function total(i) return first + i * size end
    assert.same({ last, last + 1, rank + 2, last + 3, last + 4, rank + 5 }, cells(g))
    assert.same({ total(0), total(1), 0, total(3), total(4), 0 }, cells(sum))
    assert.same({ total(0), total(1), rank + 2, total(3), total(4), rank + 5 }, cells(place))
    if rank == 0 then assert.same({ total(0), total(1), 0, total(3), total(4), 0 }, cells(all)) end
  end)

  it("can take the result of a number's reduction", function()
    local one = grid(1, 1, 1)
    local status, more = mpi.allreduce(rank + 1, one, mpi.MAX)
    assert.equal(SUCCESS, status)
    assert.is_nil(more)
    assert.equal(size, one.cells[0])
  end)

  it("has its shape from the resolver alone", function()
    local g = filled(0)
    raises("nmpi.wrap: argument 'shape': expected nil", function() mpi.wrap(g, 4) end)
    raises("nmpi.wrap: argument 'dtype': expected nil", function() mpi.wrap(g, nil, "int") end)
    raises("nmpi.wrap: argument 'strides': expected nil", function() mpi.wrap(g, nil, nil, { 1, 1 }) end)
  end)

  it("may be const", function()
    local g = grid(2, 2, 2, "const double[?]")
    local got = mpi.zeros(4)
    assert.equal(SUCCESS, mpi.sendrecv(g, 0, got, 0, 0, 0, SELF))
    raises("nmpi.recv: argument 'data': expected a writable array", function() mpi.recv(g, NULL) end)
  end)

  it("lives as long as an array on it", function()
    local watch = setmetatable({}, { __mode = "k" })
    local function make()
      local g = filled(7)
      watch[g] = true
      local view = mpi.wrap(g)
      -- The table may let go of its memory, but the view does not.
      g.cells = nil
      return view:slice(1)
    end
    local part = make()
    collectgarbage()
    collectgarbage()
    assert.is_truthy(next(watch))
    for _ = 1, 100 do ffi.new("double[?]", 6, -1) end
    assert.same({ 10, 11 }, part:totable())
    part = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    assert.is_nil(next(watch))
  end)
end)

describe("register_buffer", function()
  it("takes functions", function()
    local function f() end
    raises("nmpi.register_buffer: argument 'predicate': expected a function, got nil",
      function() mpi.register_buffer() end)
    raises("nmpi.register_buffer: argument 'predicate': expected a function, got a table",
      function() mpi.register_buffer({}, f) end)
    raises("nmpi.register_buffer: argument 'resolver': expected a function, got nil",
      function() mpi.register_buffer(f) end)
    raises("nmpi.register_buffer: argument 'resolver': expected a function, got ctype<int>",
      function() mpi.register_buffer(f, ffi.typeof "int") end)
  end)

  it("asks the predicate once for a ctype, and again after a registration", function()
    local ctype = ffi.typeof "struct { int n; double x[4]; }"
    local value, asked = ctype(3), 0
    raises("expected an array (nmpi or FFI); other kinds need mpi.register_buffer, got cdata of type struct",
      function() mpi.send(value, NULL) end)
    mpi.register_buffer(function(v)
      local mine = ffi.istype(ctype, v)
      if mine then asked = asked + 1 end
      return mine
    end, function(v) return v.x, v.n end)
    for i = 0, 2 do value.x[i] = rank + i end
    local got, other = mpi.zeros(4), ctype(2)
    local status = mpi.sendrecv(value, right, got, left)
    for _ = 1, 100 do mpi.sendrecv(value, 0, other, 0, 0, 0, SELF) end
    assert.equal(SUCCESS, status)
    assert.same({ left, left + 1, left + 2, 0 }, got:totable())
    assert.equal(1, asked)
  end)

  it("takes the newest of several kinds", function()
    local object = { kind = "several" }
    local function mine(v) return v == object end
    mpi.register_buffer(mine, function() return ffi.new "int8_t[2]" end)
    assert.equal("int8", mpi.wrap(object).dtype)
    mpi.register_buffer(mine, function() return ffi.new "float[3]" end)
    assert.equal("float", mpi.wrap(object).dtype)
    mpi.register_buffer(function(v) return mine(v) and object.third end, function() return ffi.new "int[3]" end)
    assert.equal("float", mpi.wrap(object).dtype)
    object.third = true
    assert.equal("int32", mpi.wrap(object).dtype)
  end)

  it("takes userdata", function()
    local object = newproxy()
    mpi.register_buffer(function(v) return v == object end, function() return ffi.new("int[3]", rank, 5, 6) end)
    local got = mpi.zeros(3, "int32")
    mpi.sendrecv(object, right, got, left)
    assert.same({ left, 5, 6 }, got:totable())
  end)

  it("reports what a resolver should not return", function()
    local memory = ffi.new "double[6]"
    local returned
    mpi.register_buffer(function(v) return type(v) == "table" and v.kind == "nonsense" end,
      function() return unpack(returned, 1, 4) end)
    local object = { kind = "nonsense" }
    local function rejects(part, ...)
      returned = { ... }
      raises("nmpi.send: resolver of register_buffer: " .. part, function() mpi.send(object, NULL) end)
      raises("nmpi.recv: resolver of register_buffer: " .. part, function() mpi.recv(object, NULL) end)
      raises("nmpi.wrap: resolver of register_buffer: " .. part, function() mpi.wrap(object) end)
      raises("nmpi.array: resolver of register_buffer: " .. part, function() mpi.array(object) end)
      raises("nmpi.array:assign: resolver of register_buffer: " .. part, function() mpi.zeros(1):assign(object) end)
    end
    rejects("argument 'cdata': expected a raw FFI array or a pointer, got nil")
    rejects("argument 'cdata': expected a raw FFI array or a pointer, got 5", 5)
    rejects("argument 'cdata': expected a raw FFI array or a pointer, got a table", object)
    rejects("argument 'cdata': expected a raw FFI array or a pointer, got an array of double", mpi.zeros(1), 1)
    rejects("argument 'cdata': expected a raw FFI array or a pointer, got ctype<int [3]>", ffi.typeof "int[3]")
    rejects("argument 'cdata': expected memory, got a NULL pointer", ffi.cast("double *", nil), 3)
    rejects("argument 'shape': expected a count or a shape", memory + 0)
    rejects("argument 'shape': expected a number or a list", memory, "six")
    rejects("argument 'shape': expected whole extents", memory, { 2, "x" })
    rejects("argument 'shape': expected whole extents", memory, -1)
    rejects("argument 'shape': the array would reach beyond the 48 bytes", memory, 7)
    rejects("argument 'shape': expected at most 8 dimensions, got 9", memory, { 1, 1, 1, 1, 1, 1, 1, 1, 1 })
    rejects("argument 'dtype': expected int8 ... int64", memory, 6, "quadruple")
    rejects("argument 'dtype': expected a dtype, since the pointer", ffi.cast("void *", memory), 6)
    rejects("argument 'strides': expected 2, got 1", memory, { 2, 3 }, nil, { 1 })
    rejects("argument 'strides': expected a whole number", memory, 3, nil, { 0.5 })
  end)

  it("takes NULL for no elements", function()
    local empty = { kind = "empty" }
    mpi.register_buffer(function(v) return v == empty end,
      function() return ffi.cast("double *", nil), { 0, 3 }, nil, { 3, 1 } end)
    assert.equal(0, mpi.wrap(empty).size)
    assert.equal(SUCCESS, mpi.sendrecv(empty, 0, empty, 0, 0, 0, SELF))
  end)

  it("is named where an object is of no known kind", function()
    local message = "argument 'data': expected an array (nmpi or FFI); other kinds need mpi.register_buffer, got "
    for _, object in ipairs { {}, newproxy(), io.stdout, ffi.new "struct nmpi_spec_particle" } do
      raises(message, function() mpi.send(object, NULL) end)
      raises(message, function() mpi.recv(object, NULL) end)
      raises(message, function() mpi.bcast(object) end)
    end
  end)

  it("leaves errors of predicates and resolvers alone", function()
    local object = { kind = "failing" }
    mpi.register_buffer(function(v) return v == object end, function() error("mine", 0) end)
    local ok, message = pcall(mpi.send, object, NULL)
    assert.same({ false, "mine" }, { ok, message })
  end)
end)

describe("nonblocking operations", function()
  it("keep what they use of foreign arrays, raw arrays and strings", function()
    local requests = mpi.requests(6)
    local g, other, raw, text = grid(2, 2, 3), grid(1, 4, 4), ffi.new "double[4]", mpi.zeros(8, "char")
    local status
    status, requests[0] = mpi.irecv(g, left, 1)
    assert.equal(SUCCESS, status)
    -- The scratch arrays that describe foreign and raw arrays are used again before the messages come.
    requests[1] = select(2, mpi.irecv(raw, left, 2))
    requests[2] = select(2, mpi.irecv(other, left, 3))
    for _ = 1, 3 do mpi.sendrecv(filled(0), 0, grid(2, 2, 3), 0, 0, 0, SELF) end
    local function send()
      requests[3] = select(2, mpi.isend(filled(100 * rank), right, 1))
      requests[4] = select(2, mpi.isend(ffi.new("double[4]", rank, 5, 6, 7), right, 2))
      requests[5] = select(2, mpi.isend(filled(50 * rank), right, 3))
    end
    send()
    for _ = 1, 3 do
      collectgarbage()
      ffi.new("double[?]", 6, -1)
    end
    local wait_status = mpi.waitall(requests)
    local text_request = select(2, mpi.isend("number " .. rank, right, 4))
    collectgarbage()
    local text_status = mpi.recv(text, left, 4)
    mpi.wait(text_request)
    assert.same({ SUCCESS, SUCCESS }, { wait_status, text_status })
    local base = 100 * left
    assert.same({ base, base + 1, 0, base + 3, base + 4, 0 }, cells(g))
    assert.same({ left, 5, 6, 7 }, mpi.wrap(raw):totable())
    base = 50 * left
    assert.same({ base, base + 1, base + 3, base + 4 }, cells(other))
    assert.equal("number " .. left, text:tostring())
  end)

  -- What `make` returns is dropped while an operation is pending on it, and is collected only afterwards.
  local function outlives(make)
    local collected = setmetatable({}, { __mode = "v" })
    local requests = mpi.requests(2)
    local function post()
      for i = 0, 1 do
        local value, owner = make()
        collected[i] = owner or value
        requests[i] = select(2, mpi.irecv(value, 0, i, SELF))
      end
    end
    post()
    collectgarbage()
    collectgarbage()
    local during = { collected[0] ~= nil, collected[1] ~= nil }
    mpi.cancel(requests[0])
    mpi.send(mpi.zeros(1), 0, 1, SELF)
    mpi.waitall(requests)
    collectgarbage()
    collectgarbage()
    local after = { collected[0] ~= nil, collected[1] ~= nil }
    assert.same({ { true, true }, { false, false } }, { during, after })
  end

  it("keep the object on whose memory they work", function()
    local function raw() return ffi.new "double[4]" end
    outlives(raw)
    outlives(function() return mpi.wrap(raw()) end)
    outlives(function()
      local memory = raw()
      return mpi.wrap(memory):slice { 1, 3 }:reshape { 2, 1 }, memory
    end)
    outlives(function() return filled(0) end)
    outlives(function()
      local g = filled(0)
      return mpi.wrap(g):row(1), g
    end)
  end)

  it("keep the object whose resolver gives a pointer, and memory that it makes for the call", function()
    local pointed, fresh = {}, {}
    local made
    mpi.register_buffer(function(value) return type(value) == "table" and getmetatable(value) == pointed end,
      function(value) return ffi.cast("double *", value.memory), 4 end)
    mpi.register_buffer(function(value) return type(value) == "table" and getmetatable(value) == fresh end,
      function()
        made = ffi.new "double[4]"
        return made
      end)
    outlives(function() return setmetatable({ memory = ffi.new "double[4]" }, pointed) end)
    outlives(function() return setmetatable({}, fresh) end)
  end)
end)

-- ---- Torch7 ----

-- Userdata whose metatable has methods; sizes and strides are LongStorages; data() is a pointer to the first element.
local torch = {}
local inner = setmetatable({}, { __mode = "k" }) -- what a stand-in has for THTensor
local tensors = {}

local long_storage = newproxy(true)
getmetatable(long_storage).__index = { totable = function(storage) return { unpack(inner[storage]) } end }

local function longs(list)
  local storage = newproxy(long_storage)
  inner[storage] = list
  return storage
end

local tensor_methods = {
  data = function(x)
    local t = inner[x]
    return t.storage and t.storage + t.offset or nil
  end,
  dim = function(x) return #inner[x].size end,
  size = function(x, d) return d and inner[x].size[d] or longs(inner[x].size) end,
  stride = function(x, d) return d and inner[x].stride[d] or longs(inner[x].stride) end,
}
tensor_methods.nDimension = tensor_methods.dim

for kind, ctype in pairs {
  Byte = "unsigned char", Char = "char", Short = "short", Int = "int", Long = "long", Float = "float",
  Double = "double", Half = "THHalf", Cuda = "float",
} do
  local prototype = newproxy(true)
  getmetatable(prototype).__index = tensor_methods
  getmetatable(prototype).__typename = "torch." .. kind .. "Tensor"
  tensors[kind] = { prototype = prototype, ctype = ctype }
end

ffi.cdef "typedef struct { unsigned short x; } __THHalf; typedef __THHalf THHalf;"

local function tensor(kind, storage, offset, extents, stride)
  local x = newproxy(tensors[kind].prototype)
  inner[x] = { storage = storage, offset = offset, size = extents, stride = stride }
  return x
end

function torch.typename(value)
  local meta = type(value) == "userdata" and debug.getmetatable(value)
  return meta and meta.__typename or nil
end

describe("Torch7's", function()
  setup(function() package.loaded.torch = torch end)
  teardown(function() package.loaded.torch = nil end)

  local dtypes = {
    Byte = "uint8", Char = "int8", Short = "int16", Int = "int32", Long = "int64", Float = "float", Double = "double",
  }

  it("tensors of every type are arrays", function()
    local problems = {}
    for _, kind in ipairs(sorted(dtypes)) do
      local dtype = dtypes[kind]
      local memory = ffi.new(ffi.typeof("$[24]", ffi.typeof(tensors[kind].ctype)))
      local got_memory = ffi.new(ffi.typeof("$[24]", ffi.typeof(tensors[kind].ctype)))
      for i = 0, 23 do memory[i] = (rank + 1) * 24 + i end
      -- x = Tensor(4, 6); x:narrow(1, 2, 2):narrow(2, 3, 3), and the same of a transposed one.
      local x = tensor(kind, memory, 8, { 2, 3 }, { 6, 1 })
      local y = tensor(kind, got_memory, 8, { 3, 2 }, { 1, 6 })
      local view = mpi.wrap(x)
      local status = mpi.sendrecv(x, right, y, left)
      local base = (left + 1) * 24
      local expected = { base + 8, base + 10, base + 15, base + 9, base + 14, base + 16 }
      local got = mpi.wrap(got_memory, { 4, 6 }):totable()
      local list, others = {}, 0
      for i = 0, 3 do
        for j = 0, 5 do
          local value = tonumber(got[i + 1][j + 1])
          if i >= 1 and i < 3 and j >= 2 and j < 5 then list[#list + 1] = value else others = others + value end
        end
      end
      if status ~= SUCCESS or view.dtype ~= dtype or others ~= 0
        or table.concat(list, " ") ~= table.concat(expected, " ") then
        problems[#problems + 1] = ("%s: %d, %s, %s, %d"):format(kind, status, view.dtype, table.concat(list, " "),
          others)
      end
    end
    judge(problems)
  end)

  it("halves travel, but are not reduced", function()
    local memory = ffi.new("THHalf[3]", { { rank }, { 7 }, { 9 } })
    local x, y = tensor("Half", memory, 0, { 3 }, { 1 }), ffi.new "THHalf[3]"
    mpi.sendrecv(x, right, mpi.wrap(y, nil, "THHalf"), left)
    assert.same({ left, 7, 9 }, { y[0].x, y[1].x, y[2].x })
    raises("MPI_SUM is not defined", function() mpi.allreduce(mpi.IN_PLACE, x) end)
  end)

  it("columns and expanded tensors keep their strides", function()
    local memory = ffi.new("float[6]", { 1, 2, 3, 4, 5, 6 })
    local column, got = tensor("Float", memory, 1, { 3 }, { 2 }), mpi.zeros({ 2, 3 }, "float")
    assert.same({ 2, 4, 6 }, mpi.wrap(column):totable())
    local expanded = tensor("Float", memory, 1, { 2, 3 }, { 0, 2 })
    mpi.sendrecv(expanded, 0, got, 0, 0, 0, SELF)
    assert.same({ { 2, 4, 6 }, { 2, 4, 6 } }, got:totable())
    raises("expected a view whose elements do not overlap", function() mpi.recv(expanded, NULL) end)
    mpi.allreduce(mpi.IN_PLACE, column)
    assert.same({ 1, 2 * size, 3, 4 * size, 5, 6 * size }, mpi.wrap(memory):totable())
  end)

  it("empty tensors have no elements", function()
    for kind, dtype in pairs(dtypes) do
      local view = mpi.wrap(tensor(kind, nil, 0, {}, {}))
      assert.same({ dtype, 0, "(0,)" }, { view.dtype, view.size, tostring(view.shape) })
    end
  end)

  it("tensors on a GPU and other objects are none", function()
    local cuda = tensor("Cuda", ffi.new "float[1]", 0, { 1 }, { 1 })
    raises("other kinds need mpi.register_buffer", function() mpi.send(cuda, NULL) end)
    raises("other kinds need mpi.register_buffer", function() mpi.send(longs { 1 }, NULL) end)
  end)
end)

-- ---- SciLua ----

-- sci.alg: a struct without a name for each element type, elements in its own tail or elsewhere, with a metatype.
local function scilua(element)
  local ctype = ffi.typeof("struct { int32_t _n, _r, _c; $* _p; $ _v[?]; }", element, element)
  local meta = { nrow = function(self) return self._r end }
  meta.__index = function(self, k)
    if type(k) == "number" then return self._p[k - 1] end
    return meta[k]
  end
  ffi.metatype(ctype, meta)
  return function(r, c, p)
    local a = ffi.new(ctype, p and 0 or r * c)
    a._n, a._r, a._c = r * c, r, c
    a._p = p or a._v
    return a
  end
end

describe("SciLua's", function()
  ffi.cdef "struct buffer_spec_dual { double v, a; };"

  it("matrices and vectors are arrays", function()
    local dtypes = {
      double = "double", float = "float", int8_t = "int8", int16_t = "int16", int32_t = "int32", int64_t = "int64",
      uint8_t = "uint8", uint16_t = "uint16", uint32_t = "uint32", uint64_t = "uint64",
    }
    for _, element in ipairs(sorted(dtypes)) do
      local dtype = dtypes[element]
      local mat = scilua(ffi.typeof(element))
      local a, b, vec = mat(2, 3), mat(3, 2), mat(4, 1)
      for i = 0, 5 do a._p[i] = 10 * rank + i end
      local status = mpi.sendrecv(a, right, b, left)
      assert.equal(SUCCESS, status)
      assert.equal(dtype, mpi.wrap(a).dtype)
      assert.equal("(2, 3)", tostring(mpi.wrap(a).shape))
      assert.equal("(4, 1)", tostring(mpi.wrap(vec).shape))
      for i = 0, 5 do assert.equal(10 * left + i, tonumber(b[i + 1])) end
    end
  end)

  it("elements may be complex, boolean or structs", function()
    local z, b = scilua(ffi.typeof "complex"), scilua(ffi.typeof "bool")
    assert.same({ "complex double", "bool" }, { mpi.wrap(z(1, 2)).dtype, mpi.wrap(b(1, 2)).dtype })
    local dual = scilua(ffi.typeof "struct buffer_spec_dual")
    local x, y = dual(2, 1), dual(2, 1)
    x._p[1].a = rank
    mpi.sendrecv(x, right, y, left)
    assert.equal(left, y._p[1].a)
  end)

  it("elements may lie elsewhere, or not be there", function()
    local mat, memory = scilua(ffi.typeof "double"), ffi.new("double[4]", { 1, 2, 3, 4 })
    local mapped, empty = mat(2, 2, memory + 0), mat(0, 3)
    mpi.allreduce(mpi.IN_PLACE, mapped)
    assert.same({ size, 2 * size, 3 * size, 4 * size }, mpi.wrap(memory):totable())
    assert.equal("(0, 3)", tostring(mpi.wrap(empty).shape))
    assert.equal(SUCCESS, mpi.bcast(empty))
  end)
end)

-- ---- GSL Shell ----

ffi.cdef [[
  typedef struct { size_t size; double *data; int ref_count; } gsl_block;
  typedef gsl_block gsl_block_complex;
  typedef struct { size_t size; size_t stride; double *data; gsl_block *block; int owner; } gsl_vector;
  typedef struct { size_t size; size_t stride; double *data; gsl_block_complex *block; int owner; } gsl_vector_complex;
  typedef struct { size_t size1; size_t size2; size_t tda; double *data; gsl_block *block; int owner; } gsl_matrix;
  typedef struct {
    size_t size1; size_t size2; size_t tda; double *data; gsl_block_complex *block; int owner;
  } gsl_matrix_complex;
  typedef struct { size_t size1; size_t size2; size_t tda; float *data; void *block; int owner; } gsl_matrix_float;
  typedef struct { size_t size; size_t stride; float *data; void *block; int owner; } gsl_vector_complex_float;
  typedef struct { size_t size; size_t stride; int *data; void *block; int owner; } gsl_vector_int;
]]

describe("GSL Shell's", function()
  local gsl_matrix, methods = ffi.typeof "gsl_matrix", { rows = function(m) return tonumber(m.size1) end }
  ffi.metatype(gsl_matrix, { __index = function(_, k) return methods[k] end, __len = function(m) return m:rows() end })
  local block = ffi.new "gsl_block"

  it("matrices and their slices are arrays", function()
    local memory, got_memory = ffi.new "double[20]", ffi.new "double[20]"
    for i = 0, 19 do memory[i] = 100 * rank + i end
    local m = gsl_matrix(4, 5, 5, memory, block, 1)
    local slice = gsl_matrix(2, 3, 5, memory + 6, block, 1)
    local column, row = gsl_matrix(4, 1, 5, memory + 2, block, 1), gsl_matrix(1, 5, 1, memory + 5, block, 1)
    local got = gsl_matrix(3, 2, 5, got_memory + 7, block, 1)
    local status = mpi.sendrecv(slice, right, got, left)
    local base = 100 * left
    assert.equal(SUCCESS, status)
    local expected = {}
    for i = 1, 20 do expected[i] = 0 end
    for k, value in pairs { [8] = 6, [9] = 7, [13] = 8, [14] = 11, [18] = 12, [19] = 13 } do
      expected[k] = base + value
    end
    assert.same(expected, mpi.wrap(got_memory):totable())
    base = 100 * rank
    assert.equal("(4, 5)", tostring(mpi.wrap(m).shape))
    assert.equal("(5, 1)", tostring(mpi.wrap(slice).strides))
    assert.same({ { base + 2 }, { base + 7 }, { base + 12 }, { base + 17 } }, mpi.wrap(column):totable())
    assert.same({ { base + 5, base + 6, base + 7, base + 8, base + 9 } }, mpi.wrap(row):totable())
  end)

  it("complex matrices count complex elements", function()
    local memory = ffi.new "double[24]"
    for i = 0, 23 do memory[i] = i + rank end
    local slice = ffi.new("gsl_matrix_complex", 2, 2, 4, memory + 2, block, 1)
    local got = mpi.zeros({ 2, 2 }, "complex double")
    mpi.sendrecv(slice, right, got, left)
    for i = 0, 1 do
      for j = 0, 1 do
        local z, first = got:get(i, j), 2 + 8 * i + 2 * j + left
        assert.same({ first, first + 1 }, { z.re, z.im })
      end
    end
  end)

  it("vectors have a stride; pointers to them will do", function()
    local memory = ffi.new "double[12]"
    for i = 0, 11 do memory[i] = i end
    local vector = ffi.new("gsl_vector", 4, 3, memory, block, 1)
    local pointer = ffi.cast("gsl_vector *", vector)
    local complex = ffi.new("gsl_vector_complex", 2, 3, memory, block, 1)
    assert.same({ 0, 3, 6, 9 }, mpi.wrap(vector):totable())
    assert.same({ 0, 3, 6, 9 }, mpi.wrap(pointer):totable())
    assert.same({ 0, 6 }, { mpi.wrap(complex)[0].re, mpi.wrap(complex)[1].re })
    mpi.allreduce(mpi.IN_PLACE, pointer)
    assert.same({ 0, 1, 2, 3 * size, 4, 5, 6 * size, 7, 8, 9 * size, 10, 11 }, mpi.wrap(memory):totable())
    raises("nmpi.send: resolver of register_buffer: argument 'cdata': expected a raw FFI array or a pointer, got nil",
      function() mpi.send(ffi.cast("gsl_vector *", nil), NULL) end)
  end)

  it("other element types are known as well", function()
    local floats, ints = ffi.new "float[6]", ffi.new "int[6]"
    assert.equal("float", mpi.wrap(ffi.new("gsl_matrix_float", 2, 3, 3, floats)).dtype)
    assert.equal("complex float", mpi.wrap(ffi.new("gsl_vector_complex_float", 3, 1, floats)).dtype)
    assert.equal("int32", mpi.wrap(ffi.new("gsl_vector_int", 3, 2, ints)).dtype)
    assert.equal(0, mpi.wrap(ffi.new "gsl_vector_int").size)
  end)
end)

-- ---- MAD-NG ----

ffi.cdef [[
  struct matrix { const int32_t nr, nc; double data[?]; };
  struct cmatrix { const int32_t nr, nc; complex data[?]; };
  struct imatrix { const int32_t nr, nc; int32_t data[?]; };
  struct matrix_cview { const int32_t nr, nc; const double data[?]; };
  struct matrix_ccast { int32_t nr, nc; double data[?]; };
  typedef struct { int32_t nr, nc; double data[?]; } matrix_t;
]]

describe("MAD-NG's", function()
  local function matrix(ctype, nr, nc)
    local m = ffi.new(ctype, nr * nc)
    local head = ffi.cast("struct matrix_ccast &", m)
    head.nr, head.nc = nr, nc
    return m
  end

  it("matrices and vectors are arrays", function()
    for _, ctype in ipairs { "struct matrix", "struct imatrix", "matrix_t" } do
      local m, v = matrix(ctype, 2, 3), matrix(ctype, 6, 1)
      for i = 0, 5 do m.data[i] = 10 * rank + i end
      local status = mpi.sendrecv(m, right, v, left)
      assert.equal(SUCCESS, status)
      assert.equal("(6, 1)", tostring(mpi.wrap(v).shape))
      assert.equal(ctype == "struct imatrix" and "int32" or "double", mpi.wrap(m).dtype)
      for i = 0, 5 do assert.equal(10 * left + i, v.data[i]) end
    end
  end)

  it("large ones are references", function()
    local memory = matrix("struct matrix", 2, 2)
    for i = 0, 3 do memory.data[i] = i + 1 end
    local m = ffi.gc(ffi.cast("struct matrix &", memory), function() end)
    mpi.allreduce(mpi.IN_PLACE, m)
    assert.same({ { size, 2 * size }, { 3 * size, 4 * size } }, mpi.wrap(m):totable())
  end)

  it("complex ones are complex, and views of them const", function()
    local z = matrix("struct cmatrix", 1, 2)
    z.data[1] = ffi.new("complex", 3, rank)
    local got = mpi.zeros(2, "complex double")
    mpi.sendrecv(z, right, got, left)
    assert.same({ 3, left }, { got[1].re, got[1].im })
    local m = matrix("struct matrix", 1, 2)
    local const = ffi.cast("struct matrix_cview &", m)
    m.data[1] = 8
    assert.same({ { 0, 8 } }, mpi.wrap(const):totable())
    raises("expected a writable array, got a read-only one", function() mpi.recv(const, NULL) end)
  end)

  it("structs that are like them only in part are not known", function()
    local object = ffi.new "struct { int32_t nr, nc; double data[3]; }"
    raises("other kinds need mpi.register_buffer", function() mpi.send(object, NULL) end)
  end)
end)

-- ---- raw FFI arrays ----

describe("raw FFI arrays", function()
  local function element_type(dtype)
    return (tostring(ffi.typeof(mpi.zeros(1, dtype).data)):match "^ctype<(.*) %*>$")
  end

  it("of every dtype are arrays, in every form", function()
    local problems = {}
    for _, dtype in ipairs(data.dtypes) do
      local name, make = element_type(dtype), data.value[dtype]
      local holder = ffi.typeof(("struct { char before; %s x[6]; char after; }"):format(name))
      local forms = {
        fixed = function() return ffi.new(name .. "[6]") end,
        vla = function() return ffi.new(name .. "[?]", 6) end,
        two = function() return ffi.new(name .. "[2][3]") end,
        three = function() return ffi.new(name .. "[1][3][2]") end,
        vla_of_rows = function() return ffi.new(name .. "[?][2]", 3) end,
        field = function()
          local whole = holder()
          return whole.x, whole
        end,
      }
      for _, form in ipairs(sorted(forms)) do
        local new = forms[form]
        local sent, sent_whole = new()
        local got, got_whole = new()
        local expected = ffi.new(name .. "[6]")
        local p = ffi.cast(name .. " *", sent)
        for i = 0, 5 do
          p[i], expected[i] = make(data.seed(rank) + i), make(data.seed(left) + i)
        end
        local status = mpi.sendrecv(sent, right, got, left)
        local back = mpi.zeros(6, dtype)
        -- char and int8_t are one type to LuaJIT.
        local wrapped = mpi.wrap(got)
        local told = wrapped.dtype == (dtype == "char" and "int8" or dtype)
        local reference = mpi.wrap(expected, 6, dtype)
        back:assign(mpi.wrap(got, 6, dtype))
        local difference = data.difference(back, reference)
        if status ~= SUCCESS or not told or difference or got_whole and got_whole.after ~= 0 then
          problems[#problems + 1] = ("%s, %s: %d, %s, %s"):format(dtype, form, status, wrapped.dtype,
            tostring(difference))
        end
        assert(sent_whole == nil or sent_whole.before == 0)
      end
      local const = ffi.new("const " .. name .. "[2]")
      local const_vla = ffi.new("const " .. name .. "[?]", 2)
      if mpi.send(const, NULL) ~= SUCCESS or mpi.send(const_vla, NULL) ~= SUCCESS
        or mpi.bcast(const, 0, SELF) ~= SUCCESS or pcall(mpi.recv, const, NULL) or pcall(mpi.recv, const_vla, NULL)
        or pcall(mpi.recv, mpi.wrap(const + 0, 2), NULL) then
        problems[#problems + 1] = dtype .. ", const"
      end
    end
    judge(problems)
  end)
end)

-- ---- strings ----

describe("strings", function()
  local texts = { "text", "żółć", "a\0b\0", "", "\0", ("0123456789"):rep(20000), "\255\254\0\1" }

  it("are sent byte for byte", function()
    local info = mpi.status()
    for i, text in ipairs(texts) do
      local mine = text .. rank
      local got = mpi.array(("~"):rep(#text + 3))
      local status = mpi.sendrecv(mine, right, got, left, i, i, nil, info)
      assert.equal(SUCCESS, status)
      assert.equal(#text + 1, info:count())
      assert.equal(text .. left .. "~~", got:tostring())
    end
  end)

  it("are sent by send, into views and raw memory too", function()
    local got, raw = mpi.array("~~~~~~~~"), ffi.new "char[5]"
    local to, from = rank + 1 < size and rank + 1 or NULL, rank > 0 and rank - 1 or NULL
    local code, raw_code = mpi.send("żółć", to, 3), mpi.send("raw\0!", to, 4)
    local status = mpi.recv(got, from, 3)
    local raw_status = mpi.recv(raw, from, 4)
    local view = mpi.array("........")
    local view_status = mpi.sendrecv("abcd", right, view:slice { nil, nil, 2 }, left)
    assert.same({ 0, 0, 0, 0, 0 }, { code, raw_code, status, raw_status, view_status })
    if rank > 0 then
      assert.equal("żółć", got:tostring())
      assert.equal("raw\0!", ffi.string(raw, 5))
    end
    assert.equal("a.b.c.d.", view:tostring())
  end)

  it("of no bytes are messages without elements", function()
    local info, got = mpi.status(), mpi.array "~"
    local status = mpi.sendrecv("", right, got, left, 0, 0, nil, info)
    assert.equal(SUCCESS, status)
    assert.equal(0, info:count())
    assert.equal("~", got:tostring())
  end)

  it("are broadcast by the root", function()
    for i, text in ipairs(texts) do
      local root = i % size
      local got = mpi.empty(#text, "char")
      local status
      if rank == root then status = mpi.bcast(text, root) else status = mpi.bcast(got, root) end
      assert.equal(SUCCESS, status)
      if rank ~= root then assert.equal(text, got:tostring()) end
    end
  end)

  it("are broadcast by the root alone", function()
    local got = mpi.zeros(4, "char")
    local ok, message = true, nil
    if rank > 0 then ok, message = pcall(mpi.bcast, "text") end
    mpi.bcast(rank == 0 and "root" or got)
    if rank > 0 then
      assert.is_false(ok)
      assert(message:find("nmpi.bcast: argument 'data': expected a writable array", 1, true), message)
      assert.equal("root", got:tostring())
    end
  end)

  it("are scattered and gathered", function()
    local letters, part = ("abcdefgh"):sub(1, 2 * size), ffi.new "char[2]"
    local all, raw, wide = mpi.zeros(2 * size, "char"), ffi.new("char[?]", 2 * size), mpi.zeros(2 * size, "char")
    local mine = letters:sub(2 * rank + 1, 2 * rank + 2)
    local codes = {
      mpi.scatter(rank == 0 and letters or nil, part),
      mpi.gather(mine, rank == 0 and raw or nil),
      mpi.allgather(mine, all),
      mpi.allgather(part, wide),
    }
    assert.same({ SUCCESS, SUCCESS, SUCCESS, SUCCESS }, codes)
    assert.equal(mine, ffi.string(part, 2))
    if rank == 0 then assert.equal(letters, ffi.string(raw, 2 * size)) end
    assert.equal(letters, all:tostring())
    assert.equal(letters, wide:tostring())
  end)

  it("cannot be received into", function()
    local expected = "expected a writable array, got the string \"text\""
    raises("nmpi.recv: argument 'data': " .. expected, function() mpi.recv("text", NULL) end)
    raises("nmpi.sendrecv: argument 'recvdata': " .. expected, function() mpi.sendrecv("text", NULL, "text", NULL) end)
    raises("nmpi.reduce: argument 'recvdata': " .. expected, function() mpi.reduce("text", "text", mpi.SUM, rank) end)
    raises("nmpi.allreduce: argument 'recvdata': " .. expected, function() mpi.allreduce("text", "text") end)
  end)

  it("that are long are cut in errors", function()
    local ok, message = pcall(mpi.recv, ("x"):rep(1e6), NULL)
    assert.is_false(ok)
    assert.is_true(#message < 300)
  end)

  it("cannot be reduced", function()
    raises("expected the dtype of 'senddata', char, got int8",
      function() mpi.allreduce("text", mpi.zeros(4, "int8"), nil, SELF) end)
    raises("is not defined on the dtype of", function() mpi.allreduce("text", mpi.zeros(4, "char"), mpi.MAX, SELF) end)
  end)

  it("are assigned to arrays of char", function()
    assert.equal("żółć", mpi.zeros(8, "char"):assign("żółć"):tostring())
    raises("argument 'b': expected an array of shape (4,), got", function() mpi.zeros(4, "char"):assign "text!" end)
  end)
end)

-- ---- structs ----

ffi.cdef [[
  struct buffer_spec_padded { char tag; double x; short n; };
  struct buffer_spec_inner { int8_t a; int32_t b; };
  struct buffer_spec_nested { struct buffer_spec_inner pair[2]; float f; struct buffer_spec_inner last; };
  struct buffer_spec_arrays { double m[2][3]; char name[5]; };
  union buffer_spec_either { double d; int32_t i[3]; };
  struct __attribute__((packed)) buffer_spec_packed { char c; double d; int16_t n; };
  struct buffer_spec_one { uint8_t byte; };
  struct buffer_spec_wide { double x[33]; };
  typedef struct { int32_t n; union { float f; int64_t l; } u; } buffer_spec_typedef;
]]

describe("structs", function()
  local v = data.value
  local unnamed = ffi.typeof "struct { int16_t a; complex z; uint8_t b[3]; }"
  local kinds = {
    { "struct buffer_spec_padded", function(k) return { v.int8(k), v.double(k), v.int16(k) } end },
    { "struct buffer_spec_nested", function(k)
      return { { { v.int8(k), v.int32(k) }, { v.int8(k + 1), -k } }, v.float(k), { 1, k } }
    end },
    { "struct buffer_spec_arrays", function(k)
      return { { { k, 2, 3 }, { 4, -k, k / 3 } }, { 1, 2, 3, 4, v.int8(k) } }
    end },
    { "union buffer_spec_either", function(k) return { d = v.double(k) } end },
    { "struct buffer_spec_packed", function(k) return { v.int8(k), v.double(k), v.int16(k) } end },
    { "struct buffer_spec_one", function(k) return { v.uint8(k) } end },
    { "struct buffer_spec_wide", function(k) return { { k, k / 3, k / 7, k / 11 } } end },
    { "buffer_spec_typedef", function(k) return { v.int32(k), { f = v.float(k) } } end },
    { unnamed, function(k) return { v.int16(k), ffi.new("complex", k, -k), { 1, v.uint8(k), 3 } } end },
    { ffi.typeof "struct buffer_spec_inner", function(k) return { v.int8(k), v.int32(k) } end },
  }

  setup(function()
    for _, kind in ipairs(kinds) do v[kind[1]] = kind[2] end
  end)

  local function compare(problems, what, dtype, status, memory, layout, n, seed, count)
    local _, expected = data.new(layout, n, dtype, seed, count, v[dtype])
    local difference = data.difference(memory, expected)
    if status ~= SUCCESS or difference then
      problems[#problems + 1] = ("%s of %s, %s: %d, %s"):format(what, tostring(dtype), layout, status,
        tostring(difference))
    end
  end

  it("have the sizes of C", function()
    assert.equal(24, mpi.zeros(1, "struct buffer_spec_padded").itemsize)
    assert.equal(11, mpi.zeros(1, "struct buffer_spec_packed").itemsize)
    assert.equal(16, mpi.zeros(1, "union buffer_spec_either").itemsize)
    for _, kind in ipairs(kinds) do assert.equal(ffi.sizeof(kind[1]), mpi.zeros(1, kind[1]).itemsize) end
  end)

  it("travel between all layouts, and neighbours stay as they are", function()
    local problems = {}
    for _, kind in ipairs(kinds) do
      local dtype, element = kind[1], kind[2]
      for i, layout in ipairs(data.layouts) do
        local other = data.at(data.layouts, i + 2)
        for _, n in ipairs { 0, 1, 7, 24 } do
          local sent = data.new(layout, n, dtype, data.seed(rank), nil, element)
          local got, memory = data.guards(other, n, dtype)
          local status = mpi.sendrecv(sent, right, got, left)
          compare(problems, "sendrecv", dtype, status, memory, other, n, data.seed(left))
          local back, back_memory = data.guards(layout, n, dtype)
          status = mpi.sendrecv(got, left, back, right)
          compare(problems, "sendrecv back", dtype, status, back_memory, layout, n, data.seed(rank))
          local shared, shared_memory = data.new(layout, n, dtype, data.seed(rank), nil, element)
          status = mpi.bcast(shared, size - 1)
          compare(problems, "bcast", dtype, status, shared_memory, layout, n, data.seed(size - 1))
        end
      end
    end
    judge(problems)
  end)

  it("arrive in part where the message is shorter", function()
    local problems, info = {}, mpi.status()
    for _, kind in ipairs(kinds) do
      local dtype, element = kind[1], kind[2]
      for _, layout in ipairs(data.layouts) do
        local sent = data.new("C", 7, dtype, data.seed(rank), nil, element)
        local got, memory = data.guards(layout, 24, dtype)
        local status = mpi.sendrecv(sent, right, got, left, 0, 0, nil, info)
        compare(problems, "sendrecv", dtype, status, memory, layout, 24, data.seed(left), 7)
        if info:count() ~= 7 then problems[#problems + 1] = "count " .. info:count() end
      end
    end
    judge(problems)
  end)

  it("must have the same size on every rank", function()
    -- 24 bytes are no whole number of elements of 11, nor of 16; the two sides are told so, and go on.
    local sent = mpi.zeros(1, "struct buffer_spec_padded")
    for _, dtype in ipairs { "struct buffer_spec_packed", "union buffer_spec_either" } do
      local got = mpi.zeros(4, dtype)
      local whole = ("expected whole elements of %d bytes, got a message of 24 bytes"):format(got.itemsize)
      raises("nmpi.sendrecv: argument 'recvdata': " .. whole, function() mpi.sendrecv(sent, right, got, left) end)
      local _, request = mpi.isend(sent, right)
      raises("nmpi.recv: argument 'data': " .. whole, function() mpi.recv(got, left) end)
      mpi.wait(request)
    end
  end)

  it("travel in raw arrays", function()
    local sent, got = ffi.new("struct buffer_spec_nested[3]"), ffi.new("struct buffer_spec_nested[?]", 3)
    sent[2].pair[1].b, sent[0].last.a = rank + 1000, 5
    mpi.sendrecv(sent, right, got, left)
    assert.same({ left + 1000, 5 }, { got[2].pair[1].b, got[0].last.a })
    local matrix = ffi.new("union buffer_spec_either[2][2]")
    matrix[1][0].i[2] = rank
    mpi.bcast(matrix, size - 1)
    assert.equal(size - 1, matrix[1][0].i[2])
  end)

  it("without a name are known once they have been a dtype", function()
    local ctype = ffi.typeof "struct { float x; int16_t n; }"
    local raw, got = ffi.new(ffi.typeof("$[2]", ctype)), ffi.new(ffi.typeof("$[?]", ctype), 2)
    raises("elements without a name need a dtype: mpi.wrap(array, nil, ctype), got cdata of type struct",
      function() mpi.send(raw, NULL) end)
    local view = mpi.wrap(raw, nil, ctype)
    view[1].n = rank
    mpi.sendrecv(raw, right, got, left)
    assert.same({ 2, left }, { view.size, got[1].n })
  end)

  it("are not reduced", function()
    raises("MPI_SUM is not defined on the dtype of",
      function() mpi.allreduce(mpi.IN_PLACE, mpi.zeros(2, "struct buffer_spec_padded")) end)
  end)
end)

-- ---- compiled code ----

ffi.cdef "struct buffer_spec_samples { int32_t n; double x[4]; };"

describe("loops over foreign arrays", function()
  local from, to = filled(0), grid(2, 2, 3)
  mpi.register_buffer(function(value) return ffi.istype("struct buffer_spec_samples", value) end,
    function(s) return s.x, s.n end)
  local samples, copies = ffi.new("struct buffer_spec_samples", 4), ffi.new("struct buffer_spec_samples", 4)
  local slice = ffi.new("gsl_matrix", 2, 2, 3, from.cells)
  local target = ffi.new("gsl_vector", 4, 1, ffi.new "double[4]")

  it("are right, compiled or not", function()
    for i = 1, 2000 do
      from.cells[4] = i
      samples.x[3] = -i
      mpi.sendrecv(from, 0, to, 0, 0, 0, SELF)
      assert(to.cells[4] == i)
      mpi.sendrecv(samples, 0, copies, 0, 0, 0, SELF)
      assert(copies.x[3] == -i)
      mpi.sendrecv(slice, 0, copies, 0, 0, 0, SELF)
      assert(copies.x[3] == i)
    end
    collectgarbage()
  end)

  it("of any kind leave other loops alone", function()
    local memory, got = ffi.new "double[16]", mpi.zeros(16)
    local object
    mpi.register_buffer(function(value) return value == object end,
      function(value) return memory, value.shape, nil, value.strides end)
    for _, made in ipairs {
      { shape = 16 }, { shape = {} }, { shape = { 2, 3 }, strides = { 6, 2 } }, { shape = { 2, 2, 2, 2 } },
      { shape = { 1, 2, 1, 2, 1, 2, 1, 2 }, strides = { 0, 1, 0, 2, 0, 4, 0, 8 } },
    } do
      object = made
      local length = mpi.wrap(made).size
      for i = 1, 3000 do
        memory[0] = i
        mpi.sendrecv(made, 0, got, 0, 0, 0, SELF)
        assert(got[0] == i and length <= 16)
      end
    end
  end)

  it("survive the garbage collector", function()
    local ok = true
    for i = 1, 3000 do
      local g = filled(i)
      mpi.sendrecv(g, 0, to, 0, 0, 0, SELF)
      ok = ok and to.cells[0] == i and to.cells[4] == i + 4
      local view = mpi.wrap(filled(i))
      if i % 500 == 0 then collectgarbage() end
      ok = ok and view:get(1, 1) == i + 4 and buffer.anchors[view] ~= nil
    end
    assert.is_true(ok)
    assert.equal(4, tonumber(target.size))
  end)
end)

-- After the loops above, whose traces must not stand in the way.
do
  local text, empty, got = "constant text", "", mpi.zeros(20, "char")
  local view = mpi.wrap(ffi.new "double[4]")
  local raw = ffi.new "double[4]"
  local samples, copies = ffi.new("struct buffer_spec_samples", 4), ffi.new("struct buffer_spec_samples", 4)

  local function send_and_wait(value)
    local _, request = mpi.isend(value, NULL)
    mpi.wait(request)
  end

  hot.define(it, pending, {
    { "send of a string", function(n) for _ = 1, n do mpi.send("constant text", NULL, 3) end end },
    { "sendrecv of a string", function(n)
      for _ = 1, n do
        mpi.sendrecv(text, 0, got, 0, 0, 0, SELF)
        hot.ensure(got[12] == 116)
      end
    end },
    { "sendrecv of an empty string", function(n) for _ = 1, n do mpi.sendrecv(empty, 0, got, 0, 0, 0, SELF) end end },
    { "bcast of a string", function(n) for _ = 1, n do mpi.bcast(text, 0, SELF) end end },
    { "bcast of a raw array", function(n) for _ = 1, n do mpi.bcast(raw, 0, SELF) end end },
    { "send of an array", function(n) for _ = 1, n do mpi.send(view, NULL) end end },
    { "sendrecv of raw arrays", function(n) for _ = 1, n do mpi.sendrecv(raw, 0, view, 0, 0, 0, SELF) end end },
    { "sendrecv of foreign arrays", function(n)
      for i = 1, n do
        samples.x[3] = i
        mpi.sendrecv(samples, 0, copies, 0, 0, 0, SELF)
        hot.ensure(copies.x[3] == i)
      end
    end },
    { "isend of an array", function(n) for _ = 1, n do send_and_wait(view) end end },
    { "isend of a string", function(n) for _ = 1, n do send_and_wait(text) end end },
    { "isend of a raw array", function(n) for _ = 1, n do send_and_wait(raw) end end },
    { "isend of a foreign array", function(n) for _ = 1, n do send_and_wait(samples) end end },
  })
end
