-- SPDX-License-Identifier: MIT
local files = require "spec.support.files"
local job = require "spec.support.job"

local exists, with_directory = files.exists, files.with_directory

local source = os.getenv "NMPI_TEST_SOURCE"

local PROGRAM = source .. "/examples/mpdata_2d.lua"
local CASES = 28

local function run(n, words, env)
  local args = { PROGRAM }
  for word in words:gmatch "%S+" do args[#args + 1] = word end
  return job.run { program = "nmpi", n = n, args = args, env = env, timeout = 60 }
end

-- Prints the shape of the dataset, a checksum of it and the sum of squares of its last field.
local READ = [[
  local mpi = require "nmpi"
  local file = require("nmpi.hdf5").open(arg[1])
  local psi = file:open_object "psi"
  local field = mpi.zeros(psi.shape)
  psi:read(field, { 0, 0, 0 })
  local sum, squares, data = 0, 0, require("ffi").cast("uint8_t *", field.data)
  for k = 0, field.size * 8 - 1 do sum = (sum * 31 + data[k]) % 2 ^ 40 end
  for i = 0, 63 do for j = 0, 31 do squares = squares + field:get(i, j, 11) ^ 2 end end
  print(table.concat(psi.shape, " "), sum, ("%.17g"):format(squares))
  file:close()
]]

local function read_back(path)
  return job.with_file(READ, function(script)
    local code, out, err = job.run { program = "nmpi", n = 1, args = { script, path } }
    assert.equal(0, code, err)
    return out
  end)
end

local function figures(out)
  local change, least, squares = out:match "changed by (%S+) of it; from (%S+) to %S+, sum of squares (%S+)\n"
  local rms = out:match "first field (%S+)\n"
  return { change = tonumber(change), least = tonumber(least), squares = squares, rms = rms }
end

describe("numerics/mpdata.lua", function()
  local expected

  for _, mode in ipairs { "jit", "nojit" } do
    for n = 1, 4 do
      it(("gives the same last field in every layout, with -n %d, %s"):format(n, mode), function()
        local args = { source .. "/spec/support/mpdata_cases.lua" }
        if mode == "nojit" then table.insert(args, 1, "-joff") end
        local code, out, err = job.run { program = "nmpi", n = n, args = args, timeout = 120 }
        assert.equal(0, code, err)
        assert.is_nil(out:match "[^\n]*differs[^\n]*")
        local cases = {}
        for line in out:gmatch "(iterations[^\n]*)\n" do cases[#cases + 1] = line end
        assert.equal(CASES, #cases)
        expected = expected or cases
        assert.same(expected, cases)
        for _, line in ipairs(cases) do
          local change, least, growth = line:match "changed by (%S+), from (%S+) to (%S+),"
          assert.is_true(math.abs(tonumber(change)) <= 1e-15, line)
          if not line:find "gauge" then assert.is_true(tonumber(least) >= 0, line) end
          if line:find "nonoscillatory" then
            assert.is_true(tonumber(least) >= -1e-15 and tonumber(growth) <= 1e-15, line)
          end
        end
        if n == 1 then
          local numbers = {}
          for number in out:match("three by three: (.*)\n"):gmatch "%d+%.?%d*" do
            numbers[#numbers + 1] = tonumber(number)
          end
          assert.same({ 0, 0, 0.1, 0, 0, 0, 0.5, 0, 0.4 }, numbers)
        end
      end)
    end
  end
end)

describe("examples/mpdata_2d.lua", function()
  it("has the known errors after a turn", function()
    for iterations, rms in ipairs { "8.904267e-02", "2.726898e-02" } do
      local code, out, err = run(1, "--steps 128 --iterations " .. iterations)
      assert.equal(0, code, err)
      local found = figures(out)
      assert.equal(rms, found.rms)
      assert.is_true(math.abs(found.change) <= 1e-15, out)
      assert.is_true(found.least >= 0, out)
    end
  end)

  it("compiles its loops", function()
    local args = { "-jv", PROGRAM, "--nonoscillatory", "--infinite-gauge", "--steps", "50" }
    local code, _, err = job.run { program = "nmpi", args = args, timeout = 60 }
    assert.equal(0, code, err)
    local number, loops = 0, 0
    for line in io.lines(source .. "/examples/numerics/mpdata.lua") do
      number = number + 1
      if line:find "^    for k = .* %- 1 do$" then
        loops = loops + 1
        assert.matches(("TRACE +%%d+ mpdata.lua:%d loop"):format(number), err)
      end
    end
    assert.equal(6, loops)
  end)

  it("writes the same HDF5 file on any number of ranks", function()
    with_directory(function(directory)
      local expected
      for n, words in ipairs { "", "--mpi-dimension inner", "--threads 2 --thread-dimension outer", "" } do
        local path = ("%s/%d.h5"):format(directory, n)
        local code, out, err = run(n, ("%s --output %s"):format(words, path))
        assert.equal(0, code, err)
        local read = read_back(path)
        expected = expected or read
        assert.equal(expected, read)
        assert.equal("64 32 12", read:match "^[%d ]+")
        assert.equal(figures(out).squares, read:match "(%S+)\n$")
      end
    end)
  end)

  it("draws a picture", function()
    if os.execute "command -v gnuplot >/dev/null 2>&1" ~= 0 then pending "gnuplot is not installed" end
    with_directory(function(directory)
      local code, _, err = run(2, ("--threads 3 --thread-dimension outer --picture %s/psi.png"):format(directory))
      assert.equal(0, code, err)
      local file = assert(io.open(directory .. "/psi.png", "rb"))
      assert.equal("\137PNG", file:read(4))
      file:close()
    end)
  end)

  it("says what is wrong with the options, and ends", function()
    with_directory(function(directory)
      local there = directory .. "/there.h5"
      io.open(there, "w"):close()
      for words, message in pairs {
        ["--size 3x32"] = "%-%-size: 3 cells of the outer dimension leave rank 3 of 4 with 0, but the scheme needs 1",
        ["--size 32x5 --mpi-dimension inner --nonoscillatory"] = "%-%-size: 5 cells of the inner dimension leave",
        ["--courant 0.9,0.25"] = "%-%-courant: expected numbers whose sizes add up to at most 1, got 0.9,0.25",
      } do
        job.assert_refused("mpdata_2d", message, run(4, words))
      end
      for words, message in pairs {
        ["--size 64x0"] = "%-%-size: expected two extents",
        ["--threads 40"] = "%-%-threads: 32 cells of the inner dimension leave thread %d+ of 40 with none",
        ["--threads 0"] = "%-%-threads: expected",
        ["--courant nan,0"] = "%-%-courant: expected two numbers",
        ["--iterations 0"] = "%-%-iterations: expected",
        ["--iterations 1 --infinite-gauge"] = "%-%-infinite%-gauge: corrects nothing with %-%-iterations 1",
        ["--mpi-dimension middle"] = "%-%-mpi%-dimension: expected inner or outer, got 'middle'",
        ["--output " .. there] = "%-%-output: .* exists already",
        ["--output " .. directory .. "/none/psi.h5"] = "%-%-output: .*none/psi.h5",
        ["--picture " .. directory .. "/none/psi.png"] = "%-%-picture: .*none/psi.png",
        ["--turns 3"] = "unknown option '%-%-turns'",
      } do
        job.assert_refused("mpdata_2d", message, run(nil, words))
      end
    end)
  end)

  it("refuses an output path that not all ranks have", function()
    with_directory(function(directory)
      local code, out, err = job.run {
        programs = {
          { program = "nmpi", n = 1, args = { PROGRAM } },
          { program = "nmpi", n = 1, args = { PROGRAM, "--output", directory .. "/psi.h5" } },
        },
        timeout = 60,
      }
      job.assert_refused("mpdata_2d", "%-%-output: differs between the ranks", code, out, err)
      assert.is_false(exists(directory .. "/psi.h5"))
    end)
  end)
end)
