-- SPDX-License-Identifier: MIT
--- A thread's team, as `nmpi.thread`'s `team` returns it.
--
-- It has the fields `id`, the thread's number from 0, and `size`, the number of threads. Where all threads of a team
-- must come, those that wait for one that has failed or returned get an error.
-- @module nmpi.team

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"
local values = require "nmpi.values"

local coroutine, floor, getmetatable, setmetatable, type, unpack =
  coroutine, math.floor, getmetatable, setmetatable, type, unpack
local cast, typeof = ffi.cast, ffi.typeof
local integer, mismatch, operator, raise, status = check.integer, check.mismatch, check.op, check.raise, check.status

local member_ct = typeof "nmpi_member *"

local team = {}

-- ---- the object ----

local methods = {}
local meta = { __index = methods }

local function member_of(self, where)
  if type(self) ~= "table" or getmetatable(self) ~= meta then
    mismatch(where, "self", "a team (is it called with a colon?)", self)
  end
  if not self.member then raise(where, "the team has ended") end
  return self.member
end

local function size_of(value, where, argument, least)
  local number = integer(value, where, argument)
  if number < least then mismatch(where, argument, "a whole number of at least " .. least, value) end
  return number
end

--- Waits until every thread of the team has come here.
-- @function team:barrier
function methods.barrier(self)
  status(C.nmpi_member_barrier(member_of(self, "team:barrier")), "team:barrier")
end

local number = ffi.new "double[1]"

--- Combines a number of each thread; every thread comes here and gets the result.
-- @number x
-- @tparam[opt=SUM] op op
-- @treturn number
-- @function team:reduce
function methods.reduce(self, x, op)
  local where = "team:reduce"
  local member = member_of(self, where)
  if type(x) ~= "number" then mismatch(where, "x", "a number", x) end
  number[0] = x
  status(C.nmpi_member_reduce(member, operator(op, where), number), where)
  return number[0]
end

--- Enters the critical section, in which one thread of the team at a time is. The end of the function leaves it too.
-- @function team:lock
function methods.lock(self)
  status(C.nmpi_member_lock(member_of(self, "team:lock")), "team:lock")
end

--- Leaves the critical section.
-- @function team:unlock
function methods.unlock(self)
  status(C.nmpi_member_unlock(member_of(self, "team:unlock")), "team:unlock")
end

--- This thread's part of 0 to n - 1, which the threads divide evenly.
-- @int n
-- @treturn int the first
-- @treturn int the one past the last
-- @function team:range
function methods.range(self, n)
  local where = "team:range"
  member_of(self, where)
  n = size_of(n, where, "n", 0)
  local id, size = self.id, self.size
  return floor(n * id / size), floor(n * (id + 1) / size)
end

local function next_chunk(state)
  local where = "team:chunks"
  local from = check.value(C.nmpi_member_take(member_of(state.team, where), state.chunk, state.meetings), where)
  if from >= state.n then return nil end
  local to = from + state.chunk
  return from, to < state.n and to or state.n
end

--- Hands out 0 to n - 1 in pieces, each to the thread that comes for it first. Every thread comes here, and waits for
-- the others at the beginning; they must not meet within the loop.
-- @int n
-- @int[opt=1] chunk the size of a piece
-- @return an iterator over the pieces of this thread: the first of each, and the one past its last
-- @function team:chunks
function methods.chunks(self, n, chunk)
  local where = "team:chunks"
  local member = member_of(self, where)
  n = size_of(n, where, "n", 0)
  chunk = chunk == nil and 1 or size_of(chunk, where, "chunk", 1)
  status(C.nmpi_member_barrier(member), where)
  return next_chunk, { team = self, n = n, chunk = chunk, meetings = C.nmpi_member_meetings(member) }
end

local function new(member)
  return setmetatable({ id = member.id, size = member.size, member = member }, meta)
end

-- ---- work ----

-- What thread.team() returns.
local current

function team.current()
  return current
end

local function call(member, fn, reader, count)
  local arguments = {}
  for i = 1, count do arguments[i] = values.get(reader) end
  return (fn(member.id, member.size, unpack(arguments, 1, count)))
end

local function describe(err)
  local kind, m = type(err), getmetatable(err)
  if kind == "string" or kind == "number" or type(m) == "table" and rawget(m, "__tostring") then
    local good, text = pcall(tostring, err)
    if good and type(text) == "string" then return text end
  end
  return ("(error object is a %s value)"):format(kind)
end

--- What the thread does that has made the team, as its member 0. Returns whether it went well, and the result or the
-- error with its traceback. A coroutine, so that the script cannot leave by yielding in one of its own.
function team.take_part(member, fn, reader, count)
  local outer, mine = current, new(member)
  current = mine
  local thread = coroutine.create(call)
  local good, result = coroutine.resume(thread, member, fn, reader, count)
  current, mine.member = outer, nil
  if good and coroutine.status(thread) ~= "dead" then good, result = false, "a thread of a team cannot yield" end
  if not good then result = debug.traceback(thread, describe(result)) end
  return good, result
end

local functions = {}
local answer = values.writer()
local kept
local pressures = C.nmpi_memory_pressures()

-- What is left of the arguments holds storage, and between the calls nothing is collected here.
local function collect()
  pressures = C.nmpi_memory_pressures()
  collectgarbage()
  collectgarbage()
  C.nmpi_memory_settle()
end

local function load_function(work)
  local fn = loadstring(ffi.string(work.code, work.bytes))
  functions[work["function"]] = fn
  return fn
end

-- A thread's work.
local function enter(address)
  local member = cast(member_ct, address)
  local work = C.nmpi_member_work(member)
  if not current then current = new(member) end
  if work.forget ~= 0 then functions = {} end
  kept = nil
  values.clear(answer)
  local fn = functions[work["function"]] or load_function(work)
  kept = call(member, fn, values.reader(work.values), work.count)
  if C.nmpi_memory_pressures() ~= pressures then collect() end
  if type(kept) == "nil" then return end
  values.put(answer, kept, "thread", "result")
  C.nmpi_member_answer(member, answer.data, answer.count)
end

--- Prepares the state of a thread; returns what the core calls there.
function team.start()
  local exit = os.exit
  os.exit = function(code, close)
    if code == nil or code == true or code == 0 then
      error("os.exit: only the main thread can end the program with success; other threads return", 2)
    end
    exit(code, close)
  end
  require "nmpi"
  return enter
end

return team
