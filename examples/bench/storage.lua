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
local rank, size, quick = mpi.rank(), mpi.size(), harness.quick
local KIB, MIB = 1024, 1024 * 1024
local SIZES = quick and { 64 * KIB, 4 * MIB } or { 64 * KIB, MIB, 4 * MIB, 64 * MIB }
local TAG = 1

if size ~= 2 then error(("this benchmark runs on 2 ranks, not on %d"):format(size), 0) end

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

for _, bytes in ipairs(harness.wanted "pingpong" and SIZES or {}) do
  local ways, memory = {}, {}
  for i, kind in ipairs(kinds) do
    local data = kind[3](bytes)
    memory[i] = data
    if kind[2] then
      local pointer = ffi.cast("char *", data)
      ways[i] = function(n) C.bench_pingpong(n, pointer, bytes) end
    else
      ways[i] = function(n) pingpong(n, data) end
    end
  end
  local seconds, ratios = harness.compare(ways)
  for i, kind in ipairs(kinds) do
    harness.row("case", "pingpong", "bytes", bytes, "memory", kind[1], "seconds", seconds[i] / 2, "c", seconds[1] / 2,
      "ratio", 1 / ratios[i])
  end
  memory = nil -- luacheck: ignore 311
  collectgarbage()
end

-- ---- making arrays ----

local function create(n, make, bytes)
  for _ = 1, n do
    local array = make(bytes, "int8")
    ffi.fill(array.p.any, bytes, 1)
  end
end

for _, bytes in ipairs(harness.wanted "create" and rank == 0 and SIZES or {}) do
  local seconds, ratios = harness.compare({
    function(n) create(n, mpi.zeros, bytes) end,
    function(n) C.bench_create(n, bytes, 1) end,
    function(n) create(n, mpi.empty, bytes) end,
    function(n) C.bench_create(n, bytes, 0) end,
  }, mpi.COMM_SELF)
  harness.row("case", "create", "bytes", bytes, "memory", "mpi.zeros", "seconds", seconds[1], "c", seconds[2],
    "ratio", ratios[2])
  harness.row("case", "create", "bytes", bytes, "memory", "mpi.empty", "seconds", seconds[3], "c", seconds[4],
    "ratio", seconds[3] / seconds[4])
end
