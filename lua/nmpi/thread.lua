-- SPDX-License-Identifier: MIT
--- Threads: the same function in several Lua states at once, all of which may call MPI.
--
-- A team is a number of POSIX threads, each with a LuaJIT state of its own. They share what arrays hold, and nothing
-- else: the function has no upvalues, requires what it needs, and gets the rest as arguments. These, and what it
-- returns, are nil, booleans, numbers, strings, arrays and views (the same storage, which lives as long as any array on
-- it, in any thread), communicators, operators, and tables of those. Tables are copied.
--
-- An error in a thread is raised by the call that has started the team, with the thread's number and traceback, after
-- all threads have ended. Those that wait for another one of the team are told; those that still run 5 seconds later,
-- because they wait in MPI for what will never be sent, say, are ended with the whole job.
--
-- This is a module of its own. MPI must provide `mpi.THREAD_MULTIPLE`, as it does unless told otherwise.
-- @module nmpi.thread
-- @usage local thread = require "nmpi.thread"
-- local sums = thread.parallel(4, function(id, n, a)
--   local from, to = require("nmpi.thread").team():range(a.size)
--   local sum = 0
--   for i = from, to - 1 do sum = sum + a[i] end
--   return sum
-- end, a)

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local team = require "nmpi.team"
local values = require "nmpi.values"
require "nmpi"

local type, setmetatable, getmetatable = type, setmetatable, getmetatable
local mismatch, raise, status = check.mismatch, check.raise, check.status
local band = require("bit").band
local array_ct = ffi.typeof "nmpi_array"
local INT64, READONLY = C.NMPI_INT64, C.NMPI_READONLY

local thread = {}

local methods = {}
local meta = { __index = methods }

local team_ct = ffi.typeof "nmpi_team *[1]"

-- ---- functions ----

-- So many functions are kept in the states of a pool.
local KEPT_FUNCTIONS = 256

local function check_function(fn, where)
  if type(fn) ~= "function" then mismatch(where, "fn", "a function", fn) end
  if debug.getinfo(fn, "S").what == "C" then mismatch(where, "fn", "a function written in Lua", fn) end
  local names = check.upvalues(fn)
  if #names > 0 then
    raise(where, ("argument 'fn': expected a function without upvalues, got one with %s: what it uses must be an "
      .. "argument, or be required in the function"):format(table.concat(names, ", ")))
  end
end

local function forget(self)
  self.numbers, self.number_of_code, self.codes = setmetatable({}, { __mode = "k" }), {}, {}
end

-- The number of a function among those that a pool's states keep. The same code is kept once.
local function number_of(self, fn, where)
  check_function(fn, where)
  local code = string.dump(fn)
  local number = self.number_of_code[code]
  if not number then
    if #self.codes == KEPT_FUNCTIONS then
      forget(self)
      self.work.forget = 1
    end
    number = #self.codes + 1
    self.codes[number], self.number_of_code[code] = code, number
  end
  self.numbers[fn] = number
  return number
end

-- ---- pools ----

-- What a thread with its state occupies, of which the garbage collector does not know when a pool is dropped.
local STATE_KIB = 512

local function this(self, where)
  if type(self) ~= "table" or getmetatable(self) ~= meta then
    mismatch(where, "self", "a pool (is it called with a colon?)", self)
  end
  if self.running then raise(where, "the pool is at work") end
  return self.team[0] ~= nil
end

local function close(self)
  self.main = nil
  C.nmpi_team_close(self.team)
end

-- The results, of which the calling thread's is given.
local function results_of(self, own)
  local results = { own }
  for id = self.main and 1 or 0, self.size - 1 do
    local member = C.nmpi_team_member(self.team[0], id)
    if member.count > 0 then results[id + 1] = values.get(values.reader(member.values)) end
  end
  return results
end

local function fail(self, where)
  local messages = {}
  for id = 0, self.size - 1 do
    local member = C.nmpi_team_member(self.team[0], id)
    local text = member.error ~= nil and ffi.string(member.error):gsub("\n\t[^\n]*nmpi/team%.lua:[^\n]*", "")
    -- A thread may have caught what follows from another one's failure, and have failed by itself.
    if text and not (member.consequence and text:find "thread %d+ has failed") then
      messages[#messages + 1] = ("thread %d of %d: %s"):format(id, self.size, text)
    end
  end
  raise(where, table.concat(messages, "\n"))
end

-- What the threads still read must be kept, also where a trace does without the variables.
local function keep(kept, a, b, c, d, e, f, g, h, i, j)
  kept[1], kept[2], kept[3], kept[4], kept[5], kept[6], kept[7], kept[8], kept[9], kept[10] =
    a, b, c, d, e, f, g, h, i, j
end

local function put_arguments(w, where, a, b, c, d, e, f, g, h, i, j)
  local count = j ~= nil and 10 or i ~= nil and 9 or h ~= nil and 8 or g ~= nil and 7 or f ~= nil and 6
    or e ~= nil and 5 or d ~= nil and 4 or c ~= nil and 3 or b ~= nil and 2 or a ~= nil and 1 or 0
  values.clear(w)
  if count > 0 then values.put(w, a, where, "1 of fn") end
  if count > 1 then values.put(w, b, where, "2 of fn") end
  if count > 2 then values.put(w, c, where, "3 of fn") end
  if count > 3 then values.put(w, d, where, "4 of fn") end
  if count > 4 then values.put(w, e, where, "5 of fn") end
  if count > 5 then values.put(w, f, where, "6 of fn") end
  if count > 6 then values.put(w, g, where, "7 of fn") end
  if count > 7 then values.put(w, h, where, "8 of fn") end
  if count > 8 then values.put(w, i, where, "9 of fn") end
  if count > 9 then values.put(w, j, where, "10 of fn") end
  return count
end

local function run(self, where, fn, a, b, c, d, e, f, g, h, i, j, excess)
  if excess ~= nil then raise(where, "expected at most 10 arguments for the function: put more into a table") end
  local work, arguments, kept = self.work, self.arguments, self.kept
  local number = self.numbers[fn] or number_of(self, fn, where)
  local code = self.codes[number]
  work.count = put_arguments(arguments, where, a, b, c, d, e, f, g, h, i, j)
  work.code, work.bytes, work["function"], work.values = code, #code, number, arguments.data
  keep(kept, a, b, c, d, e, f, g, h, i, j)
  self.running = true
  C.nmpi_team_begin(self.team[0], work)
  local good, result = true, nil
  if self.main then good, result = team.take_part(self.main, fn, values.reader(arguments.data), work.count) end
  local answers = C.nmpi_team_finish(self.team[0], not good and result or nil)
  check.keep_reads()
  self.running = false
  keep(kept)
  values.clear(arguments)
  work.forget = 0
  if answers < 0 then fail(self, where) end
  if answers == 0 and result == nil then return nil end
  return (results_of(self, result))
end

-- In each state that is new, but not in the calling one.
local function declare(id, _, declarations, main)
  if id == 0 and main then return end
  local good, message = pcall(require("ffi").cdef, declarations)
  if not good then error("argument 'cdef': " .. message, 0) end
end

local function new(n, where)
  local main, declarations = false, nil
  if type(n) == "table" then
    local given = n
    n, main, declarations = given[1], given.main, given.cdef
    if type(main) ~= "boolean" and main ~= nil then mismatch(where, "main", "a boolean", main) end
    if type(declarations) ~= "string" and declarations ~= nil then mismatch(where, "cdef", "a string", declarations) end
    for name in pairs(given) do
      local known = name == 1 or name == "main" or name == "cdef"
      if not known then mismatch(where, "n", "a number, main and cdef only", name) end
    end
  end
  n = check.int(n, where, "n")
  -- Its finalizer comes first: whatever strikes then, as the error of a hook may, no threads are left behind.
  local made = ffi.gc(team_ct(), C.nmpi_team_close)
  status(C.nmpi_team_create(n, main and 1 or 0, package.path, package.cpath, jit.status() and 1 or 0, made), where)
  local self = {
    team = made, size = n, main = main and C.nmpi_team_member(made[0], 0) or nil,
    work = ffi.new "nmpi_work", arguments = values.writer(), kept = {},
  }
  forget(self)
  if declarations then
    local good, message = pcall(run, self, where, declare, declarations, main)
    if not good then
      close(self)
      error(message, 0)
    end
  end
  return setmetatable(self, meta)
end

--- Runs `fn(id, n, ...)` in each thread of the pool, `id` from 0 to n - 1, and waits until all have returned.
-- @func fn without upvalues; its code is sent once, and its globals stay in each thread from one call to the next
-- @param ... up to 10 arguments
-- @treturn[opt] table the first result of each thread: thread 0's is at 1; nil where all have returned nothing
-- @function pool:run
function methods.run(self, fn, a, b, c, d, e, f, g, h, i, j, excess)
  if not this(self, "pool:run") then raise("pool:run", "the pool has been closed") end
  return (run(self, "pool:run", fn, a, b, c, d, e, f, g, h, i, j, excess))
end

--- Ends the threads. Calling it again does nothing; the garbage collector does it for a pool that is dropped.
-- @function pool:close
function methods.close(self)
  if this(self, "pool:close") then close(self) end
end

--- Makes a pool: n threads that wait for work, so that a time loop can enter them in every step.
-- @param n how many, 1 to 256; or a table with that number and one of these: `main = true`, so that the calling thread
-- is one of them, number 0, and runs its part in its own Lua state; `cdef`, C declarations for the new states, such as
-- those of structs in arrays
-- @return a pool
function thread.pool(n)
  local pool = new(n, "thread.pool")
  collectgarbage("step", STATE_KIB * pool.size)
  return pool
end

--- Runs `fn(id, n, ...)` in n threads that are made for it, and waits until all have returned: a pool for one call.
-- @param n as for `pool`
-- @func fn without upvalues
-- @param ... up to 10 arguments
-- @treturn[opt] table the first result of each thread: thread 0's is at 1; nil where all have returned nothing
-- @function parallel
function thread.parallel(n, fn, a, b, c, d, e, f, g, h, i, j, excess)
  local where = "thread.parallel"
  check_function(fn, where)
  local pool = new(n, where)
  local good, result = pcall(run, pool, where, fn, a, b, c, d, e, f, g, h, i, j, excess)
  close(pool)
  if not good then error(result, 0) end
  return result
end

--- The team that this thread works for now (see `nmpi.team`); nil where there is none.
-- @return a team
function thread.team()
  return (team.current())
end

local before = ffi.new "int64_t[1]"

--- Adds to an element of an array that threads share, as one step (an atomic addition). To add 0 is to read what others
-- may be adding to: compiled code need not read an element again.
-- @tparam array a of int64, in one dimension
-- @int i index
-- @int x
-- @treturn number what the element was before
function thread.fetch_add(a, i, x)
  local where = "thread.fetch_add"
  if not ffi.istype(array_ct, a) or a == nil or a.type ~= INT64 or a.ndim ~= 1 or band(a.flags, READONLY) ~= 0 then
    mismatch(where, "a", "a writable array of int64 and one dimension", a)
  end
  status(C.nmpi_array_fetch_add(a, check.integer(i, where, "i"), check.integer(x, where, "x"), before), where)
  return (tonumber(before[0]))
end

return thread
