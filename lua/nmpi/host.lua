-- SPDX-License-Identifier: MIT
--- The program `nmpi`, which runs Lua scripts under mpiexec. It is called as `luajit` is, and sets `arg` as
-- that does. An uncaught error is reported with the rank and ends the whole job with exit code 1.
-- @module nmpi.host

local ffi, jit = require "ffi", require "jit"
local launcher = require "nmpi.launcher"

local io, os = io, os
local traceback, getmetatable = debug.traceback, debug.getmetatable
local loadfile, loadstring, pcall, select, tonumber, tostring, type, unpack, xpcall =
  loadfile, loadstring, pcall, select, tonumber, tostring, type, unpack, xpcall

local usage = [=[
usage: nmpi [option ...] [script [argument ...]]
  -e chunk       run the string `chunk`
  -l name        require the module `name`
  -j command     control the JIT compiler: -joff, -jv, -jdump, -jp, ... as luajit does
  -O[option]     control the optimiser, as luajit does
  -i             prompt; under mpiexec, every rank runs what rank 0 reads
  --debug        run interpreted, with bounds and argument checks
  --info         print what was found: MPI library, launcher, LuaJIT
  -v, --version  print the version
  -h, --help     print this
  --             end of the options
  -              read the script from the standard input
]=]

-- This process's rank and the job's size, as far as they are known without initialising MPI.
local function place()
  local ok, rank, size = pcall(function()
    local mpi = package.loaded.nmpi
    return mpi.rank(), mpi.size()
  end)
  if ok then return rank, size end
  return launcher.rank, launcher.size
end

-- ---- the end ----

-- Hydra ends the job when a process fails, but only once that process has called MPI_Init: until then the
-- others would wait in theirs for ever. So tell it, as MPI_Abort would.
local function abandon(socket, status)
  if status % 256 == 0 or type(package.loaded.nmpi) == "table" then return end
  ffi.cdef [[
    int nmpi_host_poll(void *, unsigned long, int) __asm__("poll");
    long nmpi_host_send(int, const char *, size_t, int) __asm__("send");
  ]]
  -- Hydra leaves at once, and loses what it has not yet read of the error message.
  ffi.C.nmpi_host_poll(nil, 0, 50)
  local command = ("cmd=abort exitcode=%d\n"):format(status % 256)
  ffi.C.nmpi_host_send(socket, command, #command, 0)
end

local function watch_exit()
  local socket, exit = tonumber(os.getenv "PMI_FD"), os.exit
  if not socket then return end
  rawset(os, "exit", function(code, ...)
    pcall(abandon, socket, code == false and 1 or tonumber(code) or 0)
    return exit(code, ...)
  end)
end

-- Through os.exit as it is now: nmpi may have put its own there.
local function finish(status)
  pcall(function() io.stdout:flush() end)
  os.exit(status, true)
end

-- In a single write, so that the lines of several ranks do not mingle.
local function fail(message)
  local rank, size = place()
  local where = rank and size and ("rank %d of %d: "):format(rank, size) or ""
  io.stderr:write("nmpi: " .. where .. message:gsub("^nmpi: ", "") .. "\n")
  local lib = package.loaded["nmpi.lib"]
  if type(lib) == "table" then lib.core.nmpi_exit_status(1) end
  finish(1)
end

local function misused(message)
  if (place() or 0) == 0 then io.stderr:write("nmpi: " .. message .. "\n" .. usage) end
  finish(1)
end

local function describe(err)
  local meta = getmetatable(err)
  if type(err) == "string" or type(err) == "number" or meta and meta.__tostring then
    local ok, text = pcall(tostring, err)
    if ok then return text end
  end
  return "(error object is not a string)"
end

-- What lies beneath the outermost xpcall is the host.
local function explain(err)
  local trace = traceback("", 2)
  trace = trace:match "^(.*)\n\t%[C%]: in function 'xpcall'" or trace
  return describe(err) .. trace:gsub("\n\t[^\n]*nmpi/host%.lua:[^\n]*", "")
end

-- ---- running ----

-- The first two results of f(...). Its error ends the program.
local function attempt(f, ...)
  local ok, result, second = xpcall(f, explain, ...)
  if not ok then fail(result) end
  return result, second
end

-- Runs what loadfile or its like returned.
local function run(arguments, chunk, message)
  if not chunk then fail(message) end
  attempt(chunk, unpack(arguments))
end

local function check(mpi, status)
  if status ~= mpi.SUCCESS then error(mpi.error_string(status), 0) end
end

-- Gives every rank the string (or nil) that rank 0 has.
local function share(mpi, text)
  local length = mpi.zeros(1, "int64")
  length[0] = text and #text or -1
  check(mpi, mpi.bcast(length, 0))
  local n = tonumber(length[0])
  if n <= 0 then return n == 0 and "" or nil end
  local chars = text and mpi.array(text) or mpi.empty(n, "char")
  check(mpi, mpi.bcast(chars, 0))
  return chars:tostring()
end

-- mpiexec gives the standard input to rank 0 alone, but the script is for all.
local function load_stdin()
  local _, size = place()
  if (size or 1) == 1 then return loadfile() end
  local mpi = require "nmpi"
  local text = share(mpi, mpi.rank() == 0 and io.read "*a" or nil):gsub("^#[^\n]*", "")
  return loadstring(text, "=stdin")
end

-- ---- the prompt ----

-- An expression is made an argument: in a tail call, errors would lose their place.
local function compile(text)
  local chunk = loadstring("return (function(...) return ... end)(" .. text .. "\n)", "=stdin")
  if chunk then return chunk end
  return loadstring(text, "=stdin")
end

-- The next complete chunk from the standard input, or nil at its end.
local function read_chunk()
  local text
  repeat
    io.stdout:write(tostring(text and (_G._PROMPT2 or ">> ") or _G._PROMPT or "> "))
    io.stdout:flush()
    local line = io.read()
    if not line then return text end
    text = text and text .. "\n" .. line or line:gsub("^=", "return ")
    local chunk, message = compile(text)
  until chunk or message:sub(-7) ~= "'<eof>'"
  return text
end

local function show(stream, prefix, text)
  stream:write(prefix .. text:gsub("\n", "\n" .. prefix) .. "\n")
end

local function show_results(prefix, ok, ...)
  if not ok then return show(io.stderr, prefix, (...)) end
  local texts = {}
  for i = 1, select("#", ...) do
    local _, text = pcall(tostring, (select(i, ...)))
    texts[i] = describe(text)
  end
  if texts[1] then show(io.stdout, prefix, table.concat(texts, "\t")) end
end

local function version()
  print(("nmpi %s -- %s (%s %s)"):format(require("nmpi.cdef").version, jit.version, jit.os, jit.arch))
end

local function prompt()
  local mpi = require "nmpi"
  local rank, size = mpi.rank(), mpi.size()
  local prefix = size > 1 and ("[%d] "):format(rank) or ""
  if rank == 0 then version() end
  while true do
    local text = share(mpi, rank == 0 and read_chunk() or nil)
    if not text then break end
    local chunk, message = compile(text)
    if chunk then
      show_results(prefix, xpcall(chunk, explain))
    else
      show_results(prefix, false, message)
    end
    io.stdout:flush()
    -- So that rank 0 does not prompt in the middle of the others' output.
    check(mpi, mpi.barrier())
  end
  if rank == 0 then print() end
end

-- ---- options ----

local function info()
  local mpi = require "nmpi"
  if mpi.rank() ~= 0 then return end
  local lines = {}
  for key, value in pairs(mpi.info()) do
    -- Of what a library says of itself, the first line: MPICH goes on about how it was configured.
    local text = tostring(value):match("^%s*([^\n]*)"):gsub("%s+", " ")
    lines[#lines + 1] = ("%s: %s"):format(key, text)
  end
  table.sort(lines)
  print(table.concat(lines, "\n"))
end

-- Calls f with the words between commas; nil for an empty one.
local function control(f, text)
  local words, n = {}, 0
  for word in (text .. (text ~= "" and "," or "")):gmatch "([^,]*)," do
    n = n + 1
    words[n] = word ~= "" and word or nil
  end
  local ok, message = pcall(f, unpack(words, 1, n))
  if not ok then fail(message) end
end

local function jit_command(text)
  local name, options = text:match "^([^=]*)=?(.*)$"
  local f = jit[name]
  if type(f) ~= "function" then
    local found, module = pcall(require, "jit." .. name)
    f = found and type(module) == "table" and module.start
      or fail "unknown LuaJIT command or jit.* modules not installed"
  end
  control(f, options)
end

-- Options with an argument, by their letter; without, by the whole word. What is in `settings` leaves
-- nothing to do where there is no script.
local valued = {
  e = function(text) run({}, loadstring(text, "=(command line)")) end,
  l = function(name) attempt(require, name) end,
  j = jit_command,
  O = function(text) control(require("jit.opt").start, text) end,
}
local plain = {
  ["-v"] = version,
  ["--version"] = version,
  ["--info"] = function() attempt(info) end,
  ["--debug"] = function()
    jit.off()
    require("nmpi.rc").debug = true
  end,
}
local settings = { j = true, O = true, ["--debug"] = true }

-- What the command line wants: actions with their arguments; whether to prompt; and the script's index, or
-- the end's where there is none.
local function parse(argv)
  local actions, interactive, idle, i = {}, false, true, 1
  while argv[i] and argv[i]:match "^%-." and argv[i] ~= "--" do
    local word = argv[i]
    local letter, value = word:match "^%-([ejlO])(.*)$"
    if word == "-h" or word == "--help" then
      io.stdout:write(usage)
      finish(0)
    elseif word == "-i" then
      interactive = true
    elseif not letter and not plain[word] then
      misused("unknown option " .. word)
    else
      if value == "" and letter ~= "O" then
        i = i + 1
        value = argv[i] or misused("option " .. word .. " wants an argument")
      end
      actions[#actions + 1] = { valued[letter] or plain[word], value }
      idle = idle and settings[letter or word]
    end
    i = i + 1
  end
  if argv[i] == "--" then i = i + 1 end
  if idle and not interactive and not argv[i] then misused "no script" end
  return actions, interactive, i
end

--- Does what a command line wants, and ends the process.
-- @tparam table argv the command line as C has it, from 0
return function(argv)
  watch_exit()
  local actions, interactive, script = parse(argv)
  local name, arg = argv[script], {}
  for i = 0, #argv do arg[i - script] = argv[i] end
  _G.arg = arg

  local init = os.getenv "LUA_INIT" or ""
  if init:sub(1, 1) == "@" then run({}, loadfile(init:sub(2))) else run({}, loadstring(init, "=LUA_INIT")) end
  for _, action in ipairs(actions) do action[1](action[2]) end
  if name == "-" and argv[script - 1] ~= "--" then
    run(arg, attempt(load_stdin))
  elseif name then
    run(arg, loadfile(name))
  end
  if interactive then
    local ok, message = pcall(prompt)
    if not ok then fail(describe(message)) end
  end
  finish(0)
end
