-- SPDX-License-Identifier: MIT
-- Listings 3 and 4 of the numba-mpi paper: pi by n_intervals = N_TIMES / x intervals, summed up by a reduction N_TIMES
-- times, for x = 1 ... 10; the least of ten repetitions. pi.py has the same for mpi4py and numba-mpi.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

ffi.cdef "double bench_pi(int n_times, int n_intervals);"

local N_TIMES, RTOL = 10000, 1e-3
local repetitions = 10
if harness.quick then N_TIMES, repetitions = 2000, 3 end

local function get_pi_part(n, rank, size)
  local h = 1 / n
  local partial_sum = 0.0
  for i = rank + 1, n, size do
    local x = h * (i - 0.5)
    partial_sum = partial_sum + 4 / (1 + x * x)
  end
  return h * partial_sum
end

local pi, part = mpi.zeros(1), mpi.zeros(1)

local function compute_pi(n_times, n_intervals)
  for _ = 1, n_times do
    part[0] = get_pi_part(n_intervals, mpi.rank(), mpi.size())
    mpi.allreduce(part, pi, mpi.Operator.SUM)
    assert(math.abs(pi[0] - math.pi) / math.pi < RTOL)
  end
  return pi[0]
end

local function seconds_of(f, n_intervals)
  mpi.barrier()
  local start = mpi.wtime()
  f(N_TIMES, n_intervals)
  return mpi.wtime() - start
end

for x = 1, 10 do
  local n_intervals = math.floor(N_TIMES / x)
  local lua, c = math.huge, math.huge
  for _ = 1, repetitions do
    lua = math.min(lua, seconds_of(compute_pi, n_intervals))
    c = math.min(c, seconds_of(harness.c.bench_pi, n_intervals))
  end
  harness.row("x", x, "ranks", mpi.size(), "nmpi", lua, "c", c)
end
