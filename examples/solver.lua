-- SPDX-License-Identifier: MIT
-- What the solver programs beside this file share: options, messages that end all ranks, progress, pictures.

local ffi = require "ffi"
local argparse = require "argparse"
local mpi = require "nmpi"

ffi.cdef "int isatty(int file); long readlink(const char *path, char *buffer, size_t size);"

local rank, size = mpi.rank(), mpi.size()
local program = arg[0]:match "([^/]*)%.lua$" or arg[0]

local solver = {}

-- ---- ending together ----

local function say(message)
  io.stderr:write(program, ": ", message, "\n")
end

-- All ranks get here, so MPI is finalised first: then nothing is killed that has not ended by itself.
local function stop()
  mpi.barrier()
  mpi.finalize()
  os.exit(1)
end

--- For every rank at once, each with a message or nil: if there is any, rank 0 prints the first one, and all ranks end.
function solver.agree(message)
  local _, first = mpi.allreduce(message and rank or size, mpi.MIN)
  if first == size then return end
  local length = mpi.array { message and #message or 0 }
  mpi.bcast(length, first)
  local text = rank == first and mpi.array(message) or mpi.empty(length[0], "char")
  mpi.bcast(text, first)
  if rank == 0 then say(text:tostring()) end
  stop()
end

--- Ends the program because of an option; every rank calls it, knowing the same.
function solver.fail(option, what)
  if rank == 0 then say(option .. ": " .. what) end
  stop()
end

--- Returns what f returns; where it raises an error, on any rank, ends the program with that error and this option.
function solver.try(option, f, ...)
  local results = { pcall(f, ...) }
  local problem = not results[1] and tostring(results[2]):gsub("^[^\n]-:%d+: ", ""):gsub("^nmpi%.[%w._:]+: ", "")
  solver.agree(problem and option .. ": " .. problem)
  return unpack(results, 2, table.maxn(results))
end

-- ---- options ----

--- Makes an argparse parser.
function solver.parser(description)
  local parser = argparse(program, description):add_help(false)
  parser:flag("-h --help", "Show this help and end."):action(function()
    if rank == 0 then print(parser:get_help()) end
    os.exit(0)
  end)
  return parser
end

-- A message where the words of this rank are not those of rank 0.
local function differing_words()
  local mine = table.concat(arg, "\0")
  local length = mpi.array { #mine }
  mpi.bcast(length, 0)
  local text = rank == 0 and mpi.array(mine .. "\0") or mpi.empty(length[0] + 1, "char")
  mpi.bcast(text, 0)
  local first = {}
  for word in ffi.string(text.data, text.size):gmatch "(%Z*)%z" do first[#first + 1] = word end
  for i = 1, math.max(#first, #arg) do
    if first[i] ~= arg[i] and not (first[i] == "" and #arg == 0) then
      local words = arg[i] and arg or first
      local option = words[i]:match "^%-%-[^=]*" or i > 1 and words[i - 1] or words[i]
      return ("%s: differs between the ranks: '%s' on rank 0, '%s' on rank %d"):format(option, first[i] or "",
        arg[i] or "", rank)
    end
  end
end

--- Returns the options, the same on every rank. What is wrong with them ends the program.
function solver.parse(parser)
  solver.agree(differing_words())
  -- To argparse, a word that begins with a minus is an option, even -1.
  local words = {}
  for _, word in ipairs(arg) do
    if word:find "^%-[%d.]" and #words > 0 then
      words[#words] = words[#words] .. "=" .. word
    else
      words[#words + 1] = word
    end
  end
  local ok, options = parser:pparse(words)
  solver.agree(not ok and options or nil)
  return options
end

--- What argparse is to convert an option by: a number, which is finite and which accepts(number) is true of.
function solver.number(option, expected, accepts)
  return function(word)
    local number = tonumber(word)
    if number and math.abs(number) < math.huge and accepts(number) then return number end
    return nil, ("%s: expected %s, got '%s'"):format(option, expected, word)
  end
end

--- The same for a list of `count` numbers (or of any number of them), with this separator between them.
function solver.numbers(option, expected, separator, count, accepts)
  return function(word)
    local numbers = {}
    for part in (word .. separator):gmatch("(.-)[" .. separator .. "]") do
      local number = tonumber(part)
      if not (number and math.abs(number) < math.huge and accepts(number)) then
        numbers = nil
        break
      end
      numbers[#numbers + 1] = number
    end
    if numbers and (not count or #numbers == count) then return numbers end
    return nil, ("%s: expected %s, got '%s'"):format(option, expected, word)
  end
end

--- The same for one of the keys of a table, of which the option gets the value.
function solver.choice(option, values)
  local words = {}
  for word in pairs(values) do words[#words + 1] = word end
  table.sort(words)
  return function(word)
    if values[word] then return values[word] end
    return nil, ("%s: expected %s, got '%s'"):format(option, table.concat(words, " or "), word)
  end
end

-- Why a file cannot be written there, or nil.
local function output_problem(path, overwrite)
  local ENOENT = 2
  local there, reason, code = io.open(path, "rb")
  if there then
    local _, no_file = there:read(1)
    there:close()
    if no_file then return path .. ": " .. no_file end
    if not overwrite then return path .. " exists already: name another file, or add --overwrite" end
  elseif code ~= ENOENT then
    return reason
  end
  local part, refusal = io.open(path .. ".part", "ab")
  if not part then return (refusal:gsub("%.part: ", ": ")) end
  part:close()
  os.remove(path .. ".part")
end

-- The options that files have been asked for by.
local outputs = {}

--- Ends the program unless a file can be written there; one that is there already has to be given up by `overwrite`.
function solver.check_output(option, path, overwrite)
  if outputs[path] then solver.fail(option, path .. " is the file of " .. outputs[path] .. " too") end
  outputs[path] = option
  local problem = rank == 0 and output_problem(path, overwrite)
  solver.agree(problem and option .. ": " .. problem)
end

-- ---- progress ----

local function duration(seconds)
  if seconds < 60 then return ("%.0f s"):format(seconds) end
  if seconds < 3600 then return ("%d:%02d min"):format(seconds / 60, seconds % 60) end
  return ("%d:%02d h"):format(seconds / 3600, seconds % 3600 / 60)
end

-- What stderr of a process is, such as "/dev/pts/1" or "pipe:[70]"; "" where that cannot be told.
local function stderr_of(process)
  local buffer = ffi.new "char[80]"
  local length = ffi.C.readlink(("/proc/%s/fd/2"):format(process), buffer, 80)
  return length > 0 and ffi.string(buffer, length) or ""
end

local function name_and_parent(process)
  local file = io.open(("/proc/%s/stat"):format(process))
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text:match "%((.*)%) %a (%d+)"
end

-- Whether what is written to stderr gets to a terminal. To a rank, mpiexec's is hidden behind a pipe.
local function has_terminal()
  if ffi.C.isatty(2) ~= 0 then return true end
  local process = "self"
  local name, parent = name_and_parent(process)
  while name and not name:find "^mpi" and not name:find "run$" do
    if not stderr_of(process):find "^%a+:" then return false end
    process = parent
    name, parent = name_and_parent(process)
  end
  return stderr_of(process):find "^/dev/[pt]t" ~= nil
end

--- Returns a function show(done, steps, note, ...), to be called as often as one likes: on rank 0, where it has a
-- terminal, it shows how much is done of the total, how many steps a second, how long it will still take, and the note,
-- a format of what follows. Without arguments it removes that line.
function solver.progress(total)
  if rank ~= 0 or not has_terminal() then return function() end end
  local WIDTH, INTERVAL = 30, 0.2
  local start = mpi.wtime()
  local next_time = start
  return function(done, steps, note, ...)
    if not done then return io.stderr:write "\r\27[K" end
    local now = mpi.wtime()
    if now < next_time then return end
    next_time = now + INTERVAL
    local part, elapsed = done / total, now - start
    local bar = ("#"):rep(math.floor(WIDTH * part))
    io.stderr:write(("\r\27[K%3.0f %% [%s%s] %.3g steps/s, ETA %s%s"):format(100 * part, bar,
      (" "):rep(WIDTH - #bar), elapsed > 0 and steps / elapsed or 0,
      part > 0 and duration(elapsed / part - elapsed) or "?", note and ", " .. note:format(...) or ""))
    io.stderr:flush()
  end
end

-- ---- pictures ----

--- Ends the program, because of an option that asks for a picture, where gnuplot is missing or the file cannot be
-- written.
function solver.check_picture(option, path, overwrite)
  local missing = rank == 0 and os.execute "command -v gnuplot >/dev/null 2>&1" ~= 0
  solver.agree(missing and option .. ": pictures are drawn by gnuplot, which is not installed" or nil)
  solver.check_output(option, path, overwrite)
end

local function borders(lines, at, style)
  for d, axis in ipairs { "%s, graph 0 to %s, graph 1", "graph 0, first %s to graph 1, first %s" } do
    for _, cell in ipairs(at and at[d] or {}) do
      local place = ("%g"):format(cell - 0.5)
      lines[#lines + 1] = ("set arrow from %s nohead front %s"):format(axis:format(place, place), style)
    end
  end
end

local function script(path, field, settings)
  local n, m = field.shape[0], field.shape[1]
  local scale = math.max(1, math.floor(600 / math.max(n, m)))
  local lines = {
    -- The margins hold the axes, the title and the colour box.
    ("set terminal pngcairo size %d, %d"):format(n * scale + 200, m * scale + 130),
    ("set output '%s'"):format(path:gsub("'", "''")),
    "unset key",
    "set size ratio -1",
    'set palette defined (0 "#440154", 1 "#3b528b", 2 "#21918c", 3 "#5ec962", 4 "#fde725")',
    ('set title "%s"'):format(settings.title or ""),
    ('set cblabel "%s"'):format(settings.label or ""),
    ("set xrange [-0.5 : %g]"):format(n - 0.5),
    ("set yrange [-0.5 : %g]"):format(m - 0.5),
  }
  borders(lines, settings.ranks, 'lw 2 dashtype "." lc rgb "white"')
  borders(lines, settings.threads, 'lw 1 dashtype "." lc rgb "red"')
  lines[#lines + 1] = ("plot '-' binary array=(%d, %d) format='%%double' with image"):format(n, m)
  return table.concat(lines, "\n") .. "\n"
end

-- Whether a PNG picture has its last chunk: on a full disk gnuplot ends as ever.
local function is_whole(path)
  local file = io.open(path, "rb")
  if not file then return false end
  file:seek("end", -12)
  local last = file:read(12)
  file:close()
  return last == "\0\0\0\0IEND\174B`\130"
end

local function draw(path, field, settings)
  local image = field:transpose():copy("C") -- gnuplot's first index varies fastest
  local input, part = os.tmpname(), path .. ".part"
  local file = assert(io.open(input, "wb"))
  local written, reason = file:write(script(part, field, settings),
    ffi.string(image.data, image.size * image.itemsize))
  local closed, loss = file:close() -- which writes what is still in a buffer
  if written then written, reason = closed, loss end
  local code = written and os.execute(("gnuplot <'%s'"):format(input))
  os.remove(input)
  if written then written, reason = code == 0, "gnuplot has failed" end
  if written then written, reason = is_whole(part), "gnuplot could not write all of it" end
  if written then written, reason = os.rename(part, path) end
  if not written then
    os.remove(part)
    error(("%s cannot be drawn: %s"):format(path, reason), 0)
  end
end

--- Draws a field of two dimensions, a C-ordered array of doubles on rank 0, as a PNG picture, whose horizontal axis is
-- the first dimension. Called by every rank. settings.title and settings.label (of the colours) are optional; so are
-- settings.ranks and settings.threads: for each dimension a list of the cells where another's part begins.
function solver.draw(option, path, field, settings)
  solver.try(option, function()
    if rank == 0 then draw(path, field, settings) end
  end)
end

return solver
