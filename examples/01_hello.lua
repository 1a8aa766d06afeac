-- SPDX-License-Identifier: MIT
-- A greeting from every rank, in rank order: the others send theirs to rank 0, which prints them all.
--
--     mpiexec -n 4 nmpi examples/01_hello.lua

local mpi = require "nmpi"

local rank, size, info = mpi.rank(), mpi.size(), mpi.info()
local library = info.mpi:match("^[^\n,]*"):gsub("%s+", " ")
local greeting = ("Hello from rank %d of %d on %s, with %s"):format(rank, size, info.host, library)

if rank == 0 then
  print(greeting)
  local text, status = mpi.empty(1024, "char"), mpi.status()
  for source = 1, size - 1 do
    mpi.recv(text, source, 0, mpi.COMM_WORLD, status)
    print(text:slice({ 0, status:count() }):tostring())
  end
else
  mpi.send(mpi.array(greeting), 0)
end
