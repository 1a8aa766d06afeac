-- SPDX-License-Identifier: MIT
-- Teams of threads. What ends the whole job is tested in launch_spec.lua.

local ffi = require "ffi"
local mpi = require "nmpi"
local thread = require "nmpi.thread"
local core = require("nmpi.lib").core
local refuses = require "spec.support.refuses"

local WORLD, SUCCESS = mpi.COMM_WORLD, mpi.SUCCESS
local rank, size = mpi.rank(), mpi.size()

local function collect()
  collectgarbage()
  collectgarbage() -- what finalizers let go of
end

-- The threads of this process, and the kilobytes that it occupies.
local function process_figures()
  local file = io.open "/proc/self/status"
  if not file then return 0, 0 end
  local text = file:read "*a"
  file:close()
  return tonumber(text:match "Threads:%s*(%d+)"), tonumber(text:match "VmRSS:%s*(%d+)")
end

-- Pools of 1 to 4 threads, without and with the calling thread.
local pools = {}
for n = 1, 4 do
  pools[2 * n - 1], pools[2 * n] = thread.pool(n), thread.pool { n, main = true }
end

-- Calls f(pool, n) with each, on all ranks alike.
local function with_pools(f)
  for i, pool in ipairs(pools) do f(pool, math.ceil(i / 2)) end
end

describe("a team", function()
  it("runs a function in each of its threads", function()
    with_pools(function(pool, n)
      local seen = pool:run(function(id, size_) return id * 100 + size_ end)
      for id = 0, n - 1 do assert.equal(id * 100 + n, seen[id + 1]) end
      assert.equal(n, #seen)
    end)
  end)

  it("keeps what its threads have from one call to the next", function()
    local pool = thread.pool(2)
    local function count(id)
      seen_before = (seen_before or 10 * id) + 1 -- luacheck: ignore
      return seen_before -- luacheck: ignore
    end
    pool:run(count)
    pool:run(count)
    assert.same({ 3, 13 }, pool:run(count))
    pool:close()
    assert.is_nil(rawget(_G, "seen_before"))
    assert.same({ 1, 11 }, thread.parallel(2, count))
  end)

  it("returns nothing where its threads do", function()
    with_pools(function(pool) assert.is_nil(pool:run(function() end)) end)
    assert.same({ [2] = "second" }, thread.parallel(2, function(id) return id == 1 and "second" or nil end))
  end)

  it("takes functions without end", function()
    local pool = thread.pool(2)
    for i = 1, 300 do
      local fn = loadstring(("local id = ... return id + %d"):format(i))
      assert.same({ i, i + 1 }, pool:run(fn))
    end
    assert.same({ 301, 302 }, pool:run(loadstring "local id = ... return id + 301"))
    pool:close()
  end)

  it("searches modules where the main state does, with its compiler on or off", function()
    local path = package.path
    local seen = thread.parallel(1, function() return { package.path, package.cpath, (jit.status()) } end)
    assert.same({ path, package.cpath, (jit.status()) }, seen[1])
  end)

  it("is known to its threads", function()
    assert.is_nil(thread.team())
    with_pools(function(pool, n)
      local seen = pool:run(function(id, size_)
        local team = require("nmpi.thread").team()
        return team.id == id and team.size == size_
      end)
      for id = 0, n - 1 do assert.is_true(seen[id + 1]) end
    end)
    assert.is_nil(thread.team())
  end)

  it("may be started within another one", function()
    local seen = thread.parallel({ 2, main = true }, function(id)
      local inner_thread = require "nmpi.thread"
      local inner = inner_thread.parallel({ 2, main = true }, function(inner_id, _, outer_id)
        local team = require("nmpi.thread").team()
        return outer_id * 10 + inner_id + 100 * team:reduce(1)
      end, id)
      return { inner[1], inner[2], inner_thread.team().id }
    end)
    assert.same({ { 200, 201, 0 }, { 210, 211, 1 } }, seen)
  end)
end)

describe("what is passed to a thread and back", function()
  local function same(value)
    with_pools(function(pool, n)
      local seen = pool:run(function(_, _, x) return x end, value)
      for id = 0, n - 1 do assert.same(value, seen[id + 1]) end
    end)
  end

  it("may be plain values, and tables of them", function()
    same(0)
    same(-1 / 3)
    same(math.huge)
    same(false)
    same(true)
    same ""
    same(("zero \0 byte"):rep(1000))
    same {}
    same { 1, "two", { three = { 4, [5.5] = false }, [true] = "yes" } }
    local long = {}
    for i = 1, 1000 do long[i] = { i, tostring(i) } end
    same(long)
  end)

  it("may be tables that are in several places, which are one there too", function()
    local shared = { { "deep" } }
    for _, pool in ipairs { pools[3], pools[4] } do
      local seen = pool:run(function(_, _, x, y, z)
        return { x[1] == y and x.again == y and z == y[1], x, y }
      end, { shared, again = shared }, shared, shared[1])
      for _, result in ipairs(seen) do
        assert.is_true(result[1])
        assert.same({ { "deep" } }, result[3])
        assert.is_true(rawequal(result[2][1], result[3]) and rawequal(result[2].again, result[3]))
      end
      -- Written out, this would not fit into any memory.
      for _ = 1, 60 do shared = { shared, shared } end
      assert.is_true(pool:run(function(_, _, t) return t[1][2][1] == t[2][1][2] end, shared)[1])
      shared = { { "deep" } }
    end
  end)

  it("may be up to ten arguments with holes", function()
    with_pools(function(pool)
      local seen = pool:run(function(_, _, ...) return { select("#", ...), select(-1, ...), (select(2, ...)) } end,
        nil, 2, nil, nil, nil, nil, nil, nil, nil, "ten")
      assert.same({ 10, "ten", 2 }, seen[1])
      assert.same({ 0 }, pool:run(function(...) return { select("#", ...) - 2 } end)[1])
    end)
  end)

  it("may be arrays and views, which stay shared", function()
    with_pools(function(pool, n)
      local a = mpi.zeros { n, 3 }
      local seen = pool:run(function(id, _, all, column)
        all:row(id):fill(id + 1)
        return { all:row(id), column }
      end, a, a:col(1))
      for id = 0, n - 1 do
        assert.same({ id + 1, id + 1, id + 1 }, a:row(id):totable())
        a:set(id, 1, -id)
        assert.equal(-id, seen[id + 1][1][1])
        assert.equal(-id, seen[id + 1][2][id])
      end
    end)
  end)

  it("may be arrays of any dtype", function()
    for _, dtype in ipairs { "int8", "uint64", "complex double", "bool", "char", "double_int" } do
      local a = mpi.zeros({ 2, 3 }, dtype, "F")
      local back = thread.parallel(1, function(_, _, b) return { b, b.dtype } end, a)[1]
      assert.equal(dtype, back[2])
      assert.is_true(back[1].p.any == a.p.any and back[1].shape == a.shape and back[1].strides == a.strides)
    end
  end)

  it("may be arrays of structs that the thread has declared", function()
    local declaration = "struct nmpi_spec_cell { double mass; int32_t kind; };"
    ffi.cdef(declaration)
    local cells = mpi.zeros(2, "struct nmpi_spec_cell")
    cells[1] = { 2.5, 7 }
    local pool = thread.pool(2)
    refuses(function() pool:run(function() end, cells) end, "thread 0 of 2", "thread 1 of 2",
      "struct nmpi_spec_cell has come to a thread that has not declared that type")
    pool:close()
    pool = thread.pool { 2, main = true, cdef = declaration }
    local seen = pool:run(function(id, _, a)
      a[0].kind = 5
      return { a[1].mass + a[1].kind, id == 1 and a or nil }
    end, cells)
    assert.equal(9.5, seen[1][1])
    assert.equal(5, seen[2][2][0].kind)
    pool:close()

    local masses = thread.parallel({ 2, cdef = declaration }, function(_, _, a) return a[1].mass end, cells)
    assert.same({ 2.5, 2.5 }, masses)
    refuses(function() thread.pool { 2, cdef = "struct {" } end,
      "nmpi.thread.pool: thread 0 of 2: argument 'cdef': declaration")
    refuses(function() thread.pool { 2, cedf = declaration } end, "nmpi.thread.pool: argument 'n'", '"cedf"')
    refuses(function() thread.parallel({ 1, cdef = 5 }, function() end) end, "nmpi.thread.parallel: argument 'cdef'")

    refuses(function()
      thread.parallel(1, function()
        require("ffi").cdef "struct nmpi_spec_own { int x; };"
        return require("nmpi").zeros(1, "struct nmpi_spec_own")
      end)
    end, "struct nmpi_spec_own")
  end)

  it("may be communicators and operators", function()
    local own = WORLD:dup()
    with_pools(function(pool, n)
      local seen = pool:run(function(_, _, world, comm, op)
        local m = require "nmpi"
        return { world == m.COMM_WORLD, comm:rank(), comm:size(), op == m.MAX, comm, op }
      end, WORLD, own, mpi.MAX)
      for id = 0, n - 1 do assert.same({ true, rank, size, true, own, mpi.MAX }, seen[id + 1]) end
    end)
    own:free()
    refuses(function() thread.parallel(1, function(_, _, comm) return comm:rank() end, own) end,
      "got one that has been freed")
  end)

  it("is refused where it cannot be passed", function()
    local pool = thread.pool(2)
    local function refused(value, ...)
      refuses(function() pool:run(function() end, 1, value) end, "nmpi.pool:run: argument '2 of fn", ...)
    end
    local cycle = { 1 }
    cycle.next = { cycle }
    refused(cycle, "'2 of fn[next][1]': expected a table without cycles")
    local nested, deep = {}, {}
    for _ = 1, 99 do nested = { nested } end
    assert.equal(100, thread.parallel(1, function(_, _, t)
      local depth = 1
      while t[1] do t, depth = t[1], depth + 1 end
      return depth
    end, nested)[1])
    for _ = 1, 100 do deep = { deep } end
    refused(deep, "expected tables at most 100 deep")
    refused(coroutine.create(function() end), "got a coroutine")
    refused(print, "got a function")
    refused({ x = print }, "'2 of fn[x]'", "got a function")
    refused(io.stdout, "got file")
    refused(setmetatable({}, {}), "without a metatable")
    refused({ [{}] = 1 }, "keys that are strings, numbers or booleans")
    refused(ffi.new "double[3]", "got cdata")
    refused(3LL, "got cdata")
    refused(mpi.status(), "got cdata")
    refused(WORLD:group(), "got cdata")
    refused(mpi.IN_PLACE, "got IN_PLACE")
    refused(mpi.wrap(ffi.new "double[3]"), "storage of its own")
    refused(mpi.zeros(1, "struct { int x; }"), "an array of structs with a name")
    local freed = mpi.zeros(2)
    freed:free()
    refused(freed, "freed")
    assert.same({ 5, 5 }, pool:run(function(_, _, x) return x end, 5))
    refuses(function() pool:run(function() end, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) end, "at most 10 arguments")
    refuses(function() pool:run(function() return print end) end, "thread 0 of 2", "thread 1 of 2", "'result'",
      "got a function")
    pool:close()
  end)
end)

describe("bad use", function()
  it("of functions is refused", function()
    local one, two = 1, 2
    refuses(function() thread.parallel(2, function() return one + two end) end,
      "without upvalues, got one with one, two")
    local stripped = loadstring(string.dump(function() return one + two end, true))
    refuses(function() thread.parallel(2, stripped) end, "got one with upvalue 1, upvalue 2: what")
    refuses(function() thread.parallel(2, print) end, "a function written in Lua")
    refuses(function() thread.parallel(2) end, "argument 'fn': expected a function, got nil")
    local pool = thread.pool(1)
    refuses(function() pool:run(function() return one end) end, "nmpi.pool:run", "got one with one")
    pool:close()
  end)

  it("of counts is refused", function()
    for _, n in ipairs { 0, -1, 257, 1.5 } do
      refuses(function() thread.pool(n) end, "nmpi.thread.pool: argument 'n'")
      refuses(function() thread.pool { n, main = true } end, "argument 'n'")
    end
    refuses(function() thread.pool "two" end, "argument 'n'")
    refuses(function() thread.pool {} end, "argument 'n'")
    refuses(function() thread.pool { 2, main = 1 } end, "argument 'main'")
  end)

  it("of pools is refused", function()
    local pool = thread.pool(2)
    pool:close()
    pool:close()
    refuses(function() pool:run(function() end) end, "nmpi.pool:run: the pool has been closed")
    refuses(function() pool.run(nil, function() end) end, "called with a colon")
    pool = thread.pool { 2, main = true }
    rawset(_G, "nmpi_spec_pool", pool)
    refuses(function() pool:run(function(id) if id == 0 then nmpi_spec_pool:run(print) end end) end, -- luacheck: ignore
      "the pool is at work")
    refuses(function() pool:run(function(id) if id == 0 then nmpi_spec_pool:close() end end) end, -- luacheck: ignore
      "the pool is at work")
    refuses(function() pool:run(function(id) if id == 0 then coroutine.yield() end end) end, "cannot yield")
    rawset(_G, "nmpi_spec_pool", nil)
    assert.same({ 0, 1 }, pool:run(function(id) return id end))
    pool:close()
  end)

  it("of a team's methods is refused", function()
    local pool = thread.pool(1)
    local function refused(chunk, ...)
      local fn = loadstring("local team = require('nmpi.thread').team() " .. chunk)
      refuses(function() pool:run(fn) end, ...)
    end
    refused("team:unlock()", "expected a thread that is in the critical section")
    refused("team:lock() team:lock()", "not in the critical section yet")
    refused("team:lock() team:barrier()", "not in the critical section")
    refused("team.barrier()", "called with a colon")
    refused("team:range(-1)", "argument 'n'")
    refused("team:range(1.5)", "argument 'n'")
    refused("team:chunks(3, 0)", "argument 'chunk'")
    refused("for _ in team:chunks(2) do team:barrier() end", "nmpi.team:chunks: the team has met within the loop")
    refused("for _ in team:chunks(2) do for _ in team:chunks(2) do end end", "the team has met within the loop")
    refused("team:reduce('x')", "argument 'x'")
    refused("team:reduce(1, 'x')", "argument 'op'")
    refused("team:reduce(1, require('nmpi').BAND)", "not defined on")
    pool:close()
    local pool_with_main = thread.pool { 1, main = true }
    pool_with_main:run(function()
      kept_team = require("nmpi.thread").team() -- luacheck: ignore
      kept_next, kept_pieces = kept_team:chunks(3) -- luacheck: ignore
    end)
    pool_with_main:close()
    refuses(function() kept_team:barrier() end, "the team has ended") -- luacheck: ignore
    refuses(function() kept_next(kept_pieces) end, "nmpi.team:chunks: the team has ended") -- luacheck: ignore
    kept_team, kept_next, kept_pieces = nil, nil, nil -- luacheck: ignore
  end)

  it("of what is the main thread's is refused", function()
    refuses(function() thread.parallel(1, function() require("nmpi").finalize() end) end, "thread that initialised MPI")
    refuses(function() thread.parallel({ 1, main = true }, function() require("nmpi").finalize() end) end,
      "no threads at work")
    for _, code in ipairs { "", "0", "true" } do
      refuses(function() thread.parallel(1, loadstring("os.exit(" .. code .. ")")) end, "only the main thread")
    end
  end)
end)

describe("an error in a thread", function()
  it("is raised with the thread and the traceback, after all have ended", function()
    with_pools(function(pool, n)
      for failing = 0, n - 1 do
        local done = mpi.zeros(n, "int64")
        local message = refuses(function()
          pool:run(function(id, _, bad, a)
            local function fail() error("broken pipe", 0) end
            if id == bad then fail() end
            a[id] = 1
          end, failing, done)
        end, ("thread %d of %d: broken pipe\nstack traceback:"):format(failing, n), "in function 'fail'")
        assert.is_nil(message:find("nmpi/team.lua", 1, true))
        for id = 0, n - 1 do assert.equal(id == failing and 0 or 1, tonumber(done[id])) end
      end
    end)
  end)

  it("may be anything", function()
    local function raised(chunk, ...)
      local fn = loadstring(chunk)
      refuses(function() thread.parallel(1, fn) end, ...)
      refuses(function() thread.parallel({ 1, main = true }, fn) end, ...)
    end
    raised("error()", "(error object is a nil value)")
    raised("error({})", "(error object is a table value)")
    raised("error(setmetatable({}, { __tostring = function() return 'an object' end }))", "an object")
    raised("local function f() return f() + 1 end f()", "stack overflow")
    raised("local x = nil; x()", "attempt to call")
    raised("require 'nmpi.no_such_module'", "nmpi.no_such_module")
    raised("require('nmpi').send(1)", "nmpi.send: argument 'data'")
    raised("require('nmpi.checked').recv(require('nmpi').zeros(1), 99)", "argument 'source'")
  end)

  it("may fail to describe itself", function()
    for _, text in ipairs { "error 'twice'", "return {}" } do
      local fn = loadstring(("error(setmetatable({}, { __tostring = function() %s end }))"):format(text))
      for _, pool in ipairs { pools[1], pools[2] } do
        refuses(function() pool:run(fn) end, "thread 0 of 1: ")
        assert.same({ 7 }, pool:run(function() return 7 end))
      end
    end
  end)

  it("frees those that wait for the thread", function()
    with_pools(function(pool, n)
      if n == 1 then return end
      for _, call in ipairs { "team:barrier()", "team:reduce(1)", "team:chunks(3)" } do
        local fn = loadstring("local id, _, bad = ... local team = require('nmpi.thread').team() "
          .. "if id == bad then error('first') end " .. call)
        for failing = 0, n - 1 do
          local message = refuses(function() pool:run(fn, failing) end, ("thread %d of %d"):format(failing, n), "first")
          assert.is_nil(message:find("has failed", 1, true), message)
        end
        if n == 4 then -- what the others do with the error is their own
          local caught = loadstring("local id, _, bad = ... local team = require('nmpi.thread').team() "
            .. "if id == bad then error('first') end "
            .. "pcall(function() " .. call .. " end) if id == (bad + 1) % 4 then error('second') end")
          refuses(function() pool:run(caught, n - 1) end, "first", "second")
        end
        -- Whoever returns without meeting the others.
        fn = loadstring("local id, _, gone = ... local team = require('nmpi.thread').team() "
          .. "if id ~= gone then " .. call .. " end")
        refuses(function() pool:run(fn, n - 1) end, ("thread %d has returned without coming here"):format(n - 1))
      end
      refuses(function()
        pool:run(function(id)
          local team = require("nmpi.thread").team()
          if id == 0 then team:barrier() else team:reduce(1) end
        end)
      end, "the threads do not agree")
      local sums = pool:run(function() return (require("nmpi.thread").team():reduce(1)) end)
      assert.equal(n, sums[n])
    end)
  end)

  it("leaves the critical section", function()
    with_pools(function(pool, n)
      refuses(function()
        pool:run(function()
          require("nmpi.thread").team():lock()
          error "inside"
        end)
      end, ("thread %d of %d"):format(n - 1, n))
      pool:run(function() require("nmpi.thread").team():lock() end)
      pool:run(function() require("nmpi.thread").team():lock() end)
    end)
  end)
end)

describe("what interrupts the calling thread", function()
  it("leaves no thread behind", function()
    local threads, struck, compiling = process_figures(), 0, jit.status()
    jit.off() -- compiled code has no hooks
    jit.flush()
    for instructions = 1, 600, 13 do
      local pool
      local function meet() require("nmpi.thread").team():barrier() end
      local sethook = debug.sethook
      local function strike()
        sethook()
        error "interrupted"
      end
      local fine = pcall(function()
        sethook(strike, "", instructions)
        pool = thread.pool { 2, main = true }
        pool:run(meet)
        sethook()
      end)
      if not fine then struck = struck + 1 end
      pool = nil -- luacheck: ignore
      collect()
    end
    if compiling then jit.on() end
    assert.is_true(struck > 10)
    assert.equal(threads, (process_figures()))
  end)
end)

describe("the threads of a team", function()
  it("meet at barriers", function()
    with_pools(function(pool, n)
      local steps = mpi.zeros(n, "int64")
      local wrong = pool:run(function(id, size_, a)
        local team, t, behind = require("nmpi.thread").team(), require "nmpi.thread", 0
        for step = 1, 50 do
          a[id] = step
          team:barrier()
          for other = 0, size_ - 1 do
            if t.fetch_add(a, other, 0) ~= step then behind = behind + 1 end
          end
          team:barrier()
        end
        return behind
      end, steps)
      for id = 0, n - 1 do assert.equal(0, wrong[id + 1]) end
    end)
  end)

  it("combine numbers", function()
    with_pools(function(pool, n)
      local seen = pool:run(function(id)
        local m, team = require "nmpi", require("nmpi.thread").team()
        local sums = 0
        for step = 1, 50 do sums = sums + team:reduce(id + step) end
        return { sums, team:reduce(id + 1, m.PROD), team:reduce(-id, m.MIN), team:reduce(id, m.MAX), team:reduce(0.5) }
      end)
      local sum, product = 0, 1
      for id = 0, n - 1 do sum, product = sum + 50 * id + 1275, product * (id + 1) end
      for id = 0, n - 1 do assert.same({ sum, product, 1 - n, n - 1, n / 2 }, seen[id + 1]) end
    end)
  end)

  it("combine numbers by operators of one's own", function()
    local longest = mpi.op("max(abs(x), abs(y))")
    with_pools(function(pool, n)
      local seen = pool:run(function(id, _, op)
        return (require("nmpi.thread").team():reduce(-id - 0.5, op))
      end, longest)
      for id = 1, n do assert.equal(n == 1 and -0.5 or n - 0.5, seen[id]) end
    end)
    longest:free()
  end)

  it("enter the critical section one at a time", function()
    with_pools(function(pool, n)
      local total = mpi.zeros(1)
      pool:run(function(_, _, a)
        local team = require("nmpi.thread").team()
        for _ = 1, 200 do
          team:lock()
          a[0] = a[0] + 1
          team:unlock()
        end
      end, total)
      assert.equal(200 * n, total[0])
    end)
  end)

  it("divide ranges evenly", function()
    with_pools(function(pool, n)
      for _, length in ipairs { 0, 1, 2, 7, 64, 2 ^ 40 + 1 } do
        local parts = pool:run(function(_, _, l) return { require("nmpi.thread").team():range(l) } end, length)
        local at = 0
        for id = 0, n - 1 do
          local from, to = parts[id + 1][1], parts[id + 1][2]
          assert.equal(at, from)
          assert.is_true(to - from >= math.floor(length / n) and to - from <= math.ceil(length / n))
          at = to
        end
        assert.equal(length, at)
      end
    end)
  end)

  it("take pieces of a range", function()
    with_pools(function(pool, n)
      for _, chunk in ipairs { 1, 3, 100 } do
        local taken = mpi.zeros(50, "int64")
        local rounds = pool:run(function(_, _, a, c)
          local t, pieces = require "nmpi.thread", 0
          for length = 50, 0, -10 do -- loops that follow each other do not mingle
            for from, to in t.team():chunks(length, c) do
              pieces = pieces + 1
              for i = from, to - 1 do t.fetch_add(a, i, 1) end
            end
          end
          return pieces
        end, taken, chunk)
        local pieces, expected = 0, 0
        for id = 0, n - 1 do pieces = pieces + rounds[id + 1] end
        for length = 50, 0, -10 do expected = expected + math.ceil(length / chunk) end
        assert.equal(expected, pieces)
        for i = 0, 49 do assert.equal(5 - math.floor(i / 10), tonumber(taken[i])) end
      end
    end)
  end)

  it("count as one", function()
    with_pools(function(pool, n)
      local counters = mpi.zeros({ 3, 2 }, "int64"):col(1)
      local seen = pool:run(function(_, _, a)
        local fetch_add, sum = require("nmpi.thread").fetch_add, 0
        for _ = 1, 200 do sum = sum + fetch_add(a, 2, 3) end
        return sum
      end, counters)
      local sum, rounds = 0, 200 * n
      for id = 0, n - 1 do sum = sum + seen[id + 1] end
      assert.equal(3 * rounds * (rounds - 1) / 2, sum)
      assert.same({ 0LL, 0LL, 3LL * rounds }, counters:totable())
    end)
    local a = mpi.zeros(2, "int64")
    refuses(function() thread.fetch_add(a, 2, 1) end, "argument 'i': expected an index from 0 to 1, got 2")
    refuses(function() thread.fetch_add(a, -1, 1) end, "argument 'i'")
    refuses(function() thread.fetch_add(a, 0, 0.5) end, "argument 'x'")
    local expected = "argument 'a': expected a writable array of int64 and one dimension, got "
    refuses(function() thread.fetch_add(mpi.zeros(2), 0, 1) end, expected .. "an array of double, shape (2,)")
    refuses(function() thread.fetch_add(mpi.zeros({ 1, 2 }, "int64"), 0, 1) end, expected)
    refuses(function() thread.fetch_add(mpi.wrap(ffi.new "const int64_t[1]"), 0, 1) end, expected)
    refuses(function() thread.fetch_add({}, 0, 1) end, expected .. "a table")
    local bytes = ffi.new "char[24]"
    local odd = mpi.wrap(ffi.cast("char *", ffi.cast("uintptr_t", bytes) + 1), 1, "int64")
    refuses(function() thread.fetch_add(odd, 0, 1) end, "expected elements at multiples of 8 bytes")
  end)
end)

-- Each thread talks to the threads of the same number on the other ranks, apart from the others by its tags.
describe("MPI from threads", function()
  it("passes rings", function()
    with_pools(function(pool, n)
      local wrong = pool:run(function(id)
        local m = require "nmpi"
        local me, all = m.rank(), m.size()
        local right, left, bad = (me + 1) % all, (me - 1) % all, 0
        for round = 1, 10 do
          local length = round % 2 == 0 and 5 or 3000
          local out, into = m.zeros(length), m.zeros(length)
          out:fill(me * 1000 + id * 100 + round)
          local status = m.sendrecv(out, right, into, left, 10 + id, 10 + id)
          if status ~= m.SUCCESS or into[length - 1] ~= left * 1000 + id * 100 + round then bad = bad + 1 end
        end
        return bad
      end)
      for id = 0, n - 1 do assert.equal(0, wrong[id + 1]) end
    end)
  end)

  it("sends from all to all without blocking", function()
    with_pools(function(pool, n)
      local wrong = pool:run(function(id)
        local m = require "nmpi"
        local me, all, bad = m.rank(), m.size(), 0
        local status
        for round = 1, 5 do
          local requests, out, into = m.requests(2 * all), m.zeros(1), m.zeros { all, 8 }
          out[0] = me * 1000 + id * 100 + round
          for other = 0, all - 1 do
            status, requests[2 * other] = m.irecv(into:row(other):slice { 0, 1 }, other, 20 + id)
            if status ~= m.SUCCESS then bad = bad + 1 end
            status, requests[2 * other + 1] = m.isend(out, other, 20 + id)
            if status ~= m.SUCCESS then bad = bad + 1 end
          end
          if m.waitall(requests) ~= m.SUCCESS then bad = bad + 1 end
          for other = 0, all - 1 do
            if into:get(other, 0) ~= other * 1000 + id * 100 + round then bad = bad + 1 end
          end
        end
        return bad
      end)
      for id = 0, n - 1 do assert.equal(0, wrong[id + 1]) end
    end)
  end)

  it("packs views in scratch of each thread", function()
    with_pools(function(pool, n)
      local wrong = pool:run(function(id)
        local m = require "nmpi"
        local me, all, bad = m.rank(), m.size(), 0
        local right, left = (me + 1) % all, (me - 1) % all
        for _, width in ipairs { 1, 14, 20, 40 } do -- packed, and by datatypes of the thread
          local a, b = m.zeros { 40, 400 }, m.zeros { 40, 400 }
          a:fill(me * 10 + id)
          m.sendrecv(a:slice(nil, { 1, 1 + 8 * width }), right, b:slice(nil, { 1, 1 + 8 * width }), left, id, id)
          local expected = 40 * 8 * width * (left * 10 + id)
          local sum = 0
          for i = 0, 39 do
            for j = 0, 399 do sum = sum + b:get(i, j) end
          end
          if sum ~= expected then bad = bad + 1 end
        end
        return bad
      end)
      for id = 0, n - 1 do assert.equal(0, wrong[id + 1]) end
    end)
  end)

  it("calls collectives on a communicator of each thread", function()
    local comms, own_sum = {}, mpi.op("x + y", { commute = true })
    for id = 0, 3 do comms[id + 1] = WORLD:dup() end
    with_pools(function(pool, n)
      local wrong = pool:run(function(id, _, list, op)
        local m = require "nmpi"
        local comm, me, all, bad = list[id + 1], m.rank(), m.size(), 0
        for round = 1, 10 do
          local _, sum = m.allreduce(me + id * round, m.SUM, comm)
          if sum ~= all * (all - 1) / 2 + all * id * round then bad = bad + 1 end
          local a = m.zeros(4)
          if me == round % all then a:fill(id + round) end
          m.bcast(a, round % all, comm)
          if a[3] ~= id + round then bad = bad + 1 end
          local x, total = m.zeros(3):fill(me + id * round), m.zeros(6):slice { nil, nil, 2 }
          local _, request = m.iallreduce(x, total, round % 2 == 0 and op or m.SUM, comm)
          if m.wait(request) ~= m.SUCCESS or total[2] ~= sum then bad = bad + 1 end
        end
        m.barrier(comm)
        return bad
      end, comms, own_sum)
      for id = 0, n - 1 do assert.equal(0, wrong[id + 1]) end
    end)
    for id = 0, 3 do comms[id + 1]:free() end
    own_sum:free()
  end)

  it("makes and frees communicators in threads", function()
    local comms = {}
    for id = 0, 3 do comms[id + 1] = WORLD:dup() end
    with_pools(function(pool, n)
      local sizes = pool:run(function(id, _, list)
        local own = list[id + 1]:dup()
        local found = own:size()
        own:free()
        return found
      end, comms)
      for id = 0, n - 1 do assert.equal(size, sizes[id + 1]) end
    end)
    -- Of those who free the same one, one does.
    if size == 1 then
      local shared = mpi.COMM_SELF:dup()
      local freed = thread.parallel(4, function(_, _, comm) return (pcall(comm.free, comm)) end, shared)
      table.sort(freed, function(a, b) return a and not b end)
      assert.same({ true, false, false, false }, freed)
    end
    for id = 0, 3 do comms[id + 1]:free() end
  end)

  it("leaves a request to its thread", function()
    local array = mpi.zeros(1)
    local _, request = mpi.irecv(array, 0, 5, mpi.COMM_SELF)
    refuses(function() thread.parallel(1, function(_, _, r)
      local m = require "nmpi"
      local _, own = m.irecv(m.zeros(1), m.PROC_NULL)
      assert(m.wait(own) == m.SUCCESS)
      m.wait(r)
    end, request) end, "request of this thread, got one of another thread")
    mpi.send(mpi.array { 3 }, 0, 5, mpi.COMM_SELF)
    assert.equal(SUCCESS, mpi.wait(request))
    assert.equal(3, array[0])
  end)

  it("has one buffer for bsend", function()
    local pool = thread.pool(4)
    local attached = pool:run(function() return (pcall(require("nmpi").buffer_attach, 100000)) end)
    table.sort(attached, function(a, b) return a and not b end)
    assert.same({ true, false, false, false }, attached)
    pool:run(function(id)
      local m = require "nmpi"
      local a, b = m.zeros(4), m.zeros(4)
      a:fill(id)
      assert(m.bsend(a, m.rank(), 30 + id) == m.SUCCESS)
      assert(m.recv(b, m.rank(), 30 + id) == m.SUCCESS)
      assert(b[3] == id)
    end)
    pool:run(function() assert(require("nmpi").buffer_detach() == 0) end)
    pool:close()
  end)
end)

describe("memory that threads share", function()
  it("lives as long as any of them uses it, and no longer", function()
    collect()
    local before = core.nmpi_memory_bytes()
    local pool = thread.pool { 3, main = true }
    local function churn(id, _, a)
      seed = seed or id -- luacheck: ignore
      bag = bag or {} -- luacheck: ignore
      for _ = 1, 30 do
        seed = (seed * 1103515245 + 12345) % 2 ^ 31 -- luacheck: ignore
        local at = math.floor(seed / 2 ^ 16) % 4 + 1 -- luacheck: ignore
        local view = (bag[at] or a):slice { 0, 10 } -- luacheck: ignore
        assert(view[0] == 7 and view[9] == 7)
        bag[at] = at % 2 == 0 and view or nil -- luacheck: ignore
        if at == 3 then collectgarbage() end
      end
      return bag -- luacheck: ignore
    end
    for _ = 1, 20 do
      local a = mpi.zeros(500)
      a:fill(7)
      local bags = pool:run(churn, a)
      a:free()
      collect()
      for _, bag in pairs(bags) do
        for _, view in pairs(bag) do assert.equal(7, view[5]) end
      end
    end
    pool:run(function()
      bag, seed = nil, nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
    end)
    pool:run(function() collectgarbage() end)
    collect()
    assert.equal(tonumber(before), tonumber(core.nmpi_memory_bytes()))
    pool:close()
  end)

  it("is each array's own, of any size, while all threads make and free arrays", function()
    mpi.empty(1, "uint8"):fill(0) -- keeps the value's place for good
    collect()
    local before = core.nmpi_memory_bytes()
    local pool = thread.pool { 3, main = true }
    local function work(id, _, given, round)
      local m, bad = require "nmpi", 0
      local sizes = { 2 ^ 20, 40000, 12288, 300001, 70000 }
      local function value_of(maker, k, made_in) return (maker * 80 + k + 7 * made_in) % 251 end
      local function make(k)
        local a = m[k % 2 == 0 and "zeros" or "empty"](sizes[k % 5 + 1] + id, "uint8")
        if k % 2 == 0 and (a[0] ~= 0 or a[a.size - 1] ~= 0) then bad = bad + 1 end
        a:fill(value_of(id, k, round))
        return a
      end
      local function look(a, value)
        local wrong = false
        for i = 0, a.size - 1, 4099 do wrong = wrong or a[i] ~= value end
        if wrong or a[a.size - 1] ~= value then bad = bad + 1 end
      end
      -- What another thread has made, which goes when the last thread has let it go.
      for k, a in pairs(given.made) do look(a, value_of(given.maker, k, round - 1)) end
      -- What is this thread's alone goes at once.
      local own = {}
      for k = 1, 75 do
        local place = 7 * k % 11
        if own[place] then
          look(own[place][1], own[place][2])
          own[place][1]:free()
        end
        own[place] = { make(k), value_of(id, k, round) }
      end
      for _, pair in pairs(own) do
        look(pair[1], pair[2])
        pair[1]:free()
      end
      local made = {}
      for k = 1, 10 do made[k] = make(k) end
      collectgarbage()
      return { bad = bad, made = made, maker = id }
    end
    local given = { bad = 0, made = {}, maker = 0 }
    for round = 1, 20 do
      local results = pool:run(work, given, round)
      for id = 0, 2 do assert.equal(0, results[id + 1].bad) end
      given = results[round % 3 + 1]
    end
    given.made = nil
    pool:close()
    collect()
    assert.equal(tonumber(before), tonumber(core.nmpi_memory_bytes()))
  end)

  it("that was dropped is not held by waiting threads", function()
    local pool, most = thread.pool(2), 0
    for _ = 1, 200 do
      pool:run(function() end, mpi.empty(2 ^ 20)) -- 8 MiB, untouched
      most = math.max(most, tonumber(core.nmpi_memory_bytes()))
    end
    pool:close()
    assert.is_true(most < 800e6, most .. " bytes")
  end)

  it("of results outlives the threads that made it", function()
    local seen = thread.parallel(3, function(id)
      local a = require("nmpi").zeros(1000)
      a:fill(id)
      return a:slice { 10, 20 }
    end)
    collect()
    for id = 0, 2 do assert.equal(id, seen[id + 1][9]) end
  end)

  it("does not grow with the rounds of a pool", function()
    local pool = thread.pool(2)
    local a = mpi.zeros(1000)
    local function work(id, _, b, t) b[id] = t.step end
    local function rounds(n)
      for step = 1, n do
        pool:run(work, a, { step = step })
        assert(a[0] == step and a[1] == step)
      end
      pool:run(function() collectgarbage() end)
      collect()
    end
    rounds(200)
    local threads, kilobytes = process_figures()
    rounds(1000)
    local threads_after, kilobytes_after = process_figures()
    assert.equal(threads, threads_after)
    assert.is_true(kilobytes_after < kilobytes + 4096, ("%d kB, then %d"):format(kilobytes, kilobytes_after))
    pool:close()
  end)

  it("does not grow with the pools", function()
    local function make(n)
      local most = 0
      for i = 1, n do
        assert.same({ i }, thread.parallel(1, function(_, _, x) return x end, i))
        thread.pool(2) -- dropped
        most = math.max(most, (process_figures()))
      end
      collect()
      return most
    end
    make(2)
    local threads, kilobytes = process_figures()
    local most = make(10)
    local threads_after, kilobytes_after = process_figures()
    assert.equal(threads, threads_after)
    assert.is_true(most < threads + 14, most .. " threads") -- a pool that is dropped is soon collected
    assert.is_true(kilobytes_after < kilobytes + 8192, ("%d kB, then %d"):format(kilobytes, kilobytes_after))
  end)
end)

describe("a hot loop", function()
  local hot = require "spec.support.hot"
  local pool, a, counter = pools[3], mpi.zeros(4), mpi.zeros(1, "int64")
  local function touch(id, _, b, x) b[id] = x end
  local loops = {
    { "pool:run", function(n)
      for i = 1, n do pool:run(touch, a, i) end
      hot.ensure(a[0] == n and a[1] == n)
    end },
    { "pool:run between two reads", function(n)
      a[0] = 0
      for i = 1, n do
        local before = a[0]
        pool:run(touch, a, i)
        hot.ensure(a[0] - before == 1)
      end
    end },
    { "fetch_add", function(n)
      for _ = 1, n do thread.fetch_add(counter, 0, 1) end
    end },
  }
  hot.define(it, pending, loops)
end)

describe("the pools", function()
  it("end their threads", function()
    local threads = process_figures()
    for _, pool in ipairs(pools) do pool:close() end
    if threads > 0 then assert.equal(threads - 16, (process_figures())) end
  end)
end)
