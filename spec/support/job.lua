-- SPDX-License-Identifier: MIT
-- Runs programs from specs that are no MPI processes themselves.

local system = require "system"
local assert = require "luassert"

local job = {}

local function setting(name)
  return os.getenv(name) or error(name .. " is not set: run this spec through `meson test`", 3)
end

local function quote(word)
  return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Variables that the programs need where the caller says nothing else; false unsets one.
local function defaults(programs)
  local build = setting("NMPI_TEST_BUILD")
  local env = { LUA_PATH = false, LUA_CPATH = false }
  for _, t in ipairs(programs) do
    if t.program == "luajit" then
      env.LUA_PATH = build .. "/lua/?.lua;" .. build .. "/lua/?/init.lua;;"
      env.LUA_CPATH = build .. "/lua/?.so;;"
    end
    -- Without a launcher nothing else tells which MPI is under test.
    if not t.n then env.NMPI_MPI = setting("NMPI_TEST_MPI") end
  end
  return env
end

--- Runs a program to its end.
-- @tparam table t `program` is "nmpi" (the host just built), "luajit" (which then finds the modules just
-- built) or any other; `args` its arguments; `n` the ranks to start under the MPI under test, nil for a
-- plain process, which is faster (Open MPI's mpiexec takes two seconds to end a job that has failed);
-- `programs`, instead of these three, a list of tables with them, which become one job; `env` variables to
-- set, or to unset where false; `timeout` in seconds (60); `stdin` a string
-- @return exit code (124 after a timeout), stdout, stderr, seconds
function job.run(t)
  local programs = t.programs or { t }
  local words = { setting("NMPI_TEST_SOURCE") .. "/spec/support/mpirun", "-t", t.timeout or 60 }
  local function add(...)
    for _, word in ipairs { ... } do words[#words + 1] = word end
  end
  for i, p in ipairs(programs) do
    if i > 1 then
      add(":", "-n", p.n)
    elseif p.n then
      add("-m", setting("NMPI_TEST_MPIEXEC"), "-n", p.n)
    end
    add(p.program == "nmpi" and setting("NMPI_TEST_BUILD") .. "/nmpi" or p.program, unpack(p.args or {}))
  end

  local env = defaults(programs)
  for name, value in pairs(t.env or {}) do env[name] = value end
  local set = {}
  for name, value in pairs(env) do
    if value then
      set[#set + 1] = name .. "=" .. value
    else
      table.insert(set, 1, "-u")
      table.insert(set, 2, name)
    end
  end

  local command = { "env" }
  for _, list in ipairs { set, words } do
    for _, word in ipairs(list) do command[#command + 1] = quote(word) end
  end

  local base = os.tmpname()
  write(base .. ".in", t.stdin or "")
  local start = system.monotime()
  os.execute(("%s <%s.in >%s.out 2>%s.err; echo $? >%s"):format(
    table.concat(command, " "), base, base, base, base))
  local seconds = system.monotime() - start

  local code, out, err = tonumber(read(base)), read(base .. ".out"), read(base .. ".err")
  for _, ending in ipairs { "", ".in", ".out", ".err" } do os.remove(base .. ending) end
  return code, out, err, seconds
end

--- Checks that a program of examples/, of this name, has ended because of bad input: with one line, on one rank, that
-- matches a pattern after the program's name, no traceback and no results.
-- @return code, out and err, as job.run returns them
function job.assert_refused(name, pattern, code, out, err)
  assert.not_equal(0, code)
  assert.not_equal(124, code, "timed out")
  assert.equal("", out)
  local lines = {}
  for line in err:gmatch "[^\n]+" do
    if line:find(name .. ": ", 1, true) == 1 then lines[#lines + 1] = line end
  end
  assert.equal(1, #lines, err)
  assert.matches("^" .. name .. ": " .. pattern, lines[1])
  assert.not_matches("traceback", err)
end

--- Calls f with the path of a file that holds text and is gone afterwards. Returns what f returns, or raises its error.
function job.with_file(text, f)
  local path = os.tmpname()
  write(path, text)
  local results = { pcall(f, path) }
  os.remove(path)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

return job
