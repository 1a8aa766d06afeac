-- SPDX-License-Identifier: MIT
-- What the programs on MPDATA share: their options, and a run that writes fields as it goes.

local mpi = require "nmpi.checked"
local solver = require "solver"
local mpdata = require "numerics.mpdata"

local advection = {}

local DIMENSIONS = { outer = 1, inner = 2 }

local function whole_from_1(x) return x >= 1 and x % 1 == 0 end

--- An argparse parser with the options that both programs have.
function advection.parser(description, size, output_every)
  local parser = solver.parser(description)
  parser:option("--size", "Cells, of the outer dimension by those of the inner."):default(size)
    :convert(solver.numbers("--size", "two extents, such as " .. size, "x", 2, whole_from_1))
  parser:option("--iterations", "Passes in each step; 1: the donor-cell scheme alone."):default "2"
    :convert(solver.number("--iterations", "a whole number from 1 on", whole_from_1))
  parser:option("--mpi-dimension", "What the ranks divide: the outer dimension or the inner."):default "outer"
    :convert(solver.choice("--mpi-dimension", DIMENSIONS))
  parser:option("--threads", "Threads of each rank."):default "1"
    :convert(solver.number("--threads", "a whole number from 1 on", whole_from_1))
  parser:option("--thread-dimension", "What the threads divide: the outer dimension or the inner."):default "inner"
    :convert(solver.choice("--thread-dimension", DIMENSIONS))
  parser:option("--output", "Write the fields to this HDF5 file, .h5, each as (outer, inner, outputs).")
  parser:option("--output-every", "Write them after each so many steps."):default(output_every)
    :convert(solver.number("--output-every", "a whole number from 1 on", whole_from_1))
  parser:option("--picture", "Draw the last field in this file, .png.")
  parser:flag("--overwrite", "Write files that exist already.")
  return parser
end

--- Makes the model that the options ask for, with these settings beside theirs. What cannot be ends the program.
function advection.model(options, settings)
  settings.shape, settings.threads, settings.iterations = options.size, options.threads, options.iterations
  settings.mpi_dimension, settings.thread_dimension = options.mpi_dimension, options.thread_dimension
  local option, problem = mpdata.problem(settings, mpi.size())
  if option then solver.fail(option, problem) end
  if options.output then
    solver.try("--output", require, "nmpi.hdf5")
    solver.check_output("--output", options.output, options.overwrite)
  end
  if options.picture then solver.check_picture("--picture", options.picture, options.overwrite) end
  return solver.try("--size, --threads", mpdata.model, settings)
end

-- Makes the file and its datasets; returns it and a function that writes the fields as they are.
local function open_output(model, options, steps, names, attributes)
  local domain, datasets, outputs = model.domain, {}, 0
  local file = require("nmpi.hdf5").create(options.output, { comm = domain.comm, overwrite = options.overwrite })
  local count = math.floor(steps / options.output_every) + 1
  for number, name in ipairs(names) do
    datasets[number] = file:create_dataset(name, { shape = { domain.global[1], domain.global[2], count } })
  end
  for name, value in pairs(attributes) do file:set_attribute(name, value) end
  file:set_attribute("steps_between", options.output_every)
  return file, function()
    for number, dataset in ipairs(datasets) do
      local field = model:field(number)
      dataset:write(field:reshape { field.shape[0], field.shape[1], 1 }, { domain.start[1], domain.start[2], outputs })
    end
    outputs = outputs + 1
  end
end

--- So many steps, by advance(n), of fields of these names, which are written with these attributes where the options
-- ask for it. Returns the seconds that the steps took. What is not finite any more ends the program, because of the
-- option `culprit`.
function advection.run(model, options, steps, advance, names, attributes, culprit)
  local every, comm = options.output_every, model.domain.comm
  local file, write
  if options.output then
    file, write = solver.try("--output", open_output, model, options, steps, names, attributes)
    solver.try("--output", write)
  end
  local show = solver.progress(steps)
  local done, seconds = 0, 0
  while done < steps do
    local n = math.min(every, steps - done)
    mpi.barrier(comm)
    local start = mpi.wtime()
    advance(n)
    seconds, done = seconds + mpi.wtime() - start, done + n
    if not model:is_finite() then
      solver.fail(culprit, ("the fields are not finite any more after %d steps"):format(done))
    end
    if file and done % every == 0 then solver.try("--output", write) end
    show(done, done)
  end
  show()
  if file then solver.try("--output", file.close, file) end
  return mpi.allreduce(seconds, mpi.MAX, comm)
end

--- Draws the first field, which rank 0 has whole, if the options ask for it.
function advection.draw(model, options, field, title, label)
  if not options.picture then return end
  local ranks, threads = model:borders()
  solver.draw("--picture", options.picture, field, { title = title, label = label, ranks = ranks, threads = threads })
end

return advection
