-- SPDX-License-Identifier: MIT
-- Runs busted under LuaJIT, once per rank: mpiexec -n 2 nmpi spec/support/run.lua [busted's options] spec/p2p_spec.lua
-- With --serial as first argument MPI is left alone, for specs that start mpiexec themselves.

-- busted drops modules first loaded by a spec; ffi does not survive being loaded twice.
require "ffi"

-- A spec is more code than LuaJIT keeps compiled by default: it would compile the same loops over and over.
require("jit.opt").start("maxtrace=20000", "maxmcode=40960")

-- busted would memoise ffi.typeof by its first argument, so that "$ *" means one type for ever.
package.loaded["busted.luajit"] = function() end

if arg[1] == "--serial" then
  table.remove(arg, 1)
else
  require "nmpi"
end

local directory = arg[0]:match("^(.*/)") or "./"
require "busted.runner" { standalone = false, output = directory .. "output.lua" }
