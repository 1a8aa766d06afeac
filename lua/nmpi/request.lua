-- SPDX-License-Identifier: MIT
--- Nonblocking and persistent point-to-point communication, and nonblocking reductions.
--
-- A request is a number. It can be copied and kept; once its operation has completed it counts as
-- `mpi.REQUEST_NULL`, which completes at once. The array of a pending operation may be dropped, since its storage is
-- kept, but its elements must be left alone until the operation has completed.
--
-- Several requests are a Lua list, or what `mpi.requests(n)` makes, which is faster: nothing is allocated. The entries
-- of operations that have completed become `mpi.REQUEST_NULL` there; persistent requests stay, inactive.
-- @module nmpi.request

local ffi = require "ffi"
local clear = require "table.clear"
local new_table = require "table.new"
local lib = require "nmpi.lib"
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local C = lib.core

local pairs, rawequal, rawget, tonumber, tostring, type = pairs, rawequal, rawget, tonumber, tostring, type
local int, optional_int, number_of = check.int, check.optional_int, check.request
local communicator, operator, status, status_info = check.comm, check.op, check.status, check.info
local send_buffer, recv_buffer, memory_of = buffer.send, buffer.recv, buffer.memory_of
local vla_bytes, typeof = buffer.vla_bytes, ffi.typeof
local debugging = check.debugging
local SUCCESS, UNDEFINED = C.NMPI_SUCCESS, C.NMPI_UNDEFINED
local ANY_SOURCE, ANY_TAG = C.nmpi_any_source(), C.nmpi_any_tag()

local request = {
  --- No request: what a zeroed container holds. It completes at once.
  REQUEST_NULL = C.NMPI_REQUEST_NULL,
}
local REQUEST_NULL = request.REQUEST_NULL

-- What the core answers with.
local number, flag, index, count = ffi.new "double[1]", ffi.new "int[1]", ffi.new "int[1]", ffi.new "int[1]"

-- ---- foreign memory under a pending operation ----

-- What keeps it alive, by the slot of the request: what the script has passed, and the memory of that, which a resolver
-- may have made for this call; of reductions, what is sent apart. An entry goes when its slot is used again, and all go
-- when no such operation is pending: to go through the completed ones would be a loop in the script's hot loop.
local values, memories, anchored = {}, {}, 0
local sent_values, sent_memories = {}, {}

-- When the Lua state closes, its memory goes, and no operation may be left on it.
lib.guard = ffi.gc(ffi.new "char[1]", C.nmpi_request_abandon)

local function anchor(r, data, array)
  local slot = C.nmpi_request_slot(r)
  values[slot], memories[slot] = data, memory_of(data, array)
  anchored = anchored + 1
end

local function anchor_sent(r, data, array)
  local slot = C.nmpi_request_slot(r)
  sent_values[slot], sent_memories[slot] = data, memory_of(data, array)
  anchored = anchored + 1
end

local function release()
  if C.nmpi_request_foreign() > 0 then return end
  if anchored < 64 then
    clear(values)
    clear(memories)
    clear(sent_values)
    clear(sent_memories)
  else
    -- To clear a large table takes long, each time.
    values, memories, sent_values, sent_memories = {}, {}, {}, {}
  end
  anchored = 0
end

-- ---- posting ----

-- The results of a call that posts an operation on `data`, which the core saw as `array`.
local function posted(code, where, data, array)
  if status(code, where) ~= SUCCESS then return code, REQUEST_NULL end
  local r = number[0]
  if array.owner == nil then anchor(r, data, array) end
  if debugging then C.nmpi_request_note(r, check.place()) end
  return SUCCESS, r
end

--- Begins to send (MPI_Isend).
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request; `mpi.REQUEST_NULL` where the status is not `mpi.SUCCESS`
function request.isend(data, dest, tag, comm)
  local array = send_buffer(data, "isend", "data")
  local code, r = posted(C.nmpi_isend(array, int(dest, "isend", "dest"), optional_int(tag, 0, "isend", "tag"),
    communicator(comm, "isend"), number), "isend", data, array)
  return code, r
end

--- Begins to send, and completes only when the receive has begun (MPI_Issend).
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
function request.issend(data, dest, tag, comm)
  local array = send_buffer(data, "issend", "data")
  local code, r = posted(C.nmpi_issend(array, int(dest, "issend", "dest"), optional_int(tag, 0, "issend", "tag"),
    communicator(comm, "issend"), number), "issend", data, array)
  return code, r
end

--- Begins to send from the buffer that `buffer_attach` has made (MPI_Ibsend).
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
function request.ibsend(data, dest, tag, comm)
  local array = send_buffer(data, "ibsend", "data")
  local code, r = posted(C.nmpi_ibsend(array, int(dest, "ibsend", "dest"), optional_int(tag, 0, "ibsend", "tag"),
    communicator(comm, "ibsend"), number), "ibsend", data, array)
  return code, r
end

--- Begins to send to a receiver that is known to be receiving already (MPI_Irsend).
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
function request.irsend(data, dest, tag, comm)
  local array = send_buffer(data, "irsend", "data")
  local code, r = posted(C.nmpi_irsend(array, int(dest, "irsend", "dest"), optional_int(tag, 0, "irsend", "tag"),
    communicator(comm, "irsend"), number), "irsend", data, array)
  return code, r
end

--- Begins to receive (MPI_Irecv). What comes is in the array once the request has completed.
-- @tparam array data receive buffer
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
function request.irecv(data, source, tag, comm)
  local array = recv_buffer(data, "irecv", "data")
  local code, r = posted(C.nmpi_irecv(array, optional_int(source, ANY_SOURCE, "irecv", "source"),
    optional_int(tag, ANY_TAG, "irecv", "tag"), communicator(comm, "irecv"), number), "irecv", data, array)
  return code, r
end

--- Begins to receive the message that `mprobe` or `improbe` has found (MPI_Imrecv).
-- @tparam array data receive buffer
-- @int message
-- @treturn int status
-- @treturn number the request
function request.imrecv(data, message)
  local array = recv_buffer(data, "imrecv", "data")
  local code, r = posted(C.nmpi_imrecv(array, number_of(message, "imrecv", "message"), number), "imrecv", data, array)
  return code, r
end

-- ---- reductions ----

local IN_PLACE = buffer.IN_PLACE

-- As `posted`, for what has two sides.
local function posted_both(code, where, senddata, sent, recvdata, received)
  if status(code, where) ~= SUCCESS then return code, REQUEST_NULL end
  local r = number[0]
  if received ~= nil and received.owner == nil then anchor(r, recvdata, received) end
  if sent.owner == nil and not rawequal(senddata, IN_PLACE) then anchor_sent(r, senddata, sent) end
  if debugging then C.nmpi_request_note(r, check.place()) end
  return SUCCESS, r
end

--- Begins to combine the data of all ranks on the root (MPI_Ireduce). Both arrays must be left alone until the request
-- has completed; then the result is there. All ranks begin the collectives of a communicator in the same order. A
-- reduction cannot be cancelled.
-- @tparam array senddata on the root `mpi.IN_PLACE` takes it from `recvdata`
-- @tparam array recvdata of the dtype and size of `senddata`, without overlap; off the root it may be nil
-- @tparam[opt=SUM] op op
-- @int[opt=0] root
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
function request.ireduce(senddata, recvdata, op, root, comm)
  local sent, received = send_buffer(senddata, "ireduce", "senddata"), recv_buffer(recvdata, "ireduce", "recvdata")
  local code, r = posted_both(C.nmpi_ireduce(sent, received, operator(op, "ireduce"),
    optional_int(root, 0, "ireduce", "root"), communicator(comm, "ireduce"), number), "ireduce", senddata, sent,
    recvdata, received)
  return code, r
end

--- Begins to combine the data of all ranks on every rank (MPI_Iallreduce).
-- @tparam array senddata or `mpi.IN_PLACE`, which takes it from `recvdata`
-- @tparam array recvdata of the dtype and size of `senddata`, without overlap
-- @tparam[opt=SUM] op op
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request
-- @usage local status, request = mpi.iallreduce(part, total)
-- compute(inner)
-- mpi.wait(request)
function request.iallreduce(senddata, recvdata, op, comm)
  local sent = send_buffer(senddata, "iallreduce", "senddata")
  local received = recv_buffer(recvdata, "iallreduce", "recvdata")
  local code, r = posted_both(C.nmpi_iallreduce(sent, received, operator(op, "iallreduce"),
    communicator(comm, "iallreduce"), number), "iallreduce", senddata, sent, recvdata, received)
  return code, r
end

-- ---- persistent requests ----

--- A request to send that can be started again and again (MPI_Send_init). It sends what the array holds at the start.
-- A persistent request whose operation fails is freed.
-- @tparam array data
-- @int dest rank, or `mpi.PROC_NULL`
-- @int[opt=0] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request, inactive
function request.send_init(data, dest, tag, comm)
  local array = send_buffer(data, "send_init", "data")
  local code, r = posted(C.nmpi_send_init(array, int(dest, "send_init", "dest"),
    optional_int(tag, 0, "send_init", "tag"), communicator(comm, "send_init"), number), "send_init", data, array)
  return code, r
end

--- A request to receive that can be started again and again (MPI_Recv_init).
-- @tparam array data receive buffer
-- @int[opt=ANY_SOURCE] source rank, or `mpi.PROC_NULL`
-- @int[opt=ANY_TAG] tag
-- @tparam[opt=COMM_WORLD] comm comm
-- @treturn int status
-- @treturn number the request, inactive
function request.recv_init(data, source, tag, comm)
  local array = recv_buffer(data, "recv_init", "data")
  local code, r = posted(C.nmpi_recv_init(array, optional_int(source, ANY_SOURCE, "recv_init", "source"),
    optional_int(tag, ANY_TAG, "recv_init", "tag"), communicator(comm, "recv_init"), number), "recv_init", data, array)
  return code, r
end

--- Starts a persistent request (MPI_Start).
-- @int r an inactive one
-- @treturn int status
function request.start(r)
  return (status(C.nmpi_start(number_of(r, "start")), "start"))
end

--- Frees a persistent request that is inactive (MPI_Request_free). Does nothing to a null one.
-- @int r
-- @treturn int status
function request.request_free(r)
  local code = C.nmpi_request_free(number_of(r, "request_free"))
  if anchored > 0 then release() end
  return (status(code, "request_free"))
end

-- ---- one request ----

--- Waits until a request has completed (MPI_Wait).
-- @int r
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
function request.wait(r, info)
  local code = C.nmpi_wait(number_of(r, "wait"), status_info(info, "wait"))
  if anchored > 0 then release() end
  return (status(code, "wait"))
end

--- Looks whether a request has completed (MPI_Test).
-- @int r
-- @param[opt] info an `mpi.status()` to fill if so
-- @treturn int status
-- @treturn boolean whether it has
function request.test(r, info)
  local code = C.nmpi_test(number_of(r, "test"), flag, status_info(info, "test"))
  if anchored > 0 then release() end
  return status(code, "test"), flag[0] ~= 0
end

--- Asks MPI to give up a pending operation (MPI_Cancel). It must be waited for all the same; the `cancelled` of its
-- `mpi.status()` then says what became of it.
-- @int r
-- @treturn int status
function request.cancel(r)
  return (status(C.nmpi_cancel(number_of(r, "cancel")), "cancel"))
end

-- ---- several requests ----

local requests_ct = ffi.typeof "int64_t[?]"
local MOST_REQUESTS = 2 ^ 27 -- LuaJIT's objects end at 2 GiB

--- An array of null requests, indexed from 0.
-- @int n how many
-- @return cdata `int64_t[?]`
-- @usage local reqs = mpi.requests(2)
-- status, reqs[0] = mpi.irecv(halo, left)
-- status, reqs[1] = mpi.isend(edge, right)
-- mpi.waitall(reqs)
function request.requests(n)
  if int(n, "requests", "n") < 0 or n > MOST_REQUESTS then
    check.mismatch("requests", "n", "0 to " .. MOST_REQUESTS, n)
  end
  return requests_ct(n)
end

-- The numbers of a Lua list, for the core.
local list, list_room = requests_ct(16), 16

-- Lists of up to 8 requests are copied without a loop: a trace that begins in one of these functions would be given up
-- at a loop, and in the end, with the function blacklisted, every loop that waits for requests.

local function fill_long(requests, n, where)
  for i = 1, n do list[i - 1] = number_of(requests[i], where, "requests") end
end

local function fill_short(requests, n, where)
  if n >= 1 then list[0] = number_of(requests[1], where, "requests") end
  if n >= 2 then list[1] = number_of(requests[2], where, "requests") end
  if n >= 3 then list[2] = number_of(requests[3], where, "requests") end
  if n >= 4 then list[3] = number_of(requests[4], where, "requests") end
  if n >= 5 then list[4] = number_of(requests[5], where, "requests") end
  if n >= 6 then list[5] = number_of(requests[6], where, "requests") end
  if n >= 7 then list[6] = number_of(requests[7], where, "requests") end
  if n >= 8 then list[7] = number_of(requests[8], where, "requests") end
end

local function write_back_long(requests, n)
  for i = 1, n do requests[i] = tonumber(list[i - 1]) end
end

local function write_back_short(requests, n)
  if n >= 1 then requests[1] = tonumber(list[0]) end
  if n >= 2 then requests[2] = tonumber(list[1]) end
  if n >= 3 then requests[3] = tonumber(list[2]) end
  if n >= 4 then requests[4] = tonumber(list[3]) end
  if n >= 5 then requests[5] = tonumber(list[4]) end
  if n >= 6 then requests[6] = tonumber(list[5]) end
  if n >= 7 then requests[7] = tonumber(list[6]) end
  if n >= 8 then requests[8] = tonumber(list[7]) end
end

-- What lies outside of a list would never be waited for. A hole of one is found here, and any while debugging.
local function check_list(requests, n, where)
  if type(rawget(requests, 0)) ~= "nil" then
    check.raise(where, "argument 'requests': expected a list whose first index is 1, got one with an element at 0")
  end
  local beyond = type(rawget(requests, n + 2)) ~= "nil" and n + 2 or nil
  if debugging then
    for key in pairs(requests) do
      if type(key) == "number" and key > n then beyond = key end
    end
  end
  if beyond then
    check.raise(where, ("argument 'requests': expected a list without holes, got one with nothing at %d but a request "
      .. "at %s"):format(n + 1, tostring(beyond)))
  end
end

local function fill_list(requests, where)
  local n = #requests
  check_list(requests, n, where)
  if n > list_room then
    list_room = 2 * n
    list = requests_ct(list_room)
  end
  if n > 8 then fill_long(requests, n, where) else fill_short(requests, n, where) end
  return list, n
end

-- What the numbers are in the memory of, during a call.
local held -- luacheck: ignore

local function array_numbers(requests, where)
  if type(requests) ~= "cdata" then check.mismatch(where, "requests", "a list or mpi.requests(n)", requests) end
  local array = recv_buffer(requests, where, "requests")
  check.value(C.nmpi_requests_check(array), where)
  held = array
  return array.p.i64, tonumber(array.length)
end

-- Not by ffi.istype: a const array passes that, and so does the last field of a struct, of which nothing tells the
-- length.
local requests_id = tonumber(requests_ct)

-- The numbers that the core works on, and how many they are.
local function numbers_of(requests, where)
  -- A ctype has the id that its objects have.
  if type(requests) == "cdata" and tonumber(typeof(requests)) == requests_id and not tonumber(requests) then
    return requests, vla_bytes(requests) / 8
  end
  local numbers, n
  if type(requests) == "table" then
    numbers, n = fill_list(requests, where)
  else
    numbers, n = array_numbers(requests, where)
  end
  return numbers, n
end

-- What follows a call that may have completed some.
local function completed(requests, n)
  held = nil
  if type(requests) == "table" then
    if n > 8 then write_back_long(requests, n) else write_back_short(requests, n) end
  end
  if anchored > 0 then release() end
end

-- A position in the core's array as an index of the script's container.
local function index_in(requests, position)
  if position == UNDEFINED then return nil end
  return type(requests) == "table" and position + 1 or position
end

--- Starts persistent requests (MPI_Startall).
-- @param requests a list, or an array from `mpi.requests`, of inactive ones
-- @treturn int status
function request.startall(requests)
  local numbers, n = numbers_of(requests, "startall")
  local code = C.nmpi_startall(numbers, n)
  held = nil
  return (status(code, "startall"))
end

--- Waits until all requests have completed, also where some fail (MPI_Waitall).
-- @param requests a list, or an array from `mpi.requests`
-- @treturn int status: the error code of the first one that failed
function request.waitall(requests)
  local numbers, n = numbers_of(requests, "waitall")
  local code = C.nmpi_waitall(numbers, n)
  completed(requests, n)
  return (status(code, "waitall"))
end

--- Looks whether all requests have completed (MPI_Testall). If not, none is ended.
-- @param requests a list, or an array from `mpi.requests`
-- @treturn int status: the error code of the first one that failed
-- @treturn boolean whether they have
function request.testall(requests)
  local numbers, n = numbers_of(requests, "testall")
  local code = C.nmpi_testall(numbers, n, flag)
  completed(requests, n)
  return status(code, "testall"), flag[0] ~= 0
end

--- Waits until one of the requests has completed (MPI_Waitany).
-- @param requests a list, or an array from `mpi.requests`
-- @param[opt] info an `mpi.status()` to fill
-- @treturn int status
-- @treturn[opt] int its index, from 1 in a list and from 0 in an array; nil if none was active
function request.waitany(requests, info)
  local numbers, n = numbers_of(requests, "waitany")
  local code = C.nmpi_waitany(numbers, n, index, status_info(info, "waitany"))
  completed(requests, n)
  return status(code, "waitany"), index_in(requests, index[0])
end

--- Looks whether one of the requests has completed (MPI_Testany).
-- @param requests a list, or an array from `mpi.requests`
-- @param[opt] info an `mpi.status()` to fill if so
-- @treturn int status
-- @treturn boolean whether one has, or none was active
-- @treturn[opt] int its index; nil if there is none
function request.testany(requests, info)
  local numbers, n = numbers_of(requests, "testany")
  local code = C.nmpi_testany(numbers, n, flag, index, status_info(info, "testany"))
  completed(requests, n)
  return status(code, "testany"), flag[0] ~= 0, index_in(requests, index[0])
end

local indices, indices_room = ffi.new("int[?]", 16), 16

local function reserve_indices(n)
  if n <= indices_room then return end
  indices_room = 2 * n
  indices = ffi.new("int[?]", indices_room)
end

local function indices_long(n, first)
  local found = new_table(n, 0)
  for i = 1, n do found[i] = indices[i - 1] + first end
  return found
end

-- The indices of those that have completed, in a table that need not grow; nil if none was active.
local function indices_in(requests)
  local n, first = count[0], type(requests) == "table" and 1 or 0
  if n == UNDEFINED then return nil end
  if n == 0 then return {} end
  if n == 1 then return { indices[0] + first } end
  if n == 2 then return { indices[0] + first, indices[1] + first } end
  return (indices_long(n, first))
end

--- Waits until at least one of the requests has completed (MPI_Waitsome).
-- @param requests a list, or an array from `mpi.requests`
-- @treturn int status: the error code of the first one that failed
-- @treturn[opt] table a list of their indices; nil if none was active
function request.waitsome(requests)
  local numbers, n = numbers_of(requests, "waitsome")
  reserve_indices(n)
  local code = C.nmpi_waitsome(numbers, n, count, indices)
  completed(requests, n)
  return status(code, "waitsome"), indices_in(requests)
end

--- Ends those of the requests that have completed (MPI_Testsome).
-- @param requests a list, or an array from `mpi.requests`
-- @treturn int status: the error code of the first one that failed
-- @treturn[opt] table a list of their indices, which may be empty; nil if none was active
function request.testsome(requests)
  local numbers, n = numbers_of(requests, "testsome")
  reserve_indices(n)
  local code = C.nmpi_testsome(numbers, n, count, indices)
  completed(requests, n)
  return status(code, "testsome"), indices_in(requests)
end

return request
