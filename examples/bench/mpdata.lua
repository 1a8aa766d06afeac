-- SPDX-License-Identifier: MIT
-- MPDATA on a bell that goes round a periodic plane, as mpdata.py has PyMPDATA-MPI compute it: seconds for a step, the
-- least of some rounds.
--
--     mpiexec -n 2 nmpi examples/bench/mpdata.lua [--quick]

package.path = arg[0]:gsub("bench/[^/]*$", "?.lua;") .. package.path

local mpi = require "nmpi.checked"
local mpdata = require "numerics.mpdata"

local CASES = {
  { name = "upwind", iterations = 1 },
  { name = "two passes", iterations = 2 },
  { name = "infinite gauge, nonoscillatory", iterations = 2, infinite_gauge = true, nonoscillatory = true },
}
local quick = arg[1] == "--quick"
local SIDES, CELLS, ROUNDS = quick and { 64 } or { 64, 256, 512 }, quick and 1e5 or 1e7, quick and 2 or 5

for _, n in ipairs(SIDES) do
  local steps = math.ceil(CELLS / n ^ 2)
  for _, case in ipairs(CASES) do
    local model = mpdata.model {
      shape = { n, n }, mpi_dimension = 1, thread_dimension = 2, threads = 1, iterations = case.iterations,
      infinite_gauge = case.infinite_gauge or false, nonoscillatory = case.nonoscillatory or false,
    }
    model.cx:fill(0.5)
    model.cy:fill(0.25)
    model:set(1, function(i, j)
      return math.exp(-(i + 0.5 - n / 2) ^ 2 / (2 * (n / 10) ^ 2) - (j + 0.5 - n / 2) ^ 2 / (2 * (n / 10) ^ 2))
    end)
    model:advance(math.min(steps, 50)) -- to compile
    local least = math.huge
    for _ = 1, ROUNDS do
      mpi.barrier()
      local start = mpi.wtime()
      model:advance(steps)
      mpi.barrier()
      least = math.min(least, (mpi.wtime() - start) / steps)
    end
    model:close()
    if mpi.rank() == 0 then print(("@\tcase=%s\tside=%d\tnmpi=%.6g"):format(case.name, n, least)) end
  end
end
