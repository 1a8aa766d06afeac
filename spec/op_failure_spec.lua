-- SPDX-License-Identifier: MIT
-- What cannot be undone: an error in an operator, within MPI's reduction. Operators that were never freed, and the
-- libraries of those in C.
local job = require "spec.support.job"

local function run(source, options)
  return job.with_file(source, function(path)
    local t = { program = "nmpi", n = 2, args = { path }, timeout = 60 }
    for name, value in pairs(options or {}) do t[name] = value end
    local code, out, err = job.run(t)
    return code, out, err, path
  end)
end

local function count(text, part)
  local n, from = 0, 1
  while true do
    local first, last = text:find(part, from, true)
    if not first then return n end
    n, from = n + 1, last + 1
  end
end

-- The operator fails when the loop has long been compiled.
local FAILING = [[
local mpi = require "nmpi"
local op = mpi.op(function(invec, inoutvec, n)
  %s
end)
local x, y = mpi.zeros(10), mpi.zeros(10)
for i = 1, 300 do mpi.allreduce(x, y, mpi.SUM) end
for i = 1, 300 do
  x[0] = i
  pcall(mpi.allreduce, x, y, op)
end
print "it goes on"
]]

describe("an error in an operator", function()
  local cases = {
    { "an error", "if invec[0] == 200 then error('too much') end", ":3: too much\nstack traceback:\n" },
    { "an error object", "error({})", "(error object is a table value)\nstack traceback:\n" },
    { "a write to the first operand", "invec[0] = 0", ":3: attempt to write to constant location\nstack traceback:\n" },
    { "a call of nmpi", "require('nmpi').barrier()",
      "an operator must not use nmpi: MPI forbids it\nstack traceback:\n" },
    { "os.exit", "os.exit(0)", ":3: attempt to call field 'exit' (a nil value)\nstack traceback:\n" },
  }
  for _, case in ipairs(cases) do
    local name, code, expected = unpack(case)
    for _, program in ipairs { "nmpi", "luajit" } do
      it(("such as %s ends the job under %s"):format(name, program), function()
        local status, out, err, path = run(FAILING:format(code), { program = program })
        assert.equal(1, status, err)
        assert.equal("", out)
        assert.matches("nmpi: rank %d of 2: in an operator: [^\n]*", err)
        assert.truthy(err:find(expected, 1, true), err)
        assert.truthy(err:find("\n\t" .. path .. ":3: in function ", 1, true), err)
      end)
    end
  end
end)

describe("operators that were never freed", function()
  local source = [[
    local mpi = require "nmpi"
    local kept = mpi.op "x + y"
    mpi.op("x + y", { dtype = "int8" })
    mpi.op("x * y"):free()
    collectgarbage()
    mpi.allreduce(1, kept)
    %s
  ]]

  it("are reported under NMPI_DEBUG=1, with their lines", function()
    for _, program in ipairs { "nmpi", "luajit" } do
      for _, ending in ipairs { "", "mpi.finalize()" } do
        local code, out, err, path = run(source:format(ending), { program = program, env = { NMPI_DEBUG = "1" } })
        assert.same({ 0, "" }, { code, out }, err)
        for rank = 0, 1 do
          for line = 2, 3 do
            local report = "nmpi: rank %d of 2: operator, made by op, was never freed: %s:%d\n"
            assert.equal(1, count(err, report:format(rank, path, line)), err)
          end
        end
        assert.equal(4, count(err, "\n"), err)
      end
    end
  end)

  it("are freed silently without it", function()
    local code, out, err = run(source:format "")
    assert.same({ 0, "", "" }, { code, out, err })
  end)

  it("can be neither made, used nor freed once MPI is finalised", function()
    local code, out, err = run(source:format [[
      local function refused(f, ...) print((select(2, pcall(f, ...)):match "nmpi.*")) end
      mpi.finalize()
      if os.getenv "OMPI_COMM_WORLD_RANK" == "1" or os.getenv "PMI_RANK" == "1" then return end
      refused(mpi.op, "x")
      refused(mpi.allreduce, 1, kept)
      refused(kept.free, kept)
    ]])
    assert.equal(0, code, err)
    assert.equal("nmpi.op: MPI is finalised\n"
      .. "nmpi.allreduce: argument 'comm': expected a live communicator, but MPI is finalised\n"
      .. "nmpi.op:free: MPI is finalised\n", out)
  end)
end)

describe("the library of an operator in C", function()
  it("remains until that is freed", function()
    local code, out, err = job.with_file([[
      local ffi, mpi = require "ffi", require "nmpi"
      ffi.cdef "void spec_second(void *in, void *inout, int *n, void *type);"
      local op = mpi.op(ffi.load(arg[1]).spec_second)
      collectgarbage()
      collectgarbage()
      local _, last = mpi.allreduce(mpi.rank(), op)
      op:free()
      local maps = io.open "/proc/self/maps"
      local remains = maps and maps:read "*a":find("operators.so", 1, true)
      io.write(("%d %s\n"):format(last, remains and "remains" or "gone"))
    ]], function(path)
      return job.run { program = "nmpi", n = 2, args = { path, os.getenv "NMPI_TEST_BUILD" .. "/spec/operators.so" } }
    end)
    assert.same({ 0, "1 gone\n1 gone\n" }, { code, out }, err)
  end)
end)
