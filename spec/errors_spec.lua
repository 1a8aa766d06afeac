-- SPDX-License-Identifier: MIT
-- Mistakes of the caller are Lua errors at the caller's line, in compiled code too; what MPI reports is a status.

local ffi = require "ffi"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
local hot = require "spec.support.hot"
local judge = require "spec.support.judge"

local WORLD, SELF, SUM = mpi.COMM_WORLD, mpi.COMM_SELF, mpi.SUM
local NULL = mpi.PROC_NULL
local rank, size = mpi.rank(), mpi.size()

local HERE = debug.getinfo(1, "S").short_src

-- ---- routines: the names of their arguments, and a call that is right and needs no other rank (`ranks` tells how many
-- its communicator has, if not 1) ----

local a, b, info = mpi.array { 1, 2, 3 }, mpi.zeros(3), mpi.status()

local routines = {
  { "rank", "comm", good = { SELF } },
  { "size", "comm", good = { SELF } },
  { "error_string", "status", good = { 0 } },
  { "error_class", "status", good = { 0 } },
  { "barrier", "comm", good = { SELF } },
  { "send", "data", "dest", "tag", "comm", good = { a, NULL, 0, WORLD }, ranks = size },
  { "recv", "data", "source", "tag", "comm", "info", good = { b, NULL, 0, WORLD, info }, ranks = size },
  { "sendrecv", "senddata", "dest", "recvdata", "source", "sendtag", "recvtag", "comm", "info",
    good = { a, 0, b, 0, 0, 0, SELF, info } },
  { "bcast", "data", "root", "comm", good = { a, 0, SELF } },
  { "scatter", "senddata", "recvdata", "count", "root", "comm", good = { a, b, 3, 0, SELF } },
  { "gather", "senddata", "recvdata", "count", "root", "comm", good = { a, b, 3, 0, SELF } },
  { "allgather", "senddata", "recvdata", "count", "comm", good = { a, b, 3, SELF } },
  { "reduce", "senddata", "recvdata", "op", "root", "comm", good = { a, b, SUM, 0, SELF } },
  { "allreduce", "senddata", "recvdata", "op", "comm", good = { a, b, SUM, SELF } },
  { "allreduce", "number", "op", "comm", good = { 1, SUM, SELF } },
}

-- ---- bad arguments: what is passed, what is expected, what is said to have come ----

local function freed()
  local array = mpi.zeros(3)
  array:free()
  return array
end

local memory = ffi.new "double[9]"
local pointer, null_pointer = ffi.cast("double *", memory), ffi.cast("double *", nil)
local thread = coroutine.create(function() end)

-- What is neither a number nor an array, communicator, operator or status.
local strange = {
  { "x", 'the string "x"' }, { {}, "a table" }, { true, "true" }, { print, "a function" },
  { thread, "a coroutine" }, { io.stdout, "file %(" }, { pointer, "cdata of type double %*" },
  { null_pointer, "cdata of type double %*" }, { ffi.cast("void *", nil), "cdata of type void %*" },
  { 5LL, "cdata of type int64_t" }, { ffi.new "nmpi_double_int", "cdata of type struct nmpi_double_int" },
}

local function without(values, ...)
  local rest, dropped = {}, {}
  for i = 1, select("#", ...) do dropped[select(i, ...)] = true end
  for _, value in ipairs(values) do
    if not dropped[value[1]] then rest[#rest + 1] = value end
  end
  return rest
end

local function list(expected, ...)
  local values = {}
  for _, part in ipairs { ... } do
    for _, value in ipairs(part) do
      values[#values + 1] = { value[1], expected = value.expected or expected, got = value[2] }
    end
  end
  return values
end

local objects = {
  comm = { WORLD, "cdata of type struct nmpi_comm %*" },
  op = { SUM, "cdata of type struct nmpi_op %*" },
  info = { info, "cdata of type struct nmpi_status" },
  array = { a, "an array of double, shape %(3,%)" },
  raw = { memory, "cdata of type double %[9%]" },
  number = { 5, "5" },
  no = { false, "false" },
}

-- Strings can be sent.
local data = list("an array %(nmpi or FFI%)", without(strange, "x"),
  { objects.comm, objects.op, objects.info, objects.no, objects.number },
  {
    { ffi.typeof "double[3]", "ctype<double %[3%]>" },
    { ffi.new "double *[3]", "cdata of type double %*%[3%]" },
    { freed(), "one that has been freed", expected = "an array" },
    { ffi.cast("nmpi_array *", nil), "nil", expected = "an array" },
    { mpi.IN_PLACE, "IN_PLACE is not allowed here", expected = "" },
  })

local unwritable = list("a writable array", { strange[1] })

local recvdata = list(nil, {
  { ffi.new("const double[3]", { 1, 2, 3 }), "a read%-only one", expected = "a writable array" },
  { ffi.new("const double[?]", 3, { 1, 2, 3 }), "a read%-only one", expected = "a writable array" },
  { mpi.wrap(ffi.new("const double[3]", { 1, 2, 3 })), "a read%-only one", expected = "a writable array" },
  { mpi.wrap(ffi.new("const double[6]")):slice { 0, 6, 2 }, "a read%-only one", expected = "a writable array" },
  { mpi.wrap(memory, 3, nil, 0), "", expected = "a view whose elements do not overlap" },
  { mpi.wrap(memory, { 3, 3 }, nil, { 1, 0 }), "", expected = "a view whose elements do not overlap" },
  { mpi.wrap(memory, { 3, 3 }, nil, { 2, 1 }), "", expected = "a view whose elements do not overlap" },
})

local whole = list("a whole number", strange, { objects.comm, objects.array, objects.no }, {
  { 0.5, "0.5" }, { 0 / 0, "%-?nan" }, { math.huge, "inf" }, { -math.huge, "%-inf" }, { 2 ^ 31, "2147483648" },
  { -2 ^ 31 - 1, "%-2147483649" }, { 2 ^ 53, "9.007" }, { ffi.new("int", 1), "cdata of type int" },
})

-- A count is an int64, of which a double must hold it.
local count = list("a whole number", {
  { "x", 'the string "x"' }, { {}, "a table" }, { true, "true" }, { print, "a function" }, { pointer, "cdata of type" },
  { 0.5, "0.5" }, { 0 / 0, "%-?nan" }, { math.huge, "inf" }, { 2 ^ 54, "1.80" }, { -1, "%-1" }, { -2 ^ 53, "%-9.007" },
  { -5LL, "cdata of type int64_t", expected = "a whole number of at least 0" },
}, { objects.comm, objects.array, objects.no })

-- Ranks outside of a communicator of n; MPI's own constants are all negative and above -77.
local function outside(n, wildcards)
  return list(("a rank from 0 to %d"):format(n - 1) .. wildcards, {
    { n, tostring(n) }, { -77, "%-77" }, { 2 ^ 31 - 1, "2147483647" }, { -2 ^ 31, "%-2147483648" },
  })
end

local function negative_tag(more)
  local values = list("a tag from 0 to " .. core.nmpi_tag_ub() .. more, {
    { -77, "%-77" }, { -2 ^ 31, "%-2147483648" }, more == "" and { mpi.ANY_TAG, "%-1" } or nil,
  })
  if core.nmpi_tag_ub() < 2 ^ 31 - 1 then
    values[#values + 1] = { core.nmpi_tag_ub() + 1, expected = values[1].expected,
      got = tostring(core.nmpi_tag_ub() + 1) }
  end
  return values
end

local freed_comm = SELF:dup()
freed_comm:free()

local comm = list("a communicator", strange,
  { objects.op, objects.info, objects.array, objects.number, objects.no },
  {
    { SELF:group(), "cdata of type struct nmpi_group %*" },
    { ffi.cast("nmpi_comm *", nil), "cdata of type struct nmpi_comm %*" },
    { mpi.COMM_NULL, "the null communicator" },
    { freed_comm, "one that has been freed" },
  })

local op = list("an operator such as SUM", strange,
  { objects.comm, objects.info, objects.array, objects.raw, objects.number, objects.no })

local status_object = list("an mpi.status%(%)", strange,
  { objects.comm, objects.op, objects.array, objects.number, objects.no })

local missing = { nil, expected = "", got = "nil" }

local function join(...)
  local values = {}
  for _, part in ipairs { ... } do
    for _, value in ipairs(part) do values[#values + 1] = value end
  end
  return values
end

-- The bad values of an argument of a routine.
local function bad_values(routine, name)
  local n = routine.ranks or 1
  if name == "comm" then return comm end
  if name == "info" then return status_object end
  if name == "op" then
    -- An array in this place would be the receive buffer of the number.
    return routine[2] == "number" and without(op, a, memory) or op
  end
  if name == "status" then return join(whole, { missing }) end
  if name == "dest" then return join(whole, outside(n, " or PROC_NULL"), { missing }) end
  if name == "source" then return join(whole, outside(n, ", ANY_SOURCE or PROC_NULL")) end
  if name == "root" then return join(whole, outside(n, "")) end
  if name == "tag" and routine[1] == "recv" or name == "recvtag" then
    return join(whole, negative_tag " or ANY_TAG")
  end
  if name == "tag" or name == "sendtag" then return join(whole, negative_tag "") end
  if name == "recvdata" and routine[1] == "scatter" then
    return join(without(data, mpi.IN_PLACE), unwritable, recvdata, { missing })
  end
  if name == "recvdata" or routine[1] == "recv" then return join(data, unwritable, recvdata, { missing }) end
  if name == "senddata" and routine[1]:find "reduce" then
    -- Numbers and IN_PLACE are welcome.
    return join(without(data, 5, mpi.IN_PLACE), { missing })
  end
  if name == "senddata" and routine[1]:find "gather" then return join(without(data, mpi.IN_PLACE), { missing }) end
  if name == "count" then return count end
  if name == "number" then return {} end
  return join(data, { missing })
end

-- ---- calls with one argument that changes: all in one line each, so that the line is known ----

local callers = {
  function(f, v, g) for i = 1, v.n do f(v[i], g[2], g[3], g[4], g[5], g[6], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], v[i], g[3], g[4], g[5], g[6], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], v[i], g[4], g[5], g[6], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], g[3], v[i], g[5], g[6], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], g[3], g[4], v[i], g[6], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], g[3], g[4], g[5], v[i], g[7], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], g[3], g[4], g[5], g[6], v[i], g[8]) end end,
  function(f, v, g) for i = 1, v.n do f(g[1], g[2], g[3], g[4], g[5], g[6], g[7], v[i]) end end,
}

-- Nil if a message is right, else what is wrong.
local function wrong(ok, message, routine, line, name, value)
  if ok then return "no error" end
  if type(message) ~= "string" then return "an error that is no string, but " .. type(message) end
  local start = ("%s:%d: nmpi.%s: argument '%s': "):format(HERE, line, routine, name)
  if message:sub(1, #start) ~= start then return ("expected '%s...', got '%s'"):format(start, message) end
  local rest = message:sub(#start + 1)
  local expected = value.expected == "" and "" or "^expected " .. value.expected
  if not rest:find(expected) or not rest:find(value.got .. "[^,]*$") then
    return ("expected '%s ... got %s', got '%s'"):format(expected, value.got, rest)
  end
  return nil
end

-- Calls a routine `n` times, the last time with a bad argument.
local function call(routine, position, value, n, good)
  local f, caller, v = mpi[routine[1]], callers[position], { n = n }
  for i = 1, n - 1 do v[i] = good[position] end
  v[n] = value[1]
  local _, looped, ok, message
  if n == 1 then
    ok, message = pcall(caller, f, v, good)
  else
    _, looped, ok, message = hot.watch(caller, function() caller(f, v, good) end)
  end
  local problem = wrong(ok, message, routine[1], debug.getinfo(caller, "S").linedefined, routine[position + 1], value)
  return problem and ("%s, argument '%s' is %s: %s"):format(routine[1], routine[position + 1], value.got, problem),
    looped
end

for _, routine in ipairs(routines) do
  describe(table.concat(routine, " ", 1, 2), function()
    it("reports every bad argument", function()
      local problems = {}
      for position = 1, #routine - 1 do
        for _, value in ipairs(bad_values(routine, routine[position + 1])) do
          problems[#problems + 1] = call(routine, position, value, 1, routine.good)
        end
      end
      judge(problems)
    end)

    it("reports them from compiled code too", function()
      if not jit.status() then return end
      local problems = {}
      for position = 1, #routine - 1 do
        for _, value in ipairs(bad_values(routine, routine[position + 1])) do
          local problem, looped = call(routine, position, value, 300, routine.good)
          problems[#problems + 1] = problem
          if not looped then
            problems[#problems + 1] = ("%s: the loop with '%s' did not compile"):format(routine[1],
              routine[position + 1])
          end
        end
      end
      judge(problems)
    end)
  end)
end

-- ---- arguments that are wrong together ----

describe("arguments that do not fit each other", function()
  ffi.cdef [[
    struct nmpi_spec_a { int32_t x[2]; };
    struct nmpi_spec_b { int32_t y[2]; };
  ]]

  -- f is to raise `message` in the line where it is defined.
  local function raises(message, f)
    local ok, got = pcall(f)
    assert.is_false(ok)
    assert.equal(("%s:%d: nmpi.%s"):format(HERE, debug.getinfo(f, "S").linedefined, message), got)
  end

  local doubles, floats, four, raw = mpi.zeros(3), mpi.zeros(3, "float"), mpi.zeros(4), ffi.new "double[8]"

  it("in dtype", function()
    local expected = ": argument 'recvdata': expected the dtype of 'senddata', "
    raises("allreduce" .. expected .. "double, got float", function() mpi.allreduce(doubles, floats, SUM, SELF) end)
    raises("reduce" .. expected .. "float, got double", function() mpi.reduce(floats, doubles, SUM, 0, SELF) end)
    raises("reduce" .. expected .. "float, got double", function() mpi.reduce(floats, doubles, nil, rank) end)
    raises("allreduce" .. expected .. "double, got int32", function() mpi.allreduce(raw, ffi.new "int32_t[8]") end)
    raises("allreduce" .. expected .. "double, got float", function() mpi.allreduce(1, floats) end)
    local bytes, text = mpi.zeros(2, "int8"), mpi.zeros(2, "char")
    raises("allreduce" .. expected .. "int8, got char", function() mpi.allreduce(bytes, text) end)
    raises("reduce" .. expected .. "char, got int8", function() mpi.reduce("ab", bytes, SUM, rank) end)
  end)

  it("in size", function()
    local expected = ": argument 'recvdata': expected as many elements as 'senddata' has, "
    raises("allreduce" .. expected .. "3, got 4", function() mpi.allreduce(doubles, four) end)
    raises("reduce" .. expected .. "4, got 3", function() mpi.reduce(four, doubles, SUM, rank) end)
    raises("allreduce" .. expected .. "4, got 2", function() mpi.allreduce(four, four:slice { 0, 4, 2 }) end)
    raises("allreduce" .. expected .. "1, got 8", function() mpi.allreduce(rank, raw) end)
    raises("allreduce" .. expected .. "8, got 3", function() mpi.allreduce(raw, doubles, mpi.MAX, SELF) end)
    raises("reduce" .. expected .. "0, got 3", function() mpi.reduce(mpi.zeros(0), doubles, SUM, rank) end)
  end)

  it("in memory", function()
    local expected = ": argument 'recvdata': expected memory of its own, but it overlaps 'senddata'"
    raises("allreduce" .. expected, function() mpi.allreduce(doubles, doubles) end)
    raises("reduce" .. expected, function() mpi.reduce(doubles, doubles, SUM, rank) end)
    raises("sendrecv" .. expected, function() mpi.sendrecv(doubles, 0, doubles, 0, 0, 0, SELF) end)
    raises("sendrecv" .. expected, function() mpi.sendrecv(four:slice { 0, 3 }, 0, four:slice { 2, 4 }, 0) end)
    raises("allreduce" .. expected, function() mpi.allreduce(raw, raw, SUM, SELF) end)
    raises("allreduce" .. expected, function() mpi.allreduce(mpi.wrap(raw, 4), mpi.wrap(raw + 3, 4)) end)
    -- Neighbours do not overlap.
    assert.equal(0, mpi.sendrecv(four:slice { 0, 2 }, 0, four:slice { 2, 4 }, 0, 0, 0, SELF))
    assert.equal(0, mpi.allreduce(four:slice { 2, 4 }, four:slice { 0, 2 }, SUM, SELF))
    assert.equal(0, mpi.sendrecv(four:slice { 1, 1 }, 0, four:slice { 0, 4 }, 0, 0, 0, SELF))
  end)

  it("in root and buffer", function()
    local nothing = ": argument 'recvdata': expected an array, got nil"
    raises("reduce" .. nothing, function() mpi.reduce(doubles, nil, SUM, rank) end)
    raises("allreduce" .. nothing, function() mpi.allreduce(mpi.IN_PLACE, nil, SUM) end)
    raises("reduce" .. nothing, function() mpi.reduce(mpi.IN_PLACE, nil, SUM, 0, SELF) end)
    raises("reduce: argument 'recvdata': IN_PLACE is not allowed here",
      function() mpi.reduce(mpi.IN_PLACE, mpi.IN_PLACE, SUM, 0, SELF) end)
    if size > 1 then
      local other = (rank + 1) % size
      raises("reduce: argument 'senddata': IN_PLACE is not allowed here",
        function() mpi.reduce(mpi.IN_PLACE, doubles, SUM, other) end)
      raises("reduce: argument 'senddata': expected an array, got nil",
        function() mpi.reduce(nil, doubles, SUM, other) end)
      raises("bcast: argument 'data': expected a writable array, got a read-only one",
        function() mpi.bcast(ffi.new "const double[3]", other) end)
      raises("bcast: argument 'data': expected a view whose elements do not overlap: it is written to",
        function() mpi.bcast(mpi.wrap(raw, 3, nil, 0), other) end)
    end
  end)

  it("in place, where the view repeats an element", function()
    raises("allreduce: argument 'recvdata': expected a view whose elements do not overlap: it is written to",
      function() mpi.allreduce(mpi.IN_PLACE, mpi.wrap(raw, 3, nil, 0), SUM, SELF) end)
  end)

  it("in rank and communicator", function()
    raises(("send: argument 'dest': expected a rank from 0 to %d or PROC_NULL, got %d"):format(size - 1, size),
      function() mpi.send(doubles, size) end)
    raises("send: argument 'dest': expected a rank from 0 to 0 or PROC_NULL, got 1",
      function() mpi.send(doubles, 1, 0, SELF) end)
    raises(("send: argument 'dest': expected a rank from 0 to %d or PROC_NULL, got %d"):format(size - 1,
      mpi.ANY_SOURCE), function() mpi.send(doubles, mpi.ANY_SOURCE) end)
    for _, root in ipairs { mpi.ANY_SOURCE, NULL, size } do
      raises(("bcast: argument 'root': expected a rank from 0 to %d, got %d"):format(size - 1, root),
        function() mpi.bcast(doubles, root) end)
      raises(("reduce: argument 'root': expected a rank from 0 to %d, got %d"):format(size - 1, root),
        function() mpi.reduce(doubles, four, SUM, root) end)
    end
  end)

  it("in structs of different names", function()
    local left, right = mpi.zeros(2, "struct nmpi_spec_a"), mpi.zeros(2, "struct nmpi_spec_b")
    assert.error_matches(function() mpi.allreduce(left, right, SUM, SELF) end, "expected the dtype of 'senddata'")
  end)
end)

-- What is sent may be read-only, and may repeat elements.
describe("what is no mistake", function()
  it("is sending from const memory and from views that repeat elements", function()
    local repeated = mpi.wrap(ffi.new("double[2]", { 5, 6 }), { 2, 3 }, nil, { 1, 0 })
    local got = mpi.zeros { 2, 3 }
    local status = mpi.sendrecv(repeated, 0, got, 0, 0, 0, SELF)
    status = status + mpi.allreduce(repeated, mpi.zeros(6), SUM, SELF)
    status = status + mpi.bcast(repeated, 0, SELF)
    assert.equal(0, status)
    assert.same({ { 5, 5, 5 }, { 6, 6, 6 } }, got:totable())
  end)
end)

-- ---- where an error says it is ----

describe("the place of an error", function()
  local function place(f)
    local ok, message = pcall(f)
    assert.is_false(ok)
    return message:match "^(.-:%d+): nmpi%.send: argument 'data': "
  end

  local function line_of(f, offset)
    return ("%s:%d"):format(HERE, debug.getinfo(f, "S").linedefined + offset)
  end

  it("is the line of the call, in functions and methods of any depth", function()
    local function f()
      local x = 1
      mpi.send({}, 0)
      return x
    end
    assert.equal(line_of(f, 2), place(f))
    assert.equal(line_of(f, 2), place(function() f() end))
  end)

  it("is the line of pcall, where that calls the routine itself", function()
    local message
    local function f() message = select(2, pcall(mpi.send, {}, 0)) end
    f()
    assert.equal(line_of(f, 0), message:match "^(.-:%d+): ")
  end)

  it("is the line of the call in a coroutine", function()
    local function f() mpi.send({}, 0) end
    local _, message = coroutine.resume(coroutine.create(f))
    assert.equal(line_of(f, 0), message:match "^(.-:%d+): ")
  end)

  it("is the chunk's own name for code from a string", function()
    local f = assert(loadstring("local mpi = ...\n\nmpi.send({}, 0)", "=chunk"))
    local _, message = pcall(f, mpi)
    assert.matches("^chunk:3: nmpi%.send: argument 'data': expected an array %(nmpi or FFI%).*, got a table$", message)
  end)
end)

describe("abort", function()
  it("reports bad arguments before it aborts", function()
    local problems = {}
    local routine = { "abort", "code", "comm" }
    for _, value in ipairs(without(whole, false)) do
      problems[#problems + 1] = call(routine, 1, value, 1, { 1, WORLD })
    end
    for _, value in ipairs(comm) do problems[#problems + 1] = call(routine, 2, value, 1, { 1, WORLD }) end
    judge(problems)
  end)
end)

-- ---- statuses ----

describe("statuses", function()
  local classes = {}
  for name, value in pairs(mpi) do
    if name:find "^ERR_" then classes[name] = value end
  end

  it("are whole numbers, 0 for success", function()
    assert.equal(0, mpi.SUCCESS)
    local seen = { [0] = "SUCCESS" }
    for name, value in pairs(classes) do
      assert(type(value) == "number" and value % 1 == 0 and value > 0, name)
      assert(not seen[value], name .. " is the same as " .. tostring(seen[value]))
      seen[value] = name
    end
    for _, name in ipairs { "BUFFER", "COUNT", "TYPE", "TAG", "COMM", "RANK", "REQUEST", "ROOT", "GROUP", "OP", "ARG",
      "TRUNCATE", "OTHER", "INTERN", "IN_STATUS", "PENDING", "NO_MEM", "WIN", "FILE", "IO", "LASTCODE" } do
      assert.is_number(mpi["ERR_" .. name])
      assert(mpi["ERR_" .. name] <= mpi.ERR_LASTCODE, name)
    end
  end)

  it("have classes, and classes are their own", function()
    assert.same({ mpi.SUCCESS }, { mpi.error_class(mpi.SUCCESS) })
    for name, value in pairs(classes) do
      if name ~= "ERR_LASTCODE" then assert.equal(value, mpi.error_class(value), name) end
    end
  end)

  it("have texts, all different", function()
    local seen = {}
    for name, value in pairs(classes) do
      if name ~= "ERR_LASTCODE" then
        local text = mpi.error_string(value)
        assert(type(text) == "string" and #text > 0, name)
        assert(not seen[text], ("%s reads as %s: %s"):format(name, tostring(seen[text]), text))
        seen[text] = name
      end
    end
    assert.is_nil(seen[mpi.error_string(mpi.SUCCESS)])
  end)

  it("come from MPI with a class and a text", function()
    local status = mpi.sendrecv(mpi.zeros(5), 0, mpi.zeros(2), 0, 0, 0, SELF)
    assert.is_true(status > 0)
    assert.equal(mpi.ERR_TRUNCATE, mpi.error_class(status))
    assert.matches("[Tt]runcate", mpi.error_string(status))
  end)

  it("of waitall tell of a failure, and all requests have completed", function()
    local right, left = (rank + 1) % size, (rank - 1) % size
    local found, expected = {}, {}
    for round = 1, 20 do
      local short, long = mpi.zeros(1), mpi.zeros(3)
      local _, first = mpi.irecv(short, left, 1)
      local _, second = mpi.irecv(long, left, 2)
      local requests = round % 4 < 2 and { first, second } or { second, first }
      mpi.send(a, right, 1)
      mpi.send(a, right, 2)
      if round % 2 == 0 then mpi.barrier() end
      local status = mpi.waitall(requests)
      found[round] = { mpi.error_class(status), requests[1], requests[2], long[0], long[1], long[2] }
      expected[round] = { mpi.ERR_TRUNCATE, mpi.REQUEST_NULL, mpi.REQUEST_NULL, 1, 2, 3 }
    end
    assert.same(expected, found)
  end)

  it("that MPI never gave out are explained, whatever their bits", function()
    for k = 0, 2047 do
      for _, low in ipairs { 0, 1, 15, 127, 255 } do assert(#mpi.error_string(k * 256 + low) > 0) end
    end
    for _, status in ipairs { 99999999, 1046 * 256 + 15 } do
      assert.equal(status .. " is not an error code of this MPI", mpi.error_string(status):match "^[^\n]*")
    end
  end)

  it("that are none are explained as such", function()
    for _, status in ipairs { -1, -77, -2 ^ 31 } do
      assert.equal(status .. " is not an error code of this MPI", mpi.error_string(status))
      assert.equal(mpi.ERR_UNKNOWN, mpi.error_class(status))
    end
    for _, status in ipairs { mpi.ERR_LASTCODE + 1000, 2 ^ 30 + 77, 2 ^ 31 - 1 } do
      assert.is_true(#mpi.error_string(status) > 0)
      assert.is_number(mpi.error_class(status))
    end
  end)
end)
