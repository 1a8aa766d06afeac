-- SPDX-License-Identifier: MIT
-- Every operator on every dtype, against the same reduction done in Lua. All values are such that the result is
-- exact in any order.

local ffi = require "ffi"
local bit = require "bit"
local mpi = require "nmpi"
local data = require "spec.support.data"
local judge = require "spec.support.judge"

local rank, size = mpi.rank(), mpi.size()

local INTEGERS = { "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64" }
local REALS = { "float", "double" }
local COMPLEX = { "complex float", "complex double" }
local PAIRS = { "float_int", "double_int", "long_int", "short_int", "2int" }

local function join(...)
  local list = {}
  for _, part in ipairs { ... } do
    for _, name in ipairs(part) do list[#list + 1] = name end
  end
  return list
end

local ON = {
  SUM = join(INTEGERS, REALS, COMPLEX), PROD = join(INTEGERS, REALS, COMPLEX),
  MAX = join(INTEGERS, REALS), MIN = join(INTEGERS, REALS),
  LAND = join(INTEGERS, { "bool" }), LOR = join(INTEGERS, { "bool" }), LXOR = join(INTEGERS, { "bool" }),
  BAND = INTEGERS, BOR = INTEGERS, BXOR = INTEGERS,
  MAXLOC = PAIRS, MINLOC = PAIRS,
}
local NAMES = { "SUM", "PROD", "MAX", "MIN", "LAND", "BAND", "LOR", "BOR", "LXOR", "BXOR", "MAXLOC", "MINLOC" }

-- ---- the reduction of two values in Lua: integers are int64_t or uint64_t, complex numbers { re, im } ----

local function truth(x)
  return x ~= false and x ~= 0
end

-- A boolean for bool, else 1 or 0.
local function logical(x, like)
  if type(like) == "boolean" then return x end
  return x and 1 or 0
end

local combine = {
  SUM = function(x, y)
    return type(x) == "table" and { x[1] + y[1], x[2] + y[2] } or x + y
  end,
  PROD = function(x, y)
    return type(x) == "table" and { x[1] * y[1] - x[2] * y[2], x[1] * y[2] + x[2] * y[1] } or x * y
  end,
  MAX = function(x, y) return x > y and x or y end,
  MIN = function(x, y) return x < y and x or y end,
  LAND = function(x, y) return logical(truth(x) and truth(y), x) end,
  LOR = function(x, y) return logical(truth(x) or truth(y), x) end,
  LXOR = function(x, y) return logical(truth(x) ~= truth(y), x) end,
  BAND = bit.band, BOR = bit.bor, BXOR = bit.bxor,
  MAXLOC = function(x, y)
    if x[1] == y[1] then return { x[1], math.min(x[2], y[2]) } end
    return x[1] > y[1] and x or y
  end,
  MINLOC = function(x, y)
    if x[1] == y[1] then return { x[1], math.min(x[2], y[2]) } end
    return x[1] < y[1] and x or y
  end,
}

-- ---- what each rank contributes ----

local function wide(dtype, x)
  return ffi.cast(dtype == "uint64" and "uint64_t" or "int64_t", x)
end

-- What moves a small number to the upper end of an integer type.
local function scale(dtype)
  return wide(dtype, 2) ^ (ffi.sizeof(dtype .. "_t") * 8 - 8)
end

local function is_unsigned(dtype)
  return dtype:sub(1, 1) == "u"
end

-- The value of a rank at an index, by operator and kind of dtype.
local integer = {
  SUM = function(dtype, r, k)
    local x = (r * 7 + k * 5) % 61
    return wide(dtype, is_unsigned(dtype) and x or x - 30) * scale(dtype)
  end,
  PROD = function(dtype, r, k)
    local x = (r + k) % 3 + 1
    if (r + 2 * k) % 5 < 2 and not is_unsigned(dtype) then x = -x end
    return wide(dtype, x) * (r == 0 and scale(dtype) or 1)
  end,
  full = function(dtype, r, k)
    local bits = ffi.sizeof(dtype .. "_t") * 8
    local lowest = is_unsigned(dtype) and wide(dtype, 0) or -wide(dtype, 2) ^ (bits - 1)
    if k == 0 and r == 0 then return lowest end
    if k == 1 and r == size - 1 then return -(lowest + 1) + (is_unsigned(dtype) and scale(dtype) * 256 or 0) end
    return wide(dtype, data.value[dtype](data.seed(r) + k))
  end,
  logical = function(dtype, r, k)
    local few = { 0, 1, 2, is_unsigned(dtype) and 128 or -1, scale(dtype) }
    return wide(dtype, few[(r * 3 + k * 2 + math.floor(k / 5)) % 5 + 1])
  end,
}
for _, name in ipairs { "MAX", "MIN", "BAND", "BOR", "BXOR" } do integer[name] = integer.full end
for _, name in ipairs { "LAND", "LOR", "LXOR" } do integer[name] = integer.logical end

local function small(r, k)
  return (r * 5 + k * 3) % 11 - 5
end

local function contribution(op, dtype, r, k)
  if dtype:find "int%d" then return integer[op](dtype, r, k) end
  if dtype == "bool" then return (r * 3 + k * 5 + math.floor(k / 7)) % 3 > 0 end
  if op == "MAXLOC" or op == "MINLOC" then
    -- Many are equal, and the lower rank has the higher index.
    return { small(r, k) % 3 - 1, (size - r) * 100 + k }
  end
  if dtype:find "complex" then return { small(r, k) / 2, 1 + small(k, r) } end
  if op == "PROD" then return ({ 0.5, -2, 1.5, 4, -0.25 })[(r + k) % 5 + 1] end
  if k < 2 and r == size - 1 then return k == 0 and math.huge or -math.huge end
  return small(r, k) * 1024 + 0.125
end

local function stored(dtype, x)
  if dtype:find "complex" then return ffi.new(dtype, x[1], x[2]) end
  return x
end

local function contributed(op, dtype, r)
  return function(k) return stored(dtype, contribution(op, dtype, r, k)) end
end

local function combined(op, dtype)
  return function(k)
    local x = contribution(op, dtype, 0, k)
    for r = 1, size - 1 do x = combine[op](x, contribution(op, dtype, r, k)) end
    return stored(dtype, x)
  end
end

-- ---- the tests ----

local cases = {}
for _, op in ipairs(NAMES) do
  for _, dtype in ipairs(ON[op]) do cases[#cases + 1] = { op = op, dtype = dtype } end
end

-- Reduces n elements from one layout into another, by a function that returns a status and whether this rank is to get
-- the result.
local function reduce(problems, label, case, from, to, n, call)
  local sent, sent_memory = data.new(from, n, case.dtype, 0, nil, contributed(case.op, case.dtype, rank))
  local got, memory = data.guards(to, n, case.dtype)
  local status, receives = call(sent, got, mpi[case.op], case)
  local expected = select(2, data.guards(to, n, case.dtype))
  if receives then expected = select(2, data.new(to, n, case.dtype, 0, nil, combined(case.op, case.dtype))) end
  local same = select(2, data.new(from, n, case.dtype, 0, nil, contributed(case.op, case.dtype, rank)))
  local what = status ~= mpi.SUCCESS and "status " .. status or data.difference(memory, expected)
    or data.difference(sent_memory, same)
  if what then
    problems[#problems + 1] = ("%s, %s of %d %s, %s to %s: %s"):format(label, case.op, n, case.dtype, from, to, what)
  end
end

local function allreduce(sent, got, op)
  return mpi.allreduce(sent, got, op), true
end

local function reduce_to(root)
  return function(sent, got, op)
    return mpi.reduce(sent, rank == root and got or nil, op, root), rank == root
  end
end

-- The data is in the receive buffer already.
local function in_place(_, got, op, case)
  data.fill(got, 0, nil, contributed(case.op, case.dtype, rank))
  return mpi.allreduce(mpi.IN_PLACE, got, op), true
end

-- ---- the same without waiting ----

-- The ways to complete a request; each returns the status.
local complete = {
  mpi.wait,
  function(r)
    local status, done
    repeat status, done = mpi.test(r) until done
    return status
  end,
  function(r) return mpi.waitall { mpi.REQUEST_NULL, r } end,
  function(r)
    local status, done
    repeat status, done = mpi.testall { r } until done
    return status
  end,
  function(r)
    local status, index = mpi.waitany { mpi.REQUEST_NULL, r }
    return index == 2 and status or "none"
  end,
  function(r)
    local status, done, index
    repeat status, done, index = mpi.testany { r } until done
    return index == 1 and status or "none"
  end,
  function(r)
    local status, indices = mpi.waitsome { r, r }
    return indices[1] and status or "none"
  end,
  function(r)
    local status, indices
    repeat status, indices = mpi.testsome { r } until indices[1]
    return status
  end,
}

-- Completes what a nonblocking reduction has returned, each time in another way.
local ways = 0
local function completed(status, r)
  if status ~= mpi.SUCCESS then return status end
  ways = ways + 1
  return data.at(complete, ways)(r)
end

local function iallreduce(sent, got, op)
  return completed(mpi.iallreduce(sent, got, op)), true
end

local function ireduce_to(root)
  return function(sent, got, op)
    return completed(mpi.ireduce(sent, rank == root and got or nil, op, root)), rank == root
  end
end

local function without_waiting_in_place(root)
  return function(sent, got, op, case)
    if rank == root or not root then data.fill(got, 0, nil, contributed(case.op, case.dtype, rank)) end
    if not root then return completed(mpi.iallreduce(mpi.IN_PLACE, got, op)), true end
    if rank == root then return completed(mpi.ireduce(mpi.IN_PLACE, got, op, root)), true end
    return completed(mpi.ireduce(sent, nil, op, root)), false
  end
end

describe("the operators", function()
  it("are there by name and in mpi.Operator", function()
    local names = {}
    for name, operator in pairs(mpi.Operator) do
      names[#names + 1] = name
      assert.equal(operator, mpi[name])
      for other, another in pairs(mpi.Operator) do
        assert.equal(name == other, operator == another)
      end
    end
    local expected = { unpack(NAMES) }
    table.sort(names)
    table.sort(expected)
    assert.same(expected, names)
  end)

  it("combine all ranks in allreduce, on every dtype", function()
    local problems = {}
    for i, case in ipairs(cases) do
      reduce(problems, "allreduce", case, data.at(data.layouts, i), data.at(data.layouts, i * 3), 24, allreduce)
    end
    judge(problems)
  end)

  it("combine all ranks in reduce, on every dtype", function()
    local problems = {}
    for i, case in ipairs(cases) do
      local root = i % size
      reduce(problems, "reduce to " .. root, case, data.at(data.layouts, i * 3), data.at(data.layouts, i), 24,
        reduce_to(root))
    end
    judge(problems)
  end)

  it("combine all ranks in place, on every dtype", function()
    local problems = {}
    for i, case in ipairs(cases) do
      reduce(problems, "in place", case, "C", data.at(data.layouts, i), 24, in_place)
    end
    judge(problems)
  end)

  it("combine all ranks without waiting, on every dtype", function()
    local problems = {}
    for i, case in ipairs(cases) do
      local root, from, to = i % size, data.at(data.layouts, i), data.at(data.layouts, i * 3)
      reduce(problems, "iallreduce", case, to, from, 24, iallreduce)
      reduce(problems, "ireduce to " .. root, case, from, to, 24, ireduce_to(root))
      reduce(problems, "iallreduce in place", case, "C", to, 24, without_waiting_in_place())
      reduce(problems, "ireduce in place to " .. root, case, from, to, 24, without_waiting_in_place(root))
    end
    judge(problems)
  end)

  it("combine large arrays without waiting", function()
    local problems = {}
    for i, case in ipairs {
      { op = "SUM", dtype = "double" }, { op = "MIN", dtype = "uint16" }, { op = "MAXLOC", dtype = "long_int" },
    } do
      local from, to = data.at(data.layouts, i), data.at(data.layouts, i * 5)
      for _, n in ipairs { 0, 1, 1000, 50000 } do
        reduce(problems, "iallreduce", case, from, to, n, iallreduce)
        reduce(problems, "ireduce", case, from, to, n, ireduce_to(size - 1))
        reduce(problems, "ireduce in place", case, from, to, n, without_waiting_in_place(size - 1))
      end
    end
    judge(problems)
  end)

  it("combine in pieces what is too much for one call of MPI", function()
    local set_max_count = ffi.load(package.searchpath("nmpi.core_" .. mpi.info().abi, package.cpath)).nmpi_set_max_count
    local problems = {}
    assert.equal(0, set_max_count(7))
    for i = 1, 2 * #complete do
      local case = data.at(cases, i)
      reduce(problems, "iallreduce in pieces", case, "C", "backwards", 24, iallreduce)
      reduce(problems, "ireduce in pieces", case, "stepped", "C", 24, ireduce_to(i % size))
    end
    assert.equal(0, set_max_count(2 ^ 31 - 1))
    judge(problems)
  end)

  it("combine large arrays", function()
    local problems = {}
    for i, case in ipairs {
      { op = "SUM", dtype = "double" }, { op = "MAX", dtype = "int16" }, { op = "BXOR", dtype = "uint64" },
      { op = "PROD", dtype = "complex float" }, { op = "MINLOC", dtype = "short_int" }, { op = "LXOR", dtype = "bool" },
    } do
      local from, to = data.at(data.layouts, i), data.at(data.layouts, i * 5)
      reduce(problems, "allreduce", case, from, to, 1000, allreduce)
      reduce(problems, "reduce", case, from, to, 1000, reduce_to(size - 1))
      if i < 3 then reduce(problems, "allreduce", case, from, to, 200000, allreduce) end
    end
    judge(problems)
  end)

  it("find the lowest index where values are equal", function()
    local function result(op, dtype, value, index)
      local got = mpi.zeros(1, dtype)
      local status = mpi.allreduce(mpi.array({ { value, index } }, dtype), got, op)
      return { status, tonumber(got[0].value), got[0].index }
    end
    for _, dtype in ipairs(PAIRS) do
      local equal_max = result(mpi.MAXLOC, dtype, 7, size - rank)
      local equal_min = result(mpi.MINLOC, dtype, -7, size - rank)
      local last = result(mpi.MAXLOC, dtype, rank, rank)
      local first = result(mpi.MINLOC, dtype, rank, rank + 10)
      assert.same({ mpi.SUCCESS, 7, 1 }, equal_max)
      assert.same({ mpi.SUCCESS, -7, 1 }, equal_min)
      assert.same({ mpi.SUCCESS, size - 1, size - 1 }, last)
      assert.same({ mpi.SUCCESS, 0, 10 }, first)
    end
  end)

  it("leave the values of a single rank as they are", function()
    local problems = {}
    for i, case in ipairs(cases) do
      local layout = data.at(data.layouts, i)
      local sent, sent_memory = data.new(layout, 24, case.dtype, 0, nil, contributed(case.op, case.dtype, rank))
      local got, memory = data.guards(layout, 24, case.dtype)
      local status
      if i % 2 == 0 then
        status = mpi.allreduce(sent, got, mpi[case.op], mpi.COMM_SELF)
      else
        status = mpi.reduce(sent, got, mpi[case.op], 0, mpi.COMM_SELF)
      end
      local what = status ~= mpi.SUCCESS and "status " .. status or data.difference(memory, sent_memory)
      if what then problems[#problems + 1] = case.op .. " on " .. case.dtype .. ": " .. what end
    end
    judge(problems)
  end)
end)

describe("an operator that is not defined on a dtype", function()
  it("is an error", function()
    local count = 0
    for _, op in ipairs(NAMES) do
      local defined = {}
      for _, dtype in ipairs(ON[op]) do defined[dtype] = true end
      for _, dtype in ipairs(data.dtypes) do
        if not defined[dtype] then
          count = count + 1
          local a, b = mpi.zeros(3, dtype), mpi.zeros(3, dtype)
          local shown = dtype:gsub("^struct .*", "struct")
          local function message(routine, side)
            return ("nmpi.%s: argument 'op': MPI_%s is not defined on the dtype of '%s', %s"):format(routine, op, side,
              shown)
          end
          assert.error_matches(function() mpi.allreduce(a, b, mpi[op], mpi.COMM_SELF) end,
            message("allreduce", "recvdata"), 1, true)
          assert.error_matches(function() mpi.reduce(a, b, mpi[op], 0, mpi.COMM_SELF) end,
            message("reduce", "recvdata"), 1, true)
          -- All ranks say so, not the root alone.
          assert.error_matches(function() mpi.reduce(a, rank == 0 and b or nil, mpi[op], 0) end,
            message("reduce", rank == 0 and "recvdata" or "senddata"), 1, true)
        end
      end
    end
    assert.equal(12 * 21 - #cases, count)
  end)

  it("is one for numbers too, which are doubles", function()
    for _, op in ipairs { "LAND", "BAND", "LOR", "BOR", "LXOR", "BXOR", "MAXLOC", "MINLOC" } do
      assert.error_matches(function() mpi.allreduce(1, mpi[op], mpi.COMM_SELF) end,
        "nmpi.allreduce: argument 'op': MPI_" .. op .. " is not defined on the dtype of 'recvdata', double", 1, true)
    end
  end)
end)
