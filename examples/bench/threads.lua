-- SPDX-License-Identifier: MIT
-- What it takes to enter a pool of threads that is there, to meet in it, and to make it.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local thread = require "nmpi.thread"
local harness = require "harness"

ffi.cdef [[
void bench_pool_open(int n);
void bench_pool_run(int n);
void bench_pool_close(void);
]]

local C = harness.c

harness.need(1)

-- ---- entering ----

local function touch(id, _, a)
  a[id] = id
end

local function compare(n, main)
  local pool, a = thread.pool { n, main = main }, mpi.zeros(n)
  local others = main and n - 1 or n
  C.bench_pool_open(others)
  local seconds, ratios = harness.compare {
    function(times)
      for _ = 1, times do pool:run(touch, a) end
    end,
    C.bench_pool_run,
  }
  C.bench_pool_close()
  pool:close()
  harness.row("case", "enter a pool", "threads", n, "main", main, "nmpi", seconds[1], "c", seconds[2], "ratio",
    ratios[2])
end

if harness.wanted "enter a pool" then
  for _, n in ipairs(harness.quick and { 2 } or { 1, 2, 4 }) do
    compare(n, false)
    if n > 1 then compare(n, true) end
  end
end

-- ---- meeting ----

local function barriers(_, _, times)
  local team = require("nmpi.thread").team()
  for _ = 1, times do team:barrier() end
end

if harness.wanted "barrier" then
  for _, n in ipairs(harness.quick and { 2 } or { 2, 4 }) do
    local pool = thread.pool { n, main = true }
    local seconds = harness.compare { function(times) pool:run(barriers, times) end }
    pool:close()
    harness.row("case", "barrier", "threads", n, "main", true, "nmpi", seconds[1])
  end
end

-- ---- making ----

if harness.wanted "make a pool" then
  local seconds = harness.compare { function(times)
    for _ = 1, times do thread.pool(2):close() end
  end }
  harness.row("case", "make a pool", "threads", 2, "main", false, "nmpi", seconds[1])
end
