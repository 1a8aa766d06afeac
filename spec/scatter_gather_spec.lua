-- SPDX-License-Identifier: MIT
-- Scatter, gather and allgather. In every test the ranks communicate first; what went wrong is collected and judged
-- after that.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local SUCCESS, SELF, IN_PLACE = mpi.SUCCESS, mpi.COMM_SELF, mpi.IN_PLACE
local rank, size = mpi.rank(), mpi.size()

local HERE = debug.getinfo(1, "S").short_src

local layouts = { unpack(data.layouts) }
layouts[#layouts + 1] = "block8"

local function layouts_of(n)
  local list = { unpack(layouts) }
  if n == 1 then list[#list + 1] = "scalar" end
  return list
end

-- ---- one call on arrays of any layout ----

-- What the part of rank r holds that comes from rank `origin`; in a gather they are the same.
local function part(t, origin, r)
  return data.pattern(t.n, t.dtype, data.seed(origin * size + r))
end

-- What an array has room for: a part of each rank (or one, if r is given) and more.
local function room(t, r)
  return (r and 1 or size) * t.n + t.more
end

-- Large contents of one dtype.
local kept = {}

-- Contents of that size: what origin(q) sends to each rank q (or to r alone), and guards where that is nil.
local function contents(t, origin, r)
  local n, first, last, key = t.n, r or 0, r or size - 1, { t.n, t.more }
  for q = first, last do key[#key + 1] = q .. "from" .. (origin(q) or "nobody") end
  key = table.concat(key, " ")
  if kept.dtype ~= t.dtype then kept = { dtype = t.dtype } end
  local a = kept[key]
  if a then return a end
  a = mpi.empty(room(t, r), t.dtype)
  a:fill(data.guard(t.dtype))
  for q = first, last do
    local from, start = origin(q), (q - first) * n
    if from then a:slice({ start, start + n }):assign(part(t, from, q)) end
  end
  if n > 1000 then kept[key] = a end
  return a
end

local function always(origin)
  return function() return origin end
end

local function nobody() end

local function itself(r) return r end

-- Each makes a call and then `expect`s that a view in a layout holds certain contents. t tells the layouts `from` and
-- `to`, the elements `n` of each part, `more` that the arrays hold, the `count` that is passed, the root, and whether
-- arrays are passed where MPI takes nil.
local ways = {}

function ways.scatter(t, expect)
  local is_root = rank == t.root
  local all = contents(t, always(t.root))
  local sent, sent_memory = data.holding(t.from, all)
  local got, memory = data.guards(t.to, room(t, rank), t.dtype)
  local status = mpi.scatter((is_root or t.everywhere) and sent or nil, got, t.count, t.root)
  expect("data", t.to, got, memory, contents(t, always(t.root), rank))
  expect("what was sent", t.from, sent, sent_memory, all)
  return status
end

ways["scatter in place"] = function(t, expect)
  local is_root = rank == t.root
  local all = contents(t, always(t.root))
  local sent, sent_memory = data.holding(t.from, all)
  local got, memory = data.guards(t.to, room(t, rank), t.dtype)
  local status = mpi.scatter((is_root or t.everywhere) and sent or nil, is_root and IN_PLACE or got, t.count, t.root)
  expect("data", t.to, got, memory, contents(t, is_root and nobody or always(t.root), rank))
  expect("what was sent", t.from, sent, sent_memory, all)
  return status
end

function ways.gather(t, expect)
  local is_root = rank == t.root
  local own = contents(t, itself, rank)
  local sent, sent_memory = data.holding(t.from, own)
  local got, memory = data.guards(t.to, room(t), t.dtype)
  local status = mpi.gather(sent, (is_root or t.everywhere) and got or nil, t.count, t.root)
  expect("data", t.to, got, memory, contents(t, is_root and itself or nobody))
  expect("what was sent", t.from, sent, sent_memory, own)
  return status
end

local function only_own(r)
  return r == rank and r or nil
end

ways["gather in place"] = function(t, expect)
  local is_root = rank == t.root
  local sent = data.holding(t.from, contents(t, itself, rank))
  local got, memory = data.holding(t.to, contents(t, only_own))
  local status = mpi.gather(is_root and IN_PLACE or sent, (is_root or t.everywhere) and got or nil, t.count, t.root)
  expect("data", t.to, got, memory, contents(t, is_root and itself or only_own))
  return status
end

function ways.allgather(t, expect)
  local own = contents(t, itself, rank)
  local sent, sent_memory = data.holding(t.from, own)
  local got, memory = data.guards(t.to, room(t), t.dtype)
  local status = mpi.allgather(sent, got, t.count)
  expect("data", t.to, got, memory, contents(t, itself))
  expect("what was sent", t.from, sent, sent_memory, own)
  return status
end

ways["allgather in place"] = function(t, expect)
  local got, memory = data.holding(t.to, contents(t, only_own))
  local status = mpi.allgather(IN_PLACE, got, t.count)
  expect("data", t.to, got, memory, contents(t, itself))
  return status
end

local names = { "scatter", "scatter in place", "gather", "gather in place", "allgather", "allgather in place" }

local function run(problems, way, t)
  local label = ("%s, root %d, %d of %s%s, %s to %s"):format(way, t.root, t.n, t.dtype,
    t.count and (" of " .. t.n + t.more) or "", t.from, t.to)
  local function note(what)
    problems[#problems + 1] = label .. ": " .. what
  end
  local status = ways[way](t, function(name, ...)
    local what = data.mismatch(...)
    if what then note(name .. ": " .. what) end
  end)
  if status ~= SUCCESS then note("status " .. tostring(status)) end
end

-- The i-th case: its root and buffers come by turns, all ranks alike.
local function case(i, dtype, n, from, to)
  return { dtype = dtype, n = n, more = 0, root = i % size, everywhere = i % 3 == 0, from = from, to = to }
end

-- A whole of several ranks has no 0-d layout, whatever the size of the parts.
local function fitting(way, layout)
  local parted = way:find "^scatter" and "from" or "to"
  return function(t)
    t[parted] = t[parted] == "scalar" and size > 1 and layout or t[parted]
    return t
  end
end

for w, way in ipairs(names) do
  local in_place = way:find "in place" ~= nil
  local fit = fitting(way, "stepped")

  describe(way, function()
    it("carries every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        for j, from in ipairs(layouts) do
          for _, n in ipairs { 0, 7, 1000 } do
            run(problems, way, case(i + j + w, dtype, n, from, data.at(layouts, i + j + w)))
          end
        end
      end
      judge(problems)
    end)

    it("carries single elements of every dtype in every layout", function()
      local problems = {}
      local list = layouts_of(1)
      for i, dtype in ipairs(data.dtypes) do
        for j, from in ipairs(list) do
          run(problems, way, fit(case(i + j, dtype, 1, from, data.at(list, i + j + w))))
        end
      end
      judge(problems)
    end)

    it("carries every layout into every other, from and to every root", function()
      local problems = {}
      for i, from in ipairs(layouts) do
        for j, to in ipairs(layouts) do
          if not in_place or (i + j) % 2 == 0 then
            run(problems, way, case(i + j + w, data.at(data.dtypes, i * 9 + j), 24, from, to))
          end
        end
      end
      judge(problems)
    end)

    it("carries large arrays of every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        local list = data.large_layouts(i + w)
        for j, from in ipairs(list) do
          run(problems, way, case(i + j, dtype, 200000, from, data.at(list, i + j + w)))
        end
      end
      judge(problems)
    end)

    it("carries only so many elements as it is told", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        for j, n in ipairs { 0, 1, 7 } do
          local t = case(i + j, dtype, n, data.at(layouts, i + j + w), data.at(layouts, i + 2 * j))
          t.count = n
          t.more = (i + j) % 2 * 5 + j
          if i % 5 == 0 then t.count = ffi.cast("int64_t", n) end
          run(problems, way, t)
          if (i + j) % 3 == 0 then
            t.more = 0
            run(problems, way, t)
          end
        end
      end
      judge(problems)
    end)

    it("carries what is too long for a single count", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        core.nmpi_set_max_count(({ 100, 3, 1, 499 })[i % 4 + 1])
        for j = 1, 3 do
          local n = ({ 7, 1000, 300 })[j]
          local t = case(i + j, dtype, n, data.at(layouts, i + w), data.at(layouts, i + j))
          if j == 3 then t.count, t.more = n, 50 end
          run(problems, way, t)
        end
        core.nmpi_set_max_count(2 ^ 31 - 1)
      end
      judge(problems)
    end)
  end)
end

-- ---- the arguments ----

describe("scatter, gather and allgather", function()
  it("on COMM_SELF copy the data", function()
    local problems = {}
    local function note(label, status, ...)
      local what = status ~= SUCCESS and "status " .. status or data.mismatch(...)
      if what then problems[#problems + 1] = label .. ": " .. what end
    end
    for i, dtype in ipairs(data.dtypes) do
      for j, n in ipairs { 1, 7, 0 } do
        local list = layouts_of(n)
        local from, to = data.at(list, i + j), data.at(list, i * 3 + j)
        local source = data.pattern(n, dtype, data.seed(rank))
        local sent = data.holding(from, source)
        local label = ("%d of %s, %s to %s"):format(n, dtype, from, to)
        local got, memory = data.guards(to, n, dtype)
        note("scatter, " .. label, mpi.scatter(sent, got, nil, 0, SELF), to, got, memory, source)
        note("scatter in place, " .. label, mpi.scatter(got, IN_PLACE, nil, nil, SELF), to, got, memory, source)
        got, memory = data.guards(to, n, dtype)
        note("gather, " .. label, mpi.gather(sent, got, n, nil, SELF), to, got, memory, source)
        note("gather in place, " .. label, mpi.gather(IN_PLACE, got, nil, 0, SELF), to, got, memory, source)
        got, memory = data.guards(to, n, dtype)
        note("allgather, " .. label, mpi.allgather(sent, got, nil, SELF), to, got, memory, source)
        note("allgather in place, " .. label, mpi.allgather(IN_PLACE, got, n, SELF), to, got, memory, source)
      end
    end
    judge(problems)
  end)

  it("have the root 0, all that the arrays hold and COMM_WORLD as defaults", function()
    local all, own = mpi.zeros(2 * size, "int32"), mpi.zeros(2, "int32")
    for k = 0, 2 * size - 1 do all[k] = 100 * rank + k end
    local results = { mpi.scatter(all, own) }
    local scattered = own:totable()
    local back, back_all = mpi.zeros(2 * size, "int32"), mpi.zeros(2 * size, "int32")
    local gather_results = { mpi.gather(own, back) }
    local allgather_results = { mpi.allgather(own, back_all) }
    local expected, zeros = {}, {}
    for k = 0, 2 * size - 1 do expected[k + 1], zeros[k + 1] = k, 0 end
    assert.same({ SUCCESS }, results)
    assert.same({ SUCCESS }, gather_results)
    assert.same({ SUCCESS }, allgather_results)
    assert.same({ 2 * rank, 2 * rank + 1 }, scattered)
    assert.same(rank == 0 and expected or zeros, back:totable())
    assert.same(expected, back_all:totable())
  end)

  it("take raw FFI arrays of every shape, const ones to send from", function()
    local VLA, fixed = ffi.typeof "double[?]", ffi.typeof "double[3]"
    local grid = ffi.typeof(("double[%d][3]"):format(size))
    local root = size - 1
    local source, rows, row, vla = VLA(3 * size), grid(), fixed(), VLA(3)
    local values = {}
    for k = 0, 3 * size - 1 do values[k + 1], source[k] = 10 * rank + k + 0.5, 10 * rank + k + 0.5 end
    local constant = ffi.new("const double[?]", 3 * size, values)
    local status = mpi.scatter(rank == root and source or nil, row, nil, root)
    status = status + mpi.scatter(constant, vla, 3, root)
    status = status + mpi.allgather(row, rows)
    local gathered, all = VLA(3 * size), grid()
    status = status + mpi.gather(vla, gathered, nil, root)
    local const_row = ffi.new("const double[3]", { row[0], row[1], row[2] })
    status = status + mpi.gather(const_row, rank == root and all or nil, nil, root)
    local few = VLA(3 * size)
    for k = 0, 3 * size - 1 do few[k] = -1 end
    status = status + mpi.allgather(row, few, 2)
    assert.equal(SUCCESS, status)
    for k = 0, 2 do
      local x = 10 * root + 3 * rank + k + 0.5
      assert.same({ x, x }, { row[k], vla[k] })
    end
    for k = 0, 3 * size - 1 do
      local r, i = math.floor(k / 3), k % 3
      local x = 10 * root + k + 0.5
      assert.same({ x, rank == root and x or 0, rank == root and x or 0 }, { rows[r][i], gathered[k], all[r][i] })
      local part_of, index = math.floor(k / 2), k % 2
      assert.equal(part_of < size and 10 * root + 3 * part_of + index + 0.5 or -1, few[k])
    end
  end)

  it("take raw FFI arrays in place", function()
    local all = ffi.new("int16_t[?]", 2 * size)
    all[2 * rank], all[2 * rank + 1] = rank, -rank
    local status = mpi.allgather(IN_PLACE, all)
    local own = ffi.new "int16_t[2]"
    status = status + mpi.scatter(rank == 0 and all or nil, rank == 0 and IN_PLACE or own)
    local back = ffi.new("int16_t[?]", 2 * size)
    if rank == 0 then back[0], back[1] = all[0], all[1] end
    status = status + mpi.gather(rank == 0 and IN_PLACE or own, rank == 0 and back or nil)
    assert.equal(SUCCESS, status)
    for r = 0, size - 1 do
      assert.same({ r, -r }, { all[2 * r], all[2 * r + 1] })
      assert.same(rank == 0 and { r, -r } or { 0, 0 }, { back[2 * r], back[2 * r + 1] })
    end
  end)

  it("hand out and collect the rows of a matrix", function()
    for _, order in ipairs { "C", "F" } do
      local matrix, row, block = mpi.zeros({ 2 * size, 3 }, "double", order), mpi.zeros(3), mpi.zeros { 2, 3 }
      for i = 0, 2 * size - 1 do
        for j = 0, 2 do matrix:set(i, j, 100 * rank + 10 * i + j) end
      end
      local root = size - 1
      local status = mpi.scatter(matrix, block, nil, root)
      status = status + mpi.scatter(matrix:slice { size, 2 * size }, row, nil, root)
      -- Rows become the columns of what is collected.
      local columns = mpi.zeros({ 3, size }, "double", order)
      status = status + mpi.allgather(row, columns:transpose())
      local backwards = mpi.zeros({ 2 * size, 3 }, "double", order)
      status = status + mpi.gather(block, backwards:slice { nil, nil, -1 }, nil, root)
      assert.equal(SUCCESS, status)
      for j = 0, 2 do
        for i = 0, 1 do assert.equal(100 * root + 10 * (2 * rank + i) + j, block:get(i, j)) end
        assert.equal(100 * root + 10 * (size + rank) + j, row[j])
        for r = 0, size - 1 do assert.equal(100 * root + 10 * (size + r) + j, columns:get(j, r)) end
        for i = 0, 2 * size - 1 do
          assert.equal(rank == root and 100 * root + 10 * (2 * size - 1 - i) + j or 0, backwards:get(i, j))
        end
      end
    end
  end)

  it("send from views that repeat elements", function()
    local base = mpi.array { 10 * rank, 10 * rank + 1, 10 * rank + 2, 10 * rank + 3 }
    local root = size - 1
    local same = mpi.wrap(base.data, { size, 4 }, nil, { 0, 1 })
    local one, row, repeated = mpi.wrap(base.data, 4, nil, 0), mpi.zeros(4), mpi.zeros(4)
    local status = mpi.scatter(same, row, nil, root)
    status = status + mpi.scatter(mpi.wrap(base.data, { size, 4 }, nil, { 1, 0 }), repeated, nil, root)
    local all, gathered = mpi.zeros { size, 4 }, mpi.zeros { size, 4 }
    status = status + mpi.allgather(one, all) + mpi.gather(one, gathered, nil, root)
    assert.equal(SUCCESS, status)
    for k = 0, 3 do
      assert.same({ 10 * root + k, 10 * root + rank }, { row[k], repeated[k] })
      for r = 0, size - 1 do
        assert.same({ 10 * r, rank == root and 10 * r or 0 }, { all:get(r, k), gathered:get(r, k) })
      end
    end
  end)

  it("work between interleaved views of one array", function()
    local a = mpi.zeros(4 * size, "int32")
    local even, odd = a:slice { 0, 4 * size, 2 }, a:slice { 1, 4 * size, 2 }
    for k = 0, 2 * size - 1 do even[k] = 100 * rank + k end
    odd:fill(-1)
    local status = mpi.scatter(even, odd:slice { 0, 2 })
    local scattered = odd:totable()
    status = status + mpi.allgather(even:slice { 0, 2 }, odd)
    assert.equal(SUCCESS, status)
    for k = 0, 2 * size - 1 do
      assert.equal(k < 2 and 2 * rank + k or -1, scattered[k + 1])
      assert.equal(100 * math.floor(k / 2) + k % 2, odd[k])
      assert.equal(100 * rank + k, even[k])
    end
  end)
end)

-- ---- mistakes ----

describe("a mistake", function()
  local three, two, wide = mpi.zeros(3), mpi.zeros(2), mpi.zeros(3 * size)
  local raw = ffi.new("double[?]", 3 * size)
  local other = (rank + 1) % size

  -- f is to raise `message` in the line where it is defined, and nothing may have been sent.
  local function raises(message, f)
    local ok, got = pcall(f)
    assert.is_false(ok)
    assert.equal(("%s:%d: nmpi.%s"):format(HERE, debug.getinfo(f, "S").linedefined, message), got)
  end

  it("in the count is reported", function()
    local negative = ": argument 'count': expected a whole number of at least 0, got "
    local whole = ": argument 'count': expected a whole number, got "
    for _, c in ipairs { -1, -2 ^ 31, -2 ^ 53, -32766 } do
      local shown = tostring(c)
      raises("scatter" .. negative .. shown, function() mpi.scatter(wide, three, c) end)
      raises("gather" .. negative .. shown, function() mpi.gather(three, wide, c) end)
      raises("allgather" .. negative .. shown, function() mpi.allgather(three, wide, c) end)
    end
    for _, c in ipairs { 0.5, 2.000001, math.huge, "3", false, {}, 2 ^ 54 } do
      local shown = type(c) == "string" and 'the string "3"' or type(c) == "table" and "a table" or tostring(c)
      raises("scatter" .. whole .. shown, function() mpi.scatter(wide, three, c) end)
      raises("gather" .. whole .. shown, function() mpi.gather(three, wide, c) end)
      raises("allgather" .. whole .. shown, function() mpi.allgather(three, wide, c) end)
    end
    raises("scatter" .. negative .. "cdata of type int64_t", function() mpi.scatter(wide, three, -1LL) end)
    raises("allgather: argument 'count': expected a whole number, got cdata of type uint64_t",
      function() mpi.allgather(three, wide, 2ULL ^ 63) end)
  end)

  it("in a count that is too large is reported", function()
    for _, c in ipairs { 4, 2 ^ 31, 2 ^ 32, 2 ^ 53 } do
      local of_part = (": expected at least %.0f elements, got 3"):format(c)
      local of_whole = (": expected at least %.0f elements for each of the %d ranks, got %d"):format(c, size, 3 * size)
      local large = mpi.zeros(4)
      raises("scatter: argument 'recvdata'" .. of_part, function() mpi.scatter(wide, three, c, rank) end)
      raises("gather: argument 'senddata'" .. of_part, function() mpi.gather(three, wide, c, rank) end)
      raises("allgather: argument 'senddata'" .. of_part, function() mpi.allgather(three, wide, c) end)
      if size > 1 then
        raises("gather: argument 'senddata'" .. of_part, function() mpi.gather(three, nil, c, other) end)
        raises("scatter: argument 'recvdata'" .. of_part, function() mpi.scatter(nil, three, c, other) end)
      end
      raises("allgather: argument 'recvdata'" .. of_whole, function() mpi.allgather(IN_PLACE, wide, c) end)
      raises("scatter: argument 'senddata'" .. of_whole, function() mpi.scatter(wide, IN_PLACE, c, rank) end)
      if c == 4 then
        raises("scatter: argument 'senddata'" .. of_whole, function() mpi.scatter(wide, large, c, rank) end)
        raises("gather: argument 'recvdata'" .. of_whole, function() mpi.gather(large, wide, c, rank) end)
        raises("allgather: argument 'recvdata'" .. of_whole, function() mpi.allgather(large, wide, c) end)
      end
    end
  end)

  it("in sizes that do not fit is reported", function()
    local function got(argument, expected, n)
      return (": argument '%s': expected %d elements, got %d"):format(argument, expected, n)
    end
    raises("scatter" .. got("recvdata", 3, 2), function() mpi.scatter(wide, two, nil, rank) end)
    raises("scatter" .. got("recvdata", 0, 2), function() mpi.scatter(mpi.zeros(0), two, nil, rank) end)
    raises("gather" .. got("senddata", 3, 2), function() mpi.gather(two, wide, nil, rank) end)
    raises("allgather" .. got("senddata", 3, 2), function() mpi.allgather(two, wide) end)
    raises("allgather" .. got("senddata", 3, 6), function() mpi.allgather(mpi.zeros { 2, 3 }, raw) end)
    if size > 1 then
      local uneven = mpi.zeros(3 * size + 1)
      local message = ("expected elements that divide by the %d ranks, got %d"):format(size, 3 * size + 1)
      raises("scatter: argument 'senddata': " .. message, function() mpi.scatter(uneven, three, nil, rank) end)
      raises("scatter: argument 'senddata': " .. message, function() mpi.scatter(uneven, IN_PLACE, nil, rank) end)
      raises("gather: argument 'recvdata': " .. message, function() mpi.gather(three, uneven, nil, rank) end)
      raises("allgather: argument 'recvdata': " .. message, function() mpi.allgather(three, uneven) end)
      raises("allgather: argument 'recvdata': " .. message, function() mpi.allgather(IN_PLACE, uneven) end)
    end
  end)

  it("in dtype is reported", function()
    local floats = mpi.zeros(3, "float")
    local message = ": argument 'recvdata': expected the dtype of 'senddata', "
    raises("scatter" .. message .. "double, got float", function() mpi.scatter(wide, floats, nil, rank) end)
    raises("gather" .. message .. "float, got double", function() mpi.gather(floats, wide, 1, rank) end)
    raises("allgather" .. message .. "float, got double", function() mpi.allgather(floats, raw) end)
    raises("allgather" .. message .. "float, got double", function() mpi.allgather(floats, wide, 0) end)
    for _, dtype in ipairs(data.dtypes) do
      local other_dtype = dtype:find "^struct" and "int64" or "struct nmpi_spec_colour"
      local a, b = mpi.zeros(3, dtype), mpi.zeros(3 * size, other_dtype)
      local shown = dtype:gsub("^struct .*", "struct")
      raises("allgather" .. message .. shown .. ", got " .. (other_dtype:gsub(" .*", "")),
        function() mpi.allgather(a, b) end)
    end
    local a, b = mpi.zeros(3, "struct nmpi_spec_particle"), mpi.zeros(3 * size, "struct nmpi_spec_colour")
    raises("allgather" .. message .. "struct, got struct", function() mpi.allgather(a, b) end)
  end)

  it("in memory is reported", function()
    local overlap = ": argument 'recvdata': expected memory of its own, but it overlaps 'senddata'"
    raises("scatter" .. overlap, function() mpi.scatter(wide, wide:slice { 0, 3 }, nil, rank) end)
    raises("gather" .. overlap, function() mpi.gather(wide:slice { -3 }, wide, nil, rank) end)
    raises("allgather" .. overlap, function() mpi.allgather(wide:slice { 3 * rank, 3 * rank + 3 }, wide) end)
    raises("allgather" .. overlap, function() mpi.allgather(wide, wide, 1) end)
    raises("allgather" .. overlap, function() mpi.allgather(mpi.wrap(raw, 3), raw) end)
  end)

  it("in what cannot be written to is reported", function()
    local writable = ": argument 'recvdata': expected a writable array, got a read-only one"
    local repeated = ": argument 'recvdata': expected a view whose elements do not overlap: it is written to"
    local constant, all_constant = ffi.new "const double[3]", ffi.new(("const double[%d]"):format(3 * size))
    local zero, all_zero = mpi.wrap(raw, 3, nil, 0), mpi.wrap(raw, { size, 3 }, nil, { 0, 1 })
    raises("scatter" .. writable, function() mpi.scatter(wide, constant) end)
    raises("gather" .. writable, function() mpi.gather(three, all_constant, nil, rank) end)
    raises("gather" .. writable, function() mpi.gather(IN_PLACE, all_constant, nil, rank) end)
    raises("allgather" .. writable, function() mpi.allgather(three, mpi.wrap(all_constant)) end)
    raises("scatter" .. repeated, function() mpi.scatter(wide, zero) end)
    raises("scatter" .. repeated, function() mpi.scatter(wide, zero, 1, other) end)
    if size == 1 then return end
    raises("scatter" .. writable, function() mpi.scatter(nil, constant, nil, other) end)
    raises("gather" .. repeated, function() mpi.gather(three, all_zero, nil, rank) end)
    raises("allgather" .. repeated, function() mpi.allgather(three, all_zero) end)
    raises("allgather" .. repeated, function() mpi.allgather(IN_PLACE, all_zero) end)
  end)

  it("in the root is reported", function()
    for _, root in ipairs { -1, size, -2 ^ 31, 2 ^ 31 - 1, mpi.PROC_NULL } do
      local message = (": argument 'root': expected a rank from 0 to %d, got %d"):format(size - 1, root)
      raises("scatter" .. message, function() mpi.scatter(wide, three, nil, root) end)
      raises("gather" .. message, function() mpi.gather(three, wide, nil, root) end)
    end
    raises("scatter: argument 'root': expected a rank from 0 to 0, got 1",
      function() mpi.scatter(wide, wide, nil, 1, SELF) end)
    raises("gather: argument 'root': expected a whole number, got 0.5",
      function() mpi.gather(three, wide, nil, 0.5) end)
  end)

  it("in a buffer that is not there is reported", function()
    local function missing(argument) return ": argument '" .. argument .. "': expected an array, got nil" end
    raises("scatter" .. missing "senddata", function() mpi.scatter(nil, three, nil, rank) end)
    raises("scatter" .. missing "senddata", function() mpi.scatter(nil, IN_PLACE, 3, rank) end)
    raises("scatter" .. missing "recvdata", function() mpi.scatter(wide, nil, nil, rank) end)
    raises("gather" .. missing "recvdata", function() mpi.gather(three, nil, nil, rank) end)
    raises("gather" .. missing "recvdata", function() mpi.gather(IN_PLACE, nil, 3, rank) end)
    raises("gather" .. missing "senddata", function() mpi.gather(nil, wide, nil, rank) end)
    raises("allgather" .. missing "senddata", function() mpi.allgather(nil, wide) end)
    raises("allgather" .. missing "recvdata", function() mpi.allgather(three, nil) end)
    raises("allgather" .. missing "recvdata", function() mpi.allgather(IN_PLACE, nil) end)
    if size == 1 then return end
    raises("scatter" .. missing "recvdata", function() mpi.scatter(nil, nil, nil, other) end)
    raises("gather" .. missing "senddata", function() mpi.gather(nil, nil, nil, other) end)
  end)

  it("in the place of IN_PLACE is reported", function()
    local function not_here(argument) return ": argument '" .. argument .. "': IN_PLACE is not allowed here" end
    raises("scatter" .. not_here "senddata", function() mpi.scatter(IN_PLACE, three, nil, rank) end)
    raises("gather" .. not_here "recvdata", function() mpi.gather(three, IN_PLACE, nil, rank) end)
    raises("gather" .. not_here "recvdata", function() mpi.gather(IN_PLACE, IN_PLACE, nil, rank) end)
    raises("allgather" .. not_here "recvdata", function() mpi.allgather(three, IN_PLACE) end)
    if size == 1 then return end
    raises("scatter" .. not_here "recvdata", function() mpi.scatter(nil, IN_PLACE, nil, other) end)
    raises("gather" .. not_here "senddata", function() mpi.gather(IN_PLACE, nil, nil, other) end)
  end)

  it("in the use of freed arrays is reported", function()
    local freed = mpi.zeros(3)
    freed:free()
    local function message(argument)
      return ": argument '" .. argument .. "': expected an array, got one that has been freed"
    end
    raises("scatter" .. message "senddata", function() mpi.scatter(freed, three, nil, rank) end)
    raises("scatter" .. message "recvdata", function() mpi.scatter(wide, freed) end)
    raises("gather" .. message "senddata", function() mpi.gather(freed, wide) end)
    raises("gather" .. message "recvdata", function() mpi.gather(three, freed, nil, rank) end)
    raises("allgather" .. message "recvdata", function() mpi.allgather(three, freed) end)
    raises("allgather" .. message "senddata", function() mpi.allgather(freed, wide) end)
  end)

  it("leaves the ranks able to communicate", function()
    local all = mpi.zeros(3 * size)
    three:fill(rank)
    pcall(mpi.allgather, three, wide, 4)
    pcall(mpi.scatter, wide, two, nil, rank)
    assert.equal(SUCCESS, mpi.allgather(three, all))
    for k = 0, 3 * size - 1 do assert.equal(math.floor(k / 3), all[k]) end
  end)
end)

-- ---- compiled code ----

do
  local a, b = data.new("C", 24, "double", 1), mpi.zeros(24)
  local view, other = data.new("stepped", 24, "double", 1), data.guards("column", 24, "double")
  local fixed, grid, vla, other_vla = ffi.new "int32_t[12]", ffi.new "int32_t[3][4]", ffi.new("int32_t[?]", 12),
    ffi.new("int32_t[?]", 12)

  hot.define(it, pending, {
    { "scatter", function(n) for _ = 1, n do mpi.scatter(a, b, nil, 0, SELF) end end },
    { "scatter of a count", function(n) for i = 1, n do mpi.scatter(a, b, i % 8, 0, SELF) end end },
    { "scatter of views", function(n) for _ = 1, n do mpi.scatter(view, other, nil, nil, SELF) end end },
    { "scatter of raw arrays", function(n) for _ = 1, n do mpi.scatter(fixed, grid, 12, 0, SELF) end end },
    { "scatter of raw VLAs", function(n) for _ = 1, n do mpi.scatter(vla, other_vla, nil, 0, SELF) end end },
    { "scatter in place", function(n) for _ = 1, n do mpi.scatter(a, IN_PLACE, nil, 0, SELF) end end },
    { "gather", function(n) for _ = 1, n do mpi.gather(a, b, nil, 0, SELF) end end },
    { "gather of a count", function(n) for i = 1, n do mpi.gather(a, b, i % 8, 0, SELF) end end },
    { "gather of views", function(n) for _ = 1, n do mpi.gather(view, other, nil, nil, SELF) end end },
    { "gather of raw arrays", function(n) for _ = 1, n do mpi.gather(fixed, grid, 12, 0, SELF) end end },
    { "gather of raw VLAs", function(n) for _ = 1, n do mpi.gather(vla, other_vla, nil, 0, SELF) end end },
    { "gather in place", function(n) for _ = 1, n do mpi.gather(IN_PLACE, other, nil, 0, SELF) end end },
    { "allgather", function(n) for _ = 1, n do mpi.allgather(a, b, nil, SELF) end end },
    { "allgather of a count", function(n) for i = 1, n do mpi.allgather(a, b, i % 8, SELF) end end },
    { "allgather of views", function(n) for _ = 1, n do mpi.allgather(view, other, nil, SELF) end end },
    { "allgather of raw arrays", function(n) for _ = 1, n do mpi.allgather(fixed, grid, 12, SELF) end end },
    { "allgather of raw VLAs", function(n) for _ = 1, n do mpi.allgather(vla, other_vla, nil, SELF) end end },
    { "allgather in place", function(n) for _ = 1, n do mpi.allgather(IN_PLACE, other, nil, SELF) end end },
    { "allgather of a raw array in place", function(n)
      for _ = 1, n do mpi.allgather(IN_PLACE, grid, nil, SELF) end
    end },
  })
end
