-- SPDX-License-Identifier: MIT
-- What specs that have to do with files share: directories, jobs that write, and Python that reads.

local job = require "spec.support.job"
local assert = require "luassert"

local files = {}

--- Calls f with the path of a directory that is gone afterwards.
function files.with_directory(f)
  local path = os.tmpname()
  os.remove(path)
  assert.equal(0, os.execute(("mkdir '%s'"):format(path)))
  local results = { pcall(f, path) }
  os.execute(("chmod -R u+w '%s' && rm -r '%s'"):format(path, path))
  if not results[1] then error(results[2], 0) end
end

--- Runs a script on n ranks with arguments; it must end well and print nothing to stderr. Returns what it printed.
function files.run(script, n, ...)
  local options = { ... }
  return job.with_file(script, function(path)
    local code, out, err = job.run { program = "nmpi", n = n, args = { path, unpack(options) } }
    assert.equal("", err)
    assert.equal(0, code, out)
    return out
  end)
end

--- Calls act(n, mode) for each job that files must not depend on: of 1 to 4 ranks, or as many as NMPI_TEST_RANKS has,
-- with the JIT compiler "on" and "off".
function files.each_job(act)
  for n in (os.getenv "NMPI_TEST_RANKS" or "1 2 3 4"):gmatch "%d+" do
    act(tonumber(n), "on")
    act(tonumber(n), "off")
  end
end

--- What a program prints, which must end well.
function files.output(program, ...)
  local code, out, err = job.run { program = program, args = { ... } }
  assert.equal(0, code, err)
  return out
end

--- All bytes of a file.
function files.read(path)
  local file = io.open(path, "rb")
  local bytes = file:read "*a"
  file:close()
  return bytes
end

function files.exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

--- A Python that has these modules, or nil and why there is none.
function files.find_python(modules)
  for _, program in ipairs { "python3", "/usr/bin/python3" } do
    if (job.run { program = program, args = { "-c", "import " .. modules } }) == 0 then return program end
  end
  return nil, "no Python with " .. modules
end

--- Whether there is an HDF5 library for this MPI; nil and why not.
function files.find_hdf5()
  local code, _, err = job.run { program = "nmpi", args = { "-e", 'require "nmpi.hdf5"' } }
  if code == 0 then return true end
  return nil, err:match "nmpi.hdf5: [^\n]*" or err
end

--- The beginning of scripts that limit the size of files, `limit(bytes)`. Space is reserved on Linux.
files.LIMIT = [[
  local ffi = require "ffi"
  ffi.cdef "void (*signal(int, void (*)(int)))(int); int setrlimit(int, const uint64_t *);"
  local function limit(bytes)
    local SIGXFSZ, RLIMIT_FSIZE = 25, 1
    ffi.C.signal(SIGXFSZ, ffi.cast("void (*)(int)", 1))
    ffi.C.setrlimit(RLIMIT_FSIZE, ffi.new("uint64_t[2]", bytes, bytes))
  end
]]

--- The beginning of scripts whose refusals are checked on every rank: `refused(expected, f, ...)`.
files.REFUSED = [[
  local function refused(expected, f, ...)
    local good, message = pcall(f, ...)
    if good then error("expected an error: " .. expected, 2) end
    message = tostring(message)
    if not message:find(expected, 1, true) then error(message .. "\ndoes not have: " .. expected, 2) end
    if not message:find("^[^:]*:%d+: nmpi%.") then error("no place: " .. message, 2) end
  end
]]

return files
