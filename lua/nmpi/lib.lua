-- SPDX-License-Identifier: MIT
-- Finds the MPI library that fits the launcher, loads it and the core of its ABI, and checks both.

local ffi = require "ffi"
local cdef = require "nmpi.cdef"
local launcher = require "nmpi.launcher"

-- A variable that is set to nothing counts as unset.
local function getenv(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local SONAMES = ({
  Linux = { mpich = { "libmpi.so.12", "libmpich.so.12" }, openmpi = { "libmpi.so.40" } },
  OSX = { mpich = { "libmpi.12.dylib", "libmpich.12.dylib" }, openmpi = { "libmpi.40.dylib" } },
})[ffi.os] or error("nmpi: expected Linux or macOS, found " .. ffi.os, 0)

local TITLES = { mpich = "MPICH, Intel MPI or MVAPICH", openmpi = "Open MPI" }

local function fail(format, ...)
  error("nmpi: " .. format:format(...), 0)
end

-- ---- declarations ----

if not pcall(ffi.typeof, "nmpi_array") then
  ffi.cdef(cdef.declarations)
  ffi.cdef [[
    int nmpi_probe_version(char *version, int *length) __asm__("MPI_Get_library_version");
    void *nmpi_dlopen(const char *path, int flags) __asm__("dlopen");
    int nmpi_parent(void) __asm__("getppid");
    int nmpi_affinity(int pid, size_t size, uint32_t *mask) __asm__("sched_getaffinity");
  ]]
end

-- ---- what is there ----

-- What an MPI library says of itself, or nil if the namespace holds none.
local function version_in(namespace)
  local found, version = pcall(function()
    local text, length = ffi.new("char[?]", 16384), ffi.new "int[1]"
    namespace.nmpi_probe_version(text, length)
    return ffi.string(text)
  end)
  return found and version or nil
end

local function abi_of(version)
  if version:find "Open MPI" then return "openmpi" end
  if version:find "MPICH" or version:find "Intel" or version:find "MVAPICH" then return "mpich" end
  fail("the MPI library in use is of an ABI that nmpi does not know: %s", version)
end

local function first_line(text)
  return (text:match "^[^\n]*")
end

-- ---- loading ----

local function load_global(path)
  local loaded, namespace = pcall(ffi.load, path, true)
  if loaded then return namespace end
  return nil, namespace
end

-- Loads the library of an ABI by its usual names, from the loader's path and from where it was at build time.
local function load_abi(abi)
  local reasons = {}
  for _, directory in ipairs { "", (cdef.libdirs[abi] or "") .. "/" } do
    for _, soname in ipairs(SONAMES[abi]) do
      local namespace, reason = load_global(directory .. soname)
      if namespace then return namespace end
      reasons[#reasons + 1] = reason
    end
  end
  return nil, table.concat(reasons, "; ")
end

-- The ABI of a library that some other part of the process has loaded, if any.
local function abi_in_process()
  local version = version_in(ffi.C)
  if version then return abi_of(version) end
  local RTLD_LAZY, RTLD_NOLOAD = 1, ffi.os == "OSX" and 0x10 or 4
  for abi, sonames in pairs(SONAMES) do
    for _, soname in ipairs(sonames) do
      if ffi.C.nmpi_dlopen(soname, RTLD_LAZY + RTLD_NOLOAD) ~= nil then return abi end
    end
  end
end

local function core_path(abi)
  return package.searchpath("nmpi.core_" .. abi, package.cpath)
end

local function built_abis()
  return table.concat(cdef.abis, ", ")
end

-- An ABI that something asked for by name: it must have a core and a library.
local function load_wanted(abi, why)
  if not core_path(abi) then
    fail("%s needs a core for the ABI '%s' (%s), but this nmpi was built for: %s. Rebuild it with "
      .. "-Dmpi=%s, or set NMPI_MPI to choose another MPI and use that MPI's launcher.",
      why, abi, TITLES[abi], built_abis(), abi)
  end
  local namespace, reason = load_abi(abi)
  if not namespace then
    fail("%s needs %s, but no library of that ABI could be loaded: %s. Install it, put it on "
      .. "LD_LIBRARY_PATH, or set NMPI_LIBMPI to its path.", why, TITLES[abi], reason)
  end
  return namespace, abi
end

local function load_path(path)
  local namespace, reason = load_global(path)
  if not namespace then fail("NMPI_LIBMPI=%s could not be loaded: %s.", path, reason) end
  local version = version_in(namespace)
  if not version then fail("NMPI_LIBMPI=%s is not an MPI library: it has no MPI_Get_library_version.", path) end
  local abi, wanted = abi_of(version), getenv "NMPI_MPI"
  if wanted and wanted ~= abi then
    fail("NMPI_MPI=%s and NMPI_LIBMPI=%s contradict each other: that library is %s, of the ABI '%s'. "
      .. "Unset one of them.", wanted, path, first_line(version), abi)
  end
  if not core_path(abi) then
    fail("NMPI_LIBMPI=%s is %s and needs a core for the ABI '%s', but this nmpi was built for: %s.",
      path, first_line(version), abi, built_abis())
  end
  return namespace, abi
end

local function load_default()
  local reasons = {}
  for _, abi in ipairs(cdef.abis) do
    local namespace, reason = load_abi(abi)
    if namespace and core_path(abi) then return namespace, abi end
    reasons[#reasons + 1] = reason
  end
  fail("no MPI library could be loaded: %s. Install MPICH or Open MPI, or set NMPI_LIBMPI to the "
    .. "path of an MPI library.", table.concat(reasons, "; "))
end

local function load_mpi()
  local path, wanted = getenv "NMPI_LIBMPI", getenv "NMPI_MPI"
  if path then return load_path(path) end
  if wanted then
    if not SONAMES[wanted] then fail("NMPI_MPI=%s is no ABI: expected mpich or openmpi.", wanted) end
    return load_wanted(wanted, "NMPI_MPI=" .. wanted)
  end
  local present = abi_in_process()
  if present then return load_wanted(present, "the MPI library already in this process") end
  if launcher.abi then return load_wanted(launcher.abi, launcher.name) end
  return load_default()
end

local function load_core(abi)
  local path, reason = core_path(abi)
  if not path then
    fail("the core 'nmpi.core_%s' is not on package.cpath:%s\nSet LUA_CPATH.", abi, reason)
  end
  local loaded, core = pcall(ffi.load, path)
  if not loaded then fail("%s could not be loaded: %s", path, core) end
  local signed, signature = pcall(function() return ffi.string(core.nmpi_signature()) end)
  if not signed or signature ~= cdef.signature then
    fail("%s was built as %s, but the Lua files are of %s. Rebuild and reinstall nmpi.",
      path, signed and signature or "something else", cdef.signature)
  end
  return core
end

-- ---- sharing cores ----

-- The cores that the launcher may run on, which its ranks may be bound to some of; nil if the system does not tell.
local function cores()
  local words = 2048 -- far more than any system has cores for
  local mask, n = ffi.new("uint32_t[?]", words), 0
  if ffi.C.nmpi_affinity(ffi.C.nmpi_parent(), 4 * words, mask) < 0 then return nil end
  for i = 0, words - 1 do
    local word = mask[i]
    while word > 0 do
      n, word = n + word % 2, math.floor(word / 2)
    end
  end
  return n
end

-- Where MPICH's launcher has started more ranks here than there are cores, csrc/yielding.c lets them take turns.
local function share_cores()
  local ranks = tonumber(getenv "MPI_LOCALNRANKS")
  local path = ranks and package.searchpath("nmpi.yielding", package.cpath)
  if path and ranks > (cores() or ranks) then load_global(path) end
end

-- A call of nmpi's takes about 35 constants of a trace. LuaJIT's limit of 500 would keep a loop of more than 14 calls
-- from being compiled.
if jit.opt then jit.opt.start "maxirconst=2000" end

share_cores()
local library, abi = load_mpi()

return {
  version = cdef.version,
  library = library, -- a namespace that is collected unloads its library
  core = load_core(abi),
}
