-- SPDX-License-Identifier: MIT
-- Messages and collectives between two ranks, from 1 byte to 64 MiB, in the manner of the OSU and Intel benchmarks, on
-- the same memory as the loops in C.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

ffi.cdef [[
  void bench_pingpong(int n, char *data, int bytes);
  void bench_bidirectional(int n, char *send, char *recv, int bytes);
  void bench_allreduce(int n, int32_t *send, int32_t *recv, int count);
  void bench_bcast(int n, char *data, int bytes);
  void bench_allgather(int n, char *send, char *recv, int bytes);
]]

harness.need(2)

local c, rank = harness.c, mpi.rank()
local peer = 1 - rank
local TAG = 1

-- Each makes, for a number of bytes, the loop in Lua and the one in C.
local routines = {
  {
    "ping-pong", 1, 2, function(bytes)
      local data = mpi.zeros(bytes, "int8")
      return function(n)
        for _ = 1, n do
          if rank == 0 then
            mpi.send(data, peer, TAG)
            mpi.recv(data, peer, TAG)
          else
            mpi.recv(data, peer, TAG)
            mpi.send(data, peer, TAG)
          end
        end
      end, function(n) c.bench_pingpong(n, ffi.cast("char *", data.data), bytes) end
    end,
  },
  {
    "bidirectional", 1, 1, function(bytes)
      local send, recv = mpi.zeros(bytes, "int8"), mpi.zeros(bytes, "int8")
      local reqs = mpi.requests(2)
      return function(n)
        for _ = 1, n do
          local _
          _, reqs[0] = mpi.irecv(recv, peer, TAG)
          _, reqs[1] = mpi.isend(send, peer, TAG)
          mpi.waitall(reqs)
        end
      end, function(n)
        c.bench_bidirectional(n, ffi.cast("char *", send.data), ffi.cast("char *", recv.data), bytes)
      end
    end,
  },
  {
    "allreduce", 4, 1, function(bytes)
      local count = bytes / 4
      local send, recv = mpi.zeros(count, "int32"), mpi.zeros(count, "int32")
      return function(n)
        for _ = 1, n do mpi.allreduce(send, recv, mpi.SUM) end
      end, function(n) c.bench_allreduce(n, send.data, recv.data, count) end
    end,
  },
  {
    "bcast", 1, 1, function(bytes)
      local data = mpi.zeros(bytes, "int8")
      return function(n)
        for _ = 1, n do mpi.bcast(data, 0) end
      end, function(n) c.bench_bcast(n, ffi.cast("char *", data.data), bytes) end
    end,
  },
  {
    "allgather", 1, 1, function(bytes)
      local send, recv = mpi.zeros(bytes, "int8"), mpi.zeros(2 * bytes, "int8")
      return function(n)
        for _ = 1, n do mpi.allgather(send, recv) end
      end, function(n) c.bench_allgather(n, ffi.cast("char *", send.data), ffi.cast("char *", recv.data), bytes) end
    end,
  },
}

for _, routine in ipairs(routines) do
  local name, least, messages, make = unpack(routine)
  for exponent = 0, 26, harness.quick and 8 or 1 do
    local bytes = 2 ^ exponent
    if bytes >= least and harness.wanted(name) and harness.fits(name, 8 * bytes) then
      local seconds, ratios = harness.compare { make(bytes) }
      harness.row("case", name, "bytes", bytes, "nmpi", seconds[1] / messages, "c", seconds[2] / messages, "ratio",
        ratios[2])
    end
  end
end
