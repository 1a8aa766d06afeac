-- SPDX-License-Identifier: MIT
--- Communicators.
-- @module nmpi.comm

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"

local communicator, status = check.comm, check.status

local comm = {
  --- All processes of the job: the default of every `comm` argument.
  COMM_WORLD = C.nmpi_comm_world(),
  --- This process alone.
  COMM_SELF = C.nmpi_comm_self(),
}

--- This process's rank in a communicator (MPI_Comm_rank), also as `comm:rank()`.
-- @tparam[opt=COMM_WORLD] comm group
-- @treturn int 0 to size - 1
function comm.rank(group)
  return (status(C.nmpi_comm_rank(communicator(group, "rank")), "rank"))
end

--- The number of processes in a communicator (MPI_Comm_size), also as `comm:size()`.
-- @tparam[opt=COMM_WORLD] comm group
-- @treturn int at least 1
function comm.size(group)
  return (status(C.nmpi_comm_size(communicator(group, "size")), "size"))
end

ffi.metatype("nmpi_comm", { __index = { rank = comm.rank, size = comm.size } })

return comm
