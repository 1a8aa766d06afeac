-- SPDX-License-Identifier: MIT
-- Halo exchange on views. A periodic field of cells is divided among a grid of ranks; around its own N x N cells each
-- has H layers of ghost cells, copies of what its neighbours have there. They are filled by sendrecv, then by isend,
-- irecv and waitall, with messages of H * N doubles: more than MPI sends before the other side receives.
--
--     mpiexec -n 4 nmpi examples/05_halo.lua [N [ROUNDS]]

local mpi = require "nmpi.checked" -- no statuses to check: what fails is an error

local H, N, ROUNDS = 10, tonumber(arg[1] or 1000), tonumber(arg[2] or 10)
local rank, size = mpi.rank(), mpi.size()

-- The grid of ranks, as square as can be, and this one's place in it.
local n_rows = math.floor(math.sqrt(size))
while size % n_rows ~= 0 do n_rows = n_rows - 1 end
local n_columns = size / n_rows
local row, column = math.floor(rank / n_columns), rank % n_columns

local function rank_at(r, c) return r % n_rows * n_columns + c % n_columns end

local north, south = rank_at(row - 1, column), rank_at(row + 1, column)
local west, east = rank_at(row, column - 1), rank_at(row, column + 1)

-- What cell (i, j) of this rank holds, by its place in the whole field, which goes round in both directions.
local function value(i, j)
  local y, x = (row * N + i - H) % (n_rows * N), (column * N + j - H) % (n_columns * N)
  return y * n_columns * N + x
end

local field = mpi.zeros { N + 2 * H, N + 2 * H }
for i = H, N + H - 1 do
  for j = H, N + H - 1 do field:set(i, j, value(i, j)) end
end

-- First to west and east, then to north and south with the ghost cells at the ends of the rows, so that the corners
-- come along. The rows lie in one piece; the columns do not, and nmpi packs them.
local inner, first, last, before, after = { H, -H }, { H, 2 * H }, { -2 * H, -H }, { 0, H }, { -H }
local halo = {
  { edge = field:slice(inner, first), to = west, ghosts = field:slice(inner, after), from = east },
  { edge = field:slice(inner, last), to = east, ghosts = field:slice(inner, before), from = west },
  { edge = field:slice(first), to = north, ghosts = field:slice(after), from = south },
  { edge = field:slice(last), to = south, ghosts = field:slice(before), from = north },
}

local function exchange_blocking()
  for tag, x in ipairs(halo) do mpi.sendrecv(x.edge, x.to, x.ghosts, x.from, tag, tag) end
end

local reqs = mpi.requests(4)

local function exchange_nonblocking()
  for tag = 1, 3, 2 do
    local a, b = halo[tag], halo[tag + 1]
    reqs[0], reqs[1] = mpi.irecv(a.ghosts, a.from, tag), mpi.irecv(b.ghosts, b.from, tag + 1)
    reqs[2], reqs[3] = mpi.isend(a.edge, a.to, tag), mpi.isend(b.edge, b.to, tag + 1)
    mpi.waitall(reqs)
  end
end

local function check(from_row, to_row, from_column, to_column)
  for i = from_row, to_row - 1 do
    for j = from_column, to_column - 1 do assert(field:get(i, j) == value(i, j), "a wrong ghost cell") end
  end
end

for _, way in ipairs { { "sendrecv", exchange_blocking }, { "isend, irecv, waitall", exchange_nonblocking } } do
  local seconds, W = 0, N + 2 * H
  for _ = 1, ROUNDS do
    for _, x in ipairs(halo) do x.ghosts:fill(-1) end
    mpi.barrier()
    local start = mpi.wtime()
    way[2]()
    seconds = seconds + mpi.wtime() - start
    check(0, H, 0, W) check(N + H, W, 0, W) check(H, N + H, 0, H) check(H, N + H, N + H, W)
  end
  local longest = mpi.allreduce(seconds / ROUNDS, mpi.MAX)
  if rank == 0 then print(("%d x %d ranks, %s: %.6f s an exchange"):format(n_rows, n_columns, way[1], longest)) end
end
