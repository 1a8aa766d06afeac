-- SPDX-License-Identifier: MIT
local job = require "spec.support.job"

local build = os.getenv "NMPI_TEST_BUILD"

-- Under MPICH's mpiexec, standard output is unbuffered (so print's pieces mingle), and may hold its report of
-- an abort.

-- What a chunk may start with: its rank, without asking MPI.
local RANK = [[local rank = tonumber(os.getenv "PMI_RANK" or os.getenv "OMPI_COMM_WORLD_RANK") ]]

local function nmpi(args, options)
  options = options or {}
  options.program, options.args = "nmpi", args
  options.timeout = options.timeout or 30
  return job.run(options)
end

local function luajit(args, options)
  options = options or {}
  options.program, options.args = "luajit", args
  return job.run(options)
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("a script", function()
  local show_arg = [[
    local first, lines = 0, {}
    while arg[first - 1] do first = first - 1 end
    for i = first + 1, #arg do lines[#lines + 1] = i .. "=" .. tostring(arg[i]) end
    print(table.concat(lines, "|"), select("#", ...), ...)]]

  local function same_as_luajit(args, stdin)
    local code, out, err = nmpi(args, { stdin = stdin })
    local expected_code, expected_out = luajit(args, { stdin = stdin })
    assert.equal("", err)
    assert.equal(expected_out, out)
    assert.equal(expected_code, code)
    return out
  end

  it("gets arg and ... as luajit sets them", function()
    job.with_file(show_arg, function(path)
      same_as_luajit { path }
      assert.matches("1=a|2=|3=%-joff%s+3\ta\t\t%-joff", same_as_luajit { path, "a", "", "-joff" })
      same_as_luajit { "-joff", "-O2", "-e", "x = 1", "-lffi", path, "b" }
      same_as_luajit { "-j", "off", "-e", show_arg, path, "b" }
      same_as_luajit { "--", path, "--", "-x" }
    end)
    same_as_luajit { "-e", show_arg }
    same_as_luajit({ "-", "a", "b" }, show_arg)
  end)

  it("runs after every -e and -l, in their order", function()
    job.with_file("print(x, y, rawget(_G, 'ffi'), ...)", function(path)
      local out = same_as_luajit { "-ex = {}", "-l", "ffi", "-e", "x = type(x) y = 'two'", path, "arg" }
      assert.equal("table\ttwo\tnil\targ\n", out)
    end)
  end)

  it("may come from the standard input", function()
    local text = "#!shebang\nio.write(('from %s: %s\\n'):format(debug.getinfo(1, 'S').short_src, ...))"
    assert.equal("from stdin: a\n", same_as_luajit({ "-", "a" }, text))
    local code, out, err = nmpi({ "-", "a" }, { n = 3, stdin = text })
    assert.equal("", err)
    assert.equal(0, code)
    assert.equal(3, count(out, "from stdin: a\n"))
    assert.equal(0, (nmpi({ "-" }, { n = 2 })))
  end)

  it("runs after LUA_INIT", function()
    local args = { "-e", "print(x)" }
    local _, out = nmpi(args, { env = { LUA_INIT = "x = 'initial'" } })
    assert.equal("initial\n", out)
    job.with_file("x = 'in a file'", function(path)
      _, out = nmpi(args, { env = { LUA_INIT = "@" .. path } })
      assert.equal("in a file\n", out)
    end)
  end)

  it("does not start MPI unless it requires nmpi", function()
    local code, out, err = nmpi({ "-e", "print(package.loaded.nmpi)" }, { env = { NMPI_LIBMPI = "/nowhere" } })
    assert.equal("", err)
    assert.equal("nil\n", out)
    assert.equal(0, code)
  end)

  it("ends with the finalizers run and MPI finalised", function()
    local chunk = [[
      require "nmpi"
      ended = newproxy(true)
      getmetatable(ended).__gc = function() io.write "ended\n" end]]
    local code, out, err = nmpi({ "-e", chunk }, { n = 2 })
    assert.equal("", err)
    assert.equal("ended\nended\n", out)
    assert.equal(0, code)
  end)
end)

describe("the program's modules", function()
  it("are found from any directory and through a symbolic link", function()
    local link = os.tmpname()
    os.remove(link)
    os.execute(("ln -s '%s/nmpi' '%s'"):format(build, link))
    local code, out, err = job.run {
      program = "sh", args = { "-c", "cd / && '" .. link .. "' --info" },
      env = { NMPI_MPI = os.getenv "NMPI_TEST_MPI" },
    }
    os.remove(link)
    assert.equal("", err)
    assert.matches("size: 1\n", out)
    assert.equal(0, code)
  end)

  it("are found where install puts them", function()
    local prefix = os.tmpname()
    os.remove(prefix)
    os.execute((([[
      mkdir -p PREFIX/bin PREFIX/share/lua/5.1 PREFIX/lib/lua/5.1/nmpi &&
      cp 'BUILD/nmpi' PREFIX/bin && cp -R 'BUILD/lua/nmpi' PREFIX/share/lua/5.1 &&
      mv PREFIX/share/lua/5.1/nmpi/core_*.so PREFIX/lib/lua/5.1/nmpi]]):gsub("PREFIX", prefix):gsub("BUILD", build)))
    local code, out, err = job.run { program = prefix .. "/bin/nmpi", args = { "--info" }, n = 2 }
    os.execute("rm -rf " .. prefix)
    assert.equal("", err)
    assert.matches("size: 2\n", out)
    assert.equal(0, code)
  end)
end)

describe("an option", function()
  it("--help prints the usage", function()
    for _, option in ipairs { "--help", "-h" } do
      local code, out, err = nmpi { option }
      assert.equal("", err)
      assert.matches("^usage: nmpi ", out)
      assert.equal(0, code)
    end
  end)

  it("--version prints the versions, and lets a script run", function()
    for _, option in ipairs { "--version", "-v" } do
      local code, out, err = nmpi { option }
      assert.equal("", err)
      assert.matches("^nmpi %d+%.%d+%.%d+ %-%- LuaJIT [^\n]+\n$", out)
      assert.equal(0, code)
    end
    local _, out = nmpi({ "-v", "-" }, { stdin = "print 'script'" })
    assert.matches("^nmpi [^\n]+\nscript\n$", out)
  end)

  it("--info prints what was found, from rank 0 only", function()
    for _, n in ipairs { 0, 1, 2 } do
      local code, out, err = nmpi({ "-joff", "--info" }, { n = n > 0 and n or nil })
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal(1, count("\n" .. out, "\nsize: " .. math.max(n, 1) .. "\n"))
      assert.equal(1, count("\n" .. out, "\nabi: " .. os.getenv "NMPI_TEST_MPI" .. "\n"))
      for _, key in ipairs { "version", "mpi", "path", "launcher", "thread_level", "luajit", "host" } do
        assert.equal(1, count("\n" .. out, "\n" .. key .. ": [^\n]"))
      end
      assert.matches("\njit: false\n", out)
      assert.equal("", (out:gsub("[%a_]+: [^\n]+\n", "")))
    end
  end)

  it("that is unknown, or lacks its argument, ends with the usage", function()
    for _, args in ipairs { { "-x" }, { "--nope", "script.lua" }, { "-vx" }, { "-i3" }, { "-e" }, { "-l" },
        { "-j" }, {}, { "--" }, { "-joff", "-O3", "--debug" } } do
      local code, out, err = nmpi(args)
      assert.equal("", out)
      assert.matches("^nmpi: [^\n]+\nusage: nmpi ", err)
      assert.equal(1, code)
    end
    local code, _, err = nmpi({ "--nope" }, { n = 2 })
    assert.equal(1, count(err, "unknown option %-%-nope"))
    assert.equal(1, code)
  end)

  it("-l that fails ends the program", function()
    local code, out, err = nmpi { "-l", "no.such.module", "-e", "print 'not reached'" }
    assert.equal("", out)
    assert.matches("^nmpi: module 'no.such.module' not found", err)
    assert.equal(1, code)
  end)

  it("--debug interprets, and checks bounds", function()
    local code, out = nmpi({ "--debug", "-e", [[
      print(jit.status(), nil)
      local a = require("nmpi").zeros(3)
      print(pcall(function() return a[3] end))
      print(pcall(function() a[-1] = 1 end))]] }, { n = 1 })
    assert.matches("^false\t", out)
    assert.equal(2, count(out, "\nfalse\t[^\n]*%f[%d]3%f[%D]"))
    assert.equal(0, code)
  end)
end)

describe("LuaJIT's options", function()
  local function same_as_luajit(args)
    local code, out, err = nmpi(args)
    local expected_code, expected_out, expected_err = luajit(args)
    assert.equal(expected_out, out)
    assert.equal(expected_err:gsub("^luajit: ", "nmpi: "):lower(), err:lower())
    assert.equal(expected_code, code)
    return out
  end

  it("switch the compiler and set its flags", function()
    local show = "print(jit.status())"
    for _, args in ipairs {
      { "-joff", "-e", show }, { "-j", "off", "-jon", "-e", show }, { "-e", show, "-joff", "-e", show },
      { "-O0", "-e", show }, { "-O-fold,+sink", "-e", show }, { "-O1", "-O", "-e", show }, { "-jflush", "-e", show },
    } do
      same_as_luajit(args)
    end
    assert.matches("^false", same_as_luajit { "-joff", "-e", show })
    assert.not_matches("fold", same_as_luajit { "-O-fold", "-e", show })
  end)

  it("start LuaJIT's modules", function()
    local loop = "for i = 1, 200 do x = i end"
    local _, out = nmpi { "-jv=-", "-e", loop }
    assert.matches("%[TRACE +%d+ %(command line%):1 loop%]", out)
    _, out = nmpi { "-jdump=T,-", "-e", loop }
    assert.matches("%-%-%-%- TRACE %d+ start %(command line%):1", out)
    _, out = nmpi { "-jdump=,-", "-e", loop }
    assert.matches("%-%-%-%- TRACE %d+ mcode", out)
    job.with_file("", function(path)
      nmpi { "-jv=" .. path, "-e", loop }
      assert.matches("TRACE", assert(io.open(path)):read "*a")
    end)
    _, out = nmpi { "-jp=f", "-e", "local t = os.clock() + 0.3 while os.clock() < t do end" }
    assert.matches("%d%%", out)
    _, out = nmpi { "-jp=f", "-e", "local t = os.clock() + 0.3 while os.clock() < t do end error()" }
    assert.matches("%d%%", out)
  end)

  it("that are wrong end the program", function()
    same_as_luajit { "-jnope", "-e", "print 'not reached'" }
    same_as_luajit { "-Onope", "-e", "print 'not reached'" }
  end)
end)

describe("an error", function()
  it("is reported with a traceback that shows the script alone", function()
    local code, out, err = nmpi { "-e", "local function inner() error 'deep' end\ninner()\nprint 'not reached'" }
    assert.equal("", out)
    assert.equal("nmpi: (command line):1: deep\nstack traceback:\n\t[C]: in function 'error'\n"
      .. "\t(command line):1: in function 'inner'\n\t(command line):2: in main chunk\n", err)
    assert.equal(1, code)
  end)

  it("keeps the frames beneath the script's own xpcall", function()
    local _, _, err = nmpi { "-e", "xpcall(function() error 'a' end, function(m) io.stderr:write(debug.traceback(m)) "
      .. "error 'b' end) local function f() xpcall(error, print) return missing.field end f() " }
    assert.matches("attempt to index global 'missing'", err)
    assert.matches("in main chunk\n$", err)
  end)

  it("may be any value", function()
    local function message(chunk)
      local code, _, err = nmpi { "-e", chunk }
      assert.equal(1, code)
      assert.matches("\nstack traceback:\n", err)
      return err:match "^nmpi: ([^\n]*)\n"
    end
    assert.equal("plain", message "error('plain', 0)")
    assert.equal("42", message "error(42, 0)")
    assert.equal("custom", message "error(setmetatable({}, { __tostring = function() return 'custom' end }))")
    assert.equal("(error object is not a string)", message "error {}")
    assert.equal("(error object is not a string)", message "error()")
    assert.equal("(error object is not a string)", message "error(setmetatable({}, { __tostring = error }))")
    assert.equal("7LL", message "error(7LL)")
    assert.matches("inside", message "coroutine.wrap(function() error 'inside' end)()")
  end)

  it("may be a stack overflow", function()
    -- Older LuaJITs do not always have the room left for a traceback.
    local code, _, err = nmpi { "-e", "local function f() return 1 + f() end f()" }
    assert.matches("^nmpi: [^\n]*stack overflow", err)
    assert.equal(1, code)
  end)

  it("in the syntax, or a missing file, ends the program", function()
    local code, out, err = nmpi { "-e", "x x", "-e", "print 'not reached'" }
    assert.equal("", out)
    assert.matches("^nmpi: %(command line%):1: [^\n]+\n$", err)
    assert.equal(1, code)
    job.with_file("x x", function(path)
      code, out, err = nmpi { path }
      assert.equal("", out)
      assert.equal(1, code)
      assert.matches("^nmpi: " .. path:gsub("%p", "%%%0") .. ":1: [^\n]+\n$", err)
    end)
    for n = 0, 2 do
      local ended, _, message = nmpi({ "no-such-script.lua", "argument" }, { n = n > 0 and n or nil })
      assert.matches("nmpi: [^\n]*cannot open no%-such%-script%.lua", message)
      assert.equal(1, ended)
    end
  end)

  it("ends the job: the others wait for this rank", function()
    local code, out, err = nmpi({ "-e", [[
      local mpi = require "nmpi"
      if mpi.rank() == 1 then io.write "written before" error 'on rank 1' end
      mpi.barrier()
      print 'not reached']] }, { n = 3 })
    assert.matches("^written before", out)
    assert.not_matches("not reached", out)
    assert.equal(1, count(err, "nmpi: rank 1 of 3: %(command line%):2: on rank 1\nstack traceback:\n"))
    assert.equal(1, count(err, "nmpi: rank"))
    assert.equal(1, code)
  end)

  it("before MPI is started ends the job, too", function()
    for _, place in ipairs { "if rank == 1 then error 'early' end require 'nmpi'",
        "if rank == 1 then require 'no.such.module' end require('nmpi').barrier()" } do
      local code, out, err = nmpi({ "-e", RANK .. place .. " print 'not reached'" }, { n = 2 })
      assert.not_matches("not reached", out)
      assert.equal(1, count(err, "nmpi: rank 1 of 2: "))
      assert.equal(1, code)
    end
  end)

  it("of require 'nmpi' itself ends the job, too", function()
    local code, out, err = nmpi({ "-e", RANK .. [[
      require("ffi").cdef "int setenv(const char *, const char *, int);"
      if rank == 1 then require("ffi").C.setenv("NMPI_LIBMPI", "/nowhere/libmpi.so", 1) end
      require("nmpi").barrier()
      print 'not reached']] }, { n = 2 })
    assert.not_matches("not reached", out)
    assert.matches("nmpi: rank 1 of 2: NMPI_LIBMPI=/nowhere/libmpi.so ", err)
    assert.equal(1, code)
  end)

  it("on every rank is reported by each, whole", function()
    local code, _, err = nmpi({ "-e", [[
      local mpi = require "nmpi"
      local function recurse(n) if n == 0 then error 'everywhere' end recurse(n - 1) return n end
      mpi.barrier()
      recurse(9)]] }, { n = 2 })
    assert.equal(1, code, err)
    assert.matches("everywhere", err)
    for line in err:gmatch "[^\n]*everywhere[^\n]*" do
      assert.matches("^nmpi: rank [01] of 2: %(command line%):2: everywhere$", line)
    end
  end)
end)

describe("os.exit", function()
  it("gives the program its exit code", function()
    for value, expected in pairs { ["0"] = 0, ["true"] = 0, [""] = 0, ["3"] = 3, ["false"] = 1, ["300"] = 44 } do
      for _, prelude in ipairs { "", "require 'nmpi' " } do
        local code, out = nmpi { "-e", prelude .. "io.write 'written' os.exit(" .. value .. ")" }
        assert.equal("written", out)
        assert.equal(expected, code)
      end
    end
  end)

  it("ends the job where it is not 0", function()
    for _, value in ipairs { 1, 3, 300 } do
      for _, chunk in ipairs { RANK .. "if rank == 1 then os.exit(%d) end require('nmpi').barrier()",
          "local mpi = require 'nmpi' if mpi.rank() == 1 then os.exit(%d) end mpi.barrier()",
          "local mpi = require 'nmpi' if mpi.rank() == 1 then os.exit(%d, true) end mpi.barrier()" } do
        local code, out = nmpi({ "-e", chunk:format(value) .. " print 'not reached'" }, { n = 2 })
        assert.not_matches("not reached", out)
        assert.equal(value % 256, code)
      end
    end
  end)

  it("of 0 on every rank is a clean end", function()
    local code, out, err = nmpi({ "-e", "require('nmpi').barrier() io.write 'x' os.exit(0)" }, { n = 2 })
    assert.equal("", err)
    assert.equal("xx", out)
    assert.equal(0, code)
  end)
end)

describe("the prompt", function()
  local input = table.concat({
    "1 + 1", "= 'a', nil", "x =", "5", "local y = 1 -- forgotten at once", "print(x, y)", "error 'oops'", "x x",
    "setmetatable({}, { __tostring = function() return 'two\\nlines' end })", "",
    "_PROMPT = '? '", "x",
  }, "\n") .. "\n"

  it("prints what expressions give, and survives errors", function()
    local code, out, err = nmpi({ "-i" }, { stdin = input })
    assert.matches("^nmpi [^\n]+\n", out)
    assert.equal("> 2\n> a\tnil\n> >> > > 5\tnil\n> > > two\nlines\n> > ? 5\n? \n", out:match "\n(.*)$")
    assert.equal("stdin:1: oops\nstack traceback:\n\t[C]: in function 'error'\n\tstdin:1: in main chunk\n",
      err:match "^(.-chunk\n)")
    assert.matches("\nstdin:1: [^\n]+ near 'x'\n$", err)
    assert.equal(0, code)
  end)

  it("comes after the script", function()
    local code, out = nmpi({ "-i", "-e", "x = 1", "-e", "print 'first'" }, { stdin = "x" })
    assert.matches("^first\nnmpi [^\n]+\n> 1\n> \n$", out)
    assert.equal(0, code)
  end)

  it("runs on every rank what rank 0 reads", function()
    local code, out, err = nmpi({ "-i" }, { n = 2, stdin = input .. "require('nmpi').rank()\n" })
    assert.equal(0, code)
    for rank = 0, 1 do
      for _, result in ipairs { "2", "a\tnil", "two", "lines", "5", tostring(rank) } do
        assert.equal(1, count(out, ("[%d] %s\n"):format(rank, result):gsub("%p", "%%%0")))
      end
      assert.equal(1, count(err, "%[" .. rank .. "%] stdin:1: oops\n"))
    end
    assert.equal(1, count(out, "nmpi %d"))
    assert.equal(2, count(err, "stack traceback:"))
  end)

  it("ends with os.exit", function()
    local code = nmpi({ "-i" }, { n = 2, stdin = "os.exit(require('nmpi').rank() * 3)\nprint 'not reached'\n" })
    assert.equal(3, code)
  end)
end)
