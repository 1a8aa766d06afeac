-- SPDX-License-Identifier: MIT
--- Settings that must be made before the first `require "nmpi"`. The environment comes first.
-- @module nmpi.rc
-- @usage require("nmpi.rc").thread_level = "funneled"
-- local mpi = require "nmpi"

return {
  --- What MPI_Init_thread is asked for: "single", "funneled", "serialized" or "multiple" (default).
  -- NMPI_THREAD_LEVEL overrides it.
  thread_level = "multiple",
  --- Check every element access of arrays against their bounds, compare what the ranks call, and report communicators
  -- that are never freed (default false). The same on every rank. NMPI_DEBUG overrides it.
  debug = false,
}
