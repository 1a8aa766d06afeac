-- SPDX-License-Identifier: MIT
-- Rows and columns of a grid of processes, each a communicator of its own. Every process has a block of a matrix; the
-- sums of the matrix's rows and columns are reductions along the grid's. Rank 0 checks them against the formula.
--
--     mpiexec -n 6 nmpi examples/06_split.lua [BLOCK_SIZE]

local mpi = require "nmpi"

local n = assert(tonumber(arg[1] or 100), "expected the rows and columns of a block, got " .. tostring(arg[1]))
local world = mpi.COMM_WORLD
local rank, size = world:rank(), world:size()

-- As near to a square as the number of processes allows.
local n_rows = math.floor(math.sqrt(size))
while size % n_rows ~= 0 do n_rows = n_rows - 1 end
local n_columns = size / n_rows
local i, j = math.floor(rank / n_columns), rank % n_columns

local row, column = world:split(i), world:split(j)
row:set_name("row " .. i)
column:set_name("column " .. j)
assert(row:rank() == j and row:size() == n_columns)
assert(column:rank() == i and column:size() == n_rows)

local function ok(status)
  assert(status == mpi.SUCCESS, mpi.error_string(status))
end

-- The matrix's element (y, x) is y + 2 x.
local row_sums, column_sums = mpi.zeros(n), mpi.zeros(n)
for y = 0, n - 1 do
  for x = 0, n - 1 do
    local element = (i * n + y) + 2 * (j * n + x)
    row_sums[y] = row_sums[y] + element
    column_sums[x] = column_sums[x] + element
  end
end
ok(mpi.allreduce(mpi.IN_PLACE, row_sums, mpi.SUM, row))
ok(mpi.allreduce(mpi.IN_PLACE, column_sums, mpi.SUM, column))

-- Each whole row adds up y + 2 x over all x, and each whole column over all y.
local height, width = n * n_rows, n * n_columns
local wrong = 0
for k = 0, n - 1 do
  if row_sums[k] ~= width * (i * n + k) + width * (width - 1) then wrong = wrong + 1 end
  if column_sums[k] ~= height * (height - 1) / 2 + 2 * height * (j * n + k) then wrong = wrong + 1 end
end

-- The first process of each row knows that row's sums: together they have the sum of all elements.
local total = 0
for k = 0, n - 1 do total = total + row_sums[k] end
local status, sum = mpi.allreduce(total, mpi.SUM, column)
ok(status)

local _, all_wrong = mpi.allreduce(wrong, mpi.SUM)
if rank == 0 then
  print(("%d x %d processes, a matrix of %d x %d: sum %d, %d sums wrong"):format(n_rows, n_columns, height, width, sum,
    all_wrong))
end
assert(all_wrong == 0)
row:free()
column:free()
