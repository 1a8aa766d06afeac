-- SPDX-License-Identifier: MIT
-- Which MPI library is loaded, how a program starts, and how it ends. The parent is no MPI process.

local job = require "spec.support.job"
local getenv = os.getenv

local ABI = getenv "NMPI_TEST_MPI"
local OTHER = ABI == "mpich" and "openmpi" or "mpich"
local MPIEXEC = getenv "NMPI_TEST_MPIEXEC"
local BUILD = getenv "NMPI_TEST_BUILD"
local PROGRAMS = { "nmpi", "luajit" }

local SONAMES = { mpich = { "libmpich.so.12", "libmpi.so.12" }, openmpi = { "libmpi.so.40" } }

-- A script in a file of its own, gone after the run.
local function run(program, n, source, options)
  return job.with_file(source, function(path)
    local t = { program = program, n = n, args = { path }, timeout = 60 }
    for name, value in pairs(options or {}) do t[name] = value end
    local code, out, err = job.run(t)
    return code, out, err, path
  end)
end

local function count(text, what)
  return select(2, text:gsub(what:gsub("%p", "%%%0"), ""))
end

local function core_exists(abi)
  local file = io.open(("%s/lua/nmpi/core_%s.so"):format(BUILD, abi))
  if file then file:close() end
  return file ~= nil
end

-- Lines come in any order.
local function sorted(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  table.sort(lines)
  return table.concat(lines, "\n")
end

local WHO = [[
  local mpi = require "nmpi"
  local info = mpi.info()
  io.write(("%s %d %d\n"):format(info.abi, mpi.rank(), mpi.size()))
]]

describe("the loader", function()
  for _, program in ipairs(PROGRAMS) do
    for _, n in ipairs { 1, 3 } do
      it(("takes the launcher's library for %d ranks under %s"):format(n, program), function()
        local code, out, err = run(program, n, WHO)
        local expected = {}
        for rank = 0, n - 1 do expected[rank + 1] = ("%s %d %d"):format(ABI, rank, n) end
        assert.are.equal(table.concat(expected, "\n"), sorted(out), err)
        assert.are.equal(0, code)
      end)
    end

    it("obeys NMPI_MPI without a launcher under " .. program, function()
      local code, out = run(program, nil, WHO, { env = { NMPI_MPI = ABI } })
      assert.are.equal(ABI .. " 0 1\n", out)
      assert.are.equal(0, code)
    end)
  end

  it("says what it found in mpi.info()", function()
    local code, out, err = run("nmpi", 2, [[
      local mpi = require "nmpi"
      local info = mpi.info()
      local version = info.abi == "mpich" and "MPICH" or "Open MPI"
      assert(info.mpi:find(version), info.mpi)
      assert(info.path:find "libmpi", info.path)
      assert(info.standard:match "^%d+%.%d+$")
      assert(info.launcher == (info.abi == "mpich" and "MPICH's mpiexec" or "Open MPI's mpiexec"), info.launcher)
      assert(info.thread_level == "multiple" and info.luajit == jit.version and info.jit == true)
      assert(info.rank == mpi.rank() and info.size == 2 and #info.host > 0)
      assert(info.version == mpi._VERSION)
    ]])
    assert.are.equal(0, code, out .. err)
  end)

  it("takes a variable that is set to nothing for unset", function()
    local code, out, err = run("nmpi", 2, WHO, { env = { NMPI_MPI = "", NMPI_LIBMPI = "", NMPI_THREAD_LEVEL = "" } })
    assert.are.equal(("%s 0 2\n%s 1 2"):format(ABI, ABI), sorted(out), err)
    assert.are.equal(0, code)
  end)

  it("loads the library at NMPI_LIBMPI", function()
    local _, path = run("nmpi", nil, [[print(require("nmpi").info().path)]])
    local code, out, err = run("nmpi", nil, [[
      local info = require("nmpi").info()
      print(info.abi, info.path)
    ]], { env = { NMPI_MPI = false, NMPI_LIBMPI = path:match "[^\n]+" } })
    assert.are.equal(ABI .. "\t" .. path, out, err)
    assert.are.equal(0, code)
  end)

  it("takes a library that is already in the process", function()
    local loads = {}
    for _, soname in ipairs(SONAMES[ABI]) do
      loads[#loads + 1] = ("pcall(ffi.load, %q, true)"):format(soname)
    end
    for _, visible in ipairs { "true", "false" } do
      local code, out, err = run("luajit", nil, "local ffi = require 'ffi'\n"
        .. "keep = { " .. table.concat(loads, ", "):gsub("true", visible) .. " }\n" .. WHO,
        { env = { NMPI_MPI = false } })
      assert.are.equal(ABI .. " 0 1\n", out, err)
      assert.are.equal(0, code)
    end
  end)

  local function fails(name, expected, n, env, source)
    it("refuses " .. name, function()
      for _, program in ipairs(PROGRAMS) do
        local code, out, err = run(program, n, source or WHO, { env = env })
        assert.are_not.equal(0, code)
        assert.are_not.equal(124, code, "hung")
        assert.are.equal("", out)
        for _, text in ipairs(expected) do
          assert.is_truthy(err:find(text, 1, true), ("expected %q in: %s"):format(text, err))
        end
      end
    end)
  end

  fails("an NMPI_MPI that is no ABI", { "NMPI_MPI=lam", "expected mpich or openmpi" }, nil, { NMPI_MPI = "lam" })
  fails("an NMPI_LIBMPI that does not exist", { "NMPI_LIBMPI=/nowhere/libmpi.so could not be loaded" }, nil,
    { NMPI_LIBMPI = "/nowhere/libmpi.so" })
  fails("an NMPI_LIBMPI that is not MPI", { "NMPI_LIBMPI=libm.so.6 is not an MPI library" }, nil,
    { NMPI_LIBMPI = "libm.so.6" })
  fails("an unknown thread level", { "not 'many'", "NMPI_THREAD_LEVEL" }, nil, { NMPI_THREAD_LEVEL = "many" })

  if core_exists(OTHER) then
    fails("a library that is not the launcher's", {
      "started 2 processes", "knows of only 1", "wrong MPI library for this launcher", "Unset NMPI_MPI",
    }, 2, { NMPI_MPI = OTHER })
    fails("NMPI_MPI and NMPI_LIBMPI that contradict each other", { "contradict each other" }, nil,
      { NMPI_MPI = OTHER, NMPI_LIBMPI = SONAMES[ABI][1] })
  else
    pending("the wrong library: no core for " .. OTHER .. " was built")
  end

  -- A copy of the Lua files, changed, in front of the built ones.
  local function with_changed(file, change, check)
    local directory = os.tmpname()
    os.remove(directory)
    os.execute("mkdir -p " .. directory .. "/nmpi")
    local source = assert(io.open(BUILD .. "/lua/nmpi/" .. file)):read "*a"
    local copy = assert(io.open(directory .. "/nmpi/" .. file, "w"))
    copy:write((change(source)))
    copy:close()
    local built = BUILD .. "/lua/?.lua;" .. BUILD .. "/lua/?/init.lua;;"
    local code, _, err = run("luajit", nil, WHO, { env = { LUA_PATH = directory .. "/?.lua;" .. built } })
    os.execute("rm -r " .. directory)
    assert.are_not.equal(0, code)
    check(err)
  end

  it("refuses a core built from another header", function()
    with_changed("cdef.lua", function(text)
      return text:gsub("signature = \".-\"", "signature = \"0.0.9-0badcafe\"")
    end, function(err)
      assert.is_truthy(err:find("but the Lua files are of 0.0.9-0badcafe. Rebuild and reinstall nmpi.", 1, true), err)
    end)
  end)

  it("names the cure where this nmpi has no core for the ABI", function()
    local code, _, err = run("luajit", 2, WHO, { env = { LUA_CPATH = "/nowhere/?.so" } })
    assert.are_not.equal(0, code)
    assert.is_truthy(err:find(("needs a core for the ABI '%s'"):format(ABI), 1, true), err)
  end)
end)

describe("starting", function()
  it("provides the thread level asked for", function()
    local levels = { "single", "funneled", "serialized", "multiple" }
    for level, name in ipairs(levels) do
      local code, out, err = run("nmpi", nil, [[
        local mpi = require "nmpi"
        assert(mpi.initialized() and not mpi.finalized())
        print(mpi.query_thread(), mpi.info().thread_level)
      ]], { env = { NMPI_THREAD_LEVEL = name } })
      assert.are.equal(0, code, err)
      -- An MPI may provide more than was asked for.
      local provided, printed = out:match "^(%d)\t(%w+)"
      assert.is_true(tonumber(provided) >= level - 1)
      assert.are.equal(levels[provided + 1], printed)
    end
  end)

  it("lets MPICH's ranks yield where they are more than the cores, and only there", function()
    if ABI ~= "mpich" then return pending "Open MPI yields by itself" end
    local _, told = job.run { program = "nproc" }
    for more, expected in pairs { [0] = "libucp", [1] = "yielding" } do
      local code, out, err = run("nmpi", nil, [[
        local ffi = require "ffi"
        ffi.cdef "unsigned ucp_worker_progress(void *worker); int dladdr(const void *address, const char **info);"
        local mpi = require "nmpi"
        local data = mpi.zeros(3)
        assert(mpi.sendrecv_replace(data, 0, 0, 1, 1, mpi.COMM_SELF) == mpi.SUCCESS)
        local found, address = pcall(function() return ffi.cast("void *", ffi.C.ucp_worker_progress) end)
        local info = ffi.new "const char *[4]"
        print(found and ffi.C.dladdr(address, info) ~= 0 and ffi.string(info[0]):match "(%a+)%.so" or "none")
      ]], { env = { MPI_LOCALNRANKS = told + more, LD_PRELOAD = false } })
      assert.are.equal(0, code, err)
      if out == "none\n" then return pending "this MPICH is not built on UCX" end
      assert.are.equal(expected .. "\n", out)
    end
  end)

  it("takes the thread level from nmpi.rc", function()
    local code, out = run("luajit", nil, [[
      require("nmpi.rc").thread_level = "funneled"
      print(require("nmpi").query_thread() >= 1)
    ]])
    assert.are.equal("true\n", out)
    assert.are.equal(0, code)
  end)

  local FOREIGN = [[
    local ffi = require "ffi"
    ffi.cdef "int MPI_Init(int *, char ***); int MPI_Finalize(void); int MPI_Finalized(int *);"
    local library
    for _, soname in ipairs { %s } do
      local loaded, namespace = pcall(ffi.load, soname, true)
      if loaded then library = library or namespace end
    end
    library.MPI_Init(nil, nil)
    local mpi = require "nmpi"
    assert(mpi.initialized() and select(2, mpi.allreduce(1)) == mpi.size())
  ]]
  local sonames = {}
  for i, soname in ipairs(SONAMES[ABI]) do sonames[i] = ("%q"):format(soname) end
  local foreign = FOREIGN:format(table.concat(sonames, ", "))

  it("works in a program that has initialised MPI, and leaves finalising to it", function()
    local code, out, err = run("luajit", 2, foreign .. [[
      library.MPI_Finalize()
      assert(mpi.finalized())
      io.write "fine\n"
    ]])
    assert.are.equal("fine\nfine\n", out, err)
    assert.are.equal(0, code)
  end)

  it("makes routines an error after somebody else has finalised MPI", function()
    local code, out, err = run("luajit", nil, foreign .. [[
      library.MPI_Finalize()
      for _, call in ipairs { mpi.barrier, mpi.rank, mpi.allreduce } do
        local fine, message = pcall(call, call == mpi.allreduce and 1 or nil)
        assert(not fine and message:find("MPI is finalised", 1, true), message)
      end
      io.write "fine\n"
    ]])
    assert.are.equal("fine\n", out, err)
    assert.are.equal(0, code)
  end)

  it("does not finalise what it has not initialised", function()
    local _, out = run("luajit", nil, foreign .. [[
      -- Registered after nmpi's handler, so it runs before it; and the one registered before it, after it.
      io.write "left alone\n"
    ]])
    assert.are.equal("left alone\n", out)
  end)

  it("refuses to start after MPI_Finalize", function()
    local source = foreign:gsub("local mpi = require.*$", "library.MPI_Finalize()\n require 'nmpi'")
    local code, _, err = run("luajit", nil, source)
    assert.are_not.equal(0, code)
    assert.is_truthy(err:find("MPI is finalised and cannot be initialised again", 1, true), err)
  end)
end)

describe("ending", function()
  -- What rank 0 does (its code, or nil for any but 0) while the others wait in a receive.
  local WAIT = [[
    local mpi = require "nmpi"
    local a = mpi.zeros(4)
    if mpi.rank() == %d then
      %s
    else
      mpi.recv(a, %d, 5)
    end
    mpi.barrier()
  ]]
  local ENDINGS = {
    { "error", "error 'boom'", 1 },
    { "error in a coroutine", "coroutine.wrap(function() error 'boom' end)()", 1 },
    { "error object", "error(setmetatable({}, { __tostring = function() return 'boom' end }))", 1 },
    { "os.exit(3)", "os.exit(3)", 3 },
    { "os.exit(false)", "os.exit(false)", 1 },
    { "os.exit(256)", "os.exit(256)", nil },
    { "abort(7)", "mpi.abort(7)", 7 },
    { "abort()", "mpi.abort()", 1 },
    { "a kill", "require('ffi').cdef 'int getpid(void);' os.execute('kill -9 ' .. require('ffi').C.getpid())", nil },
  }

  for _, program in ipairs(PROGRAMS) do
    for _, ending in ipairs(ENDINGS) do
      it(("by %s ends the job, under %s"):format(ending[1], program), function()
        for _, failing in ipairs { 0, 1 } do
          local code, _, err = run(program, 2, WAIT:format(failing, ending[2], failing))
          assert.are_not.equal(124, code, "hung")
          if ending[3] then assert.are.equal(ending[3], code, err) else assert.are_not.equal(0, code, err) end
        end
      end)
    end

    it("cleanly finalises, under " .. program, function()
      for _, source in ipairs { "", "os.exit(0)", "os.exit(true)", "mpi.finalize()" } do
        local code, out, err = run(program, 2, "local mpi = require 'nmpi' mpi.barrier() io.write 'x' " .. source)
        assert.are.equal(0, code, err)
        assert.are.equal("xx", out)
        assert.are.equal("", err)
      end
    end)

    it("by an error on every rank ends the job, under " .. program, function()
      local code = run(program, 3, "local mpi = require 'nmpi' mpi.barrier() error 'boom'")
      assert.are.equal(1, code)
    end)

    it("by an error before nmpi is loaded ends the job, under " .. program, function()
      if ABI == "mpich" and program == "luajit" then
        return pending "a process that never called MPI_Init is not missed by MPICH's launcher"
      end
      local code, _, err = run(program, 2, [[
        if (os.getenv "PMI_RANK" or os.getenv "OMPI_COMM_WORLD_RANK") == "1" then error 'early' end
        require("nmpi").barrier()
      ]])
      assert.are_not.equal(124, code, "hung")
      assert.are_not.equal(0, code)
      assert.is_truthy(err:find("early", 1, true))
    end)

    it("by Ctrl-C ends the job, under " .. program, function()
      local source = [[
        local mpi = require "nmpi"
        if mpi.rank() == 0 then io.stderr:write "running\n" end
        while true do mpi.barrier() end
      ]]
      local code, _, err = job.with_file(source, function(path)
        return job.run {
          program = "timeout", timeout = 60,
          env = program == "luajit" and {
            LUA_PATH = BUILD .. "/lua/?.lua;" .. BUILD .. "/lua/?/init.lua;;", LUA_CPATH = BUILD .. "/lua/?.so;;",
          } or nil,
          args = { "--preserve-status", "-s", "INT", "-k", "30", "4", MPIEXEC, "-n", "2",
            program == "nmpi" and BUILD .. "/nmpi" or program, path },
        }
      end)
      assert.is_truthy(err:find("running", 1, true), err)
      assert.are_not.equal(124, code, "hung")
      -- The code is the launcher's: MPICH's may be 0.
      assert.are_not.equal(137, code, "had to be killed")
    end)
  end

  it("prints the traceback with the rank once", function()
    local code, _, err, path = run("nmpi", 2, WAIT:format(1, "local function deep() error 'boom' end deep()", 1))
    assert.are.equal(1, code)
    assert.are.equal(1, count(err, "boom"), err)
    assert.is_truthy(err:find(("nmpi: rank 1 of 2: %s:4: boom\nstack traceback:"):format(path), 1, true), err)
    assert.is_truthy(err:find("in function 'deep'", 1, true), err)
  end)

  it("names the rank that ended the job, where nobody else does", function()
    local line = "nmpi: rank 1 of 2 ends the job with exit status "
    local _, _, err = run("luajit", 2, WAIT:format(1, "error 'boom'", 1))
    assert.are.equal(1, count(err, line .. "1\n"), err)
    assert.are.equal(1, count(err, "boom\nstack traceback:"), err)
    _, _, err = run("nmpi", 2, WAIT:format(1, "os.exit(9)", 1))
    assert.are.equal(1, count(err, line .. "9\n"), err)
    _, _, err = run("nmpi", 2, WAIT:format(1, "error 'boom'", 1))
    assert.are.equal(0, count(err, line), err)
  end)

  it("by abort in a job of one keeps the code and what was written", function()
    for _, n in ipairs { 1, false } do
      local code, out = run("nmpi", n or nil, "io.write 'written' require('nmpi').abort(5)")
      assert.are.equal(5, code)
      assert.is_truthy(out:find("written", 1, true), out)
    end
  end)

  it("lets a child process end without a word to MPI", function()
    local code, out = run("nmpi", 2, [[
      local mpi = require "nmpi"
      assert(os.execute "exit 3" ~= 0)
      assert(io.popen("echo child"):read() == "child")
      io.write(select(2, mpi.allreduce(1)) .. "\n")
    ]])
    assert.are.equal("2\n2\n", out)
    assert.are.equal(0, code)
  end)

  it("makes routines after finalize an error", function()
    local code, out, err = run("nmpi", nil, [[
      local mpi = require "nmpi"
      local a, b, start = mpi.zeros(3), mpi.zeros(3), mpi.wtime()
      local dup, dropped, group = mpi.COMM_WORLD:dup(), mpi.COMM_WORLD:dup(), mpi.COMM_WORLD:group()
      assert(mpi.finalize() == mpi.SUCCESS and mpi.finalized() and mpi.initialized())
      for _, call in ipairs {
        function() mpi.rank() end, function() mpi.size() end, function() mpi.barrier() end,
        function() mpi.send(a, 0) end, function() mpi.recv(a) end, function() mpi.sendrecv(a, 0, b) end,
        function() mpi.bcast(a) end, function() mpi.reduce(a, b) end, function() mpi.allreduce(a, b) end,
        function() mpi.allreduce(3) end, function() mpi.COMM_SELF:rank() end, function() dup:rank() end,
        function() dup:free() end, function() mpi.COMM_SELF:dup() end, function() group:size() end,
        function() group:free() end, function() mpi.GROUP_EMPTY:rank() end, function() group:union(group) end,
      } do
        local fine, message = pcall(call)
        assert(not fine and message:find("MPI is finalised", 1, true), message)
      end
      a:fill(7)
      assert(a[2] == 7 and mpi.query_thread() >= 0)
      assert(mpi.wtime() >= start and mpi.wtime() < start + 1000 and mpi.wtick() > 0)
      assert(mpi.info().rank < 0)
      dup, dropped, group = nil, nil, nil
      collectgarbage()
      collectgarbage()
      assert(mpi.error_string(mpi.ERR_TRUNCATE) and mpi.error_class(mpi.SUCCESS))
      io.write "fine\n"
    ]])
    assert.are.equal("fine\n", out, err)
    assert.are.equal(0, code)
  end)
end)

describe("NMPI_DEBUG=1", function()
  local SOURCE = [[
    local mpi = require "nmpi"
    local v, m = mpi.zeros(5), mpi.zeros({ 3, 4 })
    local function refuses(call, ...)
      local fine, message = pcall(call)
      assert(not fine, "not refused")
      for _, text in ipairs { ... } do assert(message:find(text, 1, true), message) end
    end
    refuses(function() return v[5] end, "(5,)", "got (5)")
    refuses(function() return v[-1] end, "(5,)", "got (-1)")
    refuses(function() return v[1.5] end, "(5,)", "got (1.5)")
    refuses(function() v[5] = 1 end, "(5,)", "got (5)")
    refuses(function() return m:get(0, 4) end, "array:get", "(3, 4)", "got (0, 4)")
    refuses(function() m:set(3, 0, 1) end, "array:set", "(3, 4)", "got (3, 0")
    refuses(function() return m:get(1) end, "array:get", "(3, 4)")
    refuses(function() return mpi.zeros({}):get(0) end, "array:get", "()")
    refuses(function() return mpi.zeros({ 2, 0 }):get(0, 0) end, "(2, 0)")
    for i = 0, 4 do v[i] = i end
    for i = 0, 2 do for j = 0, 3 do m:set(i, j, 10 * i + j) end end
    assert(v[4] == 4 and m:get(2, 3) == 23 and mpi.array(7):get() == 7)
    io.write "fine\n"
  ]]

  it("checks every element access", function()
    for _, program in ipairs(PROGRAMS) do
      local code, out, err = run(program, nil, SOURCE, { env = { NMPI_DEBUG = "1" } })
      assert.are.equal("fine\n", out, err)
      assert.are.equal(0, code)
    end
  end)

  it("is what nmpi --debug asks for, and NMPI_DEBUG=0 takes back", function()
    job.with_file(SOURCE, function(path)
      local _, out, err = job.run { program = "nmpi", args = { "--debug", path } }
      assert.are.equal("fine\n", out, err)
      local code = job.run { program = "nmpi", args = { "--debug", path }, env = { NMPI_DEBUG = "0" } }
      assert.are_not.equal(0, code)
    end)
  end)

  local DEBUG = { env = { NMPI_DEBUG = "1" } }

  it("shows what is used after it was freed", function()
    local source = [[
      local mpi = require "nmpi"
      local a, kept = mpi.zeros(%d), mpi.zeros(%d)
      local memory = a.data
      a:free()
      assert(kept[9] == 0)
      io.write(tostring(memory[9]), "\n")
    ]]
    local small, large = source:format(9000, 9000), source:format(2 ^ 20, 2 ^ 20)
    for _, program in ipairs(PROGRAMS) do
      local code, out, err = run(program, nil, large, DEBUG)
      assert.is_true(code > 128, code .. err) -- a signal
      assert.are.equal("", out)
      code, out, err = run(program, nil, large)
      assert.are.same({ 0, "0\n" }, { code, out }, err)
      if jit.os == "Linux" then -- elsewhere it is malloc's
        code, out, err = run(program, nil, small, DEBUG)
        assert.are.same({ 0, "1.3824172084879e+306\n" }, { code, out }, err)
      end
    end
  end)

  it("names the communicators that were never freed, and no others", function()
    local source = [[
      local mpi = require "nmpi"
      local group = mpi.COMM_WORLD:group()
      local named, dropped = mpi.COMM_WORLD:dup(), mpi.COMM_WORLD:split(0)
      named:set_name "rows"
      dropped = mpi.COMM_SELF:split_type "shared"
      dropped = mpi.COMM_WORLD:create(group)
      dropped = mpi.COMM_SELF:create_group(mpi.COMM_SELF:group(), 1)
      dropped = mpi.COMM_WORLD:split(mpi.UNDEFINED)
      mpi.COMM_WORLD:dup():free()
      collectgarbage()
      mpi.barrier(named)
      %s
    ]]
    for _, program in ipairs(PROGRAMS) do
      for _, ending in ipairs { "", "os.exit(0)", "mpi.finalize()" } do
        local code, out, err, path = run(program, 2, source:format(ending), DEBUG)
        assert.are.equal(0, code, err)
        assert.are.equal("", out)
        for rank = 0, 1 do
          local start = ("nmpi: rank %d of 2: communicator"):format(rank)
          assert.are.equal(5, count(err, start), err)
          assert.are.equal(1, count(err, ("%s 'rows', made by dup, was never freed: %s:3\n"):format(start, path)), err)
          for line, origin in pairs { [3] = "split", [5] = "split_type", [6] = "create", [7] = "create_group" } do
            assert.are.equal(2, count(err, (", made by %s, was never freed: %s:%d\n"):format(origin, path, line)), err)
          end
        end
        assert.are.equal(10, count(err, "\n"), err)
      end
    end
  end)

  it("says nothing where everything was freed, without it, and where a program fails", function()
    local leak = "local mpi = require 'nmpi' local comm = mpi.COMM_WORLD:dup() "
    local code, out, err = run("nmpi", 2, leak .. "mpi.barrier(comm) comm:free()", DEBUG)
    assert.are.same({ 0, "", "" }, { code, out, err })
    code, out, err = run("nmpi", 2, leak)
    assert.are.same({ 0, "", "" }, { code, out, err })
    local failed, _, errors = run("nmpi", 2, leak .. "mpi.barrier(comm) os.exit(3)", DEBUG)
    assert.are.equal(3, failed)
    assert.are.equal(0, count(errors, "never freed"), errors)
  end)

  it("tells every rank where the ranks do not agree on a collective", function()
    local source = [[
      local mpi = require "nmpi"
      local rank, size = mpi.rank(), mpi.size()
      local comm, pair = mpi.COMM_WORLD:dup(), mpi.COMM_WORLD:split(rank < 2 and 1 or 2)
      local odd = rank == 1
      local function refuses(call, text)
        for _ = 1, 2 do
          local fine, message = pcall(call)
          assert(not fine and message:find(text, 1, true), message)
        end
      end
      for _, c in ipairs { mpi.COMM_WORLD, comm, rank < 2 and pair or nil } do
        local n = odd and 5 or 6
        refuses(function() mpi.bcast(mpi.zeros(n), 0, c) end, "nmpi.bcast: the ranks do not agree: here bcast of " .. n
          .. " elements of 8 bytes with root 0; another rank differs in the number of elements")
        refuses(function() mpi.bcast(mpi.zeros(4), odd and 1 or 0, c) end, "differs in the root")
        refuses(function() mpi.bcast(mpi.zeros(4, odd and "float" or "int16"), 0, c) end, "the size of elements")
        refuses(function() if odd then mpi.barrier(c) else mpi.bcast(mpi.zeros(4), 0, c) end end, "in the routine")
        refuses(function() mpi.reduce(mpi.zeros(n), mpi.zeros(n), nil, 1, c) end, "the number of elements")
        refuses(function() mpi.allreduce(mpi.zeros(n), mpi.zeros(n), nil, c) end, "the number of elements")
        refuses(function() if odd then mpi.allreduce(1, nil, c) else mpi.reduce(1, mpi.zeros(1), nil, 0, c) end end,
          "differs in the routine")
        local m = (c or mpi.COMM_WORLD):size()
        refuses(function() mpi.scatter(mpi.zeros(m * n), mpi.zeros(n), nil, 0, c) end, "the number of elements")
        refuses(function() mpi.gather(mpi.zeros(6), mpi.zeros(6 * m), n, 0, c) end, "the number of elements")
        refuses(function() mpi.allgather(mpi.zeros(n), mpi.zeros(n * m), nil, c) end, "the number of elements")
        refuses(function() if odd then c:dup() else c:split(0) end end, "differs in the routine")
        refuses(function() if odd then c:split_type "shared" else c:create(c:group()) end end, "in the routine")
      end
      comm:free()
      pair:free()
      io.write "fine\n"
    ]]
    for _, n in ipairs { 2, 3 } do
      local code, out, err = run("nmpi", n, source, DEBUG)
      assert.are.equal(("fine\n"):rep(n), out, err)
      assert.are.equal(0, code, err)
    end
  end)

  it("accuses nobody of what is right", function()
    local code, out, err = run("nmpi", 3, [[
      local mpi = require "nmpi"
      local rank, size = mpi.rank(), mpi.size()
      local part = mpi.COMM_WORLD:split(rank == 0 and 1 or 2)
      for _, comm in ipairs { mpi.COMM_WORLD, mpi.COMM_SELF, part } do
        local root, rank, size = comm:size() - 1, comm:rank(), comm:size()
        local a, b = mpi.zeros(4):fill(1), mpi.zeros { 2, 2 }
        local status = mpi.bcast(rank == root and mpi.zeros { 2, 3 } or mpi.zeros(12):slice { 0, 12, 2 }, root, comm)
          + mpi.bcast(rank == root and mpi.zeros(0) or mpi.zeros(0, "int8"), root, comm)
          + mpi.reduce(a, rank == root and b or nil, nil, root, comm)
          + mpi.reduce(rank == root and mpi.IN_PLACE or a, rank == root and b or nil, nil, root, comm)
          + mpi.reduce(7, rank == root and mpi.zeros(1) or nil, mpi.MAX, root, comm)
          + mpi.allreduce(a, b, nil, comm) + mpi.allreduce(mpi.IN_PLACE, b, nil, comm) + mpi.barrier(comm)
          + mpi.allreduce(1, nil, comm)
          + mpi.scatter(rank == root and mpi.zeros(3 * size) or nil, mpi.zeros(4), 3, root, comm)
          + mpi.scatter(rank == root and a:slice { 0, 0 } or nil, mpi.zeros(0), nil, root, comm)
          + mpi.gather(mpi.zeros(3), rank == root and mpi.zeros { size, 3 } or nil, nil, root, comm)
          + mpi.gather(rank == root and mpi.IN_PLACE or mpi.zeros(3), mpi.zeros { size, 3 }, nil, root, comm)
          + mpi.allgather(mpi.zeros(2), mpi.zeros(2 * size), nil, comm)
          + mpi.allgather(mpi.IN_PLACE, mpi.zeros(2 * size), nil, comm)
        assert(status == 0)
      end
      part:free()
      io.write "fine\n"
    ]], DEBUG)
    assert.are.equal("fine\nfine\nfine\n", out, err)
    assert.are.same({ 0, "" }, { code, err })
  end)
end)

describe("a program with threads", function()
  local WAITS = [[
    local mpi, thread = require "nmpi", require "nmpi.thread"
    thread.parallel(%s, function(id)
      if id == 1 then error "out of cheese" end
      local mpi = require "nmpi"
      mpi.recv(mpi.zeros(1), 0, 77)
    end)
  ]]

  for _, team in ipairs { "2", "{ 2, main = true }" } do
    it("is ended where one fails and another waits in MPI, in a team of " .. team, function()
      local code, _, err, seconds = run("nmpi", 2, WAITS:format(team))
      assert.not_equal(0, code)
      assert.not_equal(124, code, seconds)
      assert.matches("nmpi: rank %d of 2: thread 1 of 2: [^\n]*out of cheese\nstack traceback:", err)
      assert.matches("nmpi: rank %d of 2: 5 seconds later 1 other threads still run", err)
    end)
  end

  for _, program in ipairs(PROGRAMS) do
    it("reports an error in a thread as any other under " .. program, function()
      local code, _, err, path = run(program, 2, [[
        local thread = require "nmpi.thread"
        if require("nmpi").rank() == 1 then thread.parallel(2, function(id) if id == 1 then error "oh" end end) end
        require("nmpi").barrier()
      ]])
      assert.equal(1, code)
      assert.matches(path .. ":2: nmpi.thread.parallel: thread 1 of 2: [^\n]*:2: oh\nstack traceback:", err)
    end)

    it("may leave a pool open under " .. program, function()
      for _, ending in ipairs { "", "os.exit(0)", "os.exit(0, true)", "pool = nil" } do
        local code, out, err = run(program, 2, [[
          local mpi, thread = require "nmpi", require "nmpi.thread"
          pool = thread.pool { 3, main = true }
          pool:run(function(id, n, a) a[id] = require("nmpi").rank() end, mpi.zeros(3))
          io.write "done " io.stdout:flush()
        ]] .. ending)
        assert.equal(0, code, err)
        assert.equal("done done ", out)
      end
    end)
  end

  it("is refused where MPI provides less than THREAD_MULTIPLE", function()
    for _, level in ipairs { "single", "funneled", "serialized" } do
      local code, out, err = run("nmpi", nil, [[
        local mpi = require "nmpi"
        print(mpi.query_thread() == mpi.THREAD_MULTIPLE or select(2, pcall(require("nmpi.thread").pool, 2)))
      ]], { env = { NMPI_THREAD_LEVEL = level } })
      assert.equal(0, code, err)
      -- MPI may provide more than it was asked for.
      assert.is_true(out == "true\n" or out:find("level 'multiple', got '", 1, true)
        and out:find("set NMPI_THREAD_LEVEL or require('nmpi.rc').thread_level to 'multiple'", 1, true) ~= nil, out)
    end
  end)

  it("may use its pools when MPI is finalised, but for what needs MPI", function()
    local code, out, err = run("nmpi", nil, [[
      local mpi, thread = require "nmpi", require "nmpi.thread"
      local pool = thread.pool(2)
      mpi.finalize()
      print(pool:run(function(id, n, a) return a[id] end, mpi.array { 1, 2 })[2])
      print(select(2, pcall(pool.run, pool, function() require("nmpi.thread").team():reduce(1) end)))
    ]])
    assert.same({ 0, "" }, { code, err })
    assert.matches("^2\n[^\n]*thread 0 of 2: [^\n]*nmpi.team:reduce: MPI is finalised\n", out)
  end)

  it("is ended by os.exit in a thread, with its code", function()
    local code = run("nmpi", 2, [[
      local mpi = require "nmpi"
      if mpi.rank() == 1 then require("nmpi.thread").parallel(2, function(id) if id == 1 then os.exit(3) end end) end
      mpi.barrier()
    ]])
    assert.equal(3, code)
  end)

  it("does not end with success while threads are at work", function()
    local code, _, err = run("nmpi", 1, [[
      require("nmpi.thread").parallel({ 2, main = true }, function(id)
        if id == 0 then os.exit(0) end
        require("nmpi.thread").team():barrier()
      end)
    ]])
    assert.not_equal(0, code)
    assert.matches("nmpi: rank 0 of 1 ends while threads are at work", err)
  end)

  it("has its checks of debugging in threads too", function()
    local code, out, err = run("nmpi", nil, [[
      local mpi = require "nmpi"
      local a = mpi.zeros(3)
      print(select(2, pcall(require("nmpi.thread").parallel, 1, function(_, _, a) return a[3] end, a)))
    ]], { env = { NMPI_DEBUG = "1" } })
    assert.equal(0, code, err)
    assert.matches("expected 1 whole index within the shape", out)
    code, out, err = run("nmpi", nil, [[
      require("nmpi.rc").debug = true
      local mpi, thread = require "nmpi", require "nmpi.thread"
      print(select(2, pcall(thread.parallel, 1, function(_, _, a) return a[3] end, mpi.zeros(3))))
      print(pcall(function() return mpi.zeros(3)[3] end))
    ]])
    assert.equal(0, code, err)
    assert.equal(2, count(out, "expected 1 whole index within the shape"))
  end)
end)
