/* SPDX-License-Identifier: MIT */
/* state.c: Lua states of the core's own. */
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

#include "internal.h"

typedef struct settings {
  const char *path;
  const char *cpath;
  bool jit;
} settings;

static int set_up(lua_State *L) {
  const settings *s = lua_touserdata(L, 1);
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_pushstring(L, s->path);
  lua_setfield(L, -2, "path");
  lua_pushstring(L, s->cpath);
  lua_setfield(L, -2, "cpath");
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | (s->jit ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
  return 0;
}

lua_State *state_create(const char *path, const char *cpath, bool jit) {
  settings s = {path, cpath, jit};
  lua_State *L = luaL_newstate();
  if (L != NULL && lua_cpcall(L, set_up, &s) != 0) {
    lua_close(L);
    L = NULL;
  }
  if (L == NULL) fail(NULL, "no memory for another Lua state");
  return L;
}

int state_load(lua_State *L, const char *code, size_t bytes, const char *argument) {
  if (luaL_loadbuffer(L, code, bytes, "=?") == 0) return NMPI_SUCCESS;
  fail(argument, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
  return NMPI_ERR_ARGUMENT;
}

/* The message of an error, and where it came from. */
static int explain(lua_State *L) {
  if (luaL_callmeta(L, 1, "__tostring") && lua_isstring(L, -1)) lua_replace(L, 1);
  lua_settop(L, 1);
  if (!lua_isstring(L, 1)) {
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    lua_replace(L, 1);
  }
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

bool state_call(lua_State *L, int arguments, int results) {
  int handler = lua_gettop(L) - arguments;
  lua_pushcfunction(L, explain);
  lua_insert(L, handler);
  bool good = lua_pcall(L, arguments, results, handler) == 0;
  lua_remove(L, handler);
  return good;
}
