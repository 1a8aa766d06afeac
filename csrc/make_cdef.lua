-- SPDX-License-Identifier: MIT
-- Build step: extracts the FFI part of nmpi.h, proves that LuaJIT parses it, and writes cdef.lua and
-- signature.h. Arguments: nmpi.h cdef.lua signature.h version (abi=libdir)...
local ffi, bit = require "ffi", require "bit"

local header_path, cdef_path, signature_path, version = ...
local header = assert(io.open(header_path)):read "*a"
local text = assert(header:match "/%* NMPI_CDEF_BEGIN %*/\n(.*)/%* NMPI_CDEF_END %*/",
  header_path .. ": the NMPI_CDEF markers are missing")
text = text:gsub("NMPI_CONST", "const")
ffi.cdef(text)

-- Comments and white space do not change the ABI, so they do not change the signature (FNV-1a).
local hash = 0x811c9dc5
for char in text:gsub("/%*.-%*/", ""):gsub("%s+", " "):gmatch "." do
  local mixed = bit.bxor(hash, char:byte())
  hash = bit.tobit(bit.lshift(mixed, 24) + mixed * 0x193)
end
local signature = version .. "-" .. bit.tohex(hash)

local abis, libdirs = {}, {}
for i = 5, select("#", ...) do
  local abi, libdir = select(i, ...):match "^(%w+)=(.*)$"
  abis[#abis + 1] = ("%q"):format(abi)
  libdirs[#libdirs + 1] = ("%s = %q"):format(abi, libdir)
end

local function write(path, content)
  local file = assert(io.open(path, "w"))
  assert(file:write(content))
  assert(file:close())
end

write(signature_path, ('#define NMPI_SIGNATURE "%s"\n'):format(signature))
write(cdef_path, ([[
-- Made by the build from csrc/nmpi.h.
return {
  version = %q,
  signature = %q,
  abis = { %s },
  libdirs = { %s },
  declarations = [=[
%s]=],
}
]]):format(version, signature, table.concat(abis, ", "), table.concat(libdirs, ", "), text))
