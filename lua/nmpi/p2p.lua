-- SPDX-License-Identifier: MIT
--- Point-to-point communication.
--
-- `data` is an array, a view or a raw FFI array. Elements travel in logical (row-major) order; a message that is
-- shorter than the receive buffer writes only the elements that arrived, one that is longer gives a status of
-- class `mpi.ERR_TRUNCATE`.
-- @module nmpi.p2p

local ffi = require "ffi"
local C = require("nmpi.lib").core
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"

local tonumber, type = tonumber, type
local int, optional_int = check.int, check.optional_int
local communicator, status, status_info = check.comm, check.status, check.info
local send_buffer, recv_buffer = buffer.send, buffer.recv

local p2p = {
  --- As source: from any rank.
  ANY_SOURCE = C.nmpi_any_source(),
  --- As tag of a receive: any tag.
  ANY_TAG = C.nmpi_any_tag(),
  --- As source or destination: nobody; the call does nothing.
  PROC_NULL = C.nmpi_proc_null(),
  --- The largest tag (the attribute MPI_TAG_UB).
  TAG_UB = C.nmpi_tag_ub(),
}
local ANY_SOURCE, ANY_TAG = p2p.ANY_SOURCE, p2p.ANY_TAG

local status_ct = ffi.metatype("nmpi_status", {
  __index = {
    count = function(info)
      if type(info) == "nil" then check.mismatch("status:count", "self", "an mpi.status()", info) end
      return (tonumber(status_info(info, "status:count").elements))
    end,
  },
})

--- A status object, made once and passed to receives as `info`. After the call it has the fields `source`,
-- `tag` and `error` (the status of the receive), and `info:count()` gives the number of whole elements received.
-- @return the object
function p2p.status()
  return status_ct()
end

--- Sends (MPI_Send).
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function p2p.send(data, dest, tag, comm)
  return status(C.nmpi_send(send_buffer(data, "send", "data"), int(dest, "send", "dest"),
    optional_int(tag, 0, "send", "tag"), communicator(comm, "send")), "send")
end

--- Receives (MPI_Recv).
-- @tparam array data receive buffer
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function p2p.recv(data, source, tag, comm, info)
  return status(C.nmpi_recv(recv_buffer(data, "recv", "data"), optional_int(source, ANY_SOURCE, "recv", "source"),
    optional_int(tag, ANY_TAG, "recv", "tag"), communicator(comm, "recv"), status_info(info, "recv")), "recv")
end

--- Sends and receives at once (MPI_Sendrecv); the two buffers must not overlap.
-- @tparam array senddata
-- @int dest rank, or `mpi.PROC_NULL`
-- @tparam array recvdata receive buffer
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=0] sendtag
-- @int[opt=ANY_TAG] recvtag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function p2p.sendrecv(senddata, dest, recvdata, source, sendtag, recvtag, comm, info)
  return status(C.nmpi_sendrecv(send_buffer(senddata, "sendrecv", "senddata"), int(dest, "sendrecv", "dest"),
    recv_buffer(recvdata, "sendrecv", "recvdata"), optional_int(source, ANY_SOURCE, "sendrecv", "source"),
    optional_int(sendtag, 0, "sendrecv", "sendtag"), optional_int(recvtag, ANY_TAG, "sendrecv", "recvtag"),
    communicator(comm, "sendrecv"), status_info(info, "sendrecv")), "sendrecv")
end

return p2p
