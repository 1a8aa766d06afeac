-- SPDX-License-Identifier: MIT
-- Reductions of one's own, on structs: the lowest point of a landscape and where it lies; the mean and the variance of
-- all heights by Welford's method, which adds up no squares and so loses no digits. Every process has some of the rows;
-- rank 0 checks the results against a pass over all of them.
--
--     mpiexec -n 4 nmpi examples/08_custom_reduction.lua [POINTS_PER_SIDE]

local ffi = require "ffi"
local mpi = require "nmpi"

local n = assert(tonumber(arg[1] or 200), "expected the points of a side, got " .. tostring(arg[1]))
local rank, size = mpi.rank(), mpi.size()

-- For this program, and for the Lua states in which operators run.
local STRUCTS = [[
  typedef struct { double height; int32_t x, y; } lowest;
  typedef struct { double count, mean, m2; } moments;
]]
ffi.cdef(STRUCTS)

-- What comes from lower ranks is in invec, and so are the upper rows: of equal points the first one stays.
local find_lowest = mpi.op(function(invec, inoutvec, count)
  for i = 0, count - 1 do
    if invec[i].height <= inoutvec[i].height then inoutvec[i] = invec[i] end
  end
end, { dtype = "lowest", cdef = STRUCTS })

local merge_moments = mpi.op(function(invec, inoutvec, count)
  for i = 0, count - 1 do
    local a, b = invec[i], inoutvec[i]
    local total, difference = a.count + b.count, b.mean - a.mean
    if total > 0 then
      b.mean = a.mean + difference * b.count / total
      b.m2 = a.m2 + b.m2 + difference * difference * a.count * b.count / total
      b.count = total
    end
  end
end, { dtype = "moments", cdef = STRUCTS, commute = true })

local function height(x, y)
  return 1000 + math.sin(9 * x / n) * math.cos(7 * y / n) + ((x - 0.4 * n) / n) ^ 2
end

-- The lowest point and the moments of the rows from `first` to before `last`.
local function look(first, last)
  local low, m = mpi.zeros(1, "lowest"), mpi.zeros(1, "moments")
  low[0].height = math.huge
  for y = first, last - 1 do
    for x = 0, n - 1 do
      local h = height(x, y)
      if h < low[0].height then low[0] = { h, x, y } end
      local difference = h - m[0].mean
      m[0].count = m[0].count + 1
      m[0].mean = m[0].mean + difference / m[0].count
      m[0].m2 = m[0].m2 + difference * (h - m[0].mean)
    end
  end
  return low, m
end

local function ok(status)
  assert(status == mpi.SUCCESS, mpi.error_string(status))
end

local low, m = look(math.floor(n * rank / size), math.floor(n * (rank + 1) / size))
ok(mpi.allreduce(mpi.IN_PLACE, low, find_lowest))
ok(mpi.allreduce(mpi.IN_PLACE, m, merge_moments))
find_lowest:free()
merge_moments:free()

if rank == 0 then
  local l, variance = low[0], m[0].m2 / m[0].count
  print(("%d ranks, %d x %d points: lowest %.6f at (%d, %d)"):format(size, n, n, l.height, l.x, l.y))
  print(("mean %.9f, variance %.9f"):format(m[0].mean, variance))
  local all_low, all_m = look(0, n)
  assert(l.height == all_low[0].height and l.x == all_low[0].x and l.y == all_low[0].y)
  assert(m[0].count == n * n and math.abs(m[0].mean - all_m[0].mean) < 1e-9)
  assert(math.abs(variance - all_m[0].m2 / all_m[0].count) < 1e-9)
end
