rockspec_format = "3.0"
package = "nmpi"
version = "scm-1"
source = { url = "." }
description = {
  summary = "MPI for LuaJIT",
  detailed = "Message passing on arrays of numbers from LuaJIT, in compiled code. Needs Meson and an MPI (MPICH or Open MPI).",
  license = "MIT",
}
dependencies = { "lua == 5.1" }
build = {
  type = "command",
  build_command = "meson setup build-rock --prefix=$(PREFIX) --bindir=$(BINDIR) -Dlua_dir=$(LUADIR) -Dlib_dir=$(LIBDIR)"
    .. " && meson compile -C build-rock",
  install_command = "meson install -C build-rock",
}
