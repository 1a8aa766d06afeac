-- SPDX-License-Identifier: MIT
-- Raises every error that is a mistake of the caller, and checks plain arguments.

local ffi = require "ffi"
local bit = require "bit"
local C = require("nmpi.lib").core
local rc = require "nmpi.rc"

local type, tostring, tonumber = type, tostring, tonumber
local tobit = bit.tobit
local istype, typeof = ffi.istype, ffi.typeof

local array_ct = typeof "nmpi_array"
local comm_ct = typeof "nmpi_comm *"
local group_ct = typeof "nmpi_group *"
local op_ct = typeof "nmpi_op *"
local status_ct = typeof "nmpi_status"

-- In all of nmpi there are no tail calls where a script's loop may come by, hence the parentheses in `return (f())`. A
-- trace takes at most 15 tail calls, and one that starts in a Lua function that ends by calling a builtin or C function
-- would abort; several aborts end in its blacklisting, which then stops every loop that calls it from being compiled.

local setting = os.getenv "NMPI_DEBUG"

local check = {
  --- Whether NMPI_DEBUG or rc.debug asks for every check.
  debugging = setting == "1" or ((setting == nil or setting == "") and rc.debug),
}

local here = debug.getinfo(1, "S").source:match "^(.*)check%.lua$" or "" -- nothing is known of stripped bytecode

-- The level, as seen from the caller of this function, of the first Lua frame outside nmpi.
local function user_level()
  local level = 2
  while true do
    local frame = debug.getinfo(level, "S")
    if not frame then return 0 end
    if frame.what ~= "C" and frame.source:sub(1, #here) ~= here then return level - 1 end
    level = level + 1
  end
end

--- Raises an error at the line that called into nmpi.
function check.raise(where, message)
  error("nmpi." .. where .. ": " .. message, user_level())
end

local raise = check.raise

--- A value in an error message.
function check.describe(value)
  if istype(array_ct, value) then
    if value == nil then return "a NULL pointer" end
    if bit.band(value.flags, C.NMPI_IN_PLACE) ~= 0 then return "IN_PLACE" end
    if value.type == C.NMPI_NONE then return "an array that has been freed" end
    return ("an array of %s, shape %s"):format(value.dtype, tostring(value.shape))
  end
  local kind = type(value)
  if kind == "string" then return ("the string %q"):format(#value > 80 and value:sub(1, 80) .. "..." or value) end
  if kind == "cdata" and tostring(value):find "^ctype<" then return tostring(value) end
  if kind == "cdata" then return "cdata of type " .. tostring(typeof(value)):match "^ctype<(.*)>$" end
  if kind == "table" or kind == "function" then return "a " .. kind end
  if kind == "thread" then return "a coroutine" end
  return tostring(value)
end

--- Raises "argument 'name': expected this, got that".
function check.mismatch(where, argument, expected, value)
  raise(where, ("argument '%s': expected %s, got %s"):format(argument, expected, check.describe(value)))
end

local mismatch = check.mismatch

local stored = ffi.new "int[1]"

--- What belongs between a call of C that may change memory and all that the program does next; value, status and
-- success do it. LuaJIT may compile what was read from memory before so that it is read only where it is used, after
-- the call (on x64; https://github.com/LuaJIT/LuaJIT/issues/1117 is alike), but not past a store.
function check.keep_reads()
  stored[0] = 0
end

local keep_reads = check.keep_reads

--- A number from the core, which is negative for an argument error.
function check.value(value, where)
  keep_reads()
  if value < 0 then raise(where, ffi.string(C.nmpi_error_message())) end
  return value
end

local function failed(code, where)
  check.value(code, where)
  C.nmpi_error_note(code)
end

--- A status from the core: an argument error is raised, everything else returned.
function check.status(code, where)
  keep_reads()
  if code ~= 0 then failed(code, where) end
  return code
end

--- The file and line that called into nmpi.
function check.place()
  local frame = debug.getinfo(user_level(), "Sl")
  return ("%s:%d"):format(frame.short_src, frame.currentline)
end

-- What is raised in place of a status, by nmpi.checked and by the methods of objects.
local error_object = {
  __tostring = function(e)
    return ("%s: nmpi.%s: rank %d: %s"):format(e.where, e.routine, e.rank, e.message)
  end,
}

--- An argument error is raised as ever, and any other failure as an error object: `code` (the status), `class`,
-- `routine`, `rank` (in COMM_WORLD), `message` (MPI's) and `where` (file and line); tostring gives all in a line.
function check.success(code, where)
  if check.status(code, where) == C.NMPI_SUCCESS then return end
  error(setmetatable({
    code = code,
    class = C.nmpi_error_class(code),
    routine = where,
    rank = C.nmpi_comm_rank(nil),
    message = ffi.string(C.nmpi_error_string(code)):match "^[^\n]*":gsub(", error stack:$", ""), -- MPICH's has more
    where = check.place(),
  }, error_object), 0)
end

--- The communicator that a routine has made, if it has.
function check.new_comm(code, made, where)
  check.success(code, where)
  local new = made[0]
  if check.debugging and new ~= C.nmpi_comm_null() then C.nmpi_comm_set_place(new, check.place()) end
  return new
end

--- A whole number that fits a C int.
function check.int(value, where, argument)
  if type(value) ~= "number" or tobit(value) ~= value then
    local wide = type(value) == "number" and value % 1 == 0
    mismatch(where, argument, wide and "a whole number of 32 bits" or "a whole number", value)
  end
  return value
end

--- The same, or nil for a default.
function check.optional_int(value, default, where, argument)
  if type(value) == "nil" then return default end
  return (check.int(value, where, argument))
end

--- A whole number that a double holds exactly; int64 cdata will do.
function check.integer(value, where, argument)
  local number = value
  if type(value) == "cdata" then number = tonumber(value) end
  if type(number) ~= "number" or number % 1 ~= 0 or number > 2 ^ 53 or number < -2 ^ 53 then
    mismatch(where, argument, "a whole number", value)
  end
  return number
end

--- A request or a message of mprobe: a number, or int64 cdata as arrays of requests hold.
function check.request(value, where, argument)
  local number = value
  if type(value) == "cdata" then number = tonumber(value) end
  if type(number) ~= "number" or number % 1 ~= 0 then
    mismatch(where, argument or "request", argument == "message" and "a message" or "a request", value)
  end
  return number
end

--- A count of at least 0, or nil for what the arrays hold.
function check.count(value, where)
  if type(value) == "nil" then return C.NMPI_UNDEFINED end
  local count = check.integer(value, where, "count")
  if count < 0 then mismatch(where, "count", "a whole number of at least 0", value) end
  return count
end

-- An object of a type, or nil. A NULL pointer is none: the core would take it for what nil stands for.
local function object(value, ctype, where, argument, expected)
  if type(value) ~= "nil" and (not istype(ctype, value) or value == nil) then
    mismatch(where, argument, expected, value)
  end
  return value
end

--- A communicator, or nil.
function check.comm(value, where)
  return (object(value, comm_ct, where, "comm", "a communicator"))
end

--- A communicator.
function check.required_comm(value, where, argument)
  if not istype(comm_ct, value) or value == nil then mismatch(where, argument, "a communicator", value) end
  return value
end

--- A group.
function check.group(value, where, argument)
  if not istype(group_ct, value) or value == nil then mismatch(where, argument, "a group", value) end
  return value
end

--- An operator, or nil.
function check.op(value, where)
  return (object(value, op_ct, where, "op", "an operator such as SUM"))
end

--- An operator.
function check.required_op(value, where)
  if not istype(op_ct, value) or value == nil then mismatch(where, "op", "an operator", value) end
  return value
end

--- An mpi.status(), or nil.
function check.info(value, where)
  return (object(value, status_ct, where, "info", "an mpi.status()"))
end

--- What an error calls a function's upvalues; stripped bytecode has no names.
function check.upvalues(fn)
  local names = {}
  for i = 1, debug.getinfo(fn, "u").nups do
    local name = debug.getupvalue(fn, i)
    names[i] = name ~= "" and name or "upvalue " .. i
  end
  return names
end

return check
