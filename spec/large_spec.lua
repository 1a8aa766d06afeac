-- SPDX-License-Identifier: MIT
-- Messages and files of more than 2^31 elements, between two ranks. All tests work in the same memory, since fresh
-- pages of so much of it take longer than the messages; each fills it with words of its own, and checks to the last
-- byte what came.

local ffi = require "ffi"
local bit = require "bit"
local mpi = require "nmpi"
local core = require("nmpi.lib").core
require "spec.support.data" -- which declares what only specs call

local bxor, band, rol = bit.bxor, bit.band, bit.rol
local rank, size = mpi.rank(), mpi.size()
local SUCCESS, IN_PLACE = mpi.SUCCESS, mpi.IN_PLACE

local N = 2 ^ 31 + 17
local NEEDED = 12 * 2 ^ 30 -- both ranks together, with what MPI itself allocates (8 to 10 GiB)

-- ---- whether there is room ----

local function read(path, pattern)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return tonumber((text:match(pattern)))
end

-- The bytes that are free, to the system and to this container.
local function available()
  local kib = read("/proc/meminfo", "MemAvailable:%s*(%d+)")
  local free = kib and kib * 1024 or math.huge
  for _, group in ipairs {
    { "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current" },
    { "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes" },
  } do
    local limit, used = read(group[1], "^%d+"), read(group[2], "^%d+")
    if limit and used then free = math.min(free, limit - used) end
  end
  return free
end

-- Rank 0 decides for all.
local free = mpi.zeros(1)
free[0] = available()
mpi.bcast(free)

local reason = size ~= 2 and ("it needs 2 ranks, there are " .. size)
  or not jit.status() and "the JIT compiler is off"
  or free[0] < NEEDED and ("it needs %.1f GiB of memory, %.1f are available"):format(NEEDED / 2 ^ 30, free[0] / 2 ^ 30)
if reason then
  pending("messages of more than 2^31 elements: " .. reason)
  return
end

-- ---- contents ----

-- Each kind has a word of its own for every four bytes.
local function word(k, kind)
  return bxor(k, rol(k, kind + 1), kind * 0x1234567)
end

-- A loop that handles a single function, and so is compiled for it.
local function specialised(code)
  local made = {}
  return function(word_of, ...)
    made[word_of] = made[word_of] or assert(loadstring(code))()
    return made[word_of](word_of, ...)
  end
end

local fill_words = specialised [[
  return function(word, p, from, to)
    for k = from, to - 1 do p[k - from] = word(k) end
  end
]]

local wrong_word = specialised [[
  return function(word, p, n)
    for k = 0, n - 1 do
      if p[k] ~= word(k) then return k end
    end
  end
]]

local int_pointer = ffi.typeof "int32_t *"

local words = {}

local function word_of(kind)
  words[kind] = words[kind] or function(k) return word(k, kind) end
  return words[kind]
end

-- The bytes after the last whole word: them, where they begin and how many there are.
local function tail(f, n)
  local k = math.floor(n / 4)
  return ffi.new("int32_t[1]", f(k)), 4 * k, n % 4
end

-- Fills an array of bytes with a kind.
local function fill(a, kind)
  local f, n = word_of(kind), a.size
  fill_words(f, ffi.cast(int_pointer, a.data), 0, math.floor(n / 4))
  local last, from, rest = tail(f, n)
  ffi.copy(a.data + from, last, rest)
  return a
end

-- Nil if the bytes of an array are those of a kind, or of a function as word_of gives it; else what is wrong.
local function difference(a, kind)
  local f, n = type(kind) == "number" and word_of(kind) or kind, a.size
  local k = wrong_word(f, ffi.cast(int_pointer, a.data), math.floor(n / 4))
  if k then return ("word %d of %d bytes is wrong"):format(k, n) end
  local last, from, rest = tail(f, n)
  if ffi.string(a.data + from, rest) ~= ffi.string(last, rest) then return "the last bytes are wrong" end
end

-- Rank 0 has room for the parts of both ranks.
local memory = mpi.empty((rank == 0 and 2 or 1) * N + 2 ^ 18, "uint8")
local GUARDS = ("\x5a"):rep(8)

-- n bytes from a position on, behind which lies what must stay.
local function bytes(from, n)
  ffi.copy(memory.data + from + n, GUARDS, 8)
  return memory:slice { from, from + n }
end

local function beyond(a)
  if ffi.string(a.data + a.size, 8) ~= GUARDS then return "something lies behind the array" end
end

-- A path that has room for a file of n bytes, preferably in memory; "" where there is not so much. Rank 0 finds it.
local function path_with_room(n)
  local path = mpi.zeros(64, "char")
  if rank == 0 then
    local name = os.tmpname()
    for _, candidate in ipairs { (name:gsub("^/tmp", "/dev/shm")), name } do
      local file = io.open(candidate, "w")
      if file then
        file:close()
        local status = core.nmpi_file_reserve(candidate, n)
        os.remove(candidate)
        if status == SUCCESS then
          ffi.copy(path.data, candidate)
          break
        end
      end
    end
    os.remove(name)
  end
  mpi.bcast(path)
  return ffi.string(path.data)
end

local function judge(status, problem)
  assert.equal(SUCCESS, status, status ~= SUCCESS and mpi.error_string(status) or nil)
  assert.is_nil(problem or nil)
end

-- ---- the tests ----

describe("more than 2^31 elements", function()
  local info = mpi.status()

  it("are sent and received", function()
    local a = bytes(0, N)
    local status = rank == 0 and mpi.send(fill(a, 0), 1, 5) or mpi.recv(a, 0, 5, nil, info)
    judge(status, difference(a, 0) or beyond(a))
    if rank == 1 then assert.same({ N, N, 0, 5 }, { info:count(), info:count "uint8", info.source, info.tag }) end
  end)

  it("are sent and received without waiting", function()
    local a = bytes(0, N)
    local post_status, request
    if rank == 0 then
      post_status, request = mpi.irecv(a)
    else
      post_status, request = mpi.isend(fill(a, 1), 0)
    end
    local status = mpi.wait(request, info)
    judge(post_status + status, difference(a, 1) or beyond(a))
    if rank == 0 then assert.same({ N, 1 }, { info:count(), info.source }) end
  end)

  it("are sent one way while others come the other way", function()
    local a, few = bytes(0, N), mpi.array({ rank, 7 }, "uint8")
    local few_here = mpi.zeros(2, "uint8")
    local status
    if rank == 0 then
      status = mpi.sendrecv(fill(a, 2), 1, few_here, 1)
    else
      status = mpi.sendrecv(few, 0, a, 0, 0, 0, nil, info)
    end
    judge(status, difference(a, 2) or beyond(a))
    assert.same(rank == 0 and { 1, 7 } or { 0, 0 }, few_here:totable())
    if rank == 1 then assert.equal(N, info:count()) end
  end)

  it("travel between views", function()
    -- No two rows adjoin, but for their first and last elements, which are not part of the view.
    local rows, columns = 16384, 131076
    local base = memory:slice { 0, rows * columns }:reshape { rows, columns }
    local view = base:slice(nil, { 1, columns - 1 })
    local status, problem
    if rank == 0 then
      fill(base:flatten(), 3)
      status = mpi.send(view, 1)
    else
      base:fill(0x5a)
      status = mpi.recv(view, 0, nil, nil, info)
      local last, first_word, last_word = columns - 1, ffi.new "int32_t[1]", ffi.new "int32_t[1]"
      local first_byte, last_byte = ffi.cast("uint8_t *", first_word), ffi.cast("uint8_t *", last_word) + 3
      for i = 0, rows - 1 do
        if base:get(i, 0) ~= 0x5a or base:get(i, last) ~= 0x5a then problem = "something lies beside the view" end
        first_word[0], last_word[0] = word(i * columns / 4, 3), word((i + 1) * columns / 4 - 1, 3)
        base:set(i, 0, first_byte[0])
        base:set(i, last, last_byte[0])
      end
    end
    judge(status, problem or difference(base:flatten(), 3))
    assert(view.size > 2 ^ 31)
    if rank == 1 then assert.equal(view.size, info:count()) end
  end)

  -- These are of more than 2^31 bytes but fewer elements, which is what a datatype can describe.
  it("in bytes travel between views", function()
    local rows, columns = 16384, 32771
    local base = mpi.wrap(ffi.cast("int32_t *", memory.data), { rows, columns })
    local view, all = base:slice(nil, { 1, columns - 1 }), memory:slice { 0, base.size * 4 }
    local status, problem
    if rank == 0 then
      fill(all, 9)
      status = mpi.send(view, 1)
    else
      base:fill(-1)
      status = mpi.recv(view, 0, nil, nil, info)
      for i = 0, rows - 1 do
        for j = 0, columns - 1, columns - 1 do
          if base:get(i, j) ~= -1 then problem = "something lies beside the view" end
          base:set(i, j, word(i * columns + j, 9))
        end
      end
    end
    judge(status, problem or difference(all, 9))
    assert(view.size * 4 > 2 ^ 31)
    if rank == 1 then assert.equal(view.size, info:count()) end
  end)

  it("are broadcast", function()
    local a = bytes(0, N)
    if rank == 1 then fill(a, 4) end
    local status = mpi.bcast(a, 1)
    judge(status, difference(a, 4) or beyond(a))
  end)

  it("are scattered to each rank", function()
    local a = bytes(0, N)
    local whole = rank == 0 and bytes(0, 2 * N) or nil
    if rank == 0 then
      fill(a, 5)
      fill(whole:slice { N, 2 * N }, 6)
    end
    local status = mpi.scatter(whole, rank == 0 and IN_PLACE or a)
    judge(status, difference(a, 5 + rank) or beyond(whole or a))
  end)

  it("are gathered from each rank", function()
    local a = fill(bytes(0, N), 7 + rank)
    local whole = rank == 0 and bytes(0, 2 * N) or nil
    local status = mpi.gather(rank == 0 and IN_PLACE or a, whole, N)
    judge(status, difference(a, 7 + rank) or rank == 0 and (difference(whole:slice { N, 2 * N }, 8) or beyond(whole)))
  end)

  it("are gathered by all in parts that an int can count", function()
    local n = 2 ^ 30 + 13
    local whole = bytes(0, 2 * n)
    fill(whole:slice { rank * n, rank * n + n }, 9 + rank)
    local status = mpi.allgather(IN_PLACE, whole)
    judge(status, difference(whole:slice { 0, n }, 9) or difference(whole:slice { n, 2 * n }, 10) or beyond(whole))
  end)

  it("are combined in place", function()
    local a = fill(bytes(0, N), 11 + rank)
    local status = mpi.allreduce(IN_PLACE, a, mpi.BXOR)
    judge(status, difference(a, function(k) return bxor(word(k, 11), word(k, 12)) end) or beyond(a))
  end)

  it("are combined on the root", function()
    local a = fill(bytes(0, N), 13 + rank)
    local b = rank == 0 and bytes(N + 8, N) or nil
    core.nmpi_set_max_count(2 ^ 24) -- so that MPI allocates less at once
    local status = mpi.reduce(a, b, mpi.BAND)
    core.nmpi_set_max_count(2 ^ 31 - 1)
    judge(status, difference(a, 13 + rank)
      or b and (difference(b, function(k) return band(word(k, 13), word(k, 14)) end) or beyond(b)))
  end)

  -- Rank 0 writes all columns of a row but the last three, which rank 1 does; each reads those of the other.
  local function test_file(kind, module, save, restore)
    it("are written to a file and read from it, by " .. module, function()
      local found, lack = pcall(require, module)
      if not found then pending(lack) end
      local path = path_with_room(N + 3)
      if path == "" then pending(("no room for a file of %.1f GiB"):format(N / 2 ^ 30)) end
      local a, few, few_here = bytes(0, N), mpi.array({ 1, 2, 3 }, "uint8"), mpi.zeros(3, "uint8")
      if rank == 0 then fill(a, kind) end
      local done, problem = pcall(function()
        save(path, rank == 0 and a or few, { 1, N + 3 }, { 0, rank == 0 and 0 or N })
        restore(path, rank == 0 and few_here or a, { 0, rank == 0 and N or 0 })
      end)
      mpi.barrier()
      os.remove(path)
      os.remove(path .. ".part")
      assert(done, problem)
      judge(SUCCESS, difference(a, kind) or beyond(a))
      assert.same(rank == 0 and { 1, 2, 3 } or { 0, 0, 0 }, few_here:totable())
    end)
  end

  test_file(15, "nmpi.npy", function(path, array, shape, start)
    require("nmpi.npy").write(path, array, { shape = shape, start = start })
  end, function(path, array, start)
    require("nmpi.npy").read(path, array, { start = start })
  end)

  test_file(16, "nmpi.hdf5", function(path, array, shape, start)
    local file = require("nmpi.hdf5").create(path)
    file:create_dataset("x", { shape = shape, dtype = "uint8" }):write(array, start)
    file:close()
  end, function(path, array, start)
    local file = require("nmpi.hdf5").open(path)
    file:open_object "x":read(array, start)
    file:close()
  end)

  it("take their memory with them", function()
    local before = available()
    memory:free()
    collectgarbage()
    assert(rank == 1 or available() > before + N)
  end)
end)
