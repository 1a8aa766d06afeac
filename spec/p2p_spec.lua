-- SPDX-License-Identifier: MIT
-- In every test the ranks communicate first; what went wrong is collected and judged after that.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local SUCCESS, NULL, SELF = mpi.SUCCESS, mpi.PROC_NULL, mpi.COMM_SELF
local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
-- Alone, a rank cannot send to itself and then receive.
local next_rank, previous = size > 1 and right or NULL, size > 1 and left or NULL
local TAG = 17

-- ---- the ways that a message can take ----

local info = mpi.status()

local function send_and_recv(sent, got, tag)
  local sent_status, status
  if rank % 2 == 0 then
    sent_status = mpi.send(sent, next_rank, tag)
    status = mpi.recv(got, previous, tag, nil, info)
  else
    status = mpi.recv(got, previous, tag, nil, info)
    sent_status = mpi.send(sent, next_rank, tag)
  end
  return status, sent_status
end

-- Each sends an array, to the right or to itself, and receives one from rank `from`.
local routes = {
  {
    name = "sendrecv around the ring", from = left,
    call = function(sent, got, tag) return mpi.sendrecv(sent, right, got, left, tag, tag, nil, info) end,
  },
  {
    name = "sendrecv to oneself", from = rank,
    call = function(sent, got, tag) return mpi.sendrecv(sent, rank, got, rank, tag, tag, mpi.COMM_WORLD, info) end,
  },
  {
    name = "sendrecv on COMM_SELF", from = rank, source = 0,
    call = function(sent, got, tag) return mpi.sendrecv(sent, 0, got, 0, tag, tag, SELF, info) end,
  },
  { name = "send and recv around the ring", from = previous, call = send_and_recv },
}

-- Notes each value that is not what it should be.
local function note(problems, label, values)
  for name, pair in pairs(values) do
    if pair[1] ~= pair[2] then
      problems[#problems + 1] = ("%s: %s is %s, expected %s"):format(label, name, tostring(pair[1]),
        tostring(pair[2]))
    end
  end
end

-- Sends `length` elements from one layout into another that has room for `room`.
local function transfer(problems, route, dtype, from, to, length, room, tag)
  local contents = data.pattern(length, dtype, data.seed(rank))
  local sent, sent_memory = data.holding(from, contents)
  local got, memory = data.guards(to, room, dtype)
  local status, sent_status = route.call(sent, got, tag or TAG)

  local arrives = route.from ~= NULL
  local expected = mpi.zeros(room, dtype)
  if length < room or not arrives then expected:fill(data.guard(dtype)) end
  if arrives then expected:slice({ 0, length }):assign(data.pattern(length, dtype, data.seed(route.from))) end
  note(problems, ("%s, %d of %s, %s to %s of %d"):format(route.name, length, dtype, from, to, room), {
    status = { status, SUCCESS },
    ["status of send"] = { sent_status or SUCCESS, SUCCESS },
    difference = { data.mismatch(to, got, memory, expected) },
    ["what was sent"] = { data.mismatch(from, sent, sent_memory, contents) },
    source = { info.source, route.source or route.from },
    tag = { info.tag, arrives and (tag or TAG) or mpi.ANY_TAG },
    error = { info.error, SUCCESS },
    count = { info:count(), arrives and length or 0 },
  })
end

for _, route in ipairs(routes) do
  describe(route.name, function()
    it("carries every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        for j, from in ipairs(data.layouts) do
          transfer(problems, route, dtype, from, data.at(data.layouts, i + j), 7, 7)
          transfer(problems, route, dtype, data.at(data.layouts, i + j), from, 1000, 1000)
        end
      end
      judge(problems)
    end)

    it("carries single elements and none at all", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        for _, n in ipairs { 0, 1 } do
          local layouts = data.layouts_of(n)
          for j, from in ipairs(layouts) do
            transfer(problems, route, dtype, from, data.at(layouts, i + j), n, n)
          end
        end
      end
      judge(problems)
    end)

    it("carries every layout into every other", function()
      local problems = {}
      for _, from in ipairs(data.layouts) do
        for _, to in ipairs(data.layouts) do transfer(problems, route, "double", from, to, 24, 24) end
      end
      judge(problems)
    end)

    it("carries large messages of every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        for j, from in ipairs(data.large_layouts(i)) do
          transfer(problems, route, dtype, from, data.at(data.large_layouts(i), i + j), 200000, 200000)
        end
      end
      judge(problems)
    end)

    it("writes only what a short message brought", function()
      local problems = {}
      for i, to in ipairs(data.layouts) do
        transfer(problems, route, data.at(data.dtypes, i), "C", to, 0, 24)
        transfer(problems, route, data.at(data.dtypes, i + 7), "C", to, 10, 24)
        transfer(problems, route, data.at(data.dtypes, i + 14), "stepped", to, 777, 1000)
      end
      transfer(problems, route, "double", "C", "C", 123457, 200000)
      transfer(problems, route, "double", "C", "column", 123457, 200000)
      transfer(problems, route, "int16", "stepped", "block3", 123457, 200000)
      judge(problems)
    end)

    it("carries tags from 0 to the upper bound", function()
      local problems = {}
      for _, tag in ipairs { 0, 1, 32767, core.nmpi_tag_ub() } do
        transfer(problems, route, "int32", "C", "C", 7, 7, tag)
      end
      judge(problems)
    end)

    it("reports a message that is too long, and writes nothing beyond the buffer", function()
      local problems = {}
      if route.from == NULL then return end
      local function cut(dtype, layout, length, room)
        local sent = data.new("C", length, dtype, data.seed(rank))
        local got, memory = data.guards(layout, room, dtype)
        local status, sent_status = route.call(sent, got, TAG)
        -- What the buffer itself holds is undefined.
        data.fill(got, 1)
        note(problems, ("%s, %d of %s to %s of %d"):format(route.name, length, dtype, layout, room), {
          class = { mpi.error_class(status), mpi.ERR_TRUNCATE },
          ["status of send"] = { sent_status or SUCCESS, SUCCESS },
          difference = { data.difference(memory, select(2, data.new(layout, room, dtype, 1))) },
          ["class in info"] = { mpi.error_class(info.error), mpi.ERR_TRUNCATE },
          count = { info:count(), 0 },
        })
      end
      for i, layout in ipairs(data.layouts) do
        cut(data.at(data.dtypes, i), layout, 25, 24)
        cut(data.at(data.dtypes, i + 8), layout, 300, 7)
        cut("double", layout, 1001, 1000)
      end
      cut("int32", "scalar", 2, 1)
      cut("int32", "C", 1, 0)
      cut("int32", "stepped", 1, 0)
      cut("double", "C", 200001, 200000)
      cut("double", "C", 200000, 1000)
      cut("double", "column", 200001, 200000)
      cut("int16", "block4", 200000, 1000)
      -- The ranks still understand each other.
      transfer(problems, route, "double", "C", "C", 1000, 1000)
      judge(problems)
    end)
  end)
end

-- ---- raw FFI arrays ----

ffi.cdef [[struct nmpi_spec_message { int32_t length; double values[6]; };]]

describe("raw FFI arrays", function()
  local unnamed = ffi.typeof "struct { int16_t a; uint8_t b; }"
  local element = data.value

  -- From a raw array into another of the same type, by both routes. `fill(array, seed)` sets elements that
  -- `text(array)` shows.
  local function pass(make, fill, text)
    local problems = {}
    for _, route in ipairs { routes[1], routes[3], routes[4] } do
      local sent, got, expected = make(), make(), make()
      fill(sent, data.seed(rank))
      if route.from ~= NULL then fill(expected, data.seed(route.from)) end
      local status = route.call(sent, got, TAG)
      note(problems, route.name, { status = { status, SUCCESS }, data = { text(got), text(expected) } })
    end
    judge(problems)
  end

  local function row(n, f)
    return function(array, seed)
      for i = 0, n - 1 do array[i] = f(seed + i) end
    end
  end

  local function joined(n)
    return function(array)
      local parts = {}
      for i = 0, n - 1 do parts[i + 1] = tostring(array[i]) end
      return table.concat(parts, " ")
    end
  end

  it("of fixed length", function()
    pass(function() return ffi.new "double[10]" end, row(10, element.double), joined(10))
    pass(function() return ffi.new "uint64_t[3]" end, row(3, element.uint64), joined(3))
    pass(function() return ffi.new "bool[9]" end, row(9, element.bool), joined(9))
    pass(function() return ffi.new "complex[4]" end, row(4, element["complex double"]), joined(4))
    pass(function() return ffi.new "complex float[4]" end, row(4, element["complex float"]), joined(4))
  end)

  it("of variable length", function()
    pass(function() return ffi.new("double[?]", 11) end, row(11, element.double), joined(11))
    pass(function() return ffi.new("int16_t[?]", 2500) end, row(2500, element.int16), joined(2500))
    pass(function() return ffi.new("char[?]", 5) end, row(5, element.char), joined(5))
    pass(function() return ffi.new("float[?]", 0) end, row(0), joined(0))
    pass(function() return ffi.new("float[?]", 200000) end, row(200000, element.float), joined(200000))
  end)

  local function fill_grid(array, seed)
    for i = 0, 2 do
      for j = 0, 3 do array[i][j] = element.int32(seed + 4 * i + j) end
    end
  end

  local function grid_text(array)
    local text = joined(4)
    return text(array[0]) .. "; " .. text(array[1]) .. "; " .. text(array[2])
  end

  it("of two dimensions", function()
    pass(function() return ffi.new "int[3][4]" end, fill_grid, grid_text)
    pass(function() return ffi.new("int[?][4]", 3) end, fill_grid, grid_text)
  end)

  it("of structs", function()
    mpi.zeros(1, unnamed) -- a struct without a name is known once it has been a dtype
    local function fill(array, seed)
      for i = 0, 4 do array[i].a, array[i].b = element.int16(seed + i), element.uint8(seed + i) end
    end
    local function text(array)
      local parts = {}
      for i = 0, 4 do parts[i + 1] = array[i].a .. "," .. array[i].b end
      return table.concat(parts, " ")
    end
    pass(function() return ffi.new(ffi.typeof("$[5]", unnamed)) end, fill, text)
    pass(function() return ffi.new(ffi.typeof("$[?]", unnamed), 5) end, fill, text)
  end)

  it("inside of other objects, leaving those alone", function()
    local message, grid = ffi.new "struct nmpi_spec_message", ffi.new "int[3][4]"
    local sent = ffi.new("double[6]", { 1, 2, 3, 4, 5, rank })
    message.length = 42
    local status = mpi.sendrecv(sent, right, message.values, left)
    local row_status = mpi.sendrecv(ffi.new("int[4]", { rank, 7, 8, 9 }), right, grid[1], left)
    assert.equal(SUCCESS, status)
    assert.equal(SUCCESS, row_status)
    assert.equal(42, message.length)
    assert.same({ 1, 2, 3, 4, 5, left }, mpi.wrap(message.values):totable())
    assert.same({ { 0, 0, 0, 0 }, { left, 7, 8, 9 }, { 0, 0, 0, 0 } }, mpi.wrap(grid):totable())
  end)

  it("that are const can be sent", function()
    local sent = ffi.new("const double[4]", { rank, 2, 3, 4.5 })
    local vla = ffi.new("const int32_t[?]", 3, { rank, 5, 6 })
    local got, got_ints = mpi.zeros(4), mpi.zeros(3, "int32")
    local status = mpi.sendrecv(sent, right, got, left)
    local vla_status = mpi.sendrecv(vla, right, got_ints, left)
    assert.equal(SUCCESS, status)
    assert.equal(SUCCESS, vla_status)
    assert.same({ left, 2, 3, 4.5 }, got:totable())
    assert.same({ left, 5, 6 }, got_ints:totable())
  end)

  it("and views go into each other", function()
    local raw, matrix = ffi.new "double[12]", mpi.zeros({ 4, 3 }, "double", "F")
    data.fill(matrix, data.seed(rank))
    local status = mpi.sendrecv(matrix, right, raw, left)
    local back = mpi.zeros({ 4, 3 }, "double", "F")
    local back_status = mpi.sendrecv(raw, left, back, right)
    assert.equal(SUCCESS, status)
    assert.equal(SUCCESS, back_status)
    for k = 0, 11 do assert.equal(data.value.double(data.seed(left) + k), raw[k]) end
    assert.is_nil(data.difference(back, matrix))
  end)

  it("write only what a short message brought", function()
    local got = ffi.new("int32_t[6]", { 1, 2, 3, 4, 5, 6 })
    local status = mpi.sendrecv(ffi.new("int32_t[2]", { rank, 77 }), right, got, left, 0, 0, nil, info)
    assert.equal(SUCCESS, status)
    assert.equal(2, info:count())
    assert.same({ left, 77, 3, 4, 5, 6 }, mpi.wrap(got):totable())
  end)

  it("wrapped with a shorter shape, report a message that is too long", function()
    local memory = ffi.new("int32_t[6]", { 1, 2, 3, 4, 5, 6 })
    local status = mpi.sendrecv(ffi.new "int32_t[5]", right, mpi.wrap(memory, 4), left)
    assert.equal(mpi.ERR_TRUNCATE, mpi.error_class(status))
    assert.equal(5, memory[4])
    assert.equal(6, memory[5])
  end)

  it("to oneself are compared with the receive by what travels, without padding", function()
    local pair, bytes = mpi.zeros(1, "double_int"), mpi.zeros(12, "char")
    local fits = mpi.sendrecv(pair, rank, bytes, rank)
    local long = mpi.sendrecv(mpi.zeros(13, "char"), rank, pair, rank)
    assert.equal(SUCCESS, fits)
    assert.equal(mpi.ERR_TRUNCATE, mpi.error_class(long))
  end)

  it("to oneself take the message that is waiting already", function()
    if size == 1 then return end -- MPICH's send waits for a receive there
    local one, two = mpi.zeros(1), mpi.zeros(2)
    local _, request = mpi.isend(mpi.array { 42 }, rank, TAG)
    local status = mpi.sendrecv(mpi.array { 1, 2 }, rank, one, rank, TAG, TAG)
    local rest = mpi.recv(two, rank, TAG)
    local sent = mpi.wait(request)
    assert.same({ SUCCESS, SUCCESS, SUCCESS }, { status, rest, sent })
    assert.same({ 42, 1, 2 }, { one[0], two[0], two[1] })
  end)
end)

-- ---- defaults and wildcards ----

describe("default arguments", function()
  it("of sendrecv are tag 0, any source and any tag", function()
    local got = mpi.zeros(3)
    local results = { mpi.sendrecv(mpi.array { rank, 0.5, -1 }, right, got) }
    local with_info = mpi.sendrecv(mpi.array { rank, 0.5, -1 }, right, got, nil, nil, nil, nil, info)
    assert.same({ SUCCESS }, results)
    assert.equal(SUCCESS, with_info)
    assert.same({ left, 0.5, -1 }, got:totable())
    assert.same({ left, 0, SUCCESS, 3 }, { info.source, info.tag, info.error, info:count() })
  end)

  it("of send and recv are the same", function()
    if size == 1 then return end
    local got, results = mpi.zeros(2), nil
    if rank % 2 == 0 then results = { mpi.send(mpi.array { rank, 2 }, right) } end
    local status = mpi.recv(got, nil, nil, nil, info)
    if rank % 2 == 1 then results = { mpi.send(mpi.array { rank, 2 }, right) } end
    mpi.barrier() -- before anybody sends what the wildcards could take for theirs
    assert.same({ SUCCESS }, results)
    assert.equal(SUCCESS, status)
    assert.same({ left, 2 }, got:totable())
    assert.same({ left, 0, SUCCESS, 2 }, { info.source, info.tag, info.error, info:count() })
  end)
end)

describe("wildcards", function()
  it("receive from everyone, and info tells from whom", function()
    local found = {}
    if rank > 0 then
      mpi.send(mpi.array({ rank, -rank }, "int64"), 0, 10 + rank)
    else
      local got = mpi.zeros(5, "int64")
      for _ = 1, size - 1 do
        local status = mpi.recv(got, mpi.ANY_SOURCE, mpi.ANY_TAG, nil, info)
        local source = info.source
        found[source] = status == SUCCESS and info.tag == 10 + source and info.error == SUCCESS
          and info:count() == 2 and got[0] == source and got[1] == -source
      end
    end
    mpi.barrier()
    local expected = {}
    if rank == 0 then
      for r = 1, size - 1 do expected[r] = true end
    end
    assert.same(expected, found)
  end)

  it("are not needed: a source can be chosen", function()
    local found, expected = {}, {}
    if rank > 0 then
      mpi.send(mpi.array { rank }, 0, 3)
    else
      local got = mpi.zeros(1)
      for source = size - 1, 1, -1 do
        mpi.recv(got, source, mpi.ANY_TAG, nil, info)
        found[#found + 1], expected[#expected + 1] = got[0], source
        found[#found + 1], expected[#expected + 1] = info.source, source
      end
    end
    mpi.barrier()
    assert.same(expected, found)
  end)
end)

describe("PROC_NULL", function()
  it("is neither sent to nor received from", function()
    local sent, got = mpi.array { 1, 2, 3 }, mpi.array { 7, 8, 9 }
    local view = mpi.array({ 7, 8, 9, 10 }):slice { nil, nil, 2 }
    assert.equal(SUCCESS, mpi.send(sent, NULL))
    assert.equal(SUCCESS, mpi.send(view, NULL, 5, SELF))
    for _, buffer in ipairs { got, view } do
      info.source, info.tag, info.error, info.elements = 99, 99, 99, 99
      assert.equal(SUCCESS, mpi.recv(buffer, NULL, 5, nil, info))
      assert.same({ NULL, mpi.ANY_TAG, SUCCESS, 0 }, { info.source, info.tag, info.error, info:count() })
      info.source, info.tag, info.error, info.elements = 99, 99, 99, 99
      assert.equal(SUCCESS, mpi.sendrecv(sent, NULL, buffer, NULL, 0, mpi.ANY_TAG, nil, info))
      assert.same({ NULL, mpi.ANY_TAG, SUCCESS, 0 }, { info.source, info.tag, info.error, info:count() })
    end
    assert.same({ 7, 8, 9 }, got:totable())
    assert.same({ 7, 9 }, view:totable())
  end)

  it("ends a line of ranks", function()
    local to, from = rank + 1 < size and rank + 1 or NULL, rank > 0 and rank - 1 or NULL
    local got = mpi.array { -1 }
    local status = mpi.sendrecv(mpi.array { rank }, to, got, from)
    assert.equal(SUCCESS, status)
    assert.equal(rank - 1, got[0])
  end)
end)

describe("a status object", function()
  it("starts empty", function()
    local fresh = mpi.status()
    assert.same({ 0, 0, 0, 0 }, { fresh.source, fresh.tag, fresh.error, fresh:count() })
    assert.equal("number", type(fresh:count()))
  end)

  it("counts elements of the receive buffer's dtype", function()
    local counts = {}
    for _, dtype in ipairs(data.dtypes) do
      local got = mpi.zeros(9, dtype)
      mpi.sendrecv(mpi.zeros(5, dtype), 0, got, 0, 0, 0, SELF, info)
      counts[#counts + 1] = info:count()
    end
    for i = 1, #data.dtypes do assert.equal(5, counts[i]) end
  end)
end)

-- ---- compiled code ----

do
  local a, b = data.new("C", 7, "double", 1), mpi.zeros(7)
  local view, other = data.new("stepped", 7, "int32", 1), data.guards("column", 7, "int32")
  local fixed, other_fixed = ffi.new "double[10]", ffi.new "double[10]"
  local vla, grid = ffi.new("int32_t[?]", 12), ffi.new "int32_t[3][4]"

  hot.define(it, pending, {
    { "send", function(n) for _ = 1, n do mpi.send(a, NULL) end end },
    { "send of a view", function(n) for _ = 1, n do mpi.send(view, NULL, 3, SELF) end end },
    { "send of a raw array", function(n) for _ = 1, n do mpi.send(fixed, NULL, 3) end end },
    { "send of a raw VLA", function(n) for _ = 1, n do mpi.send(vla, NULL, 3) end end },
    { "recv", function(n) for _ = 1, n do mpi.recv(a, NULL) end end },
    { "recv into a view", function(n) for _ = 1, n do mpi.recv(view, NULL, 3, SELF, info) end end },
    { "recv into a raw array", function(n) for _ = 1, n do mpi.recv(grid, NULL, 3) end end },
    { "recv into a raw VLA", function(n) for _ = 1, n do mpi.recv(vla, NULL, 3) end end },
    { "sendrecv", function(n) for _ = 1, n do mpi.sendrecv(a, 0, b, 0, 0, 0, SELF) end end },
    { "sendrecv with info", function(n)
      local total = 0
      for _ = 1, n do
        local status = mpi.sendrecv(a, 0, b, nil, 5, nil, SELF, info)
        total = total + status + info.source + info.tag + info.error + info:count()
      end
      assert(total == 12 * n)
    end },
    { "sendrecv of views", function(n) for _ = 1, n do mpi.sendrecv(view, 0, other, 0, 0, 0, SELF) end end },
    { "sendrecv of raw arrays", function(n)
      for _ = 1, n do mpi.sendrecv(fixed, 0, other_fixed, 0, 0, 0, SELF) end
    end },
    { "sendrecv of raw VLAs", function(n) for _ = 1, n do mpi.sendrecv(vla, 0, grid, 0, 0, 0, SELF) end end },
    { "a loop that changes its data", function(n)
      local wrong = 0
      for i = 1, n do
        a[0] = i
        mpi.sendrecv(a, 0, b, 0, 0, 0, SELF)
        if b[0] ~= i then wrong = wrong + 1 end
      end
      assert(wrong == 0)
    end },
  })
end

-- ---- compiled loops ----

-- LuaJIT may move what is read before a call to where it is used, after the call.
describe("what was read before a call stays as it was:", function()
  local sent, got, whole = mpi.zeros(1), mpi.zeros(1), mpi.zeros(2, "int64")
  local requests = mpi.requests(2)

  -- Each counts how often something else than what was there has been read.
  local loops = {
    ["an element, by sendrecv"] = function(n)
      local wrong = 0
      for i = 1, n do
        sent[0] = i
        local before = got[0]
        mpi.sendrecv(sent, 0, got, 0, TAG, TAG, SELF)
        if got[0] - before ~= 1 then wrong = wrong + 1 end
      end
      return wrong
    end,
    ["an element, by allreduce"] = function(n)
      local wrong = 0
      for i = 1, n do
        sent[0] = i
        local before = got[0]
        mpi.allreduce(sent, got, mpi.SUM, SELF)
        if got[0] - before ~= 1 then wrong = wrong + 1 end
      end
      return wrong
    end,
    ["an element, by irecv, send and wait"] = function(n)
      local wrong = 0
      for i = 1, n do
        sent[0] = i
        local before = got[0]
        local _, request = mpi.irecv(got, 0, TAG, SELF)
        mpi.send(sent, 0, TAG, SELF)
        mpi.wait(request)
        if got[0] - before ~= 1 then wrong = wrong + 1 end
      end
      return wrong
    end,
    ["the number of a request, by the next one"] = function(n)
      local wrong = 0
      for _ = 1, n do
        local _, receive = mpi.irecv(got, 0, TAG, SELF)
        local _, send = mpi.isend(sent, 0, TAG, SELF)
        requests[0] = receive
        requests[1] = send
        if requests[0] == requests[1] then wrong = wrong + 1 end
        mpi.waitall(requests)
      end
      return wrong
    end,
    ["a number from allreduce, by the next one"] = function(n)
      local wrong = 0
      for i = 1, n do
        local _, first = mpi.allreduce(i, mpi.SUM, SELF)
        local _, second = mpi.allreduce(2 * i, mpi.SUM, SELF)
        whole[0] = first
        whole[1] = second
        if whole[0] ~= i or whole[1] ~= 2 * i then wrong = wrong + 1 end
      end
      return wrong
    end,
  }
  for name, loop in pairs(loops) do
    it(name, function()
      got[0] = 0
      assert.equal(0, loop(1000))
    end)
  end
end)
