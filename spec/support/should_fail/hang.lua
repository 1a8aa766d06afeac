-- SPDX-License-Identifier: MIT
-- Rank 0 never comes to the barrier, and never calls MPI again.
local mpi = require "nmpi"

it("hangs", function()
  while mpi.rank() == 0 do os.getenv("HOME") end
  mpi.barrier()
end)
