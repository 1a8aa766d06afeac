-- SPDX-License-Identifier: MIT
-- .npy files of all ranks. The parent is no MPI process.

local files = require "spec.support.files"

local python, reason = files.find_python "numpy"

-- Writes and reads an array of each dtype, divided by rows, by columns, and by rows of which some ranks have none, from
-- views with halos and from Fortran's order. Element (i, j) is known everywhere.
local PROGRAM = [[
  if arg[2] == "off" then jit.off() end
  local ffi = require "ffi"
  local mpi = require "nmpi"
  local npy = require "nmpi.npy"
  local r, n = mpi.rank(), mpi.size()

  local function value(dtype, i, j)
    local x = i * 7 + j
    if dtype == "bool" then return x % 3 == 0 end
    if dtype:find "complex" then return ffi.new(dtype, x, -x) end
    return x
  end

  local function parts(extent)
    return math.floor(extent * r / n), math.floor(extent * (r + 1) / n)
  end

  local function field(dtype, order, i0, i1, j0, j1)
    local whole = mpi.zeros({ i1 - i0 + 2, j1 - j0 + 2 }, dtype, order)
    local inner = whole:slice({ 1, -1 }, { 1, -1 })
    for i = i0, i1 - 1 do
      for j = j0, j1 - 1 do inner:set(i - i0, j - j0, value(dtype, i, j)) end
    end
    return inner
  end

  local function check(dtype, a, i0, j0)
    for i = 0, a.shape[0] - 1 do
      for j = 0, a.shape[1] - 1 do
        assert(tostring(a:get(i, j)) == tostring(field(dtype, "C", i0 + i, i0 + i + 1, j0 + j, j0 + j + 1):get(0, 0)))
      end
    end
  end

  for dtype in ("int8 int16 int32 int64 uint8 uint16 uint32 uint64 float double complex_float complex_double bool "
    .. "char"):gmatch "%S+" do
    dtype = dtype:gsub("_", " ")
    for _, how in ipairs { "rows", "columns" } do
      local order = how == "rows" and "C" or "F"
      local i0, i1, j0, j1 = 0, 5, 0, 3
      if how == "rows" then i0, i1 = parts(5) else j0, j1 = parts(3) end
      local path = arg[1] .. "/" .. how .. dtype:gsub(" ", "") .. ".npy"
      npy.write(path, field(dtype, order, i0, i1, j0, j1), { shape = { 5, 3 }, start = { i0, j0 } })
      local info = npy.info(path)
      assert(info.dtype == dtype and info.shape[1] == 5 and info.shape[2] == 3 and info.order == "C")
      -- Read by another division, into a view.
      local k0, k1 = parts(3)
      local back = mpi.zeros({ 5, 2 * (k1 - k0) }, dtype, order):slice(nil, { nil, nil, 2 })
      assert(npy.read(path, back, { start = { 0, k0 } }) == back)
      check(dtype, back, 0, k0)
    end
  end
  -- A plane of three dimensions, a line of one, a single number, nothing.
  npy.write(arg[1] .. "/planes.npy", field("double", "C", r, r + 1, 0, 3):row(0),
    { shape = { n, 1, 3 }, start = { r, 0, 0 } })
  npy.write(arg[1] .. "/line.npy", mpi.array({ r + 0.5 }), { shape = n, start = r, overwrite = true })
  npy.write(arg[1] .. "/line.npy", mpi.array({ r + 0.25 }), { shape = n, start = r, overwrite = true })
  npy.write(arg[1] .. "/number.npy", r == 0 and mpi.array(7, "int32") or mpi.zeros(0), { shape = {} })
  npy.write(arg[1] .. "/nothing.npy", mpi.zeros { 0, 4 }, { shape = { 0, 4 } })
  npy.read(arg[1] .. "/nothing.npy", mpi.zeros(0))
]]

local READ = [[
import sys, numpy, glob, os
i, j = numpy.indices((5, 3))
x = i * 7 + j
for path in sys.argv[1:]:
    names = glob.glob(path + "/rows*.npy") + glob.glob(path + "/columns*.npy")
    for name in names:
        a = numpy.load(name)
        assert a.shape == (5, 3), name
        if a.dtype.kind == "S": assert a.tobytes() == bytes(x.ravel().tolist()), name
        elif a.dtype == bool: assert (a == (x % 3 == 0)).all(), name
        elif a.dtype.kind == "c": assert (a == x - 1j * x).all(), name
        else: assert (a == x).all(), name
    n = int(os.path.basename(path)[0])
    assert numpy.load(path + "/planes.npy").shape == (n, 1, 3)
    assert (numpy.load(path + "/planes.npy")[:, 0] == numpy.arange(n)[:, None] * 7 + numpy.arange(3)).all()
    assert (numpy.load(path + "/line.npy") == numpy.arange(n) + 0.25).all()
    assert numpy.load(path + "/number.npy")[()] == 7
    assert numpy.load(path + "/nothing.npy").shape == (0, 4)
    print(len(names))
]]

it("files of 1 to 4 ranks have the same bytes, and NumPy reads them", function()
  files.with_directory(function(directory)
    local paths, first = {}, {}
    files.each_job(function(n, mode)
      local path = ("%s/%d%s"):format(directory, n, mode)
      paths[#paths + 1] = path
      os.execute("mkdir " .. path)
      files.run(PROGRAM, n, path, mode)
      local names = files.output("ls", path)
      assert.is_nil(names:find "part")
      for name in names:gmatch "%S+" do
        local bytes = files.read(path .. "/" .. name)
        if name:find "^rows" or name:find "^columns" then
          first[name] = first[name] or bytes
          assert(first[name] == bytes, name .. " differs on " .. n)
        end
      end
    end)
    if not python then pending(reason) end
    assert.equal(("28\n"):rep(#paths), files.output(python, "-c", READ, unpack(paths)))
  end)
end)

it("a file of NumPy's is read, in either order", function()
  if not python then pending(reason) end
  files.with_directory(function(directory)
    files.output(python, "-c", [[
import sys, numpy
a = numpy.arange(60, dtype="f4").reshape(3, 4, 5)
numpy.save(sys.argv[1] + "/c.npy", a)
numpy.save(sys.argv[1] + "/f.npy", numpy.asfortranarray(a))
numpy.save(sys.argv[1] + "/big.npy", a.astype(">f4"))
numpy.save(sys.argv[1] + "/text.npy", numpy.array(["abc"]))
numpy.lib.format.write_array(open(sys.argv[1] + "/two.npy", "wb"), a, version=(2, 0))]], directory)
    files.run(files.REFUSED .. [[
      local mpi = require "nmpi"
      local npy = require "nmpi.npy"
      for _, name in ipairs { "c", "f", "two" } do
        local path, r = arg[1] .. "/" .. name .. ".npy", mpi.rank()
        assert(npy.info(path).order == (name == "f" and "F" or "C"))
        local block = npy.read(path, mpi.zeros({ 2, 2, 3 }, "float"), { start = { r, 1, 2 } })
        local row = npy.read(path, mpi.zeros(5, "float"), { start = { 2, r, 0 } })
        for i = 0, 1 do
          for j = 0, 1 do
            for k = 0, 2 do assert(block:get(i, j, k) == (r + i) * 20 + (j + 1) * 5 + k + 2) end
          end
        end
        for k = 0, 4 do assert(row[k] == 40 + r * 5 + k) end
      end
      refused("elements of the other byte order", npy.read, arg[1] .. "/big.npy", mpi.zeros(5, "float"))
      refused("elements of a type that is no dtype", npy.read, arg[1] .. "/text.npy", mpi.zeros(5))
    ]], 2, directory)
  end)
end)

it("what fails on one rank is an error on all", function()
  files.with_directory(function(directory)
    os.execute(("ln -s /dev/full '%s/full.npy.part'"):format(directory))
    files.run(files.REFUSED .. files.LIMIT .. [[
      local mpi = require "nmpi"
      local npy = require "nmpi.npy"
      local r, n = mpi.rank(), mpi.size()
      local path, other, a = arg[1] .. "/a.npy", arg[1] .. "/b.npy", mpi.zeros(4)
      local function part(options)
        local all = { shape = 4 * n, start = 4 * r }
        for name, value in pairs(options or {}) do all[name] = value end
        return all
      end
      npy.write(path, a, part())
      refused("exists already", npy.write, path, a, part())
      refused("argument 'path'", npy.write, nil, a, part())
      refused("argument 'path'", npy.write, r == 1 and path or nil, a, part())
      refused("argument 'path': expected the same", npy.write, r == 0 and other or other .. "x", a, part())
      refused("argument 'array'", npy.write, other, r == 0 and a or nil, part())
      refused("argument 'array': expected the same dtype", npy.write, other, mpi.zeros(4, r == 0 and "int8" or "float"),
        part())
      refused("argument 'array'", npy.write, other, mpi.zeros(4, "double_int"), part())
      refused("argument 'array': expected at most 1", npy.write, other, mpi.zeros { 2, 2 }, part())
      refused("argument 'shape'", npy.write, other, a)
      refused("argument 'shape'", npy.write, other, a, part { shape = "x" })
      refused("from index 1 and without holes", npy.write, other, a, part { shape = { [0] = 4, 3, 5 } })
      refused("argument 'shape': expected the same", npy.write, other, r == 0 and a or mpi.zeros(0),
        { shape = 4 + r })
      refused("argument 'start'", npy.write, other, a, part { start = r == 0 and -1 or 4 })
      refused("does not lie within", npy.write, other, a, part { start = 4 * r + 1 })
      refused("no option the string \"strat\"", npy.write, other, a, part { strat = 1 })
      refused("argument 'comm'", npy.write, other, a, part { comm = 3 })
      refused("argument 'overwrite'", npy.write, other, a, part { overwrite = r == 0 and "no" or nil })
      refused("the parts of all ranks have 8 elements", npy.write, other, a, part { shape = 9 })
      refused("No such file", npy.write, arg[1] .. "/none/a.npy", a, part())
      refused("Not a directory", npy.write, path .. "/a.npy", a, part())
      refused("is a directory", npy.write, arg[1], a, part { overwrite = true })
      refused("No such file", npy.read, other, a)
      refused("argument 'array'", npy.read, path, "text")
      refused("expected an array of the file's dtype, double", npy.read, path, r == 0 and a or mpi.zeros(4, "int8"))
      refused("does not lie within", npy.read, path, a, { start = r == 0 and 0 or 5 })
      local comm = mpi.COMM_WORLD:dup()
      comm:free()
      refused("freed", npy.write, other, a, part { comm = comm })
      local function write(bytes)
        local file = io.open(other, "wb")
        file:write(bytes)
        file:close()
      end
      if r == 0 then write "\147NUMPY\1\0\118\0{'descr': '<f8'," end
      mpi.barrier()
      refused("is no .npy file", npy.read, other, a)
      if r == 0 then
        local file = io.open(path, "rb")
        write(file:read(140))
        file:close()
      end
      mpi.barrier()
      refused("too short", npy.read, other, a)
      if ffi.os ~= "Linux" then return end
      refused("No space left on device", npy.write, arg[1] .. "/full.npy", a, part())
      limit(100000)
      local large = mpi.zeros(20000)
      refused("File too large", npy.write, arg[1] .. "/large.npy", large, { shape = 20000 * n, start = 20000 * r })
      if r == 0 then
        for _, name in ipairs { "/large.npy", "/large.npy.part", "/b.npy.part" } do
          assert(not io.open(arg[1] .. name), name)
        end
      end
    ]], 2, directory)
  end)
end)
