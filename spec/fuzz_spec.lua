-- SPDX-License-Identifier: MIT
-- Random arguments for every routine and method: each call returns or raises a Lua error. Of what a script may pass
-- only this is left out: pointers that lie about what they point to, indices of elements out of bounds (checked under
-- NMPI_DEBUG only), what would use up the machine's memory, and receives and probes of what nobody sends.

local ffi = require "ffi"
local mpi = require "nmpi"
local cart = require "nmpi.cart"
local thread = require "nmpi.thread"
require "spec.support.data" -- declares structs

local SELF = mpi.COMM_SELF
-- NMPI_TEST_ROUNDS=100 is for long runs by hand.
local ROUNDS = (tonumber(os.getenv "NMPI_TEST_ROUNDS") or 1) * (jit.status() and 1 or 0.3)
local rank = mpi.rank()

-- ---- chance ----

local state = 0

-- A whole number from 1 to n, the same on every machine.
local function draw(n)
  state = (state * 16807) % 2147483647
  return math.floor(state / 2147483647 * n) + 1
end

local function seed(k)
  state = (k * 7919 + 17) % 2147483646 + 1
  for _ = 1, 5 do draw(1) end
end

local function pick(list)
  return list[draw(#list)]
end

-- ---- values: each entry makes one, so that what a call frees or completes is not used by the next ----

local function ignore() end

local function freed()
  local a = mpi.zeros(3)
  a:free()
  return a
end

local unnamed = ffi.new "struct { int x; double y[2]; }"
local readonly = ffi.new("const double[4]", 1)

local numbers = {
  0, 1, 2, 3, -1, -2, 4, 7, 8, 9, 100, 0.5, -0.5, 1e-300, 0 / 0, 1 / 0, -1 / 0, 2 ^ 31, 2 ^ 31 - 1, -2 ^ 31,
  -2 ^ 31 - 1, 2 ^ 32, 2 ^ 53, -2 ^ 53, 2 ^ 63, 2 ^ 64, 1e308, -1e308, mpi.ANY_SOURCE,
  mpi.PROC_NULL, mpi.TAG_UB, mpi.TAG_UB + 1,
}

local plain = {
  function() return nil end,
  function() return true end,
  function() return false end,
  function() return pick { "", "double", "int32", "x", "struct nmpi_spec_colour", "F", "C", "nmpi_array", "int[3]",
    "void", "\0", ("x"):rep(3000), "%s%d%n" } end,
  function() return pick { {}, { 1 }, { 2, 3 }, { -1 }, { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { "x" }, { {} }, { 0, 4, 2 },
    { nil, nil, -1 }, { 0 / 0 }, { 2 ^ 62, 2 ^ 62 }, { 1, nil, 3 }, { x = 1 }, { { 1, 2 }, { 3, 4 } }, { 0 } } end,
  function() return setmetatable({}, { __index = function() error "index" end, __newindex = error }) end,
  function() return ignore end,
  function() return print end,
  function() return coroutine.create(ignore) end,
  function() return io.stdout end,
  function() return mpi end,
}

local cdata = {
  function() return ffi.cast("nmpi_array *", nil) end,
  function() return ffi.cast("nmpi_status *", nil) end,
  function() return ffi.cast("nmpi_comm *", nil) end,
  function() return ffi.cast("nmpi_op *", nil) end,
  function() return ffi.cast("void *", nil) end,
  function() return ffi.cast("double *", nil) end,
  function() return ffi.new "nmpi_array" end,
  function() return ffi.new "nmpi_array[2]" end,
  function() return ffi.new "nmpi_array *[2]" end,
  function() return ffi.new "nmpi_status[2]" end,
  function() return mpi.status() end,
  function() return 1LL end,
  function() return -1LL end,
  function() return 0x7fffffffffffffffLL end,
  function() return 0xffffffffffffffffULL end,
  function() return ffi.new("complex", 1, 2) end,
  function() return ffi.new "struct nmpi_spec_colour" end,
  function() return ffi.new("struct nmpi_spec_particle[3]") end,
  function() return unnamed end,
  function() return unnamed.y end,
  function() return ffi.C.memcmp end,
  function() return pick { ffi.typeof "double", ffi.typeof "nmpi_array", ffi.typeof "int[?]", ffi.typeof "struct {}",
    ffi.typeof "void *", ffi.typeof "nmpi_status", ffi.typeof "double[4]", ffi.typeof "struct nmpi_spec_colour" } end,
  function() return pick { SELF, mpi.COMM_WORLD } end,
  function() return pick { mpi.SUM, mpi.MAXLOC, mpi.BAND, mpi.LAND, mpi.MAX } end,
  function() return mpi.IN_PLACE end,
}

local dtypes = { "int8", "uint16", "int32", "int64", "uint64", "float", "double", "complex double", "bool", "char",
  "double_int", "struct nmpi_spec_colour" }

local arrays = {
  freed,
  function() return mpi.zeros(4) end,
  function() return mpi.zeros(pick { 0, 1, 4, 100 }, pick(dtypes)) end,
  function() return mpi.zeros({ 2, 3 }, pick(dtypes), pick { "C", "F" }) end,
  function() return mpi.zeros {} end,
  function() return mpi.zeros({ 1, 2, 1, 2, 1, 2, 1, 2 }, pick(dtypes)) end,
  function() return mpi.zeros { 3, 0, 2 } end,
  function() return mpi.zeros(8):slice { nil, nil, pick { -1, 2, -3 } } end,
  function() return mpi.zeros({ 3, 4 }, pick(dtypes)):transpose() end,
  function() return mpi.zeros(4, "int64") end,
  function() return mpi.wrap(readonly) end,
  function() return mpi.wrap(ffi.new "double[4]", { 4, 4 }, "double", { 0, 1 }) end,
  function() return ffi.new "double[4]" end,
  function() return ffi.new("int[?]", pick { 0, 3 }) end,
  function() return ffi.new("int64_t[?]", 4) end,
  function() return readonly end,
  function() return mpi.requests(3) end,
  function() return ffi.cast("nmpi_array *", mpi.IN_PLACE) end,
}

-- What still has to be completed after a call.
local pending

local function begin(code, r)
  if code == mpi.SUCCESS and type(r) == "number" then pending[#pending + 1] = r end
  return r
end

local requests = {
  function() return mpi.REQUEST_NULL end,
  function() return begin(mpi.isend(mpi.zeros(3), mpi.PROC_NULL, 0, SELF)) end,
  function() return begin(mpi.send_init(mpi.zeros(3), mpi.PROC_NULL, 0, SELF)) end,
  function() return begin(mpi.recv_init(mpi.zeros(8):slice { nil, nil, 2 }, mpi.PROC_NULL, 0, SELF)) end,
  function()
    local r = begin(mpi.isend(mpi.zeros(3), mpi.PROC_NULL, 0, SELF))
    mpi.wait(r)
    return r
  end,
  function() return draw(2 ^ 30) * 2 ^ draw(22) + draw(3) - 2 end, -- made up
  function() return 2 ^ 20 * draw(1000) + draw(70) - 1 end,
  function() return ffi.cast("int64_t", begin(mpi.irecv(ffi.new "double[3]", mpi.PROC_NULL, 0, SELF))) end,
  function() return 2 ^ 45 * draw(300) + 2 ^ 20 end, -- of another thread
}

local function request_list()
  local list = {}
  for k = 1, draw(5) - 1 do list[k] = pick(requests)() end
  if draw(2) == 1 then return list end
  local array = mpi.requests(#list)
  for k = 1, #list do array[k - 1] = list[k] end
  if draw(4) == 1 then return mpi.wrap(array) end
  return array
end

local function any()
  local kind = draw(16)
  if kind <= 4 then return pick(numbers) end
  if kind <= 6 then return pick(plain)() end
  if kind <= 8 then return pick(cdata)() end
  if kind <= 13 then return pick(arrays)() end
  if kind == 14 then return request_list() end
  return pick(requests)()
end

-- ---- what fits ----

-- An argument of each kind is mostly of that kind, so that a call gets past the first check.
local function mostly(make)
  return function()
    if draw(4) == 1 then return any() end
    return make()
  end
end

local data = mostly(function() return pick(arrays)() end)
local peer = mostly(function() return pick { 0, mpi.PROC_NULL } end)
local nobody = function() return mpi.PROC_NULL end
local tag = mostly(function() return pick { 0, 1, 5 } end)
local root = mostly(function() return 0 end)
local count = mostly(function() return pick { 0, 1, 3, 4 } end)
local function self() return SELF end
local info = mostly(function() return draw(2) == 1 and mpi.status() or nil end)
local op = mostly(function() return pick { mpi.SUM, mpi.MAX, mpi.BAND, mpi.MAXLOC } end)
local operation = mostly(function()
  return pick { "x + y", "x +", "", function(invec, inoutvec, n) inoutvec[n] = invec[n] end, print, op }
end)
local options = mostly(function()
  return pick { {}, { commute = true }, { dtype = "double" }, { dtype = "none" }, { cdef = "int" }, { commute = 1 } }
end)
local request = mostly(function() return pick(requests)() end)
local list = mostly(request_list)
local dtype = mostly(function() return pick(dtypes) end)
local order = mostly(function() return pick { "C", "F" } end)
local shape = mostly(function()
  return pick { 0, 3, 4, { 2, 2 }, { -1 }, { 4, 1 }, { 1, -1, 1 }, {}, { 2, 3 }, 2 ^ 60, { 2 ^ 40, 2 ^ 40 } }
end)
local range = mostly(function()
  return pick { 0, -1, 1, { 1 }, { 0, 2 }, { nil, nil, -1 }, { 3, 0, -2 }, { 0, 0 }, { -1, 0, -1 }, {}, { 0, 9 } }
end)
local whole = mostly(function() return draw(5) - 2 end)
local array = function() return pick(arrays)() end

-- Sizes that would be granted, and touched: the machine's memory is not under test.
local function modest(value)
  if type(value) == "number" then return not (value > 1e5 and value < 2 ^ 50) end
  if type(value) ~= "table" then return true end
  local product, ok = 1, true
  for _, extent in pairs(value) do
    ok = ok and modest(extent)
    if type(extent) == "number" and extent > 0 then product = product * extent end
  end
  return ok and modest(product)
end

local function small(make)
  return function()
    local value = make()
    return modest(value) and value or 3
  end
end

-- Arguments by routine. Communicators are COMM_SELF, or what any() brings; receives come from nobody.
local routines = {
  rank = { any }, size = { any }, error_string = { any }, error_class = { any }, query_thread = { any }, info = { any },
  initialized = { any }, finalized = { any }, wtime = { any }, wtick = { any },
  zeros = { small(shape), dtype, order }, empty = { small(shape), dtype, order }, array = { small(any), dtype, order },
  wrap = { array, small(shape), dtype, range }, requests = { small(whole) }, status = { any },
  send = { data, nobody, tag, self }, ssend = { data, nobody, tag, self }, rsend = { data, nobody, tag, self },
  bsend = { data, peer, nobody, self }, recv = { data, nobody, tag, self, info },
  sendrecv = { data, nobody, data, nobody, tag, tag, self, info },
  sendrecv_replace = { data, nobody, nobody, tag, tag, self, info },
  probe = { nobody, tag, self, info }, iprobe = { peer, tag, self, info }, mprobe = { nobody, tag, self, info },
  improbe = { peer, tag, self, info }, mrecv = { data, request, info }, imrecv = { data, request },
  isend = { data, nobody, tag, self }, issend = { data, nobody, tag, self }, irsend = { data, nobody, tag, self },
  ibsend = { data, nobody, tag, self }, irecv = { data, nobody, tag, self },
  send_init = { data, nobody, tag, self }, recv_init = { data, nobody, tag, self },
  start = { request }, startall = { list }, request_free = { request }, cancel = { request },
  wait = { request, info }, test = { request, info }, waitall = { list }, testall = { list },
  waitany = { list, info }, testany = { list, info }, waitsome = { list }, testsome = { list },
  barrier = { self }, bcast = { data, root, self }, scatter = { data, data, count, root, self },
  gather = { data, data, count, root, self }, allgather = { data, data, count, self },
  reduce = { data, data, op, root, self }, allreduce = { data, data, op, self },
  ireduce = { data, data, op, root, self }, iallreduce = { data, data, op, self },
  buffer_attach = { small(whole) }, buffer_detach = { any }, op = { operation, options },
}
routines.comm_create = { self, function() return SELF:group() end }
routines.create_group = { self, function() return SELF:group() end, tag }
-- What ends the program, and what changes what an array is for the calls that follow.
local excluded = { abort = true, finalize = true, register_buffer = true }

local methods = {
  slice = { range, range, range, range }, row = { whole }, col = { whole }, transpose = {}, reshape = { shape },
  flatten = {}, copy = { order }, fill = { any }, assign = { any }, totable = {}, tostring = {},
  is_contiguous = { order }, free = {},
}

-- Of a communicator, and of a group.
local function group() return draw(4) == 1 and any() or SELF:group() end

local comm_methods = {
  rank = {}, size = {}, create = { group }, create_group = { group, tag }, dup = {}, split = { whole, whole },
  split_type = { any, whole }, free = {}, compare = { any }, name = {}, set_name = { any }, group = {},
}
local group_methods = {
  rank = {}, size = {}, incl = { range }, excl = { range }, union = { group }, intersection = { group },
  difference = { group }, translate_ranks = { range, group }, compare = { group }, free = {},
}

-- Of nmpi.cart; a grid, a domain and a halo in COMM_SELF.
local grid = cart.cart_create({ 1, 1 }, { true, false }, false, SELF)
local domain = cart.domain({ 3, 4 }, { comm = SELF, periodic = { true, false } })
local halo = domain:halo(domain:zeros(), { nonblocking = true })

local a_grid = mostly(function() return grid end)
local field = mostly(function() return domain:zeros(pick(dtypes), pick { "C", "F" }) end)
local global = mostly(function() return mpi.zeros({ 3, 4 }, pick(dtypes)) end)
local halo_options = mostly(function() return { corners = draw(2) == 1, nonblocking = draw(2) == 1 } end)
local flags = mostly(function() return pick { true, false, { true }, { false, true } } end)

-- Without a communicator a domain would concern all ranks.
local function domain_options()
  local some = { comm = SELF }
  some[pick { "decomposition", "periodic", "halo", "split", "reorder", "other" }] = any()
  return some
end

local cart_routines = {
  dims_create = { whole, shape }, cart_create = { shape, flags, any, self }, cart_sub = { a_grid, flags },
  cart_get = { a_grid }, cart_coords = { a_grid, whole }, cart_rank = { a_grid, shape },
  cart_shift = { a_grid, whole, whole }, domain = { shape, domain_options },
}
local domain_methods = {
  extents = { whole }, zeros = { dtype, order }, interior = { field }, halo = { field, halo_options },
  exchange = { field, halo_options }, scatter_field = { global, field, root }, gather_field = { field, global, root },
}
local halo_methods = { exchange = {}, start = {}, finish = {} }

-- Of nmpi.thread.
local team_size = mostly(function()
  return pick { 1, 2, 0, { 1, main = true }, { 2, main = "yes" }, { 1, cdef = "int" }, { 1, cdef = "struct {" } }
end)
local work = mostly(function() return pick { ignore, function() return draw end, loadstring "return select(3, ...)",
  loadstring "return { ... }", loadstring "error(select(3, ...))" } end)

local function threads()
  local value = team_size()
  return type(value) == "number" and value > 2 and 2 or value
end

local thread_routines = {
  pool = { threads }, parallel = { threads, work, any, any }, team = { any }, fetch_add = { array, whole, whole },
}
local pool_methods = { run = { work, any, any, any }, close = {} }
local team_methods = {
  barrier = {}, reduce = { whole, op }, lock = {}, unlock = {}, range = { whole }, chunks = { whole, whole },
}

-- ---- calls ----

-- What a failure was about: written down before the call, since a crash leaves nothing else.
local trace = os.getenv "NMPI_TEST_TRACE"

local function show(v)
  local ok, text = pcall(tostring, v)
  return ok and (text:gsub("%s+", " "):sub(1, 60)) or type(v)
end

local function note(name, arguments, n)
  if not trace then return end
  local words = {}
  for i = 1, n do words[i] = show(arguments[i]) end
  local file = assert(io.open(trace .. rank, "w"))
  file:write(name, "(", table.concat(words, ", "), ")\n")
  file:close()
end

local function finish()
  for _, r in ipairs(pending) do
    -- Active ones come from or go to nobody: they complete.
    pcall(mpi.mrecv, mpi.zeros(1), r)
    pcall(mpi.wait, r)
    pcall(mpi.request_free, r)
  end
  pending = {}
end

local function check(name, ok, message)
  if ok then return end
  -- Raised by nmpi, FFI or LuaJIT: a string. What another one's metamethod raises is no concern of ours.
  assert(type(message) == "string", name .. " raised a " .. type(message))
  assert(not message:find "attempt to", name .. " raised: " .. message)
end

local function call(name, f, makers, first)
  local arguments, n = { first }, first ~= nil and 1 or 0
  for k = 1, #makers do arguments[n + k] = makers[k]() end
  n = n + #makers
  -- At times too few or too many.
  local chance = draw(12)
  if chance == 1 and n > 0 and not makers[n] then n = n - 1 end
  if chance == 2 then
    n = n + 1
    arguments[n] = any()
  end
  note(name, arguments, n)
  local results = { pcall(f, unpack(arguments, 1, n)) }
  check(name, results[1], results[2])
  -- Requests and messages that it has made.
  begin(results[2], results[3])
  begin(results[2], results[4])
  local made = results[2]
  if getmetatable(made) == getmetatable(domain) then made:free() end
  if type(made) == "cdata" and (ffi.istype("nmpi_comm *", made) or ffi.istype("nmpi_group *", made)
      or ffi.istype("nmpi_op *", made)) then
    pcall(made.free, made)
  end
end

describe("no call crashes, whatever its arguments:", function()
  before_each(function() pending = {} end)

  it("every routine is called", function()
    for name, f in pairs(mpi) do
      if type(f) == "function" then
        assert(routines[name] or excluded[name], name .. " is not among the routines that are called")
      end
    end
  end)

  local function sorted_names(signatures)
    local names = {}
    for name in pairs(signatures) do names[#names + 1] = name end
    table.sort(names)
    return names
  end

  it("routines", function()
    local names = sorted_names(routines)
    for round = 1, 60 * ROUNDS do
      for k, name in ipairs(names) do
        seed(round * 1000 + k)
        call(name, mpi[name], routines[name])
        finish()
      end
      if round % 10 == 0 then collectgarbage() end
    end
    mpi.buffer_detach()
  end)

  -- Calls each method of `some`, with a subject that is often of its kind.
  local function call_methods(label, some, signatures, subjects, rounds)
    local method_names = sorted_names(signatures)
    for round = 1, rounds * ROUNDS do
      for k, name in ipairs(method_names) do
        seed(round * 1000 + k + 500000)
        local subject = draw(5) == 1 and any() or pick(subjects)()
        local whole_job = ffi.istype("nmpi_comm *", subject) and subject == mpi.COMM_WORLD
        local constant = ffi.istype("nmpi_array", subject) and subject == mpi.IN_PLACE and name == "free"
        if not whole_job and not constant then call(label .. ":" .. name, some[name], signatures[name], subject) end
      end
      finish()
      if round % 20 == 0 then collectgarbage() end
    end
  end

  -- Calls each routine of a module; after each round `tidy`, if there is one.
  local function call_module(label, module, signatures, rounds, first_seed, tidy)
    for name in pairs(module) do assert(signatures[name], name .. " is not among the routines that are called") end
    local names = sorted_names(module)
    for round = 1, rounds * ROUNDS do
      for k, name in ipairs(names) do
        seed(round * 1000 + k + first_seed)
        call(label .. "." .. name, module[name], signatures[name])
      end
      if tidy then tidy() end
    end
  end

  it("methods of arrays", function()
    call_methods("array", mpi.zeros(2), methods, arrays, 200)
  end)

  it("methods of communicators and groups", function()
    local dup
    call_methods("comm", SELF, comm_methods, {
      function() return SELF end,
      function()
        if dup then pcall(dup.free, dup) end
        dup = SELF:dup()
        return dup
      end,
      function()
        local comm = SELF:dup()
        comm:free()
        return comm
      end,
      function() return ffi.cast("nmpi_comm *", nil) end,
    }, 60)
    pcall(dup.free, dup)
    call_methods("group", SELF:group(), group_methods, {
      function() return SELF:group() end,
      function() return mpi.COMM_WORLD:group() end,
      function()
        local g = SELF:group()
        g:free()
        return g
      end,
      function() return ffi.cast("nmpi_group *", nil) end,
    }, 60)
  end)

  it("grids", function()
    call_module("cart", cart, cart_routines, 60, 700000)
    call_methods("domain", domain, domain_methods, { function() return domain end, function() return halo end }, 60)
    call_methods("halo", halo, halo_methods, { function() return halo end }, 30)
    halo:finish()
    grid:free()
    domain:free()
  end)

  it("teams of threads", function()
    call_module("thread", thread, thread_routines, 12, 900000, collectgarbage)
    local pool = thread.pool { 2, main = true }
    call_methods("pool", pool, pool_methods, {
      function() return pool end,
      function()
        pool:close()
        pool = thread.pool { 2, main = true }
        return pool
      end,
    }, 20)
    pool:close()
    -- The function of a thread has no upvalues.
    rawset(_G, "nmpi_spec_fuzz", function(team)
      call_methods("team", team, team_methods, { function() return team end }, 60)
    end)
    thread.parallel({ 1, main = true }, function()
      nmpi_spec_fuzz(require("nmpi.thread").team()) -- luacheck: ignore 113
    end)
    rawset(_G, "nmpi_spec_fuzz", nil)
  end)
end)
