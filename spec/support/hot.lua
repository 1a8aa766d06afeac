-- SPDX-License-Identifier: MIT
-- What becomes of a hot loop: whether it compiles, and what it allocates.

local hot = {}

local function describe(err, detail)
  local known, vmdef = pcall(require, "jit.vmdef")
  local format = known and vmdef.traceerr[err] or "error " .. tostring(err)
  return (format:gsub("%%[%a]", tostring(detail)))
end

--- Calls run(), from a cold start. Returns the aborts of traces that began in the function f and the ways in which they
-- fell back to the interpreter; whether one of them became a loop; and what pcall(run) returned. With `nested`, giving
-- up an outer loop until the one in it has been compiled is no problem.
function hot.watch(f, run, nested)
  local util = require "jit.util"
  -- Traces of nmpi's own functions, begun before the loop is hot, may well be given up: the loop inlines them.
  local ours, problems, looped = {}, {}, false

  local function watch(what, trace, func, pc, err, detail)
    if what == "start" then
      -- Position 0 is the entry of f; a side trace belongs to its parent.
      ours[trace] = err == nil and func == f and pc > 0 or ours[err]
    elseif what == "abort" and ours[trace] then
      local problem = describe(err, detail)
      if not nested or problem ~= "inner loop in root trace" then
        problems[#problems + 1] = ("%s at %s"):format(problem, util.funcinfo(func, pc).loc)
      end
    elseif what == "stop" and ours[trace] then
      local link = util.traceinfo(trace).linktype
      looped = looped or link == "loop"
      if link == "stitch" or link == "interpreter" then problems[#problems + 1] = "trace ends: " .. link end
    end
  end

  -- A finalizer that ran meanwhile would end the recording of a trace.
  collectgarbage()
  collectgarbage "stop"
  jit.flush()
  jit.attach(watch, "trace")
  local ok, message = pcall(run)
  jit.attach(watch)
  collectgarbage "restart"
  return problems, looped, ok, message
end

-- What only the first calls do (looking at a type, resolving a symbol) is not part of the loop.
local function warm(f)
  jit.off()
  f(3)
  jit.on()
end

local SLACK = 1 -- KiB, for the measuring itself

--- The KiB that f(n) leaves allocated once it is compiled. What is above SLACK has to be so three times in a row, as a
-- side of the loop that is seldom taken may be compiled in any round.
local function allocated(f, n)
  for _ = 1, 5 do f(1000) end
  local kib
  for _ = 1, 3 do
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    f(n)
    kib = collectgarbage "count" - before
    collectgarbage "restart"
    if kib <= SLACK then break end
  end
  return kib
end

--- For use within loops: globals, such as assert, are looked up by a function of busted's, which may not compile.
function hot.ensure(ok)
  if not ok then error("not so", 2) end
end

--- Defines the tests of a list of { name, f }, where f(n) runs a loop n times (`nested`: nmpi loops in it, as it does
-- over lists); skipped where the JIT compiler is off.
function hot.define(it, pending, loops)
  if not jit.status() then
    pending "compiles its hot loops: the JIT compiler is off"
    return
  end
  for _, loop in ipairs(loops) do
    local name, f = loop[1], loop[2]
    it(name .. " compiles", function()
      warm(f)
      -- Loops and functions share counters, as their addresses have it: a loop may become hot late.
      local problems, looped, ok, message = hot.watch(f, function() f(5000) end, loop.nested)
      assert(ok, message)
      assert(#problems == 0, table.concat(problems, "; "))
      assert(looped, "no trace of the loop")
    end)
    it(name .. " allocates nothing", function()
      local kib = allocated(f, 1e5)
      assert(kib <= SLACK, kib .. " KiB")
    end)
  end
end

return hot
