-- SPDX-License-Identifier: MIT
-- The last rank dies of a signal.
local ffi = require "ffi"
local mpi = require "nmpi"

ffi.cdef "int raise(int signal);"

it("crashes", function()
  if mpi.rank() == mpi.size() - 1 then ffi.C.raise(9) end
  mpi.barrier()
end)
