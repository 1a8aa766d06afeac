-- SPDX-License-Identifier: MIT
-- What is dropped, freed or collected while MPI uses it. After every collection memory of the sizes in use is made anew
-- and filled: what was given back too soon shows in the data that arrive, and what MPI goes on writing to shows there.
-- Under `meson test` the C library fills what it is given back as well (MALLOC_PERTURB_).

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
require "spec.support.data" -- declares memcmp

local SELF, SUCCESS, REQUEST_NULL = mpi.COMM_SELF, mpi.SUCCESS, mpi.REQUEST_NULL
local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
local POISON = 0xa7 -- a byte
-- NMPI_TEST_ROUNDS=100 is for long runs by hand.
local ROUNDS = (tonumber(os.getenv "NMPI_TEST_ROUNDS") or 1) * (jit.status() and 1 or 0.2)
-- Empty, short, and past the eager limits.
local SIZES = { 0, 1, 600, 9000 }

local vla = ffi.typeof "double[?]"

local function collect()
  collectgarbage()
  collectgarbage() -- what finalizers let go of
end

-- ---- poison ----

local function poison(memory, n)
  ffi.fill(memory, 8 * n, POISON)
  return memory
end

-- Collects, and takes the memory that this has set free. Returns it.
local function disturb(n)
  collect()
  local taken = {}
  for k = 1, 8 do
    local length = k <= 4 and n or 2 * n + 2
    local a = mpi.empty(length)
    poison(a.data, length)
    taken[k] = { a, poison(vla(length), length), length }
  end
  return taken
end

local function poisoned(memory, n)
  local bytes = ffi.cast("const uint8_t *", memory)
  return n == 0 or bytes[0] == POISON and ffi.C.memcmp(bytes, bytes + 1, 8 * n - 1) == 0
end

local function intact(taken)
  for _, t in ipairs(taken) do
    if not poisoned(t[1].data, t[3]) or not poisoned(t[2], t[3]) then return false end
  end
  return true
end

-- ---- buffers ----

local function value(seed, i)
  return seed * 1000 + i + 0.5
end

local function memory_of(a)
  if ffi.istype(vla, a) then return a, 1 end
  return a.data, a.strides[0]
end

local function fill(a, seed, n)
  local p, step = memory_of(a)
  for i = 0, n - 1 do p[i * step] = value(seed, i) end
  return a
end

local function holds(a, seed, n)
  local p, step = memory_of(a)
  for i = 0, n - 1 do
    if p[i * step] ~= value(seed, i) then
      return false, ("element %d is %s, expected %s"):format(i, tostring(p[i * step]), value(seed, i))
    end
  end
  return true
end

-- Each returns n elements, and others that show the same memory.
local kinds = {
  array = function(n)
    local a = mpi.zeros(n)
    return a, a:slice()
  end,
  view = function(n)
    local base = mpi.zeros(n + 5)
    return base:slice { 3, n + 3 }, base:slice { 3, n + 3 }
  end,
  ["stepped view of a view"] = function(n)
    local view = mpi.zeros(2 * n + 2):slice { 1 }
    return view:slice { 0, 2 * n, 2 }, view:slice { 0, 2 * n, 2 }
  end,
  column = function(n)
    local a = mpi.zeros({ 2, n }, "double", "F"):transpose()
    return a:transpose():row(1), a:col(1)
  end,
  ["raw array"] = function(n)
    local raw = vla(n)
    return raw, raw
  end,
  ["wrapped array"] = function(n)
    local a = mpi.wrap(vla(n))
    return a, a:slice()
  end,
  ["stepped view of a wrapped array"] = function(n)
    local a = mpi.wrap(vla(2 * n + 2)):slice { 2 }
    return a:slice { nil, nil, -2 }, a:slice { nil, nil, -2 }
  end,
}
local names = {}
for name in pairs(kinds) do names[#names + 1] = name end
table.sort(names)

local function new(name, n, seed)
  local a, other = kinds[name](n)
  fill(a, seed, n)
  return a, other
end

local function show(name, n)
  return ("%s of %d"):format(name, n)
end

-- ---- collecting the problems, so that ranks communicate first ----

local problems

local function expect(condition, ...)
  if condition then return end
  local words = { ... }
  for i = 1, #words do words[i] = tostring(words[i]) end
  problems[#problems + 1] = table.concat(words, ": ")
end

local function succeeds(status, ...)
  expect(status == SUCCESS, "status", status)
  return ...
end

local function test(name, f)
  it(name, function()
    problems = {}
    f()
    assert(#problems == 0, ("%d problems: %s"):format(#problems, table.concat(problems, "; ", 1,
      math.min(#problems, 5))))
  end)
end

local function slot_of(r)
  return r % 2 ^ 20
end

-- The bytes of storage that f leaves behind. Below 0 where a stale slot of the stack held something before.
local function leaked(f, ...)
  collect()
  local before = mpi.info().memory
  f(...)
  collect()
  return mpi.info().memory - before
end

describe("a send", function()
  local starts = { "isend", "issend", "ibsend", "irsend" }

  -- In functions of their own, so that no slot of the caller's frame holds what was dropped.
  local function post_send(start, name, n, seed, dest, comm)
    return succeeds(mpi[start]((new(name, n, seed)), dest, 5, comm))
  end

  local function post_recv(name, n, source, comm)
    local a, other = new(name, n, -1)
    return succeeds(mpi.irecv(a, source, 5, comm)), other
  end

  local function exchange(start, from, to, n, seed, dest, source, comm)
    local recv, other = post_recv(to, n, source, comm)
    if start == "irsend" and size > 1 and comm ~= SELF then mpi.barrier() end
    local send = post_send(start, from, n, seed, dest, comm)
    local taken = disturb(n)
    succeeds(mpi.waitall { send, recv })
    return other, taken
  end

  before_each(function() mpi.buffer_attach(2 ^ 20) end)
  after_each(function() mpi.buffer_detach() end)

  for _, start in ipairs(starts) do
    test(("sends what is dropped at once: %s"):format(start), function()
      for k, from in ipairs(names) do
        for s, n in ipairs(SIZES) do
          local to = names[(k + s) % #names + 1]
          local label = show(from .. " to " .. to, n)
          local other, taken = exchange(start, from, to, n, 10 + rank, 0, 0, SELF)
          local ok, problem = holds(other, 10 + rank, n)
          expect(ok, label, "to itself", problem)
          expect(intact(taken), label, "wrote to memory that had been given back")
          if s % 2 == 0 and (size == 1 or k % size == 0) then
            other = exchange(start, from, to, n, 10 + rank, right, left)
            ok, problem = holds(other, 10 + left, n)
            expect(ok, label, "around the ring", problem)
          end
        end
      end
    end)
  end

  test("sends what has been freed", function()
    for _, name in ipairs(names) do
      for _, n in ipairs(SIZES) do
        local function post()
          local recv, other = post_recv("array", n, 0, SELF)
          local a, same = new(name, n, 3)
          local send = succeeds(mpi.isend(a, 0, 5, SELF))
          if name ~= "raw array" then
            a:free()
            same:free()
          end
          return send, recv, other
        end
        local send, recv, other = post()
        disturb(n)
        succeeds(mpi.waitall { send, recv })
        local ok, problem = holds(other, 3, n)
        expect(ok, show(name, n), problem)
      end
    end
  end)
end)

describe("a receive", function()
  test("writes to what has been dropped or freed, and to nothing else", function()
    for _, freed in ipairs { true, false } do
      for _, name in ipairs(names) do
        for _, n in ipairs(SIZES) do
          local function post()
            local a, other = new(name, n, 1)
            local recv = succeeds(mpi.irecv(a, 0, 6, SELF))
            if freed and name ~= "raw array" then
              a:free()
              other:free()
            end
            return recv
          end
          local recv = post()
          local taken = disturb(n)
          succeeds(mpi.send(fill(mpi.zeros(n), 2, n), 0, 6, SELF))
          collect()
          succeeds(mpi.wait(recv))
          expect(intact(taken), show(name, n), "wrote to memory that had been given back")
          expect(intact(disturb(n)), show(name, n), "spoilt memory")
        end
      end
    end
  end)

  test("of a matched probe outlives its array", function()
    for _, name in ipairs(names) do
      local n = 500
      local function post()
        local send = succeeds(mpi.isend((new(name, n, 8)), 0, 7, SELF))
        collect()
        local message = succeeds(mpi.mprobe(0, 7, SELF))
        collect()
        local a, other = new(name, n, 1)
        return send, succeeds(mpi.imrecv(a, message)), other
      end
      local send, recv, other = post()
      disturb(n)
      succeeds(mpi.waitall { recv, send })
      local ok, problem = holds(other, 8, n)
      expect(ok, name, problem)
    end
  end)

  test("that is cancelled lets go of its memory", function()
    for _, name in ipairs(names) do
      for _, n in ipairs(SIZES) do
        local function cancelled()
          local recv = succeeds(mpi.irecv((new(name, n, 1)), 0, 99, SELF))
          local taken, info = disturb(n), mpi.status()
          succeeds(mpi.cancel(recv))
          collect()
          succeeds(mpi.wait(recv, info))
          expect(info.cancelled, show(name, n), "was not cancelled")
          expect(intact(taken), show(name, n), "spoilt memory")
        end
        local bytes = leaked(cancelled)
        expect(bytes <= 0, show(name, n), bytes .. " bytes leaked")
      end
    end
  end)

  test("that is too short lets go of its memory, and others of the list go on", function()
    for _, name in ipairs(names) do
      local function truncated()
        local n = 10000 -- Open MPI 4.1 does not tell when a short message to oneself is cut
        local requests = {
          succeeds(mpi.irecv((new(name, 300, 1)), 0, 1, SELF)), succeeds(mpi.irecv((new(name, 3, 1)), 0, 2, SELF)),
        }
        local target, other = new(name, 400, 1)
        requests[3] = succeeds(mpi.irecv(target, 0, 3, SELF))
        target = nil -- luacheck: ignore
        local taken = disturb(300)
        succeeds(mpi.send(fill(mpi.zeros(300), 2, 300), 0, 1, SELF))
        requests[4] = select(2, mpi.isend(mpi.zeros(n), 0, 2, SELF))
        requests[5] = succeeds(mpi.isend(fill(mpi.zeros(400), 4, 400), 0, 3, SELF))
        local status = mpi.waitall(requests)
        expect(mpi.error_class(status) == mpi.ERR_TRUNCATE, name, status)
        collect()
        mpi.waitall(requests)
        local ok, problem = holds(other, 4, 400)
        expect(ok, name, problem)
        expect(intact(taken), name, "spoilt memory")
      end
      local bytes = leaked(truncated)
      expect(bytes <= 0, name, bytes .. " bytes leaked")
    end
  end)
end)

describe("a persistent request", function()
  local function make(name, n)
    local from, writer = new(name, n, 0)
    local to, reader = new(name, n, 0)
    return succeeds(mpi.send_init(from, right, 4)), succeeds(mpi.recv_init(to, left, 4)), writer, reader, from, to
  end

  test("is started again and again after its arrays were dropped", function()
    for k, name in ipairs(names) do
      local n = SIZES[k % #SIZES + 1]
      local send, recv, writer, reader = make(name, n)
      for round = 1, 4 do
        disturb(n)
        fill(writer, 100 * round + rank, n)
        succeeds(mpi.startall { recv, send })
        collectgarbage "step"
        succeeds(mpi.waitall { send, recv })
        local ok, problem = holds(reader, 100 * round + left, n)
        expect(ok, show(name, n), "round " .. round, problem)
      end
      succeeds(mpi.request_free(send))
      succeeds(mpi.request_free(recv))
    end
  end)

  test("outlives all views of its arrays, and freed ones", function()
    for k, name in ipairs(names) do
      local n = SIZES[k % #SIZES + 1]
      local function freed()
        local send, recv, writer, reader, from, to = make(name, n)
        fill(writer, 9, n)
        if name ~= "raw array" then
          for _, a in ipairs { writer, reader, from, to } do a:free() end
        end
        return send, recv
      end
      local function run()
        local send, recv = freed()
        for _ = 1, 3 do
          local taken = disturb(n)
          succeeds(mpi.startall { recv, send })
          succeeds(mpi.waitall { recv, send })
          expect(intact(taken), show(name, n), "spoilt memory")
        end
        succeeds(mpi.request_free(send))
        succeeds(mpi.request_free(recv))
      end
      local bytes = leaked(run)
      expect(bytes <= 0, show(name, n), bytes .. " bytes leaked")
    end
  end)
end)

describe("a list of requests", function()
  local COUNT = 6

  -- Receives and sends of `COUNT` messages to oneself, where the arrays are dropped.
  local function post(list, n, first)
    local others = {}
    for k = 0, COUNT - 1 do
      local name = names[(first + k) % #names + 1]
      local a, other = new(name, n, 0)
      others[k] = other
      list[first + 2 * k] = succeeds(mpi.irecv(a, rank, 20 + k))
      list[first + 2 * k + 1] = succeeds(mpi.isend((new(name, n, 50 + k)), rank, 20 + k))
    end
    return others
  end

  local function check_all(others, n, label)
    for k = 0, COUNT - 1 do
      local ok, problem = holds(others[k], 50 + k, n)
      expect(ok, label, problem)
    end
  end

  local ways = {
    waitall = function(list) succeeds(mpi.waitall(list)) end,
    waitany = function(list)
      local info = mpi.status()
      while succeeds(mpi.waitany(list, info)) do collectgarbage "step" end
    end,
    waitsome = function(list)
      while succeeds(mpi.waitsome(list)) do collect() end
    end,
    testall = function(list)
      while not succeeds(mpi.testall(list)) do collectgarbage "step" end
    end,
    ["half by test, then waitall"] = function(list)
      for k = 1, COUNT do
        repeat
          collectgarbage "step"
        until succeeds(mpi.test(list[k], mpi.status()))
      end
      collect()
      disturb(600)
      succeeds(mpi.waitall(list))
    end,
  }

  for name, complete in pairs(ways) do
    test("may be half complete when the garbage is collected: " .. name, function()
      for _, n in ipairs(SIZES) do
        local function run()
          local list = {}
          local others = post(list, n, 1)
          disturb(n)
          complete(list)
          check_all(others, n, n)
          for i = 1, 2 * COUNT do expect(list[i] == REQUEST_NULL, "entry", list[i]) end
          local requests = mpi.requests(2 * COUNT)
          others = post(requests, n, 0)
          disturb(n)
          complete(requests)
          check_all(others, n, n)
        end
        local bytes = leaked(run)
        expect(bytes <= 0, n, bytes .. " bytes leaked")
      end
    end)
  end

  test("may be dropped while its operations are pending", function()
    local others
    local function numbers()
      local list = mpi.requests(2 * COUNT)
      others = post(list, 600, 0)
      local copies = {}
      for i = 0, 2 * COUNT - 1 do copies[i + 1] = tonumber(list[i]) end
      return copies
    end
    local copies = numbers()
    disturb(600)
    for i = 2 * COUNT, 1, -1 do succeeds(mpi.wait(copies[i])) end
    check_all(others, 600, "copies")
    succeeds(mpi.waitall(copies))
  end)
end)

describe("foreign memory", function()
  local freed

  local function tracked(n)
    return ffi.gc(vla(n), function() freed = freed + 1 end)
  end

  local function post(recv, send)
    local requests = mpi.requests(2)
    requests[0], requests[1] = succeeds(mpi.irecv(recv, 0, 3, SELF)), succeeds(mpi.isend(send, 0, 3, SELF))
    return requests
  end

  local posts = {
    ["raw arrays"] = function(n) return post(tracked(n), tracked(n)) end,
    ["wrapped arrays"] = function(n) return post(mpi.wrap(tracked(n)), mpi.wrap(tracked(n)):slice()) end,
    ["stepped views"] = function(n)
      return post(mpi.wrap(tracked(2 * n)):slice { nil, nil, 2 }, mpi.wrap(tracked(2 * n)):slice { nil, nil, 2 })
    end,
    ["wrapped arrays that are freed"] = function(n)
      local a, b = mpi.wrap(tracked(n)), mpi.wrap(tracked(n))
      local requests = post(a:slice(), b)
      a:free()
      b:free()
      return requests
    end,
  }

  for name, run in pairs(posts) do
    test("is kept until the operation has completed and not beyond: " .. name, function()
      for _, n in ipairs(SIZES) do
        freed = 0
        local requests = run(n)
        collect()
        expect(freed == 0, show(name, n), freed .. " were collected too soon")
        succeeds(mpi.waitall(requests))
        collect()
        expect(freed == 2, show(name, n), freed .. " of 2 were collected")
      end
    end)
  end

  test("of a persistent request is kept until that is freed", function()
    freed = 0
    local function make()
      return succeeds(mpi.send_init(tracked(9), 0, 3, SELF)), succeeds(mpi.recv_init(mpi.wrap(tracked(9)), 0, 3, SELF))
    end
    local send, recv = make()
    for _ = 1, 3 do
      succeeds(mpi.startall { send, recv })
      collect()
      succeeds(mpi.waitall { send, recv })
      collect()
    end
    expect(freed == 0, freed .. " were collected too soon")
    mpi.request_free(send)
    mpi.request_free(recv)
    collect()
    expect(freed == 2, freed .. " of 2 were collected")
  end)

  test("of an operation that fails is not kept", function()
    freed = 0
    local function try()
      for _ = 1, 10 do
        expect(not pcall(mpi.irecv, mpi.wrap(tracked(9), 3, "double", 0), 0, 3, SELF), "overlapping elements")
        expect(not pcall(mpi.isend, tracked(9), 12345, 3, SELF), "a rank that there is not")
      end
    end
    try()
    collect()
    expect(freed == 20, freed .. " of 20 were collected")
  end)
end)

describe("nothing is left behind by", function()
  local readonly, long = ffi.new("const double[10]"), mpi.zeros(10000)
  local requests, info = mpi.requests(2), mpi.status()

  local function swap(send, recv)
    requests[0], requests[1] = succeeds(mpi.irecv(recv, 0, 1, SELF)), succeeds(mpi.isend(send, 0, 1, SELF))
    mpi.waitall(requests)
  end

  local rounds = {
    ["contiguous arrays"] = function() swap(mpi.zeros(10), mpi.zeros(10)) end,
    ["stepped views"] = function() swap(mpi.zeros(20):slice { nil, nil, 2 }, mpi.zeros(20):slice { 0, 20, 2 }) end,
    ["raw arrays"] = function() swap(vla(10), vla(10)) end,
    ["wrapped arrays"] = function() swap(mpi.wrap(vla(10)), mpi.wrap(vla(10))) end,
    ["persistent requests"] = function()
      local send, recv = succeeds(mpi.send_init(mpi.zeros(10), 0, 1, SELF)),
        succeeds(mpi.recv_init(mpi.zeros(20):slice { nil, nil, 2 }, 0, 1, SELF))
      mpi.start(recv)
      mpi.start(send)
      mpi.wait(recv, info)
      mpi.wait(send)
      mpi.request_free(send)
      mpi.request_free(recv)
    end,
    ["receives that are too short"] = function()
      requests[0] = succeeds(mpi.irecv(mpi.zeros(3), 0, 1, SELF))
      requests[1] = select(2, mpi.isend(long, 0, 1, SELF))
      expect(mpi.error_class(mpi.wait(requests[0])) == mpi.ERR_TRUNCATE, "no truncation")
      mpi.wait(requests[1])
    end,
    ["arguments that are refused"] = function()
      expect(not pcall(mpi.irecv, readonly, 0, 1, SELF))
      expect(not pcall(mpi.irecv, mpi.wrap(vla(10), 5, "double", 0), 0, 1, SELF))
      expect(not pcall(mpi.isend, mpi.IN_PLACE, 0, 1, SELF))
      expect(not pcall(mpi.recv_init, readonly, 0, 1, SELF))
      expect(not pcall(mpi.send_init, mpi.zeros(20):slice { nil, nil, 2 }, 0, -5, SELF))
    end,
    ["cancelled receives"] = function()
      local recv = succeeds(mpi.irecv(mpi.zeros(10), 0, 77, SELF))
      mpi.cancel(recv)
      mpi.wait(recv, info)
    end,
    ["matched probes"] = function()
      local send = succeeds(mpi.isend(mpi.zeros(10), 0, 1, SELF))
      local message = succeeds(mpi.mprobe(0, 1, SELF, info))
      expect(not pcall(mpi.imrecv, readonly, message))
      mpi.wait((succeeds(mpi.imrecv(mpi.zeros(20):slice { nil, nil, 2 }, message))))
      mpi.wait(send)
    end,
    ["operations with nobody"] = function()
      mpi.wait((succeeds(mpi.isend(mpi.zeros(10), mpi.PROC_NULL, 1, SELF))))
      mpi.wait((succeeds(mpi.irecv(mpi.zeros(10), mpi.PROC_NULL, 1, SELF))), info)
    end,
  }

  for name, round in pairs(rounds) do
    test(name, function()
      local function run(n)
        for _ = 1, n do round() end
      end
      run(4000 * ROUNDS / size)
      collect()
      local kib = collectgarbage "count"
      local bytes = leaked(run, 4000 * ROUNDS / size)
      local grown = collectgarbage "count" - kib
      local r = succeeds(mpi.send_init(mpi.zeros(1), 0, 1, SELF))
      mpi.request_free(r)
      expect(bytes <= 0, bytes .. " bytes of storage")
      expect(grown < 128, grown .. " KiB of LuaJIT's memory")
      expect(slot_of(r) < 200, "slots of requests", slot_of(r))
      expect(core.nmpi_request_foreign() == 0, "operations on foreign memory", core.nmpi_request_foreign())
    end)
  end
end)

describe("the garbage collector", function()
  local pause, multiplier

  before_each(function() pause, multiplier = collectgarbage("setpause", 1), collectgarbage("setstepmul", 400) end)
  after_each(function()
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", multiplier)
  end)

  -- A hot loop in which everything is dropped at once; `step` calls the collector, too.
  local function hot_loop(rounds, n, step)
    local requests, base = mpi.requests(2), mpi.zeros(2 * n)
    local got = base:slice { nil, nil, 2 }
    local wrong = 0
    for round = 1, rounds do
      local sent = mpi.zeros(n)
      local status, other
      sent[0], sent[n - 1] = round, -round
      status, requests[0] = mpi.irecv(base:slice { nil, nil, 2 }, 0, 8, SELF)
      other, requests[1] = mpi.isend(sent:slice { 0, n }, 0, 8, SELF)
      if step then collectgarbage("step", 3) end
      local code = mpi.waitall(requests)
      if status + other + code ~= 0 or got[0] ~= round or got[n - 1] ~= -round then wrong = wrong + 1 end
    end
    return wrong
  end

  test("may run at any time in a compiled loop", function()
    for _, n in ipairs { 8, 3000 } do
      local wrong = hot_loop(600 * ROUNDS / size, n, false)
      expect(wrong == 0, wrong .. " rounds went wrong")
      wrong = hot_loop(300 * ROUNDS / size, n, true)
      expect(wrong == 0, wrong .. " rounds with steps went wrong")
    end
  end)

  test("may run at any time in blocking and collective calls with temporary arrays", function()
    local got = mpi.zeros(50)
    for round = 1, 40 * ROUNDS do
      for _, name in ipairs { "array", "column", "raw array", "stepped view of a wrapped array" } do
        mpi.sendrecv((new(name, 50, round)), 0, got, 0, 3, 3, SELF)
        local ok, problem = holds(got, round, 50)
        expect(ok, name, problem)
        mpi.allreduce((new(name, 50, round)), got:slice(), mpi.SUM, SELF)
        mpi.bcast((new(name, 50, round)), 0, SELF)
        mpi.gather((new(name, 50, round)), mpi.zeros(50), nil, 0, SELF)
        ok, problem = holds(got, round, 50)
        expect(ok, name, problem)
      end
      if round % 20 == 0 then mpi.allreduce(mpi.zeros(100):slice { nil, nil, 2 }, mpi.zeros(50)) end
    end
  end)

  -- The same steps on all ranks, drawn with one seed: what is posted, completed, collected, freed.
  test("may run at any time while operations of all kinds come and go", function()
    local state = 20240607
    local function draw(n)
      state = (state * 16807) % 2147483647
      return state % n + 1
    end

    local pending = {}

    local function post()
      local n, seed = SIZES[draw(#SIZES)], draw(1000)
      local from, to = names[draw(#names)], names[draw(#names)]
      local target, other = new(to, n, -1)
      local recv = succeeds(mpi.irecv(target, left, 30))
      local source, same = new(from, n, seed + rank)
      local start = draw(2) == 1 and mpi.isend or mpi.issend
      local send = succeeds(start(source, right, 30))
      if draw(4) == 1 and to ~= "raw array" then target:free() end
      if draw(4) == 1 and from ~= "raw array" then
        source:free()
        same:free()
      end
      pending[#pending + 1] = { requests = { recv, send }, other = other, n = n, seed = seed + left, to = to }
    end

    local function complete(k, way)
      local p = table.remove(pending, k)
      if way == 1 then
        succeeds(mpi.wait(p.requests[1]))
        collectgarbage "step"
        succeeds(mpi.wait(p.requests[2]))
      elseif way == 2 then
        succeeds(mpi.waitall(p.requests))
      else
        while succeeds(mpi.waitany(p.requests)) do collectgarbage "step" end
      end
      local ok, problem = holds(p.other, p.seed, p.n)
      expect(ok, show(p.to, p.n), problem)
    end

    local function run()
      for _ = 1, math.floor(800 * ROUNDS / size) do
        local action = draw(10)
        if action <= 4 and #pending < 40 then
          post()
        elseif action <= 7 and #pending > 0 then
          complete(draw(#pending), draw(3))
        elseif action == 8 then
          collectgarbage "step"
        elseif action == 9 then
          disturb(SIZES[draw(#SIZES)])
        end
      end
      while #pending > 0 do complete(#pending, 2) end
    end

    local bytes = leaked(run)
    expect(bytes <= 0, bytes .. " bytes leaked")
  end)
end)
