-- SPDX-License-Identifier: MIT
-- Advection in two dimensions by MPDATA (Smolarkiewicz 1984), which mpdata_2d.lua and shallow_water.lua share.
--
-- A field holds cells; the Courant numbers are on their faces, and cx of cell (i, j) is that of the face between it and
-- (i + 1, j), cy that of the face between it and (i, j + 1). So one shape fits all arrays, and face arrays get their
-- halos as fields do.
--
-- Ranks divide one dimension; the threads of a rank divide one of its part's, the same or the other. Each thread fills
-- those ghost cells that border on its own cells, and so sends and receives beside the other threads, under tags of its
-- own.

local mpi = require "nmpi.checked"
local cart = require "nmpi.cart"
local thread = require "nmpi.thread"

local abs, max, min, ceil = math.abs, math.max, math.min, math.ceil

local EPSILON = 1e-15 -- keeps denominators from 0

local mpdata = {}

-- ---- kernels: cells or faces from (i0, j0) up to (i1, j1), W doubles to a row ----

-- Each row has a pointer of its own, made once: what is at the same index there is above, here or below.

-- What goes over a face, of the cells on its two sides, is max(C, 0) left + min(C, 0) right. `carried` is the field
-- itself, or 1 everywhere for an infinite gauge.
local function advect(psi, carried, cx, cy, new, W, i0, i1, j0, j1)
  local cx_above, above, below = cx - W, carried - W, carried + W
  for i = i0, i1 - 1 do
    local first = i * W + j0
    local here, C = carried[first], cy[first - 1]
    local from_left = max(C, 0) * carried[first - 1] + min(C, 0) * here
    for k = first, i * W + j1 - 1 do
      local right, A, B = carried[k + 1], cx_above[k], cx[k]
      C = cy[k]
      local to_right = max(C, 0) * here + min(C, 0) * right
      local from_above = max(A, 0) * above[k] + min(A, 0) * here
      local to_below = max(B, 0) * here + min(B, 0) * below[k]
      new[k] = psi[k] - ((to_below - from_above) + (to_right - from_left))
      here, from_left = right, to_right
    end
  end
end

-- The corrective Courant numbers of a pass: (|C| - C^2) a / (b + e) - C / 2 * (mean C of the other dimension)
-- * c / (d + e), on one denominator. For an infinite gauge b + e is 2 and d + e is 4.
local function correct_x(psi, cx, cy, out, W, i0, i1, j0, j1, infinite_gauge)
  local psi_below, cy_below = psi + W, cy + W
  for i = i0, i1 - 1 do
    local first = i * W + j0
    local p_here, q_here, c_before = psi[first], psi_below[first], cy[first - 1] + cy_below[first - 1]
    local before, sum = psi_below[first - 1] + psi[first - 1], q_here + p_here
    for k = first, i * W + j1 - 1 do
      local p_next, q_next, C, c_after = psi[k + 1], psi_below[k + 1], cx[k], cy[k] + cy_below[k]
      local after = q_next + p_next
      local along, across = (abs(C) - C * C) * (q_here - p_here), 0.125 * C * (c_before + c_after) * (after - before)
      if infinite_gauge then
        out[k] = 0.5 * along - 0.25 * across
      else
        local b, d = sum + EPSILON, after + before + EPSILON
        out[k] = (along * d - across * b) / (b * d)
      end
      p_here, q_here, before, sum, c_before = p_next, q_next, sum, after, c_after
    end
  end
end

local function correct_y(psi, cx, cy, out, W, i0, i1, j0, j1, infinite_gauge)
  local psi_above, psi_below, cx_above = psi - W, psi + W, cx - W
  for i = i0, i1 - 1 do
    local first = i * W + j0
    local m_here, p_here, n_here = psi_above[first], psi[first], psi_below[first]
    local c_before = cx_above[first] + cx[first]
    for k = first, i * W + j1 - 1 do
      local m_next, p_next, n_next, C = psi_above[k + 1], psi[k + 1], psi_below[k + 1], cy[k]
      local c_after = cx_above[k + 1] + cx[k + 1]
      local before, after = m_next + m_here, n_next + n_here
      local along, across = (abs(C) - C * C) * (p_next - p_here), 0.125 * C * (c_before + c_after) * (after - before)
      if infinite_gauge then
        out[k] = 0.5 * along - 0.25 * across
      else
        local b, d = p_next + p_here + EPSILON, after + before + EPSILON
        out[k] = (along * d - across * b) / (b * d)
      end
      m_here, p_here, n_here, c_before = m_next, p_next, n_next, c_after
    end
  end
end

-- The least and the greatest of a cell and its four neighbours.
local function find_extremes(psi, low, high, W, i0, i1, j0, j1)
  local psi_above, psi_below = psi - W, psi + W
  for i = i0, i1 - 1 do
    local first = i * W + j0
    local left, here = psi[first - 1], psi[first]
    for k = first, i * W + j1 - 1 do
      local above, right, below = psi_above[k], psi[k + 1], psi_below[k]
      low[k] = min(min(above, below), min(min(left, here), right))
      high[k] = max(max(above, below), max(max(left, here), right))
      left, here = here, right
    end
  end
end

-- The parts of what would come into each cell, and go out of it, that leave it between the extremes of before the step
-- and of now (Smolarkiewicz and Grabowski 1990).
local function find_limits(psi, carried, cx, cy, low, high, up, down, W, i0, i1, j0, j1)
  local psi_above, psi_below, above, below, cx_above = psi - W, psi + W, carried - W, carried + W, cx - W
  for i = i0, i1 - 1 do
    local first = i * W + j0
    local C, left, cell = cy[first - 1], psi[first - 1], psi[first]
    local from_left = max(C, 0) * carried[first - 1] + min(C, 0) * carried[first]
    for k = first, i * W + j1 - 1 do
      local A, B, here, right = cx_above[k], cx[k], carried[k], psi[k + 1]
      C = cy[k]
      local to_right = max(C, 0) * here + min(C, 0) * carried[k + 1]
      local from_above = max(A, 0) * above[k] + min(A, 0) * here
      local to_below = max(B, 0) * here + min(B, 0) * below[k]
      local comes = (max(from_above, 0) - min(to_below, 0)) + (max(from_left, 0) - min(to_right, 0))
      local goes = (max(to_below, 0) - min(from_above, 0)) + (max(to_right, 0) - min(from_left, 0))
      local highest = max(max(high[k], cell), max(max(psi_above[k], psi_below[k]), max(left, right)))
      local lowest = min(min(low[k], cell), min(min(psi_above[k], psi_below[k]), min(left, right)))
      up[k] = (highest - cell) / (comes + EPSILON)
      down[k] = (cell - lowest) / (goes + EPSILON)
      from_left, left, cell = to_right, cell, right
    end
  end
end

-- Cells on the two sides of a face are `stride` doubles apart.
local function limit(courant, up, down, stride, W, i0, i1, j0, j1)
  local up_next, down_next = up + stride, down + stride
  for i = i0, i1 - 1 do
    for k = i * W + j0, i * W + j1 - 1 do
      local C = courant[k]
      courant[k] = max(C, 0) * min(min(1, down[k]), up_next[k]) + min(C, 0) * min(min(1, up[k]), down_next[k])
    end
  end
end

-- ---- a thread's part of the work ----

local worker = {}
local worker_meta = { __index = worker }

--- The cells of part k of n cells: all parts have the same length, but for the last, which may be shorter.
function mpdata.part(n, parts, k)
  local length = ceil(n / parts)
  return min(k * length, n), min((k + 1) * length, n)
end

-- What this thread does to fill the halo before the first and after the last cell of a dimension: copies from one
-- edge of this rank to the other's ghosts, or messages. The messages to the rank before have tag `tag`, those to the
-- rank after the next one. `view(from, to)` is a view of the layers, counted from this rank's first cell.
local function transfers(self, dimension, view, has_first, has_last, tag)
  local n, h = self.shape[dimension], self.halo
  local first, last, before, after = view(0, h), view(n - h, n), view(-h, 0), view(n, n + h)
  local list = {}
  if self.ranks == 1 or dimension ~= self.mpi_dimension then
    if has_first then list[1] = { from = last, into = before } end
    if has_last then list[#list + 1] = { from = first, into = after } end
    return list
  end
  local previous, following = (self.rank - 1) % self.ranks, (self.rank + 1) % self.ranks
  if has_first and has_last then
    list[1] = { from = first, dest = previous, tag = tag, into = after, source = following, receive_tag = tag }
    list[2] = { from = last, dest = following, tag = tag + 1, into = before, source = previous, receive_tag = tag + 1 }
  elseif has_first then
    list[1] = { from = first, dest = previous, tag = tag, into = before, source = previous, receive_tag = tag + 1 }
  elseif has_last then
    list[1] = { from = last, dest = following, tag = tag + 1, into = after, source = following, receive_tag = tag }
  end
  return list
end

-- An array as this thread sees it: the address of the rank's first cell, and the transfers that fill its halo. The
-- inner dimension comes second and takes the outer one's ghost cells along, so that the corners come right.
local function attach_array(self, array)
  local tag = self.thread_dimension ~= self.mpi_dimension and 2 * self.id or 0
  local h = self.halo
  local i0, i1 = self:rows(h)
  return {
    array = array,
    data = array.data + h * self.width + h,
    outer = transfers(self, 1, function(from, to)
      return array:slice({ from + h, to + h }, { self.j0 + h, self.j1 + h })
    end, self.top, self.bottom, tag),
    inner = transfers(self, 2, function(from, to)
      return array:slice({ i0 + h, i1 + h }, { from + h, to + h })
    end, self.left, self.right, tag),
  }
end

-- The rows of this thread and, where they are the rank's first or last, so many more.
function worker.rows(self, before, after)
  return self.top and -before or self.i0, self.bottom and self.shape[1] + (after or before) or self.i1
end

function worker.columns(self, before, after)
  return self.left and -before or self.j0, self.right and self.shape[2] + (after or before) or self.j1
end

--- Waits for the other threads of this rank.
function worker.barrier(self)
  if self.team then self.team:barrier() end
end

local function transfer(x, comm)
  if not x then return end
  if x.dest then
    mpi.sendrecv(x.from, x.dest, x.into, x.source, x.tag, x.receive_tag, comm)
  else
    x.into:assign(x.from)
  end
end

--- Fills the ghost cells of an array, after all threads have written their cells.
function worker.fill(self, array)
  self:barrier()
  transfer(array.outer[1], self.comm)
  transfer(array.outer[2], self.comm)
  if self.thread_dimension == 2 then self:barrier() end
  transfer(array.inner[1], self.comm)
  transfer(array.inner[2], self.comm)
  self:barrier()
end

local function correct(self, psi, from, into)
  local e, W = self.nonoscillatory and 1 or 0, self.width
  local gauge = self.infinite_gauge
  local i0, i1 = self:rows(1 + e, e)
  local j0, j1 = self:columns(e)
  correct_x(psi.data, from.x.data, from.y.data, into.x.data, W, i0, i1, j0, j1, gauge)
  i0, i1 = self:rows(e)
  j0, j1 = self:columns(1 + e, e)
  correct_y(psi.data, from.x.data, from.y.data, into.y.data, W, i0, i1, j0, j1, gauge)
  self:barrier()
end

local function limit_fluxes(self, psi, carried, courant)
  local W, up, down = self.width, self.up.data, self.down.data
  local i0, i1 = self:rows(1)
  local j0, j1 = self:columns(1)
  find_limits(psi.data, carried.data, courant.x.data, courant.y.data, self.low.data, self.high.data, up, down, W,
    i0, i1, j0, j1)
  self:barrier()
  i0, i1 = self:rows(1, 0)
  limit(courant.x.data, up, down, W, W, i0, i1, self.j0, self.j1)
  j0, j1 = self:columns(1, 0)
  limit(courant.y.data, up, down, 1, W, self.i0, self.i1, j0, j1)
  self:barrier()
end

--- One step of field `number` by the Courant numbers, whose halos are right. Every thread comes here.
function worker.step(self, number)
  local field, courant = self.fields[number], self.courant
  for iteration = 1, self.iterations do
    local psi, carried = field.now, field.now
    self:fill(psi)
    if iteration == 1 and self.nonoscillatory then
      local i0, i1 = self:rows(1)
      local j0, j1 = self:columns(1)
      find_extremes(psi.data, self.low.data, self.high.data, self.width, i0, i1, j0, j1)
    elseif iteration > 1 then
      if iteration > 2 then
        self:fill(courant.x)
        self:fill(courant.y)
      end
      local corrected = self.corrected[iteration % 2 + 1]
      correct(self, psi, courant, corrected)
      courant = corrected
      if self.infinite_gauge then carried = self.ones end
      if self.nonoscillatory then limit_fluxes(self, psi, carried, courant) end
    end
    advect(psi.data, carried.data, courant.x.data, courant.y.data, field.next.data, self.width, self.i0, self.i1,
      self.j0, self.j1)
    field.now, field.next = field.next, psi
  end
end

-- By the number of the model: the state of each thread has a table of its own.
local workers = {}

--- The calling thread's worker for the model of that number.
function mpdata.worker(number)
  local self = workers[number]
  self.team = thread.team() -- one for each run of the pool
  return self
end

-- The fields of all workers: i0, i1, j0 and j1 are the first cells of the thread and those past its last, counted
-- from the rank's first cell, and top, bottom, left and right tell where it borders on the rank's halo.
function mpdata.attach(number, id, settings)
  local self = setmetatable({ id = id }, worker_meta)
  for key, value in pairs(settings) do self[key] = value end
  local n, m = self.shape[1], self.shape[2]
  self.width = m + 2 * self.halo
  self.i0, self.i1, self.j0, self.j1 = 0, n, 0, m
  if self.thread_dimension == 1 then
    self.i0, self.i1 = mpdata.part(n, self.threads, id)
  else
    self.j0, self.j1 = mpdata.part(m, self.threads, id)
  end
  self.top, self.bottom, self.left, self.right = self.i0 == 0, self.i1 == n, self.j0 == 0, self.j1 == m
  for name, array in pairs(settings.arrays) do self[name] = attach_array(self, array) end
  self.courant = { x = self.cx, y = self.cy }
  self.corrected = { { x = self.cx1, y = self.cy1 }, { x = self.cx2, y = self.cy2 } }
  self.fields = {}
  for k, pair in ipairs(settings.pairs) do
    self.fields[k] = { now = attach_array(self, pair[1]), next = attach_array(self, pair[2]) }
  end
  workers[number] = self
end

-- ---- a rank's part of the work ----

local model = {}
local model_meta = { __index = model }

local function halo_of(settings) return settings.nonoscillatory and 2 or 1 end

local DIMENSIONS = { "outer", "inner" }

--- What keeps these settings from being a model on so many ranks: nil, or an option's name and a message.
function mpdata.problem(settings, ranks)
  local d, halo = settings.mpi_dimension, halo_of(settings)
  for k = 1, 2 do
    local n, parts = settings.shape[k], k == d and ranks or 1
    for part = 0, parts - 1 do
      local from, to = mpdata.part(n, parts, part)
      if to - from < halo then
        return "--size", ("%d cells of the %s dimension leave rank %d of %d with %d, but the scheme needs %d"):format(n,
          DIMENSIONS[k], part, parts, to - from, halo)
      end
      if k == settings.thread_dimension then
        for id = 0, settings.threads - 1 do
          local first, past = mpdata.part(to - from, settings.threads, id)
          if first == past then
            return "--threads", ("%d cells of the %s dimension leave thread %d of %d with none"):format(to - from,
              DIMENSIONS[k], id, settings.threads)
          end
        end
      end
    end
  end
end

local function attach(id, _, number, settings) require("numerics.mpdata").attach(number, id, settings) end

local models = 0

--- Makes a model, on every rank of settings.comm (COMM_WORLD). Settings: shape, { nx, ny }; mpi_dimension and
-- thread_dimension, 1 for the outer or 2 for the inner; threads; iterations; infinite_gauge; nonoscillatory; fields,
-- their number (1). Without the infinite gauge, fields must not be negative.
function mpdata.model(settings)
  local comm = settings.comm or mpi.COMM_WORLD
  local _, problem = mpdata.problem(settings, comm:size())
  if problem then error(problem, 2) end
  local d, halo, iterations, nonoscillatory = settings.mpi_dimension, halo_of(settings), settings.iterations,
    settings.nonoscillatory
  local domain = cart.domain(settings.shape, {
    decomposition = { d == 1 and -1 or 1, d == 2 and -1 or 1 }, periodic = true, halo = halo, split = "ceil",
    comm = comm,
  })
  local arrays = { cx = domain:zeros(), cy = domain:zeros() }
  for k = 1, min(iterations - 1, 2) do
    arrays["cx" .. k], arrays["cy" .. k] = domain:zeros(), domain:zeros()
  end
  if nonoscillatory then
    for _, name in ipairs { "low", "high", "up", "down" } do arrays[name] = domain:zeros() end
  end
  if settings.infinite_gauge then
    arrays.ones = domain:zeros()
    arrays.ones:fill(1)
  end
  local pairs_of_arrays = {}
  for k = 1, settings.fields or 1 do pairs_of_arrays[k] = { domain:zeros(), domain:zeros() } end

  models = models + 1
  local self = setmetatable({ domain = domain, number = models, settings = settings, cx = arrays.cx, cy = arrays.cy },
    model_meta)
  if settings.threads > 1 then self.pool = thread.pool { settings.threads, main = true } end
  self:run(attach, {
    comm = domain.comm, rank = domain.comm:rank(), ranks = domain.comm:size(), shape = domain.shape,
    halo = halo, mpi_dimension = d, thread_dimension = settings.thread_dimension,
    threads = settings.threads, iterations = iterations, infinite_gauge = settings.infinite_gauge,
    nonoscillatory = nonoscillatory, arrays = arrays, pairs = pairs_of_arrays,
  })
  return self
end

--- Runs f(id, threads, number, ...) in every thread, where `mpdata.worker(number)` gives the thread's worker. f has no
-- upvalues.
function model.run(self, f, ...)
  if self.pool then
    self.pool:run(f, self.number, ...)
  else
    f(0, 1, self.number, ...)
  end
end

local function advance(_, _, number, steps)
  local self = require("numerics.mpdata").worker(number)
  for _ = 1, steps do self:step(1) end
end

--- So many steps of field 1.
function model.advance(self, steps)
  self:run(advance, steps)
end

--- The cells of a field that are this rank's: a view, until the next step.
function model.field(self, number)
  return self.domain:interior(workers[self.number].fields[number].now.array)
end

--- Sets each cell of a field to f(i, j), by its indices in the whole.
function model.set(self, number, f)
  local field, start = self:field(number), self.domain.start
  for i = 0, field.shape[0] - 1 do
    for j = 0, field.shape[1] - 1 do field:set(i, j, f(start[1] + i, start[2] + j)) end
  end
end

--- Whether all cells of the fields are finite numbers, on all ranks.
function model.is_finite(self)
  local finite = 1
  for number = 1, #workers[self.number].fields do
    local field = self:field(number)
    for i = 0, field.shape[0] - 1 do
      local row, sum = field:row(i), 0
      for j = 0, row.size - 1 do sum = sum + row[j] * 0 end
      if sum ~= 0 then finite = 0 end
    end
  end
  return mpi.allreduce(finite, mpi.MIN, self.domain.comm) == 1
end

--- All cells of a field: an array on rank 0, nil on the others.
function model.gather(self, number)
  local domain = self.domain
  local global = domain.comm:rank() == 0 and mpi.zeros(domain.global) or nil
  assert(domain:gather_field(workers[self.number].fields[number].now.array, global) == mpi.SUCCESS)
  return global
end

--- The sum of an array, as exact as if added up in twice the digits (Neumaier), its sum of squares and its extremes.
function mpdata.figures(array)
  local sum, rest, squares, least, most = 0, 0, 0, math.huge, -math.huge
  local data = array.data
  for k = 0, array.size - 1 do
    local x = data[k]
    local longer = sum + x
    rest = rest + (abs(sum) >= abs(x) and (sum - longer) + x or (x - longer) + sum)
    sum, squares, least, most = longer, squares + x * x, min(least, x), max(most, x)
  end
  return { sum = sum + rest, squares = squares, least = least, most = most }
end

--- The cells at which the part of another rank begins, for each dimension, and at which that of another thread does.
function model.borders(self)
  local settings, global, ranks, threads = self.settings, self.domain.global, { {}, {} }, { {}, {} }
  local d, t = settings.mpi_dimension, settings.thread_dimension
  local n_ranks = self.domain.comm:size()
  for rank = 0, n_ranks - 1 do
    local first, past = mpdata.part(global[d], n_ranks, rank)
    if rank > 0 then table.insert(ranks[d], first) end
    if t ~= d then first, past = 0, rank == 0 and global[t] or 0 end
    for id = 1, past > first and settings.threads - 1 or 0 do
      table.insert(threads[t], first + mpdata.part(past - first, settings.threads, id))
    end
  end
  return ranks, threads
end

function model.close(self)
  if self.pool then self.pool:close() end
  workers[self.number] = nil
  self.domain:free()
end

return mpdata
