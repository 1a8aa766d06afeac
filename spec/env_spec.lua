-- SPDX-License-Identifier: MIT
-- The end of a program is tested in launch_spec.lua.

local mpi = require "nmpi"
local hot = require "spec.support.hot"

local rank, size = mpi.rank(), mpi.size()

-- What the launcher told this process.
local launched_rank = tonumber(os.getenv "OMPI_COMM_WORLD_RANK" or os.getenv "PMI_RANK")
local launched_size = tonumber(os.getenv "OMPI_COMM_WORLD_SIZE" or os.getenv "PMI_SIZE")
local abi = os.getenv "OMPI_COMM_WORLD_SIZE" and "openmpi" or "mpich"

describe("start", function()
  it("has initialised MPI, and finalised nothing", function()
    assert.same({ true }, { mpi.initialized() })
    assert.same({ false }, { mpi.finalized() })
  end)

  it("provides a thread level", function()
    assert.same({ 0, 1, 2, 3 },
      { mpi.THREAD_SINGLE, mpi.THREAD_FUNNELED, mpi.THREAD_SERIALIZED, mpi.THREAD_MULTIPLE })
    local names = { [0] = "single", "funneled", "serialized", "multiple" }
    assert.equal(mpi.info().thread_level, names[mpi.query_thread()])
    if not os.getenv "NMPI_THREAD_LEVEL" then assert.equal(mpi.THREAD_MULTIPLE, mpi.query_thread()) end
  end)
end)

describe("rank and size", function()
  it("are the launcher's", function()
    assert.equal(launched_rank, rank)
    assert.equal(launched_size, size)
  end)

  it("are numbers, one for each communicator", function()
    assert.same({ rank }, { mpi.rank() })
    assert.same({ size }, { mpi.size() })
    assert.same({ rank, size }, { mpi.rank(mpi.COMM_WORLD), mpi.size(mpi.COMM_WORLD) })
    assert.same({ 0, 1 }, { mpi.rank(mpi.COMM_SELF), mpi.size(mpi.COMM_SELF) })
    assert.same({ rank, size }, { mpi.rank(nil), mpi.size(nil) })
  end)

  it("are methods of communicators", function()
    assert.same({ rank, size }, { mpi.COMM_WORLD:rank(), mpi.COMM_WORLD:size() })
    assert.same({ 0, 1 }, { mpi.COMM_SELF:rank(), mpi.COMM_SELF:size() })
    -- Without the colon it is a mistake, and not COMM_WORLD.
    for _, method in ipairs { "rank", "size" } do
      assert.has_error(function() mpi.COMM_SELF[method]() end)
    end
  end)

  it("are different on every rank", function()
    local ranks, all = mpi.zeros(size, "int32"), mpi.zeros(size, "int32")
    ranks[rank] = rank + 1
    local status = mpi.allreduce(ranks, all)
    assert.equal(mpi.SUCCESS, status)
    for r = 0, size - 1 do assert.equal(r + 1, all[r]) end
  end)
end)

describe("the clock", function()
  it("never runs backwards", function()
    local before, backwards = mpi.wtime(), 0
    for _ = 1, 10000 do
      local now = mpi.wtime()
      if now < before then backwards = backwards + 1 end
      before = now
    end
    assert.equal("number", type(before))
    assert.equal(0, backwards)
  end)

  it("advances", function()
    local start = mpi.wtime()
    while mpi.wtime() == start do end
    assert.is_true(mpi.wtime() > start)
  end)

  it("has a resolution", function()
    local tick = mpi.wtick()
    assert.equal("number", type(tick))
    assert.is_true(tick > 0 and tick < 1)
  end)
end)

describe("info", function()
  local info = mpi.info()

  it("tells which MPI is in use", function()
    assert.equal(abi, info.abi)
    assert.matches(({ mpich = "MPICH", openmpi = "Open MPI" })[abi], info.mpi)
    assert.not_matches("%s$", info.mpi)
    assert.matches("^[345]%.%d$", info.standard)
    local file = io.open(info.path, "rb")
    assert.equal("\127ELF", jit.os == "Linux" and file:read(4) or "\127ELF")
    file:close()
  end)

  it("tells what started the program", function()
    assert.equal(launched_size and ({ mpich = "MPICH's mpiexec", openmpi = "Open MPI's mpiexec" })[abi] or "none",
      info.launcher)
  end)

  it("tells the state of LuaJIT", function()
    assert.equal(jit.version, info.luajit)
    assert.equal(jit.status(), info.jit)
  end)

  it("tells who and where this process is", function()
    assert.same({ rank, size }, { info.rank, info.size })
    assert.is_true(#info.host > 0)
    local hosts = mpi.zeros(256, "char")
    if rank == 0 then
      for i = 1, math.min(#info.host, 256) do hosts[i - 1] = info.host:byte(i) end
    end
    mpi.bcast(hosts)
    -- The specs run on one machine.
    assert.equal(info.host:sub(1, 256), (hosts:tostring():gsub("%z.*", "")))
  end)

  it("tells how much storage the arrays of this process hold", function()
    collectgarbage()
    collectgarbage "stop" -- other arrays must not go in between
    local before = mpi.info().memory
    local a = mpi.zeros(1000)
    local with = mpi.info().memory
    a:free()
    local after = mpi.info().memory
    collectgarbage "restart"
    assert.equal(before + 8000, with)
    assert.equal(before, after)
  end)

  it("tells the version, as the module does", function()
    assert.equal(mpi._VERSION, info.version)
    assert.matches("%d", info.version)
  end)

  it("has nothing else, and is made anew each time", function()
    local names = {}
    for name in pairs(info) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "abi", "host", "jit", "launcher", "luajit", "memory", "mpi", "path", "rank", "size",
      "standard", "thread_level", "version" }, names)
    info.rank = -1
    assert.equal(rank, mpi.info().rank)
  end)
end)

-- ---- compiled code ----

local loops = {
  { "rank", function(n) for _ = 1, n do mpi.rank() end end },
  { "rank of COMM_SELF", function(n) for _ = 1, n do mpi.COMM_SELF:rank() end end },
  { "size", function(n) for _ = 1, n do mpi.size(mpi.COMM_SELF) end end },
  { "wtime", function(n)
    local sum = 0
    for _ = 1, n do sum = sum + mpi.wtime() end
    assert(sum > 0)
  end },
  { "wtick", function(n) for _ = 1, n do mpi.wtick() end end },
  { "initialized", function(n) for _ = 1, n do hot.ensure(mpi.initialized()) end end },
  { "finalized", function(n) for _ = 1, n do hot.ensure(not mpi.finalized()) end end },
  { "query_thread", function(n) for _ = 1, n do mpi.query_thread() end end },
  { "error_class", function(n) for _ = 1, n do mpi.error_class(mpi.SUCCESS) end end },
  { "error_string", function(n) for _ = 1, n do mpi.error_string(mpi.SUCCESS) end end },
}

hot.define(it, pending, loops)

if jit.status() then
  it("calls from a loop that cannot be compiled do not keep others from being compiled", function()
    local keep
    for i = 1, 100000 do
      keep = function() return i end -- which LuaJIT does not compile
      mpi.rank()
      mpi.wtime()
      mpi.wtick()
      mpi.initialized()
      mpi.query_thread()
      mpi.error_class(0)
      mpi.error_string(0)
    end
    assert.equal(100000, keep())
    for _, loop in ipairs(loops) do
      local problems, looped = hot.watch(loop[2], function() loop[2](5000) end)
      assert(#problems == 0 and looped, loop[1] .. ": " .. table.concat(problems, "; "))
    end
  end)
end
