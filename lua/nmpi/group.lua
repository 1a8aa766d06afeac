-- SPDX-License-Identifier: MIT
--- Groups: ordered sets of processes, from which communicators are made.
--
-- A group is local: making, comparing and freeing one concerns no other rank. `comm:group()` gives the first one, and
-- the garbage collector frees those that are dropped. A failure of MPI is raised as an error object, with the status
-- in its field `code`.
-- @module nmpi.group

local ffi = require "ffi"
local lib = require "nmpi.lib"
local array = require "nmpi.array"
local buffer = require "nmpi.buffer"
local check = require "nmpi.check"
local lists = require "nmpi.lists"
local C = lib.core

local type, tonumber = type, tonumber
local int, mismatch, required, success = check.int, check.mismatch, check.group, check.success

local drop = C.nmpi_group_drop
local ranks_ct = ffi.typeof "int[?]"

-- What the core answers with.
local FEW = 64
local made, found, few = ffi.new "nmpi_group *[2]", ffi.new "int[1]", ranks_ct(FEW)

local group = {
  --- The group without processes.
  GROUP_EMPTY = C.nmpi_group_empty(),
  --- Where there is no rank: not a member, not in the other group. As `color` of `comm:split`: in no part.
  UNDEFINED = C.nmpi_undefined(),
  --- What `compare` finds: the same object or, for groups, the same processes in the same order.
  IDENT = C.NMPI_IDENT,
  --- What `comm:compare` finds: different communicators of the same processes in the same order.
  CONGRUENT = C.NMPI_CONGRUENT,
  --- What `compare` finds: the same processes in another order.
  SIMILAR = C.NMPI_SIMILAR,
  --- What `compare` finds: different processes.
  UNEQUAL = C.NMPI_UNEQUAL,
}

local methods = {}

local function this(value, where)
  return (required(value, where, "group"))
end

-- A list of ranks as an array for the core.
local function ranks_of(ranks, where)
  if ranks == nil then mismatch(where, "ranks", "a list of ranks", ranks) end
  if type(ranks) ~= "table" then return (buffer.send(ranks, where, "ranks")) end
  local n = lists.length(ranks, where, "ranks", "a list of ranks")
  local list = array.empty(n, "int32")
  lists.fill(list.p.i32, ranks, n, int, where, "ranks")
  return list
end

local function adopt(code, where)
  success(code, where)
  if made[1] ~= nil then return (ffi.gc(made[1], drop)) end
  return made[0]
end

--- This process's rank in the group (MPI_Group_rank).
-- @treturn int 0 to size - 1, or `mpi.UNDEFINED` for a process that is no member
-- @function group:rank
function methods.rank(self)
  local rank = C.nmpi_group_rank(this(self, "group:rank"))
  if rank == C.NMPI_ERR_ARGUMENT then success(rank, "group:rank") end
  return rank
end

--- The number of processes in the group (MPI_Group_size).
-- @treturn int 0 or more
-- @function group:size
function methods.size(self)
  return (check.value(C.nmpi_group_size(this(self, "group:size")), "group:size"))
end

--- The group of some of this one's processes, in the order of the list (MPI_Group_incl).
-- @tparam {int,...} ranks a Lua list, or an array of int32 (nmpi or FFI); each at most once
-- @return group
-- @usage local evens = comm:group():incl { 0, 2, 4 }
-- @function group:incl
function methods.incl(self, ranks)
  return (adopt(C.nmpi_group_incl(this(self, "group:incl"), ranks_of(ranks, "group:incl"), made), "group:incl"))
end

--- The group of all processes but some, in the same order (MPI_Group_excl).
-- @tparam {int,...} ranks a Lua list, or an array of int32 (nmpi or FFI); each at most once
-- @return group
-- @function group:excl
function methods.excl(self, ranks)
  return (adopt(C.nmpi_group_excl(this(self, "group:excl"), ranks_of(ranks, "group:excl"), made), "group:excl"))
end

--- This group's processes, then those of the other that are not in it (MPI_Group_union).
-- @param other a group
-- @return group
-- @function group:union
function methods.union(self, other)
  local where = "group:union"
  return (adopt(C.nmpi_group_union(this(self, where), required(other, where, "other"), made), where))
end

--- This group's processes that are also in the other, in this one's order (MPI_Group_intersection).
-- @param other a group
-- @return group
-- @function group:intersection
function methods.intersection(self, other)
  local where = "group:intersection"
  return (adopt(C.nmpi_group_intersection(this(self, where), required(other, where, "other"), made), where))
end

--- This group's processes that are not in the other, in this one's order (MPI_Group_difference).
-- @param other a group
-- @return group
-- @function group:difference
function methods.difference(self, other)
  local where = "group:difference"
  return (adopt(C.nmpi_group_difference(this(self, where), required(other, where, "other"), made), where))
end

--- The ranks that processes of this group have in another (MPI_Group_translate_ranks).
-- @tparam {int,...} ranks ranks in this group, as a Lua list or an array of int32; `mpi.PROC_NULL` stays what it is
-- @param other a group
-- @treturn {int,...} a Lua list, with `mpi.UNDEFINED` for each that the other does not have
-- @function group:translate_ranks
function methods.translate_ranks(self, ranks, other)
  local where = "group:translate_ranks"
  local wanted = ranks_of(ranks, where)
  local n = tonumber(wanted.length)
  local translated = n <= FEW and few or ranks_ct(n)
  success(C.nmpi_group_translate_ranks(this(self, where), wanted, required(other, where, "other"), translated), where)
  return (lists.of(translated, n, tonumber))
end

--- Whether two groups have the same processes (MPI_Group_compare).
-- @param other a group
-- @treturn int `mpi.IDENT`, `mpi.SIMILAR` (in another order) or `mpi.UNEQUAL`
-- @function group:compare
function methods.compare(self, other)
  local where = "group:compare"
  success(C.nmpi_group_compare(this(self, where), required(other, where, "other"), found), where)
  return found[0]
end

--- Frees the group now (MPI_Group_free). Its later use is an error. Optional: the garbage collector does it,
-- but for the first 64 that a thread forgets.
-- @function group:free
function methods.free(self)
  success(C.nmpi_group_free(this(self, "group:free")), "group:free")
end

ffi.metatype("nmpi_group", { __index = methods })

return group
