-- SPDX-License-Identifier: MIT
-- A nonblocking exchange of data between two ranks: Listing 5 of the numba-mpi paper. The first rank exchanges with the
-- last, the second with the last but one, and so on; a rank in the middle with itself.
--
--     mpiexec -n 4 nmpi examples/03_exchange.lua [N [N_TIMES]]

local mpi = require "nmpi"

local N, N_TIMES = tonumber(arg[1] or 10000), tonumber(arg[2] or 20)
local rank, size = mpi.rank(), mpi.size()
local other = size - 1 - rank

-- As in the paper: both requests in one array, and one call that waits for them. Neither rank has to be the one that
-- sends first, so messages of any size may cross.
local function exchange_data(source)
  local target = mpi.empty(source.shape, source.dtype)
  local reqs = mpi.requests(2)
  local status
  status, reqs[0] = mpi.isend(source, other, 11)
  assert(status == mpi.SUCCESS)
  status, reqs[1] = mpi.irecv(target, other, 11)
  assert(status == mpi.SUCCESS)
  assert(mpi.waitall(reqs) == mpi.SUCCESS)
  return target
end

-- The same with a request at a time, and work to do while the messages are on their way. `source` may be read
-- meanwhile, but not written to; `target` has to wait.
local function exchange_and_sum(source, target)
  local status, receipt = mpi.irecv(target, other, 22)
  assert(status == mpi.SUCCESS)
  local sent, dispatch = mpi.isend(source, other, 22)
  assert(sent == mpi.SUCCESS)
  local mine, theirs = 0, 0
  for i = 0, N - 1 do mine = mine + source[i] end
  assert(mpi.wait(receipt) == mpi.SUCCESS)
  for i = 0, N - 1 do theirs = theirs + target[i] end
  assert(mpi.wait(dispatch) == mpi.SUCCESS)
  return mine, theirs
end

local function fill(data, owner, round)
  for i = 0, N - 1 do data[i] = owner + 1000 * round + i end
end

local source, expected, inbox = mpi.zeros(N), mpi.zeros(N), mpi.zeros(N)
local start = mpi.wtime()
for round = 1, N_TIMES do
  fill(source, rank, round)
  fill(expected, other, round)
  local target = exchange_data(source)
  for i = 0, N - 1 do assert(target[i] == expected[i]) end
  local mine, theirs = exchange_and_sum(source, inbox)
  assert(theirs - mine == (other - rank) * N)
end
local _, seconds = mpi.allreduce(mpi.wtime() - start, mpi.MAX)

if rank == 0 then
  print(("%d ranks, %d exchanges of %d doubles: %.6f s"):format(size, 2 * N_TIMES, N, seconds))
  print(("rank 0 sent %g ... %g to rank %d and received %g ... %g"):format(
    source[0], source[N - 1], other, inbox[0], inbox[N - 1]))
end
