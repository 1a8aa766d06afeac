-- SPDX-License-Identifier: MIT
-- HDF5 files of all ranks. The parent is no MPI process.

local job = require "spec.support.job"
local files = require "spec.support.files"

local found, lack = files.find_hdf5()
if not found then
  it("needs HDF5", function() pending(lack) end)
  return
end

local python, reason = files.find_python "h5py"

-- Writes and reads every dtype, by rows that some ranks have none of, from views with halos.
local PROGRAM = [[
  if arg[2] == "off" then jit.off() end
  local ffi = require "ffi"
  local mpi = require "nmpi"
  local hdf5 = require "nmpi.hdf5"
  local r, n = mpi.rank(), mpi.size()
  local i0, i1 = math.floor(3 * r / n), math.floor(3 * (r + 1) / n)

  local function field(dtype, order, shift)
    local inner = mpi.zeros({ i1 - i0 + 2, 7 }, dtype, order):slice({ 1, -1 }, { 1, -1 })
    for i = i0, i1 - 1 do
      for j = 0, 4 do
        local x = i * 7 + j + (shift or 0)
        inner:set(i - i0, j, dtype == "bool" and x % 3 == 0 or dtype:find "complex" and ffi.new(dtype, x, -x)
          or dtype ~= "bool" and x)
      end
    end
    return inner
  end

  local file = hdf5.create(arg[1])
  assert(io.open(arg[1] .. ".part") and not io.open(arg[1]))
  local DTYPES = { "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double",
    "complex float", "complex double", "bool", "char" }
  for k, dtype in ipairs(DTYPES) do
    local dataset = file:create_dataset("all/" .. dtype, { dtype = dtype, shape = { 3, 5 } })
    assert(dataset.dtype == dtype and dataset.shape[1] == 3 and dataset.shape[2] == 5)
    dataset:write(field(dtype, k % 2 == 0 and "F" or "C"), { i0, 0 })
  end

  -- A time axis that grows: one step of two dimensions at a time.
  for _, deflate in ipairs { false, 4 } do
    local series = file:create_dataset(deflate and "packed" or "series", {
      shape = { 0, 3, 5 }, maxshape = { hdf5.UNLIMITED, 3, 5 }, deflate = deflate or nil, chunks = { 1, 2, 5 },
    })
    for step = 0, 2 do
      series:resize { step + 1, 3, 5 }
      series:write(field("double", "C", 100 * step), { step, i0, 0 })
      file:flush()
    end
    assert(series.shape[1] == 3 and series.maxshape[1] == hdf5.UNLIMITED)
  end

  local number = file:create_dataset("number", { shape = {}, dtype = "int32" })
  number:write(r == 0 and mpi.array(42, "int32") or mpi.zeros(0))
  file:create_dataset("nothing", { shape = { 0, 4 } })
  local raw = file:create_dataset("raw", { shape = 4, dtype = "float" })
  raw:write(r == n - 1 and ffi.new("float[4]", 1, 2, 3, 4) or mpi.zeros(0))

  local group = file:create_group "notes/more"
  file:set_attribute("title", "größer")
  file:set_attribute("time", 0.25)
  file:set_attribute("time", 0.5)
  group:set_attribute("list", { 1, 2, 3 })
  group:set_attribute("matrix", mpi.array({ { 1, 2 }, { 3, 4 } }, "int16"):transpose())
  group:set_attribute("count", mpi.array(2LL ^ 40, "int64"))
  number:set_attribute("flag", true)
  number:set_attribute("empty", "")
  file:close()
  assert(io.open(arg[1]) and not io.open(arg[1] .. ".part"))

  file = hdf5.open(arg[1])
  for k, dtype in ipairs(DTYPES) do
    local dataset = file:open_object("all/" .. dtype)
    assert(dataset.dtype == dtype)
    local back = mpi.zeros({ 3, 10 }, dtype, k % 2 == 0 and "F" or "C"):slice(nil, { nil, nil, 2 })
    assert(dataset:read(back) == back)
    assert(tostring(back:slice { i0, i1 }) == tostring(field(dtype)))
  end
  for _, name in ipairs { "series", "packed" } do
    local row = mpi.zeros(5)
    file:open_object(name):read(r == 0 and row or mpi.zeros(0), { 2, 1, 0 })
    if r == 0 then assert(tostring(row) == "[207. 208. 209. 210. 211.]", tostring(row)) end
  end
  local answer = mpi.array(0, "int32")
  file:open_object "number":read(answer)
  assert(answer:get() == 42)
  local notes = file:open_object "notes":open_object "more"
  assert(file:attribute "title" == "größer" and file:attribute "time" == 0.5 and file:attribute "none" == nil)
  assert(tostring(notes:attribute "list") == "[1. 2. 3.]" and notes:attribute "count" == 2LL ^ 40)
  assert(tostring(notes:attribute "matrix") == tostring(mpi.array({ { 1, 3 }, { 2, 4 } }, "int16")))
  assert(file:open_object "number":attribute "flag" == true and file:open_object "number":attribute "empty" == "")
  file:close()

  file = hdf5.open(arg[1], { mode = "r+" })
  file:set_attribute("changed", 1)
  file:open_object "all/double":write(r == 0 and mpi.array { -1 } or mpi.zeros(0), { 0, 4 })
  file:close()
]]

local READ = [=[
import sys, h5py, numpy
i, j = numpy.indices((3, 5))
x = i * 7 + j
for path in sys.argv[1:]:
    f = h5py.File(path, "r")
    for name, d in f["all"].items():
        a, expected = d[:], x.copy()
        if name == "double": expected[0, 4] = -1
        if name == "bool": assert a.dtype == bool and (a == (x % 3 == 0)).all()
        elif name == "char": assert a.tobytes() == bytes(x.ravel().tolist())
        elif a.dtype.kind == "c": assert (a == x - 1j * x).all()
        else: assert (a == expected).all(), name
    for name in "series", "packed":
        assert f[name].maxshape == (None, 3, 5) and f[name].chunks == (1, 2, 5)
        assert (f[name][:] == x + 100 * numpy.arange(3)[:, None, None]).all()
    assert f["packed"].compression == "gzip" and f["packed"].compression_opts == 4
    assert f["number"][()] == 42 and f["nothing"].shape == (0, 4) and list(f["raw"]) == [1, 2, 3, 4]
    assert dict(f.attrs) == {"title": "größer", "time": 0.5, "changed": 1}
    n = f["notes/more"].attrs
    assert list(n["list"]) == [1, 2, 3] and n["matrix"].tolist() == [[1, 3], [2, 4]] and n["count"] == 2 ** 40
    assert f["number"].attrs["flag"] and f["number"].attrs["empty"] == ""
    print(len(f["all"]))
]=]

it("files of 1 to 4 ranks have the same content, which h5dump and h5py read", function()
  files.with_directory(function(directory)
    local paths, first = {}, nil
    files.each_job(function(n, mode)
      local path = ("%s/%d%s.h5"):format(directory, n, mode)
      paths[#paths + 1] = path
      files.run(PROGRAM, n, path, mode)
      local dump = files.output("h5dump", path):gsub("^[^\n]*", "") -- the name
      first = first or dump
      assert(first == dump, "the content differs on " .. n)
    end)
    if not python then pending(reason) end
    assert.equal(("14\n"):rep(#paths), files.output(python, "-c", READ, unpack(paths)))
  end)
end)

it("files of h5py are read and changed", function()
  if not python then pending(reason) end
  files.with_directory(function(directory)
    local path = directory .. "/a.h5"
    files.output(python, "-c", [[
import sys, h5py, numpy
f = h5py.File(sys.argv[1], "w")
f["big"] = numpy.arange(6, dtype=">f4")
f["text"] = ["a", "b"]
f["enum"] = numpy.array([True, False])
f.create_dataset("packed", (40,), chunks=(8,), compression="gzip", dtype="i4")
f.attrs["names"] = ["one", "two"]
f.attrs["fixed"] = numpy.bytes_("abc")
f.attrs["vector"] = numpy.arange(3, dtype=">i2")]], path)
    files.run(files.REFUSED .. [[
      local mpi = require "nmpi"
      local hdf5 = require "nmpi.hdf5"
      local r = mpi.rank()
      local file = hdf5.open(arg[1], { mode = "r+" })
      local big = mpi.zeros(3, "float")
      file:open_object "big":read(big, { 3 * r })
      assert(big[0] == 3 * r and big[2] == 3 * r + 2)
      assert(file:open_object "enum".dtype == "bool")
      local text = file:open_object "text"
      assert(text.dtype == nil)
      refused("elements of a type that is no dtype", text.read, text, big)
      local names = file:attribute "names"
      assert(names[1] == "one" and names[2] == "two" and file:attribute "fixed" == "abc")
      assert(tostring(file:attribute "vector") == tostring(mpi.array({ 0, 1, 2 }, "int16")))
      local part = mpi.zeros(20, "int32"):fill(r + 1)
      file:open_object "packed":write(part, 20 * r)
      file:close()
    ]], 2, path)
    local sum = "import sys, h5py; print(h5py.File(sys.argv[1])['packed'][:].sum())"
    assert.equal("60\n", files.output(python, "-c", sum, path))
  end)
end)

it("what fails on one rank is an error on all, and prints nothing", function()
  files.with_directory(function(directory)
    files.run(files.REFUSED .. [[
      local mpi = require "nmpi"
      local hdf5 = require "nmpi.hdf5"
      local r, n = mpi.rank(), mpi.size()
      local path = arg[1] .. "/a.h5"
      refused("argument 'path'", hdf5.create)
      refused("argument 'path'", hdf5.create, r == 1 and path or nil)
      refused("argument 'path': expected the same", hdf5.create, r == 0 and path or path .. "x")
      refused("argument 'options'", hdf5.create, path, 3)
      refused("there is no option", hdf5.create, path, { overwirte = true })
      refused("argument 'comm'", hdf5.create, path, { comm = 3 })
      refused("argument 'overwrite'", hdf5.create, path, { overwrite = r == 0 and "no" or nil })
      refused("argument 'overwrite': expected the same", hdf5.create, path, { overwrite = r == 0 })
      refused("argument 'mode'", hdf5.open, path, { mode = r == 0 and "w" or "r" })
      refused("argument 'mode': expected the same", hdf5.open, path, { mode = r == 0 and "r+" or "r" })
      refused("No such file", hdf5.create, arg[1] .. "/none/a.h5")
      refused("is a directory", hdf5.create, arg[1], { overwrite = true })
      refused("unable to open file", hdf5.open, path)
      refused("file signature not found", hdf5.open, arg[0])
      local comm = mpi.COMM_WORLD:dup()
      local file = hdf5.create(path, { comm = comm })
      refused("is being written", hdf5.create, path)
      comm:free()
      refused("freed", hdf5.create, path .. "b", { comm = comm })

      local function create(options) return file:create_dataset("x", options) end
      refused("argument 'name'", file.create_dataset, file, "", { shape = 3 })
      refused("argument 'self'", file.create_dataset, "x", { shape = 3 })
      refused("argument 'shape'", create)
      refused("argument 'shape'", create, { shape = r == 1 and -1 or 2 })
      refused("argument 'shape': expected the same", create, { shape = 2 + r })
      refused("argument 'shape': expected at most 8", create, { shape = { 1, 1, 1, 1, 1, 1, 1, 1, 1 } })
      refused("argument 'dtype'", create, { shape = 2, dtype = "double_int" })
      refused("argument 'dtype': expected the same", create, { shape = 2, dtype = r == 0 and "int8" or "int16" })
      refused("argument 'maxshape'", create, { shape = 2, maxshape = 1 })
      refused("argument 'chunks'", create, { shape = 2, chunks = 3 })
      refused("argument 'deflate'", create, { shape = 2, deflate = 10 })
      refused("no dimensions", create, { shape = {}, deflate = 1 })
      local x = create { shape = { 4, 2 * n } }
      refused("exists", create, { shape = 3 }) -- HDF5's own words
      refused("doesn't exist", file.open_object, file, "y")
      refused("argument 'value': expected the same", file.set_attribute, file, "a", r)
      refused("argument 'value'", file.set_attribute, file, "a", r == 0 and print or 1)
      refused("too large", file.set_attribute, file, "a", mpi.zeros(10000)) -- of HDF5's header
      refused("argument 'array'", x.write, x, r == 0 and mpi.zeros { 4, 2 } or nil)
      refused("the dataset's dtype, double", x.write, x, mpi.zeros({ 4, 2 }, r == 0 and "float" or "double"))
      refused("argument 'array': expected at most 2", x.write, x, mpi.zeros { 1, 1, 1 })
      refused("does not lie within the shape", x.write, x, mpi.zeros { 4, 2 }, { 0, r == 0 and 0 or 2 * n - 1 })
      refused("argument 'start'", x.write, x, mpi.zeros { 4, 2 }, { 0, r == 0 and 0.5 or 1 })
      refused("argument 'start'", x.read, x, mpi.zeros { 4, 2 }, { 1 })
      refused("argument 'array'", x.read, x, "text")
      refused("no more than the maxshape", x.resize, x, { 5, 2 * n })
      x:write(mpi.zeros { 4, 2 }, { 0, 2 * r })
      file:close()
      refused("has been closed", x.write, x, mpi.zeros { 4, 2 }, { 0, 2 * r })
      refused("has been closed", file.close, file)
      refused("exists already", hdf5.create, path)
      local again = hdf5.open(path)
      refused("open for reading", again.create_group, again, "g")
      refused("open for reading", again.set_attribute, again, "g", 1)
      again:close()
      -- Each rank a file of its own.
      local own = hdf5.create(path .. r, { comm = mpi.COMM_SELF })
      own:create_dataset("x", { shape = 3 }):write(mpi.array { 1, 2, 3 })
      own:close()
      mpi.finalize()
      refused("MPI is finalised", hdf5.open, path)
    ]], 2, directory)
  end)
end)

describe("a full disk", function()
  for _, kind in ipairs { "", "chunks = { 1024 }", "deflate = 1" } do
    it("is an error on all ranks: " .. kind, function()
      files.with_directory(function(directory)
        files.run(files.REFUSED .. files.LIMIT .. ([[
          local mpi = require "nmpi"
          local hdf5 = require "nmpi.hdf5"
          local r, n = mpi.rank(), mpi.size()
          local path = arg[1] .. "/a.h5"
          limit(6000000)
          local file = hdf5.create(path)
          local part = mpi.zeros(40000)
          for i = 0, 39999 do part[i] = i * 7919 % 1000003 / 7 end
          local count = 0
          refused("File too large", function()
            for k = 1, 30 do
              file:create_dataset("x" .. k, { shape = 40000 * n, KIND }):write(part, 40000 * r)
              count = k
            end
          end)
          assert(count > 0)
          refused("is incomplete", file.close, file)
          assert(not io.open(path) and io.open(path .. ".part"))
          local small = hdf5.create(arg[1] .. "/small.h5")
          small:create_dataset("x", { shape = 2 * n }):write(mpi.zeros(2), 2 * r)
          small:close()
          refused("No such file", hdf5.create, arg[1] .. "/none/a.h5")
        ]]):gsub("KIND", kind), 2, directory)
      end)
    end)
  end
end)

describe("an open file", function()
  -- Returns the exit code and what was printed; the file must be there under its other name only.
  local function ends(source)
    local code, out, err
    files.with_directory(function(directory)
      local path = directory .. "/a.h5"
      job.with_file([[
        local mpi = require "nmpi"
        local hdf5 = require "nmpi.hdf5"
        local file = hdf5.create(arg[1])
        local x = file:create_dataset("x", { shape = 100 * mpi.size() })
        x:write(mpi.zeros(100), 100 * mpi.rank())
      ]] .. source, function(script)
        code, out, err = job.run { program = "nmpi", n = 2, args = { script, path }, timeout = 30 }
      end)
      assert.is_false(files.exists(path))
      assert.is_true(files.exists(path .. ".part"))
    end)
    return code, out .. err
  end

  it("does not keep a program from ending", function()
    for _, source in ipairs { "", "os.exit(0)", "mpi.finalize()", "file, x = nil, nil collectgarbage()" } do
      local code, text = ends(source)
      assert.equal(0, code, text)
      assert.equal("", text)
    end
  end)

  it("does not keep an error from ending the job", function()
    for _, source in ipairs { "error 'wrong'", "if mpi.rank() == 1 then error 'wrong' end file:close()" } do
      local code, text = ends(source)
      assert.equal(1, code, text)
      assert.matches("wrong", text)
    end
    assert.equal(3, (ends "os.exit(3)"))
  end)
end)

it("without a library, the reason says what to install", function()
  for library, expected in pairs { ["/none.so"] = "NMPI_HDF5=/none.so could not", ["libm.so.6"] = "serial" } do
    local code, out, err = job.run { program = "nmpi", env = { NMPI_HDF5 = library }, args = { "-e", [[
      local mpi = require "nmpi"
      local found, message = pcall(require, "nmpi.hdf5")
      print(found, message, mpi.size())]] } }
    assert.equal(0, code, err)
    assert.matches("false.*" .. expected:gsub("%.", "%%.") .. ".*1\n$", out)
  end
end)
