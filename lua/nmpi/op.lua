-- SPDX-License-Identifier: MIT
--- Operators of reductions.
-- @module nmpi.op

local ffi = require "ffi"
local C = require("nmpi.lib").core

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

return op
