-- SPDX-License-Identifier: MIT
-- Grids of processes, and of cells: halos, and the way between one array and the parts, against a truth of the spec's.

local ffi = require "ffi"
local mpi = require "nmpi"
local cart = require "nmpi.cart"
local data = require "spec.support.data"
local hot = require "spec.support.hot"
local refuses = require "spec.support.refuses"

local WORLD, SELF, NULL, PROC_NULL, SUCCESS = mpi.COMM_WORLD, mpi.COMM_SELF, mpi.COMM_NULL, mpi.PROC_NULL, mpi.SUCCESS
local rank, size = mpi.rank(), mpi.size()

-- ---- the truth ----

-- The coordinates of a rank, row-major.
local function coords_of(r, dims)
  local coords = {}
  for d = #dims, 1, -1 do
    coords[d] = r % dims[d]
    r = (r - coords[d]) / dims[d]
  end
  return coords
end

-- Which cells of n lie in part c of p.
local cuts = {
  even = function(n, p, c) return (n * c - n * c % p) / p, (n * (c + 1) - n * (c + 1) % p) / p end,
  ceil = function(n, p, c)
    local most = (n + (p - n % p) % p) / p
    return math.min(most * c, n), math.min(most * (c + 1), n)
  end,
}

-- All ways to write n as a product of so many factors.
local function products(n, factors)
  if factors == 1 then return { { n } } end
  local list = {}
  for p = 1, n do
    if n % p == 0 then
      for _, rest in ipairs(products(n / p, factors - 1)) do list[#list + 1] = { p, unpack(rest) } end
    end
  end
  return list
end

-- Calls act(offset, at): the places of an array, in row-major order.
local function each(shape, act)
  local at, total = {}, 1
  for d = 1, #shape do
    at[d] = 0
    total = total * shape[d]
  end
  for offset = 0, total - 1 do
    act(offset, at)
    local d = #shape
    while d >= 1 do
      at[d] = at[d] + 1
      if at[d] < shape[d] then break end
      at[d] = 0
      d = d - 1
    end
  end
end

-- The first cell and the extents of a rank's part.
local function part_of(case, r)
  local coords, start, own = coords_of(r, case.dims), {}, {}
  for d = 1, #case.shape do
    local from, to = cuts[case.split](case.shape[d], case.dims[d], coords[d])
    start[d], own[d] = from, to - from
  end
  return start, own
end

-- What this rank's field holds by row-major offset: the place of the cell in the whole grid, or nil where nothing is
-- known of it: in a halo before the exchange, beyond edges, and in corners that are not wanted. With `filled` the halo
-- is full.
local function truth(case, filled, corners)
  local start, own = part_of(case, rank)
  local cells, shape = {}, {}
  for d = 1, #own do shape[d] = own[d] + 2 * case.width[d] end
  each(shape, function(offset, at)
    local place, outside, known = 0, 0, true
    for d = 1, #shape do
      local i, n = at[d] - case.width[d], case.shape[d]
      local g = start[d] + i
      if i < 0 or i >= own[d] then outside = outside + 1 end
      if (g < 0 or g >= n) and not case.periodic[d] then known = false end
      place = place * n + g % n
    end
    known = known and (outside == 0 or (filled and (outside == 1 or corners)))
    cells[offset] = known and place or nil
  end)
  return { cells = cells, shape = shape }
end

-- An array that holds it.
local function array_of(t, dtype)
  local a, guard, value = mpi.empty(t.shape, dtype), data.guard(dtype), data.value[dtype]
  a:fill(guard)
  local p = a.data
  for offset = 0, a.size - 1 do
    local place = t.cells[offset]
    if place then p[offset] = value(place) end
  end
  return a
end

local function show(case)
  local periodic = {}
  for d, goes_round in ipairs(case.periodic) do periodic[d] = goes_round and "periodic" or "not" end
  return ("%s cells among %s, %s, width %s, %s"):format(table.concat(case.shape, " x "), table.concat(case.dims, " x "),
    table.concat(periodic, " "), table.concat(case.width, " "), case.split)
end

local function domain_of(case, comm)
  return cart.domain(case.shape, {
    decomposition = case.dims, periodic = case.periodic, halo = case.width, split = case.split, comm = comm,
  })
end

-- For each number of dimensions: cut in 1 to 4 by either rule, each part has at least 2 cells.
local shapes = { { 11 }, { 11, 8 }, { 8, 8, 8 } }
local widths = { { { 1 }, { 2 } }, { { 1, 1 }, { 2, 2 }, { 2, 1 } }, { { 1, 1, 1 }, { 2, 2, 2 }, { 1, 0, 2 } } }

-- Every decomposition, with each choice of what is periodic but in 3-d, where it has two of them, by turns: making a
-- communicator takes its time. So are widths, splits and dtypes.
local function cases_of(ndim)
  local cases, turn = {}, 0
  for _, dims in ipairs(products(size, ndim)) do
    for choice = 0, math.min(2 ^ ndim, ndim == 3 and 2 or 4) - 1 do
      local mask, periodic = ndim == 3 and (3 * turn + 7) % 8 or choice, {}
      for d = 1, ndim do periodic[d] = math.floor(mask / 2 ^ (d - 1)) % 2 == 1 end
      turn = turn + 1
      cases[turn] = {
        shape = shapes[ndim], dims = dims, periodic = periodic, width = data.at(widths[ndim], turn),
        split = turn % 2 == 0 and "ceil" or "even", dtype = data.at(data.dtypes, 5 * turn),
      }
    end
  end
  return cases
end

local modes = {
  { corners = false, nonblocking = false }, { corners = true, nonblocking = false },
  { corners = false, nonblocking = true }, { corners = true, nonblocking = true },
}

-- What a domain tells wrongly about a part.
local function parts_differ(domain, case)
  local got = { domain.dims, domain.coords, domain.global, domain.periodic, domain.width }
  local expected = { case.dims, coords_of(rank, case.dims), case.shape, case.periodic, case.width }
  got[6], expected[6] = { domain.start, domain.shape }, { part_of(case, rank) }
  got[7], expected[7] = { domain:extents() }, { part_of(case, rank) }
  for r = 0, size - 1 do got[8 + r], expected[8 + r] = { domain:extents(r) }, { part_of(case, r) } end
  local same, difference = pcall(assert.same, expected, got)
  return not same and tostring(difference)
end

describe("a domain", function()
  for ndim = 1, 3 do
    it(("in %d-d fills halos from its neighbours, and gathers and scatters"):format(ndim), function()
      local problems = {}
      local function note(case, what, problem)
        if problem then problems[#problems + 1] = ("%s: %s: %s"):format(show(case), what, problem) end
      end
      for turn, case in ipairs(cases_of(ndim)) do
        local dtype, root = case.dtype, turn % size
        local domain = domain_of(case)
        note(case, "parts", parts_differ(domain, case))
        local before = array_of(truth(case), dtype)

        for _, mode in ipairs(modes) do
          local field = before:copy()
          local status = domain:exchange(field, mode)
          note(case, "status", status ~= SUCCESS and status or nil)
          note(case, ("%s%s exchange of %s"):format(mode.nonblocking and "nonblocking " or "",
            mode.corners and "full" or "plain", dtype),
            data.difference(field, array_of(truth(case, true, mode.corners), dtype)))
        end

        local whole, expected
        if rank == root then
          whole = mpi.zeros(case.shape, dtype):fill(data.guard(dtype))
          expected = data.fill(mpi.zeros(case.shape, dtype), 0)
        end
        local status = domain:gather_field(before, whole, root)
        note(case, "gather", status ~= SUCCESS and status or whole and data.difference(whole, expected))

        local field = domain:zeros(dtype):fill(data.guard(dtype))
        status = domain:scatter_field(expected, field, root)
        note(case, "scatter", status ~= SUCCESS and status or data.difference(field, before:copy()))
        domain:free()
      end
      assert(#problems == 0, problems[1])
    end)
  end

  it("has arrays and views of every dtype and order as fields", function()
    local problems = {}
    local case = {
      shape = { 7, 12 }, dims = cart.dims_create(size, { 0, 0 }), periodic = { true, false }, width = { 1, 1 },
      split = "even",
    }
    local domain = domain_of(case)
    local before, after = truth(case), truth(case, true, true)
    for turn, dtype in ipairs(data.dtypes) do
      local contents, expected = array_of(before, dtype), array_of(after, dtype)
      local rows, columns = contents.shape[0], contents.shape[1]
      local fields = {
        order = mpi.zeros({ rows, columns }, dtype, "F"),
        transposed = mpi.zeros({ columns, rows }, dtype):transpose(),
        backwards = mpi.zeros({ rows, columns }, dtype):slice({ nil, nil, -1 }, { nil, nil, -1 }),
        stepped = mpi.zeros({ 2 * rows, 3 * columns }, dtype):slice({ nil, nil, 2 }, { nil, nil, 3 }),
        foreign = mpi.wrap(ffi.new("double[?]", rows * columns * math.ceil(contents.itemsize / 8)), { rows, columns },
          dtype),
      }
      for k = 0, size == 1 and 4 or 1 do
        local name = data.at({ "order", "transposed", "backwards", "stepped", "foreign" }, 2 * turn + k)
        local field = fields[name]:assign(contents)
        local status = domain:exchange(field, data.at({ modes[2], modes[4] }, turn))
        local problem = status ~= SUCCESS and status or data.difference(field:copy(), expected)
        if problem then problems[#problems + 1] = ("%s, %s: %s"):format(name, dtype, problem) end
      end
    end
    domain:free()
    assert(#problems == 0, problems[1])
  end)

  it("exchanges more than MPI sends before it is received", function()
    local case = {
      shape = { 40 * size, 3000 }, dims = { size, 1 }, periodic = { true, true }, width = { 2, 3 }, split = "even",
    }
    local domain = domain_of(case)
    local problems = {}
    for _, mode in ipairs(modes) do
      local field = domain:zeros():fill(-1)
      local inner = domain:interior(field)
      for i = 0, inner.shape[0] - 1 do
        inner:row(i):fill(0):assign(mpi.wrap(data.pattern(3000, "double", domain.start[1] + i).data, 3000))
      end
      local first, last = field:slice({ 0, 2 }, { 3, -3 }), field:slice({ -2 }, { 3, -3 })
      local left = field:slice({ 2, -2 }, { 0, 3 })
      local status = domain:exchange(field, mode)
      local expected_first, expected_last = mpi.zeros { 2, 3000 }, mpi.zeros { 2, 3000 }
      local n = 40 * size
      for k = 0, 1 do
        expected_first:row(k):assign(data.pattern(3000, "double", (domain.start[1] - 2 + k) % n))
        expected_last:row(k):assign(data.pattern(3000, "double", (domain.start[1] + domain.shape[1] + k) % n))
      end
      problems[#problems + 1] = status ~= SUCCESS and status or data.difference(first:copy(), expected_first)
        or data.difference(last:copy(), expected_last)
        or data.difference(left:copy(), inner:slice(nil, { -3 }):copy())
    end
    domain:free()
    assert(#problems == 0, problems[1])
  end)

  it("cuts where the whole falls into parts, and where each but the last has the same", function()
    local n = 3 * size - (size > 2 and 1 or 0)
    local even, ceiled = cart.domain(size + 1, { halo = 0 }), cart.domain({ n }, { split = "ceil" })
    local got = { even.shape[1], ceiled.shape[1], ceiled.start[1] }
    even:free()
    ceiled:free()
    local last = rank == size - 1
    assert.same({ last and 2 or 1, last and n - 3 * rank or 3, 3 * rank }, got)
  end)

  it("chooses what of its decomposition is left open", function()
    local got, expected = {}, {}
    for _, given in ipairs { { 1, -1 }, { -1, 1 }, { size, -1 }, { -1, size }, { 1, size } } do
      local domain = cart.domain({ 8, 8 }, { decomposition = given })
      got[#got + 1] = domain.dims
      expected[#expected + 1] = { given[1] == -1 and size / given[2] or given[1],
        given[2] == -1 and size / given[1] or given[2] }
      domain:free()
    end
    for ndim = 1, 3 do
      local shape, zeros = {}, {}
      for d = 1, ndim do shape[d], zeros[d] = 8, 0 end
      local domain = cart.domain(shape)
      got[#got + 1], expected[#expected + 1] = domain.dims, cart.dims_create(size, zeros)
      domain:free()
    end
    assert.same(expected, got)
  end)

  it("has a communicator of its own, of the ranks of the one given", function()
    local odd = WORLD:split(rank % 2)
    local domain = cart.domain({ 8 }, { comm = odd, periodic = true, reorder = true })
    local n = domain.comm:size()
    local field = domain:zeros("int32")
    domain:interior(field):fill(domain.comm:rank())
    local status = domain:exchange(field)
    local got = { status, n, field[0], field[#field - 1], #field }
    local start, shape = domain:extents()
    domain:free()
    local expected = { SUCCESS, odd:size(), (start[1] > 0 and domain.coords[1] or n) - 1,
      (domain.coords[1] + 1) % n, shape[1] + 2 }
    odd:free()
    assert.same(expected, got)
  end)

  it("is refused by all ranks where it cannot be", function()
    local function refused(shape, options, ...)
      refuses(function() cart.domain(shape, options) end, "nmpi.cart.domain: ", ...)
    end
    refused({ 4, 4 }, { decomposition = { size + 1, -1 } }, "argument 'decomposition'", "divides " .. size)
    refused({ 8, 8 }, { decomposition = { size, 2 } }, "argument 'decomposition'", "is " .. size, size .. " x 2")
    refused({ 8, 8 }, { decomposition = { 2 ^ 30, 2 ^ 30 } }, "argument 'decomposition'")
    refused({ 8, 8 }, { decomposition = { 0, -1 } }, "argument 'decomposition'")
    refused({ 8, 8 }, { decomposition = { -2, -1 } }, "argument 'decomposition'")
    refused({ 8, 8 }, { decomposition = { 1.5, -1 } }, "argument 'decomposition'", "a whole number", "1.5")
    refused({ 8, 8 }, { decomposition = { 1 } }, "argument 'decomposition'", "2 dimensions")
    refused({ 8, 8 }, { decomposition = "1x1" }, "argument 'decomposition'")
    if size > 1 then
      refused({ 8, size - 1 }, { decomposition = { 1, size } }, "cannot be divided", "decomposition")
      refused(size - 1, nil, "cannot be divided")
    end
    if size == 4 then refused({ 5 }, { split = "ceil" }, "cannot be divided", "'ceil'") end
    refused({ 2 * size, 8 }, { decomposition = { size, 1 }, halo = 3 }, "argument 'halo'", "3 is wider", "dimension 0")
    refused({ 8 }, { halo = -1 }, "argument 'halo'")
    refused({ 8 }, { halo = { 1, 1 } }, "argument 'halo'")
    refused({ 8 }, { halo = "1" }, "argument 'halo'")
    refused({ 8 }, { halo = 0 / 0 }, "argument 'halo'")
    refused({ 8 }, { periodic = 1 }, "argument 'periodic'")
    refused({ 8, 8 }, { periodic = { true } }, "argument 'periodic'")
    refused({ 8, 8 }, { periodic = { true, 0 } }, "argument 'periodic'")
    refused({ 8 }, { split = "odd" }, "argument 'split'", "'even' or 'ceil'")
    refused({ 8 }, { split = {} }, "argument 'split'")
    refused({ 8 }, { reorder = 1 }, "argument 'reorder'")
    refused({ 8 }, { peridic = true }, "no option", "peridic")
    refused({ 8 }, 1, "argument 'options'")
    refused({ 8 }, { comm = 1 }, "argument 'comm'")
    refused({ 8 }, { comm = NULL }, "null communicator")
    refused({}, nil, "argument 'shape'", "1 to 3 dimensions")
    refused({ 8, 8, 8, 8 }, nil, "argument 'shape'", "1 to 3 dimensions")
    refused({ 8, 0 }, nil, "argument 'shape'", "at least 1")
    refused({ 8, -8 }, nil, "argument 'shape'")
    refused({ 8, 2.5 }, nil, "argument 'shape'")
    refused({ 8, "8" }, nil, "argument 'shape'")
    refused({ 8, nil, 8 }, nil, "argument 'shape'")
    refused({ x = 8 }, nil, "argument 'shape'")
    refused(nil, nil, "argument 'shape'")
    refused("8", nil, "argument 'shape'")
    refused(2 ^ 60, nil, "argument 'shape'")
    local dead = WORLD:dup()
    dead:free()
    refused({ 8 }, { comm = dead }, "has been freed")
  end)

  it("is refused by all ranks where one is mistaken, or of another mind", function()
    refuses(function() cart.domain({ 8, rank == 0 and -1 or 8 }) end, "nmpi.cart.domain: ",
      rank > 0 and "rank 0: " or "", "argument 'shape'")
    if size == 1 then return end
    for _, case in ipairs {
      { "periodic", true, false }, { "halo", 1, 0 }, { "split", "even", "ceil" }, { "reorder", true, false },
    } do
      refuses(function() cart.domain({ 8 }, { [case[1]] = case[rank == 0 and 2 or 3] }) end,
        ("argument '%s': expected the same on every rank"):format(case[1]))
    end
    refuses(function() cart.domain({ rank == 0 and 9 or 8 }) end, "argument 'shape': expected the same on every rank")
  end)
end)

describe("a field", function()
  local domain, field

  before_each(function()
    domain = cart.domain({ 8, 9 }, { comm = SELF, halo = { 1, 2 }, periodic = true })
    field = domain:zeros()
  end)

  after_each(function()
    pcall(domain.free, domain)
  end)

  it("has a halo around the part", function()
    assert.equal("(10, 13)", tostring(field.shape))
    assert.equal("double", field.dtype)
    assert.is_true(domain:zeros("int8", "F"):is_contiguous "F")
    local inner = domain:interior(field)
    assert.equal("(8, 9)", tostring(inner.shape))
    inner:set(0, 0, 5)
    assert.equal(5, field:get(1, 2))
  end)

  it("must be of the domain's shape, writable and there", function()
    local freed, other, rows = domain:zeros(), mpi.zeros { 10, 12 }, ffi.new "double[3]"
    freed:free()
    local constant = mpi.wrap(ffi.new "const double[10][13]")
    for name, call in pairs {
      ["domain:exchange"] = function(f) return function() domain:exchange(f) end end,
      ["domain:halo"] = function(f) return function() domain:halo(f) end end,
      ["domain:interior"] = function(f) return function() domain:interior(f) end end,
      ["domain:gather_field"] = function(f) return function() domain:gather_field(f, mpi.zeros { 8, 9 }) end end,
      ["domain:scatter_field"] = function(f) return function() domain:scatter_field(mpi.zeros { 8, 9 }, f) end end,
    } do
      local where = "nmpi." .. name .. ": argument 'field'"
      refuses(call(other), where, "shape 10 x 13", "(10, 12)")
      refuses(call(freed), where, "freed")
      refuses(call(nil), where, "got nil")
      refuses(call(mpi.zeros(130)), where)
      refuses(call(rows), where)
      refuses(call(1), where)
      refuses(call "x", where)
      refuses(call {}, where)
      refuses(call(mpi.IN_PLACE), where)
      if name ~= "domain:interior" and name ~= "domain:gather_field" then
        refuses(call(constant), where, "a writable array")
      end
    end
    assert.equal(SUCCESS, domain:gather_field(constant, mpi.zeros { 8, 9 }))
    refuses(function() domain:exchange(mpi.wrap(ffi.new "double[1]", { 10, 13 }, "double", { 0, 0 })) end,
      "do not overlap")
  end)

  it("may be raw memory, which its halo keeps alive", function()
    local raw = ffi.new "float[10][13]"
    for j = 0, 8 do raw[1][j + 2] = j + 1 end
    for _, mode in ipairs(modes) do
      for j = 0, 12 do raw[9][j] = 0 end
      assert.equal(SUCCESS, domain:exchange(raw, mode))
      assert.equal(3, raw[9][4])
    end
    local halo = domain:halo(ffi.new "double[10][13]", { nonblocking = true })
    assert.equal(SUCCESS, halo:start())
    collectgarbage()
    assert.equal(SUCCESS, halo:finish())
  end)

  it("is kept by its halo", function()
    local halo = domain:halo(field)
    local view = domain:interior(field):fill(7)
    local ghosts = field:row(0)
    field:free()
    field = nil
    collectgarbage()
    assert.equal(SUCCESS, halo:exchange())
    assert.equal(7, ghosts[2])
    assert.equal(7, view:get(0, 0))
  end)

  it("is exchanged with options that exist", function()
    refuses(function() domain:exchange(field, { corner = true }) end, "nmpi.domain:exchange: ", "no option", "corner")
    refuses(function() domain:halo(field, { corners = 1 }) end, "nmpi.domain:halo: ", "argument 'corners'", "a boolean")
    refuses(function() domain:halo(field, { nonblocking = 0 }) end, "argument 'nonblocking'")
    refuses(function() domain:halo(field, true) end, "argument 'options'")
  end)

  it("is refused by what is no domain or halo", function()
    local halo = domain:halo(field)
    for _, name in ipairs {
      "extents", "zeros", "interior", "halo", "exchange", "scatter_field", "gather_field", "free",
    } do
      refuses(function() domain[name](nil, field) end, "nmpi.domain:" .. name, "argument 'self'")
      refuses(function() domain[name]({}, field) end, "nmpi.domain:" .. name, "argument 'self'")
      refuses(function() domain[name](halo, field) end, "nmpi.domain:" .. name, "argument 'self'")
    end
    for _, name in ipairs { "exchange", "start", "finish" } do
      refuses(function() halo[name]() end, "nmpi.halo:" .. name, "argument 'self'")
      refuses(function() halo[name](domain) end, "nmpi.halo:" .. name, "argument 'self'")
    end
  end)

  it("cannot be exchanged once the domain has been freed", function()
    local blocking, nonblocking = domain:halo(field), domain:halo(field, { nonblocking = true })
    domain:free()
    refuses(function() blocking:exchange() end, "nmpi.halo:exchange", "has been freed")
    refuses(function() nonblocking:exchange() end, "nmpi.halo:exchange", "has been freed")
    refuses(function() nonblocking:start() end, "nmpi.halo:start", "has been freed")
    assert.equal(SUCCESS, nonblocking:finish())
    refuses(function() domain:exchange(field) end, "has been freed")
    refuses(function() domain:halo(field) end, "has been freed")
    refuses(function() domain:scatter_field(mpi.zeros { 8, 9 }, field) end, "has been freed")
    refuses(function() domain:gather_field(field, mpi.zeros { 8, 9 }) end, "has been freed")
    refuses(function() domain:extents(0) end, "has been freed")
    refuses(function() domain:free() end, "nmpi.domain:free", "has been freed")
    local lone = cart.domain({ 8, 9 }, { comm = SELF, halo = { 1, 2 } })
    local idle = lone:halo(field)
    lone:free()
    refuses(function() idle:exchange() end, "has been freed")
  end)

  it("needs a rank of the domain, and a root", function()
    refuses(function() domain:extents(1) end, "nmpi.domain:extents", "argument 'rank'", "got 1")
    refuses(function() domain:extents "0" end, "argument 'rank'")
    for _, root in ipairs { -1, 1, 0.5, "0", {} } do
      refuses(function() domain:scatter_field(mpi.zeros { 8, 9 }, field, root) end, "domain:scatter_field",
        "argument 'root'")
      refuses(function() domain:gather_field(field, mpi.zeros { 8, 9 }, root) end, "domain:gather_field",
        "argument 'root'")
    end
  end)

  it("goes to and comes from a whole array of its dtype", function()
    for _, whole in ipairs { mpi.zeros { 8, 8 }, mpi.zeros(72), field, mpi.zeros({ 8, 9 }, "float"), 1, "x",
      ffi.new "double[72]" } do
      refuses(function() domain:scatter_field(whole, field) end, "domain:scatter_field", "argument 'global'")
      refuses(function() domain:gather_field(field, whole) end, "domain:gather_field", "argument 'global'")
    end
    refuses(function() domain:gather_field(field, nil) end, "argument 'global'", "got nil")
    local constant = mpi.wrap(ffi.new "const double[8][9]")
    refuses(function() domain:gather_field(field, constant) end, "argument 'global'", "a writable array")
    assert.equal(SUCCESS, domain:scatter_field(constant, field))
  end)
end)

describe("a nonblocking halo", function()
  it("lets inner cells be read meanwhile, and several be under way", function()
    local domain = cart.domain({ 6 * size, 5 }, { decomposition = { size, 1 }, periodic = true })
    local n, fields, halos, status = 4, {}, {}, 0
    for k = 1, n do
      fields[k] = domain:zeros "int32"
      domain:interior(fields[k]):fill(100 * k + rank)
      halos[k] = domain:halo(fields[k], { nonblocking = true, corners = k % 2 == 0 })
    end
    for _ = 1, 3 do
      for k = 1, n do status = status + halos[k]:start() end
      for k = n, 1, -1 do status = status + halos[k]:finish() end
    end
    local problems = {}
    for k = 1, n do
      local before, after = 100 * k + (rank - 1) % size, 100 * k + (rank + 1) % size
      local got = { fields[k]:get(0, 1), fields[k]:get(7, 5), fields[k]:get(3, 0), fields[k]:get(0, 0) }
      local expected = { before, after, 100 * k + rank, k % 2 == 0 and before or 0 }
      for i = 1, #got do
        if got[i] ~= expected[i] then problems[#problems + 1] = ("%d: %d, %d"):format(k, got[i], expected[i]) end
      end
    end
    domain:free()
    assert.equal(0, status)
    assert.same({}, problems)
  end)

  it("is started and finished by turns", function()
    local domain = cart.domain({ 8 }, { comm = SELF, periodic = true })
    local halo, blocking = domain:halo(domain:zeros(), { nonblocking = true }), domain:halo(domain:zeros())
    assert.equal(SUCCESS, halo:finish())
    assert.equal(SUCCESS, halo:start())
    refuses(function() halo:start() end, "nmpi.halo:start", "has begun already")
    refuses(function() halo:exchange() end, "nmpi.halo:exchange", "has begun already")
    assert.equal(SUCCESS, halo:finish())
    assert.equal(SUCCESS, halo:exchange())
    refuses(function() blocking:start() end, "nmpi.halo:start", "nonblocking")
    assert.equal(SUCCESS, blocking:finish())
    domain:free()
  end)
end)

describe("scattering and gathering", function()
  it("is refused by all ranks where one is mistaken, or of another mind", function()
    local domain = cart.domain(8)
    local field, whole = domain:zeros(), rank == 0 and mpi.zeros(7) or nil
    local at_root = rank > 0 and "rank 0: " or ""
    refuses(function() domain:gather_field(field, whole) end, at_root, "argument 'global'")
    refuses(function() domain:scatter_field(whole, field) end, at_root, "argument 'global'")
    local last = rank == size - 1
    refuses(function() domain:scatter_field(mpi.zeros(8), last and mpi.zeros(1) or field) end,
      last and "" or ("rank %d: "):format(size - 1), "argument 'field'")
    if size > 1 then
      refuses(function() domain:gather_field(field, mpi.zeros(8), last and 0 or 1) end, "argument 'root'", "the same")
      refuses(function()
        domain:gather_field(domain:zeros(last and "int64" or "double"), mpi.zeros(8, last and "int64" or "double"))
      end, "argument 'field'", "the same")
    end
    assert.equal(SUCCESS, domain:gather_field(field, mpi.zeros(8)))
    domain:free()
  end)
end)

describe("dims_create", function()
  it("divides processes as equally as can be", function()
    assert.same({ 6 }, cart.dims_create(6, { 0 }))
    assert.same({ 3, 2 }, cart.dims_create(6, { 0, 0 }))
    assert.same({ 2, 3 }, cart.dims_create(6, { 2, 0 }))
    assert.same({ 3, 2, 2 }, cart.dims_create(12, { 0, 2, 0 }))
    assert.same({ 1, 7 }, cart.dims_create(7, { 1, 7 }))
    assert.same({ 1, 1, 1 }, cart.dims_create(1, { 0, 0, 0 }))
    local given = { 0, 0 }
    cart.dims_create(4, given)
    assert.same({ 0, 0 }, given)
  end)

  it("refuses what does not divide", function()
    local function refused(nnodes, dims, ...)
      refuses(function() cart.dims_create(nnodes, dims) end, "nmpi.cart.dims_create: ", ...)
    end
    refused(0, { 0 }, "argument 'nnodes'")
    refused(-3, { 0 }, "argument 'nnodes'")
    refused(1.5, { 0 }, "argument 'nnodes'")
    refused(nil, { 0 }, "argument 'nnodes'")
    refused(6, { 4, 0 }, "argument 'dims'", "divides 6", "got 4")
    refused(6, { 2, 2 }, "argument 'dims'", "is 6", "got 4")
    refused(6, { 2 ^ 30, 2 ^ 30, 0 }, "argument 'dims'")
    refused(6, { -1, 0 }, "argument 'dims'", "got -1")
    refused(6, {}, "argument 'dims'", "1 to 32")
    refused(6, 2, "argument 'dims'", "a list")
    refused(6, { "2" }, "argument 'dims'")
    refused(6, { 2, nil, 3 }, "argument 'dims'")
    local many = {}
    for d = 1, 33 do many[d] = 1 end
    refused(1, many, "argument 'dims'", "at most 32")
  end)
end)

describe("a grid of processes", function()
  it("is row-major, and knows its neighbours", function()
    local problems = {}
    for ndim = 1, 3 do
      for turn, dims in ipairs(products(size, ndim)) do
        for mask = turn % 2, 2 ^ ndim - 1, 3 do
          local periods = {}
          for d = 1, ndim do periods[d] = math.floor(mask / 2 ^ (d - 1)) % 2 == 1 end
          local grid = cart.cart_create(dims, periods)
          local got, expected = { { cart.cart_get(grid) } }, { { dims, periods, coords_of(rank, dims) } }
          for r = 0, size - 1 do
            local coords = coords_of(r, dims)
            got[#got + 1], expected[#expected + 1] = cart.cart_coords(grid, r), coords
            got[#got + 1], expected[#expected + 1] = cart.cart_rank(grid, coords), r
          end
          got[#got + 1], expected[#expected + 1] = cart.cart_coords(grid), coords_of(rank, dims)
          for d = 1, ndim do
            for _, disp in ipairs { 1, -1, 0, 2, -3, 1000000007, -1000000007, 2 ^ 31 - 1, -2 ^ 31 } do
              local ends = {}
              for sign = -1, 1, 2 do
                local coords = coords_of(rank, dims)
                coords[d] = coords[d] + sign * disp
                local there = periods[d] or (coords[d] >= 0 and coords[d] < dims[d])
                coords[d] = coords[d] % dims[d]
                local r = 0
                for e = 1, ndim do r = r * dims[e] + coords[e] end
                ends[#ends + 1] = there and r or PROC_NULL
              end
              got[#got + 1], expected[#expected + 1] = { cart.cart_shift(grid, d - 1, disp) }, ends
            end
            if periods[d] then
              local coords = coords_of(rank, dims)
              coords[d] = coords[d] - 5 * dims[d]
              got[#got + 1], expected[#expected + 1] = cart.cart_rank(grid, coords), rank
            end
          end
          grid:free()
          if not pcall(assert.same, expected, got) then
            problems[#problems + 1] = table.concat(dims, " x ") .. ", periods " .. mask
          end
        end
      end
    end
    assert.same({}, problems)
  end)

  it("takes lists of many entries, in whatever order they were made", function()
    for ndim = 2, 6 do
      local dims, periods, coords, unordered = {}, {}, {}, {}
      for d = 1, ndim do
        dims[d], periods[d], coords[d] = d == ndim and size or 1, d % 2 == 0, d == ndim and rank or 0
      end
      for d = ndim, 1, -1 do unordered[d] = coords[d] end
      local grid = cart.cart_create(dims, periods)
      local got = { { cart.cart_get(grid) }, cart.cart_coords(grid), cart.cart_rank(grid, unordered) }
      grid:free()
      assert.same({ { dims, periods, coords }, coords, rank }, got)
    end
  end)

  it("remains one when it is duplicated, and what comes after it is none", function()
    local grid = cart.cart_create({ size, 1 }, { true, false })
    local copy = grid:dup()
    grid:free()
    local got = { { cart.cart_get(copy) }, cart.cart_rank(copy, { rank - size, 0 }) }
    copy:free()
    local plain = mpi.COMM_WORLD:dup()
    refuses(function() cart.cart_get(plain) end, "nmpi.cart.cart_get", "argument 'comm'", "a Cartesian communicator")
    refuses(function() cart.cart_rank(mpi.COMM_WORLD, { 0 }) end, "argument 'comm'", "a Cartesian communicator")
    plain:free()
    assert.same({ { { size, 1 }, { true, false }, { rank, 0 } }, rank }, got)
  end)

  it("may have no place for some, and be reordered", function()
    local few = math.max(size - 1, 1)
    local grid = cart.cart_create({ few }, nil, true)
    if rank >= few and size > 1 then
      assert.is_true(grid == NULL)
    else
      assert.equal(few, grid:size())
      grid:free()
    end
    local inner = cart.cart_create({ 1, 1 }, { true, false }, false, SELF)
    assert.same({ 0, 0 }, (cart.cart_coords(inner)))
    inner:free()
  end)

  it("falls into rows and columns, whose messages stay apart", function()
    local dims = cart.dims_create(size, { 0, 0 })
    local grid = cart.cart_create(dims, { true, false })
    local row, column = cart.cart_sub(grid, { false, true }), cart.cart_sub(grid, { true, false })
    local coords = cart.cart_coords(grid)
    local _, in_row = mpi.allreduce(rank, mpi.SUM, row)
    local _, in_column = mpi.allreduce(rank, mpi.SUM, column)
    local got = { row:size(), row:rank(), column:size(), column:rank(), in_row, in_column, { cart.cart_get(column) } }
    local column_grid = { { dims[1] }, { true }, { coords[1] } }
    local row_sum, column_sum = 0, 0
    for r = 0, size - 1 do
      local other = coords_of(r, dims)
      if other[1] == coords[1] then row_sum = row_sum + r end
      if other[2] == coords[2] then column_sum = column_sum + r end
    end
    row:free()
    column:free()
    grid:free()
    assert.same({ dims[2], coords[2], dims[1], coords[1], row_sum, column_sum, column_grid }, got)
  end)

  it("is refused where it cannot be", function()
    local function refused(dims, periods, reorder, comm, ...)
      refuses(function() cart.cart_create(dims, periods, reorder, comm) end, "nmpi.cart.cart_create: ", ...)
    end
    refused({ size + 1 }, nil, nil, nil, "argument 'dims'", "at most " .. size)
    refused({ 2 ^ 30, 2 ^ 30, 2 ^ 30 }, nil, nil, nil, "argument 'dims'")
    refused({ 0 }, nil, nil, nil, "argument 'dims'", "at least 1")
    refused({ -1 }, nil, nil, nil, "argument 'dims'")
    refused({}, nil, nil, nil, "argument 'dims'", "1 to 32")
    refused(nil, nil, nil, nil, "argument 'dims'")
    refused({ 1 }, 1, nil, nil, "argument 'periods'")
    refused({ 1 }, { true, true }, nil, nil, "argument 'periods'", "1 dimensions")
    refused({ 1 }, { 1 }, nil, nil, "argument 'periods'")
    refused({ 1 }, true, 1, nil, "argument 'reorder'")
    refused({ 1 }, true, false, 1, "argument 'comm'")
    refused({ 1 }, true, false, NULL, "null communicator")
  end)

  it("is asked with what fits it", function()
    local grid = cart.cart_create({ 1, 1 }, { true, false }, false, SELF)
    local where = "nmpi.cart."
    refuses(function() cart.cart_coords(grid, 1) end, where .. "cart_coords", "argument 'rank'")
    refuses(function() cart.cart_coords(grid, -1) end, where .. "cart_coords", "argument 'rank'")
    refuses(function() cart.cart_coords(grid, "0") end, where .. "cart_coords", "argument 'rank'")
    refuses(function() cart.cart_rank(grid, { 0 }) end, where .. "cart_rank", "argument 'coords'", "2 dimensions")
    refuses(function() cart.cart_rank(grid, { 0, 1 }) end, where .. "cart_rank", "argument 'coords'", "dimension 1")
    refuses(function() cart.cart_rank(grid, { 0, "0" }) end, where .. "cart_rank", "argument 'coords'")
    refuses(function() cart.cart_rank(grid, { 0, 0, x = 0 }) end, where .. "cart_rank", "argument 'coords'",
      "without holes")
    refuses(function() cart.cart_rank(grid, { 0, [3] = 0 }) end, where .. "cart_rank", "argument 'coords'")
    refuses(function() cart.cart_rank(grid) end, where .. "cart_rank", "argument 'coords'")
    refuses(function() cart.cart_shift(grid, 2, 1) end, where .. "cart_shift", "argument 'direction'", "0 to 1")
    refuses(function() cart.cart_shift(grid, -1, 1) end, where .. "cart_shift", "argument 'direction'")
    refuses(function() cart.cart_shift(grid, 0) end, where .. "cart_shift", "argument 'disp'")
    refuses(function() cart.cart_shift(grid, 0, 2 ^ 40) end, where .. "cart_shift", "argument 'disp'")
    refuses(function() cart.cart_sub(grid, { true }) end, where .. "cart_sub", "argument 'remain'")
    refuses(function() cart.cart_sub(grid, { false, false }) end, where .. "cart_sub", "argument 'remain'")
    refuses(function() cart.cart_sub(grid) end, where .. "cart_sub", "argument 'remain'")
    grid:free()
    for _, name in ipairs { "cart_get", "cart_coords", "cart_rank", "cart_shift", "cart_sub" } do
      local second = name == "cart_rank" and { 0 } or name == "cart_sub" and { true } or 0
      refuses(function() cart[name](grid, second, 1) end, where .. name, "has been freed")
      refuses(function() cart[name](WORLD, second, 1) end, where .. name, "a Cartesian communicator")
      refuses(function() cart[name](NULL, second, 1) end, where .. name, "null communicator")
      refuses(function() cart[name](nil, second, 1) end, where .. name, "argument 'comm'")
    end
  end)
end)

describe("in a hot loop", function()
  local domain = cart.domain({ 16, 16 }, { comm = SELF, periodic = { true, false } })
  local field = domain:zeros()
  local blocking, nonblocking = domain:halo(field), domain:halo(field, { nonblocking = true })
  local full = domain:halo(field, { corners = true })
  local grid, at, free = cart.cart_create({ 1, 1, 1 }, { true, false, true }, false, SELF), { 7, 0, -7 }, { 0, 2, 0 }

  teardown(function()
    domain:free()
    grid:free()
  end)

  hot.define(it, pending, {
    { "halo:exchange", function(n)
      for _ = 1, n do hot.ensure(blocking:exchange() == SUCCESS) end
    end },
    { "halo:exchange with corners", function(n)
      for _ = 1, n do hot.ensure(full:exchange() == SUCCESS) end
    end },
    { "halo:exchange of a nonblocking halo", function(n)
      for _ = 1, n do hot.ensure(nonblocking:exchange() == SUCCESS) end
    end },
    { "halo:start and halo:finish", function(n)
      for i = 1, n do
        hot.ensure(nonblocking:start() == SUCCESS)
        field:set(5, 5, i)
        hot.ensure(nonblocking:finish() == SUCCESS)
      end
    end },
    { "cart_get", function(n)
      for _ = 1, n do
        local dims, periods, coords = cart.cart_get(grid)
        hot.ensure(dims[1] * dims[2] * dims[3] == 1 and periods[1] and not periods[2] and coords[3] == 0)
      end
    end },
    { "cart_coords", function(n)
      for _ = 1, n do
        local coords = cart.cart_coords(grid, 0)
        hot.ensure(coords[1] == 0 and coords[2] == 0 and coords[3] == 0)
      end
    end },
    { "cart_rank", function(n)
      for i = 1, n do
        at[1] = i
        hot.ensure(cart.cart_rank(grid, at) == 0)
      end
    end },
    { "cart_shift", function(n)
      for i = 1, n do
        local source, dest = cart.cart_shift(grid, i % 2, 1)
        hot.ensure(source == dest and (dest == 0) == (i % 2 == 0))
      end
    end },
    { "dims_create", function(n)
      for _ = 1, n do
        local dims = cart.dims_create(12, free)
        hot.ensure(dims[1] == 3 and dims[2] == 2 and dims[3] == 2)
      end
    end },
  })
end)
