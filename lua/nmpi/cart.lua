-- SPDX-License-Identifier: MIT
--- Cartesian grids of processes, and grids of cells divided among them.
--
-- MPI's routines make and ask communicators whose processes form a grid. They return what they make or find, without a
-- status; a failure of MPI is raised as an error object, with the status in its field `code`. On top of them
-- `cart.domain` divides a grid of cells in one to three dimensions: each rank has a block of it, with layers of ghost
-- cells around (the halo), which are filled with what the neighbours have there.
--
-- Dimensions are counted from 0, as ranks and coordinates are; lists of one entry a dimension begin at 1, as Lua's do.
--
-- This is a module of its own.
-- @module nmpi.cart
-- @usage local cart = require "nmpi.cart"
-- local domain = cart.domain({ 512, 512 }, { periodic = true })
-- local field = domain:zeros()
-- local halo = domain:halo(field)
-- for step = 1, steps do
--   halo:exchange()
--   update(field)
-- end

local ffi = require "ffi"
local bit = require "bit"
local lib = require "nmpi.lib"
local array = require "nmpi.array"
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local file = require "nmpi.file"
local lists = require "nmpi.lists"
local C = lib.core
require "nmpi"

local getmetatable, setmetatable, ipairs = getmetatable, setmetatable, ipairs
local tonumber, tostring, type = tonumber, tostring, type
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local concat = table.concat
local band, istype = bit.band, ffi.istype
local int, integer, optional_int = check.int, check.integer, check.optional_int
local mismatch, raise, status, success = check.mismatch, check.raise, check.status, check.success
local communicator, required, new_comm = check.comm, check.required_comm, check.new_comm

local SUCCESS, READONLY, NONE = C.NMPI_SUCCESS, C.NMPI_READONLY, C.NMPI_NONE
local PROC_NULL = C.nmpi_proc_null()
local MAX_CART, MAX_DOMAIN = C.NMPI_MAX_CART, 3
-- In a domain's communicator halos use the tags below 3 ^ 3.
local FIELD_TAG = 27

local array_ct = ffi.typeof "nmpi_array"
local transfers_ct, requests_ct = ffi.typeof "nmpi_transfer[?]", ffi.typeof "int64_t[?]"

-- What the core is given and answers with.
local made, found, other = ffi.new "nmpi_comm *[1]", ffi.new "int[1]", ffi.new "int[1]"
local entries, flags, coords = ffi.new("int[?]", MAX_CART), ffi.new("int[?]", MAX_CART), ffi.new("int[?]", MAX_CART)

local cart = {}

-- ---- lists ----

local function flag(value, where, argument)
  if type(value) ~= "boolean" then mismatch(where, argument, "booleans", value) end
  return value and 1 or 0
end

-- Fills an array for the core with a list of whole numbers; returns how many there are.
local function fill_numbers(ints, list, where, argument)
  local n = lists.length(list, where, argument, "a list of whole numbers")
  if n > MAX_CART then
    raise(where, ("argument '%s': expected at most %d entries, got %d"):format(argument, MAX_CART, n))
  end
  lists.fill(ints, list, n, int, where, argument)
  return n
end

-- The same of booleans, as many as there are dimensions; one stands for all.
local function fill_booleans(ints, list, ndims, where, argument)
  if type(list) == "boolean" then
    for d = 1, ndims do ints[d - 1] = list and 1 or 0 end
    return
  end
  local n = lists.length(list, where, argument, "a boolean or a list of booleans")
  if n ~= ndims then
    raise(where, ("argument '%s': expected an entry for each of %d dimensions, got %d"):format(argument, ndims, n))
  end
  lists.fill(ints, list, n, flag, where, argument)
end

local function list_of(ints, n)
  return (lists.of(ints, n, tonumber))
end

local function is_set(value)
  return value ~= 0
end

local function booleans_of(ints, n)
  return (lists.of(ints, n, is_set))
end

-- ---- MPI's routines ----

local function this(value, where)
  return (required(value, where, "comm"))
end

local function ndims_of(comm, where)
  return (check.value(C.nmpi_cart_ndims(comm), where))
end

--- Chooses the extents of a grid of processes, as equal as can be (MPI\_Dims\_create).
-- @int nnodes the number of processes
-- @tparam {int,...} dims for each dimension its extent, or 0 for one that is to be chosen
-- @treturn {int,...} a new list
-- @usage cart.dims_create(12, { 0, 2, 0 })   -- { 3, 2, 2 }
function cart.dims_create(nnodes, dims)
  local where = "cart.dims_create"
  local n = fill_numbers(entries, dims, where, "dims")
  success(C.nmpi_dims_create(int(nnodes, where, "nnodes"), n, entries), where)
  return (list_of(entries, n))
end

--- Makes a communicator of processes in a grid, row-major: the last coordinate varies fastest (MPI\_Cart\_create).
-- Collective. Every rank of the grid frees it, with `comm:free()`.
-- @tparam {int,...} dims the extent of the grid in each dimension
-- @tparam[opt=false] boolean|{boolean,...} periods whether each dimension goes round
-- @tparam[opt=false] boolean reorder whether MPI may rank the processes anew
-- @tparam[opt=COMM_WORLD] comm comm at least as many processes
-- @return communicator, or `mpi.COMM_NULL` on ranks for which the grid has no place
function cart.cart_create(dims, periods, reorder, comm)
  local where = "cart.cart_create"
  local n = fill_numbers(entries, dims, where, "dims")
  if type(periods) == "nil" then periods = false end
  fill_booleans(flags, periods, n, where, "periods")
  reorder = file.boolean(reorder, where, "reorder") and 1 or 0
  return (new_comm(C.nmpi_cart_create(communicator(comm, where), n, entries, flags, reorder, made), made, where))
end

--- Divides a grid into grids of fewer dimensions, such as its rows (MPI\_Cart\_sub). Collective. Every rank frees what
-- it gets.
-- @tparam comm comm of a grid
-- @tparam {boolean,...} remain the dimensions that the parts keep
-- @return communicator of the part that this rank is in
function cart.cart_sub(comm, remain)
  local where = "cart.cart_sub"
  local n = ndims_of(this(comm, where), where)
  fill_booleans(entries, remain, n, where, "remain")
  return (new_comm(C.nmpi_cart_sub(comm, n, entries, made), made, where))
end

--- Tells how a grid was made, and where in it this rank is (MPI\_Cart\_get).
-- @tparam comm comm of a grid
-- @treturn {int,...} dims
-- @treturn {boolean,...} periods
-- @treturn {int,...} coords
function cart.cart_get(comm)
  local where = "cart.cart_get"
  local n = ndims_of(this(comm, where), where)
  success(C.nmpi_cart_get(comm, entries, flags, coords), where)
  return list_of(entries, n), booleans_of(flags, n), (list_of(coords, n))
end

--- The coordinates of a rank (MPI\_Cart\_coords).
-- @tparam comm comm of a grid
-- @int[opt] rank by default this process's own
-- @treturn {int,...} one for each dimension, from 0
function cart.cart_coords(comm, rank)
  local where = "cart.cart_coords"
  local n = ndims_of(this(comm, where), where)
  rank = optional_int(rank, C.nmpi_comm_rank(comm), where, "rank")
  success(C.nmpi_cart_coords(comm, rank, coords), where)
  return (list_of(coords, n))
end

--- The rank at some coordinates (MPI\_Cart\_rank).
-- @tparam comm comm of a grid
-- @tparam {int,...} at coordinates; in periodic dimensions any whole numbers
-- @treturn int rank
function cart.cart_rank(comm, at)
  local where = "cart.cart_rank"
  local n = fill_numbers(coords, at, where, "coords")
  success(C.nmpi_cart_rank(this(comm, where), n, coords, found), where)
  return found[0]
end

--- The ranks to receive from and to send to where everybody's data moves along a dimension (MPI\_Cart\_shift).
-- @tparam comm comm of a grid
-- @int direction the dimension, from 0
-- @int disp how far: 1 is up to the next, negative ones go down
-- @treturn int source rank, or `mpi.PROC_NULL` beyond an edge
-- @treturn int dest rank, or `mpi.PROC_NULL`
-- @usage local source, dest = cart.cart_shift(grid, 0, 1)
-- mpi.sendrecv(last_row, dest, row_above, source, 0, 0, grid)
function cart.cart_shift(comm, direction, disp)
  local where = "cart.cart_shift"
  success(C.nmpi_cart_shift(this(comm, where), int(direction, where, "direction"), int(disp, where, "disp"), found,
    other), where)
  return found[0], other[0]
end

-- ---- domains ----

local domain_methods, halo_methods = {}, {}
local domain_meta, halo_meta = { __index = domain_methods }, { __index = halo_methods }

local DOMAIN_OPTIONS = { decomposition = true, periodic = true, halo = true, split = true, comm = true, reorder = true }
local HALO_OPTIONS = { corners = true, nonblocking = true }

-- For messages: "4 x 3".
local function times(list)
  return (concat(list, " x "))
end

-- A list of whole numbers from `least` on, one for each of n dimensions; one number stands for all.
local function whole_numbers(value, n, least, where, argument)
  local list = {}
  if type(value) == "number" then
    for d = 1, n do list[d] = value end
  elseif lists.length(value, where, argument, "a whole number or a list of them") ~= n then
    raise(where, ("argument '%s': expected an entry for each of %d dimensions, got %d"):format(argument, n, #value))
  else
    for d = 1, n do list[d] = value[d] end
  end
  for d = 1, n do
    if integer(list[d], where, argument) < least then
      mismatch(where, argument, ("whole numbers of at least %d"):format(least), list[d])
    end
  end
  return list
end

-- The first cell of a part, and how many there are: of n cells in p parts, of which c lie before this one.
local splits = {
  even = function(n, p, c)
    local from = floor(n * c / p)
    return from, floor(n * (c + 1) / p) - from
  end,
  ceil = function(n, p, c)
    local most = ceil(n / p)
    return most * c, max(min(most, n - most * c), 0)
  end,
}

-- The grid of ranks: a decomposition in which -1 stands for what is to be chosen.
local function grid_of(decomposition, n, size, where)
  local fixed, free, given = 1, 0, {}
  for d = 1, n do
    local p = decomposition and decomposition[d] or -1
    if p == -1 then
      free, given[d], entries[d - 1] = free + 1, -1, 0
    else
      fixed, given[d] = fixed * p, p
      entries[d - 1] = min(p, size + 1) -- it is refused below if it is more
    end
  end
  if size % fixed ~= 0 or (free == 0 and fixed ~= size) then
    raise(where, ("argument 'decomposition': expected a product that %s %d, the number of ranks, got %s"):format(
      free > 0 and "divides" or "is", size, times(given)))
  end
  success(C.nmpi_dims_create(size, n, entries), where)
  return (list_of(entries, n))
end

local function decomposition_of(value, n, where)
  if type(value) == "nil" then return nil end
  local list = whole_numbers(value, n, -1, where, "decomposition")
  for d = 1, n do
    if list[d] == 0 then mismatch(where, "decomposition", "whole numbers of at least 1, or -1", 0) end
  end
  return list
end

-- Every rank has at least one cell, and no neighbour's halo reaches beyond it.
local function check_parts(plan, where)
  for d = 1, #plan.global do
    local n, p, halo = plan.global[d], plan.dims[d], plan.width[d]
    local least = n
    for c = 0, p - 1 do
      local _, cells = plan.split(n, p, c)
      least = min(least, cells)
    end
    if least < 1 then
      raise(where, ("a grid of %s cells cannot be divided among %s ranks%s: in dimension %d, of %d cells, some would "
        .. "have none; see 'decomposition'"):format(times(plan.global), times(plan.dims),
        plan.split == splits.ceil and " by the split 'ceil'" or "", d - 1, n))
    end
    if halo > least then
      raise(where, ("argument 'halo': %d is wider than a rank's part in dimension %d, where %d cells among %d ranks "
        .. "leave %d for some"):format(halo, d - 1, n, p, least))
    end
  end
end

-- What a domain is to be; all that concerns this rank alone comes later.
local function plan_of(shape, options, size, where)
  options = file.options(options, DOMAIN_OPTIONS, where)
  local n = 1
  if type(shape) ~= "number" then n = lists.length(shape, where, "shape", "a number or a list of numbers") end
  if n < 1 or n > MAX_DOMAIN then
    raise(where, ("argument 'shape': expected 1 to %d dimensions, got %d"):format(MAX_DOMAIN, n))
  end
  local plan = { global = whole_numbers(shape, n, 1, where, "shape") }
  plan.width = whole_numbers(options.halo == nil and 1 or options.halo, n, 0, where, "halo")
  plan.split = splits[options.split == nil and "even" or options.split]
  if not plan.split then mismatch(where, "split", "'even' or 'ceil'", options.split) end
  fill_booleans(flags, options.periodic ~= nil and options.periodic, n, where, "periodic")
  plan.periodic = booleans_of(flags, n)
  plan.reorder = file.boolean(options.reorder, where, "reorder")
  plan.dims = grid_of(decomposition_of(options.decomposition, n, where), n, size, where)
  check_parts(plan, where)
  return plan
end

-- The first cells and the extents of the part at some coordinates.
local function part_at(self, at)
  local start, shape = {}, {}
  for d = 1, #self.global do start[d], shape[d] = self.split(self.global[d], self.dims[d], at[d]) end
  return start, shape
end

local function same_plan(comm, plan, where)
  local periodic = {}
  for d = 1, #plan.periodic do periodic[d] = tostring(plan.periodic[d]) end
  file.same(comm, where, {
    { "shape", times(plan.global) }, { "decomposition", times(plan.dims) }, { "periodic", concat(periodic, ", ") },
    { "halo", times(plan.width) }, { "split", plan.split == splits.ceil and "ceil" or "even" },
    { "reorder", tostring(plan.reorder) },
  })
end

--- Divides a grid of cells among the ranks of a communicator. Collective, with the same arguments on every rank; what
-- cannot be is an error on all of them.
--
-- The domain has the fields `comm` (a Cartesian communicator of its own, in which the tags 0 to 27 are taken), `dims`
-- (the extents of the grid of ranks), `coords` (this rank's place in it), `periodic`, `width` (of the halo), `global`
-- (the shape of the whole), `shape` (that of this rank's part, without halo) and `start` (the indices in the whole of
-- its first cell): lists, with an entry for each dimension.
-- @tparam int|{int,...} shape of the whole: 1 to 3 extents
-- @tparam[opt] table options `decomposition`: for each dimension the number of ranks along it, or -1 for what is left,
-- divided as equally as can be (default: -1 everywhere); `periodic`: whether the grid goes round, a boolean or a list
-- (default false); `halo`: the width of the halo, a number or a list (default 1); `split`: where it is cut, for n cells
-- among p ranks: "even" before the cells floor(i n / p), "ceil" after each ceil(n / p) cells, so that the last may have
-- less (default "even"); `comm` (default COMM_WORLD); `reorder`: whether MPI may rank the processes anew (default
-- false)
-- @treturn domain
function cart.domain(shape, options)
  local where = "cart.domain"
  local comm = file.comm(options, where)
  local plan = file.together(comm, where, plan_of, shape, options, comm:size(), where)
  same_plan(comm, plan, where)
  plan.comm = cart.cart_create(plan.dims, plan.periodic, plan.reorder, comm)
  plan.coords = cart.cart_coords(plan.comm)
  plan.start, plan.shape = part_at(plan, plan.coords)
  plan.padded = {}
  for d = 1, #plan.shape do plan.padded[d] = plan.shape[d] + 2 * plan.width[d] end
  return (setmetatable(plan, domain_meta))
end

local function this_object(value, meta, what, where)
  if type(value) ~= "table" or getmetatable(value) ~= meta then
    mismatch(where, "self", what .. " (is it called with a colon?)", value)
  end
  return value
end

local function this_domain(value, where)
  return (this_object(value, domain_meta, "a domain", where))
end

-- An array of a shape, of whatever library.
local function array_of(value, shape, refused, where, argument, what)
  local a = value
  if type(value) ~= "nil" and not istype(array_ct, value) then a = buffer.shaped(value, where, argument) end
  local same = a ~= nil and a.type ~= NONE and a.ndim == #shape
  for d = 1, same and #shape or 0 do same = same and a.extent[d - 1] == shape[d] end
  if not same then mismatch(where, argument, ("an array of shape %s, %s"):format(times(shape), what), value) end
  if band(a.flags, refused) ~= 0 then mismatch(where, argument, "a writable array", value) end
  return a
end

local function field_of(self, value, refused, where)
  return (array_of(value, self.padded, refused, where, "field", "which this rank's part has with its halo"))
end

local function box(a, ranges)
  return (a:slice(ranges[1], ranges[2], ranges[3]))
end

-- The ranges of a part without its halo.
local function inner_ranges(self)
  local ranges = {}
  for d = 1, #self.shape do ranges[d] = { self.width[d], self.width[d] + self.shape[d] } end
  return ranges
end

--- The place and extents of a rank's part.
-- @int[opt] rank in `domain.comm`; by default this process's own
-- @treturn {int,...} start, the indices in the whole of its first cell
-- @treturn {int,...} shape
-- @function domain:extents
function domain_methods.extents(self, rank)
  local where = "domain:extents"
  this_domain(self, where)
  if type(rank) == "nil" then return part_at(self, self.coords) end
  success(C.nmpi_cart_coords(self.comm, int(rank, where, "rank"), coords), where)
  return part_at(self, list_of(coords, #self.global))
end

--- A new array of zeros for this rank's part and its halo.
-- @tparam[opt="double"] string|ctype dtype
-- @string[opt="C"] order
-- @treturn array
-- @function domain:zeros
function domain_methods.zeros(self, dtype, order)
  return (array.zeros(this_domain(self, "domain:zeros").padded, dtype, order))
end

--- This rank's part of a field, without its halo.
-- @tparam array field of this rank's part and its halo
-- @treturn array a view
-- @function domain:interior
function domain_methods.interior(self, field)
  this_domain(self, "domain:interior")
  return (box(field_of(self, field, 0, "domain:interior"), inner_ranges(self)))
end

-- ---- halos ----

-- The rank in some direction (-1, 0 or 1 in each dimension).
local function neighbour(self, direction, sign, where)
  for d = 1, #self.dims do
    local c = self.coords[d] + sign * direction[d]
    if not self.periodic[d] and (c < 0 or c >= self.dims[d]) then return PROC_NULL end
    coords[d - 1] = c
  end
  success(C.nmpi_cart_rank(self.comm, #self.dims, coords, found), where)
  return found[0]
end

-- Notes what goes in one direction and comes from the opposite one. `across`: the ranges of the dimensions in which it
-- stays where it is.
local function add_transfer(list, self, field, direction, across, where)
  local dest, source = neighbour(self, direction, 1, where), neighbour(self, direction, -1, where)
  if dest == PROC_NULL and source == PROC_NULL then return end
  local from, to, tag = {}, {}, 0
  for d = 1, #self.shape do
    local n, h, way = self.shape[d], self.width[d], direction[d]
    tag = 3 * tag + way + 1
    if way ~= 0 and h == 0 then return end
    if way == 0 then
      from[d], to[d] = across[d], across[d]
    elseif way < 0 then
      from[d], to[d] = { h, 2 * h }, { n + h, n + 2 * h }
    else
      from[d], to[d] = { n, n + h }, { 0, h }
    end
  end
  list[#list + 1] = { senddata = box(field, from), recvdata = box(field, to), dest = dest, source = source, tag = tag }
end

-- One dimension after the other. With corners each takes the halos along that are filled already: those towards
-- neighbours.
local function add_sweeps(list, self, field, corners, where)
  local across = inner_ranges(self)
  for d = 1, #self.shape do
    local direction = { 0, 0, 0 }
    for way = -1, 1, 2 do
      direction[d] = way
      add_transfer(list, self, field, direction, across, where)
    end
    if corners then
      local before, after = neighbour(self, direction, -1, where), neighbour(self, direction, 1, where)
      local h, n = self.width[d], self.shape[d]
      across[d] = { before == PROC_NULL and h or 0, after == PROC_NULL and n + h or n + 2 * h }
    end
  end
end

-- All at once, with the corners straight from those that lie there.
local function add_all_directions(list, self, field, where)
  local across, n = inner_ranges(self), #self.shape
  for code = 0, 3 ^ n - 1 do
    local direction, rest, moves = {}, code, false
    for d = n, 1, -1 do
      direction[d], rest = rest % 3 - 1, floor(rest / 3)
      moves = moves or direction[d] ~= 0
    end
    if moves then add_transfer(list, self, field, direction, across, where) end
  end
end

local function transfers_of(list)
  local transfers = transfers_ct(#list)
  for i, transfer in ipairs(list) do transfers[i - 1] = transfer end
  return transfers
end

local function new_halo(self, field, options, where)
  this_domain(self, where)
  options = file.options(options, HALO_OPTIONS, where)
  local corners = file.boolean(options.corners, where, "corners")
  local nonblocking = file.boolean(options.nonblocking, where, "nonblocking")
  local a = field_of(self, field, READONLY, where)
  local list = {}
  if nonblocking and corners then
    add_all_directions(list, self, a, where)
  else
    add_sweeps(list, self, a, corners, where)
  end
  local requests = nonblocking and requests_ct(2 * #list)
  return (setmetatable({
    comm = self.comm,
    transfers = transfers_of(list),
    count = #list,
    -- Whose memory the transfers point to.
    views = list,
    foreign = a.owner == nil,
    requests = requests,
    begun = false,
  }, halo_meta))
end

--- What fills the halo of a field, made once for many exchanges: these allocate nothing, and compile.
-- @tparam array field of this rank's part and its halo
-- @tparam[opt] table options `corners`: whether the halo's corners are filled too (default false); `nonblocking`:
-- whether all messages go at once, by `isend` and `irecv`, not one after the other by `sendrecv` (default false)
-- @treturn halo
-- @function domain:halo
function domain_methods.halo(self, field, options)
  return (new_halo(self, field, options, "domain:halo"))
end

--- Fills the halo of a field once; see `domain:halo`, which is for loops. Collective. Beyond edges that are not
-- periodic it stays as it is.
-- @tparam array field of this rank's part and its halo
-- @tparam[opt] table options as of `domain:halo`
-- @treturn int status
-- @function domain:exchange
function domain_methods.exchange(self, field, options)
  return (new_halo(self, field, options, "domain:exchange"):exchange())
end

local function this_halo(value, where)
  return (this_object(value, halo_meta, "a halo", where))
end

-- Those that have begun on memory that is not ours: they keep it alive.
lib.halos = {}

local function start(self, where)
  if not self.requests then raise(where, "this halo was not made with the option nonblocking") end
  if self.begun then raise(where, "an exchange has begun already: finish it first") end
  local code = status(C.nmpi_exchange_begin(self.transfers, self.count, self.comm, self.requests), where)
  self.begun = true
  if self.foreign then lib.halos[self] = true end
  return code
end

local function finish(self, where)
  local code = C.nmpi_waitall(self.requests, 2 * self.count)
  self.begun = false
  if self.foreign then lib.halos[self] = nil end
  return (status(code, where))
end

--- Fills the halo with what the neighbours have there. Collective: they all call it.
-- @treturn int status: the error code of the first message that failed
-- @function halo:exchange
function halo_methods.exchange(self)
  local where = "halo:exchange"
  this_halo(self, where)
  if not self.requests then
    return (status(C.nmpi_exchange(self.transfers, self.count, self.comm), where))
  end
  local first = start(self, where)
  local code = finish(self, where)
  return first ~= SUCCESS and first or code
end

--- Begins to fill a halo that was made with `nonblocking`. Until `halo:finish` the field may be read but for its halo,
-- and must not be written.
-- @treturn int status; whatever it is, `halo:finish` must follow
-- @function halo:start
function halo_methods.start(self)
  return (start(this_halo(self, "halo:start"), "halo:start"))
end

--- Waits until what `halo:start` has begun is complete; does nothing where nothing was begun.
-- @treturn int status: the error code of the first message that failed
-- @function halo:finish
function halo_methods.finish(self)
  this_halo(self, "halo:finish")
  if not self.begun then return SUCCESS end
  return (finish(self, "halo:finish"))
end

-- ---- whole fields ----

local function note(first, code, where)
  status(code, where)
  return first ~= SUCCESS and first or code
end

-- Calls a function with the rank and the view of each part of a global array.
local function each_part(self, global, act)
  for rank = 0, C.nmpi_comm_size(self.comm) - 1 do
    local start_at, shape = self:extents(rank)
    local ranges = {}
    for d = 1, #shape do ranges[d] = { start_at[d], start_at[d] + shape[d] } end
    act(rank, box(global, ranges))
  end
end

-- The arguments of scatter_field and gather_field: the root, the field's interior and, on the root, the global array.
local function whole_of(self, field, global, root, size, written, where)
  root = optional_int(root, 0, where, "root")
  if root < 0 or root >= size then mismatch(where, "root", ("a rank from 0 to %d"):format(size - 1), root) end
  local into_field = written == "field" and READONLY or 0
  local a = field_of(self, field, into_field, where)
  local whole
  if C.nmpi_comm_rank(self.comm) == root then
    whole = array_of(global, self.global, READONLY - into_field, where, "global", "the domain's")
    if whole.dtype ~= a.dtype then
      mismatch(where, "global", ("an array of %s, as 'field' is"):format(a.dtype), whole)
    end
  end
  return { inner = box(a, inner_ranges(self)), whole = whole, root = root, dtype = a.dtype }
end

local function moved(self, field, global, root, written, where)
  this_domain(self, where)
  local comm = self.comm
  local size = check.value(C.nmpi_comm_size(comm), where)
  local it = file.together(comm, where, whole_of, self, field, global, root, size, written, where)
  file.same(comm, where, { { "root", tostring(it.root) }, { "field", it.dtype } })
  return it.inner, it.whole, it.root
end

--- Hands out a global array: each rank gets its part, in the inner cells of its field. Collective.
-- @tparam array global on the root an array of the domain's shape, of the field's dtype; elsewhere nil
-- @tparam array field of this rank's part and its halo
-- @int[opt=0] root in `domain.comm`
-- @treturn int status
-- @function domain:scatter_field
function domain_methods.scatter_field(self, global, field, root)
  local where, first = "domain:scatter_field", SUCCESS
  local inner, whole, source = moved(self, field, global, root, "field", where)
  local comm = self.comm
  if not whole then return (status(C.nmpi_recv(inner, source, FIELD_TAG, comm, nil), where)) end
  each_part(self, whole, function(rank, part)
    if rank == source then
      inner:assign(part)
    else
      first = note(first, C.nmpi_send(part, rank, FIELD_TAG, comm), where)
    end
  end)
  return first
end

--- Collects a field, without halos, in a global array. Collective.
-- @tparam array field of this rank's part and its halo
-- @tparam array global on the root an array of the domain's shape, of the field's dtype; elsewhere nil
-- @int[opt=0] root in `domain.comm`
-- @treturn int status
-- @function domain:gather_field
function domain_methods.gather_field(self, field, global, root)
  local where, first = "domain:gather_field", SUCCESS
  local inner, whole, dest = moved(self, field, global, root, "global", where)
  local comm = self.comm
  if not whole then return (status(C.nmpi_send(inner, dest, FIELD_TAG, comm), where)) end
  each_part(self, whole, function(rank, part)
    if rank == dest then
      part:assign(inner)
    else
      first = note(first, C.nmpi_recv(part, rank, FIELD_TAG, comm, nil), where)
    end
  end)
  return first
end

--- Frees the domain's communicator. Collective. Its halos cannot be used any more.
-- @function domain:free
function domain_methods.free(self)
  success(C.nmpi_comm_free(this_domain(self, "domain:free").comm), "domain:free")
end

return cart
