-- SPDX-License-Identifier: MIT
-- For mpdata_spec.lua: many cases of numerics/mpdata.lua in one job. Every one is computed by all ranks, in several
-- layouts, and by one thread of rank 0, and must come out the same. Rank 0 prints a line for each case, with a checksum
-- of its last field, and one for each layout that differs.

local source = arg[0]:match "^(.*)/spec/support/[^/]*$"
package.path = source .. "/examples/?.lua;" .. package.path

local ffi = require "ffi"
local mpi = require "nmpi.checked"
local mpdata = require "numerics.mpdata"

local rank = mpi.rank()

-- So that ranks and threads get parts of several lengths, but none gets nothing.
local NX, NY, STEPS = 23, 24, 2

local OPTIONS = {
  { iterations = 1 },
  { iterations = 2 },
  { iterations = 3 },
  { iterations = 4, nonoscillatory = true },
  { iterations = 2, infinite_gauge = true },
  { iterations = 2, infinite_gauge = true, nonoscillatory = true },
  { iterations = 3, infinite_gauge = true, nonoscillatory = true },
}

local function bell(i, j)
  return math.exp(-((i - 11) / 3) ^ 2 - ((j - 8) / 4) ^ 2)
end

-- The first and the last field, on rank 0 of comm.
local function compute(options, layout, cx, cy, comm)
  local model = mpdata.model {
    shape = { NX, NY }, mpi_dimension = layout.ranks, thread_dimension = layout.divided, threads = layout.threads,
    iterations = options.iterations, infinite_gauge = options.infinite_gauge or false,
    nonoscillatory = options.nonoscillatory or false, comm = comm,
  }
  model.cx:fill(cx)
  model.cy:fill(cy)
  model:set(1, bell)
  local first = model:gather(1)
  model:advance(STEPS)
  local last = model:gather(1)
  model:close()
  return first, last
end

local function checksum(array)
  local bytes, sum = ffi.cast("uint8_t *", array.data), 0
  for k = 0, array.size * 8 - 1 do sum = (sum * 31 + bytes[k]) % 2 ^ 40 end
  return sum
end

local function bytes_of(array)
  return ffi.string(array.data, array.size * 8)
end

local function name_of(options, cx, cy)
  return ("iterations %d%s%s, courant %g,%g"):format(options.iterations, options.infinite_gauge and ", gauge" or "",
    options.nonoscillatory and ", nonoscillatory" or "", cx, cy)
end

local function try(options, layouts, cx, cy)
  local alone = { ranks = 1, divided = 1, threads = 1 }
  local first, expected
  if rank == 0 then first, expected = compute(options, alone, cx, cy, mpi.COMM_SELF) end
  for _, layout in ipairs(layouts) do
    local _, last = compute(options, layout, cx, cy, mpi.COMM_WORLD)
    if rank == 0 and bytes_of(last) ~= bytes_of(expected) then
      print(("%s: ranks in dimension %d, %d threads in dimension %d: differs"):format(name_of(options, cx, cy),
        layout.ranks, layout.threads, layout.divided))
    end
  end
  if rank ~= 0 then return end
  local before, now = mpdata.figures(first), mpdata.figures(expected)
  print(("%s: mass changed by %.3g, from %.3g to %.3g, sum of squares %.17g, checksum %d"):format(
    name_of(options, cx, cy), now.sum / before.sum - 1, now.least, now.most - before.most, now.squares,
    checksum(expected)))
end

-- The ranks in both dimensions, with all options and all signs; then the four layouts with threads.
for _, options in ipairs(OPTIONS) do
  for sign = 0, 3 do
    local cx, cy = sign % 2 == 0 and 0.5 or -0.5, sign < 2 and 0.25 or -0.25
    local layouts = { { ranks = 1, divided = 2, threads = 1 }, { ranks = 2, divided = 1, threads = 1 } }
    if options.iterations == 3 and sign == 0 then
      for threads = 2, 3 do
        for code = 0, 3 do
          layouts[#layouts + 1] = { ranks = code % 2 + 1, divided = code < 2 and 1 or 2, threads = threads }
        end
      end
    end
    try(options, layouts, cx, cy)
  end
end

if mpi.size() == 1 then
  local model = mpdata.model {
    shape = { 3, 3 }, mpi_dimension = 1, thread_dimension = 1, threads = 1, iterations = 1, infinite_gauge = false,
    nonoscillatory = false,
  }
  model.cx:fill(0.1)
  model.cy:fill(0.5)
  model:set(1, function(i, j) return i == 2 and j == 2 and 1 or 0 end)
  model:advance(1)
  print("three by three: " .. model:gather(1):tostring():gsub("%s+", " "))
  model:close()
end
