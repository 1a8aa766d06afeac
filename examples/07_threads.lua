-- SPDX-License-Identifier: MIT
-- Threads that each send a token round the ring of ranks, told apart by their tags. Every rank adds its number to the
-- token, so that it comes back with the sum. The pool is entered once for each lap, as a time loop enters it in every
-- step.
--
--     mpiexec -n 2 nmpi examples/07_threads.lua [THREADS [LAPS]]

-- A function for threads has no upvalues: it requires what it uses.
local function run_lap(id, _, tokens)
  local mpi = require "nmpi.checked"
  local rank, size = mpi.rank(), mpi.size()
  local right, left, tag = (rank + 1) % size, (rank - 1) % size, id
  local token = tokens:slice { id, id + 1 }
  if rank == 0 then
    mpi.sendrecv_replace(token, right, left, tag, tag)
  else
    mpi.recv(token, left, tag)
    token[0] = token[0] + rank
    mpi.send(token, right, tag)
  end
end

local mpi = require "nmpi"
local thread = require "nmpi.thread"

local n = assert(tonumber(arg[1] or 2), "expected a number of threads, got " .. tostring(arg[1]))
local laps = assert(tonumber(arg[2] or 100), "expected a number of laps, got " .. tostring(arg[2]))
local rank, size = mpi.rank(), mpi.size()

local pool = thread.pool(n)
local tokens = mpi.zeros(n)
local wrong, start = 0, mpi.wtime()
for lap = 1, laps do
  if rank == 0 then tokens:fill(lap) end
  pool:run(run_lap, tokens)
  for id = 0, n - 1 do
    if rank == 0 and tokens[id] ~= lap + size * (size - 1) / 2 then wrong = wrong + 1 end
  end
end
local seconds = mpi.wtime() - start
pool:close()

if rank == 0 then
  print(("%d ranks with %d threads each, %d laps: %d tokens wrong"):format(size, n, laps, wrong))
  print(("%.6f s a lap"):format(seconds / laps))
end
assert(wrong == 0)
