-- SPDX-License-Identifier: MIT
-- What the files that ranks write together have in common: what one rank finds wrong is an error on all of them, and a
-- new file gets its name when it is complete.

require "nmpi" -- initialises MPI
local ffi = require "ffi"
local bit = require "bit"
local C = require("nmpi.lib").core
local arrays = require "nmpi.array"
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local comms = require "nmpi.comm"
local lists = require "nmpi.lists"
local ops = require "nmpi.op"

local type, tostring, tonumber, pairs, ipairs, error = type, tostring, tonumber, pairs, ipairs, error
local bnot, tobit = bit.bnot, bit.tobit
local mismatch, raise, success = check.mismatch, check.raise, check.success

local array_ct = ffi.typeof "nmpi_array"

local file = {}

-- ---- agreement ----

-- The least number of all ranks in each place.
local function least_of(comm, where, numbers)
  local mine, least = arrays.array(numbers, "int32"), arrays.empty(#numbers, "int32")
  success(C.nmpi_allreduce(mine, least, ops.MIN, comm), where)
  return least
end

local function text_of(comm, where, root, text)
  local length = arrays.array({ #text }, "int32")
  success(C.nmpi_bcast(length, root, comm), where)
  local copy = arrays.empty(length[0], "char")
  if text ~= "" then ffi.copy(copy.p.ch, text, #text) end
  success(C.nmpi_bcast(copy, root, comm), where)
  return copy:tostring()
end

-- Raises on every rank if one has a problem: its own where it has one, else that of the first rank with one.
local function agree(comm, where, problem)
  local rank, size = comm:rank(), comm:size()
  local failed = least_of(comm, where, { problem and rank or size })[0]
  if failed == size then return end
  local text = text_of(comm, where, failed, rank == failed and problem or "")
  if problem then error(problem, 0) end
  raise(where, ("rank %d: %s"):format(failed, text:match "nmpi%.[%w_.:]+: (.*)" or text))
end

--- Calls a function whose errors on one rank are errors on all. Collective.
-- @return what it returns, at most three values
function file.together(comm, where, f, ...)
  local good, a, b, c = pcall(f, ...)
  agree(comm, where, not good and tostring(a) or nil)
  return a, b, c
end

--- The sum of a number over all ranks. Collective.
function file.sum(comm, where, number)
  local mine, total = arrays.array(number), arrays.zeros {}
  success(C.nmpi_allreduce(mine, total, ops.SUM, comm), where)
  return total:get()
end

local function hash(text)
  local sum = 0
  for i = 1, #text do sum = tobit(sum * 31 + text:byte(i)) end
  return sum
end

--- Raises on every rank unless all ranks give the same strings. Collective.
-- @param facts a list, as long on each rank, of lists: an argument's name, what it is here, and how to tell that in a
-- message if in other words
function file.same(comm, where, facts)
  local numbers = {}
  for i, fact in ipairs(facts) do
    local sum = hash(fact[2])
    numbers[2 * i - 1], numbers[2 * i] = sum, bnot(sum)
  end
  local least = least_of(comm, where, numbers)
  for i, fact in ipairs(facts) do
    if least[2 * i - 2] ~= bnot(least[2 * i - 1]) then
      raise(where, ("argument '%s': expected the same on every rank, got %s here"):format(fact[1],
        fact[3] or fact[2]))
    end
  end
end

--- Checks arguments on each rank, by a function that returns the facts for `file.same`. Collective.
function file.checked(comm, where, arguments, ...)
  file.same(comm, where, file.together(comm, where, arguments, ...))
end

--- The dtype of an array on all ranks where it counts. Collective.
function file.common_dtype(comm, where, a, counts)
  local none = C.NMPI_DTYPE_COUNT
  local least = least_of(comm, where, { counts and a.type or none, counts and -a.type or none })
  if least[0] == -least[1] then return (ffi.string(C.nmpi_dtype_name(least[0]))) end
  return raise(where, "argument 'array': expected the same dtype on every rank, got " .. a.dtype .. " here")
end

-- ---- arguments ----

--- The communicator among options, which may be anything.
function file.comm(options, where)
  local comm = type(options) == "table" and options.comm or nil
  comm = check.comm(comm, where) or comms.COMM_WORLD
  check.value(C.nmpi_comm_rank(comm), where)
  return comm
end

--- A path.
function file.path(path, where)
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then mismatch(where, "path", "a path", path) end
  return path
end

--- The paths of files that are being written.
file.begun = {}

--- The path of a file that is to be written.
function file.new_path(path, where)
  file.path(path, where)
  if file.begun[path] then raise(where, ("'%s' is being written, and has not been closed"):format(path)) end
end

--- A table of options with these names, empty where there is none.
function file.options(options, names, where)
  if options == nil then return {} end
  if type(options) ~= "table" then mismatch(where, "options", "a table", options) end
  for name in pairs(options) do
    if not names[name] then raise(where, ("there is no option %s"):format(check.describe(name))) end
  end
  return options
end

--- A boolean, false where there is none.
function file.boolean(value, where, argument)
  if type(value) ~= "nil" and type(value) ~= "boolean" then mismatch(where, argument, "a boolean", value) end
  return value == true
end

--- A list of `count` whole numbers from `least` on (any count where that is nil), copied; a number will do for one.
-- What equals `other` is allowed as well.
function file.list(value, count, least, where, argument, other)
  if type(value) == "number" then value = { value } end
  local expected = ("%s whole numbers of at least %d"):format(count and "a list of " .. count or "a list of", least)
  local shaped = type(value) == "cdata" and pcall(function() return #value end)
  local length = shaped and #value or lists.length(value, where, argument, expected)
  if count and length ~= count then mismatch(where, argument, expected, value) end
  local base, list = type(value) == "cdata" and -1 or 0, {}
  for i = 1, length do
    local number = value[base + i]
    local good = type(number) == "number" and number % 1 == 0 and number >= least and number <= 2 ^ 53
    if not good and (number == nil or number ~= other) then
      mismatch(where, argument, expected, type(number) == "nil" and value or number)
    end
    list[i] = number
  end
  return list
end

--- A list in an error message.
function file.show(list)
  local parts = {}
  for i, number in ipairs(list) do parts[i] = ("%.0f"):format(number) end
  return "(" .. table.concat(parts, ", ") .. (#list == 1 and ",)" or ")")
end

--- What a script passes as data, as an array in its own shape.
function file.array(value, where, argument)
  if type(value) == "string" then return (arrays.array(value)) end
  if not ffi.istype(array_ct, value) then return (buffer.shaped(value, where, argument)) end
  if value == nil or value.type == C.NMPI_NONE then mismatch(where, argument, "an array", value) end
  return value
end

--- Where an array goes in one of another shape, or comes from: lists of its first index and of its extents in each
-- dimension of that. An array of fewer dimensions stands for the last ones, an empty one for nothing.
function file.place(a, shape, start, where)
  local ndim, missing, offsets, extents = #shape, #shape - a.ndim, {}, {}
  for d = 1, ndim do offsets[d], extents[d] = 0, 0 end
  if start ~= nil then offsets = file.list(start, ndim, 0, where, "start") end
  if a.length == 0 then return offsets, extents end
  if missing < 0 then
    raise(where, ("argument 'array': expected at most %d dimensions, got shape %s"):format(ndim, tostring(a.shape)))
  end
  for d = 1, ndim do
    extents[d] = d <= missing and 1 or tonumber(a.extent[d - missing - 1])
    if offsets[d] + extents[d] > shape[d] then
      raise(where, ("argument 'start': an array of shape %s at %s does not lie within the shape %s"):format(
        tostring(a.shape), file.show(offsets), file.show(shape)))
    end
  end
  return offsets, extents
end

--- What a script passes as an array to be written to.
function file.writable(value, where, argument)
  local a = type(value) ~= "string" and file.array(value, where, argument)
  if not a or bit.band(a.flags, C.NMPI_READONLY) ~= 0 then mismatch(where, argument, "a writable array", value) end
  return a
end

-- ---- the name of a new file ----

local ENOENT = 2

--- What is written before it is complete.
function file.part(path)
  return path .. ".part"
end

-- What a file may need beside its data.
local MARGIN = 1024 * 1024

--- Reserves space for a file that has `bytes`, and returns its size with it.
function file.reserve(path, bytes, where)
  check.status(C.nmpi_file_reserve(path, bytes + MARGIN), where)
  return bytes + MARGIN
end

--- Begins a file of a size with its first bytes, unless there is one of that name already, or a directory.
function file.begin(path, overwrite, bytes, size, where)
  local directory = io.open(path .. "/.")
  if directory then
    directory:close()
    raise(where, ("'%s' is a directory"):format(path))
  end
  local found, message, code = io.open(path)
  if found then found:close() end
  if found and not overwrite then
    raise(where, ("'%s' exists already; the option overwrite = true replaces it"):format(path))
  elseif not found and code ~= ENOENT then
    raise(where, message)
  end
  local part = file.part(path)
  local begun, refusal = io.open(part, "wb")
  if not begun then raise(where, refusal) end
  local good, lack = pcall(function()
    local written, problem = begun:write(bytes)
    local closed, loss = begun:close() -- which writes what is still in a buffer
    if not (written and closed) then raise(where, problem or loss) end
    file.reserve(part, size, where)
  end)
  if not good then
    os.remove(part)
    error(lack, 0)
  end
end

--- The size of a file.
function file.size(path, where)
  local found, problem = io.open(path, "rb")
  if not found then raise(where, problem) end
  local size = found:seek "end"
  found:close()
  return size
end

--- Cuts a file to a size, unless it is less.
function file.cut(path, bytes, where)
  if file.size(path, where) > bytes then check.status(C.nmpi_file_truncate(path, bytes), where) end
end

--- Gives a complete file its size and its name.
function file.finish(place, path, bytes, where)
  file.cut(place, bytes, where)
  local renamed, message = os.rename(place, path)
  if not renamed then raise(where, message) end
end

return file
