-- SPDX-License-Identifier: MIT
--- Point-to-point communication.
--
-- `data` is an array, a view, a raw FFI array or an array known by `mpi.register_buffer`; what is sent may also be a
-- string, whose bytes travel as char. Elements travel in logical (row-major) order; a message that is
-- shorter than the receive buffer writes only the elements that arrived, one that is longer gives a status of
-- class `mpi.ERR_TRUNCATE`.
-- @module nmpi.p2p

local ffi = require "ffi"
local C = require("nmpi.lib").core
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local dtypes = require "nmpi.dtype"

local tonumber = tonumber
local int, optional_int = check.int, check.optional_int
local communicator, status, status_info = check.comm, check.status, check.info
local send_buffer, recv_buffer = buffer.send, buffer.recv
local flag, message_number = ffi.new "int[1]", ffi.new "double[1]"

local p2p = {
  --- As source: from any rank.
  ANY_SOURCE = C.nmpi_any_source(),
  --- As tag of a receive: any tag.
  ANY_TAG = C.nmpi_any_tag(),
  --- As source or destination: nobody; the call does nothing.
  PROC_NULL = C.nmpi_proc_null(),
  --- No message of `mprobe`.
  MESSAGE_NULL = C.NMPI_REQUEST_NULL,
  --- The largest tag (the attribute MPI_TAG_UB).
  TAG_UB = C.nmpi_tag_ub(),
  --- The bytes that a message takes in the buffer of `bsend` beyond its own (MPI_BSEND_OVERHEAD).
  BSEND_OVERHEAD = C.nmpi_bsend_overhead(),
}
local ANY_SOURCE, ANY_TAG = p2p.ANY_SOURCE, p2p.ANY_TAG

-- The elements of a dtype in the message; nil where the bytes are no whole number of them.
local function count_of(info, dtype)
  local description = dtypes.resolve(dtype, "status:count")
  local count = tonumber(C.nmpi_status_count(info, description.code, description.itemsize))
  if count == C.NMPI_UNDEFINED then return nil end
  return count
end

local status_ct = ffi.metatype("nmpi_status", {
  __index = {
    count = function(info, dtype)
      if type(info) == "nil" or info == nil then check.mismatch("status:count", "self", "an mpi.status()", info) end
      status_info(info, "status:count")
      if dtype ~= nil then return (count_of(info, dtype)) end
      if info.elements < 0 then
        check.mismatch("status:count", "dtype", "a dtype, since a probed message has none", dtype)
      end
      return (tonumber(info.elements))
    end,
  },
})

--- A status object, made once and passed to receives, waits and probes as `info`. After the call it has the fields
-- `source`, `tag`, `error` (the status of the operation) and `cancelled` (boolean), and `info:count()` gives the number
-- of whole elements received. After a probe the dtype must be said, `info:count("double")`, which may be done after any
-- call; it is nil if the message is no whole number of such elements.
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
  return (status(C.nmpi_send(send_buffer(data, "send", "data"), int(dest, "send", "dest"),
    optional_int(tag, 0, "send", "tag"), communicator(comm, "send")), "send"))
end

--- Sends and returns only when the receive has begun (MPI_Ssend). Arguments and result are those of `send`.
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function p2p.ssend(data, dest, tag, comm)
  return (status(C.nmpi_ssend(send_buffer(data, "ssend", "data"), int(dest, "ssend", "dest"),
    optional_int(tag, 0, "ssend", "tag"), communicator(comm, "ssend")), "ssend"))
end

--- Sends from the buffer that `buffer_attach` has made, and so never waits for the receiver (MPI_Bsend). Where the
-- buffer is too small the status is of class `mpi.ERR_BUFFER`.
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function p2p.bsend(data, dest, tag, comm)
  return (status(C.nmpi_bsend(send_buffer(data, "bsend", "data"), int(dest, "bsend", "dest"),
    optional_int(tag, 0, "bsend", "tag"), communicator(comm, "bsend")), "bsend"))
end

--- Sends to a receiver that is known to be receiving already (MPI_Rsend); if it is not, MPI leaves open what happens.
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
function p2p.rsend(data, dest, tag, comm)
  return (status(C.nmpi_rsend(send_buffer(data, "rsend", "data"), int(dest, "rsend", "dest"),
    optional_int(tag, 0, "rsend", "tag"), communicator(comm, "rsend")), "rsend"))
end

--- Makes the buffer of `bsend` and `ibsend`, one for the process (MPI_Buffer_attach).
-- @int bytes room for all messages that are on their way at once: their bytes, and `mpi.BSEND_OVERHEAD` for each
-- @treturn int status
function p2p.buffer_attach(bytes)
  return (status(C.nmpi_buffer_attach(check.integer(bytes, "buffer_attach", "bytes")), "buffer_attach"))
end

--- Waits until the buffer's messages have been sent, and frees it (MPI_Buffer_detach); does nothing if there is none.
-- @treturn int status
function p2p.buffer_detach()
  return (status(C.nmpi_buffer_detach(), "buffer_detach"))
end

--- Receives (MPI_Recv).
-- @tparam array data receive buffer
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function p2p.recv(data, source, tag, comm, info)
  return (status(C.nmpi_recv(recv_buffer(data, "recv", "data"), optional_int(source, ANY_SOURCE, "recv", "source"),
    optional_int(tag, ANY_TAG, "recv", "tag"), communicator(comm, "recv"), status_info(info, "recv")), "recv"))
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
  return (status(C.nmpi_sendrecv(send_buffer(senddata, "sendrecv", "senddata"), int(dest, "sendrecv", "dest"),
    recv_buffer(recvdata, "sendrecv", "recvdata"), optional_int(source, ANY_SOURCE, "sendrecv", "source"),
    optional_int(sendtag, 0, "sendrecv", "sendtag"), optional_int(recvtag, ANY_TAG, "sendrecv", "recvtag"),
    communicator(comm, "sendrecv"), status_info(info, "sendrecv")), "sendrecv"))
end

--- Sends, and receives into the same array (MPI_Sendrecv_replace).
-- @tparam array data a message that is shorter leaves the rest of it as it was
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=0] sendtag
-- @int[opt=ANY_TAG] recvtag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function p2p.sendrecv_replace(data, dest, source, sendtag, recvtag, comm, info)
  return (status(C.nmpi_sendrecv_replace(recv_buffer(data, "sendrecv_replace", "data"),
    int(dest, "sendrecv_replace", "dest"), optional_int(source, ANY_SOURCE, "sendrecv_replace", "source"),
    optional_int(sendtag, 0, "sendrecv_replace", "sendtag"),
    optional_int(recvtag, ANY_TAG, "sendrecv_replace", "recvtag"), communicator(comm, "sendrecv_replace"),
    status_info(info, "sendrecv_replace")), "sendrecv_replace"))
end

--- Waits for a message without receiving it (MPI_Probe).
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill: whose message it is, and how long
-- @treturn int status
function p2p.probe(source, tag, comm, info)
  return (status(C.nmpi_probe(optional_int(source, ANY_SOURCE, "probe", "source"),
    optional_int(tag, ANY_TAG, "probe", "tag"), communicator(comm, "probe"), status_info(info, "probe")), "probe"))
end

--- Looks whether there is a message, without receiving it (MPI_Iprobe).
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill if there is one
-- @treturn int status
-- @treturn boolean whether there is one
function p2p.iprobe(source, tag, comm, info)
  local code = status(C.nmpi_iprobe(optional_int(source, ANY_SOURCE, "iprobe", "source"),
    optional_int(tag, ANY_TAG, "iprobe", "tag"), communicator(comm, "iprobe"), flag, status_info(info, "iprobe")),
    "iprobe")
  return code, flag[0] ~= 0
end

-- For the report of what was never received.
local function note(message)
  if check.debugging then C.nmpi_request_note(message, check.place()) end
end

--- Waits for a message and takes it out of the queue, for `mrecv` or `imrecv` alone (MPI_Mprobe).
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill: whose message it is, and how long
-- @treturn int status
-- @treturn number the message, `mpi.MESSAGE_NULL` where the status is not `mpi.SUCCESS`
function p2p.mprobe(source, tag, comm, info)
  local code = status(C.nmpi_mprobe(optional_int(source, ANY_SOURCE, "mprobe", "source"),
    optional_int(tag, ANY_TAG, "mprobe", "tag"), communicator(comm, "mprobe"), message_number,
    status_info(info, "mprobe")), "mprobe")
  note(message_number[0])
  return code, message_number[0]
end

--- Takes a message out of the queue if there is one, for `mrecv` or `imrecv` alone (MPI_Improbe).
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @param[opt] info an `mpi.status()` to fill if there is one
-- @treturn int status
-- @treturn boolean whether there is one
-- @treturn number the message, or `mpi.MESSAGE_NULL`
function p2p.improbe(source, tag, comm, info)
  local code = status(C.nmpi_improbe(optional_int(source, ANY_SOURCE, "improbe", "source"),
    optional_int(tag, ANY_TAG, "improbe", "tag"), communicator(comm, "improbe"), flag, message_number,
    status_info(info, "improbe")), "improbe")
  note(message_number[0])
  return code, flag[0] ~= 0, message_number[0]
end

--- Receives the message that `mprobe` or `improbe` has found (MPI_Mrecv). It can be received once.
-- @tparam array data receive buffer
-- @int message
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function p2p.mrecv(data, message, info)
  return (status(C.nmpi_mrecv(recv_buffer(data, "mrecv", "data"), check.request(message, "mrecv", "message"),
    status_info(info, "mrecv")), "mrecv"))
end

return p2p
