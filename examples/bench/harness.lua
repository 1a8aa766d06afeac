-- SPDX-License-Identifier: MIT
-- What the benchmark programs share. Each is a parallel program that tools/bench starts:
--
--     mpiexec -n 2 nmpi examples/bench/<name>.lua BASELINE [--quick] [CASE ...]
--
-- BASELINE is the library of the C baselines (this folder's <name>.c), which run in the same processes, in turn with
-- the loops written in Lua. A CASE is a Lua pattern; only the cases whose name one of them matches are run. Results are
-- lines "@<tab>name=value<tab>...", printed by rank 0.

local ffi = require "ffi"
local mpi = require "nmpi"

local rank = mpi.rank()

local harness = {
  quick = false,
  rounds = 9,
  --- What one way of a round is to take, in seconds.
  seconds = 0.01,
}

local patterns = {}
for i = 2, #arg do
  if arg[i] == "--quick" then
    harness.quick, harness.rounds, harness.seconds = true, 3, 0.001
  else
    patterns[#patterns + 1] = arg[i]
  end
end

local program = arg[0]:match "([^/]*)%.lua$"

local function stop(message)
  if rank == 0 then io.stderr:write(program, ": ", message, "\n") end
  os.exit(1)
end

if not arg[1] then stop "expected the library of the C baselines as first argument" end

--- The functions of the C baselines, declared by each program for itself.
harness.c = ffi.load(arg[1])

--- Ends the program unless it runs on so many ranks.
function harness.need(ranks)
  if mpi.size() ~= ranks then stop(("this needs %d ranks, and was started on %d"):format(ranks, mpi.size())) end
end

local function content(path)
  local file = io.open(path)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

-- What the system says it could still give, in bytes, and within the limit of the process's own control group
-- (version 2), as a container has it; infinite where it does not say.
local function available()
  local kib = content "/proc/meminfo":match "MemAvailable:%s*(%d+) kB"
  local group = "/sys/fs/cgroup" .. (content "/proc/self/cgroup":match "0::(%C*)" or "") .. "/memory."
  local most, used = tonumber(content(group .. "max")), tonumber(content(group .. "current"))
  local cached = tonumber(content(group .. "stat"):match "inactive_file (%d+)") or 0
  return math.min(kib and kib * 1024 or math.huge, most and used and most - used + cached or math.huge)
end

--- Whether all ranks together may take so many bytes; if not, it says so.
function harness.fits(name, bytes)
  local free = mpi.array { available() }
  mpi.bcast(free, 0)
  if bytes <= free[0] then return true end
  if rank == 0 then
    io.stderr:write(("%s: %s is left out: it takes %.0f MiB, and %.0f MiB are available\n"):format(program, name,
      bytes / 2 ^ 20, free[0] / 2 ^ 20))
  end
  return false
end

--- Whether a case is to be run.
function harness.wanted(name)
  for _, pattern in ipairs(patterns) do
    if name:find(pattern) then return true end
  end
  return #patterns == 0
end

--- Prints a result: a list of names and values in turn, without those whose value is nil.
function harness.row(...)
  if rank ~= 0 then return end
  local line = { "@" }
  for i = 1, select("#", ...), 2 do
    local name, value = select(i, ...)
    local format = type(value) ~= "number" and "%s" or value % 1 == 0 and "%.0f" or "%.6g"
    if value ~= nil then
      line[#line + 1] = name .. "=" .. format:format(type(value) == "number" and value or tostring(value))
    end
  end
  io.write(table.concat(line, "\t"), "\n")
  io.flush()
end

function harness.median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  local middle = (#sorted + 1) / 2
  return (sorted[math.floor(middle)] + sorted[math.ceil(middle)]) / 2
end

-- The seconds that a way takes for n times, on rank 0; elsewhere of no meaning.
local function time(way, n, comm)
  mpi.barrier(comm)
  local start = mpi.wtime()
  way(n)
  return mpi.wtime() - start
end

-- How many times fill a round: the same on every rank.
local function calibrate(way, comm)
  local n, count = 1, mpi.zeros(1)
  while true do
    local seconds = time(way, n, comm)
    count[0] = seconds >= harness.seconds and n or -math.ceil(n * math.min(10, 1.2 * harness.seconds / seconds))
    mpi.bcast(count, 0, comm)
    if count[0] > 0 then return n end
    n = -count[0]
  end
end

-- The loops compile, the libraries set up what they keep; of what takes long, twice is enough for that.
local function warm_up(way, comm)
  local n, more = harness.quick and 70 or 200, mpi.zeros(1)
  more[0] = time(way, 2, comm) * n < 20 * harness.seconds and n or 0
  mpi.bcast(more, 0, comm)
  way(more[0])
end

--- Times several ways of doing the same, each a function way(n) that does it n times, in turn, forwards and backwards
-- from another one each time, for a way may find in the caches what the one before has left there.
-- Returns a list of the medians of the seconds that one time takes, and a list of the medians of the ratios, round by
-- round, of the first way to each.
function harness.compare(ways, comm)
  local seconds, ratios = {}, {}
  for i, way in ipairs(ways) do
    warm_up(way, comm)
    seconds[i], ratios[i] = {}, {}
  end
  local n = calibrate(ways[1], comm)
  for round = 1, harness.rounds do
    for k = 1, #ways do
      local i = (round % 2 == 0 and round + k or round - k) % #ways + 1
      seconds[i][round] = time(ways[i], n, comm) / n
    end
    for i = 1, #ways do ratios[i][round] = seconds[1][round] / seconds[i][round] end
  end
  for i = 1, #ways do
    seconds[i], ratios[i] = harness.median(seconds[i]), harness.median(ratios[i])
  end
  return seconds, ratios
end

return harness
