-- SPDX-License-Identifier: MIT
-- examples/cahn_hilliard.lua: its results, to the last bit, and what it says of bad input.
local ffi = require "ffi"
local files = require "spec.support.files"
local job = require "spec.support.job"

local exists, read, with_directory = files.exists, files.read, files.with_directory

local PROGRAM = os.getenv "NMPI_TEST_SOURCE" .. "/examples/cahn_hilliard.lua"

-- ---- running it ----

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end

-- One rank runs without mpiexec.
local function start(n, options, host_options)
  local args = words(host_options or "")
  args[#args + 1] = PROGRAM
  for _, word in ipairs(words(options)) do args[#args + 1] = word end
  return job.run { program = "nmpi", n = n > 1 and n or nil, args = args, timeout = 60 }
end

local NUMBER = "(-?%d[%d.e+-]*)"
local FIRST = ("^(%d+) x (%d+) cells on (%d+) x (%d+) ranks: t = N, (%d+) steps accepted, (%d+) rejected, dt = N\n")
  :gsub("N", (NUMBER:gsub("%%", "%%%%")))
local SECOND = ("\nmean N %(exactly N%), from N to N, sum of squares N\n"):gsub("N", (NUMBER:gsub("%%", "%%%%")))

-- Runs it to its end and returns what it prints: `text` without the ranks and the time, and the numbers.
local function solve(n, options, host_options)
  local code, out, err = start(n, options, host_options)
  assert.equal(0, code, err)
  assert.equal("", err)
  local rows, columns, row_ranks, column_ranks, t, accepted, rejected, dt = out:match(FIRST)
  assert.truthy(rows, out)
  local mean, exact, least, most, squares = out:match(SECOND)
  assert.truthy(mean, out)
  assert.matches("\n%d+%.%d+ s, [%d.e+-]+ ns a cell and step\n$", out)
  return {
    text = out:gsub(" on %d+ x %d+ ranks", ""):gsub("\n[^\n]*\n$", ""),
    rows = tonumber(rows), columns = tonumber(columns), dims = row_ranks .. " x " .. column_ranks,
    t = tonumber(t), accepted = tonumber(accepted), rejected = tonumber(rejected), dt = tonumber(dt),
    mean = tonumber(mean), exact = tonumber(exact), least = tonumber(least), most = tonumber(most),
    squares = tonumber(squares),
  }
end

-- The field in a .npy file, as a list in rows.
local function load_npy(path, size)
  local text = read(path)
  assert.equal("\147NUMPY\1\0", text:sub(1, 8))
  local header = text:byte(9) + 256 * text:byte(10)
  local data = text:sub(11 + header)
  assert.equal(8 * size, #data)
  local numbers = ffi.new("double[?]", size)
  ffi.copy(numbers, data, #data)
  return numbers
end

-- ---- the same in the simplest way ----

-- Solves it by a table of rows, with nothing in common with the program but the order of operations.
local function reference(rows, columns, value, t_end)
  local K, C0 = 0.01, 0.5
  local function at(c, i, j)
    return c[math.max(0, math.min(rows - 1, i))][math.max(0, math.min(columns - 1, j))]
  end
  local function each(f)
    local field = {}
    for i = 0, rows - 1 do
      field[i] = {}
      for j = 0, columns - 1 do field[i][j] = f(i, j) end
    end
    return field
  end
  local function lap(c, i, j)
    local mid = c[i][j]
    return (at(c, i - 1, j) - 2 * mid + at(c, i + 1, j)) + (at(c, i, j - 1) - 2 * mid + at(c, i, j + 1))
  end
  local function rhs(c)
    local mu = each(function(i, j) return c[i][j] * c[i][j] * c[i][j] - c[i][j] - lap(c, i, j) end)
    return each(function(i, j) return lap(mu, i, j) - K * (c[i][j] - C0) end)
  end
  local function moved(c, h, rate)
    return each(function(i, j) return c[i][j] + h * rate[i][j] end)
  end

  local c, t, dt, steps, rejected, first, last = each(value), 0, 1e-3, {}, 0, 0, 0
  each(function(i, j) first = first + (c[i][j] - C0) end)
  local rate = rhs(c)
  while t < t_end do
    local h = math.max(math.min(dt, t_end - t), 1e-10)
    local large, small = moved(c, h, rate), moved(c, 0.5 * h, rate)
    small = moved(small, 0.5 * h, rhs(small))
    local e = 0
    each(function(i, j) e = math.max(e, math.abs(large[i][j] - small[i][j])) end)
    e = e / 1e-4
    if e <= 1 then
      c, rate, t = small, rhs(small), t + h
      steps[#steps + 1] = h
    else
      rejected = rejected + 1
    end
    if t < t_end then dt = e < 0.00057665 and dt * 4 or dt * math.max(0.9 * e ^ -0.2, 0.1) end
  end
  each(function(i, j) last = last + (c[i][j] - C0) end)
  local cells = rows * columns
  local factor = 1
  for _, h in ipairs(steps) do factor = factor * (1 - 0.005 * h) ^ 2 end
  return {
    c = c, t = t, dt = dt, accepted = #steps, rejected = rejected,
    deviation = last / cells, expected_deviation = first / cells * factor,
  }
end

local function wave(rows, columns, a, b, amplitude)
  return function(i, j)
    return 0.5 + amplitude * (math.cos(a * math.pi * (i + 0.5) / rows) * math.cos(b * math.pi * (j + 0.5) / columns))
  end
end

-- ---- the checks ----

describe("examples/cahn_hilliard.lua", function()
  it("has the tabulated figures", function()
    local one = solve(1, "--size 16x16 --mode 1,2 --t-end 1")
    assert.same({ 6, 0 }, { one.accepted, one.rejected })
    assert.near(64.006416829414, one.squares, 6e-13)
    local ten = solve(2, "--size 16x16 --mode 1,2 --t-end 10")
    assert.same({ 39, 41 }, { ten.accepted, ten.rejected })
    assert.near(64.006575272249, ten.squares, 6e-13)
    assert.same({ 1, 10 }, { one.t, ten.t })
  end)

  it("does what the scheme says, to the last bit", function()
    with_directory(function(directory)
      for n, size in ipairs { { 16, 16 }, { 13, 9 }, { 5, 22 } } do
        local rows, columns = size[1], size[2]
        local path = ("%s/%d.npy"):format(directory, n)
        local expected = reference(rows, columns, wave(rows, columns, 2, 1, 0.02), 12)
        local found = solve(n, ("--size %dx%d --mode 2,1 --amplitude 0.02 --t-end 12 --output %s"):format(rows, columns,
          path))
        for _, name in ipairs { "t", "dt", "accepted", "rejected" } do
          assert.equal(expected[name], found[name], name)
        end
        assert.equal(0.5 + expected.deviation, found.mean)
        assert.near(expected.expected_deviation, expected.deviation, 1e-15)
        local field, wrong = load_npy(path, rows * columns), 0
        for i = 0, rows - 1 do
          for j = 0, columns - 1 do
            if field[i * columns + j] ~= expected.c[i][j] then wrong = wrong + 1 end
          end
        end
        assert.equal(0, wrong, wrong .. " cells differ")
      end
    end)
  end)

  it("gives the same, to the last bit, on any number of ranks in any decomposition, compiled or not", function()
    with_directory(function(directory)
      local path = directory .. "/c.npy"
      local options = "--size 23x18 --t-end 6 --seed 7 --overwrite --output " .. path
      local one = solve(1, options)
      local field = read(path)
      assert.is_true(one.accepted > 20 and one.rejected > 5, one.text)
      for _, run in ipairs {
        { 1, "-1,-1", "1 x 1", "-joff" },
        { 2, "-1,-1", "2 x 1" }, { 2, "2,-1", "2 x 1" }, { 2, "-1,2", "1 x 2" }, { 2, "1,2", "1 x 2", "-joff" },
        { 3, "3,1", "3 x 1" }, { 3, "-1,3", "1 x 3" }, { 3, "-1,-1", "3 x 1", "-joff" },
        { 4, "-1,-1", "2 x 2" }, { 4, "4,-1", "4 x 1" }, { 4, "-1,4", "1 x 4" }, { 4, "2,2", "2 x 2", "-joff" },
      } do
        os.remove(path)
        local other = solve(run[1], options .. " --decomposition " .. run[2], run[4])
        local name = table.concat(run, " ")
        assert.equal(run[3], other.dims, name)
        assert.equal(one.text, other.text, name)
        assert.is_true(field == read(path), name .. ": the field differs")
      end
    end)
  end)

  it("begins with random numbers that depend on the seed alone", function()
    local one, same = solve(1, "--size 20x30 --t-end 0 --seed 3"), solve(3, "--size 20x30 --t-end 0 --seed 3")
    local other = solve(2, "--size 20x30 --t-end 0 --seed 4")
    assert.equal(one.text, same.text)
    assert.not_equal(one.squares, other.squares)
    assert.same({ 0, 0, 0 }, { one.accepted, one.rejected, one.t })
    assert.is_true(one.least >= 0.49 and one.least < 0.4905 and one.most < 0.51 and one.most > 0.5095)
  end)

  it("lets the mean go by the reaction alone", function()
    for n, options in ipairs { "--size 40x25 --t-end 30", "--size 40x25 --t-end 5 --dt 0.0125" } do
      local run = solve(n, options .. " --amplitude 0.3")
      assert.near(run.exact, run.mean, 1e-15)
      assert.is_true(math.abs(run.mean - 0.5) > 1e-6, "the mean is 0.5 from the beginning")
    end
    -- With equal steps the factor is known beforehand.
    local first = solve(1, "--size 40x25 --t-end 0 --amplitude 0.3")
    local last = solve(2, "--size 40x25 --t-end 5 --dt 0.0125 --amplitude 0.3")
    assert.equal(400, last.accepted)
    assert.near((first.mean - 0.5) * (1 - 0.01 * 0.0125) ^ 400, last.mean - 0.5, 1e-15)
  end)

  it("lets waves grow at their rates", function()
    with_directory(function(directory)
      local STEPS, DT, AMPLITUDE = 20, 0.01, 1e-5
      for n, wave_numbers in ipairs { { 1, 0 }, { 0, 5 }, { 31, 0 } } do
        local path = ("%s/%d.npy"):format(directory, n)
        local function amplitude(t_end)
          solve(n, ("--size 32x32 --mode %d,%d --amplitude %g --dt %g --t-end %g --overwrite --output %s"):format(
            wave_numbers[1], wave_numbers[2], AMPLITUDE, DT, t_end, path))
          local field, shape = load_npy(path, 32 * 32), wave(32, 32, wave_numbers[1], wave_numbers[2], 1)
          local sum, norm = 0, 0
          for k = 0, 32 * 32 - 1 do
            local of_wave = shape(math.floor(k / 32), k % 32) - 0.5
            sum, norm = sum + (field[k] - 0.5) * of_wave, norm + of_wave * of_wave
          end
          return sum / norm
        end
        local half_waves = math.max(wave_numbers[1], wave_numbers[2])
        local q2 = 4 * math.sin(half_waves * math.pi / 64) ^ 2
        local sigma = 0.25 * q2 - q2 ^ 2 - 0.01
        local expected = amplitude(0) * (1 + sigma * DT) ^ STEPS
        -- To the cube of the amplitude the equation is not linear.
        assert.near(expected, amplitude(STEPS * DT), 1e-14)
      end
    end)
  end)

  it("writes HDF5 that other programs read", function()
    local found, lack = files.find_hdf5()
    if not found then return pending(lack) end
    with_directory(function(directory)
      local fields = {}
      for n = 1, 4 do
        local path = ("%s/%d.h5"):format(directory, n)
        local run = solve(n, ("--size 12x7 --t-end 3 --output %s --overwrite"):format(path))
        local dumped, text, complaint = job.run { program = "h5dump", args = { "-m", "%.17g", path } }
        if dumped == 127 then return pending "no h5dump" end
        assert.equal(0, dumped, complaint)
        fields[n] = text:gsub("HDF5 \"[^\"]*\"", "")
        assert.matches("DATASET \"c\"", text)
        assert.matches("SIMPLE { %( 12, 7 %) / %( 12, 7 %) }", text)
        local sum, count = 0, 0
        for line in text:match("DATA {\n(.-)\n *}"):gmatch "[^\n]+" do
          for number in line:gsub("^ *%(%d+,%d+%):", ""):gmatch "[%d.e+-]+" do
            sum, count = sum + tonumber(number) ^ 2, count + 1
          end
        end
        assert.equal(84, count)
        assert.near(run.squares, sum, 1e-13)
        assert.matches('ATTRIBUTE "accepted" .*%(0%): ' .. run.accepted .. "\n", text)
        assert.equal(fields[1], fields[n])
      end
    end)
  end)

  it("draws a picture", function()
    with_directory(function(directory)
      local path = directory .. "/c.png"
      solve(4, "--size 30x20 --t-end 1 --picture " .. path)
      assert.equal("\137PNG\r\n\26\n", read(path):sub(1, 8))
      assert.is_false(exists(path .. ".part"))
    end)
  end)

  it("is quiet where there is no terminal, and says --help once", function()
    local code, out = start(2, "--help")
    assert.equal(0, code)
    local _, count = out:gsub("Usage: cahn_hilliard", "")
    assert.equal(1, count)
  end)
end)

-- ---- bad input ----

local function check_refusal(pattern, code, out, err)
  job.assert_refused("cahn_hilliard", pattern, code, out, err)
end

describe("examples/cahn_hilliard.lua, given bad input,", function()
  for _, case in ipairs {
    { 1, "--size 16", "%-%-size: expected rows x columns, such as 512x512, got '16'" },
    { 1, "--size 0x4", "%-%-size: expected rows" },
    { 1, "--size 4x4x4", "%-%-size: expected rows" },
    { 1, "--size 1e9x1e9", "%-%-size" },
    { 3, "--size 2x2 --decomposition 3,1", "%-%-size, %-%-decomposition: a grid of 2 x 2 cells cannot be divided" },
    { 4, "--size 1x1", "%-%-size, %-%-decomposition: " },
    { 3, "--decomposition 2,2", "%-%-size, %-%-decomposition: argument 'decomposition': expected a product that is 3" },
    { 2, "--decomposition 3,-1", "%-%-size, %-%-decomposition: .*a product that divides 2" },
    { 2, "--decomposition 0,2", "%-%-size, %-%-decomposition: " },
    { 1, "--decomposition 2", "%-%-decomposition: expected numbers of ranks, such as 2,%-1, got '2'" },
    { 1, "--t-end nan", "%-%-t%-end: expected a time from 0 on, got 'nan'" },
    { 1, "--dt -1", "%-%-dt: expected a step above 0, got '%-1'" },
    { 1, "--dt inf", "%-%-dt: expected a step above 0, got 'inf'" },
    { 1, "--amplitude nan", "%-%-amplitude: " },
    { 3, "--amplitude 1e200", "%-%-amplitude: so far from 0.5 the rate of change is not finite" },
    { 2, "--size 16x16 --dt 10 --t-end 1000", "%-%-dt: the field is not finite any more at t = 1000: try smaller" },
    { 1, "--size 16x16 --tolerance 1e-30", "%-%-tolerance: no step of at least 1e%-10 meets it at t = 0" },
    { 2, "--bogus", "unknown option '%-%-bogus'" },
    { 1, "--output c.txt", "%-%-output: expected a file .h5 or .npy, got 'c.txt'" },
    { 2, "--output /nowhere/c.npy", "%-%-output: /nowhere/c.npy: No such file" },
    { 2, "--picture /nowhere/c.png", "%-%-picture: /nowhere/c.png: No such file" },
  } do
    local n, options, pattern = unpack(case)
    it(("%s on %d ranks, says what is wrong"):format(options, n), function()
      check_refusal(pattern, start(n, options))
    end)
  end

  it("leaves an existing file alone", function()
    job.with_file("precious", function(path)
      assert(os.rename(path, path .. ".npy"))
      check_refusal("%-%-output: [^ ]* exists already", start(2, "--size 8x8 --output " .. path .. ".npy"))
      check_refusal("%-%-picture: [^ ]* exists already", start(2, "--size 8x8 --picture " .. path .. ".npy"))
      assert.equal("precious", read(path .. ".npy"))
      os.remove(path .. ".npy")
    end)
  end)

  it("does not wait where an option was given to one rank only", function()
    local one, two = { PROGRAM, "--size", "8x8" }, { PROGRAM, "--size", "8x8", "--output", "/tmp/nothing.npy" }
    for _, args in ipairs { { one, two }, { two, one } } do
      check_refusal("%-%-output: differs between the ranks", job.run { timeout = 60, programs = {
        { program = "nmpi", n = 1, args = args[1] }, { program = "nmpi", n = 1, args = args[2] },
      } })
    end
    assert.is_false(exists "/tmp/nothing.npy")
  end)
end)
