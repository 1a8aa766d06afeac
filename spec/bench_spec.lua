-- SPDX-License-Identifier: MIT
-- tools/bench: that it runs and what it writes, never how long anything takes.
local files = require "spec.support.files"
local job = require "spec.support.job"

local read, with_directory = files.read, files.with_directory

local SOURCE, BUILD, MPI = os.getenv "NMPI_TEST_SOURCE", os.getenv "NMPI_TEST_BUILD", os.getenv "NMPI_TEST_MPI"

local function bench(directory, args, env)
  local words = { "--quick", "--mpi", MPI, "--output", directory, BUILD }
  for _, word in ipairs(args) do table.insert(words, 1, word) end
  return job.run { program = SOURCE .. "/tools/bench", args = words, env = env, timeout = 300 }
end

-- The tables of a page: each a list of lines, which are lists of cells.
local function tables_of(text)
  local tables, current = {}, nil
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    if line:sub(1, 1) ~= "|" then
      current = nil
    else
      if not current then
        current = {}
        tables[#tables + 1] = current
      end
      local cells = {}
      for cell in line:sub(2):gmatch "%s*([^|]-)%s*|" do cells[#cells + 1] = cell end
      current[#current + 1] = cells
    end
  end
  return tables
end

local function check_svg(text)
  assert.matches("^<%?xml ", text)
  assert.matches("</svg>%s*$", text)
  assert.matches("<path ", text)
end

describe("tools/bench --quick", function()
  it("runs everything, and writes a page with tables and plots", function()
    if os.execute "command -v gnuplot >/dev/null 2>&1" ~= 0 then return pending "gnuplot is not installed" end
    with_directory(function(directory)
      local code, _, err = bench(directory, {})
      assert.equal(0, code, err)
      local page = read(directory .. "/performance.md")
      for _, title in ipairs { "What a call costs", "Messages and collectives", "Strided views",
          "π: the paper's Figure 1", "Start and memory", "Growth", "Where arrays lie in memory",
          "Your own operators", "Threads", "MPDATA", "Cahn-Hilliard: the paper's Figure 2" } do
        assert.truthy(page:find("\n## " .. title .. "\n", 1, true), title)
      end
      local figures = 0
      for _, lines in ipairs(tables_of(page)) do
        assert.is_true(#lines > 2, "a table without lines")
        local of_nmpi
        for column, name in ipairs(lines[1]) do
          if name == "nmpi" then of_nmpi = column end
        end
        for i, cells in ipairs(lines) do
          assert.equal(#lines[1], #cells, table.concat(cells, " | "))
          if of_nmpi and i > 2 then
            assert.matches("^%d[%d.]* [nµm]*s$", cells[of_nmpi])
            figures = figures + 1
          end
        end
      end
      assert.is_true(figures > 50, figures .. " figures")
      local plots = 0
      for path in page:gmatch "!%[[^%]]*%]%(([^)]*)%)" do
        check_svg(read(directory .. "/" .. path))
        plots = plots + 1
      end
      -- That of π is of the peers, which are left out.
      assert.equal(5, plots)
    end)
  end)

  it("complains about unknown benchmarks, and runs the others", function()
    with_directory(function(directory)
      local code, _, err = bench(directory, { "pi", "bogus", "--only" })
      assert.equal(1, code)
      assert.matches("there is no benchmark 'bogus': expected calls, transfer, ", err)
      assert.matches("## π", read(directory .. "/performance.md"))
    end)
  end)

  it("writes nothing where nothing is known", function()
    with_directory(function(directory)
      for _, args in ipairs { { "--only", "bogus", "--mpi", MPI }, { "--only", "pi", "--mpi", "bogus" } } do
        for _, word in ipairs { "--quick", "--output", directory, BUILD } do args[#args + 1] = word end
        local code, _, err = job.run { program = SOURCE .. "/tools/bench", args = args, timeout = 300 }
        assert.equal(1, code)
        assert.matches("there is no %a+ 'bogus': expected ", err)
        assert.matches("there is nothing to run, so nothing is written", err)
        assert.is_false(files.exists(directory .. "/performance.md"))
      end
    end)
  end)

  it("does without gnuplot", function()
    with_directory(function(directory)
      local programs = directory .. "/programs"
      assert(os.execute("mkdir " .. programs) == 0)
      for path in os.getenv("PATH"):gmatch "[^:]+" do
        os.execute(("ln -s %s/* %s/ 2>/dev/null"):format(path, programs))
      end
      os.execute(("rm -f %s/gnuplot*"):format(programs))
      local plot = directory .. "/performance/transfer.svg"
      assert(os.execute(("mkdir %s/performance && touch %s"):format(directory, plot)) == 0)
      -- First without it, then with one that leaves half a plot.
      for _, complaint in ipairs { "gnuplot is not installed", "gnuplot has failed" } do
        if complaint == "gnuplot has failed" then
          local fake = assert(io.open(programs .. "/gnuplot", "w"))
          fake:write "#!/bin/sh\necho half >\"$(sed -n 's/^set output \"\\(.*\\)\"/\\1/p' \"$1\")\"\nexit 1\n"
          fake:close()
          assert.equal(0, os.execute(("chmod +x %s/gnuplot"):format(programs)))
        end
        local code, _, err = bench(directory, { "pi", "transfer", "--only" }, { PATH = programs })
        assert.equal(1, code)
        assert.matches(complaint, err)
        local page = read(directory .. "/performance.md")
        assert.matches(complaint, page)
        assert.is_true(#tables_of(page) >= 4)
        assert.is_false(files.exists(plot))
      end
    end)
  end)

  it("has columns for mpi4py and numba-mpi", function()
    with_directory(function(directory)
      job.with_file(([[
        package.path = %q .. package.path
        local rows = {
          { bench = "transfer", mpi = "a", case = "bcast", bytes = 4, nmpi = 2e-6, c = 1e-6, ratio = 2 },
          { bench = "transfer", mpi = "a", case = "bcast", bytes = 16, nmpi = 3e-6, c = 2e-6, ratio = 1.5 },
          { bench = "transfer", mpi = "a", way = "peers", case = "bcast", bytes = 16, mpi4py = 4e-6 },
          { bench = "transfer", mpi = "b", case = "ping-pong", bytes = 1e6, nmpi = 1e-3, c = 1e-3, ratio = 1 },
          { bench = "transfer", mpi = "b", case = "bidirectional", bytes = 1e6, nmpi = 1e-3, c = 1e-3, ratio = 1 },
          { bench = "transfer", mpi = "b", case = "bcast", bytes = 4, nmpi = 5e-6, c = 5e-6, ratio = 1 },
        }
        local python = { version = "3", mpi4py = "4", numba = "0", numba_mpi = "1" }
        require("bench_report").write {
          rows = rows, names = { "transfer" }, abis = { "a", "b" },
          mpis = { a = { title = "A", python = python }, b = { title = "B" } },
          destination = %q, plots = false, peers = true, output = function() return "" end,
        }
      ]]):format(SOURCE .. "/tools/?.lua;", directory), function(path)
        local code, _, err = job.run { program = "luajit", args = { path } }
        assert.equal(0, code, err)
      end)
      local header = { "routine", "bytes", "C", "nmpi", "nmpi / C", "MB/s", "mpi4py", "numba-mpi" }
      local found = tables_of(read(directory .. "/performance.md"))
      for i = 1, #found do table.remove(found[i], 2) end
      assert.same({
        { header, { "bcast", "4 B", "1.00 µs", "2.00 µs", "2.00", "", "", "" },
          { "bcast", "16 B", "2.00 µs", "3.00 µs", "1.50", "", "4.00 µs", "" } },
        { header, { "ping-pong", "977 KiB", "1.00 ms", "1.00 ms", "1.00", "1000", "not installed", "not installed" },
          { "bidirectional", "977 KiB", "1.00 ms", "1.00 ms", "1.00", "2000", "not installed", "not installed" },
          { "bcast", "4 B", "5.00 µs", "5.00 µs", "1.00", "", "not installed", "not installed" } },
      }, { found[3], found[4] })
    end)
  end)

  it("compares only what C has too", function()
    with_directory(function(directory)
      job.with_file(([[
        package.path = %q .. package.path
        local rows = {
          { bench = "calls", mpi = "a", case = "send", nmpi = 4e-7, c = 2e-7, ratio = 2 },
          { bench = "calls", mpi = "a", case = "recv", nmpi = 2e-7, c = 2e-7, ratio = 1 },
          { bench = "calls", mpi = "a", case = "row", nmpi = 3e-7 },
          { bench = "calls", mpi = "a", way = "interpreted", case = "row", nmpi = 5e-7 },
        }
        require("bench_report").write {
          rows = rows, names = { "calls" }, abis = { "a" }, mpis = { a = { title = "A" } },
          destination = %q, plots = false, output = function() return "" end,
        }
      ]]):format(SOURCE .. "/tools/?.lua;", directory), function(path)
        local code, _, err = job.run { program = "luajit", args = { path } }
        assert.equal(0, code, err)
      end)
      local found = tables_of(read(directory .. "/performance.md"))
      assert.equal("1 of 2, median 1.50", found[1][3][3])
      assert.same({ "row", "", "300 ns", "", "500 ns", "left out", "left out" }, found[3][5])
    end)
  end)

  it("wants a build", function()
    local code, _, err = job.run { program = SOURCE .. "/tools/bench", args = { "/nowhere" } }
    assert.equal(1, code)
    assert.matches("there is no build in /nowhere", err)
  end)
end)

describe("a benchmark program", function()
  local baseline = ("%s/bench/transfer_%s.so"):format(BUILD, MPI)
  local programs = SOURCE .. "/examples/bench/"

  it("says how many ranks it needs", function()
    local code, out, err = job.run { program = "nmpi", n = 1, args = { programs .. "transfer.lua", baseline } }
    assert.equal(1, code)
    assert.equal("", out)
    assert.matches("transfer: this needs 2 ranks, and was started on 1\n", err)
  end)

  -- mpi4py's program for this MPI, or nil.
  local function python(name, ...)
    local code, library = job.run { program = "/usr/bin/python3", args = { "-c", "from mpi4py import MPI; "
      .. "print('openmpi' if 'Open MPI' in MPI.Get_library_version() else 'mpich')" } }
    if code ~= 0 or library:match "%S+" ~= MPI then return end
    return { program = "/usr/bin/python3", args = { programs .. name, ... } }
  end

  it("in Python prints a line for each case and size", function()
    local program = python("transfer.py", "--quick")
    if not program then return pending("no mpi4py for this MPI is installed") end
    local _, _, complaint = job.run(program)
    assert.matches("transfer: this needs 2 ranks, and was started on 1\n", complaint)
    program.n = 2
    local code, out, err = job.run(program)
    assert.equal(0, code, err)
    local sizes = {}
    for line in out:gmatch "[^\n]+" do
      local case, bytes, seconds = line:match "^@\tcase=([%a-]+)\tbytes=(%d+)\tmpi4py=([%d.e-]+)"
      assert.truthy(case, line)
      assert.is_true(tonumber(seconds) > 0, line)
      sizes[case] = (sizes[case] or "") .. bytes .. " "
    end
    local all = "1 256 65536 16777216 "
    assert.same({ ["ping-pong"] = all, bidirectional = all, allreduce = all:sub(3), bcast = all, allgather = all },
      sizes)
  end)

  it("in Python has cases of the program in Lua", function()
    local program = python("calls.py", "--quick")
    if not program then return pending("no mpi4py for this MPI is installed") end
    local code, out, err = job.run(program)
    assert.equal(0, code, err)
    local cases, count = read(programs .. "calls.lua"), 0
    for case in out:gmatch "@\tcase=([^\t]+)\tmpi4py=[%d.e-]+" do
      assert.truthy(cases:find(('{ "%s",'):format(case), 1, true), case)
      count = count + 1
    end
    assert.is_true(count > 80, count .. " cases")
  end)

  it("says that it needs the baselines", function()
    local code, _, err = job.run { program = "nmpi", n = 1, args = { programs .. "pi.lua" } }
    assert.equal(1, code)
    assert.matches("pi: expected the library of the C baselines as first argument\n", err)
  end)

  it("leaves out what does not fit in memory, and goes on", function()
    if not files.exists "/proc/meminfo" then return pending("the system does not tell how much memory there is") end
    local source = ([[
      package.path = %q .. package.path
      local harness = require "harness"
      io.write(("%%s %%s\n"):format(harness.fits("all of it", 2 ^ 60), harness.fits("a byte", 1)))
    ]]):format(programs .. "?.lua;")
    job.with_file(source, function(path)
      local code, out, err = job.run { program = "nmpi", n = 2, args = { path, baseline } }
      assert.equal(0, code, err)
      assert.equal("false true\nfalse true\n", out)
      assert.matches("all of it is left out: it takes %d+ MiB, and %d+ MiB are available\n", err)
      assert.not_matches("a byte", err)
    end)
  end)
end)

describe("docs/performance.md", function()
  it("has the README's figures", function()
    local aims, worst = {}, { 0, 0 }
    for _, lines in ipairs(tables_of(read(SOURCE .. "/docs/performance.md"))) do
      if lines[1][1] == "what" then
        for _, cells in ipairs(lines) do aims[cells[1]] = { cells[3], cells[4] } end
      elseif lines[1][1] == "routine" then
        local mpi = worst[1] == 0 and 1 or 2
        for i = 3, #lines do worst[mpi] = math.max(worst[mpi], tonumber(lines[i][5])) end
      end
    end
    local function pair(format, what, pattern)
      local a, b = unpack((assert(aims[what], what)))
      return format:format(a:match(pattern or ".+"), b:match(pattern or ".+"))
    end
    local median = "median (%S+)"
    local text = read(SOURCE .. "/README.md"):gsub("%s+", " ")
    for _, sentence in ipairs {
      pair("mpi4py with Numba takes %s times as long as nmpi on MPICH and %s times on Open MPI,",
        "π, x = 10: mpi4py's time to nmpi's"),
      pair("numba-mpi at least %s and %s times, whatever x;", "π: numba-mpi's time to nmpi's, the least over x"),
      pair("nmpi takes %s and %s times C's time.", "π, x = 10: nmpi's time to C's"),
      pair("1 byte to 64 MiB: %s and %s times C's time in the median,", "a message or collective, every size", median),
      ("%.2f and %.2f at worst"):format(unpack(worst)),
      pair("%s (MPICH) and %s (Open MPI) times as fast as C's derived datatypes,",
        "speed over derived datatypes, median"),
      ("in the median of %s shapes"):format(aims["a strided exchange, every shape"][1]:match " of (%d+)"),
    } do
      assert.truthy(text:find(sentence, 1, true), sentence)
    end
  end)

  it("has all its plots, as the README has", function()
    for page, expected in pairs { ["docs/performance.md"] = 6, ["README.md"] = 1 } do
      local plots = 0
      for path in read(SOURCE .. "/" .. page):gmatch "!%[[^%]]*%]%(([^)]*%.svg)%)" do
        check_svg(read(SOURCE .. "/" .. (page:match "^.*/" or "") .. path))
        plots = plots + 1
      end
      assert.equal(expected, plots, page)
    end
  end)
end)
