-- SPDX-License-Identifier: MIT
local job = require "spec.support.job"

local source = os.getenv "NMPI_TEST_SOURCE"

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

local LIBRARIES = { mpich = { "MPICH", "Intel", "MVAPICH" }, openmpi = { "Open MPI" } }

local function names_library(text)
  for _, name in ipairs(LIBRARIES[os.getenv "NMPI_TEST_MPI"]) do
    if text:find(name, 1, true) then return true end
  end
end

local function check_hello(out, n)
  local lines = lines_of(out)
  assert.equal(n, #lines)
  for rank = 0, n - 1 do
    local host, library = lines[rank + 1]:match(("^Hello from rank %d of %d on (%%S+), with (.+)$"):format(rank, n))
    assert.truthy(host, lines[rank + 1])
    assert.truthy(names_library(library), library)
  end
end

-- The midpoint rule misses the integral by h^2 / 24 times the difference of the integrand's slopes at the ends, which
-- is 2 here.
local function check_pi(line, n_intervals)
  local pi = tonumber(line:match "^pi = (%d%.%d+), error %d%.%de%-%d%d$")
  assert.truthy(pi, line)
  assert.is_true(math.abs(pi - math.pi) / math.pi < 1e-3, line)
  assert.near(math.pi + 1 / (12 * n_intervals ^ 2), pi, 1e-10)
end

local function check_pi_run(out, n, n_intervals, n_times)
  local lines = lines_of(out)
  check_pi(lines[1], n_intervals)
  assert.matches(("^%d ranks, %d intervals, %d reductions: %%d+%%.%%d+ s$"):format(n, n_intervals, n_times), lines[2])
  return lines
end

local function check_exchange(out, n)
  local lines = lines_of(out)
  assert.equal(2, #lines)
  assert.matches(("^%d ranks, 40 exchanges of 10000 doubles: %%d+%%.%%d+ s$"):format(n), lines[1])
  assert.equal(("rank 0 sent 20000 ... 29999 to rank %d and received %d ... %d"):format(n - 1, 19999 + n, 29998 + n),
    lines[2])
end

local function check_consensus(out, n)
  local lines, people = lines_of(out), 50 * n
  assert.equal(2, #lines)
  assert.matches(("^%d ranks, %d people, 40 rounds: %%d+%%.%%d+ s$"):format(n, people), lines[1])
  local sum, total = 0, 0
  for i = 0, people - 1 do
    for j = 0, people - 1 do
      sum, total = sum + i * (1 + i * j % 7), total + 1 + i * j % 7
    end
  end
  local found, expected = lines[2]:match "^consensus (%S+), expected (%S+)$"
  assert.truthy(found, lines[2])
  assert.near(sum / total, tonumber(found), 1e-8)
  assert.near(sum / total, tonumber(expected), 1e-8)
end

local function check_halo(out, n)
  local lines, grid = lines_of(out), ({ "1 x 1", "1 x 2", "1 x 3", "2 x 2", nil, "2 x 3" })[n]
  assert.equal(2, #lines)
  assert.matches(("^%s ranks, sendrecv: %%d+%%.%%d+ s an exchange$"):format(grid), lines[1])
  assert.matches(("^%s ranks, isend, irecv, waitall: %%d+%%.%%d+ s an exchange$"):format(grid), lines[2])
end

-- The grid is as near to a square as can be: its columns are the larger factor.
local function check_split(block)
  return function(out, n)
    local rows = n == 4 and 2 or 1
    local height, width = block * rows, block * n / rows
    local sum = width * height * (height - 1) / 2 + height * width * (width - 1)
    local line = "%d x %d processes, a matrix of %d x %d: sum %d, 0 sums wrong\n"
    assert.equal(line:format(rows, n / rows, height, width, sum), out)
  end
end

-- Found here by a pass over all points, and two over their heights.
local function check_landscape(side)
  local lowest, at_x, at_y, sum, squares = math.huge, nil, nil, 0, 0
  local heights = {}
  for y = 0, side - 1 do
    for x = 0, side - 1 do
      local h = 1000 + math.sin(9 * x / side) * math.cos(7 * y / side) + ((x - 0.4 * side) / side) ^ 2
      if h < lowest then lowest, at_x, at_y = h, x, y end
      sum = sum + h
      heights[#heights + 1] = h
    end
  end
  local mean = sum / side ^ 2
  for _, h in ipairs(heights) do squares = squares + (h - mean) ^ 2 end
  return function(out, n)
    local lines = lines_of(out)
    assert.equal(2, #lines)
    local line = "%d ranks, %d x %d points: lowest %.6f at (%d, %d)"
    assert.equal(line:format(n, side, side, lowest, at_x, at_y), lines[1])
    local found_mean, found_variance = lines[2]:match "^mean (%d+%.%d+), variance (%d+%.%d+)$"
    assert.truthy(found_mean, lines[2])
    assert.near(mean, tonumber(found_mean), 2e-9)
    assert.near(squares / side ^ 2, tonumber(found_variance), 2e-9)
  end
end

local function check_threads(n_threads, laps)
  return function(out, n)
    local lines = lines_of(out)
    assert.equal(2, #lines)
    assert.equal(("%d ranks with %d threads each, %d laps: 0 tokens wrong"):format(n, n_threads, laps), lines[1])
    assert.matches("^%d+%.%d+ s a lap$", lines[2])
  end
end

-- For each file a list of runs: arguments, seconds allowed, the ranks for each program (1 to 4 unless given) and a
-- function that checks the output.
local expectations = {
  ["01_hello.lua"] = {
    { timeout = 60, check = check_hello },
  },
  ["02_pi.lua"] = {
    { timeout = 280, nmpi = { 2 }, luajit = { 1 }, check = function(out, n)
      assert.equal(2, #check_pi_run(out, n, 1000, 10000))
    end },
    -- Where ranks outnumber cores, a reduction may take a time slice of the operating system: so not that many.
    { timeout = 120, args = { "5000", "200" }, check = function(out, n)
      assert.equal(2, #check_pi_run(out, n, 5000, 200))
    end },
    { timeout = 120, args = { "--compare-jit", "100" }, nmpi = { 1 }, luajit = { 1 }, check = function(out, n)
      local lines = check_pi_run(out, n, 100, 10000)
      assert.equal(3, #lines)
      assert.is_true(tonumber(lines[3]:match "^JIT speed%-up: (%S+)$") > 0, lines[3])
    end },
  },
  ["03_exchange.lua"] = {
    { timeout = 60, luajit = { 2 }, check = check_exchange },
  },
  ["04_scatter_gather.lua"] = {
    { timeout = 60, luajit = { 2 }, check = check_consensus },
  },
  ["05_halo.lua"] = {
    { timeout = 60, nmpi = { 1, 2, 3, 4, 6 }, luajit = { 2 }, check = check_halo },
  },
  ["08_custom_reduction.lua"] = {
    { timeout = 60, check = check_landscape(200) },
    { timeout = 60, args = { "2" }, nmpi = { 3 }, luajit = { 4 }, check = check_landscape(2) },
  },
  ["06_split.lua"] = {
    { timeout = 60, check = check_split(100) },
    { timeout = 60, args = { "7" }, nmpi = { 4 }, luajit = { 3 }, check = check_split(7) },
  },
  -- What solvers share, no program; and the solvers, each of which has a spec of its own.
  ["solver.lua"] = {},
  ["cahn_hilliard.lua"] = {},
  ["mpdata_2d.lua"] = {},
  ["shallow_water.lua"] = {},
  ["07_threads.lua"] = {
    { timeout = 120, nmpi = { 1, 2 }, luajit = { 2 }, check = check_threads(2, 100) },
    { timeout = 120, args = { "3", "10" }, nmpi = { 3 }, luajit = { 1 }, check = check_threads(3, 10) },
  },
}

local function example_files()
  local files = {}
  local listing = assert(io.popen(("ls '%s/examples'"):format(source)))
  for name in listing:lines() do
    if name:match "%.lua$" then files[#files + 1] = name end
  end
  listing:close()
  return files
end

for _, name in ipairs(example_files()) do
  describe("examples/" .. name, function()
    local runs = expectations[name]

    it("has an expectation here", function()
      assert.truthy(runs)
    end)

    for _, run in ipairs(runs or {}) do
      for _, program in ipairs { "nmpi", "luajit" } do
        for _, n in ipairs(run[program] or { 1, 2, 3, 4 }) do
          local args = { source .. "/examples/" .. name, unpack(run.args or {}) }
          local command = table.concat({ program, unpack(run.args or {}) }, " ")
          it(("gives the right output with -n %d under %s"):format(n, command), function()
            local code, out, err = job.run { program = program, n = n, args = args, timeout = run.timeout }
            assert.equal(0, code, err)
            run.check(out, n)
          end)
        end
      end
    end
  end)
end

describe("the expectations", function()
  it("are of examples that exist", function()
    local there = {}
    for _, name in ipairs(example_files()) do there[name] = true end
    for name in pairs(expectations) do assert.truthy(there[name], name) end
  end)
end)

describe("examples/02_pi.lua", function()
  it("refuses arguments that it does not know", function()
    local code, out, err = job.run { program = "nmpi", n = 2, args = { source .. "/examples/02_pi.lua", "many" } }
    assert.not_equal(0, code)
    assert.equal("", out:match "pi = .*" or "")
    assert.matches("expected %-%-compare%-jit or a number, got many", err)
  end)
end)
