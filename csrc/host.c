/* SPDX-License-Identifier: MIT */
/* host.c: the program `nmpi`. It makes a LuaJIT state that finds nmpi's modules; nmpi.host does the
 * rest. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

struct command_line {
  int argc;
  char **argv;
};

/* Pushes the directory that this program lies in, without symbolic links; false if the system does
 * not tell. */
static int push_directory(lua_State *L) {
  char path[PATH_MAX], *end;
#ifdef __APPLE__
  char given[PATH_MAX];
  uint32_t size = sizeof given;
  if (_NSGetExecutablePath(given, &size) != 0 || realpath(given, path) == NULL) return 0;
#else
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
#endif
  end = strrchr(path, '/');
  if (end == NULL) return 0;
  lua_pushlstring(L, path, (size_t)(end - path));
  return 1;
}

/* Puts `templates` before what package[field] has. */
static void prepend(lua_State *L, const char *field, const char *templates) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, field);
  lua_pushfstring(L, "%s;%s", templates, lua_tostring(L, -1));
  lua_setfield(L, -3, field);
  lua_pop(L, 2);
}

/* The modules lie beside the program (build directory) or where `install` put them; else in
 * LUA_PATH. */
static void find_modules(lua_State *L) {
  static const char *const places[][2] = {{"lua", "lua"}, {"../share/lua/5.1", "../lib/lua/5.1"}};
  if (!push_directory(L)) return;
  const char *directory = lua_tostring(L, -1);
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    const char *lua = lua_pushfstring(L, "%s/%s", directory, places[i][0]);
    if (access(lua_pushfstring(L, "%s/nmpi/host.lua", lua), R_OK) != 0) continue;
    prepend(L, "path", lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", lua, lua));
    prepend(L, "cpath", lua_pushfstring(L, "%s/%s/?.so", directory, places[i][1]));
    break;
  }
  lua_settop(L, 0);
}

/* Runs nmpi.host, which ends the process through os.exit as the script left it. */
static int run(lua_State *L) {
  const struct command_line *line = lua_touserdata(L, 1);
  lua_settop(L, 0);
  luaL_openlibs(L);
  find_modules(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nmpi.host");
  lua_call(L, 1, 1);
  lua_createtable(L, line->argc, 1);
  for (int i = 0; i < line->argc; i++) {
    lua_pushstring(L, line->argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_call(L, 1, 0);
  return 0;
}

int main(int argc, char **argv) {
  struct command_line line = {argc, argv};
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    fputs("nmpi: cannot create a Lua state: not enough memory\n", stderr);
    return EXIT_FAILURE;
  }
  if (lua_cpcall(L, run, &line) != 0) fprintf(stderr, "nmpi: %s\n", lua_tostring(L, -1));
  return EXIT_FAILURE;
}
