-- SPDX-License-Identifier: MIT
-- In every test the ranks communicate first; what went wrong is collected and judged after that.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local SUCCESS, NULL, SELF, NONE = mpi.SUCCESS, mpi.PROC_NULL, mpi.COMM_SELF, mpi.REQUEST_NULL
local ANY_SOURCE, ANY_TAG = mpi.ANY_SOURCE, mpi.ANY_TAG
local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
local info = mpi.status()

-- Notes a value that is not what it should be.
local function note(problems, label, got, expected)
  if got ~= expected then
    problems[#problems + 1] = ("%s is %s, expected %s"):format(label, tostring(got), tostring(expected))
  end
end

local function class(status)
  return mpi.error_class(status)
end

-- ---- containers of requests ----

-- Each makes one of a list, indexed from `base`.
local containers = {
  { name = "a list", base = 1, make = function(list) return { unpack(list) } end },
  {
    name = "mpi.requests", base = 0,
    make = function(list)
      local requests = mpi.requests(#list)
      for i, r in ipairs(list) do requests[i - 1] = r end
      return requests
    end,
  },
  {
    name = "an int64 array", base = 0,
    make = function(list)
      local requests = mpi.zeros(#list, "int64")
      for i, r in ipairs(list) do requests[i - 1] = r end
      return requests
    end,
  },
}

-- ---- ways to complete ----

local function found()
  return { source = info.source, tag = info.tag, error = info.error, count = info:count() }
end

-- Each completes all requests of a container with n of them, counted from `base`, and returns the first status that is
-- no success, and what was found by index where the routine tells. `failed` collects the indices of those that failed.
local ways = {}

function ways.waitall(requests)
  return (mpi.waitall(requests))
end

function ways.testall(requests)
  local status, done
  repeat status, done = mpi.testall(requests) until done
  return status
end

local function first_failure(before, status)
  return before ~= SUCCESS and before or status
end

function ways.waitany(requests, failed)
  local first, all = SUCCESS, {}
  while true do
    local status, index = mpi.waitany(requests, info)
    if index == nil then return first_failure(first, status), all end
    first, all[index] = first_failure(first, status), found()
    if status ~= SUCCESS then failed[#failed + 1] = index end
  end
end

function ways.testany(requests, failed)
  local first, all = SUCCESS, {}
  while true do
    local status, done, index = mpi.testany(requests, info)
    if done and index == nil then return first_failure(first, status), all end
    if done then
      first, all[index] = first_failure(first, status), found()
      if status ~= SUCCESS then failed[#failed + 1] = index end
    end
  end
end

function ways.waitsome(requests)
  local first, seen = SUCCESS, {}
  while true do
    local status, indices = mpi.waitsome(requests)
    first = first_failure(first, status)
    if indices == nil then return first end
    assert(#indices > 0)
    for _, index in ipairs(indices) do
      assert(not seen[index])
      seen[index] = true
    end
  end
end

function ways.testsome(requests)
  local first = SUCCESS
  while true do
    local status, indices = mpi.testsome(requests)
    first = first_failure(first, status)
    if indices == nil then return first end
  end
end

function ways.wait(requests, failed, base, n)
  local first, all = SUCCESS, {}
  for i = base + n - 1, base, -1 do
    local status = mpi.wait(requests[i], info)
    if status ~= SUCCESS then failed[#failed + 1] = i end
    first, all[i], requests[i] = first_failure(first, status), found(), NONE
  end
  return first, all
end

function ways.test(requests, failed, base, n)
  local first, all = SUCCESS, {}
  for i = base + n - 1, base, -1 do
    local status, done
    repeat status, done = mpi.test(requests[i], info) until done
    if status ~= SUCCESS then failed[#failed + 1] = i end
    first, all[i], requests[i] = first_failure(first, status), found(), NONE
  end
  return first, all
end

local way_names = { "waitall", "testall", "waitany", "testany", "waitsome", "testsome", "wait", "test" }

-- Completes a list of requests in the k-th way: 24 take turns. Returns the status, what was found in the order of the
-- list, and how many failures were told of.
local turn = 0
local function complete(problems, list, persistent)
  turn = turn + 1
  local name, container = data.at(way_names, turn), data.at(containers, math.floor(turn / #way_names))
  local requests, failed = container.make(list), {}
  local status, all = ways[name](requests, failed, container.base, #list)
  local ordered = all and {}
  for i = 1, #list do
    local index = i - 1 + container.base
    if all then ordered[i] = all[index] end
    if not persistent then note(problems, "a completed entry", tonumber(requests[index]), NONE) end
  end
  -- Once more, with nothing active.
  note(problems, "waitall of completed ones", mpi.waitall(requests), SUCCESS)
  return status, ordered, #failed, ("%s of %s"):format(name, container.name)
end

-- ---- elements ----

local LONGEST, SPARE = 1000, 64
local flats, long_flats = {}, {}

-- Elements of a rank, contiguous; long ones repeat, and are kept while the next are of the same dtype.
local function flat(dtype, n, of)
  local key = ("%s %d"):format(dtype, of)
  if n <= LONGEST then
    flats[key] = flats[key] or data.fill(mpi.zeros(LONGEST + SPARE, dtype), data.seed(of))
    return flats[key]
  end
  if long_flats.dtype ~= dtype or long_flats.n ~= n then long_flats = { dtype = dtype, n = n } end
  long_flats[key] = long_flats[key] or data.pattern(n + SPARE, dtype, data.seed(of))
  return long_flats[key]
end

-- n elements of a rank, from position `shift` on.
local function part(dtype, n, of, shift)
  return flat(dtype, n, of):slice { shift, shift + n }
end

-- Sets a view to them.
local function set(view, of, shift)
  view:assign(part(view.dtype, view.size, of, shift):reshape(view.shape))
  return view
end

-- ---- the ways that a message can take ----

local function posted(problems, list, status, request)
  note(problems, "status of posting", status, SUCCESS)
  list[#list + 1] = request
end

-- Posts receives, then sends; m has `sent`, `got` and `tag`. A mode posts `recv` and `send`.
local modes = {
  { name = "isend", recv = mpi.irecv, send = mpi.isend },
  { name = "issend", recv = mpi.irecv, send = mpi.issend },
  { name = "ibsend", recv = mpi.irecv, send = mpi.ibsend, buffered = true },
  { name = "irsend", recv = mpi.irecv, send = mpi.irsend, ready = true },
  { name = "persistent", recv = mpi.recv_init, send = mpi.send_init, persistent = true },
  { name = "imrecv", send = mpi.isend, probed = true },
  { name = "isend to oneself", recv = mpi.irecv, send = mpi.isend, to = rank, from = rank, comm = mpi.COMM_WORLD },
  { name = "isend on COMM_SELF", recv = mpi.irecv, send = mpi.isend, to = 0, from = 0, comm = SELF, self = true },
  { name = "ssend", recv = mpi.irecv, send = mpi.ssend, blocking = true },
  { name = "bsend", recv = mpi.irecv, send = mpi.bsend, blocking = true, buffered = true },
  { name = "rsend", recv = mpi.irecv, send = mpi.rsend, blocking = true, ready = true },
}

local BUFFER = 40 * 2 ^ 20

local function post_sends(problems, list, mode, batch)
  for _, m in ipairs(batch) do
    local status, request = mode.send(m.sent, mode.to or right, m.tag, mode.comm)
    if mode.blocking then
      note(problems, "status of " .. mode.name, status, SUCCESS)
    else
      posted(problems, list, status, request)
    end
  end
end

local function post_recvs(problems, list, mode, batch)
  for _, m in ipairs(batch) do
    posted(problems, list, mode.recv(m.got, mode.from or left, m.tag, mode.comm))
  end
end

-- Every other one is taken by improbe.
local function post_matched(problems, list, batch)
  local messages = {}
  for i, m in ipairs(batch) do
    local status, flag, message
    if i % 2 == 0 then
      status, message = mpi.mprobe(left, m.tag, nil, info)
    else
      repeat status, flag, message = mpi.improbe(left, m.tag, nil, info) until flag
    end
    note(problems, "status of mprobe", status, SUCCESS)
    note(problems, "count of mprobe", info:count(m.got.dtype == "struct" and m.ctype or m.got.dtype), m.length)
    messages[i] = message
  end
  -- In another order than they came.
  for i = #batch, 1, -1 do
    posted(problems, list, mpi.imrecv(batch[i].got, messages[i]))
  end
end

-- Sends all messages of a batch, each { sent, got, tag, length }, and returns what complete() does. The receives come
-- first in the list.
local function run(problems, mode, batch)
  local list = {}
  if mode.buffered then mpi.buffer_attach(BUFFER) end
  if mode.probed then
    local sends = {}
    post_sends(problems, sends, mode, batch)
    post_matched(problems, list, batch)
    for _, r in ipairs(sends) do list[#list + 1] = r end
  else
    post_recvs(problems, list, mode, batch)
    if mode.ready then mpi.barrier() end
    post_sends(problems, list, mode, batch)
  end
  if mode.persistent then
    note(problems, "startall", mpi.startall(list), SUCCESS)
  end
  local status, all, failed, way = complete(problems, list, mode.persistent)
  if mode.persistent then
    for _, r in ipairs(list) do note(problems, "request_free", mpi.request_free(r), SUCCESS) end
  end
  if mode.buffered then mpi.buffer_detach() end
  return status, all, failed, way
end

-- Sends { dtype, from, to, length, room } each from one layout into another, all of them at once.
local function exchange(problems, mode, cases)
  local source = mode.self and rank or mode.from or left
  local batch = {}
  for i, c in ipairs(cases) do
    local sent = data.guards(c.from, c.length, c.dtype)
    local got, memory = data.guards(c.to, c.room or c.length, c.dtype)
    set(sent, rank, i)
    batch[i] = { sent = sent, got = got, memory = memory, tag = i % 3, length = c.length, ctype = c.dtype }
  end
  local status, all, _, way = run(problems, mode, batch)
  note(problems, ("%s, %s: status"):format(mode.name, way), status, SUCCESS)
  for i, c in ipairs(cases) do
    local label = ("%s, %s, %d of %s, %s to %s of %d: "):format(mode.name, way, c.length, c.dtype, c.from, c.to,
      c.room or c.length)
    local expected = part(c.dtype, c.length, source, i)
    if c.room and c.room ~= c.length then
      local longer = data.guards("C", c.room, c.dtype)
      longer:slice({ 0, c.length }):assign(expected)
      expected = longer
    end
    note(problems, label .. "difference", data.mismatch(c.to, batch[i].got, batch[i].memory, expected), nil)
    local one = all and all[mode.probed and #cases + 1 - i or i]
    if one then
      note(problems, label .. "source", one.source, mode.from or left)
      note(problems, label .. "tag", one.tag, i % 3)
      note(problems, label .. "error", one.error, SUCCESS)
      note(problems, label .. "count", one.count, c.length)
    end
  end
end

local function with(list, ...)
  local longer = { unpack(list) }
  for _, item in ipairs { ... } do longer[#longer + 1] = item end
  return longer
end

local layouts = with(data.layouts, "block2")
local small_layouts = with(layouts, "block8")
local single_layouts = with(small_layouts, "scalar")

-- Those that n elements can have; of large arrays some, by turns.
local function layouts_of(n, position)
  if n > 1000 then return data.large_layouts(position) end
  return n == 1 and single_layouts or n < 1000 and small_layouts or layouts
end

for m, mode in ipairs(modes) do
  describe(mode.name, function()
    it("carries every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        local cases = {}
        local function add(n, list)
          for j, from in ipairs(list) do
            cases[#cases + 1] = { dtype = dtype, from = from, to = data.at(list, i + j + m), length = n }
          end
        end
        for _, n in ipairs { 0, 1, 7, 1000 } do add(n, layouts_of(n)) end
        exchange(problems, mode, cases)
      end
      judge(problems)
    end)

    it("carries every layout into every other", function()
      local problems = {}
      for i, from in ipairs(small_layouts) do
        local cases = {}
        for j, to in ipairs(small_layouts) do
          cases[j] = { dtype = data.at(data.dtypes, i + j + m), from = from, to = to, length = 24 }
        end
        exchange(problems, mode, cases)
      end
      judge(problems)
    end)

    it("carries large messages of every dtype in every layout", function()
      local problems = {}
      for i, dtype in ipairs(data.dtypes) do
        local cases, list = {}, data.large_layouts(i + m)
        for j, from in ipairs(list) do
          cases[j] = { dtype = dtype, from = from, to = data.at(list, i + j + m), length = 200000 }
        end
        exchange(problems, mode, cases)
        collectgarbage()
      end
      judge(problems)
    end)

    it("writes only what a short message brought", function()
      local problems, cases = {}, {}
      for i, to in ipairs(layouts) do
        for _, c in ipairs { { 0, 24 }, { 1, 7 }, { 7, 24 }, { 24, 1000 } } do
          cases[#cases + 1] = {
            dtype = data.at(data.dtypes, i + 2 * #cases + m), from = data.at(layouts, #cases), to = to, length = c[1],
            room = c[2],
          }
        end
      end
      cases[#cases + 1] = { dtype = "double", from = "C", to = "C", length = 1000, room = 200000 }
      cases[#cases + 1] = { dtype = "int16", from = "stepped", to = "column", length = 1000, room = 200000 }
      exchange(problems, mode, cases)
      judge(problems)
    end)
  end)
end

-- ---- blocking exchanges ----

local function expect(problems, label, layout, view, memory, source, shift)
  local wrong = data.mismatch(layout, view, memory, part(view.dtype, view.size, source, shift))
  note(problems, label .. " difference", wrong, nil)
end

describe("sendrecv_replace", function()
  it("carries every dtype in every layout", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      for _, n in ipairs { 0, 1, 7, 1000, 200000 } do
        for _, layout in ipairs(layouts_of(n, i)) do
          local view, memory = data.guards(layout, n, dtype)
          set(view, rank, i)
          local status = mpi.sendrecv_replace(view, right, left, 5, 5, nil, info)
          local label = ("%d of %s, %s"):format(n, dtype, layout)
          note(problems, label .. " status", status, SUCCESS)
          note(problems, label .. " count", info:count(), n)
          note(problems, label .. " source", info.source, left)
          expect(problems, label, layout, view, memory, left, i)
        end
      end
    end
    judge(problems)
  end)

  it("leaves what a short message did not bring", function()
    -- To oneself, in a communicator of which the message is all.
    local array = mpi.array { rank, 1, 2, 3 }
    local got = { mpi.sendrecv_replace(array, 0, 0, 1, 1, SELF, info) }
    local none = mpi.sendrecv_replace(array, NULL, NULL, 1, 1, nil, info)
    local elements = info:count()
    local shorter = rank % 2 == 0 and mpi.array { 10, 20, 30, 40, 50 } or mpi.array { 60, 70 }
    local peer = rank % 2 == 0 and rank + 1 or rank - 1
    local status, truncated = SUCCESS, false
    if peer < size then
      status = mpi.sendrecv_replace(shorter, peer, peer, 1, 1, nil, info)
      truncated = mpi.error_class(status) == mpi.ERR_TRUNCATE
    end
    assert.same({ SUCCESS }, got)
    assert.equal(SUCCESS, none)
    assert.equal(0, elements)
    assert.same({ rank, 1, 2, 3 }, array:totable())
    if peer < size and rank % 2 == 0 then
      assert.equal(SUCCESS, status)
      assert.same({ 60, 70, 30, 40, 50 }, shorter:totable())
    elseif peer < size then
      assert(truncated)
    end
  end)

  it("has the defaults of sendrecv", function()
    local array = mpi.array { rank }
    local status = mpi.sendrecv_replace(array, right)
    assert.equal(SUCCESS, status)
    assert.equal(left, array[0])
  end)
end)

describe("mrecv", function()
  it("receives every dtype in every layout, and mprobe tells the count", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      for _, n in ipairs { 0, 1, 7, 1000, 200000 } do
        local list, tag = layouts_of(n, i), n % 32767
        for j, to in ipairs(list) do
          local sent = set(data.guards(data.at(list, i + j), n, dtype), rank, i)
          local view, memory = data.guards(to, n, dtype)
          local _, request = mpi.isend(sent, right, tag)
          local probe_status, message = mpi.mprobe(left, tag, nil, info)
          local probed = { info.source, info.tag, info:count(dtype) }
          local status = mpi.mrecv(view, message, info)
          mpi.wait(request)
          local label, expected = ("%d of %s, %s"):format(n, dtype, to), ("%d %d %d"):format(left, tag, n)
          note(problems, label .. " status of mprobe", probe_status, SUCCESS)
          note(problems, label .. " probed", table.concat(probed, " "), expected)
          note(problems, label .. " status", status, SUCCESS)
          note(problems, label .. " received", ("%d %d %d"):format(info.source, info.tag, info:count()), expected)
          expect(problems, label, to, view, memory, left, i)
        end
      end
    end
    judge(problems)
  end)
end)

-- ---- truncation ----

-- Two arrays that are received as they should, and between them one that is too small for its message.
local function truncated(way, container, length, room, layout, dtype)
  local sent = data.new("C", length, dtype, data.seed(rank))
  local fine = set(mpi.zeros(7, dtype), rank, 1)
  local first, last = mpi.zeros(7, dtype), mpi.zeros(7, dtype)
  local got, memory = data.guards(layout, room, dtype)
  local list = {}
  list[1] = select(2, mpi.irecv(first, left, 1))
  list[2] = select(2, mpi.irecv(got, left, 2))
  list[3] = select(2, mpi.irecv(last, left, 3))
  local sends = {
    select(2, mpi.isend(fine, right, 1)), select(2, mpi.isend(sent, right, 2)), select(2, mpi.isend(fine, right, 3)),
  }
  local requests, failed = container.make(list), {}
  local status = ways[way](requests, failed, container.base, 3)
  local again = mpi.waitall(requests) -- MPI may leave the others pending
  mpi.waitall(sends)
  local problems, label = {}, ("%s of %s, %d to %s of %d"):format(way, container.name, length, layout, room)
  note(problems, label .. ": class", class(status), mpi.ERR_TRUNCATE)
  note(problems, label .. ": status of the rest", again, SUCCESS)
  if way:find "any" or way == "wait" or way == "test" then
    note(problems, label .. ": failures", #failed, 1)
    note(problems, label .. ": index", failed[1], container.base + 1)
  end
  for i = 0, 2 do note(problems, label .. ": entry", tonumber(requests[container.base + i]), NONE) end
  local expected = set(mpi.zeros(7, dtype), left, 1)
  note(problems, label .. ": first", data.difference(first, expected), nil)
  note(problems, label .. ": last", data.difference(last, expected), nil)
  -- What the buffer itself holds is undefined.
  data.fill(got, 1)
  note(problems, label .. ": neighbours", data.difference(memory, select(2, data.new(layout, room, dtype, 1))), nil)
  return problems
end

describe("a message that is too long", function()
  for i, way in ipairs(way_names) do
    it("is reported by " .. way .. ", and its neighbours are not touched", function()
      local problems = {}
      for j, container in ipairs(containers) do
        for k, sizes in ipairs { { 1000, 24 }, { 200000, 24 }, { 200000, 1000 }, { 24, 7 }, { 24, 1 }, { 1000, 0 } } do
          local layout = data.at(layouts, i + j + k)
          for _, problem in ipairs(truncated(way, container, sizes[1], sizes[2], layout, "double")) do
            problems[#problems + 1] = problem
          end
        end
      end
      judge(problems)
    end)
  end

  it("is reported by mrecv and imrecv, which have received it", function()
    local problems = {}
    for _, sizes in ipairs { { 24, 7 }, { 1000, 24 }, { 200000, 24 } } do
      local sent = mpi.zeros(sizes[1])
      for _, nonblocking in ipairs { false, true } do
        local got, memory = data.guards("stepped", sizes[2], "double")
        local _, s = mpi.isend(sent, right, 4)
        local _, message = mpi.mprobe(left, 4)
        local status
        if nonblocking then
          local _, r = mpi.imrecv(got, message)
          status = mpi.wait(r, info)
        else
          status = mpi.mrecv(got, message, info)
        end
        mpi.wait(s)
        note(problems, "class", class(status), mpi.ERR_TRUNCATE)
        note(problems, "class in info", class(info.error), mpi.ERR_TRUNCATE)
        note(problems, "received again", pcall(mpi.mrecv, got, message), false)
        data.fill(got, 1)
        local _, expected = data.new("stepped", sizes[2], "double", 1)
        note(problems, "neighbours", data.difference(memory, expected), nil)
      end
    end
    judge(problems)
  end)

  it("of one is told by testall when the others have completed", function()
    local _, r = mpi.irecv(mpi.zeros(1), left, 4)
    local _, other = mpi.irecv(mpi.zeros(1), left, 5)
    local _, s = mpi.isend(mpi.zeros(2), right, 4)
    local list, early = { r, other, s }, false
    for _ = 1, 100 do early = select(2, mpi.testall(list)) or early end
    mpi.barrier()
    mpi.send(mpi.zeros(1), right, 5)
    local status, done
    repeat status, done = mpi.testall(list) until done
    assert.is_false(early)
    assert.equal(mpi.ERR_TRUNCATE, class(status))
    assert.same({ NONE, NONE, NONE }, list)
  end)

  it("ends a persistent request", function()
    local got = mpi.zeros(24)
    local _, r = mpi.recv_init(got, left, 4)
    local list = { r }
    local start = mpi.start(r)
    local _, s = mpi.isend(mpi.zeros(1000), right, 4)
    local status = mpi.waitall(list)
    mpi.wait(s)
    assert.equal(SUCCESS, start)
    assert.equal(mpi.ERR_TRUNCATE, class(status))
    assert.same({ NONE }, list)
    assert.has_error(function() mpi.start(r) end)
    assert.equal(SUCCESS, mpi.wait(r))
    assert.equal(SUCCESS, mpi.request_free(r))
  end)

  it("ends those of several persistent requests that it is for, and leaves the others", function()
    local got, sizes = {}, { 1000, 24, 25, 24 }
    for _, container in ipairs(containers) do
      local list, sends, free = {}, {}, {}
      for i = 1, 4 do
        got[i] = mpi.zeros(24)
        list[i] = select(2, mpi.recv_init(got[i], left, i))
      end
      local requests = container.make(list)
      local start = mpi.startall(requests)
      for i, length in ipairs(sizes) do sends[i] = select(2, mpi.isend(set(mpi.zeros(length), rank, i), right, i)) end
      local status = mpi.waitall(requests)
      mpi.waitall(sends)
      for i = 1, 4 do free[i] = tonumber(requests[container.base + i - 1]) == NONE end
      local again = mpi.start(list[2])
      mpi.send(set(mpi.zeros(24), rank, 5), right, 2)
      assert.equal(SUCCESS, start)
      assert.equal(mpi.ERR_TRUNCATE, class(status))
      assert.same({ true, false, true, false }, free)
      assert.same({ SUCCESS, SUCCESS }, { again, mpi.wait(list[2]) })
      assert.is_nil(data.difference(got[2], set(mpi.zeros(24), left, 5)))
      assert.is_nil(data.difference(got[4], set(mpi.zeros(24), left, 4)))
      assert.same({ SUCCESS, SUCCESS }, { mpi.request_free(list[2]), mpi.request_free(list[4]) })
      for _, i in ipairs { 1, 3 } do assert.has_error(function() mpi.start(list[i]) end) end
    end
  end)
end)

-- ---- nothing to wait for ----

local function spoil()
  info.source, info.tag, info.error, info.elements, info.cancelled = 99, 98, 97, 96, true
end

local function assert_empty_status()
  assert.same({ ANY_SOURCE, ANY_TAG, SUCCESS, 0, false },
    { info.source, info.tag, info.error, info:count(), info.cancelled })
end

-- A request that has completed.
local function stale()
  local _, r = mpi.isend(mpi.zeros(1), NULL)
  mpi.wait(r)
  return r
end

local function assert_nothing_active(make)
  assert.same({ SUCCESS }, { mpi.waitall(make()) })
  assert.same({ SUCCESS, true }, { mpi.testall(make()) })
  spoil()
  assert.same({ n = 2, SUCCESS, nil }, { n = select("#", mpi.waitany(make(), info)), mpi.waitany(make(), info) })
  assert_empty_status()
  spoil()
  assert.same({ n = 3, SUCCESS, true, nil }, { n = select("#", mpi.testany(make(), info)), mpi.testany(make(), info) })
  assert_empty_status()
  assert.same({ n = 2, SUCCESS, nil }, { n = select("#", mpi.waitsome(make())), mpi.waitsome(make()) })
  assert.same({ n = 2, SUCCESS, nil }, { n = select("#", mpi.testsome(make())), mpi.testsome(make()) })
end

describe("nothing active", function()
  it("completes at once in one request", function()
    for _, r in ipairs { NONE, 0, stale(), 0LL, ffi.cast("int64_t", stale()), -0 } do
      spoil()
      assert.equal(SUCCESS, mpi.wait(r, info))
      assert_empty_status()
      spoil()
      assert.same({ SUCCESS, true }, { mpi.test(r, info) })
      assert_empty_status()
      assert.equal(SUCCESS, mpi.wait(r))
      assert.equal(SUCCESS, mpi.cancel(r))
      assert.equal(SUCCESS, mpi.request_free(r))
    end
  end)

  it("completes at once in containers that are empty, zeroed, null or completed", function()
    local old, _, inactive = stale(), mpi.send_init(mpi.zeros(1), NULL)
    for _, container in ipairs(containers) do
      for _, list in ipairs { {}, { 0 }, { 0, 0, 0 }, { NONE }, { old }, { old, 0, old }, { inactive, 0, old } } do
        assert_nothing_active(function() return container.make(list) end)
      end
    end
    assert_nothing_active(function() return ffi.new "int64_t[3]" end)
    assert_nothing_active(function() return ffi.new("int64_t[?]", 0) end)
    assert_nothing_active(function() return ffi.new "uint64_t[2]" end)
    assert_nothing_active(function() return mpi.zeros({ 2, 3 }, "int64") end)
    assert_nothing_active(function() return mpi.zeros({}, "int64") end)
    assert_nothing_active(function() return mpi.requests(0) end)
    mpi.request_free(inactive)
  end)

  it("is what completed entries become", function()
    local old, _, inactive = stale(), mpi.send_init(mpi.zeros(1), NULL)
    for _, container in ipairs(containers) do
      local requests = container.make { old, inactive, 0 }
      mpi.waitall(requests)
      assert.equal(NONE, tonumber(requests[container.base]))
      assert.equal(inactive, tonumber(requests[container.base + 1]))
    end
    mpi.request_free(inactive)
  end)

  it("is left by a second wait, for whichever copy of the number", function()
    local got = mpi.zeros(3)
    local _, r = mpi.irecv(got, 0, 1, SELF)
    local copy, cdata = r, ffi.cast("int64_t", r)
    local _, s = mpi.isend(mpi.array { rank, 1, 2 }, 0, 1, SELF)
    local first = mpi.wait(r, info)
    local count = info:count()
    local second = mpi.wait(copy, info)
    local third = mpi.waitall { r, cdata, s, s }
    assert.same({ SUCCESS, SUCCESS, SUCCESS }, { first, second, third })
    assert.equal(3, count)
    assert_empty_status()
    assert.same({ rank, 1, 2 }, got:totable())
  end)
end)

describe("a request that is listed twice", function()
  for _, way in ipairs(way_names) do
    it("completes once by " .. way, function()
      local problems = {}
      for _, container in ipairs(containers) do
        local got = mpi.zeros(3)
        local _, r = mpi.irecv(got, left, 9)
        local _, s = mpi.isend(mpi.array { rank, 5, 6 }, right, 9)
        local requests = container.make { r, s, r, 0, s, r }
        local status, all = ways[way](requests, {}, container.base, 6)
        note(problems, "status", status, SUCCESS)
        for i = container.base, container.base + 5 do note(problems, "entry", tonumber(requests[i]), NONE) end
        if all and way:find "any" then
          local completed = {}
          for index in pairs(all) do completed[#completed + 1] = index end
          table.sort(completed)
          note(problems, "indices", table.concat(completed, " "), ("%d %d"):format(container.base, container.base + 1))
        end
        note(problems, "data", tostring(got), tostring(mpi.array { left, 5, 6 }))
      end
      judge(problems)
    end)
  end
end)

describe("indices", function()
  it("are those of the container", function()
    for _, container in ipairs(containers) do
      local got = mpi.zeros(1)
      local _, pending = mpi.irecv(mpi.zeros(1), 0, 77, SELF)
      local _, r = mpi.irecv(got, 0, 3, SELF)
      mpi.send(mpi.array { 4 }, 0, 3, SELF)
      local base = container.base
      local requests = container.make { 0, pending, r }
      local results = { mpi.waitany(requests, info) }
      assert.same({ SUCCESS, base + 2 }, results)
      assert.same({ 0, 3, 1 }, { info.source, info.tag, info:count() })
      -- What is still pending stays.
      assert.equal(pending, tonumber(requests[base + 1]))
      spoil()
      assert.same({ SUCCESS, false, nil }, { mpi.testany(requests, info) })
      assert.same({ SUCCESS, {} }, { mpi.testsome(requests) })
      assert.same({ SUCCESS, false }, { mpi.testall(requests) })
      assert.same({ SUCCESS, false }, { mpi.test(pending, info) })
      assert.equal(pending, tonumber(requests[base + 1]))
      mpi.send(mpi.array { 4 }, 0, 77, SELF)
      local status, indices = mpi.waitsome(requests)
      assert.equal(SUCCESS, status)
      assert.same({ base + 1 }, indices)
    end
  end)
end)

-- ---- containers from one call to the next ----

-- What the core knows of a container from the call before must never be more than what holds now. A model of up to
-- `n` requests says what each call is to find, after changes of all kinds, in containers of any length.
describe("a container that changes between calls", function()
  local random, VALUE, tag = math.random, 1000, 0

  -- All is on COMM_SELF, where a message has come as soon as it has been sent.
  local function model_of(container, n, problems)
    local model = { live = {}, entries = {}, container = container, problems = problems }
    for i = 1, n do model.entries[i] = NONE end
    model.requests = container.make(model.entries)
    return model
  end

  local function put(model, i, r)
    model.entries[i] = r
    model.requests[i - 1 + model.container.base] = r
  end

  local function post(model, i)
    tag = tag + 1
    local operation = { data = mpi.zeros(1), tag = tag, sent = false }
    local _, r = mpi.irecv(operation.data, 0, operation.tag, SELF)
    model.live[r] = operation
    put(model, i, r)
    return r
  end

  local function deliver(model, r)
    local operation = model.live[r]
    if not operation or operation.sent then return end
    operation.sent = true
    mpi.send(mpi.array { VALUE + operation.tag }, 0, operation.tag, SELF)
  end

  local function ended(model, r, where)
    local operation = model.live[r]
    note(model.problems, where .. ", sent", operation and operation.sent, true)
    if operation then note(model.problems, where .. ", data", operation.data[0], VALUE + operation.tag) end
    model.live[r] = nil
  end

  -- Whether an entry is live, and whether a message has come for one.
  local function expected(model)
    local live, sent = false, false
    for _, r in ipairs(model.entries) do
      local operation = model.live[r]
      live, sent = live or operation ~= nil, sent or operation ~= nil and operation.sent
    end
    return live, sent
  end

  local function compare(model, where)
    for i, r in ipairs(model.entries) do
      if not model.live[r] then model.entries[i] = NONE end
      note(model.problems, where .. ", entry " .. i, tonumber(model.requests[i - 1 + model.container.base]),
        model.entries[i])
    end
  end

  local calls = {}

  function calls.any(model)
    local live, sent = expected(model)
    local status, done, index
    if sent or not live then
      status, index = mpi.waitany(model.requests, info)
      done = true
    else
      status, done, index = mpi.testany(model.requests, info)
    end
    note(model.problems, "any, status", status, SUCCESS)
    note(model.problems, "any, done", done, sent or not live)
    note(model.problems, "any, index", index ~= nil, sent)
    if index then ended(model, model.entries[index + 1 - model.container.base], "any") end
    compare(model, "any")
  end

  function calls.some(model)
    local live, sent = expected(model)
    local status, indices = (sent and mpi.waitsome or mpi.testsome)(model.requests)
    note(model.problems, "some, status", status, SUCCESS)
    note(model.problems, "some, live", indices ~= nil, live)
    note(model.problems, "some, sent", indices ~= nil and #indices > 0, sent)
    for _, index in ipairs(indices or {}) do
      ended(model, model.entries[index + 1 - model.container.base], "some")
    end
    compare(model, "some")
  end

  function calls.all(model)
    local status, done = mpi.testall(model.requests)
    local all, ends = true, {}
    for _, r in ipairs(model.entries) do
      all = all and (not model.live[r] or model.live[r].sent)
      if model.live[r] then ends[r] = true end
    end
    note(model.problems, "all, status", status, SUCCESS)
    note(model.problems, "all, done", done, all)
    for r in pairs(done and ends or {}) do ended(model, r, "all") end
    compare(model, "all")
  end

  -- By itself, so that no call on the container sees it.
  function calls.wait(model)
    local r = model.entries[random(#model.entries)]
    if not model.live[r] then return end
    deliver(model, r)
    note(model.problems, "wait, status", mpi.wait(r), SUCCESS)
    ended(model, r, "wait")
  end

  local names = { "any", "any", "any", "some", "all", "wait" }

  local function change(model)
    local n, kind = #model.entries, random(9)
    local i, k = random(n), random(n)
    if kind <= 3 then
      post(model, i)
    elseif kind <= 5 then
      deliver(model, model.entries[i])
    elseif kind == 6 then -- two change places
      local r = model.entries[i]
      put(model, i, model.entries[k])
      put(model, k, r)
    elseif kind == 7 then -- one stands there twice
      put(model, i, model.entries[k])
    elseif kind == 8 then
      put(model, i, NONE)
    else -- all move on
      local last = model.entries[n]
      for j = n, 2, -1 do put(model, j, model.entries[j - 1]) end
      put(model, 1, last)
    end
  end

  -- Waits for what has left the containers, too.
  local function finish(models)
    for _, model in ipairs(models) do
      local rest = {}
      for r in pairs(model.live) do
        deliver(model, r)
        rest[#rest + 1] = r
      end
      note(model.problems, "rest", mpi.waitall(rest), SUCCESS)
      for r in pairs(model.live) do ended(model, r, "rest") end
      calls.any(model)
    end
  end

  for _, container in ipairs(containers) do
    it("is looked through anew, as " .. container.name, function()
      local problems, models = {}, {}
      math.randomseed(4)
      for i, n in ipairs { 1, 5, 5, 31, 32, 33, 70, 70 } do models[i] = model_of(container, n, problems) end
      for step = 1, 1500 do
        local model = models[random(#models)]
        for _ = 1, random(0, 4) do change(model) end
        calls[names[random(#names)]](model)
        if step % 100 == 0 then -- another one of the same requests, perhaps where the old one was
          local old = models[random(#models)]
          old.requests = container.make(old.entries)
          collectgarbage()
        end
        if #problems > 0 then break end
      end
      finish(models)
      judge(problems)
    end)
  end

  it("holds persistent requests, which are started and end", function()
    local N = 50
    local got, requests, problems = mpi.zeros(N), mpi.requests(N), {}
    for i = 0, N - 1 do
      local _, r = mpi.recv_init(got:slice { i, i + 1 }, 0, i, SELF)
      requests[i] = r
    end
    note(problems, "inactive", select(2, mpi.waitany(requests)), nil)
    for step = 1, 3 do
      for i = 0, N - 1, step do mpi.start(tonumber(requests[i])) end
      for i = 0, N - 1, step do
        note(problems, "pending", select(2, mpi.testany(requests)), false)
        mpi.send(mpi.array { step * N + i }, 0, i, SELF)
        if i % 3 == 0 then
          mpi.wait(tonumber(requests[i]))
        else
          note(problems, "index", select(2, mpi.waitany(requests)), i)
        end
        note(problems, "data", got[i], step * N + i)
        mpi.start(tonumber(requests[i])) -- at once again
        mpi.send(mpi.array { -i }, 0, i, SELF)
        note(problems, "again", table.concat(select(2, mpi.waitsome(requests)), " "), tostring(i))
      end
      note(problems, "none", select(2, mpi.waitany(requests)), nil)
    end
    for i = 0, N - 1 do mpi.request_free(tonumber(requests[i])) end
    note(problems, "freed", select(2, mpi.waitany(requests)), nil)
    for i = 0, N - 1 do note(problems, "entry", tonumber(requests[i]), NONE) end
    judge(problems)
  end)

  it("may come to hold what is no request, time and again", function()
    for _, n in ipairs { 3, 40 } do
      local requests, got = mpi.requests(n), mpi.zeros(1)
      local _, r = mpi.irecv(got, 0, 7, SELF)
      requests[1] = r
      assert.same({ SUCCESS, false }, { mpi.testany(requests) })
      for _, bad in ipairs { -1LL, 77LL, -1LL, -r, 2LL ^ 62 } do
        for place = 0, 1 do
          requests[place] = bad
          for _ = 1, 2 do
            assert.has_error(function() mpi.waitany(requests) end)
            assert.has_error(function() mpi.waitall(requests) end)
          end
        end
        requests[0], requests[1] = 0, r
        assert.same({ SUCCESS, false }, { mpi.testany(requests) })
      end
      mpi.send(mpi.array { 5 }, 0, 7, SELF)
      assert.same({ SUCCESS, 1 }, { mpi.waitany(requests) })
      assert.equal(5, got[0])
      requests[0] = -1
      assert.has_error(function() mpi.waitany(requests) end)
    end
  end)
end)

-- ---- many ----

describe("thousands of requests", function()
  local N = 5000

  it("complete in another order than they were made", function()
    local got, sent = mpi.zeros(N, "int32"), mpi.zeros(N, "int32")
    local recvs, sends, seen, twice = {}, mpi.requests(N), {}, false
    for i = 0, N - 1 do
      sent[i] = rank * N + i
      local _, r = mpi.irecv(got:slice { i, i + 1 }, left, i)
      recvs[i + 1] = r
      twice, seen[r] = twice or seen[r], true
    end
    for i = N - 1, 0, -1 do
      local _, s = mpi.isend(sent:slice { i, i + 1 }, right, i)
      sends[i] = s
      twice, seen[s] = twice or seen[s], true
    end
    -- Every third alone from the back, then some, then the rest.
    local status = SUCCESS
    for i = N, 1, -3 do status = first_failure(status, mpi.wait(recvs[i])) end
    status = first_failure(status, (mpi.waitsome(recvs)))
    status = first_failure(status, mpi.waitall(recvs))
    status = first_failure(status, mpi.waitall(sends))
    assert.equal(SUCCESS, status)
    assert.is_falsy(twice)
    for i = 0, N - 1 do
      if got[i] ~= left * N + i then error(("element %d is %d"):format(i, got[i])) end
    end
    for i = 1, N do assert(recvs[i] == NONE and sends[i - 1] == NONE) end
  end)

  it("of views complete too, whose arrays have been dropped", function()
    local matrix = mpi.zeros({ 600, 7 }, "int16")
    local requests = mpi.requests(1200)
    for i = 0, 599 do
      local _, r = mpi.irecv(matrix:row(i):slice { nil, nil, 2 }, left, i)
      requests[i] = r
    end
    for i = 0, 599 do
      local column = mpi.zeros({ 4, 3 }, "int16")
      for k = 0, 3 do column:set(k, 1, rank * 100 + i + k) end
      local _, s = mpi.isend(column:col(1), right, i)
      requests[600 + i] = s
      if i % 100 == 0 then collectgarbage() end
    end
    collectgarbage()
    local status = mpi.waitall(requests)
    assert.equal(SUCCESS, status)
    for i = 0, 599 do
      local v = left * 100 + i
      assert.same({ v, 0, v + 1, 0, v + 2, 0, v + 3 }, matrix:row(i):totable())
    end
  end)

  it("use no more memory each time", function()
    local function round()
      local requests, got, sent = mpi.requests(2000), mpi.zeros(1000), mpi.zeros(1000)
      for i = 0, 999 do
        local _, r = mpi.irecv(got:slice { i, i + 1 }, 0, 1, SELF)
        requests[i] = r
      end
      for i = 0, 999 do
        local _, s = mpi.isend(sent:slice { i, i + 1 }, 0, 1, SELF)
        requests[1000 + i] = s
      end
      local highest = 0
      for i = 0, 1999 do highest = math.max(highest, tonumber(requests[i]) % 2 ^ 20) end
      mpi.waitall(requests)
      return highest
    end
    local highest = round()
    for _ = 1, 5 do assert.equal(highest, round()) end
  end)
end)

-- ---- a message to oneself, in memory that overlaps ----

describe("memory that a pending operation uses, alone in a communicator,", function()
  local x = mpi.zeros(100)
  local message = "expected memory of its own, but it overlaps that of a pending "

  local function refused(pending_by, f, ...)
    local ok, err = pcall(f, ...)
    assert.is_false(ok)
    assert(err:find(message .. pending_by, 1, true), err)
    assert(err:find("request_spec.lua", 1, true), err)
  end

  it("is refused to what sends", function()
    local _, r = mpi.irecv(x:slice { 0, 60 }, 0, 1, SELF)
    for _, routine in ipairs { "send", "ssend", "rsend", "isend", "issend", "irsend" } do
      refused("irecv", mpi[routine], x:slice { 50, 100 }, 0, 1, SELF)
    end
    refused("irecv", mpi.sendrecv, x, 0, mpi.zeros(100), 0, 1, 1, SELF)
    local _, p = mpi.send_init(x, 0, 1, SELF)
    refused("irecv", mpi.start, p)
    local beside = mpi.send(x:slice { 60, 100 }, 0, 1, SELF)
    local status = mpi.wait(r)
    mpi.request_free(p)
    assert.same({ SUCCESS, SUCCESS }, { beside, status })
  end)

  it("is refused to what receives", function()
    local _, s = mpi.isend(x, 0, 1, SELF)
    refused("isend", mpi.recv, x, 0, 1, SELF)
    refused("isend", mpi.irecv, x:slice { 99 }, ANY_SOURCE, 1, SELF)
    refused("isend", mpi.sendrecv_replace, x, 0, 0, 1, 1, SELF)
    local _, p = mpi.recv_init(x, 0, 1, SELF)
    refused("isend", mpi.start, p)
    mpi.request_free(p)
    local _, m = mpi.mprobe(0, 1, SELF)
    refused("isend", mpi.mrecv, x, m)
    refused("isend", mpi.imrecv, x, m)
    local status = mpi.mrecv(mpi.zeros(100), m)
    assert.same({ SUCCESS, SUCCESS }, { status, mpi.wait(s) })
  end)

  it("is free when the operation has ended", function()
    for _ = 1, 3 do
      local _, s = mpi.isend(x, 0, 1, SELF)
      mpi.recv(mpi.zeros(100), 0, 1, SELF)
      mpi.wait(s)
      local _, r = mpi.irecv(x, 0, 1, SELF)
      mpi.send(mpi.zeros(100), 0, 1, SELF)
      assert.equal(SUCCESS, mpi.wait(r))
    end
  end)
end)

-- ---- misuse ----

describe("a request of another thread", function()
  it("is refused", function()
    local theirs = require("nmpi.thread").parallel(1, function()
      local nmpi = require "nmpi"
      local _, r = nmpi.isend(nmpi.zeros(1), nmpi.PROC_NULL)
      nmpi.wait(r)
      return r
    end)[1]
    mpi.wait(select(2, mpi.isend(mpi.zeros(1), mpi.PROC_NULL))) -- so that this thread has requests
    for _, wait in ipairs { mpi.wait, function(r) return mpi.waitall { r } end } do
      local ok, err = pcall(wait, theirs)
      assert.is_false(ok)
      assert(err:find("expected a request of this thread, got one of another thread", 1, true), err)
    end
  end)
end)

describe("what is no request", function()
  local function fails(f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    message = tostring(message)
    assert(message:find("request_spec.lua", 1, true), message)
    assert(message:find "expected" or message:find "argument", message)
  end

  local _, live = mpi.irecv(mpi.zeros(1), 0, 55, SELF)
  local made_up = {
    1, -1, 7, 1.5, 0.5, -0.5, 0 / 0, 1 / 0, -1 / 0, 1e300, -1e300, 2 ^ 53, 2 ^ 53 - 1, 2 ^ 62, 2 ^ 20 - 1,
    2 ^ 45 * 77, live + 0.5, live + 2 ^ 20, live + 2 ^ 44, live + 2 ^ 19, -live, 1LL, -1LL, 2 ^ 63 * 1ULL,
    0x7fffffffffffffffLL,
  }
  local others = {
    "1", "", "request", true, false, {}, function() end, mpi.zeros(2), mpi.requests(2), mpi.status(), SELF, mpi.SUM,
    ffi.new "double[2]", ffi.new "void *", coroutine.create(function() end), io.stdout, mpi.IN_PLACE,
  }
  local routines = { "wait", "test", "cancel", "start", "request_free" }

  it("is refused as one", function()
    for _, list in ipairs { made_up, others } do
      for _, value in ipairs(list) do
        for _, routine in ipairs(routines) do
          fails(function() mpi[routine](value) end)
        end
        fails(function() mpi.mrecv(mpi.zeros(1), value) end)
        fails(function() mpi.imrecv(mpi.zeros(1), value) end)
      end
    end
    for _, routine in ipairs(routines) do fails(function() mpi[routine]() end) end
    for _, value in ipairs { NONE, live, stale() } do
      fails(function() mpi.mrecv(mpi.zeros(1), value) end)
      fails(function() mpi.imrecv(mpi.zeros(1), value) end)
    end
  end)

  local several = { "waitall", "testall", "waitany", "testany", "waitsome", "testsome", "startall" }

  it("is refused in a list, whose other requests it leaves alone", function()
    for _, routine in ipairs(several) do
      for _, list in ipairs { made_up, others } do
        for _, value in ipairs(list) do
          fails(function() mpi[routine] { live, value } end)
          fails(function() mpi[routine] { value, live } end)
        end
      end
      for _, value in ipairs { 1LL, -1LL, 0x7fffffffffffffffLL, ffi.cast("int64_t", live + 2 ^ 20) } do
        local requests = mpi.requests(2)
        requests[1] = value
        fails(function() mpi[routine](requests) end)
        assert.equal(value, requests[1])
      end
    end
    assert.same({ SUCCESS, false }, { mpi.test(live) })
  end)

  it("is refused as a container", function()
    local freed = mpi.zeros(3, "int64")
    freed:free()
    local bad = {
      live, "list", true, ffi.new "int32_t[3]", ffi.new "double[3]", ffi.new("const int64_t[3]"), ffi.new "int64_t",
      ffi.cast("int64_t *", mpi.requests(3)), mpi.zeros(3), mpi.zeros(3, "int32"),
      mpi.zeros(6, "int64"):slice { nil, nil, 2 }, mpi.zeros(3, "int64"):slice { 2, -4, -1 }, freed,
      mpi.wrap(ffi.new "const int64_t[3]"), mpi.IN_PLACE, mpi.status(), SELF, mpi.sum, print,
      ffi.cast("nmpi_array *", nil), ffi.cast("int64_t *", nil), ffi.new("int64_t *[2]"),
      ffi.new("const int64_t[?]", 3), ffi.typeof "int64_t[?]",
      ffi.new("struct { int64_t n; int64_t numbers[?]; }", 3).numbers, -- nothing tells its length
    }
    for _, routine in ipairs(several) do
      for _, container in pairs(bad) do fails(function() mpi[routine](container) end) end
      fails(function() mpi[routine]() end)
    end
  end)

  it("is refused in a list with a hole", function()
    -- The length of such a list is either end of the hole: a request is refused in it, or found behind it.
    local function holed()
      local list = { live, live, live }
      list[2] = nil
      return list
    end
    local behind = { [1] = mpi.REQUEST_NULL, [3] = live }
    for _, routine in ipairs { "waitall", "waitany", "waitsome", "testall", "testsome", "testany", "startall" } do
      fails(function() mpi[routine](holed()) end)
      fails(function() mpi[routine](behind) end)
    end
    local grown = setmetatable({ 0, 0 }, { __index = function(_, k) return k == 3 and live or nil end })
    assert.equal(SUCCESS, mpi.waitall(grown))
  end)

  -- What a message brings into a container, no slot has.
  local function junk(n)
    local numbers = ffi.new("int64_t[?]", n)
    for i = 0, n - 1 do numbers[i] = 0xfffff end
    return numbers
  end

  it("is refused where starting the ones before has brought it into the container", function()
    local requests = mpi.requests(3)
    local _, receives = mpi.recv_init(requests, 0, 77, SELF)
    local _, sends = mpi.send_init(junk(3), 0, 77, SELF)
    local _, third = mpi.send_init(mpi.zeros(1), mpi.PROC_NULL)
    requests[0], requests[1], requests[2] = receives, sends, third
    pcall(mpi.startall, requests) -- whether the message is there in time is up to MPI
    for _, r in ipairs { receives, sends, third } do
      mpi.wait(r)
      assert.equal(SUCCESS, mpi.request_free(r))
    end
  end)

  it("does no harm where a message brings it into the container during the call", function()
    for _, routine in ipairs { "waitany", "waitsome", "waitall" } do
      local requests, r = mpi.requests(2), nil
      if rank == 0 and size > 1 then _, r = mpi.irecv(requests, 1, 78) end
      mpi.barrier()
      if rank == 1 then
        local start = mpi.wtime()
        while mpi.wtime() - start < 0.02 do end
        mpi.send(junk(2), 0, 78)
      elseif r then
        requests[0] = r
        pcall(mpi[routine], requests)
        assert.equal(SUCCESS, mpi.wait(r))
      end
    end
  end)

  it("is refused in a list that begins at 0", function()
    for _, routine in ipairs(several) do
      fails(function() mpi[routine] { [0] = live } end)
      fails(function() mpi[routine] { [0] = live, 0 } end)
    end
    assert.same({ SUCCESS, false }, { mpi.test(live) })
  end)

  it("is refused by requests(n)", function()
    for _, n in ipairs { -1, 1.5, 2 ^ 31, 2 ^ 31 - 1, 2 ^ 28, 0 / 0, "x", {} } do
      fails(function() mpi.requests(n) end)
    end
    fails(function() mpi.requests() end)
  end)

  it("is refused as a list that shrinks while it is read", function()
    local list
    list = setmetatable({}, { __index = function(_, k) list[k + 1] = 0 return 0 end })
    assert.equal(SUCCESS, mpi.waitall(list))
    local shrinking = { 0, 0, 0 }
    assert.equal(SUCCESS, mpi.waitall(shrinking))
    shrinking[3] = nil
    assert.equal(SUCCESS, mpi.waitall(shrinking))
    for i = 4, 1000 do shrinking[i - 1] = 0 end
    assert.equal(SUCCESS, mpi.waitall(shrinking))
    assert.equal(999, #shrinking)
  end)

  it("is a message, and a message is no request", function()
    mpi.send(mpi.zeros(1), NULL)
    local _, s = mpi.isend(mpi.array { 3 }, 0, 66, SELF)
    local _, message = mpi.mprobe(0, 66, SELF)
    for _, routine in ipairs(routines) do fails(function() mpi[routine](message) end) end
    for _, routine in ipairs(several) do fails(function() mpi[routine] { message } end) end
    fails(function() mpi.mrecv(mpi.zeros(1), s) end)
    local got = mpi.zeros(1)
    assert.equal(SUCCESS, mpi.mrecv(got, message))
    assert.equal(3, got[0])
    fails(function() mpi.mrecv(got, message) end)
    fails(function() mpi.imrecv(got, message) end)
    assert.equal(SUCCESS, mpi.wait(s))
    assert.equal(SUCCESS, mpi.wait(message))
  end)

  it("is refused by info, comm, rank and tag", function()
    for _, bad in ipairs { 1, "x", {}, mpi.zeros(1), SELF } do
      fails(function() mpi.wait(live, bad) end)
      fails(function() mpi.test(live, bad) end)
      fails(function() mpi.waitany({ live }, bad) end)
      fails(function() mpi.testany({ live }, bad) end)
      fails(function() mpi.probe(0, 0, SELF, bad) end)
      fails(function() mpi.iprobe(0, 0, SELF, bad) end)
      fails(function() mpi.mprobe(0, 0, SELF, bad) end)
      fails(function() mpi.improbe(0, 0, SELF, bad) end)
    end
    for _, routine in ipairs { "isend", "issend", "ibsend", "irsend", "send_init", "ssend", "bsend", "rsend" } do
      for _, bad in ipairs { size, -77, 1.5, "0", {} } do
        fails(function() mpi[routine](mpi.zeros(1), bad) end)
        if bad ~= size then fails(function() mpi[routine](mpi.zeros(1), 0, bad) end) end
      end
      fails(function() mpi[routine](mpi.zeros(1), 0, ANY_TAG) end)
      fails(function() mpi[routine](mpi.zeros(1)) end)
      fails(function() mpi[routine](mpi.zeros(1), 0, 0, 5) end)
      for _, bad in pairs { 5, {}, mpi.IN_PLACE, SELF, ffi.cast("double *", nil) } do
        fails(function() mpi[routine](bad, 0) end)
      end
      fails(function() mpi[routine](nil, 0) end)
    end
    for _, routine in ipairs { "irecv", "recv_init" } do
      fails(function() mpi[routine](mpi.zeros(1), size) end)
      fails(function() mpi[routine](mpi.zeros(1), -77) end)
      fails(function() mpi[routine](mpi.zeros(1), 0, -77) end)
      fails(function() mpi[routine](mpi.zeros(1), 0, 0, 5) end)
      fails(function() mpi[routine]() end)
      fails(function() mpi[routine](5) end)
    end
    for _, routine in ipairs { "probe", "iprobe", "mprobe", "improbe" } do
      fails(function() mpi[routine](size) end)
      fails(function() mpi[routine](0, -77) end)
      fails(function() mpi[routine](0, 0, 5) end)
    end
  end)

  it("left what is pending alone", function()
    assert.same({ SUCCESS, false }, { mpi.test(live) })
    mpi.cancel(live)
    assert.equal(SUCCESS, mpi.wait(live, info))
    assert.is_true(info.cancelled)
  end)
end)

describe("a receive", function()
  local const = mpi.wrap(ffi.new "const double[4]")
  local overlapping = mpi.wrap(ffi.new "double[4]", { 3, 2 }, "double", { 1, 1 })
  local zero = mpi.wrap(ffi.new "double[4]", 4, "double", { 0 })

  it("into read-only or overlapping memory is an error", function()
    local _, s = mpi.isend(mpi.zeros(1), 0, 66, SELF)
    local _, message = mpi.mprobe(0, 66, SELF)
    for _, bad in ipairs { const, overlapping, zero, ffi.new "const double[4]" } do
      for _, f in ipairs {
        function() mpi.irecv(bad, 0, 1, SELF) end,
        function() mpi.recv_init(bad, 0, 1, SELF) end,
        function() mpi.recv(bad, 0, 1, SELF) end,
        function() mpi.mrecv(bad, message) end,
        function() mpi.imrecv(bad, message) end,
        function() mpi.sendrecv_replace(bad, 0, 0, 1, 1, SELF) end,
        function() mpi.sendrecv(mpi.zeros(4), 0, bad, 0, 1, 1, SELF) end,
      } do
        local ok, text = pcall(f)
        assert.is_false(ok)
        assert(text:find "writable" or text:find "overlap", text)
      end
    end
    -- The message is still there.
    assert.equal(SUCCESS, mpi.mrecv(mpi.zeros(1), message))
    mpi.wait(s)
  end)
end)

describe("a view of zero stride", function()
  it("is sent by every mode", function()
    local problems = {}
    for _, mode in ipairs(modes) do
      for _, dtype in ipairs { "double", "int8", "complex double" } do
        local memory = mpi.zeros(3, dtype)
        set(memory, rank, 0)
        local repeated = mpi.wrap(memory.data, { 4, 3, 2 }, dtype, { 0, 1, 0 })
        local got, expected = mpi.zeros({ 4, 3, 2 }, dtype), mpi.zeros({ 4, 3, 2 }, dtype)
        local source = set(mpi.zeros(3, dtype), mode.self and rank or mode.from or left, 0)
        for i = 0, 3 do
          for k = 0, 1 do expected:slice(i, nil, k):assign(source) end
        end
        run(problems, mode, { { sent = repeated, got = got, tag = 1, length = 24, ctype = dtype } })
        note(problems, mode.name .. " of " .. dtype, data.difference(got, expected), nil)
      end
    end
    judge(problems)
  end)
end)

-- ---- defaults and wildcards ----

describe("defaults", function()
  it("are tag 0, any source, any tag and COMM_WORLD", function()
    local got = mpi.zeros(2)
    local posted_status, r = mpi.irecv(got)
    local sent_status, s = mpi.isend(mpi.array { rank, 2 }, right)
    local status = mpi.wait(r, info)
    mpi.wait(s)
    local first = { info.source, info.tag, info.error, info:count(), info.cancelled }
    mpi.barrier() -- before anybody sends what the wildcards could take for theirs
    local _, p = mpi.recv_init(got)
    local _, q = mpi.send_init(mpi.array { rank, 3 }, right)
    mpi.startall { p, q }
    mpi.wait(q)
    local persistent = mpi.wait(p, info)
    local second = { info.source, info.tag, info.error, info:count(), info.cancelled }
    mpi.request_free(p)
    mpi.request_free(q)
    mpi.barrier()
    s = select(2, mpi.isend(mpi.array { rank, 4 }, right))
    local probed = mpi.probe(nil, nil, nil, info)
    local third = { info.source, info.tag, info:count "double" }
    local matched, message = mpi.mprobe()
    local mrecv = mpi.mrecv(got, message)
    mpi.wait(s)
    mpi.barrier()
    assert.same({ SUCCESS, SUCCESS, SUCCESS, SUCCESS }, { posted_status, sent_status, status, persistent })
    assert.same({ left, 0, SUCCESS, 2, false }, first)
    assert.same({ left, 0, SUCCESS, 2, false }, second)
    assert.same({ left, 0, 2 }, third)
    assert.same({ SUCCESS, SUCCESS, SUCCESS }, { probed, matched, mrecv })
    assert.same({ left, 4 }, got:totable())
  end)

  it("of wildcards take what comes from everyone", function()
    local requests, got = mpi.requests(size), mpi.zeros({ size, 2 }, "int32")
    if rank == 0 then
      for i = 0, size - 1 do
        local _, r = mpi.irecv(got:row(i), ANY_SOURCE, ANY_TAG)
        requests[i] = r
      end
    end
    local _, s = mpi.isend(mpi.array({ rank, -rank }, "int32"), 0, 10 + rank)
    local seen, problems = {}, {}
    while true do
      local status, index = mpi.waitany(requests, info)
      if not index then break end
      note(problems, "status", status, SUCCESS)
      note(problems, "tag", info.tag, 10 + info.source)
      note(problems, "data", got:get(index, 0), info.source)
      note(problems, "data", got:get(index, 1), -info.source)
      note(problems, "count", info:count(), 2)
      note(problems, "seen", seen[info.source], nil)
      seen[info.source] = true
    end
    mpi.wait(s)
    mpi.barrier()
    judge(problems)
    for i = 0, size - 1 do assert.equal(rank == 0 or nil, seen[i]) end
  end)
end)

describe("PROC_NULL", function()
  local function assert_nobody()
    assert.same({ NULL, ANY_TAG, SUCCESS, 0, false },
      { info.source, info.tag, info.error, info:count(), info.cancelled })
  end

  it("is not waited for, whatever else is pending", function()
    local problems, a, b = {}, mpi.zeros(1), mpi.zeros(1)
    for _, init in ipairs { mpi.recv_init, mpi.send_init } do
      for _, way in ipairs { "waitany", "testany", "waitsome", "testsome" } do
        local _, p = init(a, NULL)
        local _, pending_one = mpi.irecv(b, left, 6)
        mpi.start(p)
        local list = { pending_one, p }
        local done = { mpi[way](list) }
        local index = way == "waitany" and done[2] or way == "testany" and done[3] or done[2] and done[2][1]
        note(problems, way .. ": index", index, 2)
        note(problems, way .. ": status", done[1], SUCCESS)
        mpi.barrier() -- nobody sends before everybody has looked
        local _, s = mpi.isend(a, right, 6)
        note(problems, way .. ": the rest", mpi.waitall(list), SUCCESS)
        mpi.wait(s)
        mpi.request_free(p)
      end
    end
    judge(problems)
  end)

  it("completes at once", function()
    local got = mpi.array { 7, 8, 9 }
    mpi.buffer_attach(10000)
    for _, mode in ipairs(modes) do
      local status, r = mode.send(got, NULL, 5)
      assert.equal(SUCCESS, status)
      if r then
        if mode.persistent then assert.equal(SUCCESS, mpi.start(r)) end
        assert.equal(SUCCESS, mpi.wait(r))
        if mode.persistent then assert.equal(SUCCESS, mpi.request_free(r)) end
      end
    end
    mpi.buffer_detach()
    local _, r = mpi.irecv(got, NULL, 5)
    spoil()
    assert.equal(SUCCESS, mpi.wait(r, info))
    assert_nobody()
    local _, p = mpi.recv_init(got:slice { nil, nil, 2 }, NULL)
    for _ = 1, 3 do
      mpi.start(p)
      spoil()
      assert.same({ SUCCESS, 1 }, { mpi.waitany({ p }, info) })
      assert_nobody()
    end
    mpi.request_free(p)
    assert.same({ 7, 8, 9 }, got:totable())
  end)

  it("is probed at once", function()
    local got = mpi.array { 7 }
    spoil()
    assert.equal(SUCCESS, mpi.probe(NULL, 3, nil, info))
    assert.same({ NULL, ANY_TAG, 0 }, { info.source, info.tag, info:count "double" })
    spoil()
    assert.same({ SUCCESS, true }, { mpi.iprobe(NULL, 3, nil, info) })
    assert.same({ NULL, ANY_TAG, 0 }, { info.source, info.tag, info:count "double" })
    local status, message = mpi.mprobe(NULL, 3, nil, info)
    assert.equal(SUCCESS, status)
    spoil()
    assert.equal(SUCCESS, mpi.mrecv(got, message, info))
    assert_nobody()
    local flag
    status, flag, message = mpi.improbe(NULL, 3, nil, info)
    assert.same({ SUCCESS, true }, { status, flag })
    local _, r = mpi.imrecv(got, message)
    spoil()
    assert.equal(SUCCESS, mpi.wait(r, info))
    assert_nobody()
    assert.same({ 7 }, got:totable())
  end)
end)

-- ---- cancelling ----

describe("cancel", function()
  it("gives up a receive", function()
    for i, container in ipairs(containers) do
      local got = mpi.array { 7, 8, 9, 10 }
      local views = { got, got:slice { nil, nil, 2 }, mpi.wrap(ffi.new "double[3]") }
      local _, r = mpi.irecv(views[i], 0, 99, SELF)
      assert.equal(SUCCESS, mpi.cancel(r))
      assert.equal(SUCCESS, mpi.cancel(r))
      local requests = container.make { r }
      spoil()
      assert.same({ SUCCESS, container.base }, { mpi.waitany(requests, info) })
      assert.same({ ANY_SOURCE, ANY_TAG, SUCCESS, 0, true },
        { info.source, info.tag, info.error, info:count(), info.cancelled })
      assert.equal(NONE, tonumber(requests[container.base]))
      assert.same({ 7, 8, 9, 10 }, got:totable())
    end
    local _, r = mpi.irecv(mpi.zeros(1), right, 99)
    mpi.cancel(r)
    local results = { mpi.wait(r, info) }
    assert.same({ SUCCESS }, results)
    assert.is_true(info.cancelled)
  end)

  it("does nothing to what has completed", function()
    local got = mpi.zeros(1)
    local _, r = mpi.irecv(got, 0, 1, SELF)
    mpi.send(mpi.array { 5 }, 0, 1, SELF)
    local cancelled = mpi.cancel(r)
    local status = mpi.wait(r, info)
    assert.same({ SUCCESS, SUCCESS, false, 1 }, { cancelled, status, info.cancelled, info:count() })
    assert.equal(5, got[0])
    assert.equal(SUCCESS, mpi.cancel(r))
  end)

  it("lets a persistent request be started again", function()
    local got = mpi.zeros(4)
    local _, p = mpi.recv_init(got, 0, 99, SELF)
    for k = 1, 3 do
      mpi.start(p)
      assert.equal(SUCCESS, mpi.cancel(p))
      assert.equal(SUCCESS, mpi.wait(p, info))
      assert.is_true(info.cancelled)
      mpi.start(p)
      mpi.send(mpi.array { k, 2 }, 0, 99, SELF)
      assert.equal(SUCCESS, mpi.wait(p, info))
      assert.same({ false, 2, k }, { info.cancelled, info:count(), got[0] })
    end
    assert.equal(SUCCESS, mpi.request_free(p))
  end)

  it("leaves a send to MPI, which may send it all the same", function()
    local _, s = mpi.isend(mpi.array { 5 }, 0, 97, SELF)
    assert.equal(SUCCESS, mpi.cancel(s))
    local _, there = mpi.iprobe(0, 97, SELF)
    if there then mpi.recv(mpi.zeros(1), 0, 97, SELF) end
    assert.equal(SUCCESS, mpi.wait(s, info))
    assert.equal(not there, info.cancelled)
  end)
end)

-- ---- persistent requests ----

describe("a persistent request", function()
  it("sends what the array holds at each start", function()
    local problems = {}
    for i, dtype in ipairs { "double", "int16", "complex float", "double_int", "struct nmpi_spec_particle" } do
      for _, n in ipairs { 0, 1, 7, 1000 } do
        local from, to = data.at(layouts, i + n), data.at(layouts, 2 * i + n)
        local sent = data.guards(from, n, dtype)
        local got, memory = data.guards(to, n, dtype)
        local _, r = mpi.recv_init(got, left, i)
        local _, s = mpi.send_init(sent, right, i)
        local requests = mpi.requests(2)
        requests[0], requests[1] = r, s
        for round = 1, 10 do
          set(sent, rank, round)
          local status
          if round % 2 == 0 then
            status = mpi.startall(requests)
          else
            status = first_failure(mpi.start(r), mpi.start(s))
          end
          note(problems, "status of start", status, SUCCESS)
          note(problems, "status", mpi.waitall(requests), SUCCESS)
          note(problems, "entry", tonumber(requests[0]), r)
          local label = ("round %d, %d of %s, %s to %s"):format(round, n, dtype, from, to)
          expect(problems, label, to, got, memory, left, round)
        end
        note(problems, "free", first_failure(mpi.request_free(r), mpi.request_free(s)), SUCCESS)
      end
    end
    judge(problems)
  end)

  it("goes with ordinary ones", function()
    local got = mpi.zeros(3)
    local _, p = mpi.recv_init(got, left, 8)
    for round = 1, 20 do
      mpi.start(p)
      local status = mpi.send(mpi.array { rank, round, 0 }, right, 8)
      status = first_failure(status, mpi.wait(p, info))
      assert.equal(SUCCESS, status)
      assert.same({ left, round, 0 }, got:totable())
      assert.same({ left, 8, 3 }, { info.source, info.tag, info:count() })
    end
    mpi.request_free(p)
  end)

  it("keeps its array", function()
    local _, r = mpi.recv_init(mpi.zeros(1000), 0, 8, SELF)
    local _, s = mpi.send_init(mpi.zeros({ 1000, 2 }):col(1), 0, 8, SELF)
    local _, w = mpi.send_init(mpi.wrap(ffi.new("double[?]", 1000)), 0, 9, SELF)
    local _, f = mpi.recv_init(ffi.new("double[?]", 1000), 0, 9, SELF)
    for _ = 1, 20 do
      collectgarbage()
      for _ = 1, 20 do mpi.zeros(1000):fill(7) end
      assert.equal(SUCCESS, mpi.startall { r, s, w, f })
      assert.equal(SUCCESS, mpi.waitall { r, s, w, f })
    end
    for _, p in ipairs { r, s, w, f } do assert.equal(SUCCESS, mpi.request_free(p)) end
  end)

  it("is started once, and freed when it is not active", function()
    local got = mpi.zeros(1)
    local _, p = mpi.recv_init(got, 0, 98, SELF)
    local _, other = mpi.recv_init(got, 0, 98, SELF)
    local function fails(expected, f)
      local ok, text = pcall(f)
      assert.is_false(ok)
      assert(text:find(expected, 1, true) and text:find("request_spec.lua", 1, true), text)
    end
    fails("not active", function() mpi.start(NONE) end)
    fails("not active", function() mpi.startall { other, NONE } end)
    fails("twice", function() mpi.startall { other, p, other } end)
    assert.same({ SUCCESS, true }, { mpi.test(other) }) -- which was not started
    assert.equal(SUCCESS, mpi.start(p))
    fails("an active one", function() mpi.start(p) end)
    fails("an active one", function() mpi.startall { other, p } end)
    fails("wait for it", function() mpi.request_free(p) end)
    local _, ordinary = mpi.irecv(got, 0, 97, SELF)
    fails("an active one", function() mpi.start(ordinary) end)
    fails("wait for it", function() mpi.request_free(ordinary) end)
    mpi.send(mpi.array { 5 }, 0, 98, SELF)
    assert.equal(SUCCESS, mpi.wait(p))
    mpi.cancel(ordinary)
    mpi.wait(ordinary)
    assert.equal(SUCCESS, mpi.request_free(p))
    assert.equal(SUCCESS, mpi.request_free(p))
    assert.equal(SUCCESS, mpi.request_free(other))
    fails("null or completed", function() mpi.start(p) end)
    assert.equal(SUCCESS, mpi.wait(p))
    assert.equal(SUCCESS, mpi.startall {})
  end)
end)

-- ---- probes ----

describe("probes", function()
  it("find the message and count its elements, of every dtype", function()
    local problems = {}
    for i, dtype in ipairs(data.dtypes) do
      local n = i % 3 == 0 and 0 or 7 * i
      local sent, got = mpi.zeros(n, dtype), mpi.zeros(n + 3, dtype)
      local _, s = mpi.isend(sent, right, i)
      note(problems, "status", mpi.probe(left, i, nil, info), SUCCESS)
      note(problems, dtype .. " probed", info:count(dtype), n)
      note(problems, "source", info.source, left)
      note(problems, "tag", info.tag, i)
      note(problems, "count without a dtype", pcall(info.count, info), false)
      local status, flag = mpi.iprobe(left, i, nil, info)
      note(problems, "flag", flag, true)
      note(problems, "status", status, SUCCESS)
      note(problems, dtype .. " again", info:count(dtype), n)
      note(problems, "not there", select(2, mpi.iprobe(left, 1000 + i)), false)
      mpi.recv(got, left, i, nil, info)
      note(problems, dtype .. " received", info:count(), n)
      note(problems, dtype .. " received", info:count(dtype), n)
      mpi.wait(s)
    end
    judge(problems)
  end)

  it("count nothing where the bytes are no whole elements", function()
    local _, s = mpi.isend(mpi.zeros(7, "int8"), 0, 3, SELF)
    mpi.probe(0, 3, SELF, info)
    local counts = { info:count "int8", info:count "double" == nil, info:count "int16" == nil,
      info:count "struct nmpi_spec_colour" == nil }
    local got = mpi.zeros(10, "int8")
    mpi.recv(got, 0, 3, SELF, info)
    mpi.wait(s)
    assert.same({ 7, true, true, true }, counts)
    assert.equal(7, info:count())
    assert.is_nil(info:count "float")
    assert.has_error(function() info:count "no such dtype" end)
  end)

  it("let a buffer be made to measure", function()
    local n = 1000 * (rank + 1)
    local _, s = mpi.isend(set(mpi.zeros(n > 1000 and 1000 or n), rank, 0), right, 2)
    local _, message = mpi.mprobe(left, 2, nil, info)
    local got = mpi.zeros(info:count "double")
    local status = mpi.mrecv(got, message)
    mpi.wait(s)
    assert.equal(SUCCESS, status)
    assert.equal(1000, got.size)
    assert.is_nil(data.difference(got, set(mpi.zeros(1000), left, 0)))
  end)

  it("take a message out of the queue only where they match", function()
    local got = mpi.zeros(1)
    local _, a = mpi.isend(mpi.array { 1 }, 0, 4, SELF)
    local _, b = mpi.isend(mpi.array { 2 }, 0, 4, SELF)
    mpi.iprobe(0, 4, SELF)
    local _, first = mpi.mprobe(0, 4, SELF)
    mpi.recv(got, 0, 4, SELF)
    local second = got[0]
    local status, there, none = mpi.improbe(0, 4, SELF)
    mpi.mrecv(got, first)
    mpi.waitall { a, b }
    assert.same({ 2, SUCCESS, false, mpi.MESSAGE_NULL, 1 }, { second, status, there, none, got[0] })
  end)
end)

-- ---- modes ----

describe("issend", function()
  it("completes only when the receive has begun", function()
    local got = mpi.zeros(1)
    local _, s = mpi.issend(mpi.array { rank }, right, 6)
    local early = {}
    for i = 1, 50 do early[i] = select(2, mpi.test(s)) end
    mpi.barrier()
    local status = mpi.recv(got, left, 6)
    local done
    repeat
      local test_status
      test_status, done = mpi.test(s)
      status = first_failure(status, test_status)
    until done
    for i = 1, 50 do assert.is_false(early[i]) end
    assert.equal(SUCCESS, status)
    assert.equal(left, got[0])
  end)
end)

describe("the buffer of bsend", function()
  local BIG = 200000

  it("takes one message after the other, and is detached when they have gone", function()
    local bytes = 3 * (8 * 1000 + mpi.BSEND_OVERHEAD)
    local attached = mpi.buffer_attach(bytes)
    local statuses, got = {}, mpi.zeros(1000)
    for i = 1, 3 do statuses[i] = mpi.bsend(set(mpi.zeros(1000), rank, i), right, i) end
    local problems = {}
    for i = 3, 1, -1 do
      note(problems, "recv", mpi.recv(got, left, i), SUCCESS)
      note(problems, "data", data.difference(got, set(mpi.zeros(1000), left, i)), nil)
    end
    local detached, again = mpi.buffer_detach(), mpi.buffer_detach()
    assert.same({ SUCCESS, SUCCESS, SUCCESS }, statuses)
    assert.same({ SUCCESS, SUCCESS, SUCCESS }, { attached, detached, again })
    judge(problems)
  end)

  it("lets the array be changed at once", function()
    mpi.buffer_attach(100000)
    local array, got = mpi.array { rank, 1 }, mpi.zeros(2)
    local status = mpi.bsend(array, right, 1)
    local _, s = mpi.ibsend(array:slice { nil, nil, -1 }, right, 2)
    mpi.wait(s)
    array:fill(-1)
    status = first_failure(status, mpi.recv(got, left, 1))
    local first = got:totable()
    status = first_failure(status, mpi.recv(got, left, 2))
    mpi.buffer_detach()
    assert.equal(SUCCESS, status)
    assert.same({ left, 1 }, first)
    assert.same({ 1, left }, got:totable())
  end)

  it("that is too small or missing gives a status of class ERR_BUFFER", function()
    local function assert_no_room()
      assert.equal(mpi.ERR_BUFFER, class(mpi.bsend(mpi.zeros(BIG), right, 1)))
      assert.equal(mpi.ERR_BUFFER, class(mpi.bsend(mpi.zeros(2 * BIG):slice { nil, nil, 2 }, right, 1)))
      local status, r = mpi.ibsend(mpi.zeros(BIG), right, 1)
      assert.equal(mpi.ERR_BUFFER, class(status))
      assert.equal(NONE, r)
    end
    assert_no_room()
    mpi.buffer_attach(1000)
    assert_no_room()
    mpi.buffer_detach()
    assert_no_room()
  end)

  it("is one, of a sensible size", function()
    assert.equal(SUCCESS, mpi.buffer_attach(mpi.BSEND_OVERHEAD))
    local ok, text = pcall(mpi.buffer_attach, 1000)
    assert.is_false(ok)
    assert(text:find "detach it first", text)
    assert.equal(SUCCESS, mpi.buffer_detach())
    for _, bad in ipairs { 0, -1, mpi.BSEND_OVERHEAD - 1, 2 ^ 31, 1.5, "x", 0 / 0 } do
      assert.is_false(pcall(mpi.buffer_attach, bad))
    end
    assert.is_false(pcall(mpi.buffer_attach))
    assert.equal(SUCCESS, mpi.buffer_detach())
  end)
end)

-- ---- sizes that differ ----

ffi.cdef [[
  struct nmpi_spec_three { uint8_t bytes[3]; };
  struct nmpi_spec_four { uint8_t bytes[4]; };
]]

describe("a struct of another size at the sender", function()
  local function fails(f)
    local ok, text = pcall(f)
    return not ok and tostring(text):find("expected whole elements", 1, true) ~= nil
      and tostring(text):find("request_spec.lua", 1, true) ~= nil
  end

  it("is an error of whoever completes the receive", function()
    local sent = mpi.zeros(3, "struct nmpi_spec_three")
    local results, sends = {}, {}
    local function send() sends[#sends + 1] = select(2, mpi.isend(sent, right, 7)) end
    for _, make in ipairs {
      function() return mpi.zeros(9, "struct nmpi_spec_four") end,
      function() return mpi.zeros({ 9, 2 }, "struct nmpi_spec_four"):col(1) end,
    } do
      for _, way in ipairs(way_names) do
        local _, r = mpi.irecv(make(), left, 7)
        send()
        results[way] = fails(function()
          if way == "wait" or way == "test" then
            local done
            repeat done = select(2, mpi[way](r)) until done
          else
            ways[way]({ r }, {}, 1, 1)
          end
        end)
      end
      send()
      results.recv = fails(function() mpi.recv(make(), left, 7) end)
      send()
      local _, message = mpi.mprobe(left, 7)
      results.mrecv = fails(function() mpi.mrecv(make(), message) end)
      results.sendrecv = fails(function() mpi.sendrecv(sent, right, make(), left, 8, 8) end)
    end
    mpi.waitall(sends)
    for name, result in pairs(results) do assert(result, name) end
  end)
end)

-- ---- in chunks ----

describe("more elements than MPI counts, which travel in chunks", function()
  before_each(function() core.nmpi_set_max_count(100) end)
  after_each(function() core.nmpi_set_max_count(2 ^ 31 - 1) end)

  local dtypes = {
    "double", "int8", "complex double", "bool", "float_int", "double_int", "long_int", "short_int",
    "struct nmpi_spec_particle", "struct nmpi_spec_colour",
  }

  for m, mode in ipairs(modes) do
    it("by " .. mode.name, function()
      local problems = {}
      for i, dtype in ipairs(dtypes) do
        local cases = {}
        for j, from in ipairs(layouts) do
          cases[j] = { dtype = dtype, from = from, to = data.at(layouts, i + j + m), length = 1000 }
        end
        -- One chunk, a whole number of them, and less than the receiver expects.
        for _, sizes in ipairs { { 7, 1000 }, { 24, 1000 } } do
          cases[#cases + 1] = { dtype = dtype, from = "C", to = "C", length = sizes[1], room = sizes[2] }
          cases[#cases + 1] = { dtype = dtype, from = "stepped", to = "column", length = sizes[1], room = sizes[2] }
        end
        exchange(problems, mode, cases)
      end
      judge(problems)
    end)
  end

  it("by sendrecv, sendrecv_replace and mrecv, for any size of a chunk", function()
    local problems = {}
    for _, chunk in ipairs { 1, 2, 3, 99, 250, 999, 1000, 1001 } do
      core.nmpi_set_max_count(chunk)
      for i, dtype in ipairs(dtypes) do
        local from, to = data.at(layouts, i + chunk), data.at(layouts, i)
        local label = ("chunks of %d, %s, %s to %s"):format(chunk, dtype, from, to)
        local sent = set(data.guards(from, 1000, dtype), rank, i)
        local got, memory = data.guards(to, 1000, dtype)
        note(problems, label, mpi.sendrecv(sent, right, got, left, 1, 1, nil, info), SUCCESS)
        note(problems, label .. " count", info:count(), 1000)
        expect(problems, label, to, got, memory, left, i)

        local view, view_memory = data.guards(from, 1000, dtype)
        set(view, rank, i + 1)
        note(problems, label, mpi.sendrecv_replace(view, right, left, 1, 1, nil, info), SUCCESS)
        expect(problems, label .. " replaced", from, view, view_memory, left, i + 1)

        got, memory = data.guards(to, 1000, dtype)
        local _, s = mpi.isend(sent, right, 2)
        local _, message = mpi.mprobe(left, 2, nil, info)
        note(problems, label .. " probed", info:count(dtype), 1000)
        note(problems, label, mpi.mrecv(got, message, info), SUCCESS)
        mpi.wait(s)
        expect(problems, label .. " matched", to, got, memory, left, i)
      end
    end
    judge(problems)
  end)

  it("report a message that is too long", function()
    local problems = {}
    for i, layout in ipairs(layouts) do
      local way, container = data.at(way_names, i), data.at(containers, i)
      for _, problem in ipairs(truncated(way, container, 1000, 24, layout, "double")) do
        problems[#problems + 1] = problem
      end
      for _, problem in ipairs(truncated(way, container, 200000, 1000, layout, "int16")) do
        problems[#problems + 1] = problem
      end
    end
    judge(problems)
  end)

  it("may be refused", function()
    assert(core.nmpi_set_max_count(0) < 0)
    assert(core.nmpi_set_max_count(2 ^ 31) < 0)
  end)
end)

-- ---- compiled code ----

describe("compiled", function()
  local raise = error -- busted's globals are looked up by functions
  local a, b = mpi.zeros(1), mpi.zeros(1)
  local matrix = mpi.zeros({ 4, 4 }, "int32")
  local column, other = matrix:col(1), matrix:col(2)
  local x, y = ffi.new "double[3]", ffi.new("double[?]", 3)
  local w = mpi.wrap(ffi.new "double[3]")
  local requests, list, array = mpi.requests(2), { 0, 0 }, mpi.zeros(2, "int64")
  local _, ps = mpi.send_init(a, 0, 1, SELF)
  local _, pr = mpi.recv_init(b, 0, 1, SELF)
  local _, vs = mpi.send_init(column, 0, 1, SELF)
  local _, vr = mpi.recv_init(other, 0, 1, SELF)
  local persistent, views = mpi.requests(2), { vs, vr }
  persistent[0], persistent[1] = ps, pr
  local total = mpi.zeros(1)

  setup(function() mpi.buffer_attach(100000) end)
  teardown(function()
    mpi.buffer_detach()
    for _, p in ipairs { ps, pr, vs, vr } do mpi.request_free(p) end
  end)

  -- A loop that receives into `to` and sends `from` by each mode, and completes both by finish(requests).
  local function both(send, from, to, finish)
    return function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(to, 0, 1, SELF)
        local _, s = send(from, 0, 1, SELF)
        requests[0], requests[1] = r, s
        finish(requests)
      end
    end
  end

  hot.define(it, pending, {
    { "irecv, isend and waitall", both(mpi.isend, a, b, mpi.waitall) },
    { "irecv, issend and waitall", both(mpi.issend, a, b, mpi.waitall) },
    { "irecv, irsend and waitall", both(mpi.irsend, a, b, mpi.waitall) },
    { "irecv, ibsend and waitall", both(mpi.ibsend, a, b, mpi.waitall) },
    { "irecv, isend and waitall of views", both(mpi.isend, column, other, mpi.waitall) },
    { "irecv, isend and waitall of raw arrays", both(mpi.isend, x, y, mpi.waitall) },
    { "irecv, isend and waitall of wrapped arrays", both(mpi.isend, x, w, mpi.waitall) },
    { "waitany", both(mpi.isend, a, b, function(r)
      mpi.waitany(r)
      mpi.waitany(r, info)
    end) },
    { "testall", both(mpi.isend, a, b, function(r)
      mpi.testall(r)
      mpi.waitall(r)
    end) },
    { "testany", both(mpi.isend, a, b, function(r)
      mpi.testany(r)
      mpi.testany(r, info)
      mpi.waitall(r)
    end) },
    { "an int64 array of requests", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        local _, s = mpi.isend(a, 0, 1, SELF)
        array[0], array[1] = r, s
        mpi.waitall(array)
      end
    end },
    { "a list of requests", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        local _, s = mpi.isend(a, 0, 1, SELF)
        list[1], list[2] = r, s
        mpi.waitall(list)
      end
    end, nested = true },
    { "wait", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        local _, s = mpi.isend(a, 0, 1, SELF)
        mpi.wait(r, info)
        mpi.wait(s)
      end
    end },
    { "test", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        local _, s = mpi.issend(a, 0, 1, SELF)
        mpi.test(r, info)
        mpi.test(s)
        mpi.wait(r)
        mpi.wait(s)
      end
    end },
    { "wait for raw arrays", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(y, 0, 1, SELF)
        local _, s = mpi.isend(x, 0, 1, SELF)
        mpi.wait(r, info)
        mpi.wait(s)
      end
    end },
    { "startall", function(n)
      for i = 1, n do
        a[0] = i
        mpi.startall(persistent)
        mpi.waitall(persistent)
        if b[0] ~= i then raise "wrong data" end
      end
    end },
    { "startall of views in a list", function(n)
      for _ = 1, n do
        mpi.startall(views)
        mpi.waitall(views)
      end
    end, nested = true },
    { "start", function(n)
      for _ = 1, n do
        mpi.start(ps)
        mpi.start(pr)
        mpi.wait(ps)
        mpi.wait(pr)
      end
    end },
    { "send_init, recv_init and request_free", function(n)
      for _ = 1, n do
        local _, s = mpi.send_init(a, 0, 1, SELF)
        local _, r = mpi.recv_init(y, 0, 1, SELF)
        mpi.request_free(s)
        mpi.request_free(r)
      end
    end },
    { "mprobe and mrecv", function(n)
      for _ = 1, n do
        local _, s = mpi.isend(a, 0, 1, SELF)
        local _, message = mpi.mprobe(0, 1, SELF, info)
        mpi.mrecv(b, message, info)
        mpi.wait(s)
      end
    end },
    { "improbe and imrecv", function(n)
      for _ = 1, n do
        local _, s = mpi.isend(a, 0, 1, SELF)
        local _, flag, message = mpi.improbe(0, 1, SELF, info)
        if flag then
          local _, r = mpi.imrecv(b, message)
          mpi.wait(r)
        else
          mpi.recv(b, 0, 1, SELF)
        end
        mpi.wait(s)
      end
    end },
    { "probe and iprobe", function(n)
      for _ = 1, n do
        local _, s = mpi.isend(a, 0, 1, SELF)
        mpi.iprobe(0, 1, SELF, info)
        mpi.probe(0, 1, SELF, info)
        if info:count "double" ~= 1 then raise "wrong count" end
        mpi.recv(b, 0, 1, SELF)
        mpi.wait(s)
      end
    end },
    { "cancel", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        mpi.cancel(r)
        mpi.wait(r, info)
      end
    end },
    { "sendrecv_replace", function(n) for _ = 1, n do mpi.sendrecv_replace(a, 0, 0, 1, 1, SELF, info) end end },
    { "sendrecv_replace of a view", function(n)
      for _ = 1, n do mpi.sendrecv_replace(column, 0, 0, 1, 1, SELF) end
    end },
    { "bsend", function(n)
      for _ = 1, n do
        mpi.bsend(a, 0, 1, SELF)
        mpi.recv(b, 0, 1, SELF)
      end
    end },
    { "ssend and rsend", function(n)
      for _ = 1, n do
        local _, r = mpi.irecv(b, 0, 1, SELF)
        mpi.ssend(a, 0, 1, SELF)
        mpi.wait(r)
        _, r = mpi.irecv(b, 0, 1, SELF)
        mpi.rsend(a, 0, 1, SELF)
        mpi.wait(r)
      end
    end },
    { "a loop of twenty routines", function(n)
      for i = 1, n do
        a[0] = i
        local _, r = mpi.irecv(b, 0, 1, SELF)
        local _, s = mpi.isend(a, 0, 1, SELF)
        mpi.wait(r, info)
        mpi.test(s)
        mpi.wait(s)
        mpi.sendrecv(a, 0, b, 0, 1, 1, SELF, info)
        mpi.bcast(a, 0, SELF)
        mpi.allreduce(a, total, mpi.SUM, SELF)
        mpi.gather(a, b, 1, 0, SELF)
        mpi.allgather(a, b, 1, SELF)
        mpi.barrier(SELF)
        mpi.startall(persistent)
        mpi.waitany(persistent)
        mpi.waitall(persistent)
        mpi.iprobe(0, 1, SELF, info)
        mpi.bsend(a, 0, 1, SELF)
        mpi.recv(b, 0, 1, SELF)
        mpi.sendrecv_replace(a, 0, 0, 1, 1, SELF)
        if b[0] ~= i or mpi.rank(SELF) ~= 0 or mpi.size(SELF) ~= 1 then raise "wrong data" end
      end
    end },
  })
end)
