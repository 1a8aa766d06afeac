-- SPDX-License-Identifier: MIT
-- nmpi and mpi4py in one job. Each test writes a plan: a line for each case, of tab-separated fields `name=content`,
-- which both halves follow, spec/support/interop/peer.lua and peer.py. Each rank counts what it received and checked.

local job = require "spec.support.job"
local getenv = os.getenv

local LIBRARY = getenv "NMPI_TEST_MPI" == "openmpi" and "Open MPI" or "MPICH"
local PEER = getenv "NMPI_TEST_SOURCE" .. "/spec/support/interop/peer."

-- ---- the interpreter ----

local PROBE = [[
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
import numpy
print(MPI.Get_library_version())
]]

local function find_python()
  local reasons = {}
  for _, program in ipairs { "python3", "/usr/bin/python3" } do
    local code, out, err = job.run { program = program, args = { "-c", PROBE } }
    if code == 0 and out:find(LIBRARY, 1, true) then return program end
    local reason = code == 0 and "its mpi4py is built on " .. out:match "[^\n,]*" or err:match "([^\n]+)\n*$"
    reasons[#reasons + 1] = ("%s: %s"):format(program, reason or "exit code " .. code)
  end
  return nil, ("no Python with mpi4py on %s (%s)"):format(LIBRARY, table.concat(reasons, "; "))
end

local python, reason = find_python()
if not python then
  it("runs with mpi4py in one job", function() pending(reason) end)
  return
end

-- ---- plans ----

local NUMBERS = {
  "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "complex float",
  "complex double", "bool", "char",
}
local STRUCTS = { "struct nmpi_spec_particle", "struct nmpi_spec_colour", "struct nmpi_interop_record" }
local PAIRS = { "float_int", "double_int", "long_int", "short_int", "2int" }

-- The layouts of each half, first those that any number of elements can have.
local LAYOUTS = {
  lua = { "C", "stepped", "backwards", "column", "Fortran", "transposed", "block3", "block4" },
  python = { "contiguous", "vector", "backwards", "Fortran memory", "block", "fortran" },
}
local SIMPLE = { lua = 4, python = 3 }
local EVERY_LAYOUT = { [7] = true, [24] = true, [1000] = true, [200000] = true }

-- One layout for each rank, others with each position.
local function layouts(ranks, n, position)
  local names = {}
  for r, half in ipairs(ranks) do
    local count = EVERY_LAYOUT[n] and #LAYOUTS[half] or SIMPLE[half]
    names[r] = LAYOUTS[half][(position + r) % count + 1]
  end
  return names
end

-- The same, contiguous in Python: there are no predefined operators on derived datatypes.
local function reducible_layouts(ranks, n, position)
  local names = layouts(ranks, n, position)
  for r, half in ipairs(ranks) do
    if half == "python" then names[r] = "contiguous" end
  end
  return names
end

-- The pairs of ranks of different halves.
local function directions(ranks)
  local list = {}
  for from = 0, #ranks - 1 do
    for to = 0, #ranks - 1 do
      if ranks[from + 1] ~= ranks[to + 1] then list[#list + 1] = { from = from, to = to } end
    end
  end
  return list
end

local function ranks_of(ranks, half)
  local list = {}
  for r, which in ipairs(ranks) do
    if which == half then list[#list + 1] = r - 1 end
  end
  return list
end

-- How nmpi sends or receives; where a way is only for one of the two, the other is blocking.
local WAYS = { "blocking", "nonblocking", "persistent", "synchronous", "probed", "matched" }

local function send(ranks, direction, dtype, n, position, names, room)
  return {
    call = "send", from = direction.from, to = direction.to, dtype = dtype, n = n, room = room or n,
    layouts = names or layouts(ranks, room or n, position),
    lua = WAYS[position % #WAYS + 1], python = position % 5 < 2 and "nonblocking" or "blocking",
  }
end

local function send_every(dtypes)
  return function(ranks, add)
    for i, dtype in ipairs(dtypes) do
      for j, direction in ipairs(directions(ranks)) do
        add(send(ranks, direction, dtype, 24, i + j))
        add(send(ranks, direction, dtype, j % 2 == 0 and 7 or 1000, i + 2 * j + 1))
      end
    end
  end
end

local function reduce_every(call)
  local operators = {
    SUM = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float double complex_float complex_double",
    MAX = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float double",
    BAND = "int8 int16 int32 int64 uint8 uint16 uint32 uint64",
    LAND = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool",
    MAXLOC = "float_int double_int long_int short_int 2int",
  }
  operators.PROD, operators.MIN, operators.MINLOC = operators.SUM, operators.MAX, operators.MAXLOC
  operators.BOR, operators.BXOR = operators.BAND, operators.BAND
  operators.LOR, operators.LXOR = operators.LAND, operators.LAND
  return function(list)
    return function(ranks, add)
      local position = 0
      for op in list:gmatch "%S+" do
        for dtype in operators[op]:gmatch "%S+" do
          position = position + 1
          local n = position % 2 == 0 and 24 or 1000
          add {
            call = call, op = op, dtype = dtype:gsub("^complex_", "complex "), n = n,
            root = call == "reduce" and position % #ranks or nil, in_place = position % 5 == 0 and "yes" or nil,
            sources = reducible_layouts(ranks, n, position),
            layouts = reducible_layouts(ranks, n, position + math.floor(position / 8)),
          }
        end
      end
    end
  end
end

local reduce, allreduce = reduce_every "reduce", reduce_every "allreduce"

-- Scatter, gather and allgather: n elements for each rank.
local function divide(call)
  return function(ranks, add)
    local position = 0
    local function divide_one(dtype, n, root)
      position = position + 1
      local wholes = layouts(ranks, #ranks * n, position + math.floor(position / 4))
      for r, half in ipairs(ranks) do
        if half == "python" then wholes[r] = position % 3 == 0 and "vector" or "contiguous" end
      end
      -- With a count the buffer of nmpi's part may be larger.
      local counted = position % 2 == 0
      add {
        call = call, root = call ~= "allgather" and root or nil, dtype = dtype, n = n, room = counted and n + 3 or n,
        count = counted and n or nil, in_place = position % 5 == 0 and "yes" or nil,
        layouts = layouts(ranks, 0, position), wholes = wholes,
      }
    end
    for i, dtypes in ipairs { NUMBERS, STRUCTS, PAIRS } do
      for j, dtype in ipairs(dtypes) do
        for root = 0, #ranks - 1 do
          if call ~= "allgather" or root < 2 then
            divide_one(dtype, (i + j + root) % 2 == 0 and 24 / #ranks or 1000, root)
          end
        end
      end
    end
    for root = 0, #ranks - 1 do
      divide_one("double", 0, root)
      divide_one("int16", 50000, root)
    end
  end
end

-- The cases of each test, by its name.
local families = {
  { "send numbers of every dtype", send_every(NUMBERS) },
  { "send structs as bytes, padding included", send_every(STRUCTS) },
  { "send pairs of a value and an index", send_every(PAIRS) },

  { "send every layout into every other", function(ranks, add)
    -- One direction each way: more of them bring nothing new here.
    local ways = {}
    for _, direction in ipairs(directions(ranks)) do ways[ranks[direction.from + 1]] = direction end
    for half, direction in pairs(ways) do
      for j, from in ipairs(LAYOUTS[half]) do
        for k, to in ipairs(LAYOUTS[half == "lua" and "python" or "lua"]) do
          local names = {}
          for r = 1, #ranks do names[r] = "C" end
          names[direction.from + 1], names[direction.to + 1] = from, to
          add(send(ranks, direction, NUMBERS[(j + k) % #NUMBERS + 1], 24, j + k, names))
        end
      end
    end
  end },

  { "send nothing, single elements and large messages", function(ranks, add)
    for i, direction in ipairs(directions(ranks)) do
      for j, dtype in ipairs { "int8", "double", "complex float", "struct nmpi_interop_record" } do
        add(send(ranks, direction, dtype, 0, i + j))
        add(send(ranks, direction, dtype, 1, i + j))
      end
      add(send(ranks, direction, "double", 200000, 2 * i))
      add(send(ranks, direction, "int16", 200000, 2 * i + 1))
    end
  end },

  { "send messages shorter than the buffer", function(ranks, add)
    for i, direction in ipairs(directions(ranks)) do
      for j, dtype in ipairs { "int32", "complex double", "bool", "2int", "struct nmpi_spec_colour" } do
        local names = layouts(ranks, 13, i + j)
        for r, half in ipairs(ranks) do
          -- A derived datatype there would be of one size only.
          if half == "python" then names[r] = "contiguous" end
        end
        for n, room in pairs { [0] = 5, [13] = 30, [700] = 1500 } do
          add(send(ranks, direction, dtype, n, i + j, names, room))
        end
      end
    end
  end },

  { "send text in UTF-8", function(ranks, add)
    for _, direction in ipairs(directions(ranks)) do
      for text, times in pairs { ["żółć"] = 1, [""] = 1, ["a\0b\0"] = 1, ["zażółć = gęślą jaźń, 日本語 🙂"] = 2000 } do
        add { call = "text", from = direction.from, to = direction.to, text = text, times = times }
      end
    end
  end },

  { "sendrecv around rings", function(ranks, add)
    for step = 1, #ranks - 1 do
      for i, dtype in ipairs(NUMBERS) do
        local n = i % 2 == 0 and 24 or 1000
        add { call = "sendrecv", step = step, dtype = dtype, n = n,
              sources = layouts(ranks, n, i), layouts = layouts(ranks, n, i + step + 1) }
      end
      add { call = "sendrecv", step = step, dtype = "double", n = 200000,
            sources = layouts(ranks, 200000, step), layouts = layouts(ranks, 200000, step + 1) }
    end
  end },

  { "receive from any source, with any tag", function(ranks, add)
    for root = 0, #ranks - 1 do
      for i, dtype in ipairs { "uint16", "double", "complex double", "struct nmpi_spec_particle", "double_int" } do
        for _, n in ipairs { 3, 2000 } do
          local names = layouts(ranks, n, i + root)
          if ranks[root + 1] == "python" then names[root + 1] = "contiguous" end
          add { call = "collect", root = root, dtype = dtype, n = n, layouts = names }
        end
      end
    end
  end },

  { "exchange messages, blocking and nonblocking", function(ranks, add)
    local position = 0
    for i, dtype in ipairs { "int32", "double", "complex float", "bool", "struct nmpi_interop_record" } do
      for _, n in ipairs { 7, 1000, i < 3 and 200000 or 24 } do
        for _, ways in ipairs { "blocking nonblocking", "nonblocking blocking", "nonblocking nonblocking" } do
          position = position + 1
          local lua_way, python_way = ways:match "(%a+) (%a+)"
          add { call = "exchange", dtype = dtype, n = n, lua = lua_way, python = python_way,
                layouts = layouts(ranks, n, position) }
        end
      end
    end
  end },

  { "bcast from every root", function(ranks, add)
    for root = 0, #ranks - 1 do
      for i, dtypes in ipairs { NUMBERS, STRUCTS, PAIRS } do
        for j, dtype in ipairs(dtypes) do
          local n = (i + j) % 2 == 0 and 24 or 1000
          add { call = "bcast", root = root, dtype = dtype, n = n, layouts = layouts(ranks, n, i + j + root) }
        end
      end
      add { call = "bcast", root = root, dtype = "double", n = 200000, layouts = layouts(ranks, 200000, root) }
    end
  end },

  { "scatter from every root", divide "scatter" },
  { "gather to every root", divide "gather" },
  { "allgather", divide "allgather" },

  { "reduce with every operator", reduce "SUM PROD MAX MIN LAND LOR LXOR BAND BOR BXOR" },
  { "reduce pairs with MAXLOC and MINLOC", reduce "MAXLOC MINLOC" },
  { "allreduce with every operator", allreduce "SUM PROD MAX MIN LAND LOR LXOR BAND BOR BXOR" },
  { "allreduce pairs with MAXLOC and MINLOC", allreduce "MAXLOC MINLOC" },

  { "allreduce numbers without arrays", function(_, add)
    for _, op in ipairs { "SUM", "PROD", "MAX", "MIN" } do add { call = "allreduce_number", op = op } end
  end },
}

-- ---- jobs ----

local function plan_of(cases)
  local lines = {}
  for _, case in ipairs(cases) do
    local fields = {}
    for name, content in pairs(case) do
      fields[#fields + 1] = name .. "=" .. (type(content) == "table" and table.concat(content, ",") or content)
    end
    table.sort(fields)
    lines[#lines + 1] = table.concat(fields, "\t") .. "\n"
  end
  return table.concat(lines)
end

-- How many messages or results each rank must have checked in the end.
local function expected_counts(ranks, cases)
  local counts = {}
  for r, half in ipairs(ranks) do
    local count = 0
    for _, case in ipairs(cases) do
      if case.call == "exchange" then
        count = count + 2 * (#ranks - #ranks_of(ranks, half))
      elseif case.call == "collect" then
        count = count + (case.root == r - 1 and #ranks - 1 or 0)
      elseif case.to then
        count = count + (case.to == r - 1 and 1 or 0)
      else
        local everywhere = case.call ~= "reduce" and case.call ~= "gather"
        count = count + ((everywhere or case.root == r - 1) and 1 or 0)
      end
    end
    counts[r] = ("%s %d checked %d"):format(half, r - 1, count)
  end
  table.sort(counts)
  return table.concat(counts, "\n")
end

local function sorted_counts(out)
  local lines = {}
  for line in out:gmatch "%a+ %d+ checked %d+" do lines[#lines + 1] = line end
  table.sort(lines)
  return table.concat(lines, "\n")
end

-- The programs that follow a plan on these ranks, each half with its ranks beside each other.
local function programs_of(ranks, path, options)
  local programs = {}
  for r, half in ipairs(ranks) do
    if half == ranks[r - 1] then
      programs[#programs].n = programs[#programs].n + 1
    elseif half == "python" then
      programs[#programs + 1] = { n = 1, program = python, args = { PEER .. "py", path } }
    else
      local args = { unpack(options or {}) }
      args[#args + 1], args[#args + 2] = PEER .. "lua", path
      programs[#programs + 1] = { n = 1, program = "nmpi", args = args }
    end
  end
  return programs
end

local function run(ranks, cases, options)
  return job.with_file(plan_of(cases), function(path)
    return job.run { programs = programs_of(ranks, path, options), timeout = 100 }
  end)
end

local configurations = {
  { "2 nmpi and 2 mpi4py", { "lua", "lua", "python", "python" } },
  { "2 nmpi -joff and 2 mpi4py", { "lua", "lua", "python", "python" }, { "-joff" } },
  { "1 nmpi and 1 mpi4py", { "lua", "python" } },
  { "1 mpi4py and 2 nmpi -joff", { "python", "lua", "lua" }, { "-joff" } },
}

for _, configuration in ipairs(configurations) do
  local name, ranks, options = unpack(configuration)
  describe(name, function()
    for _, family in ipairs(families) do
      it(family[1], function()
        local cases = {}
        family[2](ranks, function(case)
          cases[#cases + 1] = case
          case.tag = 10 * #cases
          if case.call == "exchange" then
            case.lua_ranks, case.python_ranks = ranks_of(ranks, "lua"), ranks_of(ranks, "python")
          end
        end)
        local code, out, err = run(ranks, cases, options)
        assert.equal(0, code, err)
        assert.is_nil(err:match "%[rank [^\n]*", err)
        assert.equal(expected_counts(ranks, cases), sorted_counts(out))
        assert.is_true(#cases > 0)
      end)
    end
  end)
end

-- A check that cannot fail checks nothing.
for half, other in pairs { lua = "python", python = "lua" } do
  it("notices a wrong element from " .. half, function()
    local ranks = { "lua", "python" }
    local from = half == "lua" and 0 or 1
    local case = send(ranks, { from = from, to = 1 - from }, "double", 24, 1)
    case.liar, case.tag = half, 1
    local code, _, err = run(ranks, { case })
    assert.not_equal(0, code)
    assert.matches(("%%[rank %d of 2%%] peer%%.%s: case 1 %%(.*%%): element %%d+ of the memory is "):format(1 - from,
      other == "python" and "py" or "lua"), err)
  end)
end
