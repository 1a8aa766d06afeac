-- SPDX-License-Identifier: MIT
-- busted's output for parallel programs: rank 0 reports what passed, a failure on any rank is printed
-- with its rank and ends the job. The last line is "N passed, N failed[, N skipped]".

local busted = require "busted"
-- busted's own messages.
require "busted.languages.en"

-- Loaded already by run.lua, unless the spec is a serial one.
local mpi = package.loaded.nmpi

-- Seconds for which the job outlives a failure, so that the other ranks' failures are printed too.
local GRACE = 0.3

local rank, size, label = 0, 1, ""
if mpi then
  rank, size = mpi.rank(), mpi.size()
  label = ("[rank %d of %d] "):format(rank, size)
end

local passed, failed, skipped = 0, 0, 0
local skip_reason

local function full_name(element)
  local names = {}
  while element and element.descriptor ~= "file" and element.descriptor ~= "suite" do
    table.insert(names, 1, element.name or element.descriptor)
    element = busted.parent(element)
  end
  return table.concat(names, " ")
end

-- busted puts "file:line: " in front of what a test raised.
local function split(message)
  local place, text = message:match("^([^\n]-:%d+): (.*)$")
  return place or "", text or message
end

local function report(line)
  if rank == 0 then
    io.stdout:write(line, "\n")
    io.stdout:flush()
  end
end

local function fail(element, message, traceback)
  local place, text = split(message)
  local words = {}
  for _, word in ipairs { place, full_name(element), text } do
    if word ~= "" then words[#words + 1] = word end
  end
  io.stderr:write(label, table.concat(words, ": "), traceback or "", "\n")
  if size > 1 then
    busted.sleep(GRACE)
    mpi.abort(1)
  end
end

local handler = {}

function handler.failure(element, _, message)
  fail(element, message)
  return nil, true
end

function handler.error(element, _, message, trace)
  if element.descriptor ~= "it" then failed = failed + 1 end
  fail(element, message, trace and trace.traceback)
  return nil, true
end

function handler.skip(_, _, message)
  skip_reason = select(2, split(message))
  return nil, true
end

function handler.test_end(element, _, status)
  if status == "success" then
    passed = passed + 1
    report("PASS " .. full_name(element))
  elseif status == "pending" then
    skipped = skipped + 1
    report(("SKIP %s: %s"):format(full_name(element), skip_reason or "pending"))
    skip_reason = nil
  else
    failed = failed + 1
  end
  return nil, true
end

function handler.suite_end(suite)
  if passed + failed + skipped == 0 then
    failed = 1
    fail(suite, "no tests found")
  end
  -- Every rank must have passed before the run is called one.
  if size > 1 and not mpi.finalized() then mpi.barrier() end
  report(("%d passed, %d failed"):format(passed, failed)
    .. (skipped > 0 and (", %d skipped"):format(skipped) or ""))
  return nil, true
end

-- busted's own exit is an error without a message under LuaJIT.
function handler.exit()
  if failed > 0 then os.exit(1) end
  return nil, true
end

function handler.subscribe()
  busted.subscribe({ "failure" }, handler.failure)
  busted.subscribe({ "error" }, handler.error)
  busted.subscribe({ "pending" }, handler.skip)
  busted.subscribe({ "test", "end" }, handler.test_end)
  busted.subscribe({ "suite", "end" }, handler.suite_end)
  busted.subscribe({ "exit" }, handler.exit)
end

return function()
  return handler
end
