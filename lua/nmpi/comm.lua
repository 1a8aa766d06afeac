-- SPDX-License-Identifier: MIT
--- Communicators: processes that communicate with each other, apart from all other communication.
--
-- Methods return what they make or find, without a status; a failure of MPI is raised as an error object, with the
-- status in its field `code`. `a == b` tells whether two are the same communicator. Every rank frees a communicator
-- that it no longer wants, as MPI demands: the garbage collector does not do so.
-- @module nmpi.comm

local ffi = require "ffi"
local lib = require "nmpi.lib"
local check = require "nmpi.check"
local C = lib.core

local type = type
local int, optional_int, mismatch = check.int, check.optional_int, check.mismatch
local communicator, required, number, success = check.comm, check.required_comm, check.value, check.success
local group_of, new_comm = check.group, check.new_comm

local drop_group = C.nmpi_group_drop

-- What the core answers with.
local made, made_group, found = ffi.new "nmpi_comm *[1]", ffi.new "nmpi_group *[2]", ffi.new "int[1]"

local comm = {
  --- All processes of the job: the default of every `comm` argument.
  COMM_WORLD = C.nmpi_comm_world(),
  --- This process alone.
  COMM_SELF = C.nmpi_comm_self(),
  --- No communicator: what a rank gets that does not belong to the new one. No routine accepts it.
  COMM_NULL = C.nmpi_comm_null(),
}

local methods = {}

local function this(value, where)
  return (required(value, where, "comm"))
end

-- What a routine made.
local function adopt(code, where)
  return (new_comm(code, made, where))
end

--- This process's rank in a communicator (MPI_Comm_rank), also as `comm:rank()`.
-- @tparam[opt=COMM_WORLD] comm group
-- @treturn int 0 to size - 1
function comm.rank(group)
  return (number(C.nmpi_comm_rank(communicator(group, "rank")), "rank"))
end

--- The number of processes in a communicator (MPI_Comm_size), also as `comm:size()`.
-- @tparam[opt=COMM_WORLD] comm group
-- @treturn int at least 1
function comm.size(group)
  return (number(C.nmpi_comm_size(communicator(group, "size")), "size"))
end

--- The communicator of the processes of a group (MPI_Comm_create), also as `comm:create(group)`. Every rank of `comm`
-- calls it; groups may differ between ranks where they have no process in common.
-- @tparam[opt=COMM_WORLD] comm self
-- @param group a group of processes of `comm`
-- @return communicator, or `mpi.COMM_NULL` on a rank that is not in the group
function comm.comm_create(self, group)
  local where = "comm_create"
  return (adopt(C.nmpi_comm_create(communicator(self, where), group_of(group, where, "group"), made), where))
end

--- The same, called by the processes of the group alone (MPI\_Comm\_create\_group), also as
-- `comm:create_group(group, tag)`.
-- @tparam[opt=COMM_WORLD] comm self
-- @param group a group of processes of `comm`, the same on each
-- @int[opt=0] tag tells apart several calls at the same time, by several threads
-- @return communicator, or `mpi.COMM_NULL` on a rank that is not in the group
function comm.create_group(self, group, tag)
  local where = "create_group"
  return (adopt(C.nmpi_comm_create_group(communicator(self, where), group_of(group, where, "group"),
    optional_int(tag, 0, where, "tag"), made), where))
end

-- Unlike the functions, methods have no default: `row.rank()` is a slip, and not to be answered with the world's rank.

--- This process's rank in the communicator (MPI_Comm_rank).
-- @treturn int 0 to size - 1
-- @function comm:rank
function methods.rank(self)
  return (number(C.nmpi_comm_rank(required(self, "rank", "comm")), "rank"))
end

--- The number of processes in the communicator (MPI_Comm_size).
-- @treturn int at least 1
-- @function comm:size
function methods.size(self)
  return (number(C.nmpi_comm_size(required(self, "size", "comm")), "size"))
end

methods.create, methods.create_group = comm.comm_create, comm.create_group

--- A communicator of the same processes in the same order, apart from this one (MPI_Comm_dup). Collective.
-- @return communicator
-- @function comm:dup
function methods.dup(self)
  return (adopt(C.nmpi_comm_dup(this(self, "comm:dup"), made), "comm:dup"))
end

--- Splits the communicator into one for each color (MPI_Comm_split). Collective.
-- @int color 0 or more, or `mpi.UNDEFINED` for a rank that is to be in none
-- @int[opt=0] key orders the ranks of a color; those with the same key stay in their order
-- @return communicator of the ranks with this rank's color, or `mpi.COMM_NULL`
-- @usage local row = mpi.COMM_WORLD:split(math.floor(mpi.rank() / columns))
-- @function comm:split
function methods.split(self, color, key)
  local where = "comm:split"
  return (adopt(C.nmpi_comm_split(this(self, where), int(color, where, "color"), optional_int(key, 0, where, "key"),
    made), where))
end

--- Splits the communicator by what processes share (MPI\_Comm\_split\_type). Collective.
-- @string kind "shared": those that can share memory, which usually means that they run on one machine
-- @int[opt=0] key orders the ranks
-- @return communicator of the ranks that share it with this one
-- @function comm:split_type
function methods.split_type(self, kind, key)
  local where = "comm:split_type"
  if kind ~= "shared" then mismatch(where, "kind", "'shared'", kind) end
  return (adopt(C.nmpi_comm_split_shared(this(self, where), optional_int(key, 0, where, "key"), made), where))
end

--- Frees the communicator (MPI_Comm_free). Collective: every rank of it calls this. Its later use is an error.
-- Communicators that were never freed are reported at the end of a program under `NMPI_DEBUG=1`.
-- @function comm:free
function methods.free(self)
  success(C.nmpi_comm_free(this(self, "comm:free")), "comm:free")
end

--- Whether two communicators have the same processes (MPI_Comm_compare).
-- @param other a communicator
-- @treturn int `mpi.IDENT` (the same communicator), `mpi.CONGRUENT` (the same processes in the same order),
-- `mpi.SIMILAR` (in another order) or `mpi.UNEQUAL`
-- @function comm:compare
function methods.compare(self, other)
  local where = "comm:compare"
  success(C.nmpi_comm_compare(this(self, where), required(other, where, "other"), found), where)
  return found[0]
end

--- The communicator's name (MPI\_Comm\_get\_name), for debugging. MPI chooses one where nobody has set it, or none.
-- @treturn string
-- @function comm:name
function methods.name(self)
  local name = C.nmpi_comm_name(this(self, "comm:name"))
  if name == nil then number(C.NMPI_ERR_ARGUMENT, "comm:name") end
  return (ffi.string(name))
end

--- Names the communicator, on this rank (MPI\_Comm\_set\_name).
-- @string name at most 63 bytes
-- @function comm:set_name
function methods.set_name(self, name)
  local where = "comm:set_name"
  if type(name) ~= "string" or name:find("\0", 1, true) then
    mismatch(where, "name", "a string without zero bytes", name)
  end
  success(C.nmpi_comm_set_name(this(self, where), name), where)
end

--- The group of the communicator's processes (MPI_Comm_group).
-- @return group
-- @function comm:group
function methods.group(self)
  success(C.nmpi_comm_group(this(self, "comm:group"), made_group), "comm:group")
  if made_group[1] ~= nil then return (ffi.gc(made_group[1], drop_group)) end
  return made_group[0]
end

ffi.metatype("nmpi_comm", { __index = methods })

return comm
