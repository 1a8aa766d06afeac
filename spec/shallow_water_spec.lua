-- SPDX-License-Identifier: MIT
local job = require "spec.support.job"

local PROGRAM = os.getenv "NMPI_TEST_SOURCE" .. "/examples/shallow_water.lua"

local function run(n, words, host_option)
  local args = { host_option or PROGRAM, host_option and PROGRAM }
  for word in words:gmatch "%S+" do args[#args + 1] = word end
  local code, out, err = job.run { program = "nmpi", n = n, args = args, timeout = 60 }
  return code, out, err
end

-- The lines with what has come out, but not how long it took.
local function results(out)
  return out:match "(mass.*)\n[^\n]*\n$"
end

local function figures(out)
  local change, least = out:match "changed by (%S+) of it; h from (%S+)"
  local x, y = out:match "momenta (%S+) (%S+),"
  local rms, most = out:match "rms (%S+), most (%S+),"
  return {
    change = tonumber(change), least = tonumber(least), x = tonumber(x), y = tonumber(y), rms = tonumber(rms),
    most = tonumber(most),
    lx = tonumber(out:match "half%-axes (%S+)"), ly = tonumber(out:match "half%-axes %S+ (%S-);"),
  }
end

describe("examples/shallow_water.lua", function()
  local errors = {}

  -- The same time step to cell width on each grid, so that the error must fall with the width.
  for _, case in ipairs { { "64x64 --dt 0.1", 3e-3, 0.04 }, { "128x128 --dt 0.05", 1.3e-3, 0.015 } } do
    it("comes near the exact solution with --size " .. case[1], function()
      local code, out, err = run(1, "--t-end 3 --size " .. case[1])
      assert.equal(0, code, err)
      local found = figures(out)
      errors[#errors + 1] = found.rms
      -- By an integration of equation 7 of Jarecka and others with scipy.integrate.solve_ivp (DOP853, 1e-13).
      assert.near(3.38248300, found.lx, 1e-7)
      assert.near(3.39982481, found.ly, 1e-7)
      assert.is_true(found.rms < case[2] and found.most < case[3], out)
      assert.is_true(math.abs(found.change) <= 1e-14 and found.least >= 0, out)
      assert.is_true(math.abs(found.x) <= 1e-14 and math.abs(found.y) <= 1e-14, out)
    end)
  end

  it("comes nearer on the finer grid", function()
    assert.is_true(errors[2] < 0.5 * errors[1])
  end)

  it("gives the same on any number of ranks and threads, with the JIT compiler on and off", function()
    local expected = {}
    for _, case in ipairs {
      { 1, "" }, { 1, "", "-joff" }, { 2, "" }, { 2, "--mpi-dimension inner", "-joff" },
      { 3, "--mpi-dimension inner" }, { 4, "" }, { 1, "--threads 3" },
      { 2, "--threads 2 --thread-dimension outer" }, { 2, "--threads 2 --mpi-dimension inner" },
      { 1, "--iterations 1" }, { 3, "--iterations 1" },
    } do
      local iterations = case[2]:match "%-%-iterations 1" or ""
      local code, out, err = run(case[1], "--size 36x40 --t-end 1 --dt 0.1 " .. case[2], case[3])
      assert.equal(0, code, err)
      assert.matches("sums of squares", results(out))
      expected[iterations] = expected[iterations] or results(out)
      assert.equal(expected[iterations], results(out), case[2])
    end
  end)

  it("compiles its loops", function()
    local code, _, err = run(nil, "--size 64x64", "-jv")
    assert.equal(0, code, err)
    local number, loops = 0, 0
    for line in io.lines(PROGRAM) do
      number = number + 1
      if line:find "^      for k = " then
        loops = loops + 1
        assert.matches(("TRACE +%%d+ shallow_water.lua:%d loop"):format(number), err)
      end
    end
    assert.equal(2, loops)
  end)

  it("writes the height and momenta", function()
    local path = os.tmpname()
    local code, out, err = run(2, ("--size 32x24 --t-end 1 --output %s --overwrite"):format(path))
    assert.equal(0, code, err)
    local chunk = [[
      local mpi = require "nmpi"
      local file = require("nmpi.hdf5").open(arg[1])
      for _, name in ipairs { "h", "uh", "vh" } do
        local dataset = file:open_object(name)
        local field, squares = mpi.zeros(dataset.shape), 0
        dataset:read(field, { 0, 0, 0 })
        for i = 0, 31 do for j = 0, 23 do squares = squares + field:get(i, j, 5) ^ 2 end end
        print(("%.17g"):format(squares))
      end
      file:close()
    ]]
    local read = job.with_file(chunk, function(script)
      local read_code, read_out, read_err = job.run { program = "nmpi", n = 1, args = { script, path } }
      assert.equal(0, read_code, read_err)
      return read_out
    end)
    os.remove(path)
    local h, uh, vh = out:match "sum of squares (%S+)\n.*sums of squares (%S+) (%S+)\n"
    assert.equal(("%s\n%s\n%s\n"):format(h, uh, vh), read)
  end)

  it("says what is wrong, and ends", function()
    for words, expected in pairs {
      ["--size 3x32"] = { 2, "%-%-size: 3 cells of the outer dimension" },
      ["--dt 0"] = { nil, "%-%-dt: expected a step above 0" },
      ["--dt 0.5 --size 64x64 --threads 2"] = { 2, "%-%-dt: the Courant numbers reach [%d.]+, more than 1: try" },
      ["--dt 1e308 --t-end 1e308"] = { 2, "%-%-dt: the fields are not finite any more after 1 steps" },
      ["--output /nowhere/h.h5"] = { nil, "%-%-output: .*/nowhere/h.h5" },
    } do
      job.assert_refused("shallow_water", expected[2], run(expected[1], words))
    end
  end)
end)
