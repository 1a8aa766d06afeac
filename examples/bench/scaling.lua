-- SPDX-License-Identifier: MIT
-- The right-hand side of the Cahn-Hilliard equation, as examples/cahn_hilliard.lua computes it on one rank, against the
-- same in C. scaling.py has it in Numba, and the whole program in py-pde.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. arg[0]:gsub("bench/[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local cart = require "nmpi.cart"
local harness = require "harness"
local numerics = require "numerics.cahn_hilliard"

ffi.cdef "void bench_scaling_rhs(int times, int n, int m, double *c, double *mu, double *rate);"

harness.need(1)

for _, n in ipairs(harness.quick and { 64 } or { 64, 512 }) do
  local domain = cart.domain { n, n }
  local model = numerics.model(domain)
  local inner = domain:interior(model.c.array)
  for i = 0, n - 1 do
    for j = 0, n - 1 do inner:set(i, j, 0.5 + 0.01 * math.sin(0.37 * (i * n + j))) end
  end
  local c, mu, rate = model.c.array:copy(), domain:zeros(), domain:zeros()

  model:rhs()
  harness.c.bench_scaling_rhs(1, n, n, c.data, mu.data, rate.data)
  for i = 1, n do
    for j = 1, n do
      if rate:get(i, j) ~= model.rate:get(i, j) then error "scaling: C and Lua differ" end
    end
  end

  local seconds, ratios = harness.compare {
    function(times)
      for _ = 1, times do model:rhs() end
    end,
    function(times) harness.c.bench_scaling_rhs(times, n, n, c.data, mu.data, rate.data) end,
  }
  harness.row("case", "rhs", "cells", n, "nmpi", seconds[1], "c", seconds[2], "ratio", ratios[2])
  domain:free()
end
mpi.barrier()
