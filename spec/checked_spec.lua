-- SPDX-License-Identifier: MIT
local mpi = require "nmpi"
local checked = require "nmpi.checked"
local hot = require "spec.support.hot"

local rank, size = mpi.rank(), mpi.size()
local right, left = (rank + 1) % size, (rank - 1) % size
local SELF = mpi.COMM_SELF

local function message_of(f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "no error")
  return e
end

-- What LDoc says of every function of a module: whether it returns a status first.
local function documented(family)
  local found = {}
  local path = assert(package.searchpath("nmpi." .. family, package.path))
  local comment = ""
  for line in io.lines(path) do
    local name = line:match "^function %w+%.([%w_]+)%("
    if name then found[name] = comment:match "@treturn%S* (%w+ %w+)" == "int status" end
    comment = line:match "^%-%-" and comment .. line .. "\n" or ""
  end
  return found
end

describe("nmpi.checked", function()
  it("has all that nmpi has, and wraps every routine that returns a status", function()
    local wrapped = 0
    for _, family in ipairs { "env", "error", "comm", "op", "p2p", "request", "coll" } do
      for name, has_status in pairs(documented(family)) do
        assert.equal(has_status, checked[name] ~= mpi[name], name)
        wrapped = wrapped + (has_status and 1 or 0)
      end
    end
    for name in pairs(mpi) do assert(checked[name] ~= nil, name) end
    assert(wrapped >= 40, wrapped .. " routines")
  end)

  it("returns what follows the status", function()
    local a, b, info = mpi.array { rank, rank + 1 }, mpi.zeros(2), mpi.status()
    local receive = checked.irecv(b, left, 1)
    local send = checked.isend(a, right, 1)
    local first = { checked.wait(receive, info) }
    local second = { checked.waitall { send } }
    local total = checked.allreduce(rank + 1)
    local found, none = checked.iprobe(left, 2), { checked.improbe(left, 2) }
    local flag, index = checked.testany {}
    local barrier = select("#", checked.barrier())
    assert.equal("number", type(receive))
    assert.same({}, first)
    assert.same({}, second)
    assert.same({ left, left + 1 }, b:totable())
    assert.equal(2, info:count())
    assert.equal(size * (size + 1) / 2, total)
    assert.equal(false, found)
    assert.same({ false, mpi.MESSAGE_NULL }, none)
    assert.equal(true, flag)
    assert.equal(nil, index)
    assert.equal(0, barrier)
  end)

  it("raises what MPI reports, with everything that is known", function()
    local long, short = mpi.zeros(10), mpi.zeros(3)
    local code = mpi.sendrecv(long, 0, short, 0, 1, 1, SELF)
    local line
    local e = message_of(function()
      line = debug.getinfo(1, "l").currentline; checked.sendrecv(long, 0, short, 0, 1, 1, SELF)
    end)
    assert.equal("table", type(e))
    assert.equal(mpi.ERR_TRUNCATE, e.class)
    assert.equal(mpi.error_class(code), mpi.error_class(e.code))
    assert.equal("sendrecv", e.routine)
    assert.equal(rank, e.rank)
    assert(e.message:find "[Tt]runcate" and not e.message:find "\n", e.message)
    assert.equal(1, (mpi.error_string(e.code):find(e.message, 1, true)))
    assert.equal(("%s: nmpi.sendrecv: rank %d: %s"):format(e.where, rank, e.message), tostring(e))
    assert(e.where:find("checked_spec.lua:" .. line, 1, true), e.where)
  end)

  it("raises a wait that has failed, and ends it", function()
    local receive = checked.irecv(mpi.zeros(1), 0, 3, SELF)
    local send = checked.isend(mpi.zeros(5), 0, 3, SELF)
    local e = message_of(checked.wait, receive)
    checked.wait(send)
    assert.equal("wait", e.routine)
    assert.equal(mpi.ERR_TRUNCATE, e.class)
    checked.wait(receive)
  end)

  it("raises the caller's mistakes as strings, at the caller's line", function()
    local function call() checked.send(1, 2, 3) end
    local e = message_of(call)
    assert.equal("string", type(e))
    assert(e:find "checked_spec%.lua:%d+: nmpi%.send: argument 'data': expected an array", e)
  end)
end)

describe("a hot loop of nmpi.checked:", function()
  local a, b, reqs = mpi.zeros(4), mpi.zeros(4), mpi.requests(2)
  hot.define(it, pending, {
    { "isend, irecv, waitall", function(n)
      for _ = 1, n do
        reqs[0] = checked.irecv(b, 0, 1, SELF)
        reqs[1] = checked.isend(a, 0, 1, SELF)
        checked.waitall(reqs)
      end
    end },
    { "sendrecv, allreduce, testany", function(n)
      local sum = 0
      for _ = 1, n do
        checked.sendrecv(a, 0, b, 0, 1, 1, SELF)
        sum = sum + checked.allreduce(1.5, mpi.SUM, SELF)
        local flag = checked.testany(reqs)
        if not flag then sum = 0 end
      end
      assert(sum == 1.5 * n)
    end },
  })
end)
