-- SPDX-License-Identifier: MIT
-- How views travel: the kernels that pack and unpack them, against loops over single bytes, and the datatypes that
-- stand for them where MPI moves them faster.

local ffi = require "ffi"
local mpi = require "nmpi"
require "spec.support.data" -- declares memcmp
local judge = require "spec.support.judge"

local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
local SELF = mpi.COMM_SELF
local GUARD = 0xEE

-- ---- the kernels ----

local function ctype_of(bytes)
  local name = "struct view_spec_" .. bytes
  if not pcall(ffi.typeof, name) then ffi.cdef(("%s { uint8_t bytes[%d]; };"):format(name, bytes)) end
  return name
end

-- Memory for a view of the given layout, and in it a view; `offsets` are those of its elements in row-major order, in
-- bytes.
local function lay_out(bytes, shape, strides)
  local low, high, offsets = 0, 0, { 0 }
  for d = 1, #shape do
    local last = (shape[d] - 1) * strides[d]
    low, high = low + math.min(0, last), high + math.max(0, last)
  end
  for d = 1, #shape do
    local longer = {}
    for _, offset in ipairs(offsets) do
      for i = 0, shape[d] - 1 do longer[#longer + 1] = offset + i * strides[d] end
    end
    offsets = longer
  end
  local first, length = 16 - low * bytes, (high - low + 1) * bytes + 32
  local memory = ffi.new("uint8_t[?]", length)
  for i, offset in ipairs(offsets) do offsets[i] = first + offset * bytes end
  local ctype = ctype_of(bytes)
  local view = mpi.wrap(ffi.cast(ctype .. " *", memory + first), shape, ctype, strides)
  return { memory = memory, length = length, offsets = offsets, view = view }
end

-- Bytes that tell their place, and the seed; of each pattern as much as comes before it repeats itself.
local PERIOD = 251 * 233
local patterns = {}

local function paint(memory, length, seed)
  local pattern = patterns[seed]
  if not pattern then
    pattern = ffi.new("uint8_t[?]", PERIOD)
    for k = 0, PERIOD - 1 do pattern[k] = (k * 37 + math.floor(k / 251) * 11 + seed) % 233 end
    patterns[seed] = pattern
  end
  for k = 0, length - 1, PERIOD do ffi.copy(memory + k, pattern, math.min(PERIOD, length - k)) end
end

local function differ(a, b, length)
  return ffi.C.memcmp(a, b, length) ~= 0
end

-- Packs and unpacks a view by messages to oneself; returns what went wrong, if anything.
local function check(bytes, shape, strides, short)
  local it = lay_out(bytes, shape, strides)
  local n = #it.offsets
  local plain = ffi.new("uint8_t[?]", n * bytes)
  local array = mpi.wrap(ffi.cast(ctype_of(bytes) .. " *", plain), n, ctype_of(bytes))
  local expected = ffi.new("uint8_t[?]", math.max(it.length, n * bytes))
  paint(it.memory, it.length, 5)
  for i = 1, n do ffi.copy(expected + (i - 1) * bytes, it.memory + it.offsets[i], bytes) end
  mpi.sendrecv(it.view, 0, array, 0, 0, 0, SELF)
  if differ(plain, expected, n * bytes) then return "packed wrongly" end

  local count = short or n
  ffi.fill(it.memory, it.length, GUARD)
  ffi.fill(expected, it.length, GUARD)
  paint(plain, n * bytes, 9)
  for i = 1, count do ffi.copy(expected + it.offsets[i], plain + (i - 1) * bytes, bytes) end
  mpi.sendrecv(array:slice { 0, count }, 0, it.view, 0, 0, 0, SELF)
  if differ(it.memory, expected, it.length) then return "unpacked wrongly" end
end

local function note(problems, bytes, shape, strides, short)
  local problem = check(bytes, shape, strides, short)
  if problem then
    problems[#problems + 1] = ("%s: %d bytes, {%s} by {%s}%s"):format(problem, bytes, table.concat(shape, ", "),
      table.concat(strides, ", "), short and ", the first " .. short or "")
  end
end

local SIZES = { 1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 24, 32, 33, 40, 64, 65, 100, 128, 129, 200 }

describe("the kernels", function()
  it("copy columns and steps of every size, forwards and backwards", function()
    local problems = {}
    for _, bytes in ipairs(SIZES) do
      for _, n in ipairs { 1, 2, 3, 4, 5, 9, 31 } do
        for _, stride in ipairs { 2, 3, 7, -1, -2 } do note(problems, bytes, { n }, { stride }) end
      end
    end
    judge(problems)
  end)

  it("copy runs of every length", function()
    local problems = {}
    for run = 1, 140 do
      note(problems, 1, { 3, run }, { run + 3, 1 })
      if run <= 40 then note(problems, 8, { 5, run }, { run + 1, 1 }) end
      note(problems, 1, { 2, 3, run }, { -(run + 5) * 4, run + 5, 1 })
    end
    judge(problems)
  end)

  it("transpose matrices up to and beyond the borders of tiles", function()
    local problems = {}
    for _, bytes in ipairs(SIZES) do
      for _, n in ipairs { 1, 8, 17 } do
        for _, m in ipairs { 4, 7, 16, 35 } do
          note(problems, bytes, { n, m }, { 1, n })
          note(problems, bytes, { n, m }, { 1, -n - 3 })
          note(problems, bytes, { n, m }, { -2, 2 * n + 1 })
        end
      end
    end
    judge(problems)
  end)

  it("copy up to 8 dimensions in any order and direction, whole and in part", function()
    local problems, state = {}, 12345
    local function random(n)
      state = (state * 1103515245 % 2 ^ 31 + 12345) % 2 ^ 31
      return math.floor(state / 2 ^ 31 * n)
    end
    for ndim = 1, 8 do
      for _ = 1, 25 do
        local shape, strides, order = {}, {}, {}
        local n, step = 1, 1 + random(2)
        for d = 1, ndim do
          shape[d] = 1 + random(ndim < 4 and 12 or ndim < 6 and 5 or 3)
          n = n * shape[d]
          table.insert(order, 1 + random(d), d)
        end
        for _, d in ipairs(order) do
          strides[d] = random(4) == 0 and -step or step
          step = step * shape[d] + (random(2) == 0 and 0 or random(4))
        end
        local bytes = SIZES[1 + random(9)]
        note(problems, bytes, shape, strides)
        note(problems, bytes, shape, strides, random(n + 1))
      end
    end
    judge(problems)
  end)

  it("send a view that shows its elements many times", function()
    local a = mpi.array { 1, 2, 3 }
    local repeated, got = mpi.wrap(a.data, { 4, 3, 2 }, nil, { 0, 1, 0 }), mpi.zeros(24)
    mpi.sendrecv(repeated, 0, got, 0, 0, 0, SELF)
    for i = 0, 23 do assert.equal(1 + math.floor(i / 2) % 3, got[i]) end
  end)
end)

-- ---- between ranks ----

-- Of more than 4 MiB, from which on MPICH takes datatypes again on every machine, if its rows are long.
local LARGE = { 250, 2100 }

-- Shapes of views within larger fields: of messages below and above what datatypes are for, with short and long runs.
local BLOCKS = {
  { 40, 8 }, { 512, 8 }, { 512, 9 }, { 16, 128 }, { 16, 200 }, { 64, 512 }, { 3, 7, 1024 }, { 8, 8, 64 },
  { 2, 3, 5, 256 }, { 4000, 40 }, LARGE, { 3, 50, 900 },
}
local DTYPES = { "double", "int8", "float", "complex double", "float_int", "double_int", "struct view_spec_9" }
ctype_of(9)

local function within(field)
  local ranges = {}
  for d = 1, field.ndim do ranges[d] = { 1, -1 } end
  return (field:slice(unpack(ranges)))
end

-- A field whose bytes tell their place and the rank.
local function field_of(shape, dtype, seed)
  local larger = {}
  for d = 1, #shape do larger[d] = shape[d] + 2 end
  local field = mpi.empty(larger, dtype)
  paint(ffi.cast("uint8_t *", field.data), field.size * field.itemsize, seed)
  return field
end

local function bytes_of(array)
  return ffi.string(ffi.cast("char *", array.data), array.size * array.itemsize)
end

local function shape_of(view)
  local list = {}
  for d = 1, view.ndim do list[d] = view.shape[d - 1] end
  return list
end

-- What a field becomes when the first n elements of its view are those of another one's.
local function merged(field, from, n)
  local result = field:copy()
  local view = within(result)
  local now = view:flatten()
  now:slice({ 0, n }):assign(within(from):flatten():slice { 0, n })
  view:assign(now:reshape(shape_of(view)))
  return result
end

-- Of pairs the padding does not travel.
local function same(a, b, dtype)
  if dtype ~= "double_int" then return bytes_of(a) == bytes_of(b) end
  local x, y = a:flatten(), b:flatten()
  for i = 0, x.size - 1 do
    local p, q = x[i], y[i]
    if p.index ~= q.index or ffi.string(ffi.cast("char *", p), 8) ~= ffi.string(ffi.cast("char *", q), 8) then
      return false
    end
  end
  return true
end

local info = mpi.status()

local function with_requests(sent, got)
  local _, receive = mpi.irecv(got, left, 3)
  local _, send = mpi.isend(sent, right, 3)
  local status = mpi.wait(receive, info)
  return math.max(status, mpi.wait(send))
end

local routes = {
  sendrecv = function(sent, got) return mpi.sendrecv(sent, right, got, left, 3, 3, nil, info) end,
  ["sendrecv from any source"] = function(sent, got)
    return mpi.sendrecv(sent, right, got, mpi.ANY_SOURCE, 3, mpi.ANY_TAG, nil, info)
  end,
  requests = with_requests,
  ["send and recv"] = function(sent, got)
    if size == 1 then return with_requests(sent, got) end
    if rank == 0 then mpi.ssend(sent, right, 3) end
    local status = mpi.recv(got, left, 3, nil, info)
    if rank ~= 0 then mpi.send(sent, right, 3) end
    return status
  end,
  ["persistent requests"] = function(sent, got)
    local _, receive = mpi.recv_init(got, left, 3)
    local _, send = mpi.send_init(sent, right, 3)
    mpi.start(receive)
    mpi.start(send)
    local status = mpi.wait(receive, info)
    mpi.wait(send)
    mpi.request_free(receive)
    mpi.request_free(send)
    return status
  end,
}

-- The first `n` elements of the left neighbour's view arrive in the view of a field of this rank.
local function exchange(problems, name, shape, dtype, n)
  local here, sent = field_of(shape, dtype, rank), field_of(shape, dtype, 50 + rank)
  local arrives = field_of(shape, dtype, 50 + left)
  local view = within(sent)
  local whole = view.size
  local status = routes[name](n and view:flatten():slice { 0, n } or view, within(here))
  local expected = merged(field_of(shape, dtype, rank), arrives, n or whole)
  if status ~= mpi.SUCCESS or info:count() ~= (n or whole) or not same(here, expected, dtype) then
    problems[#problems + 1] = ("%s of {%s} %s, %s elements: status %d, %s arrived"):format(name,
      table.concat(shape, ", "), dtype, n or "all", status, tostring(info:count()))
  end
end

describe("views between ranks", function()
  for name in pairs(routes) do
    it("arrive by " .. name, function()
      local problems = {}
      for i, shape in ipairs(BLOCKS) do
        exchange(problems, name, shape, "double")
        exchange(problems, name, shape, DTYPES[i % #DTYPES + 1])
      end
      judge(problems)
    end)
  end

  it("arrive in every dtype", function()
    local problems = {}
    for _, dtype in ipairs(DTYPES) do exchange(problems, "sendrecv", { 16, 1024 }, dtype) end
    judge(problems)
  end)

  it("are written only as far as a short message goes", function()
    local problems = {}
    for _, name in ipairs { "sendrecv", "requests" } do
      for _, n in ipairs { 0, 1, 127, 128, 129, 1000, 2047 } do
        exchange(problems, name, { 16, 128 }, "double", n)
        exchange(problems, name, { 64, 512 }, "int8", n)
      end
      for _, n in ipairs { 1, 2099, 2100, LARGE[1] * LARGE[2] - 1 } do exchange(problems, name, LARGE, "double", n) end
    end
    judge(problems)
  end)

  it("are not overrun by a message that is too long", function()
    local problems = {}
    for _, shape in ipairs { { 16, 128 }, { 64, 512 }, { 3, 7, 1024 }, LARGE } do
      local here, untouched = field_of(shape, "double", rank), field_of(shape, "double", rank)
      local view = within(here)
      local status = mpi.sendrecv(mpi.zeros(view.size + 1), right, view, left)
      view:assign(within(untouched))
      if mpi.error_class(status) ~= mpi.ERR_TRUNCATE then problems[#problems + 1] = "no error" end
      if bytes_of(here) ~= bytes_of(untouched) then problems[#problems + 1] = "written beyond the view" end
    end
    exchange(problems, "sendrecv", { 16, 128 }, "double")
    judge(problems)
  end)

  it("may lie in one field, between each other's elements or on them", function()
    local problems = {}
    for _, case in ipairs { { 64, 200, 25 }, { LARGE[1], LARGE[2], 100 } } do
      local width, rows = case[2], case[3]
      local shape = { case[1], 3 * width }
      for _, apart in ipairs { width, width / 2, 7, 0 } do
        local field, other = field_of(shape, "double", rank), field_of(shape, "double", left)
        local to = { apart, apart + width }
        local expected = field:copy()
        expected:slice({}, to):assign(other:slice({}, { 0, width }))
        mpi.sendrecv(field:slice({}, { 0, width }), right, field:slice({}, to), left)
        if bytes_of(field) ~= bytes_of(expected) then problems[#problems + 1] = apart .. " columns apart" end
        -- From whole rows, as they lie, to columns that cross them.
        field = field_of(shape, "double", rank)
        expected = field:copy()
        local half = shape[2] / 2 + 1
        local from, to_rows, to_columns = { 10, 10 + rows }, { 5, 5 + 2 * rows }, { 1, half + 1 }
        expected:slice(to_rows, to_columns):assign(other:slice(from):reshape { 2 * rows, half })
        mpi.sendrecv(field:slice(from), right, field:slice(to_rows, to_columns), left)
        if bytes_of(field) ~= bytes_of(expected) then problems[#problems + 1] = "rows and columns that cross" end
      end
    end
    judge(problems)
  end)

  it("may come in more shapes than are remembered, and again", function()
    local problems = {}
    for _ = 1, 2 do
      for k = 1, 80 do exchange(problems, "requests", { 5, 1024 + k }, "double") end
    end
    judge(problems)
  end)

  it("outlive their arrays, and the datatypes that stand for them, while they travel", function()
    local problems, requests = {}, {}
    for k = 1, 80 do
      local _, request = mpi.irecv(within(field_of({ 5, 1024 + k }, "double", rank)), left, k)
      requests[k] = request
    end
    local kept = field_of(LARGE, "double", rank)
    requests[81] = select(2, mpi.irecv(within(kept), left, 81))
    collectgarbage()
    mpi.barrier()
    for k = 1, 80 do
      local _, request = mpi.isend(within(field_of({ 5, 1024 + k }, "double", 50 + rank)), right, k)
      requests[81 + k] = request
      if k % 40 == 0 then collectgarbage() end
    end
    requests[162] = select(2, mpi.isend(within(field_of(LARGE, "double", 50 + rank)), right, 81))
    collectgarbage()
    if mpi.waitall(requests) ~= mpi.SUCCESS then problems[1] = "waitall failed" end
    local arrives = field_of(LARGE, "double", 50 + left)
    if not same(kept, merged(field_of(LARGE, "double", rank), arrives, LARGE[1] * LARGE[2])) then
      problems[#problems + 1] = "the last one has not arrived"
    end
    judge(problems)
  end)

  it("travel from the buffer of bsend", function()
    if size == 1 then return end
    for _, shape in ipairs { { 16, 1024 }, LARGE } do
      local view, got = within(field_of(shape, "double", 50 + rank)), mpi.zeros(shape)
      mpi.buffer_attach(view.size * 8 + 4096)
      local sent = mpi.bsend(view, right, 4)
      local status = mpi.recv(got, left, 4)
      mpi.buffer_detach()
      assert.same({ mpi.SUCCESS, mpi.SUCCESS }, { sent, status })
      assert.equal(bytes_of(within(field_of(shape, "double", 50 + left)):copy()), bytes_of(got))
    end
  end)
end)
