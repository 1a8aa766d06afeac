-- SPDX-License-Identifier: MIT
-- Rank 0 raises, while the others wait for it.
local mpi = require "nmpi"

local function raise()
  error("raised on purpose")
end

it("raises", function()
  if mpi.rank() == 0 then raise() end
  mpi.barrier()
end)
