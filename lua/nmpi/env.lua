-- SPDX-License-Identifier: MIT
--- Start and end, the clock, and what is running.
--
-- `require "nmpi"` initialises MPI, unless somebody has done so. A program that ends cleanly finalises it; one
-- that ends by an uncaught error or a non-zero `os.exit` aborts the whole job with its exit code.
-- @module nmpi.env

local ffi = require "ffi"
local lib = require "nmpi.lib"
local launcher = require "nmpi.launcher"
local check = require "nmpi.check"
local rc = require "nmpi.rc"
local C = lib.core

local THREAD_LEVELS = { single = 0, funneled = 1, serialized = 2, multiple = 3 }

local env = {
  --- Thread levels, in MPI's order.
  THREAD_SINGLE = 0, THREAD_FUNNELED = 1, THREAD_SERIALIZED = 2, THREAD_MULTIPLE = 3,
}

--- Whether MPI_Init has been called, by nmpi or by anybody else in the process.
-- @treturn boolean
function env.initialized()
  return C.nmpi_initialized() ~= 0
end

--- Whether MPI_Finalize has been called.
-- @treturn boolean
function env.finalized()
  return C.nmpi_finalized() ~= 0
end

--- The thread level that MPI provides (MPI_Query_thread).
-- @treturn int `mpi.THREAD_SINGLE`, `mpi.THREAD_FUNNELED`, `mpi.THREAD_SERIALIZED` or `mpi.THREAD_MULTIPLE`
function env.query_thread()
  return (C.nmpi_query_thread())
end

--- Finalises MPI now (MPI_Finalize), on every rank. Optional: the end of the program does it. Calling it again
-- does nothing; a routine that communicates is an error afterwards. A rank that fails after it can no longer
-- end the others. It is for the thread that initialised MPI, while no other ones are at work.
-- @treturn int status
function env.finalize()
  return (check.status(C.nmpi_finalize(), "finalize"))
end

--- Ends the whole job at once (MPI_Abort).
-- @int[opt=1] code the exit code, 1 to 255 (its low eight bits count; 0 becomes 1)
-- @tparam[opt=COMM_WORLD] comm comm a communicator; every MPI ends the whole job whatever it is
function env.abort(code, comm)
  check.comm(comm, "abort")
  code = check.optional_int(code, 1, "abort", "code")
  if env.finalized() then os.exit(code % 256 ~= 0 and code or 1, true) end
  check.value(C.nmpi_comm_rank(comm), "abort")
  C.nmpi_abort(code)
end

--- Seconds since some moment in the past, the same for the life of the process (MPI_Wtime).
-- @treturn number seconds
function env.wtime()
  return (C.nmpi_wtime())
end

--- The resolution of `wtime` (MPI_Wtick).
-- @treturn number seconds
function env.wtick()
  return (C.nmpi_wtick())
end

--- What is running.
-- @treturn table fields: `version` (nmpi's), `mpi` (what the library says of itself), `standard` (the MPI
-- standard's version), `path` (the library's file), `abi` ("mpich" or "openmpi"), `launcher` (its name, or
-- "none"), `thread_level` ("single" ... "multiple"), `luajit` (version), `jit` (boolean), `rank`, `size`, `host`,
-- `memory` (bytes that the arrays of this process hold)
function env.info()
  local thread_level
  for name, level in pairs(THREAD_LEVELS) do
    if level == C.nmpi_query_thread() then thread_level = name end
  end
  return {
    version = lib.version,
    mpi = ffi.string(C.nmpi_library_version()):match "^(.-)%s*$",
    standard = ffi.string(C.nmpi_standard_version()),
    path = ffi.string(C.nmpi_library_path()),
    abi = ffi.string(C.nmpi_abi()),
    launcher = launcher.name,
    thread_level = thread_level,
    luajit = jit.version,
    jit = jit.status(),
    rank = C.nmpi_comm_rank(nil),
    size = C.nmpi_comm_size(nil),
    host = ffi.string(C.nmpi_processor_name()),
    memory = tonumber(C.nmpi_memory_bytes()),
  }
end

local function start()
  local name = os.getenv "NMPI_THREAD_LEVEL"
  if name == nil or name == "" then name = rc.thread_level end
  local level = THREAD_LEVELS[name]
  if not level then
    error(("nmpi: the thread level is 'single', 'funneled', 'serialized' or 'multiple', not '%s' "
      .. "(NMPI_THREAD_LEVEL or require('nmpi.rc').thread_level)"):format(tostring(name)), 0)
  end
  C.nmpi_debug(check.debugging and 1 or 0)
  local status = C.nmpi_init(level)
  if status < 0 then error("nmpi: " .. ffi.string(C.nmpi_error_message()), 0) end
  if status > 0 then error(("nmpi: MPI_Init_thread failed with error %d"):format(status), 0) end

  if launcher.size and launcher.size > 1 and C.nmpi_comm_size(nil) == 1 then
    error(("nmpi: %s started %d processes, but %s (%s) knows of only 1: it is the wrong MPI library for "
      .. "this launcher. Unset NMPI_MPI and NMPI_LIBMPI so that nmpi can choose, or start the program with "
      .. "the mpiexec that belongs to this library."):format(launcher.name, launcher.size,
      ffi.string(C.nmpi_library_version()):match "^[^\n]*", ffi.string(C.nmpi_library_path())), 0)
  end
end

-- Where exit handlers are not told the exit status, whoever calls os.exit tells the core.
if ffi.os ~= "Linux" then
  local exit = os.exit
  os.exit = function(code, close)
    C.nmpi_exit_status(type(code) == "number" and code or code == false and 1 or 0)
    exit(code, close)
  end
end

start()

return env
