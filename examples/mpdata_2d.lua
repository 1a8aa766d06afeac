-- SPDX-License-Identifier: MIT
-- A bell that the wind carries round a periodic plane: MPDATA, as in PyMPDATA-MPI's scenario that the numba-mpi paper
-- shows in its Figure 3. Ranks divide one dimension, and the threads of each the same one or the other; whatever they
-- divide, the results are the same to the last bit. numerics/mpdata.lua has the scheme.
--
--     mpiexec -n 2 nmpi examples/mpdata_2d.lua --threads 3 --thread-dimension inner --picture psi.png --output psi.h5
--     nmpi examples/mpdata_2d.lua --help

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local mpi = require "nmpi.checked"
local solver = require "solver"
local advection = require "numerics.advection"
local mpdata = require "numerics.mpdata"

local rank = mpi.rank()

-- ---- options ----

local parser = advection.parser("Carry a bell round a periodic plane by MPDATA.", "64x32", "2")
parser:option("--courant", "How many cells a step goes, in the two dimensions."):default "0.5,0.25"
  :convert(solver.numbers("--courant", "two numbers, such as 0.5,0.25", ",", 2, function() return true end))
parser:option("--steps", "How many steps."):default "22"
  :convert(solver.number("--steps", "a whole number from 0 on", function(x) return x >= 0 and x % 1 == 0 end))
parser:flag("--infinite-gauge", "Correct fluxes as if the field were on top of a large constant.")
parser:flag("--nonoscillatory", "Limit the corrections so that there are no new extremes.")
local options = solver.parse(parser)

local nx, ny = options.size[1], options.size[2]
local cx, cy = options.courant[1], options.courant[2]
local steps = options.steps

if math.abs(cx) + math.abs(cy) > 1 then
  solver.fail("--courant", ("expected numbers whose sizes add up to at most 1, got %g,%g"):format(cx, cy))
end
for _, name in ipairs { "infinite_gauge", "nonoscillatory" } do
  if options[name] and options.iterations == 1 then
    solver.fail("--" .. name:gsub("_", "-"), "corrects nothing with --iterations 1")
  end
end

local model = advection.model(options, {
  infinite_gauge = options.infinite_gauge or false, nonoscillatory = options.nonoscillatory or false,
})
model.cx:fill(cx)
model.cy:fill(cy)
model:set(1, function(i, j)
  return math.exp(-(i + 0.5 - nx / 2) ^ 2 / (2 * (nx / 10) ^ 2) - (j + 0.5 - ny / 2) ^ 2 / (2 * (ny / 10) ^ 2))
end)
local first = model:gather(1)

local seconds = advection.run(model, options, steps, function(n) model:advance(n) end, { "psi" },
  { courant = mpi.array(options.courant) }, "--courant")

-- ---- results ----

local last = model:gather(1)
advection.draw(model, options, last, ("step %d"):format(steps), "psi")
model:close()

if rank == 0 then
  local now, before = mpdata.figures(last), mpdata.figures(first)
  local squares = 0
  for k = 0, last.size - 1 do squares = squares + (last.data[k] - first.data[k]) ^ 2 end
  print(("%d x %d cells on %d ranks with %d threads each: %d steps"):format(nx, ny, mpi.size(), options.threads, steps))
  print(("mass %.17g, changed by %.1e of it; from %.9g to %.9g, sum of squares %.17g"):format(now.sum,
    now.sum / before.sum - 1, now.least, now.most, now.squares))
  print(("rms difference from the first field %.6e"):format(math.sqrt(squares / last.size)))
  print(("%.3f s, %.3g ns a cell and step"):format(seconds, 1e9 * seconds / (nx * ny * math.max(steps, 1))))
end
