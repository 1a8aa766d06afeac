-- SPDX-License-Identifier: MIT
--- Collective communication: every rank of the communicator calls the routine.
-- @module nmpi.coll

local C = require("nmpi.lib").core
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"

local type = type
local SUCCESS = C.NMPI_SUCCESS
local optional_int, count_of, status = check.optional_int, check.count, check.status
local communicator, operator = check.comm, check.op
local send_buffer, recv_buffer = buffer.send, buffer.recv
local send_number, recv_number = buffer.send_number, buffer.recv_number
local received_number = buffer.received_number

local coll = {
  --- As `senddata` of a reduction, gather or allgather (there on the root): this rank's data is in `recvdata`
  -- already, where it belongs. As `recvdata` of scatter, on the root: its part stays in `senddata`.
  IN_PLACE = buffer.IN_PLACE,
}

--- Waits until every rank has called it (MPI_Barrier).
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.barrier(comm)
  return (status(C.nmpi_barrier(communicator(comm, "barrier")), "barrier"))
end

--- Copies the root's data to every rank (MPI_Bcast).
-- @tparam array|string data of the same dtype and size on every rank; on the root it is only read, so that a string or
-- const memory will do
-- @int[opt=0] root
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.bcast(data, root, comm)
  return (status(C.nmpi_bcast(send_buffer(data, "bcast", "data"), optional_int(root, 0, "bcast", "root"),
    communicator(comm, "bcast")), "bcast"))
end

--- Hands out the root's data: rank r receives the r-th part of `count` elements (MPI_Scatter).
-- @tparam array senddata on the root `count` elements for each rank; off the root it may be nil
-- @tparam array recvdata of the dtype of `senddata`, without overlap; on the root also `mpi.IN_PLACE`
-- @int[opt] count elements for each rank; by default all of `senddata` is divided, evenly, and fills `recvdata`
-- @int[opt=0] root
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.scatter(senddata, recvdata, count, root, comm)
  return (status(C.nmpi_scatter(send_buffer(senddata, "scatter", "senddata"),
    recv_buffer(recvdata, "scatter", "recvdata"), count_of(count, "scatter"), optional_int(root, 0, "scatter", "root"),
    communicator(comm, "scatter")), "scatter"))
end

--- Collects on the root `count` elements from every rank, in the order of ranks (MPI_Gather).
-- @tparam array senddata on the root also `mpi.IN_PLACE`
-- @tparam array recvdata on the root `count` elements for each rank, of the dtype of `senddata`, without overlap; off
-- the root it may be nil
-- @int[opt] count elements from each rank; by default all of `senddata`, and they fill `recvdata`
-- @int[opt=0] root
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.gather(senddata, recvdata, count, root, comm)
  return (status(C.nmpi_gather(send_buffer(senddata, "gather", "senddata"),
    recv_buffer(recvdata, "gather", "recvdata"), count_of(count, "gather"), optional_int(root, 0, "gather", "root"),
    communicator(comm, "gather")), "gather"))
end

--- Collects on every rank `count` elements from every rank, in the order of ranks (MPI_Allgather).
-- @tparam array senddata or `mpi.IN_PLACE`
-- @tparam array recvdata `count` elements for each rank, of the dtype of `senddata`, without overlap
-- @int[opt] count elements from each rank; by default all of `senddata`, and they fill `recvdata`
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.allgather(senddata, recvdata, count, comm)
  return (status(C.nmpi_allgather(send_buffer(senddata, "allgather", "senddata"),
    recv_buffer(recvdata, "allgather", "recvdata"), count_of(count, "allgather"), communicator(comm, "allgather")),
    "allgather"))
end

--- Combines the data of all ranks, element by element, on the root (MPI_Reduce).
-- @tparam array|number senddata a number counts as one double; on the root `mpi.IN_PLACE` takes it from `recvdata`
-- @tparam array recvdata of the dtype and size of `senddata`, without overlap; off the root it may be nil
-- @tparam[opt=SUM] op op
-- @int[opt=0] root
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function coll.reduce(senddata, recvdata, op, root, comm)
  if type(senddata) == "number" then senddata = send_number(senddata) end
  return (status(C.nmpi_reduce(send_buffer(senddata, "reduce", "senddata"),
    recv_buffer(recvdata, "reduce", "recvdata"), operator(op, "reduce"), optional_int(root, 0, "reduce", "root"),
    communicator(comm, "reduce")), "reduce"))
end

local function allreduce_number(number, op, comm)
  local code = status(C.nmpi_allreduce(send_number(number), recv_number, operator(op, "allreduce"),
    communicator(comm, "allreduce")), "allreduce")
  if code ~= SUCCESS then return code end
  return code, received_number()
end

--- Combines the data of all ranks, element by element, on every rank (MPI_Allreduce).
--
-- With a number in place of both arrays, `mpi.allreduce(number, op, comm)`, it is reduced as a double and the
-- result is returned.
-- @tparam array|number senddata a number counts as one double; `mpi.IN_PLACE` takes it from `recvdata`
-- @tparam array recvdata of the dtype and size of `senddata`, without overlap
-- @tparam[opt=SUM] op op
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn[opt] number the result, for a number; nil where the status is not `mpi.SUCCESS`
-- @usage local status, total = mpi.allreduce(part, mpi.SUM)
function coll.allreduce(senddata, recvdata, op, comm)
  if type(senddata) == "number" then
    if not buffer.is_buffer(recvdata) then return allreduce_number(senddata, recvdata, op) end
    senddata = send_number(senddata)
  end
  return (status(C.nmpi_allreduce(send_buffer(senddata, "allreduce", "senddata"),
    recv_buffer(recvdata, "allreduce", "recvdata"), operator(op, "allreduce"),
    communicator(comm, "allreduce")), "allreduce"))
end

return coll
