-- SPDX-License-Identifier: MIT
-- Scatter, gather and allgather: people average their opinions. Person i listens to person j with weight W(i, j), and
-- in each round takes the weighted mean of all opinions. The rows of W are scattered; the opinions, of which every rank
-- needs all, are put together again after each round. With symmetric weights the consensus is known beforehand.
--
--     mpiexec -n 4 nmpi examples/04_scatter_gather.lua [PEOPLE_PER_RANK [ROUNDS]]

local mpi = require "nmpi.checked" -- no statuses to check: what fails is an error

local PER_RANK, ROUNDS = tonumber(arg[1] or 50), tonumber(arg[2] or 40)
local rank, size = mpi.rank(), mpi.size()
local people = PER_RANK * size

-- Only the root has the whole matrix: the others pass nil.
local weights
if rank == 0 then
  weights = mpi.empty { people, people }
  for i = 0, people - 1 do
    for j = 0, people - 1 do weights:set(i, j, 1 + i * j % 7) end
  end
end
local rows = mpi.empty { PER_RANK, people }
mpi.scatter(weights, rows)

-- The sum of each row, on the root too for the check at the end.
local sums, all_sums = mpi.zeros(PER_RANK), rank == 0 and mpi.zeros(people) or nil
for i = 0, PER_RANK - 1 do
  local sum = 0
  for j = 0, people - 1 do sum = sum + rows:get(i, j) end
  sums[i] = sum
end
mpi.gather(sums, all_sums)

local function average(opinions, mine)
  for i = 0, PER_RANK - 1 do
    local sum = 0
    for j = 0, people - 1 do sum = sum + rows:get(i, j) * opinions[j] end
    mine[i] = sum / sums[i]
  end
end

local opinions, mine = mpi.empty(people), mpi.empty(PER_RANK)
for i = 0, people - 1 do opinions[i] = i end
local start = mpi.wtime()
for _ = 1, ROUNDS do
  average(opinions, mine)
  mpi.allgather(mine, opinions)
end
local seconds = mpi.wtime() - start

-- A person whose row sums up to more counts for more.
if rank == 0 then
  local sum, total = 0, 0
  for i = 0, people - 1 do
    sum, total = sum + i * all_sums[i], total + all_sums[i]
  end
  local consensus = sum / total
  for i = 0, people - 1 do assert(math.abs(opinions[i] - consensus) < 1e-9 * people) end
  print(("%d ranks, %d people, %d rounds: %.6f s"):format(size, people, ROUNDS, seconds))
  print(("consensus %.9f, expected %.9f"):format(opinions[people - 1], consensus))
end
