-- SPDX-License-Identifier: MIT
--- The routines of nmpi without the leading status: what MPI reports is raised.
--
-- `require "nmpi.checked"` gives the table that `require "nmpi"` gives, but its routines return only what follows the
-- status. Where the status is not `mpi.SUCCESS` they raise an error object with the fields `code` (the status), `class`
-- (such as `mpi.ERR_TRUNCATE`), `routine` (its name), `rank` (in COMM_WORLD), `message` (MPI's words) and `where` (file
-- and line); `tostring` gives all of it in a line. Mistakes of the caller raise strings, as ever.
-- @module nmpi.checked
-- @usage local mpi = require "nmpi.checked"
-- local request = mpi.irecv(halo, left)
-- mpi.send(edge, right)
-- mpi.wait(request)

local mpi = require "nmpi"
local success = require("nmpi.check").success

local SUCCESS = mpi.SUCCESS

-- The routines that return a status, by the number of results that follow it.
local routines = {
  [0] = {
    "finalize", "send", "ssend", "bsend", "rsend", "buffer_attach", "buffer_detach", "recv", "sendrecv",
    "sendrecv_replace", "probe", "mrecv", "start", "startall", "request_free", "wait", "waitall", "cancel", "barrier",
    "bcast", "scatter", "gather", "allgather", "reduce",
  },
  {
    "iprobe", "mprobe", "isend", "issend", "ibsend", "irsend", "irecv", "imrecv", "ireduce", "iallreduce", "send_init",
    "recv_init", "test", "testall", "waitany", "waitsome", "testsome", "allreduce",
  },
  { "improbe", "testany" },
}

-- No routine takes more than eight arguments; a vararg would cost more than the nils.
local wrappers = {
  [0] = function(name, routine)
    return function(a, b, c, d, e, f, g, h)
      local status = routine(a, b, c, d, e, f, g, h)
      if status ~= SUCCESS then success(status, name) end
    end
  end,
  function(name, routine)
    return function(a, b, c, d, e, f, g, h)
      local status, x = routine(a, b, c, d, e, f, g, h)
      if status ~= SUCCESS then success(status, name) end
      return x
    end
  end,
  function(name, routine)
    return function(a, b, c, d, e, f, g, h)
      local status, x, y = routine(a, b, c, d, e, f, g, h)
      if status ~= SUCCESS then success(status, name) end
      return x, y
    end
  end,
}

local checked = {}
for name, value in pairs(mpi) do checked[name] = value end
for results, names in pairs(routines) do
  for _, name in ipairs(names) do checked[name] = wrappers[results](name, mpi[name]) end
end

return checked
