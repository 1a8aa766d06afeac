-- SPDX-License-Identifier: MIT
-- What becomes of a hot loop: whether it compiles, and what it allocates.

local hot = {}

local function describe(err, detail)
  local known, vmdef = pcall(require, "jit.vmdef")
  local format = known and vmdef.traceerr[err] or "error " .. tostring(err)
  return (format:gsub("%%[%a]", tostring(detail)))
end

--- Calls f(n), which is to run a loop n times, from a cold start. Returns the aborts of traces that began in f and the
-- ways in which they fell back to the interpreter, and whether one of them became a loop.
function hot.trace(f, n)
  local util = require "jit.util"
  -- Traces of nmpi's own functions, begun before the loop is hot, may well be given up: the loop inlines them.
  local ours, problems, looped = {}, {}, false

  local function watch(what, trace, func, pc, err, detail)
    if what == "start" then
      ours[trace] = func == f or ours[err] -- the parent of a side trace
    elseif what == "abort" and ours[trace] then
      problems[#problems + 1] = ("%s at %s"):format(describe(err, detail), util.funcinfo(func, pc).loc)
    elseif what == "stop" and ours[trace] then
      local link = util.traceinfo(trace).linktype
      looped = looped or link == "loop"
      if link == "stitch" or link == "interpreter" then problems[#problems + 1] = "trace ends: " .. link end
    end
  end

  -- What only the first calls do (looking at a type, resolving a symbol) is not part of the loop.
  jit.off()
  f(3)
  jit.on()
  jit.flush()
  jit.attach(watch, "trace")
  f(n)
  jit.attach(watch)
  return problems, looped
end

--- The KiB that f(n) leaves allocated once it is compiled.
function hot.allocated(f, n)
  for _ = 1, 5 do f(1000) end
  collectgarbage()
  collectgarbage "stop"
  local before = collectgarbage "count"
  f(n)
  local after = collectgarbage "count"
  collectgarbage "restart"
  return after - before
end

--- Defines the tests of a list of { name, f }.
function hot.define(it, loops)
  if not jit.status() then return end
  for _, loop in ipairs(loops) do
    local name, f = loop[1], loop[2]
    it(name .. " compiles", function()
      local problems, looped = hot.trace(f, 500)
      assert(#problems == 0, table.concat(problems, "; "))
      assert(looped, "no trace of the loop")
    end)
    it(name .. " allocates nothing", function()
      local kib = hot.allocated(f, 1e5)
      assert(kib <= 1, kib .. " KiB")
    end)
  end
end

return hot
