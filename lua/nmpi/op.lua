-- SPDX-License-Identifier: MIT
--- Operators of reductions.
-- @module nmpi.op

local ffi = require "ffi"
local check = require "nmpi.check"
local dtype = require "nmpi.dtype"
local C = require("nmpi.lib").core
require "nmpi.env" -- initialises MPI, before which there are no operators

local mismatch, success = check.mismatch, check.success

local op = {}

--- The predefined operators, `mpi.Operator.SUM` as well as `mpi.SUM` (MPI-4.0, section 6.9.2).
-- @field SUM sum: integers, real, complex
-- @field PROD product: integers, real, complex
-- @field MAX maximum: integers, real
-- @field MIN minimum: integers, real
-- @field LAND logical and: integers, bool
-- @field BAND bitwise and: integers
-- @field LOR logical or: integers, bool
-- @field BOR bitwise or: integers
-- @field LXOR logical exclusive or: integers, bool
-- @field BXOR bitwise exclusive or: integers
-- @field MAXLOC maximum and its index: pairs (float\_int, double\_int, long\_int, short\_int, 2int)
-- @field MINLOC minimum and its index: pairs
op.Operator = {}

local position = 0
while C.nmpi_op_predefined(position) ~= nil do
  local operator = C.nmpi_op_predefined(position)
  local name = ffi.string(C.nmpi_op_name(operator))
  op.Operator[name] = operator
  op[name] = operator
  position = position + 1
end

-- ---- operators of one's own ----

local made = ffi.new "nmpi_op *[1]"

-- Runs in a Lua state of the operator's own, and so has no upvalues. Returns the function that the core calls there, or
-- what is wrong.
local function prepare(code, element, size, declarations)
  local ffi = require "ffi" -- luacheck: ignore 431
  local cast, typeof = ffi.cast, ffi.typeof
  package.preload["nmpi.lib"] = function() error("an operator must not use nmpi: MPI forbids it", 0) end
  os.exit = nil -- luacheck: ignore 122

  local declared, message = pcall(ffi.cdef, declarations)
  if not declared then return "argument 'opts.cdef': " .. message end
  if element then
    local known, ctype = pcall(typeof, element)
    if not known or ffi.sizeof(ctype) ~= size then
      return ("argument 'opts.dtype': %s has %d bytes here, but %s"):format(element, size, known
        and ffi.sizeof(ctype) .. " as opts.cdef declares it" or "is not declared by opts.cdef")
    end
  end

  local functions = {} -- by C type: each has traces of its own
  local function make(name)
    local known, ctype = pcall(typeof, name)
    if not known then
      ffi.cdef(require("nmpi.cdef").declarations) -- of the pairs
      ctype = typeof(name)
    end
    local in_ct, inout_ct, fn = typeof("const $ *", ctype), typeof("$ *", ctype), loadstring(code)
    functions[name] = function(invec, inoutvec, n) return fn(cast(in_ct, invec), cast(inout_ct, inoutvec), n) end
    return functions[name]
  end
  return function(name, invec, inoutvec, n)
    name = name or element
    return (functions[name] or make(name))(invec, inoutvec, n)
  end
end

local EXPECTED = "a Lua function, an expression of x and y, or a C function"

-- The function of an expression, which has no upvalues either.
local function elementwise(expression)
  local lines = {}
  for name in expression:gmatch "[%a_][%w_]*" do
    if math[name] and not lines[name] then
      lines[name], lines[#lines + 1] = true, ("local %s = math.%s"):format(name, name)
    end
  end
  local code = ([[
    return function(invec, inoutvec, n)
      %s
      for i = 0, n - 1 do
        local x, y = invec[i], inoutvec[i]
        inoutvec[i] = (%s
        )
      end
    end]]):format(table.concat(lines, " "), expression)
  local chunk = loadstring("return " .. expression) and loadstring(code, "=" .. expression)
  if not chunk then mismatch("op", "fn", "an expression of x and y", expression) end
  return chunk()
end

local function bytecode(fn)
  if debug.getinfo(fn, "S").what == "C" then mismatch("op", "fn", EXPECTED, fn) end
  local names = check.upvalues(fn)
  if #names > 0 then
    check.raise("op", "argument 'fn': expected a function without upvalues, for it runs in a Lua state of its own; "
      .. "this one uses '" .. table.concat(names, "', '") .. "'")
  end
  return string.dump(fn)
end

local OPTIONS = { commute = "boolean", dtype = "any", cdef = "string" }

local function check_options(opts)
  if type(opts) ~= "table" then mismatch("op", "opts", "a table", opts) end
  for name, value in pairs(opts) do
    local expected = OPTIONS[name]
    if not expected then mismatch("op", "opts", "the fields commute, dtype and cdef only", name) end
    if expected ~= "any" and type(value) ~= expected then mismatch("op", "opts." .. name, "a " .. expected, value) end
  end
end

-- The name of a struct as the operator's state can know it; nil for other elements.
local function struct_name(description, given)
  if description.code ~= C.NMPI_STRUCT then return nil end
  local name = type(given) == "string" and given or description.name
  if name:find "^%a+ %d" then mismatch("op", "opts.dtype", "the name of the struct", given) end
  return name
end

local function is_c_function(fn)
  return type(fn) == "cdata" and tostring(ffi.typeof(fn)):find "^ctype<void %(?%*?%)?%(%)>$" ~= nil
end

--- Makes an operator (MPI_Op_create). It is local: every rank that takes part in a reduction makes its own, alike.
--
-- A Lua function is called as `fn(invec, inoutvec, n)`, with pointers to n elements each: it combines `invec[i]`, which
-- come from lower ranks and are const, with `inoutvec[i]`, and leaves the results in `inoutvec[i]`, for i from 0 to
-- n - 1. It must be associative. It runs in a Lua state of its own: it may use globals and `require`, but no local
-- variables from outside of it, it must not keep anything from call to call, and it must not use nmpi. An error in it
-- ends the job.
--
-- A C function is one of MPI's type `MPI_User_function`: `void f(void *invec, void *inoutvec, int *n, void *datatype)`.
-- @param fn a Lua function without upvalues; or a string with the Lua expression of the new `y` from `x = invec[i]` and
-- `y = inoutvec[i]`, in which the functions of `math` need no prefix; or a C function of a library
-- @tparam[opt] table opts `commute` (false): whether the order of the operands is of no importance, which may be
-- faster; `dtype`: what the elements are, for structs, and to have other dtypes refused; `cdef`: C declarations for the
-- function's state, among them that of the struct, which `dtype` then names
-- @return operator
-- @usage local longest = mpi.op("max(abs(x), abs(y))", { commute = true })
function op.op(fn, opts)
  opts = opts or {}
  check_options(opts)
  local code, ctype, description = C.NMPI_NONE, 0, nil
  if opts.dtype ~= nil then
    description = dtype.resolve(opts.dtype, "op")
    code, ctype = description.code, description.ctype
  end
  local commute = opts.commute and 1 or 0
  if is_c_function(fn) then
    success(C.nmpi_op_wrap(ffi.cast("void *", fn), code, ctype, commute, made), "op")
  else
    if type(fn) == "string" then fn = elementwise(fn) end
    if type(fn) ~= "function" then mismatch("op", "fn", EXPECTED, fn) end
    local name = description and struct_name(description, opts.dtype)
    local source = ("return loadstring(%q)(%q, %s, %d, %q)"):format(string.dump(prepare), bytecode(fn),
      name and ("%q"):format(name) or "nil", description and description.itemsize or 0, opts.cdef or "")
    success(C.nmpi_op_create(source, #source, package.path or "", package.cpath or "", jit.status() and 1 or 0, code,
      ctype, commute, made), "op")
  end
  if check.debugging then C.nmpi_op_set_place(made[0], check.place()) end
  return made[0]
end

local methods = {}

--- Frees an operator that `mpi.op` has made (MPI_Op_free). Its later use is an error. Operators that were never freed
-- are reported at the end of a program under `NMPI_DEBUG=1`.
-- @function op:free
function methods.free(self)
  success(C.nmpi_op_free(check.required_op(self, "op:free")), "op:free")
end

ffi.metatype("nmpi_op", { __index = methods })

return op
