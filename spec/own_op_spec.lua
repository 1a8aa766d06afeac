-- SPDX-License-Identifier: MIT
-- Operators that scripts make. Those that fail, and so end the job, are tested in op_failure_spec.lua.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local WORLD, SELF, SUCCESS = mpi.COMM_WORLD, mpi.COMM_SELF, mpi.SUCCESS
local rank, size = mpi.rank(), mpi.size()

local HERE = debug.getinfo(1, "S").short_src

local STRUCTS = [[
  struct nmpi_spec_particle { double position[3]; int32_t id; char tag[4]; };
  struct nmpi_spec_colour { uint8_t r, g, b; };
]]

-- x -> slope * x + offset, whose composition is associative, and hardly ever commutative.
local AFFINE = "typedef struct { int64_t slope, offset; } nmpi_spec_affine;"
ffi.cdef(AFFINE)

-- ---- functions of operators ----

local function first(invec, inoutvec, n)
  for i = 0, n - 1 do inoutvec[i] = invec[i] end
end

local function second() end

local function sum(invec, inoutvec, n)
  for i = 0, n - 1 do inoutvec[i] = inoutvec[i] + invec[i] end
end

-- LuaJIT does not calculate with complex numbers.
local function complex_sum(invec, inoutvec, n)
  local complex = require("ffi").typeof(inoutvec[0])
  for i = 0, n - 1 do
    local x, y = invec[i], inoutvec[i]
    inoutvec[i] = complex(x.re + y.re, x.im + y.im)
  end
end

-- First the map of the lower rank, then that of the higher one.
local function compose(invec, inoutvec, n)
  for i = 0, n - 1 do
    local f, g = invec[i], inoutvec[i]
    g.offset = g.slope * f.offset + g.offset
    g.slope = g.slope * f.slope
  end
end

local function options_of(dtype, opts)
  opts = opts or {}
  if dtype:find "struct" then opts.dtype, opts.cdef = dtype, STRUCTS end
  return opts
end

-- ---- reductions of what data.lua makes ----

local function completed(status, request)
  if status ~= SUCCESS then return status end
  return mpi.wait(request)
end

-- Reduces n elements from one layout into another by each routine; rank `winner` has the result's elements.
local function reduce_all(problems, op, dtype, from, to, n, winner)
  local root = n % size
  local calls = {
    { "allreduce", true, function(sent, got) return mpi.allreduce(sent, got, op) end },
    { "reduce", rank == root, function(sent, got) return mpi.reduce(sent, rank == root and got or nil, op, root) end },
    { "in place", true, function(_, got)
      data.fill(got, data.seed(rank))
      return mpi.allreduce(mpi.IN_PLACE, got, op)
    end },
    { "iallreduce", true, function(sent, got) return completed(mpi.iallreduce(sent, got, op)) end },
    { "ireduce", rank == root, function(sent, got)
      return completed(mpi.ireduce(sent, rank == root and got or nil, op, root))
    end },
  }
  for _, call in ipairs(calls) do
    local name, receives, run = unpack(call)
    local sent, sent_memory = data.new(from, n, dtype, data.seed(rank))
    local got, memory = data.guards(to, n, dtype)
    local status = run(sent, got)
    local expected = select(2, data.guards(to, n, dtype))
    if receives then expected = select(2, data.new(to, n, dtype, data.seed(winner))) end
    local same = select(2, data.new(from, n, dtype, data.seed(rank)))
    local what = status ~= SUCCESS and "status " .. status or data.difference(memory, expected)
      or data.difference(sent_memory, same)
    if what then problems[#problems + 1] = ("%s of %d %s, %s to %s: %s"):format(name, n, dtype, from, to, what) end
  end
end

describe("an operator in Lua", function()
  it("combines views of every dtype, in the order of ranks", function()
    local problems = {}
    local generic_first, generic_second = mpi.op(first), mpi.op(second)
    for i, dtype in ipairs(data.dtypes) do
      local is_struct = dtype:find "struct"
      local of_first = is_struct and mpi.op(first, options_of(dtype)) or generic_first
      local of_second = is_struct and mpi.op(second, options_of(dtype)) or generic_second
      local from, to = data.at(data.layouts, i), data.at(data.layouts, i * 3)
      reduce_all(problems, of_first, dtype, from, to, 24, 0)
      reduce_all(problems, of_second, dtype, to, from, 24, size - 1)
      if is_struct then
        of_first:free()
        of_second:free()
      end
    end
    generic_first:free()
    generic_second:free()
    judge(problems)
  end)

  it("combines arrays of every size", function()
    local problems = {}
    for _, case in ipairs { { "double", "stepped" }, { "struct nmpi_spec_colour", "C" }, { "long_int", "C" } } do
      local dtype, layout = unpack(case)
      local of_first, of_second = mpi.op(first, options_of(dtype)), mpi.op(second, options_of(dtype))
      for _, n in ipairs { 0, 1, 7, 1000, 20000 } do
        reduce_all(problems, of_first, dtype, layout, "C", n, 0)
        reduce_all(problems, of_second, dtype, layout, "C", n, size - 1)
      end
      of_first:free()
      of_second:free()
    end
    judge(problems)
  end)

  it("combines in pieces what is too much for one call of MPI", function()
    local set_max_count = ffi.load(package.searchpath("nmpi.core_" .. mpi.info().abi, package.cpath)).nmpi_set_max_count
    local problems = {}
    assert.equal(0, set_max_count(7))
    for _, dtype in ipairs { "int16", "struct nmpi_spec_colour" } do
      local op = mpi.op(first, options_of(dtype))
      reduce_all(problems, op, dtype, "C", "backwards", 24, 0)
      reduce_all(problems, op, dtype, "C", "C", 24, 0)
      op:free()
    end
    assert.equal(0, set_max_count(2 ^ 31 - 1))
    judge(problems)
  end)

  it("adds numbers of every arithmetic dtype", function()
    for _, commute in ipairs { true, false } do
      local op, complex_op = mpi.op(sum, { commute = commute }), mpi.op(complex_sum, { commute = commute })
      for _, dtype in ipairs { "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float",
          "double", "complex float", "complex double" } do
        local sent, got = mpi.zeros(40, dtype), mpi.zeros(40, dtype)
        for i = 0, 39 do sent[i] = rank + i % 20 end
        local status = mpi.allreduce(sent, got, dtype:find "complex" and complex_op or op)
        assert.equal(SUCCESS, status)
        for i = 0, 39 do
          local expected = size * (size - 1) / 2 + size * (i % 20)
          local x = got[i]
          if dtype:find "complex" then
            assert.same({ expected, 0 }, { x.re, x.im })
          else
            assert.equal(expected, tonumber(x))
          end
        end
      end
      local status, total = mpi.allreduce(rank + 0.5, op)
      assert.same({ SUCCESS, size * size / 2 }, { status, total })
      op:free()
      complex_op:free()
    end
  end)

  it("keeps the order of what does not commute", function()
    local op = mpi.op(compose, { dtype = "nmpi_spec_affine", cdef = AFFINE })
    for _, n in ipairs { 1, 2, 3, 100, 5000, 20000 } do
      local sent, got = mpi.zeros(n, "nmpi_spec_affine"), mpi.zeros(n, "nmpi_spec_affine")
      local at_root, later = mpi.zeros(n, "nmpi_spec_affine"), mpi.zeros(n, "nmpi_spec_affine")
      local later_at_root = mpi.zeros(n, "nmpi_spec_affine")
      local function map(r, i) return r % 3 + 2, (r + i) % 11 - 5 end
      for i = 0, n - 1 do sent[i] = { map(rank, i) } end
      local status = mpi.allreduce(sent, got, op)
      local root_status = mpi.reduce(sent, at_root, op, size - 1)
      local _, request = mpi.iallreduce(sent, later, op)
      local _, root_request = mpi.ireduce(sent, later_at_root, op, size - 1)
      local later_status = mpi.waitall { request, root_request }
      assert.same({ SUCCESS, SUCCESS, SUCCESS }, { status, root_status, later_status })
      local wrong = 0
      local function look(x, slope, offset)
        if x.slope ~= slope or x.offset ~= offset then wrong = wrong + 1 end
      end
      for i = 0, n - 1 do
        local slope, offset = 1, 0
        for r = 0, size - 1 do
          local s, o = map(r, i)
          slope, offset = slope * s, offset * s + o
        end
        look(got[i], slope, offset)
        look(later[i], slope, offset)
        if rank == size - 1 then
          look(at_root[i], slope, offset)
          look(later_at_root[i], slope, offset)
        end
      end
      assert.equal(0, wrong)
    end
    op:free()
  end)

  it("may be freed while a reduction is pending", function()
    local sent, got = mpi.zeros(9):fill(rank), mpi.zeros(18):slice { nil, nil, 2 }
    for _ = 1, 100 do
      local op = mpi.op(sum)
      local status, request = mpi.iallreduce(sent, got:fill(-1), op)
      op:free()
      assert.is_false((pcall(mpi.iallreduce, sent, got, op)))
      assert.same({ SUCCESS, SUCCESS }, { status, mpi.wait(request) })
      assert.equal(size * (size - 1) / 2, got[8])
    end
  end)

  it("works from a trace that was compiled with another operator", function()
    local op = mpi.op(sum, { commute = true })
    local a, b = mpi.zeros(10):fill(rank + 1), mpi.zeros(10)
    local function loop(n, operator)
      local total = 0
      for _ = 1, n do
        mpi.allreduce(a, b, operator)
        total = total + b[9]
      end
      return total
    end
    local expected = size * (size + 1) / 2
    for _, operator in ipairs { mpi.SUM, op, mpi.SUM, op } do
      local total = loop(300, operator)
      assert.equal(300 * expected, total)
    end
    op:free()
  end)

  local a, b, op = mpi.zeros(10), mpi.zeros(10), mpi.op(sum)
  hot.define(it, pending, {
    { "its allreduce", function(n) for _ = 1, n do mpi.allreduce(a, b, op, SELF) end end },
    { "its reduce", function(n) for _ = 1, n do mpi.reduce(a, b, op, 0, SELF) end end },
  })

  it("may be an expression", function()
    local function reduced(expression, x)
      local op_ = mpi.op(expression, { commute = true })
      local status, result = mpi.allreduce(x, op_)
      op_:free()
      return { status, result }
    end
    local longest = reduced("max(abs(x), abs(y))", -rank)
    local norm = reduced("sqrt(x^2 + y^2)", 2)
    local chosen = reduced("x > y and x or y", rank)
    local bits = reduced("bit.bor(x, y)", 2 ^ rank)
    local long = reduced("x + y" .. (" + abs(0)"):rep(250) .. " -- in 250 steps", 1)
    -- On one rank there is nothing to combine.
    assert.same({ SUCCESS, size == 1 and 0 or size - 1 }, { longest[1], math.abs(longest[2]) })
    assert.near(2 * math.sqrt(size), norm[2], 1e-12)
    assert.same({ SUCCESS, size - 1 }, chosen)
    assert.same({ SUCCESS, 2 ^ size - 1 }, bits)
    assert.same({ SUCCESS, size }, long)
  end)

  it("may use modules and globals, which it does not share", function()
    nmpi_spec_global = 1 -- luacheck: ignore 111
    local op_ = mpi.op(function(invec, inoutvec, n)
      local ffi_, bit_ = require "ffi", require "bit"
      assert(nmpi_spec_global == nil) -- luacheck: ignore 113
      assert(ffi_.istype("const int32_t *", invec) and ffi_.istype("int32_t *", inoutvec))
      for i = 0, n - 1 do inoutvec[i] = bit_.bxor(invec[i], inoutvec[i]) end
    end)
    nmpi_spec_global = nil -- luacheck: ignore 111
    local x, y = mpi.zeros(3, "int32"):fill(2 ^ rank), mpi.zeros(3, "int32")
    local status = mpi.allreduce(x, y, op_)
    op_:free()
    assert.same({ SUCCESS, 2 ^ size - 1 }, { status, y[2] })
  end)

  it("declares what it needs by opts.cdef", function()
    local op_ = mpi.op(function(invec, inoutvec, n)
      local C = require("ffi").C
      for i = 0, n - 1 do inoutvec[i] = C.abs(invec[i]) + C.abs(inoutvec[i]) end
    end, { cdef = "int abs(int x);", dtype = "int32" })
    local x, y = mpi.zeros(3, "int32"):fill(-5), mpi.zeros(3, "int32")
    local status = mpi.allreduce(x, y, op_)
    op_:free()
    assert.same({ SUCCESS, size == 1 and -5 or 5 * size }, { status, y[2] })
  end)

  it("needs no declaration of a struct that its name spells out", function()
    local PAIR = "struct { double value; int64_t where; }"
    local op_ = mpi.op(function(invec, inoutvec, n)
      for i = 0, n - 1 do
        if invec[i].value <= inoutvec[i].value then inoutvec[i] = invec[i] end
      end
    end, { dtype = PAIR })
    local best = mpi.zeros(2, PAIR)
    best[0] = { (rank + 1) % size, rank }
    best[1] = { 7, rank }
    local status = mpi.allreduce(mpi.IN_PLACE, best, op_)
    op_:free()
    assert.same({ SUCCESS, 0, size - 1, 0 },
      { status, best[0].value, tonumber(best[0].where), tonumber(best[1].where) })
  end)

  it("is compiled where the script is", function()
    local op_ = mpi.op(function(_, inoutvec) inoutvec[0] = jit.status() and 1 or 0 end)
    local status, result = mpi.allreduce(-1, op_)
    op_:free()
    assert.same({ SUCCESS, size == 1 and -1 or jit.status() and 1 or 0 }, { status, result })
  end)

  it("lets NaN and infinity pass", function()
    local op_ = mpi.op(sum)
    local x, y = mpi.array { 0 / 0, 1 / 0, rank == 0 and 1 / 0 or -1 / 0 }, mpi.zeros(3)
    local status = mpi.allreduce(x, y, op_)
    op_:free()
    assert.equal(SUCCESS, status)
    assert.is_true(y[0] ~= y[0] and y[1] == 1 / 0 and (size == 1 or y[2] ~= y[2]))
  end)

  it("is one of many", function()
    local ops, wrong = {}, 0
    for i = 1, 300 do ops[i] = mpi.op(("x + y + %d"):format(i)) end
    for i = 1, 300 do
      local _, result = mpi.allreduce(rank, ops[i])
      if result ~= size * (size - 1) / 2 + (size - 1) * i then wrong = wrong + 1 end
    end
    for i = 1, 300 do ops[i]:free() end
    assert.equal(0, wrong)
  end)
end)

-- ---- C ----

ffi.cdef [[
  typedef struct nmpi_spec_job {
    void *allreduce;
    const nmpi_array *send;
    nmpi_array *recv;
    const nmpi_op *op;
    const nmpi_comm *comm;
    int times, status, done;
    unsigned long thread;
  } nmpi_spec_job;
  void spec_hypotenuse(void *in, void *inout, int *n, void *type);
  void spec_second(void *in, void *inout, int *n, void *type);
  int spec_no_function;
  void spec_start(nmpi_spec_job *job);
  void spec_join(nmpi_spec_job *job);
  int sched_yield(void);
]]
local directory = package.searchpath("nmpi.core_" .. mpi.info().abi, package.cpath):match "^(.*)/lua/nmpi/"
local C = ffi.load(directory .. "/spec/operators.so")

describe("an operator in C", function()
  it("combines pairs of ranks", function()
    local pair = WORLD:split(math.floor(rank / 2))
    local op = mpi.op(C.spec_hypotenuse, { commute = true, dtype = "double" })
    local x, y = mpi.zeros(1000):fill(rank), mpi.zeros { 2, 1000 }
    local status = mpi.allreduce(x, y:row(1), op, pair)
    op:free()
    local alone = pair:size() == 1
    pair:free()
    assert.same({ SUCCESS, alone and rank or rank ^ 2 + (rank % 2 == 0 and rank + 1 or rank - 1) ^ 2 },
      { status, y:get(1, 999) })
  end)

  it("combines every dtype", function()
    local problems, generic = {}, mpi.op(ffi.cast("void (*)(void *, void *, int *, void *)", C.spec_second))
    for i, dtype in ipairs(data.dtypes) do
      local op = dtype:find "struct" and mpi.op(C.spec_second, { dtype = dtype }) or generic
      reduce_all(problems, op, dtype, data.at(data.layouts, i), data.at(data.layouts, i * 3), 24, size - 1)
      if op ~= generic then op:free() end
    end
    generic:free()
    judge(problems)
  end)
end)

-- ---- threads ----

local function new_job(sent, got, op, comm, times)
  return ffi.new("nmpi_spec_job", {
    allreduce = ffi.cast("void *", core.nmpi_allreduce), send = sent, recv = got, op = op, comm = comm, times = times,
  })
end

describe("an operator that several threads use", function()
  it("works in all of them at once", function()
    if mpi.query_thread() < mpi.THREAD_MULTIPLE then return pending "MPI has no THREAD_MULTIPLE here" end
    local op = mpi.op(first)
    local jobs, kept = {}, {}
    for i, n in ipairs { 10, 3000 } do
      local comm = WORLD:dup()
      local sent, got = data.new("C", n, "double", data.seed(rank) + i), mpi.zeros(n)
      kept[i] = { comm, sent, got, n }
      jobs[i] = new_job(sent, got, op, comm, 50)
    end
    for _, job in ipairs(jobs) do C.spec_start(job) end
    local status = mpi.allreduce(rank, op)
    for _, job in ipairs(jobs) do C.spec_join(job) end
    op:free()
    assert.equal(SUCCESS, status)
    for i, job in ipairs(jobs) do
      local comm, _, got, n = unpack(kept[i])
      comm:free()
      assert.equal(SUCCESS, job.status)
      assert.is_nil(data.difference(got, (data.new("C", n, "double", data.seed(0) + i))))
    end
  end)

  it("may be freed while one of them is in it", function()
    if mpi.query_thread() < mpi.THREAD_MULTIPLE then return pending "MPI has no THREAD_MULTIPLE here" end
    local comm = WORLD:dup()
    local flags = ffi.new "int[2]" -- entered; may leave
    local op = mpi.op(loadstring(([[
      local invec, inoutvec, n = ...
      local ffi = require "ffi"
      local flags = ffi.cast("int *", %dULL)
      flags[0] = 1
      while flags[1] == 0 do ffi.C.sched_yield() end
      for i = 0, n - 1 do inoutvec[i] = inoutvec[i] + invec[i] end
    ]]):format(tonumber(ffi.cast("uintptr_t", flags)))), { cdef = "int sched_yield(void);", commute = true })
    local x, y = mpi.zeros(5):fill(rank + 1), mpi.zeros(5)
    local job = new_job(x, y, op, comm, 1)
    C.spec_start(job)
    -- Not every rank has something to combine.
    while flags[0] == 0 and job.done == 0 do ffi.C.sched_yield() end
    local freed, message = pcall(op.free, op)
    local used, use_message = pcall(mpi.allreduce, x, y, op, SELF)
    flags[1] = 1
    C.spec_join(job)
    comm:free()
    assert.is_true(freed, message)
    assert.is_false(used)
    assert.matches("nmpi.allreduce: argument 'op': expected an operator, got one that has been freed", use_message, 1,
      true)
    assert.same({ SUCCESS, size * (size + 1) / 2 }, { job.status, y[4] })
  end)
end)

-- ---- mistakes ----

-- The call must raise this message at its line in this file.
local function refuses(call, expected)
  local fine, message = pcall(call)
  assert(not fine, "not refused")
  assert(type(message) == "string" and message:sub(1, #HERE) == HERE, tostring(message))
  assert(message:find(expected, 1, true), ("expected %q in: %s"):format(expected, message))
end

describe("mpi.op", function()
  local fn = "nmpi.op: argument 'fn': expected a Lua function, an expression of x and y, or a C function, got "
  local outside, other = 1, 2

  it("refuses a function with upvalues, and names them", function()
    refuses(function() mpi.op(function(a) a[0] = outside + other end) end,
      "nmpi.op: argument 'fn': expected a function without upvalues, for it runs in a Lua state of its own; this one "
      .. "uses 'outside', 'other'")
    local stripped = loadstring(string.dump(function(a) a[0] = outside + other end, true))
    refuses(function() mpi.op(stripped) end, "this one uses 'upvalue 1', 'upvalue 2'")
  end)

  it("refuses what is no function", function()
    refuses(function() mpi.op() end, fn .. "nil")
    refuses(function() mpi.op(3) end, fn .. "3")
    refuses(function() mpi.op({}) end, fn .. "a table")
    refuses(function() mpi.op(mpi.SUM) end, fn .. "cdata of type struct nmpi_op *")
    refuses(function() mpi.op(print) end, fn .. "a function")
    refuses(function() mpi.op(ffi.C.sched_yield) end, fn .. "cdata of type int ()")
    refuses(function() mpi.op "x +" end, "argument 'fn': expected an expression of x and y, got the string \"x +\"")
    for _, text in ipairs { "", "x, y", "x) + (y", "x; y", "..." } do
      refuses(function() mpi.op(text) end, "argument 'fn': expected an expression of x and y, got the string ")
    end
  end)

  it("needs no search paths", function()
    local path, cpath = package.path, package.cpath
    package.path, package.cpath = nil, nil
    local made, op = pcall(mpi.op, "x + y")
    package.path, package.cpath = path, cpath
    assert.is_true(made, op)
    op:free()
  end)

  it("refuses a callback, and what points to no function", function()
    local callback = ffi.cast("void (*)(void *, void *, int *, void *)", function() end)
    local null = ffi.cast("void (*)(void *, void *, int *, void *)", nil)
    local expected = "argument 'fn': expected a function of a library, got a pointer to none"
    refuses(function() mpi.op(callback) end, expected)
    refuses(function() mpi.op(null) end, expected)
    callback:free()
  end)

  it("refuses options that it does not know", function()
    refuses(function() mpi.op("x", 3) end, "argument 'opts': expected a table, got 3")
    refuses(function() mpi.op("x", { commutes = true }) end,
      "argument 'opts': expected the fields commute, dtype and cdef only, got the string \"commutes\"")
    refuses(function() mpi.op("x", { commute = 1 }) end, "argument 'opts.commute': expected a boolean, got 1")
    refuses(function() mpi.op("x", { cdef = 1 }) end, "argument 'opts.cdef': expected a string, got 1")
    refuses(function() mpi.op("x", { dtype = "no such" }) end, "argument 'dtype': expected int8 ... int64, ")
  end)

  it("refuses declarations that are wrong, and structs that they do not have", function()
    refuses(function() mpi.op("x", { cdef = "strct a;" }) end,
      "argument 'opts.cdef': declaration specifier expected near 'strct'")
    refuses(function() mpi.op("x", { dtype = "nmpi_spec_affine" }) end,
      "argument 'opts.dtype': nmpi_spec_affine has 16 bytes here, but is not declared by opts.cdef")
    local tiny = { dtype = "nmpi_spec_affine", cdef = "typedef struct { char c; } nmpi_spec_affine;" }
    refuses(function() mpi.op("x", tiny) end,
      "argument 'opts.dtype': nmpi_spec_affine has 16 bytes here, but 1 as opts.cdef declares it")
    refuses(function() mpi.op("x", { dtype = ffi.typeof "nmpi_spec_affine" }) end,
      "argument 'opts.dtype': expected the name of the struct, got ctype<struct ")
  end)
end)

describe("an operator", function()
  local op = "argument 'op': expected an operator made for "

  it("is refused on another dtype", function()
    local of_int = mpi.op(sum, { dtype = "int32" })
    local of_affine = mpi.op(compose, { dtype = "nmpi_spec_affine", cdef = AFFINE })
    local generic = mpi.op(first)
    local function reduction(operator, dtype)
      local x, y = mpi.zeros(3, dtype), mpi.zeros(3, dtype)
      return function() mpi.allreduce(x, y, operator, SELF) end, function() mpi.reduce(x, y, operator, 0, SELF) end,
        function() mpi.allreduce(mpi.IN_PLACE, y:slice { nil, nil, -1 }, operator, SELF) end
    end
    for _, case in ipairs {
      { of_int, "double", "the dtype of 'recvdata', double, got one made for int32" },
      { of_int, "uint32", "the dtype of 'recvdata', uint32, got one made for int32" },
      { of_affine, "double", "the dtype of 'recvdata', double, got one made for struct" },
      { of_affine, "struct nmpi_spec_colour", "the dtype of 'recvdata', struct, got one made for another struct" },
      { generic, "struct nmpi_spec_colour", "the struct of 'recvdata', got one made without a dtype" },
    } do
      for _, call in ipairs { reduction(case[1], case[2]) } do refuses(call, op .. case[3]) end
    end
    refuses(function() mpi.allreduce(1, of_int, SELF) end,
      op .. "the dtype of 'recvdata', double, got one made for int32")
    -- All ranks say so, not the root alone.
    local x = mpi.zeros(3)
    refuses(function() mpi.reduce(x, rank == 0 and mpi.zeros(3) or nil, of_int, 0) end, op)
    of_int:free()
    of_affine:free()
    generic:free()
  end)

  it("is refused once it has been freed", function()
    local freed = mpi.op(sum)
    freed:free()
    local x, y = mpi.zeros(3), mpi.zeros(3)
    local expected = "argument 'op': expected an operator, got one that has been freed"
    refuses(function() freed:free() end, "nmpi.op:free: " .. expected)
    refuses(function() mpi.allreduce(x, y, freed, SELF) end, "nmpi.allreduce: " .. expected)
    refuses(function() mpi.allreduce(1, freed, SELF) end, "nmpi.allreduce: " .. expected)
    refuses(function() mpi.reduce(x, y, freed, 0) end, "nmpi.reduce: " .. expected)
  end)

  it("is no NULL pointer", function()
    local null, x, y = ffi.cast("nmpi_op *", nil), mpi.zeros(3), mpi.zeros(3)
    local expected = "argument 'op': expected an operator such as SUM, got cdata of type struct nmpi_op *"
    refuses(function() mpi.allreduce(1, null, SELF) end, "nmpi.allreduce: " .. expected)
    refuses(function() mpi.reduce(x, y, null, 0, SELF) end, "nmpi.reduce: " .. expected)
  end)

  it("that MPI has defined is never freed", function()
    refuses(function() mpi.SUM:free() end, "nmpi.op:free: argument 'op': MPI_SUM cannot be freed")
    refuses(function() mpi.SUM.free() end, "nmpi.op:free: argument 'op': expected an operator, got nil")
    refuses(function() mpi.SUM.free(ffi.cast("nmpi_op *", nil)) end,
      "nmpi.op:free: argument 'op': expected an operator, got cdata of type struct nmpi_op *")
  end)

  it("that is dropped remains, and so does one that is freed first", function()
    for i = 1, 20 do
      local dropped = mpi.op(sum)
      if i % 2 == 0 then dropped:free() end
    end
    collectgarbage()
    collectgarbage()
    local op_ = mpi.op(sum)
    local status, total = mpi.allreduce(1, op_)
    op_:free()
    assert.same({ SUCCESS, size }, { status, total })
  end)
end)
