-- SPDX-License-Identifier: MIT
--- Statuses: what MPI reports at run time.
--
-- Most routines return a status first: `mpi.SUCCESS` (0) or an error code of the MPI library. Error codes
-- belong to *error classes*, which MPI names: compare `mpi.error_class(status)` with `mpi.ERR_TRUNCATE` and
-- its like. A mistake of the caller is never a status, but a Lua error at the caller's line.
-- @module nmpi.error

local ffi = require "ffi"
local C = require("nmpi.lib").core
local check = require "nmpi.check"

local errors = {}

--- The status of a call that went well.
errors.SUCCESS = C.NMPI_SUCCESS

--- The error classes, as this MPI numbers them: `mpi.ERR_BUFFER`, `mpi.ERR_COUNT`, `mpi.ERR_TYPE`,
-- `mpi.ERR_TAG`, `mpi.ERR_COMM`, `mpi.ERR_RANK`, `mpi.ERR_TRUNCATE` and all others of MPI-3.1, table 8.1.
-- @field ERR_TRUNCATE the message was longer than the receive buffer
-- @table error_classes
local position = 0
while C.nmpi_error_class_name(position) ~= nil do
  errors[ffi.string(C.nmpi_error_class_name(position))] = C.nmpi_error_class_value(position)
  position = position + 1
end

--- Explains a status (MPI_Error_string).
-- @int status what a routine returned
-- @treturn string MPI's words for it
function errors.error_string(status)
  return (ffi.string(C.nmpi_error_string(check.int(status, "error_string", "status"))))
end

--- The class that a status belongs to (MPI_Error_class).
-- @int status what a routine returned
-- @treturn int one of the error classes, such as `mpi.ERR_TRUNCATE`; `mpi.SUCCESS` for `mpi.SUCCESS`
function errors.error_class(status)
  return (C.nmpi_error_class(check.int(status, "error_class", "status")))
end

return errors
