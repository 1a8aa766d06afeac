-- SPDX-License-Identifier: MIT
-- Only the last rank fails, while the others wait for it.
local mpi = require "nmpi"

describe("a failure on one rank", function()
  it("ends the job", function()
    assert.is_true(mpi.rank() < mpi.size() - 1)
    mpi.barrier()
  end)
end)
