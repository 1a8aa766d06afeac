-- SPDX-License-Identifier: MIT
-- Pi by a Riemann sum of 4 / (1 + x^2) over [0, 1], shared out among the ranks: Listings 1 and 3 of the numba-mpi
-- paper. The reduction is inside the loop that LuaJIT compiles.
--
--     mpiexec -n 4 nmpi examples/02_pi.lua [--compare-jit] [N_INTERVALS [N_TIMES]]

local mpi = require "nmpi"

local RTOL = 1e-3

local compare_jit, numbers = false, {}
for _, option in ipairs(arg) do
  if option == "--compare-jit" then
    compare_jit = true
  else
    numbers[#numbers + 1] = assert(tonumber(option), "expected --compare-jit or a number, got " .. option)
  end
end
local N_INTERVALS, N_TIMES = numbers[1] or 1000, numbers[2] or 10000

local function get_pi_part(n, rank, size)
  local h = 1 / n
  local partial_sum = 0.0
  for i = rank + 1, n, size do
    local x = h * (i - 0.5)
    partial_sum = partial_sum + 4 / (1 + x * x)
  end
  return h * partial_sum
end

local function compute_pi(n)
  local pi, part = mpi.zeros(1), mpi.zeros(1)
  for _ = 1, N_TIMES do
    part[0] = get_pi_part(n, mpi.rank(), mpi.size())
    mpi.allreduce(part, pi, mpi.Operator.SUM)
    assert(math.abs(pi[0] - math.pi) / math.pi < RTOL)
  end
  return pi[0]
end

local function timed(f, ...)
  mpi.barrier()
  local start = mpi.wtime()
  local result = f(...)
  local _, seconds = mpi.allreduce(mpi.wtime() - start, mpi.MAX)
  return seconds, result
end

local seconds, pi = timed(compute_pi, N_INTERVALS)
if mpi.rank() == 0 then
  print(("pi = %.12f, error %.1e"):format(pi, math.abs(pi - math.pi)))
  print(("%d ranks, %d intervals, %d reductions: %.6f s"):format(mpi.size(), N_INTERVALS, N_TIMES, seconds))
end

if compare_jit then
  -- As Listing 1: one million intervals on one rank, the best of five, compiled and interpreted.
  local function best()
    local least = math.huge
    for _ = 1, 5 do
      local start = mpi.wtime()
      get_pi_part(1000000, 0, 1)
      least = math.min(least, mpi.wtime() - start)
    end
    return least
  end
  local compiled = best()
  jit.off(get_pi_part)
  local interpreted = best()
  if mpi.rank() == 0 then print(("JIT speed-up: %.3g"):format(interpreted / compiled)) end
end
