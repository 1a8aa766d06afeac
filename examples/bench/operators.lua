-- SPDX-License-Identifier: MIT
-- An allreduce between two ranks with operators of one's own: written in Lua, and in C, against the same in C.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

local MOMENTS = "typedef struct { double n, mean, m2; } bench_moments;"

ffi.cdef(MOMENTS)
ffi.cdef [[
  typedef void bench_function(void *in, void *inout, int *n, void *type);
  bench_function bench_sum, bench_magnitude, bench_mean;
  void bench_op(bench_function *function, int doubles);
  void bench_op_free(void);
  void bench_allreduce(int times, const void *send, void *recv, int n);
]]

harness.need(2)

local C = harness.c

local function element(k)
  return math.sin(k + 100 * mpi.rank())
end

local cases = {
  {
    "sum", "double", C.bench_sum, function(invec, inoutvec, n)
      for i = 0, n - 1 do inoutvec[i] = invec[i] + inoutvec[i] end
    end, element,
  },
  { "max(abs(x), abs(y))", "double", C.bench_magnitude, "max(abs(x), abs(y))", element },
  {
    "mean and variance", "bench_moments", C.bench_mean, function(invec, inoutvec, n)
      for i = 0, n - 1 do
        local a, b = invec[i], inoutvec[i]
        local count, difference = a.n + b.n, b.mean - a.mean
        b.mean = a.mean + difference * b.n / count
        b.m2 = a.m2 + b.m2 + difference * difference * a.n * b.n / count
        b.n = count
      end
    end, function(k) return { 1, element(k), 0 } end,
  },
}

local function loop(send, recv, op)
  return function(times)
    for _ = 1, times do mpi.allreduce(send, recv, op) end
  end
end

for _, case in ipairs(cases) do
  local name, dtype, c_function, lua_function, value = unpack(case)
  local options = { dtype = dtype, cdef = MOMENTS, commute = true }
  local in_lua, in_c = mpi.op(lua_function, options), mpi.op(c_function, options)
  C.bench_op(c_function, ffi.sizeof(dtype) / 8)
  for _, n in ipairs(harness.wanted(name) and { 1, 100, 10000, 100000 } or {}) do
    local send, recv = mpi.zeros(n, dtype), mpi.zeros(n, dtype)
    for k = 0, n - 1 do send[k] = value(k) end
    local seconds, ratios = harness.compare {
      loop(send, recv, in_lua),
      loop(send, recv, in_c),
      function(times) C.bench_allreduce(times, send.data, recv.data, n) end,
    }
    harness.row("case", name, "elements", n, "nmpi", seconds[1], "c_operator", seconds[2], "c", seconds[3], "ratio",
      ratios[3])
  end
  in_lua:free()
  in_c:free()
  C.bench_op_free()
end
