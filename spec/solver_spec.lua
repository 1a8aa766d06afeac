-- SPDX-License-Identifier: MIT
-- examples/solver.lua: what the solver programs do where a file cannot be written, and what they show meanwhile.

local files = require "spec.support.files"
local job = require "spec.support.job"

local with_directory = files.with_directory

local EXAMPLES, BUILD = os.getenv "NMPI_TEST_SOURCE" .. "/examples/", os.getenv "NMPI_TEST_BUILD"

local hdf5, lack = files.find_hdf5()
local gnuplot = io.popen "command -v gnuplot":read "*l"

local function need(file)
  if file:find "h5$" and not hdf5 then pending(lack) end
  if file:find "png$" and not gnuplot then pending "gnuplot is not installed" end
end

local function option_of(file)
  return file:find "png$" and "--picture" or "--output"
end

-- Runs a program on two ranks after a command of the shell.
local function run_after(command, program, options, ...)
  local script = ('%s; exec "%s/nmpi" "%s%s.lua" %s "$@"'):format(command, BUILD, EXAMPLES, program, options)
  return job.run { program = "bash", n = 2, timeout = 60, args = { "-c", script, "bash", ... } }
end

describe("in a directory that is not writable", function()
  -- One in which not even root can make a file.
  local function with_unwritable(f)
    with_directory(function(directory)
      os.execute(("chmod a-w '%s'"):format(directory))
      for _, path in ipairs { directory, "/sys" } do
        if files.exists(path .. "/.") and not io.open(path .. "/probe", "w") then return f(path) end
      end
      pending "every directory is writable"
    end)
  end

  for _, case in ipairs {
    { "cahn_hilliard", "c.npy" }, { "cahn_hilliard", "c.h5" }, { "cahn_hilliard", "c.png" },
    { "mpdata_2d", "psi.h5" }, { "mpdata_2d", "psi.png" }, { "shallow_water", "h.h5" }, { "shallow_water", "h.png" },
  } do
    local program, file = unpack(case)
    it(("%s says so of %s, and ends"):format(program, file), function()
      need(file)
      with_unwritable(function(directory)
        local path, option = directory .. "/" .. file, option_of(file)
        job.assert_refused(program, ("%s: %s: "):format(option, path):gsub("%p", "%%%0"), job.run {
          program = "nmpi", n = option == "--output" and 2 or nil,
          args = { EXAMPLES .. program .. ".lua", option, path },
        })
        assert.is_false(files.exists(path))
      end)
    end)
  end
end)

describe("on a full disk", function()
  -- A limit on the size of files stands for one. MPI makes files too.
  local LIMIT = "trap '' XFSZ; ulimit -f 16384"

  for _, case in ipairs {
    { "cahn_hilliard", "--size 2048x2048 --t-end 0", "c.npy" },
    { "cahn_hilliard", "--size 2048x2048 --t-end 0", "c.h5" },
    { "mpdata_2d", "--size 512x512", "psi.h5" }, { "shallow_water", "--size 256x256", "h.h5" },
  } do
    local program, options, file = unpack(case)
    it(("%s leaves no %s that looks whole"):format(program, file), function()
      need(file)
      with_directory(function(directory)
        local path = directory .. "/" .. file
        job.assert_refused(program, "%-%-output: .*File too large",
          run_after(LIMIT, program, options, "--output", path))
        assert.is_false(files.exists(path))
      end)
    end)
  end

  it("a picture that gnuplot could not write gets no name", function()
    need "c.png"
    with_directory(function(directory)
      local path, wrapper = directory .. "/c.png", io.open(directory .. "/gnuplot", "w")
      wrapper:write(("#!/bin/bash\n%s; ulimit -f 2; exec %s\n"):format(LIMIT, gnuplot))
      wrapper:close()
      job.assert_refused("cahn_hilliard", "%-%-picture: .* cannot be drawn: gnuplot could not write all of it",
        run_after(("chmod +x '%s/gnuplot'; PATH='%s':$PATH"):format(directory, directory), "cahn_hilliard",
          "--size 30x20 --t-end 0", "--picture", path))
      assert.is_false(files.exists(path))
      assert.is_false(files.exists(path .. ".part"))
    end)
  end)
end)

it("one file cannot be two outputs", function()
  need "c.png"
  with_directory(function(directory)
    local path = directory .. "/c.npy"
    job.assert_refused("cahn_hilliard", "%-%-picture: .*/c.npy is the file of %-%-output too", job.run {
      program = "nmpi", args = { EXAMPLES .. "cahn_hilliard.lua", "--output", path, "--picture", path },
    })
  end)
end)

it("a directory is no output, even with --overwrite", function()
  with_directory(function(directory)
    local path = directory .. "/c.npy"
    os.execute(("mkdir '%s'"):format(path))
    job.assert_refused("cahn_hilliard", "%-%-output: .*/c.npy: Is a directory", job.run {
      program = "nmpi", args = { EXAMPLES .. "cahn_hilliard.lua", "--overwrite", "--output", path },
    })
  end)
end)

describe("progress", function()
  local BAR = "%d %% %[#* *%] %S+ steps/s, ETA [^,]+, t = "

  -- What a terminal shows of it.
  local function shown(command)
    if os.execute "script --version >/dev/null 2>&1" ~= 0 then pending "there is no script, of util-linux" end
    local code, out, err = job.run { program = "script", args = { "-qec",
      command:gsub("PROGRAM", ("'%s/nmpi' '%scahn_hilliard.lua' --size 32x32 --t-end 1"):format(BUILD, EXAMPLES)),
      "/dev/null" } }
    assert.equal(0, code, out .. err)
    assert.matches("sum of squares", out)
    return out
  end

  local mpiexec = ("'%s' -n 2 "):format(os.getenv "NMPI_TEST_MPIEXEC")

  it("is shown by a terminal, behind mpiexec as well", function()
    assert.matches(BAR, shown "PROGRAM")
    assert.matches(BAR .. ".*\r\27%[K", shown(mpiexec .. "PROGRAM"))
  end)

  it("is not shown elsewhere", function()
    assert.not_matches("ETA", shown(mpiexec .. "PROGRAM 2>&1 | cat"))
    assert.not_matches("ETA", shown "PROGRAM 2>&1 | cat")
  end)
end)
