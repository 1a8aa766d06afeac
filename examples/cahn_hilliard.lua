-- SPDX-License-Identifier: MIT
-- Two phases that separate while a reaction mixes them: the Cahn-Hilliard equation with a chemical reaction, which the
-- numba-mpi paper solves in its Listing 7 with py-pde. A rectangle of cells is divided among the ranks, and explicit
-- Euler steps adapt to how much a step and its two halves differ. Any number of ranks gives the same results, to the
-- last bit. numerics/cahn_hilliard.lua has the equation and its loops.
--
--     mpiexec -n 4 nmpi examples/cahn_hilliard.lua --size 512x512 --t-end 100 --picture c.png --output c.h5
--     nmpi examples/cahn_hilliard.lua --help

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local mpi = require "nmpi"
local cart = require "nmpi.cart"
local solver = require "solver"
local numerics = require "numerics.cahn_hilliard"

local FIRST_DT, MIN_DT, MAX_DT = 1e-3, 1e-10, 1e10

-- ---- options ----

local function positive(x) return x > 0 end
local function from_0(x) return x >= 0 end
local function whole(x) return x % 1 == 0 end
local function whole_from_0(x) return x >= 0 and x % 1 == 0 end
local function whole_from_1(x) return x >= 1 and x % 1 == 0 end

local parser = solver.parser "Separate two phases: the Cahn-Hilliard equation with a chemical reaction."
parser:option("--size", "Cells, rows by columns."):default "128x128"
  :convert(solver.numbers("--size", "rows x columns, such as 512x512", "x", 2, whole_from_1))
parser:option("--t-end", "The time at which to end, from 0."):default "10"
  :convert(solver.number("--t-end", "a time from 0 on", from_0))
parser:option("--decomposition", "Ranks along the rows and columns; -1: as many as are left."):default "-1,-1"
  :convert(solver.numbers("--decomposition", "numbers of ranks, such as 2,-1", ",", 2, whole))
parser:option("--dt", "Make steps of this size, rather than adaptive ones.")
  :convert(solver.number("--dt", "a step above 0", positive))
parser:option("--tolerance", "How much an adaptive step and its two halves may differ."):default "1e-4"
  :convert(solver.number("--tolerance", "a number above 0", positive))
parser:option("--seed", "Which random numbers to begin with."):default "1"
  :convert(solver.number("--seed", "a whole number from 0 on", whole_from_0))
parser:option("--mode", "Begin with a wave instead, of so many half periods along the two dimensions.")
  :convert(solver.numbers("--mode", "two whole numbers, such as 1,2", ",", 2, whole_from_0))
parser:option("--amplitude", "How far the field that is begun with is from 0.5, at most."):default "0.01"
  :convert(solver.number("--amplitude", "a number from 0 on", from_0))
parser:option("--output", "Write the last field to this file, .h5 or .npy.")
parser:option("--picture", "Draw the last field in this file, .png.")
parser:flag("--overwrite", "Write files that exist already.")
local options = solver.parse(parser)

local size, t_end = options.size, options.t_end
local format = options.output and options.output:match "%.([^./]+)$"
local files

if options.output then
  if format ~= "h5" and format ~= "npy" then
    solver.fail("--output", ("expected a file .h5 or .npy, got '%s'"):format(options.output))
  end
  files = solver.try("--output", require, format == "h5" and "nmpi.hdf5" or "nmpi.npy")
  solver.check_output("--output", options.output, options.overwrite)
end
if options.picture then solver.check_picture("--picture", options.picture, options.overwrite) end

local domain = solver.try("--size, --decomposition", cart.domain, size, {
  decomposition = options.decomposition,
})
local model = solver.try("--size", numerics.model, domain)
local rank = mpi.rank(domain.comm)

-- ---- the field to begin with ----

-- Rank 0 makes all of it, so that it does not depend on the number of ranks.
local function first_field()
  local field = mpi.zeros(size)
  local rows, columns = size[1], size[2]
  local amplitude, mode = options.amplitude, options.mode
  math.randomseed(options.seed)
  for i = 0, rows - 1 do
    for j = 0, columns - 1 do
      local deviation
      if mode then
        deviation = math.cos(mode[1] * math.pi * (i + 0.5) / rows) * math.cos(mode[2] * math.pi * (j + 0.5) / columns)
      else
        deviation = 2 * math.random() - 1
      end
      field:set(i, j, numerics.C0 + amplitude * deviation)
    end
  end
  return field
end

-- The whole field, which rank 0 has; and its mean, extremes and sum of squares, added up in one order always.
local global = solver.try("--size", function() return rank == 0 and first_field() or nil end)

local function figures()
  local sum, squares, least, most = 0, 0, math.huge, -math.huge
  local data = global.data
  for k = 0, global.size - 1 do
    local c = data[k]
    sum, squares, least, most = sum + (c - numerics.C0), squares + c * c, math.min(least, c), math.max(most, c)
  end
  return { deviation = sum / global.size, squares = squares, least = least, most = most }
end

local first = rank == 0 and figures()
assert(domain:scatter_field(global, model.c.array) == mpi.SUCCESS)

-- ---- in time ----

local run = { t = 0, dt = options.dt or FIRST_DT, accepted = 0, rejected = 0, decay = 1 }
local show = solver.progress(t_end)

-- What keeps the mean from 0.5 is the reaction alone: it lessens the difference by the same factor in every cell.
local function count_step(h, factor)
  run.t, run.accepted, run.decay = run.t + h, run.accepted + 1, run.decay * factor
  show(run.t, run.accepted + run.rejected, "t = %.4g, dt = %.2g", run.t, h)
end

local function adaptive_steps()
  while run.t < t_end do
    local h = math.max(math.min(run.dt, t_end - run.t), MIN_DT)
    local e = model:try(h) / options.tolerance
    if e <= 1 then
      model:accept()
      count_step(h, (1 - 0.5 * h * numerics.K) ^ 2)
    else
      run.rejected = run.rejected + 1
    end
    if run.t < t_end then
      if e < 0.00057665 then
        run.dt = run.dt * 4
      elseif e == math.huge then -- no number
        run.dt = run.dt * 0.25
      else
        run.dt = run.dt * math.max(0.9 * e ^ -0.2, 0.1)
      end
      run.dt = math.min(run.dt, MAX_DT)
      if run.dt < MIN_DT then
        solver.fail("--tolerance", ("no step of at least %g meets it at t = %.9g, where steps and their halves differ "
          .. "by %g of it"):format(MIN_DT, run.t, e))
      end
    end
  end
end

local function equal_steps()
  local CHECK = 100 -- what is no number stays none
  while run.t < t_end do
    local h = math.min(run.dt, t_end - run.t)
    model:euler(h)
    count_step(h, 1 - h * numerics.K)
    if (run.accepted % CHECK == 0 or run.t >= t_end) and not model:is_finite() then
      solver.fail("--dt", ("the field is not finite any more at t = %.9g: try smaller steps"):format(run.t))
    end
  end
end

model:rhs()
if not model:is_finite() then
  solver.fail("--amplitude", "so far from 0.5 the rate of change is not finite")
end
mpi.barrier(domain.comm)
local began = mpi.wtime()
if options.dt then equal_steps() else adaptive_steps() end
local _, seconds = mpi.allreduce(mpi.wtime() - began, mpi.MAX, domain.comm)
show()

-- ---- results ----

local function write_hdf5()
  local file = files.create(options.output, { comm = domain.comm, overwrite = options.overwrite })
  local dataset = file:create_dataset("c", { dtype = "double", shape = size })
  dataset:write(domain:interior(model.c.array), domain.start)
  dataset:set_attribute("t", run.t)
  dataset:set_attribute("dt", run.dt)
  dataset:set_attribute("accepted", run.accepted)
  dataset:set_attribute("rejected", run.rejected)
  file:close()
end

local function write_npy()
  files.write(options.output, domain:interior(model.c.array), {
    shape = size, start = domain.start, comm = domain.comm, overwrite = options.overwrite,
  })
end

if options.output then solver.try("--output", format == "h5" and write_hdf5 or write_npy) end

assert(domain:gather_field(model.c.array, global) == mpi.SUCCESS)

-- The cells at which another rank's part begins.
local function borders()
  local cells = { {}, {} }
  for other = 0, mpi.size(domain.comm) - 1 do
    local start = domain:extents(other)
    for d = 1, 2 do
      if start[d] > 0 then cells[d][start[d]] = true end
    end
  end
  for d = 1, 2 do
    local list = {}
    for cell in pairs(cells[d]) do list[#list + 1] = cell end
    cells[d] = list
  end
  return cells
end

if options.picture then
  local title = ("t = %g"):format(run.t)
  solver.draw("--picture", options.picture, global, { title = title, label = "c", ranks = borders() })
end

if rank == 0 then
  local last, steps = figures(), run.accepted + run.rejected
  local exact = numerics.C0 + first.deviation * run.decay
  print(("%d x %d cells on %d x %d ranks: t = %.17g, %d steps accepted, %d rejected, dt = %.17g"):format(size[1],
    size[2], domain.dims[1], domain.dims[2], run.t, run.accepted, run.rejected, run.dt))
  print(("mean %.17g (exactly %.17g), from %.9g to %.9g, sum of squares %.17g"):format(numerics.C0 + last.deviation,
    exact, last.least, last.most, last.squares))
  print(("%.3f s, %.3g ns a cell and step"):format(seconds, 1e9 * seconds / (size[1] * size[2] * math.max(steps, 1))))
end
