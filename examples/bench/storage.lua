-- SPDX-License-Identifier: MIT
-- What it matters where the memory of a message lies: a ping-pong between two ranks on memory of several kinds, and the
-- making of arrays.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

ffi.cdef [[
void *bench_malloc(int64_t bytes);
void *bench_calloc(int64_t bytes);
void *bench_pages(int64_t bytes, int huge);
void bench_free(void *data);
void bench_pingpong(int n, char *data, int bytes);
void bench_create(int n, int64_t bytes, int zero);
]]

local C = harness.c
local rank, quick = mpi.rank(), harness.quick
local KIB, MIB = 1024, 1024 * 1024
local SIZES = quick and { 64 * KIB, 4 * MIB }
  or { 8 * KIB, 16 * KIB, 32 * KIB, 128 * KIB, 512 * KIB, MIB, 4 * MIB, 64 * MIB }
local TAG = 1

harness.need(2)

-- ---- ping-pong ----

local function pingpong(n, data)
  if rank == 0 then
    for _ = 1, n do
      mpi.send(data, 1, TAG)
      mpi.recv(data, 1, TAG)
    end
  else
    for _ = 1, n do
      mpi.recv(data, 0, TAG)
      mpi.send(data, 0, TAG)
    end
  end
end

local function owned(data)
  if data == nil then error("no memory", 0) end
  return ffi.gc(data, C.bench_free)
end

-- The kinds of memory: C's own is the first, to which the others are compared. Those of C are sent by C.
local kinds = {
  { "C malloc", true, function(bytes) return owned(C.bench_malloc(bytes)) end },
  { "C calloc", true, function(bytes) return owned(C.bench_calloc(bytes)) end },
  { "C small pages", true, function(bytes) return owned(C.bench_pages(bytes, 0)) end },
  { "C huge pages", true, function(bytes) return owned(C.bench_pages(bytes, 1)) end },
  { "mpi.zeros", false, function(bytes) return mpi.zeros(bytes, "int8") end },
  { "mpi.empty", false, function(bytes) return mpi.empty(bytes, "int8") end },
  { "ffi.new", false, function(bytes) return ffi.new("int8_t[?]", bytes) end },
  { "ffi.new by C", true, function(bytes) return ffi.new("int8_t[?]", bytes) end },
}

local function compare_kinds(bytes)
  local ways = {}
  for i, kind in ipairs(kinds) do
    local data = kind[3](bytes)
    if kind[2] then
      ways[i] = function(n) C.bench_pingpong(n, ffi.cast("char *", data), bytes) end
    else
      ways[i] = function(n) pingpong(n, data) end
    end
  end
  local seconds, ratios = harness.compare(ways)
  for i, kind in ipairs(kinds) do
    harness.row("case", kind[1], "bytes", bytes, "nmpi", seconds[i] / 2, "c", seconds[1] / 2, "ratio", 1 / ratios[i])
  end
end

for _, bytes in ipairs(harness.wanted "pingpong" and SIZES or {}) do
  if harness.fits("pingpong", 2 * #kinds * bytes) then compare_kinds(bytes) end
  collectgarbage()
end

-- ---- making arrays ----

-- Makes an array, touches all of it, and frees it.
local function create(n, make, bytes)
  for _ = 1, n do
    local array = make(bytes, "int8")
    ffi.fill(array.p.any, bytes, 1)
    array:free()
  end
end

local function compare_making(bytes)
  for i, name in ipairs { "empty", "zeros" } do
    local seconds, ratios = harness.compare({
      function(n) create(n, mpi[name], bytes) end,
      function(n) C.bench_create(n, bytes, i - 1) end,
    }, mpi.COMM_SELF)
    harness.row("case", "making mpi." .. name, "bytes", bytes, "nmpi", seconds[1], "c", seconds[2], "ratio", ratios[2])
  end
end

for _, bytes in ipairs(harness.wanted "create" and SIZES or {}) do
  if harness.fits("create", 2 * bytes) and rank == 0 then compare_making(bytes) end
end
