-- SPDX-License-Identifier: MIT
-- In every test the ranks communicate first; what went wrong is collected and judged after that. op_spec.lua tests
-- the operators.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"
local refuses = require "spec.support.refuses"

local SUCCESS, SELF = mpi.SUCCESS, mpi.COMM_SELF
local rank, size = mpi.rank(), mpi.size()

-- Notes a status that is no success, else what is wrong.
local function note(problems, label, status, wrong)
  local what = status ~= SUCCESS and "status " .. tostring(status) or wrong
  if what then problems[#problems + 1] = label .. ": " .. what end
end

describe("barrier", function()
  it("lets nobody pass before everybody has come", function()
    local path = mpi.zeros(1000, "char")
    if rank == 0 then
      local name = os.tmpname()
      os.remove(name)
      ffi.copy(path.data, name)
    end
    mpi.bcast(path)
    local name = ffi.string(path.data)
    local status, world_status, self_status, found, wrong = 0, 0, 0, 0, 0
    for turn = 0, size - 1 do
      if rank == turn then io.open(name, "w"):close() end
      status = status + mpi.barrier()
      local file = io.open(name)
      found = found + (file and 1 or 0)
      if file then file:close() end
      world_status = world_status + mpi.barrier(mpi.COMM_WORLD)
      if rank == turn then os.remove(name) end
      mpi.barrier()
      file = io.open(name)
      wrong = wrong + (file and 1 or 0)
      mpi.barrier()
      self_status = self_status + mpi.barrier(SELF)
    end
    assert.same({ 0, 0, 0 }, { status, world_status, self_status })
    assert.equal(size, found)
    assert.equal(0, wrong)
    assert.same({ SUCCESS }, { mpi.barrier(SELF) })
  end)
end)

-- ---- broadcast ----

describe("bcast", function()
  -- The layout is another one on each rank.
  local function bcast(problems, dtype, position, n, root, layouts)
    local layout = data.at(layouts or data.layouts_of(n), position + rank)
    local view, memory = data.holding(layout, data.pattern(n, dtype, data.seed(rank)))
    local status = mpi.bcast(view, root)
    note(problems, ("%d of %s, %s here, from %d"):format(n, dtype, layout, root), status,
      data.mismatch(layout, view, memory, data.pattern(n, dtype, data.seed(root))))
  end

  it("carries every dtype in every layout", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      for _, n in ipairs { 0, 1, 7, 1000 } do
        for j = 1, #data.layouts_of(n) do bcast(problems, dtype, j, n, (i + j) % size) end
      end
    end
    judge(problems)
  end)

  it("carries every layout from every root", function()
    local problems = {}
    for root = 0, size - 1 do
      for j = 1, #data.layouts do bcast(problems, "float", j, 24, root) end
    end
    judge(problems)
  end)

  it("carries large arrays of every dtype in every layout", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      for j = 1, #data.large_layouts(i) do bcast(problems, dtype, j, 200000, (i + j) % size, data.large_layouts(i)) end
    end
    judge(problems)
  end)

  it("carries what is too long for a single count", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      for j, most in ipairs { 1, 3, 100, 499 } do
        core.nmpi_set_max_count(most)
        bcast(problems, dtype, i + j, j == 1 and 7 or 1000, (i + j) % size)
      end
    end
    core.nmpi_set_max_count(2 ^ 31 - 1)
    judge(problems)
  end)

  it("comes from rank 0 unless told otherwise", function()
    local a, b = mpi.array { rank, rank + 0.5 }, mpi.array { rank + 7 }
    local results = { mpi.bcast(a) }
    local status = mpi.bcast(b, nil, mpi.COMM_WORLD)
    assert.same({ SUCCESS }, results)
    assert.equal(SUCCESS, status)
    assert.same({ 0, 0.5 }, a:totable())
    assert.same({ 7 }, b:totable())
  end)

  it("carries raw FFI arrays, from a const one too", function()
    local fixed, vla, grid = ffi.new "double[3]", ffi.new("int32_t[?]", 4), ffi.new "uint16_t[2][3]"
    fixed[2], vla[3], grid[1][2] = rank + 0.5, rank - 7, rank + 60000
    local source = ffi.new("const double[2]", { 1.5, -2.5 })
    local target = mpi.zeros { 2, 1 }
    local root = size - 1
    local status = mpi.bcast(fixed, root) + mpi.bcast(vla, root) + mpi.bcast(grid, root)
      + mpi.bcast(rank == root and source or target, root)
    assert.equal(4 * SUCCESS, status)
    assert.same({ root + 0.5, root - 7, root + 60000 }, { fixed[2], vla[3], grid[1][2] })
    if rank ~= root then assert.same({ { 1.5 }, { -2.5 } }, target:totable()) end
  end)

  it("on COMM_SELF leaves the data as it is", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      local layout = data.at(data.layouts, i)
      local contents = data.pattern(7, dtype, 99)
      local view, memory = data.holding(layout, contents)
      note(problems, dtype, mpi.bcast(view, 0, SELF), data.mismatch(layout, view, memory, contents))
    end
    judge(problems)
  end)
end)

-- ---- reductions ----

-- For each kind of dtype an operator, what rank r contributes at index k, and the result.
local function sum_part(r, k) return k % 7 + 3 * r end

local kinds = {
  number = {
    op = "SUM", part = sum_part,
    total = function(k) return size * (k % 7) + 3 * size * (size - 1) / 2 end,
  },
  bool = {
    op = "LOR", part = function(r, k) return k % (size + 1) == r end,
    total = function(k) return k % (size + 1) < size end,
  },
  pair = {
    op = "MAXLOC", part = function(r, k) return { k % 5 + (k % size == r and 10 or 0), 100 * r + k % 100 } end,
    total = function(k) return { k % 5 + 10, 100 * (k % size) + k % 100 } end,
  },
}

local reducible = {}
for _, dtype in ipairs(data.dtypes) do
  if dtype ~= "char" and not dtype:find "^struct" then reducible[#reducible + 1] = dtype end
end

local function kind_of(dtype)
  return dtype == "bool" and kinds.bool or data.is_pair(dtype) and kinds.pair or kinds.number
end

local function part(dtype)
  local f = kind_of(dtype).part
  return function(k) return f(rank, k) end
end

-- What this rank contributes, what comes out, or guards; long ones are kept while the next are of the same dtype.
local made, long_made = {}, {}

local function contents(what, dtype, n)
  if n > 1000 and long_made.dtype ~= dtype then long_made = { dtype = dtype } end
  local kept, key = n > 1000 and long_made or made, what .. dtype .. n
  if not kept[key] then
    local element = what == "part" and part(dtype) or what == "total" and kind_of(dtype).total
      or function() return data.guard(dtype) end
    kept[key] = data.pattern(n, dtype, 0, element)
  end
  return kept[key]
end

-- Each returns the status; what a rank receives is the total, or nothing.
local ways = {
  allreduce = function(sent, got, op) return mpi.allreduce(sent, got, op) end,
  reduce = function(sent, got, op, root) return mpi.reduce(sent, rank == root and got or nil, op, root) end,
  ["reduce with buffers everywhere"] = function(sent, got, op, root) return mpi.reduce(sent, got, op, root) end,
  ["allreduce in place"] = function(sent, got, op)
    got:assign(sent:reshape(got.shape))
    return mpi.allreduce(mpi.IN_PLACE, got, op)
  end,
  ["reduce in place"] = function(sent, got, op, root)
    if rank ~= root then return mpi.reduce(sent, nil, op, root) end
    got:assign(sent:reshape(got.shape))
    return mpi.reduce(mpi.IN_PLACE, got, op, root)
  end,
}

local function reduce(problems, way, dtype, from, to, n, root)
  local sent, sent_memory = data.holding(from, contents("part", dtype, n))
  local got, memory = data.guards(to, n, dtype)
  local status = ways[way](sent, got, mpi[kind_of(dtype).op], root)
  local label = ("%s to %d, %d of %s, %s to %s"):format(way, root, n, dtype, from, to)
  local expected = contents((way:find "^all" or rank == root) and "total" or "guards", dtype, n)
  note(problems, label, status, data.mismatch(to, got, memory, expected))
  note(problems, label .. ", what was sent", SUCCESS,
    data.mismatch(from, sent, sent_memory, contents("part", dtype, n)))
end

local names = {}
for way in pairs(ways) do names[#names + 1] = way end
table.sort(names) -- every rank takes them in the same order

for w, way in ipairs(names) do
  describe(way, function()
    it("combines every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(reducible) do
        for _, n in ipairs { 0, 1, 7, 1000 } do
          local layouts = data.layouts_of(n)
          for j, from in ipairs(layouts) do
            reduce(problems, way, dtype, from, data.at(layouts, i + j + w), n, (i + j) % size)
          end
        end
      end
      judge(problems)
    end)

    it("combines every layout into every other", function()
      local problems = {}
      for i, from in ipairs(data.layouts) do
        for j, to in ipairs(data.layouts) do
          reduce(problems, way, "double", from, to, 24, (i + j) % size)
        end
      end
      judge(problems)
    end)

    it("combines large arrays of every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(reducible) do
        local layouts = data.large_layouts(i + w)
        for j, from in ipairs(layouts) do
          reduce(problems, way, dtype, from, data.at(layouts, i + j + w), 200000, (i + j) % size)
        end
      end
      judge(problems)
    end)

    it("combines what is too long for a single count", function()
      local problems = {}
      for i, dtype in ipairs(reducible) do
        for j, most in ipairs { 3, 499, 1, 100 } do
          if (i + j + w) % 2 == 0 then
            core.nmpi_set_max_count(most)
            reduce(problems, way, dtype, data.at(data.layouts, i + j), data.at(data.layouts, i * 3 + w),
              j % 2 == 1 and 7 or 1000, (i + j) % size)
          end
        end
      end
      core.nmpi_set_max_count(2 ^ 31 - 1)
      judge(problems)
    end)
  end)
end

describe("the arguments of reductions", function()
  local triangle = size * (size + 1) / 2

  it("may be left out: the sum, to rank 0, of all", function()
    local a, b, c = mpi.array { rank + 1, -rank - 1 }, mpi.zeros(2), mpi.array { 5, 5 }
    local results = { mpi.allreduce(a, b) }
    local reduce_results = { mpi.reduce(a, c) }
    assert.same({ SUCCESS }, results)
    assert.same({ SUCCESS }, reduce_results)
    assert.same({ triangle, -triangle }, b:totable())
    assert.same(rank == 0 and { triangle, -triangle } or { 5, 5 }, c:totable())
  end)

  it("may be raw FFI arrays, of any length and shape", function()
    local fixed, vla, grid = ffi.new("double[6]", rank + 1), ffi.new("double[?]", 6), ffi.new "double[2][3]"
    local view = mpi.zeros({ 3, 2 }, "double", "F")
    local status = mpi.allreduce(fixed, vla)
    status = status + mpi.reduce(vla, grid, mpi.MAX, size - 1)
    status = status + mpi.allreduce(fixed, view, mpi.MIN)
    local single = ffi.new("int[1]", rank)
    status = status + mpi.allreduce(mpi.IN_PLACE, single, mpi.MAX)
    local constant = ffi.new("const int64_t[2]", { rank, 2LL ^ 40 })
    local sum = ffi.new "int64_t[2]"
    status = status + mpi.allreduce(constant, sum)
    assert.equal(SUCCESS, status)
    assert.equal(triangle, vla[0])
    assert.equal(triangle, vla[5])
    assert.equal(rank == size - 1 and triangle or 0, grid[1][2])
    assert.same({ { 1, 1 }, { 1, 1 }, { 1, 1 } }, view:totable())
    assert.equal(size - 1, single[0])
    assert.equal(triangle - size, tonumber(sum[0]))
    assert.equal(size * 2LL ^ 40, sum[1])
  end)

  it("may differ in shape where their sizes agree", function()
    local a, b = mpi.zeros { 2, 3, 4 }, mpi.zeros { 6, 4 }
    data.fill(a, 0, nil, function(k) return k * (rank + 1) end)
    local status = mpi.allreduce(a, b:transpose():transpose())
    assert.equal(SUCCESS, status)
    for k = 0, 23 do assert.equal(k * triangle, b:get(math.floor(k / 4), k % 4)) end
  end)

  it("may be views that repeat elements where they are sent", function()
    local base, sum, own = mpi.array { rank + 1, 10 * rank }, mpi.zeros { 2, 3 }, mpi.zeros(6)
    local columns = mpi.wrap(base.data, { 2, 3 }, nil, { 1, 0 })
    local status = mpi.allreduce(columns, sum)
    status = status + mpi.reduce(mpi.wrap(base.data, 6, nil, 0), rank == size - 1 and own or nil, mpi.MAX, size - 1)
    status = status + mpi.bcast(rank == 0 and columns or own, 0)
    assert.equal(SUCCESS, status)
    for j = 0, 2 do
      assert.same({ triangle, 10 * (triangle - size) }, { sum:get(0, j), sum:get(1, j) })
      if rank > 0 then assert.same({ 1, 0 }, { own[j], own[j + 3] }) end
    end
    if rank == 0 then assert.equal(size == 1 and 1 or 0, own[0]) end
  end)

  it("may be two interleaved views of one array", function()
    local a = mpi.zeros(20)
    local even, odd = a:slice { 0, 20, 2 }, a:slice { 1, 20, 2 }
    even:fill(rank + 1)
    local status = mpi.allreduce(even, odd)
    assert.equal(SUCCESS, status)
    for k = 0, 9 do assert.same({ rank + 1, triangle }, { a[2 * k], a[2 * k + 1] }) end
  end)

  it("reduce nothing on COMM_SELF", function()
    local problems = {}
    for i, dtype in ipairs(reducible) do
      local op, layout = mpi[kind_of(dtype).op], data.at(data.layouts, i)
      local expected = contents("part", dtype, 24)
      local sent = data.holding(layout, expected)
      local got, memory = data.guards(layout, 24, dtype)
      local function wrong() return data.mismatch(layout, got, memory, expected) end
      note(problems, "allreduce of " .. dtype, mpi.allreduce(sent, got, op, SELF), wrong())
      got, memory = data.guards(layout, 24, dtype)
      note(problems, "reduce of " .. dtype, mpi.reduce(sent, got, op, 0, SELF), wrong())
      note(problems, "in place, " .. dtype, mpi.allreduce(mpi.IN_PLACE, got, op, SELF), wrong())
    end
    judge(problems)
  end)
end)

describe("numbers", function()
  it("are reduced to numbers", function()
    local triangle, product = size * (size + 1) / 2, 1
    for r = 1, size do product = product * r end
    local results = {
      { mpi.allreduce(rank + 1) },
      { mpi.allreduce(rank + 1.5, mpi.SUM) },
      { mpi.allreduce(rank + 1, mpi.PROD, mpi.COMM_WORLD) },
      { mpi.allreduce(-rank / 4, mpi.MIN) },
      { mpi.allreduce(rank == 0 and math.huge or 2 ^ 60, mpi.MAX) },
      { mpi.allreduce(rank + 0.1, nil, SELF) },
      { mpi.allreduce(0 / 0) },
    }
    assert.same({ SUCCESS, triangle }, results[1])
    assert.same({ SUCCESS, triangle + size / 2 }, results[2])
    assert.same({ SUCCESS, product }, results[3])
    assert.same({ SUCCESS, -(size - 1) / 4 }, results[4])
    assert.same({ SUCCESS, math.huge }, results[5])
    assert.same({ SUCCESS, rank + 0.1 }, results[6])
    assert.equal(SUCCESS, results[7][1])
    assert.is_true(results[7][2] ~= results[7][2])
  end)

  it("go into arrays of one double", function()
    local a, b, raw = mpi.zeros(1), mpi.array({ 1, 2, 3 }):slice { 1, 2 }, ffi.new "double[1]"
    local root = size - 1
    local results = { mpi.allreduce(rank + 1, a, mpi.MAX) }
    local status = mpi.allreduce(rank + 1, raw, mpi.MIN)
    local reduce_status = mpi.reduce(2, rank == root and b or nil, mpi.PROD, root)
    assert.same({ SUCCESS }, results)
    assert.equal(SUCCESS, status)
    assert.equal(SUCCESS, reduce_status)
    assert.same({ size, 1 }, { a[0], raw[0] })
    assert.equal(rank == root and 2 ^ size or 2, b[0])
  end)
end)

-- ---- reductions that have begun ----

describe("a reduction that has begun", function()
  local triangle = size * (size + 1) / 2

  it("has the defaults of one that waits", function()
    local a, b, c = mpi.array { rank + 1, -rank - 1 }, mpi.zeros(2), mpi.array { 5, 5 }
    local status, request = mpi.iallreduce(a, b)
    local reduce_status, reduce_request = mpi.ireduce(a, rank == 0 and c or nil)
    local self_status, self_request = mpi.ireduce(mpi.IN_PLACE, a:copy(), mpi.PROD, 0, SELF)
    local waited = mpi.waitall { request, reduce_request, self_request }
    assert.same({ SUCCESS, SUCCESS, SUCCESS, SUCCESS }, { status, reduce_status, self_status, waited })
    assert.same({ triangle, -triangle }, b:totable())
    assert.same(rank == 0 and { triangle, -triangle } or { 5, 5 }, c:totable())
  end)

  it("keeps the memory of both sides", function()
    local function begin(i)
      local sent, got = mpi.zeros(2000):fill(rank + i), mpi.zeros(4000)
      local seen = got:slice { 1, 2 }
      return seen, select(2, mpi.iallreduce(sent, got:slice { nil, 2000 }))
    end
    local function begin_raw(i)
      local got = mpi.zeros(100)
      return got, select(2, mpi.iallreduce(ffi.new("double[?]", 100, rank + i), got))
    end
    local seen, requests = {}, {}
    for i = 1, 20 do
      seen[i], requests[i] = (i % 2 == 0 and begin or begin_raw)(i)
      collectgarbage()
      mpi.zeros(2000):fill(-1)
    end
    local status = mpi.waitall(requests)
    assert.equal(SUCCESS, status)
    for i = 1, 20 do assert.equal(triangle + size * (i - 1), seen[i][i % 2 == 0 and 0 or 99]) end
  end)

  it("goes with other requests", function()
    local next_rank, previous = (rank + 1) % size, (rank - 1) % size
    for _, most in ipairs { 2 ^ 31 - 1, 5 } do
      for _, complete in ipairs { "waitall", "waitany", "waitsome", "testall", "testany", "testsome" } do
        core.nmpi_set_max_count(most)
        local x, y = mpi.zeros(12):fill(rank), mpi.zeros(24):slice { nil, nil, 2 }
        local token, sums, list = mpi.zeros(1), mpi.zeros { 3, 12 }, {}
        list[1] = select(2, mpi.iallreduce(x, y))
        list[2] = select(2, mpi.irecv(token, previous, 5))
        list[3] = select(2, mpi.ireduce(x, sums:row(1), mpi.MAX, 0))
        list[4] = select(2, mpi.iallreduce(x, sums:row(2), mpi.MIN))
        list[5] = select(2, mpi.isend(mpi.zeros(1):fill(rank), next_rank, 5))
        core.nmpi_set_max_count(2 ^ 31 - 1)
        local left, status = 5, SUCCESS
        while left > 0 and status == SUCCESS do
          status = mpi[complete](list)
          left = 0
          for i = 1, 5 do left = left + (list[i] == mpi.REQUEST_NULL and 0 or 1) end
        end
        assert.equal(SUCCESS, status)
        assert.same({ triangle - size, triangle - size, previous }, { y[0], y[11], token[0] })
        assert.same({ rank == 0 and size - 1 or 0, 0 }, { sums:get(1, 11), sums:get(2, 11) })
      end
    end
  end)

  it("is not waited for while another operation can be completed", function()
    -- Every rank but the root has done its part; the root begins when it has heard of that.
    core.nmpi_set_max_count(3)
    local x, sum, word = mpi.zeros(10):fill(1), mpi.zeros(10), mpi.zeros(1)
    local comm = mpi.COMM_WORLD:dup()
    local list = { mpi.REQUEST_NULL, mpi.REQUEST_NULL }
    if rank > 0 then
      list[1] = select(2, mpi.ireduce(x, nil, nil, 0, comm))
      list[2] = select(2, mpi.irecv(word, 0, 1))
      for other = 1, 2 do
        if list[other] ~= mpi.REQUEST_NULL then mpi.test(list[other]) end
      end
      mpi.testany { list[1] }
      mpi.testsome { list[1] }
      mpi.send(word, 0, 2)
      while list[2] ~= mpi.REQUEST_NULL do mpi.waitsome(list) end
    else
      for r = 1, size - 1 do mpi.send(word, r, 1) end
      for r = 1, size - 1 do mpi.recv(word, r, 2) end
      list[1] = select(2, mpi.ireduce(x, sum, nil, 0, comm))
    end
    local status = mpi.waitall(list)
    core.nmpi_set_max_count(2 ^ 31 - 1)
    comm:free()
    assert.equal(SUCCESS, status)
    assert.equal(rank == 0 and size or 0, sum[9])
  end)

  it("tells nothing by info, and cannot be cancelled", function()
    local info, got = mpi.status(), mpi.zeros(3)
    local _, request = mpi.iallreduce(mpi.zeros(3):fill(2), got)
    refuses(function() mpi.cancel(request) end, "nmpi.cancel", "'request': expected a send or receive, got iallreduce")
    local status = mpi.wait(request, info)
    assert.same({ SUCCESS, SUCCESS }, { status, mpi.cancel(request) })
    assert.same({ mpi.ANY_SOURCE, mpi.ANY_TAG, 0, false }, { info.source, info.tag, info:count(), info.cancelled })
    assert.equal(2 * size, got[2])
  end)

  it("is refused what one that waits is", function()
    local a, b = mpi.zeros(3), mpi.zeros(3)
    for name, call in pairs {
      ireduce = function(x, y, op, ...) return mpi.ireduce(x, y, op, nil, ...) end,
      iallreduce = mpi.iallreduce,
    } do
      local where = "nmpi." .. name
      refuses(function() call(a, a, nil, SELF) end, where, "'recvdata': expected memory of its own")
      refuses(function() call(a, mpi.zeros(4), nil, SELF) end, where, "'recvdata': expected as many elements")
      refuses(function() call(a, mpi.zeros(3, "float"), nil, SELF) end, where, "'recvdata': expected")
      refuses(function() call(a, nil, nil, SELF) end, where, "'recvdata': expected an array, got nil")
      refuses(function() call(nil, b, nil, SELF) end, where, "'senddata': expected an array, got nil")
      refuses(function() call(1, b, nil, SELF) end, where, "'senddata': expected an array")
      refuses(function() call(a, 1, nil, SELF) end, where, "'recvdata': expected an array")
      refuses(function() call(a, b, mpi.BAND, SELF) end, where, "'op': MPI_BAND is not defined")
      refuses(function() call(a, b, 7, SELF) end, where, "'op': expected an operator")
      refuses(function() call(a, b, nil, 7) end, where, "'comm': expected a communicator")
      refuses(function() call(a, mpi.IN_PLACE, nil, SELF) end, where, "'recvdata': IN_PLACE is not allowed here")
      refuses(function() call(a, mpi.wrap(ffi.new "const double[3]"), nil, SELF) end, where, "writable")
    end
    refuses(function() mpi.ireduce(a, b, nil, size) end, "nmpi.ireduce", "'root'")
  end)

  it("takes no more memory each time", function()
    local a, b, big, other = mpi.zeros(7), mpi.zeros(14):slice { nil, nil, 2 }, mpi.zeros(20000), mpi.zeros(20000)
    local function run(n)
      for _ = 1, n do
        local _, r = mpi.iallreduce(a, b, nil, SELF)
        local _, s = mpi.ireduce(big:reshape { 100, 200 }:transpose(), other, nil, 0, SELF)
        mpi.waitall { r, s }
      end
      collectgarbage()
      collectgarbage()
      return mpi.info().memory
    end
    assert.equal(run(10), run(200))
  end)
end)

-- ---- compiled code ----

do
  local a, b = data.new("C", 7, "double", 1), mpi.zeros(7)
  local view, other = data.new("stepped", 7, "double", 1), data.guards("column", 7, "double")
  local fixed, other_fixed = ffi.new "double[12]", ffi.new "double[12]"
  local vla, grid = ffi.new("int32_t[?]", 12), ffi.new "int32_t[3][4]"
  local one = mpi.zeros(1)
  local MAX, IN_PLACE = mpi.MAX, mpi.IN_PLACE

  hot.define(it, pending, {
    { "barrier", function(n) for _ = 1, n do mpi.barrier(SELF) end end },
    { "bcast", function(n) for _ = 1, n do mpi.bcast(a, 0, SELF) end end },
    { "bcast of a view", function(n) for _ = 1, n do mpi.bcast(view, nil, SELF) end end },
    { "bcast of a raw array", function(n) for _ = 1, n do mpi.bcast(grid, 0, SELF) end end },
    { "bcast of a raw VLA", function(n) for _ = 1, n do mpi.bcast(vla, 0, SELF) end end },
    { "reduce", function(n) for _ = 1, n do mpi.reduce(a, b, MAX, 0, SELF) end end },
    { "reduce of views", function(n) for _ = 1, n do mpi.reduce(view, other, nil, nil, SELF) end end },
    { "reduce of raw arrays", function(n) for _ = 1, n do mpi.reduce(fixed, other_fixed, MAX, 0, SELF) end end },
    { "reduce of raw VLAs", function(n) for _ = 1, n do mpi.reduce(vla, grid, MAX, 0, SELF) end end },
    { "reduce of a number", function(n) for i = 1, n do mpi.reduce(i, one, nil, 0, SELF) end end },
    { "allreduce", function(n) for _ = 1, n do mpi.allreduce(a, b, MAX, SELF) end end },
    { "allreduce of views", function(n) for _ = 1, n do mpi.allreduce(view, other, nil, SELF) end end },
    { "allreduce in place", function(n) for _ = 1, n do mpi.allreduce(IN_PLACE, b, MAX, SELF) end end },
    { "allreduce of raw arrays", function(n) for _ = 1, n do mpi.allreduce(fixed, other_fixed, MAX, SELF) end end },
    { "allreduce of raw VLAs", function(n) for _ = 1, n do mpi.allreduce(vla, grid, MAX, SELF) end end },
    { "allreduce of a raw array in place", function(n)
      for _ = 1, n do mpi.allreduce(IN_PLACE, fixed, MAX, SELF) end
    end },
    { "ireduce and wait", function(n)
      for _ = 1, n do
        local _, r = mpi.ireduce(a, b, MAX, 0, SELF)
        mpi.wait(r)
      end
    end },
    { "iallreduce and wait, of views", function(n)
      for _ = 1, n do
        local _, r = mpi.iallreduce(view, other, nil, SELF)
        mpi.wait(r)
      end
    end },
    { "iallreduce and wait, in place", function(n)
      for _ = 1, n do
        local _, r = mpi.iallreduce(IN_PLACE, b, MAX, SELF)
        mpi.wait(r)
      end
    end },
    { "iallreduce and wait, of raw arrays", function(n)
      for _ = 1, n do
        local _, r = mpi.iallreduce(fixed, other_fixed, MAX, SELF)
        mpi.wait(r)
      end
    end },
    { "allreduce of a number", function(n)
      local total = 0
      for i = 1, n do
        local status, x = mpi.allreduce(i, MAX, SELF)
        total = total + status + x
      end
      assert(total == n * (n + 1) / 2)
    end },
  })
end
