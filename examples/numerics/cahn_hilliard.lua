-- SPDX-License-Identifier: MIT
-- The Cahn-Hilliard equation with a chemical reaction,
--
--     dc/dt = lap(mu) - K (c - C0),   mu = c^3 - c - lap(c),
--
-- on square cells of side 1, with the five-point Laplacian lap and no flux through the edges: a cell beyond one has the
-- value of its neighbour inside.
--
-- The loops run over memory, from the first inner cell to the last, halos at the ends of rows included, two cells at a
-- time; what that leaves in halos is overwritten before it is read. Compiled by LuaJIT they take no longer than loops
-- in C without SIMD instructions. The order of operations is the same for every cell, and so are the results, whatever
-- the decomposition.

local ffi = require "ffi"
local mpi = require "nmpi"

local abs, max, huge = math.abs, math.max, math.huge

local K, C0 = 0.01, 0.5
-- Not a constant: with one LuaJIT would make additions of multiplications by 2, and the loops have enough of those.
local TWO = ffi.new("double[1]", 2)
local LARGEST = 0x1.fffffffffffffp+1023

local numerics = { K = K, C0 = C0 }

-- ---- loops over n x m cells: pointers to arrays of rows of m + 2 ----

-- mu = c^3 - c - lap(c)
local function potential(n, m, c, mu)
  local w = m + 2
  local above, below, two = c - w, c + w, TWO[0]
  local left, mid = c[w], c[w + 1]
  for k = w + 1, n * w + m, 2 do
    local right = c[k + 1]
    local twice = two * mid
    mu[k] = mid * mid * mid - mid - ((above[k] - twice + below[k]) + (left - twice + right))
    local next = c[k + 2]
    twice = two * right
    mu[k + 1] = right * right * right - right - ((above[k + 1] - twice + below[k + 1]) + (mid - twice + next))
    left, mid = right, next
  end
end

-- rate = lap(mu) - K (c - C0)
local function rate_of_change(n, m, c, mu, rate)
  local w = m + 2
  local above, below, two = mu - w, mu + w, TWO[0]
  local left, mid = mu[w], mu[w + 1]
  for k = w + 1, n * w + m, 2 do
    local right = mu[k + 1]
    local twice = two * mid
    rate[k] = (above[k] - twice + below[k]) + (left - twice + right) - K * (c[k] - C0)
    local next = mu[k + 2]
    twice = two * right
    rate[k + 1] = (above[k + 1] - twice + below[k + 1]) + (mid - twice + next) - K * (c[k + 1] - C0)
    left, mid = right, next
  end
end

-- to = from + h * rate
local function advance(n, m, from, rate, h, to)
  local w = m + 2
  for k = w + 1, n * w + m do to[k] = from[k] + h * rate[k] end
end

-- Advances `half`, whose potential is mu, by h / 2, and returns the most by which it then differs from c + h * rate;
-- a difference that is no number counts as infinite.
local function second_half(n, m, half, mu, c, rate, h)
  local w, half_h = m + 2, 0.5 * h
  local above, below, two = mu - w, mu + w, TWO[0]
  local worst, sum = 0, 0
  for i = 1, n do
    local left, mid = mu[i * w], mu[i * w + 1]
    for k = i * w + 1, i * w + m do
      local right = mu[k + 1]
      local old, twice = half[k], two * mid
      local new = old + half_h * ((above[k] - twice + below[k]) + (left - twice + right) - K * (old - C0))
      local difference = abs(c[k] + h * rate[k] - new)
      half[k] = new
      worst, sum = max(worst, difference), sum + difference
      left, mid = mid, right
    end
  end
  -- A maximum may drop what is no number, a sum does not.
  if sum ~= sum then return huge end
  return worst < huge and worst or LARGEST
end

-- 0, or what is no number where a cell is none or infinite.
local function nothing(n, m, c)
  local w, sum = m + 2, 0
  for i = 1, n do
    for k = i * w + 1, i * w + m do sum = sum + 0 * c[k] end
  end
  return sum
end

-- ---- fields with halos ----

local function new_field(domain)
  local array, n, m = domain:zeros(), domain.shape[1], domain.shape[2]
  local row, column = domain.coords[1], domain.coords[2]
  local edges = {}
  if row == 0 then edges[#edges + 1] = { array:row(0), array:row(1) } end
  if row == domain.dims[1] - 1 then edges[#edges + 1] = { array:row(n + 1), array:row(n) } end
  if column == 0 then edges[#edges + 1] = { array:col(0), array:col(1) } end
  if column == domain.dims[2] - 1 then edges[#edges + 1] = { array:col(m + 1), array:col(m) } end
  return { array = array, data = array.data, halo = domain:halo(array), edges = edges }
end

local function fill_halo(field)
  local status = field.halo:exchange()
  if status ~= mpi.SUCCESS then error("the exchange of halos failed: " .. mpi.error_string(status), 0) end
  local edges = field.edges
  for i = 1, #edges do edges[i][1]:assign(edges[i][2]) end
end

-- ---- steps ----

local model = {}
model.__index = model

--- Makes a model on a domain (of `nmpi.cart`) in two dimensions with a halo of 1. Set its `c.array` and call
-- `model:begin` before the first step.
function numerics.model(domain)
  return setmetatable({
    n = domain.shape[1],
    m = domain.shape[2],
    comm = domain.comm,
    --- The concentration, and its rate of change there.
    c = new_field(domain),
    rate = domain:zeros(),
    -- What a step makes of it, which takes its place.
    new = new_field(domain),
    mu = new_field(domain),
  }, model)
end

function model:potential(c)
  fill_halo(c)
  potential(self.n, self.m, c.data, self.mu.data)
  fill_halo(self.mu)
end

--- The right-hand side: sets `rate` to the rate of change of c.
function model:rhs()
  self:potential(self.c)
  rate_of_change(self.n, self.m, self.c.data, self.mu.data, self.rate.data)
end

--- Tries a step of h twice: at once, and in two halves. Returns by how much the two differ, in the cell of all ranks
-- where it is most; infinite where a cell is no number.
function model:try(h)
  local n, m, c, new, rate = self.n, self.m, self.c, self.new, self.rate.data
  advance(n, m, c.data, rate, 0.5 * h, new.data)
  self:potential(new)
  local mine = second_half(n, m, new.data, self.mu.data, c.data, rate, h)
  local status, worst = mpi.allreduce(mine, mpi.MAX, self.comm)
  if status ~= mpi.SUCCESS then error("the reduction failed: " .. mpi.error_string(status), 0) end
  return worst
end

--- Takes over what `try` has made in two halves.
function model:accept()
  self.c, self.new = self.new, self.c
  self:rhs()
end

--- Makes a step of explicit Euler.
function model:euler(h)
  advance(self.n, self.m, self.c.data, self.rate.data, h, self.c.data)
  self:rhs()
end

--- Whether every cell and its rate of change is a number and finite, on all ranks.
function model:is_finite()
  local sum = nothing(self.n, self.m, self.c.data) + nothing(self.n, self.m, self.rate.data)
  local status, bad = mpi.allreduce(sum == 0 and 0 or 1, mpi.MAX, self.comm)
  if status ~= mpi.SUCCESS then error("the reduction failed: " .. mpi.error_string(status), 0) end
  return bad == 0
end

return numerics
