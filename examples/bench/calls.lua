-- SPDX-License-Identifier: MIT
-- What a call costs: for every routine a loop here and, where C has its like, the same loop in C, with messages of one
-- double within one process, so that hardly anything but the calls takes time; arrays and fields are small. Routines
-- that make a valid program only together are one case. Run with `nmpi -joff` for the costs of interpreted code. One
-- rank is enough; others would do the same.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

-- luacheck: no unused args

local ffi = require "ffi"
local nmpi = require "nmpi"
local cart = require "nmpi.cart"
local checked = require "nmpi.checked"
local npy = require "nmpi.npy"
local thread = require "nmpi.thread"
local harness = require "harness"

local TAG, SIDE, LENGTH = 1, 32, 1024
local requests, both, info = nmpi.requests(2), { 0, 0 }, nmpi.status()
-- Holds what a loop makes, or the compiler would leave out the making.
local kept = {} -- luacheck: ignore 241
local ranks = ffi.new("int[1]", 0)
local group = nmpi.COMM_SELF:group()
local truncated = nmpi.ERR_TRUNCATE
local grid = cart.cart_create({ 1, 1 }, true, false, nmpi.COMM_SELF)
local dims, ones, origin, rows = { 0, 0 }, { 1, 1 }, { 0, 0 }, { false, true }

local domain = cart.domain({ SIDE, SIDE }, { periodic = true, comm = nmpi.COMM_SELF })
local field = domain:zeros()
local halo, overlapped = domain:halo(field), domain:halo(field, { nonblocking = true })
local line, other_line, short = nmpi.zeros(LENGTH), nmpi.zeros(LENGTH), nmpi.zeros(4)
local square, other_square = nmpi.zeros { SIDE, SIDE }, nmpi.zeros { SIDE, SIDE }
local transposed = square:transpose()
local list, raw, sides, inside = { 1, 2, 3, 4 }, ffi.new "double[4]", { SIDE, SIDE }, { 1, -1 }
local alone, replacing = { comm = nmpi.COMM_SELF }, { comm = nmpi.COMM_SELF, overwrite = true }
local counter = nmpi.zeros(1, "int64")
local commutative = { commute = true }

local function add(invec, inoutvec, n)
  for i = 0, n - 1 do inoutvec[i] = inoutvec[i] + invec[i] end
end

local function attached(loop)
  return function(n, mpi, SELF, x, y)
    mpi.buffer_attach(2 ^ 16)
    loop(n, mpi, SELF, x, y)
    mpi.buffer_detach()
  end
end

-- Completes two messages by a routine of that name, whose container of requests has its first entry at `first`.
local function completed_by(name, container, first)
  return function(n, mpi, SELF, x, y)
    local complete, reqs, i, j = mpi[name], container, first, first + 1
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.isend(x, 0, TAG, SELF)
      reqs[i], reqs[j] = r, s
      complete(reqs)
      mpi.waitall(reqs)
    end
  end
end

local function on(array, loop)
  return function(n, mpi, SELF) loop(n, mpi, SELF, array) end
end

-- A thread's loop runs in its own state, which the pool is made for.
local pools = {}

local function new_pool()
  local pool = thread.pool(1)
  pools[#pools + 1] = pool
  return pool
end

local function in_thread(loop)
  local pool
  return function(n)
    pool = pool or new_pool()
    pool:run(loop, n)
  end
end

local entered
local function warm_pool()
  entered = entered or new_pool()
  return entered
end

local function nothing() end

-- A case is a name, a loop and, where that is not called like the case, the name of its loop in C, or false if C has
-- nothing like it. The loops get what they work on as arguments: in a hot loop it is in locals.

local cases = {
  -- environment and errors

  { "initialized", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.initialized() end
  end },
  { "finalized", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.finalized() end
  end },
  { "query_thread", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.query_thread() end
  end },
  { "wtime", function(n, mpi, SELF, x, y)
    local sum = 0
    for _ = 1, n do sum = sum + mpi.wtime() end
    return sum
  end },
  { "wtick", function(n, mpi, SELF, x, y)
    local sum = 0
    for _ = 1, n do sum = sum + mpi.wtick() end
    return sum
  end },
  { "error_string", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.error_string(truncated) end
  end },
  { "error_class", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.error_class(truncated) end
  end },

  { "info", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.info() end
  end, false },

  -- communicators and groups

  { "rank", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.rank(SELF) end
  end },
  { "size", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.size(SELF) end
  end },
  { "comm:rank", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:rank() end
  end, "rank" },
  { "comm:size", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:size() end
  end, "size" },
  { "comm:compare", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:compare(mpi.COMM_WORLD) end
  end },
  { "comm:name", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:name() end
  end },
  { "comm:set_name", function(n, mpi, SELF, x, y)
    local made = SELF:dup()
    for _ = 1, n do made:set_name "bench" end
    made:free()
  end },
  { "comm:dup, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:dup():free() end
  end },
  { "comm:split, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:split(0):free() end
  end },
  { "comm:split_type, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:split_type("shared"):free() end
  end },
  { "comm:create, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:create(group):free() end
  end },
  { "comm:create_group, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:create_group(group):free() end
  end },
  { "comm:group, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do SELF:group():free() end
  end },
  { "group:rank", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:rank() end
  end },
  { "group:size", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:size() end
  end },
  { "group:incl, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:incl(ranks):free() end
  end },
  { "group:excl, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:excl(ranks):free() end
  end },
  { "group:union, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:union(group):free() end
  end },
  { "group:intersection, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:intersection(group):free() end
  end },
  { "group:difference, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:difference(group):free() end
  end },
  { "group:translate_ranks", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:translate_ranks(ranks, group) end
  end },
  { "group:compare", function(n, mpi, SELF, x, y)
    for _ = 1, n do group:compare(group) end
  end },

  -- point to point

  { "send to nobody", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.send(x, mpi.PROC_NULL, TAG, SELF) end
  end },
  { "checked.send to nobody", function(n, mpi, SELF, x, y)
    for _ = 1, n do checked.send(x, mpi.PROC_NULL, TAG, SELF) end
  end, "send_to_nobody" },
  { "recv from nobody", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.recv(y, mpi.PROC_NULL, TAG, SELF) end
  end },
  { "irecv, send, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      mpi.send(x, 0, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "irecv, ssend, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      mpi.ssend(x, 0, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "irecv, rsend, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      mpi.rsend(x, 0, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "irecv, bsend, wait", attached(function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      mpi.bsend(x, 0, TAG, SELF)
      mpi.wait(r)
    end
  end) },
  { "buffer_attach, buffer_detach", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      mpi.buffer_attach(1024)
      mpi.buffer_detach()
    end
  end },
  { "isend, recv, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, 0, TAG, SELF)
      mpi.recv(y, 0, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "isend, recv, count, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, 0, TAG, SELF)
      mpi.recv(y, 0, TAG, SELF, info)
      info:count()
      mpi.wait(r)
    end
  end },
  { "status:count", function(n, mpi, SELF, x, y)
    mpi.sendrecv(x, 0, y, 0, TAG, TAG, SELF, info)
    for _ = 1, n do info:count "double" end
  end },
  { "sendrecv", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.sendrecv(x, 0, y, 0, TAG, TAG, SELF) end
  end },
  { "sendrecv_replace", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.sendrecv_replace(x, 0, 0, TAG, TAG, SELF) end
  end },
  { "isend, probe, recv, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, 0, TAG, SELF)
      mpi.probe(0, TAG, SELF)
      mpi.recv(y, 0, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "iprobe", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.iprobe(0, TAG, SELF) end
  end },
  { "improbe", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.improbe(0, TAG, SELF) end
  end },
  { "isend, mprobe, mrecv, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, 0, TAG, SELF)
      local _, message = mpi.mprobe(0, TAG, SELF)
      mpi.mrecv(y, message)
      mpi.wait(r)
    end
  end },
  { "isend, improbe, imrecv, 2 wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, 0, TAG, SELF)
      local _, _, message = mpi.improbe(0, TAG, SELF)
      local _, s = mpi.imrecv(y, message)
      mpi.wait(s)
      mpi.wait(r)
    end
  end },

  -- nonblocking

  { "isend to nobody, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.isend(x, mpi.PROC_NULL, TAG, SELF)
      mpi.wait(r)
    end
  end },
  { "irecv, isend, 2 wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.isend(x, 0, TAG, SELF)
      mpi.wait(r)
      mpi.wait(s)
    end
  end },
  { "irecv, issend, 2 wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.issend(x, 0, TAG, SELF)
      mpi.wait(r)
      mpi.wait(s)
    end
  end },
  { "irecv, irsend, 2 wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.irsend(x, 0, TAG, SELF)
      mpi.wait(r)
      mpi.wait(s)
    end
  end },
  { "irecv, ibsend, 2 wait", attached(function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.ibsend(x, 0, TAG, SELF)
      mpi.wait(r)
      mpi.wait(s)
    end
  end) },
  { "requests", function(n, mpi, SELF, x, y)
    for _ = 1, n do kept[1] = mpi.requests(4) end
  end, false },
  { "status", function(n, mpi, SELF, x, y)
    for _ = 1, n do kept[1] = mpi.status() end
  end, false },
  { "wait for null", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.wait(mpi.REQUEST_NULL) end
  end },
  { "irecv, isend, 2 test, 2 wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.isend(x, 0, TAG, SELF)
      mpi.test(r)
      mpi.test(s)
      mpi.wait(r)
      mpi.wait(s)
    end
  end },
  { "test", function(n, mpi, SELF, x, y)
    local _, r = mpi.irecv(y, 0, TAG, SELF)
    for _ = 1, n do mpi.test(r) end
    mpi.send(x, 0, TAG, SELF)
    mpi.wait(r)
  end },
  { "irecv, cancel, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      mpi.cancel(r)
      mpi.wait(r, info)
    end
  end },
  { "irecv, isend, waitall", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.isend(x, 0, TAG, SELF)
      requests[0], requests[1] = r, s
      mpi.waitall(requests)
    end
  end },
  { "irecv, isend, waitall of a list", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.irecv(y, 0, TAG, SELF)
      local _, s = mpi.isend(x, 0, TAG, SELF)
      both[1], both[2] = r, s
      mpi.waitall(both)
    end
  end, "irecv_isend_waitall" },
  { "irecv, isend, testall, waitall", completed_by("testall", requests, 0) },
  { "irecv, isend, testall, waitall of a list", completed_by("testall", both, 1), "irecv_isend_testall_waitall" },
  { "irecv, isend, waitany, waitall", completed_by("waitany", requests, 0) },
  { "irecv, isend, waitany, waitall of a list", completed_by("waitany", both, 1), "irecv_isend_waitany_waitall" },
  { "irecv, isend, testany, waitall", completed_by("testany", requests, 0) },
  { "irecv, isend, testany, waitall of a list", completed_by("testany", both, 1), "irecv_isend_testany_waitall" },
  { "irecv, isend, waitsome, waitall", completed_by("waitsome", requests, 0) },
  { "irecv, isend, waitsome, waitall of a list", completed_by("waitsome", both, 1), "irecv_isend_waitsome_waitall" },
  { "irecv, isend, testsome, waitall", completed_by("testsome", requests, 0) },
  { "irecv, isend, testsome, waitall of a list", completed_by("testsome", both, 1), "irecv_isend_testsome_waitall" },

  -- persistent

  { "send_init, request_free", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.send_init(x, 0, TAG, SELF)
      mpi.request_free(r)
    end
  end },
  { "recv_init, request_free", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.recv_init(x, 0, TAG, SELF)
      mpi.request_free(r)
    end
  end },
  { "2 start, 2 wait", function(n, mpi, SELF, x, y)
    local _, r = mpi.recv_init(y, 0, TAG, SELF)
    local _, s = mpi.send_init(x, 0, TAG, SELF)
    for _ = 1, n do
      mpi.start(r)
      mpi.start(s)
      mpi.wait(r)
      mpi.wait(s)
    end
    mpi.request_free(r)
    mpi.request_free(s)
  end },
  { "startall, waitall", function(n, mpi, SELF, x, y)
    local _, r = mpi.recv_init(y, 0, TAG, SELF)
    local _, s = mpi.send_init(x, 0, TAG, SELF)
    requests[0], requests[1] = r, s
    for _ = 1, n do
      mpi.startall(requests)
      mpi.waitall(requests)
    end
    mpi.request_free(r)
    mpi.request_free(s)
  end },
  { "startall, waitall of a list", function(n, mpi, SELF, x, y)
    local _, r = mpi.recv_init(y, 0, TAG, SELF)
    local _, s = mpi.send_init(x, 0, TAG, SELF)
    both[1], both[2] = r, s
    for _ = 1, n do
      mpi.startall(both)
      mpi.waitall(both)
    end
    mpi.request_free(r)
    mpi.request_free(s)
  end, "startall_waitall" },

  -- collectives

  { "barrier", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.barrier(SELF) end
  end },
  { "bcast", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.bcast(x, 0, SELF) end
  end },
  { "scatter", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.scatter(x, y, 1, 0, SELF) end
  end },
  { "gather", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.gather(x, y, 1, 0, SELF) end
  end },
  { "allgather", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.allgather(x, y, 1, SELF) end
  end },
  { "scatter in place", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.scatter(x, mpi.IN_PLACE, 1, 0, SELF) end
  end },
  { "gather in place", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.gather(mpi.IN_PLACE, y, 1, 0, SELF) end
  end },
  { "allgather in place", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.allgather(mpi.IN_PLACE, y, 1, SELF) end
  end },
  { "reduce", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.reduce(x, y, mpi.SUM, 0, SELF) end
  end },
  { "allreduce", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.allreduce(x, y, mpi.SUM, SELF) end
  end },
  { "checked.allreduce", function(n, mpi, SELF, x, y)
    for _ = 1, n do checked.allreduce(x, y, mpi.SUM, SELF) end
  end, "allreduce" },
  { "allreduce in place", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.allreduce(mpi.IN_PLACE, y, mpi.MAX, SELF) end
  end },
  { "allreduce of a number", function(n, mpi, SELF, x, y)
    local sum = 0
    for i = 1, n do
      local _, total = mpi.allreduce(i, mpi.SUM, SELF)
      sum = sum + total
    end
    return sum
  end },
  { "reduce in place", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.reduce(mpi.IN_PLACE, y, mpi.SUM, 0, SELF) end
  end },
  { "ireduce, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.ireduce(x, y, mpi.SUM, 0, SELF)
      mpi.wait(r)
    end
  end },
  { "iallreduce, wait", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      local _, r = mpi.iallreduce(x, y, mpi.SUM, SELF)
      mpi.wait(r)
    end
  end },

  -- operators

  { "op, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.op(add, commutative):free() end
  end },

  -- grids of processes

  { "dims_create", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.dims_create(12, dims) end
  end },
  { "cart_create, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_create(ones, true, false, SELF):free() end
  end },
  { "cart_sub, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_sub(grid, rows):free() end
  end },
  { "cart_get", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_get(grid) end
  end },
  { "cart_coords", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_coords(grid, 0) end
  end },
  { "cart_rank", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_rank(grid, origin) end
  end },
  { "cart_shift", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.cart_shift(grid, 0, 1) end
  end },

  -- halos and whole fields, on one rank that is its own neighbour

  { "halo:exchange", function(n, mpi, SELF, x, y)
    for _ = 1, n do halo:exchange() end
  end },
  { "halo:start, halo:finish", function(n, mpi, SELF, x, y)
    for _ = 1, n do
      overlapped:start()
      overlapped:finish()
    end
  end },
  { "cart.domain, domain:free", function(n, mpi, SELF, x, y)
    for _ = 1, n do cart.domain(sides, alone):free() end
  end, false },
  { "domain:extents", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:extents() end
  end, false },
  { "domain:zeros, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:zeros():free() end
  end, false },
  { "domain:exchange", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:exchange(field) end
  end, "halo_exchange" },
  { "domain:halo", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:halo(field) end
  end, false },
  { "domain:interior", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:interior(field) end
  end, false },
  { "domain:scatter_field", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:scatter_field(square, field) end
  end },
  { "domain:gather_field", function(n, mpi, SELF, x, y)
    for _ = 1, n do domain:gather_field(field, square) end
  end },

  -- arrays

  { "zeros, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.zeros(LENGTH):free() end
  end },
  { "empty, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.empty(LENGTH):free() end
  end },
  { "array of a list, free", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.array(list):free() end
  end, false },
  { "wrap", function(n, mpi, SELF, x, y)
    for _ = 1, n do mpi.wrap(raw) end
  end, false },
  { "array[i]", on(line, function(n, mpi, SELF, a)
    local sum = 0
    for i = 1, n do sum = sum + a[i % LENGTH] end
    return sum
  end), "array_read" },
  { "array[i] = x", on(line, function(n, mpi, SELF, a)
    for i = 1, n do a[i % LENGTH] = i end
  end), "array_write" },
  { "array:get", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for i = 1, n do sum = sum + a:get(i % SIDE, 1) end
    return sum
  end) },
  { "array:set", on(square, function(n, mpi, SELF, a)
    for i = 1, n do a:set(i % SIDE, 1, i) end
  end) },
  { "array:fill", on(line, function(n, mpi, SELF, a)
    for i = 1, n do a:fill(i) end
  end) },
  { "array:assign", on(other_line, function(n, mpi, SELF, a)
    for _ = 1, n do a:assign(line) end
  end) },
  { "array:assign of a transposed view", on(other_square, function(n, mpi, SELF, a)
    for _ = 1, n do a:assign(transposed) end
  end) },
  { "array:copy, free", on(line, function(n, mpi, SELF, a)
    for _ = 1, n do a:copy():free() end
  end) },
  { "array:row", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:row(1) end
  end), false },
  { "array:col", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:col(1) end
  end), false },
  { "array:slice", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:slice(inside, inside) end
  end), false },
  { "array:transpose", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:transpose() end
  end), false },
  { "array:reshape", on(line, function(n, mpi, SELF, a)
    for _ = 1, n do a:reshape(sides) end
  end), false },
  { "array:flatten", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:flatten() end
  end), false },
  { "array:is_contiguous", on(square, function(n, mpi, SELF, a)
    for _ = 1, n do a:is_contiguous() end
  end), false },
  { "array:totable", on(short, function(n, mpi, SELF, a)
    for _ = 1, n do a:totable() end
  end), false },
  { "array:tostring", on(nmpi.array "text", function(n, mpi, SELF, a)
    for _ = 1, n do a:tostring() end
  end), false },
  { "tostring(array)", on(short, function(n, mpi, SELF, a)
    for _ = 1, n do kept[1] = tostring(a) end
  end), false },
  { "array.shape", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for _ = 1, n do sum = sum + a.shape[1] end
    return sum
  end), false },
  { "array.strides", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for _ = 1, n do sum = sum + a.strides[1] end
    return sum
  end), false },
  { "array.ndim", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for _ = 1, n do sum = sum + a.ndim end
    return sum
  end), false },
  { "array.itemsize", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for _ = 1, n do sum = sum + a.itemsize end
    return sum
  end), false },
  { "array.data", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for i = 1, n do sum = sum + a.data[i % LENGTH] end
    return sum
  end), "array_read" },
  { "array.size", on(square, function(n, mpi, SELF, a)
    local sum = 0
    for _ = 1, n do sum = sum + a.size end
    return sum
  end), false },
  { "array.dtype", on(square, function(n, mpi, SELF, a)
    local doubles = 0
    for _ = 1, n do
      if a.dtype == "double" then doubles = doubles + 1 end
    end
    return doubles
  end), false },

  -- threads, in a pool of one

  { "thread.parallel", function(n, mpi, SELF, x, y)
    for _ = 1, n do thread.parallel(1, nothing) end
  end },
  { "thread.pool, pool:close", function(n, mpi, SELF, x, y)
    for _ = 1, n do thread.pool(1):close() end
  end, "thread_parallel" },
  { "thread.fetch_add", on(counter, function(n, mpi, SELF, a)
    for _ = 1, n do thread.fetch_add(a, 0, 1) end
  end) },
  { "pool:run", function(n, mpi, SELF, x, y)
    for _ = 1, n do warm_pool():run(nothing) end
  end, false },
  { "thread.team", in_thread(function(_, _, n)
    local team, sum = require("nmpi.thread").team, 0
    for _ = 1, n do sum = sum + team().size end
    return sum
  end), false },
  { "team:barrier", in_thread(function(_, _, n)
    local team = require("nmpi.thread").team()
    for _ = 1, n do team:barrier() end
  end), false },
  { "team:reduce", in_thread(function(_, _, n)
    local team = require("nmpi.thread").team()
    for i = 1, n do team:reduce(i) end
  end), false },
  { "team:lock, team:unlock", in_thread(function(_, _, n)
    local team = require("nmpi.thread").team()
    for _ = 1, n do
      team:lock()
      team:unlock()
    end
  end) },
  { "team:range", in_thread(function(_, _, n)
    local team, sum = require("nmpi.thread").team(), 0
    for i = 1, n do
      local from, to = team:range(i)
      sum = sum + to - from
    end
    return sum
  end), false },
  { "a piece of team:chunks", in_thread(function(_, _, n)
    local sum = 0
    for from in require("nmpi.thread").team():chunks(n, 1) do sum = sum + from end
    return sum
  end) },
}

local self, send, recv = nmpi.COMM_SELF, nmpi.zeros(1), nmpi.zeros(1)

local function measure(name, loop, baseline)
  if not harness.wanted(name) then return end
  local ways = { function(n) loop(n, nmpi, self, send, recv) end }
  if baseline ~= false then
    local routine, c = "bench_" .. (baseline or name:gsub("%W+", "_")), harness.c
    ffi.cdef("void " .. routine .. "(int n);")
    ways[2] = function(n) c[routine](n) end
  end
  jit.flush() -- so that what was compiled for other loops, and what was given up there, does not matter here
  local seconds, ratios = harness.compare(ways, self)
  harness.row("case", name, "nmpi", seconds[1], "c", seconds[2], "ratio", ratios[2])
end

local function measure_all(list_of_cases)
  for _, case in ipairs(list_of_cases) do measure(case[1], case[2], case[3]) end
end

measure_all(cases)

for _, pool in ipairs(pools) do pool:close() end

-- ---- files ----

local function any_wanted(list_of_cases)
  for _, case in ipairs(list_of_cases) do
    if harness.wanted(case[1]) then return true end
  end
  return false
end

local path = os.tmpname()

local npy_cases = {
  { "npy.write", function(n)
    for _ = 1, n do npy.write(path, line, replacing) end
  end },
  { "npy.read", function(n)
    for _ = 1, n do npy.read(path, line, alone) end
  end },
  { "npy.info", function(n)
    for _ = 1, n do npy.info(path) end
  end, false },
}

if any_wanted(npy_cases) then
  npy.write(path, line, replacing)
  ffi.cdef "void bench_npy_path(const char *path);"
  harness.c.bench_npy_path(path)
  measure_all(npy_cases)
end

-- What an object costs depends on those that its file holds. So each of these cases has a file of its own, with a
-- dataset and an attribute, and those that make objects have a new one after every BATCH.
local BATCH = 256
local hdf5, opened

local function new_file()
  if opened then opened:close() end
  opened = hdf5.create(path, replacing)
  opened:set_attribute("a", 1)
  return opened, opened:create_dataset("x", { shape = { 1, LENGTH }, maxshape = { hdf5.UNLIMITED, LENGTH } })
end

local function on_file(act, batch)
  local file, dataset, used
  return function(n)
    for _ = 1, n do
      if not file or used == batch then
        file, dataset = new_file()
        used = 0
      end
      used = used + 1
      act(file, dataset, used)
    end
  end
end

local layout, lengths = { shape = { LENGTH } }, { [0] = { 1, LENGTH }, { 2, LENGTH } }

local hdf5_cases = {
  { "hdf5.create, file:close", function(n)
    for _ = 1, n do hdf5.create(path, replacing):close() end
  end },
  { "hdf5.open, file:close", function(n)
    for _ = 1, n do hdf5.open(path, alone):close() end
  end },
  { "file:create_group", on_file(function(file, _, i) file:create_group("group" .. i) end, BATCH) },
  { "file:create_dataset", on_file(function(file, _, i) file:create_dataset("dataset" .. i, layout) end, BATCH) },
  { "file:open_object", on_file(function(file) file:open_object "x" end) },
  { "file:set_attribute", on_file(function(file, _, i) file:set_attribute("a", i) end) },
  { "file:attribute", on_file(function(file) file:attribute "a" end) },
  { "file:flush", on_file(function(file) file:flush() end) },
  { "dataset:write", on_file(function(_, dataset) dataset:write(line) end) },
  { "dataset:read", on_file(function(_, dataset) dataset:read(line) end) },
  { "dataset:resize", on_file(function(_, dataset, i) dataset:resize(lengths[i % 2]) end) },
}
for _, case in ipairs(hdf5_cases) do case[3] = false end

if any_wanted(hdf5_cases) then
  local found, module = pcall(require, "nmpi.hdf5")
  if found then
    hdf5 = module
    hdf5.create(path, replacing):close()
    measure_all(hdf5_cases)
    if opened then opened:close() end
  else
    io.stderr:write("calls: HDF5 is left out: ", module, "\n")
  end
end

os.remove(path)
