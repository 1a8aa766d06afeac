-- SPDX-License-Identifier: MIT
-- The pages tell the truth: their programs print what they show, and header, Lua and documentation have the same names.
local files = require "spec.support.files"
local job = require "spec.support.job"

local source = os.getenv "NMPI_TEST_SOURCE"

local function read(path)
  local file = assert(io.open(source .. "/" .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function exists(path)
  local file = io.open(source .. "/" .. path, "rb")
  if file then file:close() end
  return file ~= nil
end

local function files_in(directory, pattern)
  local found = {}
  local listing = assert(io.popen(("ls '%s/%s'"):format(source, directory)))
  for name in listing:lines() do
    if name:match(pattern) then found[#found + 1] = directory .. "/" .. name end
  end
  listing:close()
  return found
end

local NUMBA_PAGE = "docs/for-users-of-numba-mpi.md"

local pages = files_in("docs", "%.md$")
table.insert(pages, 1, "README.md")
-- What tools/bench writes has no programs: bench_spec.lua looks at it.
for i = #pages, 1, -1 do
  if pages[i] == "docs/performance.md" then table.remove(pages, i) end
end

local lua_text = ""
for _, path in ipairs(files_in("lua/nmpi", "%.lua$")) do lua_text = lua_text .. read(path) end

local pages_text = ""
for _, path in ipairs(pages) do pages_text = pages_text .. read(path) end

-- ---- programs ----

-- The fenced blocks of a page: each a list of lines with its `language`.
local function blocks_of(path)
  local blocks, open = {}, nil
  for line in read(path):gmatch "([^\n]*)\n" do
    local language = line:match "^```(.*)$"
    if open and language then
      blocks[#blocks + 1], open = open, nil
    elseif open then
      open[#open + 1] = line
    elseif language then
      open = { language = language }
    end
  end
  assert(not open, path .. ": a block has no end")
  return blocks
end

local function join(blocks, language)
  local lines = {}
  for _, block in ipairs(blocks) do
    if block.language == language then
      for _, line in ipairs(block) do lines[#lines + 1] = line .. "\n" end
    end
  end
  return table.concat(lines)
end

local function run_program(program, n)
  return job.with_file(program, function(path) return job.run { program = "nmpi", n = n, args = { path } } end)
end

for _, path in ipairs(pages) do
  describe(path, function()
    local blocks = blocks_of(path)

    it("shows output only of the program before it", function()
      local known = { lua = true, text = true, sh = true }
      for i, block in ipairs(blocks) do
        assert.truthy(known[block.language], "a block of " .. block.language)
        if block.language == "text" then
          local before = blocks[i - 1]
          -- The README has the command between the two.
          if before.language == "sh" then before = blocks[i - 2] end
          assert.equal("lua", before.language)
        end
      end
    end)

    local program, shown = join(blocks, "lua"), join(blocks, "text")
    -- What is shown is for the first number of ranks that the page names.
    local stated = tonumber(read(path):match "mpiexec %-n (%d+)")
    local counts = { 1, 2, stated and stated > 2 and stated or nil }
    for _, n in ipairs(counts) do
      it(("has a program that runs with -n %d"):format(n), function()
        assert.not_equal("", program)
        if program:find("nmpi.hdf5", 1, true) then
          local found, lack = files.find_hdf5()
          if not found then pending(lack) end
        end
        local code, out, err = run_program(program, n)
        assert.equal(0, code, err)
        if n == (stated or 2) then assert.equal(shown, out) end
      end)
    end
  end)
end

-- ---- names ----

-- What a chunk prints, line by line.
local function evaluate(chunk)
  local code, out, err = job.run { program = "nmpi", args = { "-e", chunk } }
  assert.equal(0, code, err)
  local lines = {}
  for line in out:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

local public = {}

setup(function()
  local names = evaluate [[for name in pairs(require "nmpi") do io.write(name, "\n") end]]
  for _, name in ipairs(names) do public[name] = true end
end)

-- Objects with methods: the files that define them, an expression that makes one, and its name in the guide.
local kinds = {
  array = { made = [[require("nmpi").zeros(1)]], variable = "a" },
  comm = { made = [[require("nmpi").COMM_WORLD]], variable = "comm" },
  group = { made = [[require("nmpi").COMM_WORLD:group()]], variable = "group" },
  op = { made = [[require("nmpi").SUM]], variable = "op" },
  domain = {
    made = [[require("nmpi.cart").domain(4)]], variable = "domain", file = "cart", methods = "domain_methods",
  },
  halo = {
    made = [[(function() local d = require("nmpi.cart").domain(4) return d:halo(d:zeros()) end)()]],
    variable = "halo", file = "cart", methods = "halo_methods",
  },
  pool = { made = [[require("nmpi.thread").pool(1)]], variable = "pool", file = "thread" },
  team = {
    made = [[require("nmpi.thread").parallel({ 1, main = true }, function()
      team = require("nmpi.thread").team()
    end) or team]],
    variable = "team",
  },
}

-- The fields and methods among these names that an object has not.
local function unknown_to(kind, names)
  return evaluate(([[
    local object = %s
    for name in ("%s"):gmatch "%%S+" do
      local known, member = pcall(function() return object[name] end)
      if not known or member == nil then io.write(name, "\n") end
    end]]):format(kinds[kind].made, table.concat(names, " ")))
end

local function is_named(name, text)
  return text:find(name .. "%f[^%w_]") ~= nil
end

-- What has an LDoc comment of its own, or is a @field of a table that has one; methods as "array:name".
local function documented_names()
  local names = {}
  for path in read("docs/config.ld"):gmatch '"%.%./(lua/nmpi/%w+%.lua)"' do
    local in_comment = false
    for line in read(path):gmatch "([^\n]*)\n" do
      in_comment = in_comment or line:match "^%s*%-%-%-" ~= nil
      if in_comment and line:match "^%s*%-%-" then
        local name = line:match "@function ([%w_:]+)" or line:match "@table ([%w_]+)" or line:match "@field ([%w_]+)"
        names[name or ""] = true
      elseif in_comment then
        names[line:match "function [%w_]+[.:]([%w_]+)" or ""] = true
        for name in line:gmatch "([%w_]+)%s*=%s" do names[name] = true end
        in_comment = false
      end
    end
  end
  return names
end

local function method_names(kind)
  local names, seen = {}, {}
  local file, methods = read(("lua/nmpi/%s.lua"):format(kinds[kind].file or kind)), kinds[kind].methods or "methods"
  for name in file:gmatch("function " .. methods .. "%.([%w_]+)") do
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  assert(#names > 0)
  return names
end

-- The functions that the header declares for Lua, with whether a comment goes before them or their group.
local function declared_functions()
  local section = read("csrc/nmpi.h"):match "/%* NMPI_CDEF_BEGIN %*/\n(.*)/%* NMPI_CDEF_END %*/"
  local functions, commented, in_comment = {}, false, false
  for line in section:gmatch "([^\n]*)\n" do
    in_comment = in_comment or line:match "^/%*" ~= nil
    local name = not in_comment and line:match "^[%w_][%w_ *]*[ *](nmpi_[%w_]+)%("
    if name then functions[name] = commented end
    if line == "" then commented = false end
    if in_comment then commented = true end
    if line:find("*/", 1, true) then in_comment = false end
  end
  assert(next(functions))
  return functions
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function missing(names, is_there)
  local list = {}
  for _, name in ipairs(names) do
    if not is_there(name) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

describe("every function of the header", function()
  local functions = declared_functions()

  it("is called from Lua", function()
    assert.same({}, missing(sorted(functions), function(name) return is_named("[.]" .. name, lua_text) end))
  end)

  it("is described there", function()
    assert.same({}, missing(sorted(functions), function(name) return functions[name] end))
  end)
end)

describe("every public name", function()
  local documented = documented_names()

  it("has an LDoc comment", function()
    assert.same({}, missing(sorted(public), function(name)
      return documented[name] or name:match "^_" or name:match "^ERR_" and documented.error_classes
    end))
  end)

  it("is in the guide", function()
    assert.same({}, missing(sorted(public), function(name)
      return name:match "^ERR_" or is_named("%f[%w_]mpi%." .. name, pages_text)
    end))
  end)
end)

for kind, details in pairs(kinds) do
  describe(("every %s method"):format(kind), function()
    local documented, methods = documented_names(), method_names(kind)

    it("has an LDoc comment", function()
      assert.same({}, missing(methods, function(name) return documented[kind .. ":" .. name] end))
    end)

    it("is in the guide", function()
      assert.same({}, missing(methods, function(name)
        return is_named(("%%f[%%w_]%s:%s"):format(details.variable, name), pages_text)
      end))
    end)

    it("that is documented exists", function()
      local names = {}
      for name in pairs(documented) do names[#names + 1] = name:match(("^%s:(.*)$"):format(kind)) end
      assert.same({}, unknown_to(kind, names))
    end)
  end)
end

-- A page without what is not nmpi's: of the tables of numba-mpi's page the second column counts.
local function own_text(path)
  local text = read(path)
  if path == NUMBA_PAGE then text = ("\n" .. text):gsub("\n| [^\n]- | ", "\n| ") end
  return text
end

for _, path in ipairs(pages) do
  describe(path, function()
    local text = own_text(path)

    it("names nothing that nmpi does not have", function()
      local names = {}
      for name in text:gmatch "%f[%w_-]mpi%.([%a_][%w_]*)" do names[name] = true end
      assert.same({}, missing(sorted(names), function(name) return public[name] end))
    end)

    it("names nothing that the objects do not have", function()
      for kind, details in pairs(kinds) do
        local names = {}
        local use = ("%%f[%%w_]%s%s([%%a_][%%w_]*)"):format(details.variable, kind == "array" and "[:.]" or ":")
        for name in text:gmatch(use) do names[name] = true end
        assert.same({}, unknown_to(kind, sorted(names)))
      end
    end)

    it("names no option that the host does not have", function()
      local _, usage = job.run { program = "nmpi", args = { "-h" } }
      for option in text:gmatch "nmpi (%-%-?%a+)" do
        if option:match "^%-[jO]" then option = option:sub(1, 2) end
        assert.is_truthy(usage:find(" " .. option, 1, true), option)
      end
    end)

    it("links to files that exist", function()
      for target in text:gmatch "%]%(([^)#]+)[^)]*%)" do
        if not target:match "^%a+:" then
          local from = path:match "^(.*/)" or ""
          local to = (from .. target):gsub("[^/]+/%.%./", "")
          assert.is_true(exists(to), target)
        end
      end
    end)

    it("names tools that exist", function()
      for tool in text:gmatch "%f[%w]tools/%l+" do assert.is_true(exists(tool), tool) end
    end)
  end)
end

describe("every environment variable", function()
  local function variables(text, pattern)
    local names = {}
    for name in text:gmatch(pattern) do names[name] = true end
    return sorted(names)
  end

  it("that nmpi reads is in the guide, and the other way round", function()
    local read_ones = variables(lua_text, 'getenv "(NMPI_[%u%d_]+)"')
    assert.is_true(#read_ones > 0)
    assert.same(read_ones, variables(pages_text, "%f[%w_]NMPI_[%u%d_]+"))
  end)
end)

describe(NUMBA_PAGE, function()
  -- numba-mpi 1.3.0.
  local names = {
    "ANY_SOURCE", "ANY_TAG", "Operator", "RequestType", "SUCCESS", "allgather", "allreduce", "barrier", "bcast",
    "gather", "initialized", "irecv", "isend", "query_thread", "rank", "recv", "reduce", "scatter", "send",
    "sendrecv", "size", "test", "testall", "testany", "wait", "waitall", "waitany", "wtime",
  }
  local text = read(NUMBA_PAGE)

  it("has everything that numba-mpi has", function()
    local left = ""
    for cell in text:gmatch "\n| ([^\n]-) | " do left = left .. cell .. "\n" end
    assert.same({}, missing(names, function(name) return is_named("`" .. name, left) end))
  end)

  it("says 'not yet' of what nmpi does not have, and of nothing else", function()
    local absent = { RequestType = true } -- a request is a number: there is nothing to name
    for cell in text:gmatch "\n| ([^\n]-) | not yet |" do
      for name in cell:gmatch "`([%w_]+)" do absent[name] = true end
    end
    assert.same(missing(names, function(name) return public[name] end), sorted(absent))
  end)
end)
