-- SPDX-License-Identifier: MIT
-- A drop of shallow water that spreads, as in PyMPDATA-MPI's scenario: MPDATA advects its height h and its momenta uh
-- and vh, with half of the pressure's kick before and half after. The exact solution is that of Jarecka, Jaruga and
-- Smolarkiewicz, "A spreading drop of shallow water", doi:10.1016/j.jcp.2015.02.003. Any number of ranks and threads
-- gives the same results, to the last bit. numerics/mpdata.lua has the scheme.
--
--     mpiexec -n 2 nmpi examples/shallow_water.lua --size 64x64 --t-end 3 --picture h.png --output h.h5
--     nmpi examples/shallow_water.lua --help

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local mpi = require "nmpi.checked"
local solver = require "solver"
local advection = require "numerics.advection"
local mpdata = require "numerics.mpdata"

local rank = mpi.rank()

local LENGTH = 32 -- of both sides of the periodic square
local HALF_AXES = { 2, 1 } -- of the drop at first, in whose middle h is 1 / (2 * 1)

-- ---- options ----

local parser = advection.parser("Let a drop of shallow water spread.", "128x128", "4")
parser:option("--t-end", "The time at which to end, from 0."):default "3"
  :convert(solver.number("--t-end", "a time from 0 on", function(x) return x >= 0 end))
parser:option("--dt", "The size of the steps."):default "0.05"
  :convert(solver.number("--dt", "a step above 0", function(x) return x > 0 end))
local options = solver.parse(parser)

local nx, ny = options.size[1], options.size[2]
local dx, dy, dt = LENGTH / nx, LENGTH / ny, options.dt
local steps = math.floor(options.t_end / dt + 0.5)

-- ---- the exact solution ----

-- An ellipse with half-axes lx and ly, which go apart: lx'' = 2 / (lx^2 ly), ly'' = 2 / (lx ly^2), with gravity 1.
local function half_axes(t)
  local STEPS = 1000
  local h = t / STEPS
  local lx, ly, vx, vy = HALF_AXES[1], HALF_AXES[2], 0, 0
  local function rate(x, y) return 2 / (x * x * y), 2 / (x * y * y) end
  for _ = 1, STEPS do -- Runge and Kutta's classic
    local ax1, ay1 = rate(lx, ly)
    local vx2, vy2 = vx + h / 2 * ax1, vy + h / 2 * ay1
    local ax2, ay2 = rate(lx + h / 2 * vx, ly + h / 2 * vy)
    local vx3, vy3 = vx + h / 2 * ax2, vy + h / 2 * ay2
    local ax3, ay3 = rate(lx + h / 2 * vx2, ly + h / 2 * vy2)
    local vx4, vy4 = vx + h * ax3, vy + h * ay3
    local ax4, ay4 = rate(lx + h * vx3, ly + h * vy3)
    lx, ly = lx + h / 6 * (vx + 2 * vx2 + 2 * vx3 + vx4), ly + h / 6 * (vy + 2 * vy2 + 2 * vy3 + vy4)
    vx, vy = vx + h / 6 * (ax1 + 2 * ax2 + 2 * ax3 + ax4), vy + h / 6 * (ay1 + 2 * ay2 + 2 * ay3 + ay4)
  end
  return lx, ly
end

local function height(i, j, lx, ly)
  local x, y = (i - (nx - 1) / 2) * dx, (j - (ny - 1) / 2) * dy
  return math.max((1 - (x / lx) ^ 2 - (y / ly) ^ 2) / (lx * ly), 0)
end

-- ---- a step, which every thread runs: it has no upvalues ----

local function advance(id, _, number, count, x_scale, y_scale, greatest)
  local self = require("numerics.mpdata").worker(number)
  local W, EPSILON, abs, max = self.width, 1e-7, math.abs, math.max

  -- Courant numbers of the faces: the mean velocity of the cells at both sides, which is 0 where there is no water.
  -- Returns the greatest, or `worst` if that is greater.
  local function find_courant(courant, h, momentum, stride, scale, i0, i1, j0, j1, worst)
    local h_next, momentum_next = h + stride, momentum + stride
    for i = i0, i1 - 1 do
      for k = i * W + j0, i * W + j1 - 1 do
        local here, following = 0, 0
        if h[k] > EPSILON then here = momentum[k] / h[k] end
        if h_next[k] > EPSILON then following = momentum_next[k] / h_next[k] end
        local C = 0.5 * (here + following) * scale
        courant[k] = C
        worst = max(worst, abs(C))
      end
    end
    return worst
  end

  -- Half of what gravity does to a momentum in a step.
  local function kick(momentum, h, stride, scale, i0, i1, j0, j1)
    local before, after = h - stride, h + stride
    for i = i0, i1 - 1 do
      for k = i * W + j0, i * W + j1 - 1 do
        momentum[k] = momentum[k] - scale * h[k] * (after[k] - before[k])
      end
    end
  end

  local e = self.halo - 1
  local x0, x1 = self:rows(1 + e, e)
  local x2, x3 = self:columns(1 + e)
  local y0, y1 = self:rows(1 + e)
  local y2, y3 = self:columns(1 + e, e)
  local i0, i1, j0, j1 = self.i0, self.i1, self.j0, self.j1
  local depth, uh, vh = self.fields[1], self.fields[2], self.fields[3]
  for _ = 1, count do
    self:fill(depth.now)
    self:fill(uh.now)
    self:fill(vh.now)
    local worst = find_courant(self.cx.data, depth.now.data, uh.now.data, W, x_scale, x0, x1, x2, x3, greatest[id])
    greatest[id] = find_courant(self.cy.data, depth.now.data, vh.now.data, 1, y_scale, y0, y1, y2, y3, worst)
    self:step(1)
    self:fill(depth.now)
    kick(uh.now.data, depth.now.data, W, x_scale / 4, i0, i1, j0, j1)
    kick(vh.now.data, depth.now.data, 1, y_scale / 4, i0, i1, j0, j1)
    self:step(2)
    self:step(3)
    kick(uh.now.data, depth.now.data, W, x_scale / 4, i0, i1, j0, j1)
    kick(vh.now.data, depth.now.data, 1, y_scale / 4, i0, i1, j0, j1)
  end
end

-- ---- in time ----

-- The momenta have both signs, so their corrections are those of the infinite gauge, without new extremes.
local corrected = options.iterations > 1
local model = advection.model(options, { fields = 3, infinite_gauge = corrected, nonoscillatory = corrected })
model:set(1, function(i, j) return height(i, j, HALF_AXES[1], HALF_AXES[2]) end)
local first = model:gather(1)

-- The greatest Courant number so far, of each thread.
local greatest = mpi.zeros(options.threads)

local seconds = advection.run(model, options, steps, function(n)
  model:run(advance, n, dt / dx, dt / dy, greatest)
  local worst = mpi.allreduce(math.max(unpack(greatest:totable())), mpi.MAX)
  if worst > 1 then
    solver.fail("--dt", ("the Courant numbers reach %g, more than 1: try smaller steps"):format(worst))
  end
end, { "h", "uh", "vh" }, { dt = dt }, "--dt")

-- ---- results ----

local last = model:gather(1)
local x_momentum, y_momentum = model:gather(2), model:gather(3)
advection.draw(model, options, last, ("t = %g"):format(steps * dt), "h")
model:close()

if rank == 0 then
  local now, before = mpdata.figures(last), mpdata.figures(first)
  local lx, ly = half_axes(steps * dt)
  local sum, squares, most = 0, 0, 0
  for i = 0, nx - 1 do
    for j = 0, ny - 1 do
      local exact = height(i, j, lx, ly)
      local difference = math.abs(last:get(i, j) - exact)
      sum, squares, most = sum + difference, squares + difference ^ 2, math.max(most, difference)
    end
  end
  print(("%d x %d cells on %d ranks with %d threads each: %d steps of %g"):format(nx, ny, mpi.size(), options.threads,
    steps, dt))
  print(("mass %.17g, changed by %.1e of it; h from %.9g to %.9g, sum of squares %.17g"):format(now.sum * dx * dy,
    now.sum / before.sum - 1, now.least, now.most, now.squares))
  print(("momenta %.1e %.1e, sums of squares %.17g %.17g"):format(mpdata.figures(x_momentum).sum * dx * dy,
    mpdata.figures(y_momentum).sum * dx * dy, mpdata.figures(x_momentum).squares, mpdata.figures(y_momentum).squares))
  print(("half-axes %.9g %.9g; error of h: rms %.6e, most %.6e, mean %.6e"):format(lx, ly,
    math.sqrt(squares / last.size), most, sum / last.size))
  print(("%.3f s, %.3g ns a cell and step"):format(seconds, 1e9 * seconds / (nx * ny * math.max(steps, 1))))
end
