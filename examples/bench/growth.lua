-- SPDX-License-Identifier: MIT
-- What grows with the number of requests, with what was made before, with time and with the ranks. The case "allreduce"
-- runs on any number of ranks, the others on rank 0 alone. "waitany one of" wants a second rank, which sends in the end
-- what the other requests have waited for.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

ffi.cdef [[
int bench_requests(int n);
void bench_waitall(int times, int n, int self);
void bench_waitany(int times, int n, int self);
void bench_waitsome(int times, int n, int self);
void bench_background(int n, int peer);
void bench_background_end(int n);
void bench_one_of(int times, int n, int self);
void bench_allreduce(int times);
]]

local C = harness.c
local rank, size, quick = mpi.rank(), mpi.size(), harness.quick
local SELF = mpi.COMM_SELF
local TAG, BACKGROUND = 1, 2
local COUNTS = quick and { 1, 10, 100, 1000 } or { 1, 10, 100, 1000, 10000 }

-- ---- requests ----

local got, sent = mpi.zeros(1), mpi.zeros(1)

-- What is measured has no upvalues, see compare_requests.

-- In each case, all of n requests are completed.
local lists = {
  {
    name = "waitall",
    c = C.bench_waitall,
    lua = function(times, n, self, m, requests, to, from)
      for _ = 1, times do
        for i = 0, n - 1 do
          local _, r = m.irecv(to, self, 1)
          requests[i] = r
        end
        for _ = 1, n do m.send(from, self, 1) end
        m.waitall(requests)
      end
    end,
  },
  {
    name = "waitany drain",
    c = C.bench_waitany,
    lua = function(times, n, self, m, requests, to, from)
      for _ = 1, times do
        for i = 0, n - 1 do
          local _, r = m.irecv(to, self, 1)
          requests[i] = r
        end
        for _ = 1, n do m.send(from, self, 1) end
        repeat
          local _, index = m.waitany(requests)
        until index == nil
      end
    end,
  },
  {
    name = "waitsome",
    c = C.bench_waitsome,
    lua = function(times, n, self, m, requests, to, from)
      for _ = 1, times do
        for i = 0, n - 1 do
          local _, r = m.irecv(to, self, 1)
          requests[i] = r
        end
        for _ = 1, n do m.send(from, self, 1) end
        repeat
          local _, indices = m.waitsome(requests)
        until indices == nil
      end
    end,
  },
}

-- One request completes, and n - 1 wait for what the other rank does not send before the measurement is over.
local function one_of(times, n, self, m, requests, to, from)
  local place = n - 1
  for _ = 1, times do
    local _, r = m.irecv(to, self, 1)
    requests[place] = r
    m.send(from, self, 1)
    m.waitany(requests)
  end
end

-- Compiled anew for each number of requests, as in a program that has only one.
local function compare_requests(name, n, requests, lua, c)
  local fresh = loadstring(string.dump(lua))
  local seconds, ratios = harness.compare({
    function(times) fresh(times, n, rank, mpi, requests, got, sent) end,
    function(times) c(times, n, rank) end,
  }, SELF)
  local each = name == "waitany one of" and 1 or n
  harness.row("case", name, "requests", n, "nmpi", seconds[1] / each, "c", seconds[2] / each, "ratio", ratios[2])
end

local function requests_of(n)
  if C.bench_requests(n) == 0 then error(("no memory for %d requests"):format(n)) end
  return mpi.requests(n)
end

for _, case in ipairs(lists) do
  for _, n in ipairs(harness.wanted(case.name) and rank == 0 and COUNTS or {}) do
    compare_requests(case.name, n, requests_of(n), case.lua, case.c)
  end
end

local function compare_one_of(n)
  local requests, pending = requests_of(n), n - 1
  for i = 0, pending - 1 do
    local _, r = mpi.irecv(got, 1, BACKGROUND)
    requests[i] = r
  end
  C.bench_background(pending, 1)
  compare_requests("waitany one of", n, requests, one_of, C.bench_one_of)
  mpi.send(sent, 1, TAG)
  mpi.waitall(requests)
  C.bench_background_end(pending)
end

if harness.wanted "waitany one of" and size > 1 then
  for _, n in ipairs(COUNTS) do
    if rank == 0 then
      compare_one_of(n)
    elseif rank == 1 then
      mpi.recv(got, 0, TAG)
      for _ = 1, 2 * (n - 1) do mpi.send(sent, 0, BACKGROUND) end
    end
  end
end

-- ---- what was made before ----

-- Made one after the other.
local made = quick and { 1e4, 1e5 } or { 1e5, 1e6, 1e7 }

local function make_and_drop(n)
  local base = mpi.zeros { 8, 8 }
  for i = 1, n / 2 do
    mpi.zeros(1 + i % 16)
    base:slice({ 1, 7 }, { i % 3, 8, 2 })
  end
end

local calls = {
  { "allreduce", function(n)
    for _ = 1, n do mpi.allreduce(sent, got, mpi.SUM, SELF) end
  end },
  { "a view", function(n)
    local base = mpi.zeros { 8, 8 }
    for _ = 1, n do base:row(3) end
  end },
  { "an array", function(n)
    for _ = 1, n do mpi.zeros(4) end
  end },
}

-- The medians of the seconds of each call.
local function time_calls()
  local times = {}
  for i, call in ipairs(calls) do
    times[i] = harness.compare({ call[2] }, SELF)[1]
  end
  return times
end

if harness.wanted "made before" and rank == 0 then
  local before = time_calls()
  for _, count in ipairs(made) do
    make_and_drop(count)
    local after = time_calls()
    for i, call in ipairs(calls) do
      harness.row("case", "made before", "call", call[1], "made", count, "before", before[i], "after", after[i],
        "ratio", after[i] / before[i])
    end
  end
end

-- ---- memory ----

-- What is resident, what the core holds and what LuaJIT holds, in bytes.
local function memory()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open "/proc/self/status")
  local resident = file:read("*a"):match "VmRSS:%s*(%d+) kB" * 1024
  file:close()
  return resident, mpi.info().memory, collectgarbage "count" * 1024
end

-- Eleven operations each time: a reduction, two exchanges with itself, views and an array.
local function mix(n)
  local base, requests = mpi.zeros { 64, 64 }, mpi.requests(2)
  for i = 1, n / 11 do
    mpi.allreduce(sent, got, mpi.SUM, SELF)
    local view, temporary = base:row(i % 64), mpi.zeros(64)
    local _, r = mpi.irecv(temporary, 0, TAG, SELF)
    local _, s = mpi.isend(view, 0, TAG, SELF)
    requests[0], requests[1] = r, s
    mpi.waitall(requests)
    local column = base:col(i % 64)
    _, r = mpi.irecv(column, 0, TAG, SELF)
    mpi.send(temporary, 0, TAG, SELF)
    mpi.wait(r)
    base:slice { 0, 64, 3 }
  end
end

local told = rank == 0 and io.open "/proc/self/status"
if told then told:close() end
if harness.wanted "memory" and rank == 0 and not told then
  io.stderr:write "growth: memory is left out: there is no /proc/self/status\n"
elseif harness.wanted "memory" and rank == 0 then
  local n = quick and 1e5 or 1e7
  mix(quick and 1e4 or 1e6)
  local resident, core, lua = memory()
  local start = mpi.wtime()
  mix(n)
  local seconds = mpi.wtime() - start
  local resident_after, core_after, lua_after = memory()
  harness.row("case", "memory", "operations", n, "seconds", seconds / n, "resident", resident, "resident_after",
    resident_after, "core", core, "core_after", core_after, "lua", lua, "lua_after", lua_after, "ratio",
    resident_after / resident)
end

-- ---- ranks ----

if harness.wanted "allreduce" then
  local seconds, ratios = harness.compare({
    function(times)
      for _ = 1, times do mpi.allreduce(sent, got) end
    end,
    C.bench_allreduce,
  })
  harness.row("case", "allreduce", "ranks", size, "nmpi", seconds[1], "c", seconds[2], "ratio", ratios[2])
end
