-- SPDX-License-Identifier: MIT
-- What becomes of operations that a program ends without having completed. The parent is no MPI process.

local system = require "system"
local job = require "spec.support.job"

-- Runs a script on 2 ranks, of which rank 0 does what is to be reported.
local function run(source, options)
  local script = [[
    local mpi, ffi = require "nmpi", require "ffi"
    local rank = mpi.rank()
    local big, small = mpi.zeros(1000000), mpi.zeros(3)
    local raw = ffi.new("double[?]", 1000000)
    if rank == 0 then
      ]] .. source .. [[

    end
  ]]
  return job.with_file(script, function(path)
    local t = { program = "nmpi", n = 2, args = { path }, timeout = 60 }
    if options and options.debug then table.insert(t.args, 1, "--debug") end
    if options and options.program then t.program = options.program end
    local code, out, err = job.run(t)
    return code, err, out, path
  end)
end

local function lines_about(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    if line:find("^nmpi: rank %d of %d: ") then lines[#lines + 1] = line end
  end
  table.sort(lines)
  return lines
end

local function reports(name, source, expected, options)
  it(name, function()
    local code, err = run(source, options)
    assert.same(expected, lines_about(err))
    assert.are.equal(options and options.code or 0, code, err)
  end)
end

describe("an operation that was never completed", function()
  for _, program in ipairs { "nmpi", "luajit" } do
    reports("is reported under " .. program, [[
      mpi.isend(small, 1, 5)
      mpi.isend(small:slice { nil, nil, 2 }, 1, 6)
      mpi.irecv(big, 1, 7)
      mpi.irecv(small, 0, 8, mpi.COMM_SELF)
      mpi.irecv(mpi.zeros(3), mpi.PROC_NULL, 8)
      local _, p = mpi.recv_init(small, 1, 9)
      mpi.start(p)
      mpi.isend(small, 0, 10)
      mpi.mprobe(0, 10)
      mpi.wait(select(2, mpi.isend(small, mpi.PROC_NULL, 11)))
      mpi.irecv(big:slice { nil, nil, 2 }) -- at last, since it takes what comes
    ]], {
      "nmpi: rank 0 of 2: irecv from any rank, any tag, was never completed",
      "nmpi: rank 0 of 2: irecv from nobody, tag 8, was never completed",
      "nmpi: rank 0 of 2: irecv from rank 0, tag 8, was never completed",
      "nmpi: rank 0 of 2: irecv from rank 1, tag 7, was never completed",
      "nmpi: rank 0 of 2: isend to rank 0, tag 10, was never completed",
      "nmpi: rank 0 of 2: isend to rank 1, tag 5, was never completed",
      "nmpi: rank 0 of 2: isend to rank 1, tag 6, was never completed",
      "nmpi: rank 0 of 2: mprobe from rank 0, tag 10, was never completed",
      "nmpi: rank 0 of 2: recv_init from rank 1, tag 9, was never completed",
    }, { program = program })
  end

  it("is reported with its line under --debug", function()
    local code, err, _, path = run([[
      mpi.isend(small, 1, 5)
      mpi.irecv(big, 1, 6)
      local _, p = mpi.recv_init(small, 1, 7)
      mpi.start(p)
      mpi.isend(small, 0, 8)
      mpi.mprobe(0, 8)
      mpi.imrecv(small, select(2, mpi.mprobe(mpi.PROC_NULL)))
    ]], { debug = true })
    local function line(what, number)
      return ("nmpi: rank 0 of 2: %s, was never completed: %s:%d"):format(what, path, number)
    end
    assert.same({
      line("imrecv from nobody, any tag", 12), line("irecv from rank 1, tag 6", 7), line("isend to rank 0, tag 8", 10),
      line("isend to rank 1, tag 5", 6), line("mprobe from rank 0, tag 8", 11), line("recv_init from rank 1, tag 7", 8),
    }, lines_about(err))
    assert.are.equal(0, code, err)
  end)

  reports("is not one that has completed, was cancelled, or is inactive", [[
    for k = 1, 50 do
      local _, r = mpi.irecv(small, 0, k)
      local _, s = mpi.isend(raw, 0, 1000)
      mpi.recv(big, 0, 1000)
      mpi.cancel(r)
      mpi.waitall { r, s }
    end
    mpi.send_init(raw, 1, 5)
    mpi.recv_init(small, 1, 5)
    local _, p = mpi.recv_init(raw, mpi.PROC_NULL, 5)
    mpi.start(p)
    mpi.wait(p)
  ]], {})

  it("is one of many, of which the first ten are told", function()
    local code, err = run [[for tag = 1, 3000 do mpi.irecv(small, 1, tag) end]]
    local lines, expected = lines_about(err), {}
    for tag = 1, 10 do
      expected[tag] = ("nmpi: rank 0 of 2: irecv from rank 1, tag %d, was never completed"):format(tag)
    end
    expected[11] = "nmpi: rank 0 of 2: and 2990 more"
    table.sort(expected)
    assert.same(expected, lines)
    assert.are.equal(0, code)
  end)

  reports("is reported by mpi.finalize, after which requests are null", [[
    local _, r = mpi.irecv(raw, 1, 5)
    local _, p = mpi.send_init(small, 1, 5)
    mpi.finalize()
    for _, request in ipairs { r, p, 0 } do
      for _, routine in ipairs { "wait", "test", "cancel", "request_free" } do
        assert(mpi[routine](request) == mpi.SUCCESS)
      end
      assert(not pcall(mpi.start, request))
      local list = { request }
      assert(mpi.waitall(list) == mpi.SUCCESS and list[1] == mpi.REQUEST_NULL)
    end
  else
    mpi.finalize()
  ]], { "nmpi: rank 0 of 2: irecv from rank 1, tag 5, was never completed" })

  it("is not told of where the program fails anyway", function()
    local code, err = run [[
      mpi.irecv(big, 1, 5)
      error "mine"
    ]]
    assert.is_nil(err:find "never completed", err)
    assert.are.equal(1, code)
  end)
end)

describe("a reduction that was never completed", function()
  reports("is reported, and brought to its end", [[
      mpi.iallreduce(small, mpi.zeros(3))
      mpi.ireduce(small, small:copy(), mpi.MAX)
    else
      mpi.iallreduce(small, mpi.zeros(3))
      mpi.wait(select(2, mpi.ireduce(small, nil, mpi.MAX)))
    ]], {
    "nmpi: rank 0 of 2: iallreduce was never completed", "nmpi: rank 0 of 2: ireduce was never completed",
    "nmpi: rank 1 of 2: iallreduce was never completed",
  })

  it("ends the job where the other rank does not take part", function()
    for _, memory in ipairs { "big", "raw" } do
      local code, err = run("mpi.iallreduce(mpi.IN_PLACE, " .. memory .. ")")
      assert(err:find("nmpi: rank 0 of 2: iallreduce was never completed", 1, true), err)
      assert(err:find("nmpi: rank 0 of 2: other ranks do not take part in what was begun, so the job ends", 1, true),
        err)
      assert.are.equal(1, code, err)
    end
  end)
end)

describe("a message that nobody receives", function()
  for name, send in pairs {
    ["by isend"] = "mpi.isend(big, 1, 5)", ["by issend"] = "mpi.issend(small, 1, 5)",
    ["by a persistent request"] = "mpi.start(select(2, mpi.send_init(big, 1, 5)))",
    ["from raw FFI memory"] = "mpi.isend(raw, 1, 5)",
  } do
    it(name .. " ends the job", function()
      local code, err = run(send)
      assert(err:find "nmpi: rank 0 of 2: [%a_]+ to rank 1, tag 5, was never completed", err)
      assert(err:find("nmpi: rank 0 of 2: nobody receives what was sent, so the job ends", 1, true), err)
      assert.are.equal(1, code, err)
    end)
  end
end)

describe("raw FFI memory under a pending operation at the end", function()
  reports("is no longer received into", [[
    mpi.irecv(raw, 1, 5)
    mpi.irecv(ffi.new "double[10]", 1, mpi.ANY_TAG)
    mpi.irecv(mpi.wrap(ffi.new("int8_t[?]", 5000)), 1)
    mpi.irecv(mpi.wrap(ffi.new("int8_t[?]", 5000)):slice { nil, nil, 2 }, 1)
  ]], {
    "nmpi: rank 0 of 2: irecv from rank 1, any tag, was never completed",
    "nmpi: rank 0 of 2: irecv from rank 1, any tag, was never completed",
    "nmpi: rank 0 of 2: irecv from rank 1, any tag, was never completed",
    "nmpi: rank 0 of 2: irecv from rank 1, tag 5, was never completed",
  })

  it("is sent by then where somebody does take it", function()
    local code, err = run [[
      for i = 0, 999999 do raw[i] = i end
      mpi.isend(raw, 1, 5)
    else
      local start = mpi.wtime()
      while mpi.wtime() < start + 0.5 do end
      mpi.recv(big, 0, 5)
      for i = 0, 999999 do assert(big[i] == i) end
    ]]
    assert.same({ "nmpi: rank 0 of 2: isend to rank 1, tag 5, was never completed" }, lines_about(err))
    assert.are.equal(0, code, err)
  end)

  it("does not delay the end of a job that has failed", function()
    for _, program in ipairs { "nmpi", "luajit" } do
      local start = system.monotime()
      local code, err = run([[mpi.isend(raw, 1, 5) error "mine"]], { program = program })
      local seconds = system.monotime() - start
      assert(err:find("mine", 1, true), err)
      assert.are.equal(1, code, err)
      assert(seconds < 5, seconds .. " s")
    end
  end)

  it("does not crash a job that os.exit ends", function()
    for _, call in ipairs { "os.exit(0)", "os.exit(0, true)", "os.exit(3)", "os.exit(3, true)" } do
      local code, err = run("mpi.irecv(raw, 1, 5) mpi.recv_init(raw, 1, 6) " .. call)
      assert.are.equal(tonumber(call:match "%d"), code, call .. err)
    end
  end)
end)
