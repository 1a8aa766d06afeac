-- SPDX-License-Identifier: MIT
-- What tools/bench has measured, as performance.md and its plots.

local report = {}

-- ---- figures ----

local function significant(x, digits)
  local exponent = x == 0 and 0 or math.floor(math.log10(math.abs(x)))
  local decimals = math.max(0, digits - 1 - exponent)
  return ("%." .. decimals .. "f"):format(x)
end

local function seconds(x)
  if not x then return "" end
  if x < 1e-6 then return significant(x * 1e9, 3) .. " ns" end
  if x < 1e-3 then return significant(x * 1e6, 3) .. " µs" end
  if x < 1 then return significant(x * 1e3, 3) .. " ms" end
  return significant(x, 3) .. " s"
end

local function ratio(x)
  return x and ("%.2f"):format(x) or ""
end

local function bytes(x)
  if not x then return "" end
  for _, unit in ipairs { { 2 ^ 30, "GiB" }, { 2 ^ 20, "MiB" }, { 2 ^ 10, "KiB" } } do
    if x >= unit[1] then return significant(x / unit[1], 3):gsub("%.0+$", "") .. " " .. unit[2] end
  end
  return x .. " B"
end

--- The median of a list of numbers; nil if there is none.
function report.median(list)
  if #list == 0 then return nil end
  local sorted = { unpack(list) }
  table.sort(sorted)
  local middle = (#sorted + 1) / 2
  return (sorted[math.floor(middle)] + sorted[math.ceil(middle)]) / 2
end

local median = report.median

-- ---- rows ----

local function same(row, fields)
  for name, value in pairs(fields) do
    if row[name] ~= value then return false end
  end
  return true
end

-- The results with these fields and without a way, unless that is among them.
local function find(rows, fields)
  local found = {}
  for _, row in ipairs(rows) do
    if same(row, fields) and row.way == fields.way then found[#found + 1] = row end
  end
  return found
end

local function first(rows, fields)
  return find(rows, fields)[1] or {}
end

-- ---- Markdown ----

local function table_of(header, lines)
  local out = { "| " .. table.concat(header, " | ") .. " |", "|" .. (" --- |"):rep(#header) }
  for _, line in ipairs(lines) do out[#out + 1] = "| " .. table.concat(line, " | ") .. " |" end
  return table.concat(out, "\n") .. "\n"
end

-- ---- sections: each returns its text, and lines for the table of goals ----

local sections = {}

local function share(good, all)
  return ("%d of %d"):format(good, all)
end

-- How many of the rows meet an aim, and the median of the ratios of all.
local function share_and_median(rows, met)
  if #rows == 0 then return "" end
  local good, ratios = 0, {}
  for i, row in ipairs(rows) do
    if met(row) then good = good + 1 end
    ratios[i] = row.ratio
  end
  return ("%s, median %s"):format(share(good, #rows), ratio(median(ratios)))
end

local function by_mpi(context, f)
  local out = {}
  for _, abi in ipairs(context.abis) do out[#out + 1] = f(abi, context.mpis[abi].title) end
  return out
end

-- A goal: what it is about, what is to be reached, and what was, for each MPI.
local function goal(context, what, aim, f)
  context.goals[#context.goals + 1] = { what, aim, unpack(by_mpi(context, f)) }
end

-- What stands in the columns of mpi4py and numba-mpi where they have not run; nil where they have.
local function missing_peers(context, abi)
  local python = context.mpis[abi].python or {}
  local missing = context.peers and "not installed" or "left out"
  return not python.mpi4py and missing or nil, not python.numba_mpi and missing or nil
end

function sections.calls(context)
  local text = { [[
## What a call costs

Each line is a loop in Lua against the same loop in C, within the same process, with messages of one double on
`MPI_COMM_SELF`: the median of the times that one pass takes, and the median of the ratios, round by round; of three
starts of the program the median of each. Arrays have 1024 doubles, in one dimension or in two (32 x 32), and fields a
halo around as many; what is made of a list, a string or FFI data, or made a list or string, has 4 elements. Files and
datasets hold 1024 doubles, the resized one 1024 and 2048 in turn; groups and datasets are made 256 to a file, whose
making is shared among them. Teams are of one thread. The two routines of `checked` show what its checks cost, which are
the same before each of its routines. What a program calls once, such as `finalize`, `abort` and `register_buffer`, has
no line. The columns of C are empty where C has nothing like it, and for HDF5. The last three columns are of programs
that are started in turn with these: `nmpi -joff`, where nothing is compiled, and mpi4py and numba-mpi (which knows
`MPI_COMM_WORLD` only) on one rank, for the routines that they have.
]] }
  local function met(row)
    return row.ratio <= 1.05 or (row.c < 50e-9 and row.nmpi - row.c <= 5e-9)
  end
  for _, abi in ipairs(context.abis) do
    local no_mpi4py, no_numba_mpi = missing_peers(context, abi)
    local lines = {}
    for _, row in ipairs(find(context.rows, { bench = "calls", mpi = abi })) do
      local peer = first(context.rows, { bench = "calls", mpi = abi, way = "peers", case = row.case })
      local interpreted = first(context.rows, { bench = "calls", mpi = abi, way = "interpreted", case = row.case })
      lines[#lines + 1] = {
        row.case, seconds(row.c), seconds(row.nmpi), ratio(row.ratio), seconds(interpreted.nmpi),
        no_mpi4py or seconds(peer.mpi4py), no_numba_mpi or seconds(peer["numba-mpi"]),
      }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "case", "C", "nmpi", "nmpi / C", "interpreted", "mpi4py", "numba-mpi" }, lines)
  end
  goal(context, "a compiled call", "≤ 1.05 × C, or ≤ 5 ns more where C takes under 50 ns", function(abi)
    local compared = {}
    for _, row in ipairs(find(context.rows, { bench = "calls", mpi = abi })) do
      if row.c then compared[#compared + 1] = row end
    end
    return share_and_median(compared, met)
  end)
  return text
end

function sections.transfer(context)
  local text = { [[
## Messages and collectives

Between two ranks, on the same memory, Lua and C in turn: the time of one message (ping-pong: one way) or call, and the
ratio of nmpi to C; of three starts of the program the median of each. MB/s, 1e6 bytes in a second, is what nmpi's
messages carry, bidirectional ones in both directions together. The last two columns are the times of mpi4py and
numba-mpi, in programs that are started in turn with these, on NumPy's memory. allreduce sums numbers of 4 bytes
(int32); bcast's root does not wait for the other rank between two calls.
]] }
  local curves, bandwidths = {}, {}
  local directions = { ["ping-pong"] = 1, bidirectional = 2 }
  local function bandwidth(row, seconds_of_it)
    local times = directions[row.case]
    return times and times * row.bytes / seconds_of_it / 1e6
  end
  for _, abi in ipairs(context.abis) do
    local no_mpi4py, no_numba_mpi = missing_peers(context, abi)
    local lines = {}
    for _, row in ipairs(find(context.rows, { bench = "transfer", mpi = abi })) do
      local peer = first(context.rows, { bench = "transfer", mpi = abi, way = "peers", case = row.case,
        bytes = row.bytes })
      local rate = bandwidth(row, row.nmpi)
      lines[#lines + 1] = {
        row.case, bytes(row.bytes), seconds(row.c), seconds(row.nmpi), ratio(row.ratio),
        rate and significant(rate, 3) or "", no_mpi4py or seconds(peer.mpi4py),
        no_numba_mpi or seconds(peer["numba-mpi"]),
      }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "routine", "bytes", "C", "nmpi", "nmpi / C", "MB/s", "mpi4py", "numba-mpi" }, lines)
    for _, way in ipairs { "nmpi", "c" } do
      local times, rates = {}, {}
      for _, row in ipairs(find(context.rows, { bench = "transfer", mpi = abi, case = "ping-pong" })) do
        times[#times + 1] = { row.bytes, row[way] * 1e6 }
        rates[#rates + 1] = { row.bytes, bandwidth(row, row[way]) }
      end
      local title = context.mpis[abi].title .. (way == "c" and ", C" or ", nmpi")
      curves[#curves + 1] = { title = title, points = times }
      bandwidths[#bandwidths + 1] = { title = title, points = rates }
    end
  end
  local axes = [[
set logscale x 2
set logscale y
set format x "2^{%L}"
set xlabel "bytes"
set key top left
]]
  text[#text + 1] = context.plot("transfer", "Ping-pong between two ranks", axes .. 'set ylabel "µs, one way"', curves)
  text[#text + 1] = context.plot("bandwidth", "Bandwidth of the ping-pong", axes .. 'set ylabel "MB/s"', bandwidths)
  goal(context, "a message or collective, every size", "within 3 % of C", function(abi)
    return share_and_median(find(context.rows, { bench = "transfer", mpi = abi }), function(row)
      return row.ratio <= 1.03
    end)
  end)
  return text
end

function sections.strided(context)
  local text = { [[
## Strided views

Two ranks exchange views by `sendrecv`: nmpi against C with a committed derived datatype, C with loops that pack and
unpack, and C with as many contiguous bytes. Times of one exchange; the ratios are nmpi's to the first two. "in pieces",
for views of 1 MiB and more: C's loops pack 256 KiB at a time, and each piece is posted as a message of its own before
the next is packed. nmpi cannot do that, since the receiver, which may be C or Python, expects one message; the column
shows how much or little it would bring. C's buffers come from `malloc`, nmpi's lie on huge pages from 12 KiB on, which
is a part of its lead over "packed". With MPICH, messages of 8 KiB to 1 MiB are packed in one part of such a page after
the other: to write again to what the other rank has just read takes longer.
]] }
  local curves = {}
  for _, abi in ipairs(context.abis) do
    local lines, points = {}, {}
    for _, row in ipairs(find(context.rows, { bench = "strided", mpi = abi })) do
      if row.bytes then
        lines[#lines + 1] = {
          row.case, bytes(row.bytes), seconds(row.nmpi), seconds(row.derived), seconds(row.pack),
          seconds(row.contiguous), seconds(row.pieces), ratio(row.derived_ratio), ratio(row.pack_ratio),
        }
        points[#points + 1] = { row.bytes, 1 / row.derived_ratio }
      end
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "view", "bytes", "nmpi", "derived", "packed", "contiguous", "in pieces",
      "nmpi / derived", "nmpi / packed" }, lines)
    curves[#curves + 1] = { title = context.mpis[abi].title, points = points, style = "points" }
  end
  text[#text + 1] = context.plot("strided", "Speed of nmpi's views over C's derived datatypes", [[
set logscale x 2
set logscale y 2
set format x "2^{%L}"
set xlabel "bytes"
set ylabel "times as fast"
set key top left]], curves)
  goal(context, "a strided exchange, every shape", "within 5 % of the better of C's two ways", function(abi)
    local good, all = 0, 0
    for _, row in ipairs(find(context.rows, { bench = "strided", mpi = abi })) do
      if row.bytes then
        all = all + 1
        if math.max(row.derived_ratio, row.pack_ratio) <= 1.05 then good = good + 1 end
      end
    end
    return all > 0 and share(good, all) or ""
  end)
  goal(context, "speed over derived datatypes, median", "MPICH ≥ 1.5, Open MPI ≥ 1.2", function(abi)
    local speedups = {}
    for _, row in ipairs(find(context.rows, { bench = "strided", mpi = abi })) do
      if row.bytes then speedups[#speedups + 1] = 1 / row.derived_ratio end
    end
    return ratio(median(speedups))
  end)
  return text
end

-- The least of all launches, by x: for nmpi, C and the peers.
local function least_of_pi(context, abi)
  local least = {}
  for _, way in ipairs { false, "peers" } do
    for _, row in ipairs(find(context.rows, { bench = "pi", mpi = abi, way = way or nil })) do
      local entry = least[row.x] or {}
      least[row.x] = entry
      for _, name in ipairs { "nmpi", "c", "mpi4py", "numba-mpi" } do
        if row[name] then entry[name] = math.min(entry[name] or math.huge, row[name]) end
      end
    end
  end
  for x, entry in pairs(least) do
    if not entry.nmpi then least[x] = nil end
  end
  return least
end

function sections.pi(context)
  local text = { [[
## π: the paper's Figure 1

Listings 2 to 4 of the [numba-mpi paper](https://arxiv.org/abs/2407.13712) on two ranks: π by n_intervals intervals and
a reduction, 10000 times, where n_intervals = 10000 / x. The least of ten repetitions in each of two launches.
]] }
  local curves = {}
  for _, abi in ipairs(context.abis) do
    local least = least_of_pi(context, abi)
    local no_mpi4py, no_numba_mpi = missing_peers(context, abi)
    local python = context.mpis[abi].python
    if python and not python.numba then no_mpi4py = "numba is not installed" end
    local lines, to_mpi4py, to_numba_mpi = {}, {}, {}
    for x, t in ipairs(least) do
      local mpi4py, numba_mpi = t.mpi4py and t.mpi4py / t.nmpi, t["numba-mpi"] and t["numba-mpi"] / t.nmpi
      lines[#lines + 1] = {
        tostring(x), seconds(t.nmpi), seconds(t.c), ratio(t.nmpi / t.c), no_mpi4py or seconds(t.mpi4py),
        no_mpi4py or ratio(mpi4py), no_numba_mpi or seconds(t["numba-mpi"]), no_numba_mpi or ratio(numba_mpi),
      }
      if mpi4py then to_mpi4py[#to_mpi4py + 1] = { x, mpi4py } end
      if numba_mpi then to_numba_mpi[#to_numba_mpi + 1] = { x, numba_mpi } end
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "x", "nmpi", "C", "nmpi / C", "mpi4py", "mpi4py / nmpi", "numba-mpi",
      "numba-mpi / nmpi" }, lines)
    curves[#curves + 1] = { title = context.mpis[abi].title .. ", mpi4py", points = to_mpi4py }
    curves[#curves + 1] = { title = context.mpis[abi].title .. ", numba-mpi", points = to_numba_mpi }
    local speedup = first(context.rows, { bench = "pi", mpi = abi, way = "jit" }).speedup
    if speedup then
      text[#text + 1] = ("Listing 1, a million intervals on one rank: %.3g times as fast compiled as interpreted.\n")
        :format(speedup)
    end
  end
  text[#text + 1] = context.plot("pi", "Wall time of π, as a multiple of nmpi's", [[
set xlabel "MPI calls per interval, x = 10000 / n\\_intervals"
set ylabel "time / nmpi's time"
set yrange [0:*]
set key top left]], curves)
  local function at(abi, name)
    local t = least_of_pi(context, abi)[10]
    return t and t[name] and t[name] / t.nmpi
  end
  goal(context, "π, x = 10: mpi4py's time to nmpi's", "≥ 2", function(abi)
    return ratio(at(abi, "mpi4py"))
  end)
  goal(context, "π: numba-mpi's time to nmpi's, the least over x", "≥ 1", function(abi)
    local least = math.huge
    for _, t in ipairs(least_of_pi(context, abi)) do
      if t["numba-mpi"] then least = math.min(least, t["numba-mpi"] / t.nmpi) end
    end
    return least < math.huge and ratio(least) or ""
  end)
  goal(context, "π, x = 10: nmpi's time to C's", "≤ 1.05", function(abi)
    local c = at(abi, "c")
    return c and ratio(1 / c) or ""
  end)
  return text
end

function sections.start(context)
  local text = { [[
## Start and memory

From `mpiexec -n 2` to the end of a program that calls one `allreduce`, the median of nine starts in turn; and, of one
more start, the most memory that a rank has had. numba-mpi's program compiles its function.
]] }
  local lines = {}
  for _, abi in ipairs(context.abis) do
    local no_mpi4py, no_numba_mpi = missing_peers(context, abi)
    for _, way in ipairs { "nmpi", "C", "mpi4py", "numba-mpi" } do
      local row = first(context.rows, { bench = "start", mpi = abi, way = way })
      local missing = way == "mpi4py" and no_mpi4py or way == "numba-mpi" and no_numba_mpi
      lines[#lines + 1] = { context.mpis[abi].title, way, row.seconds and seconds(row.seconds) or missing or "",
        row.bytes and bytes(row.bytes) or missing or "" }
    end
  end
  text[#text + 1] = table_of({ "MPI", "program", "time", "memory of a rank" }, lines)
  local function compared(field)
    return function(abi)
      local function of(way) return first(context.rows, { bench = "start", mpi = abi, way = way })[field] end
      local mine, c, theirs = of "nmpi", of "C", of "numba-mpi"
      if not (mine and c and theirs) then return "" end
      return ("1/%s; C's 1/%s"):format(significant(theirs / mine, 3), significant(theirs / c, 3))
    end
  end
  goal(context, "time of a start, to numba-mpi's", "≤ 1/10", compared "seconds")
  goal(context, "memory of a rank, to numba-mpi's", "≤ 1/5", compared "bytes")
  return text
end

function sections.growth(context)
  local text = { [[
## Growth

Requests: the time per request (for "one of": per call), posting and sending included, nmpi and C in turn, with so many
outstanding. "one of" has all but one wait for messages that do not come.
]] }
  local curves = {}
  for _, abi in ipairs(context.abis) do
    local lines, of_case, order = {}, {}, {}
    for _, row in ipairs(find(context.rows, { bench = "growth", mpi = abi })) do
      if row.requests then
        lines[#lines + 1] = { row.case, tostring(row.requests), seconds(row.nmpi), seconds(row.c), ratio(row.ratio) }
        if not of_case[row.case] then
          of_case[row.case] = {}
          order[#order + 1] = row.case
        end
        table.insert(of_case[row.case], { row.requests, row.ratio })
      end
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "case", "requests", "nmpi", "C", "nmpi / C" }, lines)
    for _, case in ipairs(order) do
      curves[#curves + 1] = { title = context.mpis[abi].title .. ", " .. case, points = of_case[case] }
    end

    lines = {}
    for _, row in ipairs(find(context.rows, { bench = "growth", mpi = abi, case = "made before" })) do
      lines[#lines + 1] = { row.call, ("%.0e"):format(row.made), seconds(row.before), seconds(row.after),
        ratio(row.ratio) }
    end
    text[#text + 1] = "Before any, and after so many more arrays and views have been made and dropped:\n"
    text[#text + 1] = table_of({ "call", "made", "before", "after", "after / before" }, lines)

    local memory = first(context.rows, { bench = "growth", mpi = abi, case = "memory" })
    if memory.operations then
      text[#text + 1] = ("Resident memory over %.0e operations (reductions, messages to oneself, views): %s before, "
        .. "%s after.\n"):format(memory.operations, bytes(memory.resident), bytes(memory.resident_after))
    end

    lines = {}
    local by_ranks = find(context.rows, { bench = "growth", mpi = abi, case = "allreduce" })
    table.sort(by_ranks, function(a, b) return a.ranks < b.ranks end)
    for _, row in ipairs(by_ranks) do
      lines[#lines + 1] = { tostring(row.ranks), seconds(row.nmpi), seconds(row.c), ratio(row.ratio) }
    end
    text[#text + 1] = [[
An allreduce of one double on more and more ranks. Where they are more than the cores, waiting ranks yield: on MPICH
nmpi sees to that, on Open MPI the setting `mpi_yield_when_idle`; C's loop in the same processes has the benefit too:
]]
    text[#text + 1] = table_of({ "ranks", "nmpi", "C", "nmpi / C" }, lines)
  end
  text[#text + 1] = context.plot("growth", "Requests: nmpi's time to C's", [[
set logscale x
set xlabel "outstanding requests"
set ylabel "nmpi / C"
set yrange [0:*]
set key outside right]], curves)
  goal(context, "waitany of which one completes, worst n", "≤ 1 × C", function(abi)
    local worst
    for _, row in ipairs(find(context.rows, { bench = "growth", mpi = abi })) do
      if row.requests and tostring(row.case):find "one of" then worst = math.max(worst or 0, row.ratio) end
    end
    return ratio(worst)
  end)
  return text
end

function sections.storage(context)
  local text = { [[
## Where arrays lie in memory

A ping-pong on memory from several sources, in turn: C's allocators, aligned small pages, huge ones, nmpi's arrays and
LuaJIT's own, the last also with the loop in C; the ratio is to C's `malloc`. nmpi's arrays lie on huge pages from 12
KiB on, those below 2 MiB with others; smaller ones by chance. "making" is to allocate, write and free, against C's
`malloc` (`calloc` for zeros), which may keep its memory for the next time.

What a large message takes depends on the pages that it lies on, not on whose memory it is: MPICH's receiver reads the
sender's memory page by page, which takes longer where they are small, as under LuaJIT's own memory and, but for the
largest blocks, `malloc`'s. Open MPI copies through memory of its own, and they make little difference. What nmpi has
mapped it keeps for the next array, up to 64 MiB, where `malloc` gives it back.
]] }
  for _, abi in ipairs(context.abis) do
    local lines = {}
    for _, row in ipairs(find(context.rows, { bench = "storage", mpi = abi })) do
      lines[#lines + 1] = { row.case, bytes(row.bytes), seconds(row.nmpi), ratio(row.ratio) }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "memory", "bytes", "time", "to C's" }, lines)
  end
  goal(context, "ping-pong of 4 MiB, nmpi's arrays to C's malloc", "≤ 1", function(abi)
    return ratio(first(context.rows, { bench = "storage", mpi = abi, case = "mpi.zeros", bytes = 2 ^ 22 }).ratio)
  end)
  return text
end

function sections.operators(context)
  local text = { [[
## Your own operators

An allreduce between two ranks with an operator made by `mpi.op`, in Lua or in C, against the same C function in a loop
in C. The third works on structs of three doubles.
]] }
  for _, abi in ipairs(context.abis) do
    local lines = {}
    for _, row in ipairs(find(context.rows, { bench = "operators", mpi = abi })) do
      lines[#lines + 1] = { row.case, tostring(row.elements), seconds(row.nmpi), seconds(row.c_operator),
        seconds(row.c), ratio(row.ratio) }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "operator", "elements", "nmpi", "nmpi, operator in C", "C", "nmpi / C" }, lines)
  end
  goal(context, "an operator in Lua on 1e5 elements, worst", "≤ 2 × C", function(abi)
    local worst
    for _, row in ipairs(find(context.rows, { bench = "operators", mpi = abi, elements = 100000 })) do
      worst = math.max(worst or 0, row.ratio)
    end
    return ratio(worst)
  end)
  return text
end

function sections.threads(context)
  local text = { [[
## Threads

A team that enters a warm pool, where each thread sets an element of a shared array, and a pool in C whose threads sleep
on a condition until they are wanted; "with the caller": the thread that enters is one of them. A barrier is within a
team; to make a pool is to make two threads with a Lua state each, and to end them.
]] }
  for _, abi in ipairs(context.abis) do
    local lines = {}
    for _, row in ipairs(find(context.rows, { bench = "threads", mpi = abi })) do
      lines[#lines + 1] = { row.case, ("%d%s"):format(row.threads, row.main == "true" and " with the caller" or ""),
        seconds(row.nmpi), row.c and seconds(row.c) or "", row.ratio and ratio(row.ratio) or "" }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "case", "threads", "nmpi", "C", "nmpi / C" }, lines)
  end
  goal(context, "entering a pool of 2 threads", "< 20 µs", function(abi)
    local row = first(context.rows, { bench = "threads", mpi = abi, case = "enter a pool", threads = 2,
      main = "false" })
    return row.nmpi and seconds(row.nmpi) or ""
  end)
  return text
end

function sections.mpdata(context)
  local text = { [[
## MPDATA

A step of a bell that goes round a periodic plane of n × n cells, on one and two ranks with a thread each, and the same
by [PyMPDATA-MPI](https://pypi.org/p/PyMPDATA-MPI), without what either compiles at first, on the first MPI only, as it
compiles for minutes. The least of five rounds.
]] }
  local least = {}
  for _, abi in ipairs(context.abis) do
    local python = context.mpis[abi].python or {}
    local missing = not python.pympdata_mpi and (context.peers and "not installed" or "left out")
      or abi ~= context.abis[1] and "left out"
    local lines = {}
    least[abi] = {}
    for _, row in ipairs(find(context.rows, { bench = "mpdata", mpi = abi })) do
      if row.nmpi then
        local peer
        for _, other in ipairs(find(context.rows, { bench = "mpdata", mpi = abi, case = row.case, side = row.side,
            ranks = row.ranks })) do
          peer = peer or other["PyMPDATA-MPI"]
        end
        local times = peer and peer / row.nmpi
        lines[#lines + 1] = { row.case, tostring(row.side), tostring(row.ranks), seconds(row.nmpi),
          seconds(row.nmpi / row.side ^ 2), missing or seconds(peer), missing or ratio(times) }
        if times then least[abi][row.ranks] = math.min(least[abi][row.ranks] or math.huge, times) end
      end
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "scheme", "n", "ranks", "nmpi", "a cell", "PyMPDATA-MPI", "PyMPDATA-MPI / nmpi" },
      lines)
  end
  for ranks = 1, 2 do
    goal(context, ("MPDATA, ranks: %d: PyMPDATA-MPI's time to nmpi's, the least"):format(ranks), "> 1", function(abi)
      return ratio(least[abi][ranks])
    end)
  end
  return text
end

function sections.scaling(context)
  local text = { [[
## Cahn-Hilliard: the paper's Figure 2

examples/cahn_hilliard.lua on more and more ranks, from the same random field to the same time in adaptive steps: what
the steps take, the median of five runs. py-pde with its Numba backend goes from the same field to the same time by its
own adaptive steps with the same tolerance, with one thread on each rank, once, after a step that compiles, on the first
MPI only. nmpi's steps include those that were rejected, py-pde's are what it reports.

The second table has its right-hand side on one rank, and the same in C without SIMD instructions, in turn; of 512 x 512
cells, in a process of its own, but in turn as well, the same loops in Numba, which uses these instructions: the medians
of five runs. After them, once, the right-hand side that py-pde makes of the equation and Numba compiles.
]] }
  local curves = {}
  -- The median over all runs of the right-hand side on so many cells a side, of C and nmpi or of the peers.
  local function rhs(abi, cells, name, way)
    local values = {}
    local fields = { bench = "scaling", mpi = abi, case = "rhs", cells = cells, way = way }
    for _, row in ipairs(find(context.rows, fields)) do
      values[#values + 1] = row[name]
    end
    return median(values)
  end
  for _, abi in ipairs(context.abis) do
    local function one(case, fields)
      fields.bench, fields.mpi, fields.case = "scaling", abi, case
      return first(context.rows, fields)
    end
    local runs = find(context.rows, { bench = "scaling", mpi = abi, case = "run" })
    local python = context.mpis[abi].python or {}
    local missing = context.peers and not python.py_pde and "not installed" or "left out"
    local alone = one("run", { ranks = 1 }).nmpi
    local lines, points, ideal = {}, {}, {}
    for _, row in ipairs(runs) do
      local theirs = one("run", { ranks = row.ranks, way = "peers" })
      local peer = theirs["py-pde"]
      lines[#lines + 1] = { tostring(row.ranks), tostring(row.steps), seconds(row.nmpi), ratio(alone / row.nmpi),
        peer and seconds(peer) or missing, peer and tostring(theirs.steps) or "",
        peer and ratio(peer / row.nmpi) or "" }
      points[#points + 1] = { row.ranks, row.nmpi }
      ideal[#ideal + 1] = { row.ranks, alone / row.ranks }
    end
    text[#text + 1] = ("### %s\n"):format(context.mpis[abi].title)
    text[#text + 1] = table_of({ "ranks", "steps", "nmpi", "times as fast as one", "py-pde", "its steps",
      "py-pde / nmpi" }, lines)
    curves[#curves + 1] = { title = context.mpis[abi].title, points = points }
    curves[#curves + 1] = { title = context.mpis[abi].title .. ", 1/N", points = ideal, style = "lines dashtype 2" }

    lines = {}
    for _, cells in ipairs { 64, 512 } do
      local mine = rhs(abi, cells, "nmpi")
      if mine then
        local line = { ("%d x %d"):format(cells, cells), seconds(mine), seconds(rhs(abi, cells, "c")),
          ratio(rhs(abi, cells, "ratio")) }
        for _, name in ipairs { "numba", "py-pde" } do
          local peer = rhs(abi, cells, name, "peers")
          line[#line + 1] = peer and seconds(peer) or ""
          line[#line + 1] = peer and ratio(mine / peer) or ""
        end
        lines[#lines + 1] = line
      end
    end
    text[#text + 1] = table_of({ "cells", "nmpi", "C", "nmpi / C", "Numba", "nmpi / Numba", "py-pde", "nmpi / py-pde" },
      lines)
  end
  text[#text + 1] = context.plot("scaling", "Cahn-Hilliard on N ranks", [[
set logscale xy 2
set xlabel "ranks"
set ylabel "s"
set key top right]], curves)
  local function of_run(abi, ranks, way)
    return first(context.rows, { bench = "scaling", mpi = abi, case = "run", ranks = ranks, way = way })
  end
  local function rhs_goal(title, aim, name)
    goal(context, title, aim, function(abi)
      local mine, peer = rhs(abi, 512, "nmpi"), rhs(abi, 512, name, "peers")
      return mine and peer and ratio(mine / peer) or ""
    end)
  end
  goal(context, "Cahn-Hilliard's right-hand side, 512 x 512: nmpi's time to C's", "≤ 1.25, both without SIMD",
    function(abi) return ratio(rhs(abi, 512, "ratio")) end)
  rhs_goal("the same, to that of the same loops in Numba, which has SIMD", "≤ 1.25", "numba")
  rhs_goal("the same, to that of py-pde's, compiled by Numba", "≤ 1.25", "py-pde")
  goal(context, "Cahn-Hilliard, 1 and 2 ranks: py-pde's time to nmpi's", "> 1", function(abi)
    local found = {}
    for ranks = 1, 2 do
      local mine, peer = of_run(abi, ranks).nmpi, of_run(abi, ranks, "peers")["py-pde"]
      if mine and peer then found[#found + 1] = ratio(peer / mine) end
    end
    return table.concat(found, ", ")
  end)
  goal(context, "Cahn-Hilliard, 512 x 512: speed of two ranks to one's", "≥ 1.8", function(abi)
    local one, two = of_run(abi, 1).nmpi, of_run(abi, 2).nmpi
    return not context.quick and one and two and ratio(one / two) or ""
  end)
  return text
end

-- ---- plots ----

-- Draws curves (title, points, style) as performance/<name>.svg and returns its line of Markdown.
local function plotter(context)
  return function(name, title, settings, curves)
    local path = ("%s/performance/%s.svg"):format(context.destination, name)
    os.remove(path)
    if not context.plots then return "(No plot here: gnuplot is not installed.)\n" end
    local drawn, data = {}, {}
    for _, curve in ipairs(curves) do
      if #curve.points > 0 then
        drawn[#drawn + 1] = ("'-' with %s title \"%s\""):format(curve.style or "linespoints", curve.title)
        for _, point in ipairs(curve.points) do data[#data + 1] = ("%.6g %.6g"):format(point[1], point[2]) end
        data[#data + 1] = "e"
      end
    end
    if #drawn == 0 then return "(No plot here: nothing to draw.)\n" end
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write(([[
set terminal svg size 720,420 font "sans-serif,12" background "white"
set output "%s"
set title "%s"
set grid
%s
plot %s
%s
]]):format(path, title, settings, table.concat(drawn, ", "), table.concat(data, "\n")))
    file:close()
    local good = os.execute(("gnuplot '%s'"):format(script)) == 0
    os.remove(script)
    if good then return ("![%s](performance/%s.svg)\n"):format(title, name) end
    os.remove(path)
    context.plots_failed = true
    return "(No plot here: gnuplot has failed.)\n"
  end
end

-- ---- the page ----

local function machine(context)
  local output = context.output
  local lines = {
    { "nmpi", context.version or "" },
    { "command", context.command and "`" .. context.command .. "`" or "" },
    { "processor", output "lscpu | sed -n 's/^Model name: *//p' | grep -m 1 . || sysctl -n machdep.cpu.brand_string" },
    { "cores", output "nproc || sysctl -n hw.ncpu" },
    { "memory", output "sed -n 's/MemTotal: *//p' /proc/meminfo || echo $(sysctl -n hw.memsize) B" },
    { "system", output "uname -sr" },
    { "compiler", output "cc --version | head -1" },
    { "LuaJIT", output "luajit -v | cut -d' ' -f1-2" },
    { "gnuplot", output "gnuplot --version" },
  }
  for _, abi in ipairs(context.abis) do
    local python = context.mpis[abi].python
    lines[#lines + 1] = { "MPI", context.mpis[abi].title }
    if python then
      lines[#lines + 1] = { "Python on " .. context.mpis[abi].title,
        ("%s, mpi4py %s, numba %s, numba-mpi %s, py-pde %s, PyMPDATA-MPI %s"):format(python.version, python.mpi4py,
          python.numba or "not installed", python.numba_mpi or "not installed", python.py_pde or "not installed",
          python.pympdata_mpi or "not installed") }
    end
  end
  return table_of({ "", "" }, lines)
end

-- What was found out about the aims of each section that are missed, and tried. No figures: those are in the tables.
local REASONS = {
  calls = [[
- **Requests.** nmpi's core checks, counts and describes each one, so that a wrong number, a dropped array or a
  message that is never completed does no harm; Lua itself adds hardly anything, and a profile (perf) shows the rest
  spread evenly over these steps. Tried without gain: MPI_Waitall in place of a wait for each on Open MPI (MPICH's
  serves up to 32), prefetching, describing a request before it is posted, other lists of free ones, `-O2` in place of
  `-O3`.
- **Calls of some nanoseconds** show the checks of their arguments, such as each key and entry of a list, whether it is
  an array, or whether those of a `sendrecv` overlap. Calls that make a group also pay for its struct and finalizer.
  `buffer_attach` and `buffer_detach` take a lock.
- **New arrays and views** get a finalizer, which gives storage back: about half of their time is LuaJIT's for that.
  To take it away from an array that is freed would save some of that, but with certain numbers of living arrays,
  little below a power of two, LuaJIT then rebuilds its table of finalizers for nearly each one, which costs far more.
- **New Lua states** are what operators in Lua, `thread.parallel` and `thread.pool` need; those of threads also load
  nmpi, which takes most of the time. A pool keeps those of its threads.
- **Whole fields and files** begin with the ranks' agreement that none has a mistake to report: several reductions,
  with tables and arrays that are made for each call. A file also has its space reserved, and gets its name when it is
  complete. `domain:exchange` makes the halo that `halo:exchange` uses again.
- **New communicators** take a lock, are asked for their rank, size and grid, and get an error handler: on MPICH those
  of comm_create do not inherit it.
]],
  transfer = [[
- **Short messages** cost some nanoseconds more than C's, which take little themselves: sender and receiver check
  array, peer and tag, and the receiver looks whether whole elements have come. It reads that where the status keeps
  it, as MPI_Get_elements_x costs as much as a short receive, and gives MPI a status where C gives none. Nonblocking
  ones pay for two requests.
]],
  strided = [[
- **Short columns** show what checking and describing a view costs.
- **Large blocks**, from an eighth of the last cache on (1 to 4 MiB), go by datatypes where a row has 512 bytes (MPICH)
  or 128 (Open MPI). That is faster than packing where the two cores share a cache, and needs no second memory. Where
  they do not share one it is slower, with rows of 1 KiB by far, with those of 8 KiB and more hardly. Smaller blocks are
  packed by the sender, which on Open MPI is the slower way where a cache is shared, and the faster one where not.
  Tried: other limits, which lose as much where these win; a program cannot tell where a virtual machine's cores are.
- **Other large views** that miss it by some per cent: two runs differ by as much.
]],
  pi = [[
- **mpi4py** needs a fixed time more for each allreduce. Where the two cores share no cache that counts for less, since
  C and all others then take half as long again.
- **numba-mpi** makes the same calls in compiled code, in starts of its own: they differ by as much.
]],
  start = [[
- **A start** on Open MPI: the launcher alone takes more than a tenth of numba-mpi's time, whatever it starts.
]],
  growth = [[
- **waitall and waitsome** pay for checking and describing each request; **waitany** for the one that is posted again,
  and for looking whether the others are still those of the last call.
- **Views** made after a million others cost up to a third more, and not more than that after ten: not explained.
]],
  mpdata = [[
- **PyMPDATA-MPI's loops** are compiled by Numba, which uses SIMD instructions where it can; LuaJIT has none.
]],
  scaling = [[
- **Numba's loops** use SIMD instructions, which LuaJIT does not have.
- **Two ranks** exchange halos and share the bandwidth of the memory; it matters as well whether they share a cache.
]],
}

local function reasons(names)
  local lines = { [[
Where an aim is missed, here or on another machine, these are the reasons, as far as they are known, and what was tried
without success:
]] }
  for _, name in ipairs(names) do lines[#lines + 1] = REASONS[name] end
  return #lines > 1 and lines[1] .. "\n" .. table.concat(lines, "", 2) or ""
end

--- Writes the page and its plots; returns a message where that fails.
function report.write(context)
  context.goals = {}
  context.plot = plotter(context)
  if os.execute(("mkdir -p '%s/performance'"):format(context.destination)) ~= 0 then
    return "cannot write to " .. context.destination
  end
  local body = {}
  for _, name in ipairs(context.names) do
    for _, part in ipairs(sections[name](context)) do body[#body + 1] = part end
  end
  local header = { "what", "aim" }
  for _, abi in ipairs(context.abis) do header[#header + 1] = context.mpis[abi].title end
  local page = {
    "# Performance\n",
    [[
`tools/bench` has measured all of this and written this page; `--with-peers` installs what the columns of Python need.
Lua and C (`-O2`, `MPI_THREAD_MULTIPLE` as nmpi) run in the same processes, in turn, so that what the machine does
concerns both alike; what is quoted is a median of at least seven rounds, unless a section says otherwise. The times
depend on the machine; the ratios less so. On one that is busy with other things both vary. Python's programs run in
processes of their own, before or after nmpi's: where the machine changes meanwhile, as when it moves a core to another
cache, their columns do not compare with the others, nor do all lines of one table with each other. One section is
measured again by `tools/bench --only calls`.

With Open MPI both sides run without its single-copy mechanism (CMA), as the tests do. nmpi goes without it in any case,
unless the environment allows RDMA, for then Open MPI 4.1 may write beyond the buffer of a receive that is too short. A
C program that is started by plain `mpiexec` has it: some messages are faster for it, others slower. Both sides with it:

    OMPI_MCA_pml_ob1_max_rdma_per_request=4 OMPI_MCA_btl_vader_single_copy_mechanism=cma tools/bench --only transfer
]],
    table_of(header, context.goals),
    reasons(context.names),
    machine(context),
  }
  if context.quick then table.insert(page, 2, "**A quick run, with few rounds: good for a look only.**\n") end
  for _, part in ipairs(body) do page[#page + 1] = part end
  local path = context.destination .. "/performance.md"
  local file, reason = io.open(path, "w")
  if not file then return reason end
  file:write((table.concat(page, "\n"):gsub("\n+$", "\n")))
  file:close()
  if not context.plots then return "gnuplot is not installed, so there are no plots" end
  if context.plots_failed then return "gnuplot has failed, so plots are missing" end
end

return report
