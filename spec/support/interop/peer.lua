-- SPDX-License-Identifier: MIT
-- The nmpi half of the jobs of spec/interop_spec.lua, which says what a plan is; peer.py is the other half.
-- usage: nmpi peer.lua PLAN

package.path = arg[0]:match "^(.*)spec/support/interop/" .. "?.lua;" .. package.path

local bit = require "bit"
local ffi = require "ffi"
local mpi = require "nmpi"
local data = require "spec.support.data"

local SUCCESS = mpi.SUCCESS
local rank, size = mpi.rank(), mpi.size()
local info = mpi.status()

-- Padding within and at the end, which travels as zeros.
ffi.cdef "struct nmpi_interop_record { int8_t kind; double mass; float speed[2]; int16_t id; };"
local record = ffi.typeof "struct nmpi_interop_record"
data.value["struct nmpi_interop_record"] = function(k)
  return record(data.value.int8(k), k / 3, { data.value.float(k), data.value.float(k + 1) }, data.value.int16(k))
end

-- ---- the current case ----

local number, case = 0, {}
local problems, checked = 0, 0

local function complain(what)
  problems = problems + 1
  if problems <= 20 then
    io.stderr:write(("[rank %d of %d] peer.lua: case %d (%s): %s\n"):format(rank, size, number, case.line, what))
  end
end

local function note(label, got, expected)
  if got ~= expected then
    complain(("%s is %s, expected %s"):format(label, tostring(got), tostring(expected)))
  end
end

local function seed_of(r)
  return data.seed(r) + 7919 * number
end

local function layout(field)
  local names = {}
  for name in case[field or "layouts"]:gmatch "[^,]+" do names[#names + 1] = name end
  return names[rank + 1]
end

-- What this rank sends; a lie is in the last element.
local function sent_view(element, n, field)
  n = n or case.n
  local function lie(k) return element(k == n - 1 and k + 1 or k) end
  return data.new(layout(field), n, case.dtype, 0, nil, case.liar == "lua" and lie or element)
end

local function room(n, field)
  return data.guards(layout(field), n or case.n, case.dtype)
end

local function check(status, memory, element, n, count, field)
  note("status", status, SUCCESS)
  local expected = select(2, data.new(layout(field), n or case.n, case.dtype, 0, count, element))
  local difference = data.difference(memory, expected)
  if difference then complain(difference) end
  checked = checked + 1
end

local function check_info(source, tag, count)
  note("source", info.source, source)
  note("tag", info.tag, tag)
  note("count", info:count(), count)
end

local function from_rank(r, offset)
  local value, seed = data.value[case.dtype], seed_of(r) + (offset or 0)
  return function(k) return value(seed + k) end
end

-- ---- reductions: what a rank contributes at index k, and the result ----

local WEIGHT = {
  int8 = 3, uint8 = 6, int16 = 700, uint16 = 1500, int32 = 50000017, uint32 = 100000007, int64 = 2LL ^ 57LL + 1,
  uint64 = 2ULL ^ 58ULL + 1, float = 0.375, double = 2 ^ 40 + 0.125,
}
WEIGHT.float_int, WEIGHT.double_int, WEIGHT.long_int = WEIGHT.float, WEIGHT.double, WEIGHT.int64
WEIGHT.short_int, WEIGHT["2int"] = WEIGHT.int16, WEIGHT.int32

local function sum_part(r, k)
  local sign = case.dtype:find "^u" and 1 or 1 - 2 * (k % 2)
  local weight = WEIGHT[case.dtype:gsub("complex ", "")]
  local re = weight * (sign * (k % 7 + 3 * r))
  return case.dtype:find "^c" and ffi.new(case.dtype, re, -(k % 5 + r) * weight) or re
end

local function prod_part(r, k)
  local sign = case.dtype:find "^u" and 1 or 1 - 2 * (k * r % 2)
  if not case.dtype:find "^c" then return sign * ((k + r) % 3 + 1) end
  -- Small angles, so that no part of a product is 0, whose sign would depend on the order.
  return ffi.new(case.dtype, sign * ((k + r) % 3 + 4), sign * ((math.floor(k / 3) + r) % 2 + 1))
end

local function full_part(r, k)
  return data.value[case.dtype](seed_of(r) + k)
end

local function logical_part(r, k)
  local on, full = math.floor(k / 2 ^ r) % 2 == 1, full_part(r, k)
  if case.dtype == "bool" then return on and true or false end
  return on and (full == 0 and 1 or full) or 0
end

local function pair_part(r, k)
  return { WEIGHT[case.dtype] * (k % 5 + k * r % 3 - 3), 1000 * (3 - r) + k % 100 }
end

-- As the dtype, where LuaJIT's bit operations give a signed number.
local function bits(operation)
  return function(a, b)
    local x = operation(a, b)
    return case.dtype == "uint32" and x % 2 ^ 32 or x
  end
end

-- A truth value as the dtype, of two elements that are true or not.
local function logical(operation)
  return function(a, b)
    if case.dtype == "bool" then return operation(a, b) end
    return operation(a ~= 0, b ~= 0) and 1 or 0
  end
end

local function is_complex(a) return type(a) == "cdata" and case.dtype:find "^c" end

local reductions = {
  SUM = { sum_part, function(a, b)
    return is_complex(a) and ffi.new(case.dtype, a.re + b.re, a.im + b.im) or a + b
  end },
  PROD = { prod_part, function(a, b)
    if not is_complex(a) then return a * b end
    return ffi.new(case.dtype, a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
  end },
  MAX = { full_part, function(a, b) return a > b and a or b end },
  MIN = { full_part, function(a, b) return a < b and a or b end },
  BAND = { full_part, bits(bit.band) },
  BOR = { full_part, bits(bit.bor) },
  BXOR = { full_part, bits(bit.bxor) },
  LAND = { logical_part, logical(function(a, b) return a and b end) },
  LOR = { logical_part, logical(function(a, b) return a or b end) },
  LXOR = { logical_part, logical(function(a, b) return a ~= b end) },
  MAXLOC = { pair_part, function(a, b)
    return (a[1] > b[1] or (a[1] == b[1] and a[2] < b[2])) and a or b
  end },
  MINLOC = { pair_part, function(a, b)
    return (a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])) and a or b
  end },
}

local function my_part(k)
  return reductions[case.op][1](rank, k)
end

local function the_total(k)
  local part, combine = unpack(reductions[case.op])
  local result = part(0, k)
  for r = 1, size - 1 do result = combine(result, part(r, k)) end
  return result
end

-- ---- the calls ----

local calls = {}

-- The status of a request that has been posted, after it has completed.
local function finish(status, request)
  note("status of posting", status, SUCCESS)
  return mpi.wait(request, info)
end

local function run_persistent(status, request)
  note("status of making", status, SUCCESS)
  note("status of starting", mpi.start(request), SUCCESS)
  status = mpi.wait(request, info)
  note("status of freeing", mpi.request_free(request), SUCCESS)
  return status
end

local send_ways = {
  blocking = mpi.send,
  nonblocking = function(...) return finish(mpi.isend(...)) end,
  persistent = function(...) return run_persistent(mpi.send_init(...)) end,
  synchronous = mpi.ssend,
}

local recv_ways = {
  blocking = function(got, source, tag) return mpi.recv(got, source, tag, nil, info) end,
  nonblocking = function(...) return finish(mpi.irecv(...)) end,
  persistent = function(...) return run_persistent(mpi.recv_init(...)) end,
  probed = function(got, source, tag)
    note("status of probe", mpi.probe(source, tag, nil, info), SUCCESS)
    note("probed count", info:count(case.dtype), case.n)
    return mpi.recv(got, info.source, info.tag, nil, info)
  end,
  matched = function(got, source, tag)
    local status, message = mpi.mprobe(source, tag, nil, info)
    note("status of mprobe", status, SUCCESS)
    note("probed count", info:count(case.dtype), case.n)
    return mpi.mrecv(got, message, info)
  end,
}

-- From one rank to another; the buffer may be larger than the message.
function calls.send()
  if rank == case.from then
    local way = send_ways[case.lua] or send_ways.blocking
    note("status", way(sent_view(from_rank(rank)), case.to, case.tag), SUCCESS)
  elseif rank == case.to then
    local got, memory = room(case.room)
    local status = (recv_ways[case.lua] or recv_ways.blocking)(got, case.from, case.tag)
    check_info(case.from, case.tag, case.n)
    check(status, memory, from_rank(case.from), case.room, case.n)
  end
end

-- Each rank sends to the one `step` after it.
function calls.sendrecv()
  local to, source = (rank + case.step) % size, (rank - case.step) % size
  local got, memory = room()
  local status = mpi.sendrecv(sent_view(from_rank(rank), nil, "sources"), to, got, source, case.tag, case.tag, nil,
    info)
  check_info(source, case.tag, case.n)
  check(status, memory, from_rank(source))
end

local function exchange_blocking(other)
  for i = 0, 1 do
    note("status", mpi.send(sent_view(from_rank(rank, 1e6 * i)), other, case.tag + i), SUCCESS)
  end
  for i = 1, 0, -1 do
    local got, memory = room()
    local status = mpi.recv(got, other, case.tag + i, nil, info)
    check_info(other, case.tag + i, case.n)
    check(status, memory, from_rank(other, 1e6 * i))
  end
end

-- The requests are in a list or, in every other case, in an array.
local function exchange_nonblocking(others)
  local next, gots, status = number % 2, {}, SUCCESS
  local requests = next == 1 and {} or mpi.requests(4 * #others)
  for _, other in ipairs(others) do
    for i = 1, 0, -1 do
      local got, memory = room()
      gots[#gots + 1] = { other = other, i = i, memory = memory }
      note("status so far", status, SUCCESS)
      status, requests[next] = mpi.irecv(got, other, case.tag + i)
      next = next + 1
    end
  end
  for _, other in ipairs(others) do
    for i = 0, 1 do
      note("status so far", status, SUCCESS)
      status, requests[next] = mpi.isend(sent_view(from_rank(rank, 1e6 * i)), other, case.tag + i)
      next = next + 1
    end
  end
  note("status so far", status, SUCCESS)
  collectgarbage()
  status = mpi.waitall(requests)
  for _, got in ipairs(gots) do check(status, got.memory, from_rank(got.other, 1e6 * got.i)) end
end

-- Each rank of one half sends two messages to each of the other half, which come in the other order.
function calls.exchange()
  local others = {}
  for other in tostring(case.python_ranks):gmatch "%d+" do others[#others + 1] = tonumber(other) end
  if case.lua == "nonblocking" then
    exchange_nonblocking(others)
  else
    for _, other in ipairs(others) do exchange_blocking(other) end
  end
end

-- One rank receives from everyone, in any order.
function calls.collect()
  if rank ~= case.root then
    local sent = sent_view(from_rank(rank), case.n + rank)
    note("status", mpi.send(sent, case.root, case.tag + 7 * rank), SUCCESS)
  else
    local seen = {}
    for _ = 1, size - 1 do
      local got, memory = room(case.n + size)
      local status = mpi.recv(got, mpi.ANY_SOURCE, mpi.ANY_TAG, nil, info)
      local source = info.source
      note("repeated source", seen[source], nil)
      seen[source] = true
      check_info(source, case.tag + 7 * source, case.n + source)
      check(status, memory, from_rank(source), case.n + size, case.n + source)
    end
  end
  note("status", mpi.barrier(), SUCCESS)
end

-- UTF-8 from one rank to another.
function calls.text()
  local text = case.text:rep(case.times)
  if rank == case.from then
    note("status", mpi.send(mpi.array(text), case.to, case.tag), SUCCESS)
  elseif rank == case.to then
    local got = mpi.zeros(#text + 10, "char")
    note("status", mpi.recv(got, case.from, case.tag, nil, info), SUCCESS)
    check_info(case.from, case.tag, #text)
    note("text", got:slice({ 0, #text }):tostring(), text)
    note("rest", got:slice({ #text }):tostring(), ("\0"):rep(10))
    checked = checked + 1
  end
end

function calls.bcast()
  local view, memory
  if rank == case.root then
    view, memory = sent_view(from_rank(rank))
  else
    view, memory = room()
  end
  check(mpi.bcast(view, case.root), memory, from_rank(case.root))
end

-- A part for each rank, of which element k is element k % n of the rank's own.
local function gathered(k)
  return from_rank(math.floor(k / case.n))(k % case.n)
end

-- The same, of this rank's part only.
local function my_place(k)
  return math.floor(k / case.n) == rank and gathered(k) or data.value[case.dtype](data.GUARD)
end

function calls.scatter()
  local sent, whole
  if rank == case.root then sent, whole = sent_view(from_rank(rank), size * case.n, "wholes") end
  if rank == case.root and case.in_place then
    local status = mpi.scatter(sent, mpi.IN_PLACE, case.count, case.root)
    check(status, whole, from_rank(rank), size * case.n, nil, "wholes")
  else
    local got, memory = room(case.room)
    local status = mpi.scatter(sent, got, case.count, case.root)
    check(status, memory, from_rank(case.root, rank * case.n), case.room, case.n)
  end
end

-- This rank's part and all of them, and the memory that the latter lie in.
local function gathering()
  if case.in_place then
    local got, memory = sent_view(my_place, size * case.n, "wholes")
    return mpi.IN_PLACE, got, memory
  end
  return sent_view(from_rank(rank)), room(size * case.n, "wholes")
end

function calls.gather()
  if rank == case.root then
    local sent, got, memory = gathering()
    local status = mpi.gather(sent, got, case.count, case.root)
    check(status, memory, gathered, size * case.n, nil, "wholes")
  else
    note("status", mpi.gather(sent_view(from_rank(rank)), nil, case.count, case.root), SUCCESS)
  end
end

function calls.allgather()
  local sent, got, memory = gathering()
  check(mpi.allgather(sent, got, case.count), memory, gathered, size * case.n, nil, "wholes")
end

-- The two sides of a reduction, and the memory that the result is in.
local function reduction()
  if case.in_place then
    local got, memory = sent_view(my_part)
    return mpi.IN_PLACE, got, memory
  end
  return sent_view(my_part, nil, "sources"), room()
end

function calls.reduce()
  if rank == case.root then
    local sent, got, memory = reduction()
    check(mpi.reduce(sent, got, mpi[case.op], case.root), memory, the_total)
  else
    local sent = sent_view(my_part, nil, "sources")
    note("status", mpi.reduce(sent, nil, mpi[case.op], case.root), SUCCESS)
  end
end

function calls.allreduce()
  local sent, got, memory = reduction()
  check(mpi.allreduce(sent, got, mpi[case.op]), memory, the_total)
end

function calls.allreduce_number()
  local function part(r) return 1.5 * r - 2.25 end
  local expected = part(0)
  for r = 1, size - 1 do expected = reductions[case.op][2](expected, part(r)) end
  local status, result = mpi.allreduce(part(rank), mpi[case.op])
  note("status", status, SUCCESS)
  note("result", result, expected)
  checked = checked + 1
end

-- ---- the plan ----

local file = assert(io.open(arg[1], "rb"))
local plan = file:read "*a"
file:close()
for line in plan:gmatch "[^\n]+" do
  number, case = number + 1, { line = line:gsub("\t", " ") }
  for field, content in line:gmatch "([^\t=]+)=([^\t]*)" do
    case[field] = field ~= "text" and tonumber(content) or content
  end
  calls[case.call]()
end
mpi.barrier() -- an exit code other than 0 ends the others, who may have something to say
io.stdout:write(("lua %d checked %d\n"):format(rank, checked))
io.stdout:flush()
if problems > 0 then os.exit(1) end
