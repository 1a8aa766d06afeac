-- SPDX-License-Identifier: MIT
-- nmpi: MPI for LuaJIT. The public table; each family has a file of its own.

local nmpi = { _VERSION = require("nmpi.lib").version }

for _, family in ipairs { "env", "error", "array", "group", "comm", "op", "p2p", "request", "coll" } do
  for name, value in pairs(require("nmpi." .. family)) do nmpi[name] = value end
end

require "nmpi.adapters"

return nmpi
