/* SPDX-License-Identifier: MIT */
/* op.c: MPI's operators, which dtypes it defines them on (MPI-4.0 section 6.9.2), and those that scripts make. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr */
#endif
#include <dlfcn.h>
#include <lua.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define OPERATORS(X)                                                                               \
  X(SUM, KIND_INTEGER | KIND_REAL | KIND_COMPLEX)                                                  \
  X(PROD, KIND_INTEGER | KIND_REAL | KIND_COMPLEX)                                                 \
  X(MAX, KIND_INTEGER | KIND_REAL)                                                                 \
  X(MIN, KIND_INTEGER | KIND_REAL)                                                                 \
  X(LAND, KIND_INTEGER | KIND_LOGICAL)                                                             \
  X(BAND, KIND_INTEGER)                                                                            \
  X(LOR, KIND_INTEGER | KIND_LOGICAL)                                                              \
  X(BOR, KIND_INTEGER)                                                                             \
  X(LXOR, KIND_INTEGER | KIND_LOGICAL)                                                             \
  X(BXOR, KIND_INTEGER)                                                                            \
  X(MAXLOC, KIND_PAIR)                                                                             \
  X(MINLOC, KIND_PAIR)

enum {
#define POSITION(name, kinds) OP_##name,
  OPERATORS(POSITION)
#undef POSITION
      OP_COUNT
};

static nmpi_op operators[OP_COUNT];
nmpi_op *const op_sum = &operators[OP_SUM];

/* ---- MPI_MAX and MPI_MIN of unsigned integers, for an MPI that gets them wrong ---- */

static void keep(const void *in, void *inout, int n, MPI_Datatype type, bool larger) {
  int size = 0;
  MPI_Type_size(type, &size);
  if (size == 1) {
    const uint8_t *a = in;
    uint8_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else if (size == 2) {
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else if (size == 4) {
    const uint32_t *a = in;
    uint32_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else {
    const uint64_t *a = in;
    uint64_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  }
}

static void keep_larger(void *in, void *inout, int *n, MPI_Datatype *type) {
  keep(in, inout, *n, *type, true);
}

static void keep_smaller(void *in, void *inout, int *n, MPI_Datatype *type) {
  keep(in, inout, *n, *type, false);
}

/* MPICH 4.0 compares unsigned integers as if they had a sign. */
static bool compares_signed(void) {
  uint8_t high = UINT8_MAX, low = 1;
  MPI_Reduce_local(&high, &low, 1, MPI_UINT8_T, MPI_MAX);
  return low != UINT8_MAX;
}

void op_init(void) {
#define FILL(name_, kinds_)                                                                        \
  operators[OP_##name_] = (nmpi_op){.h.live = &operators[OP_##name_],                              \
                                    .handle = MPI_##name_,                                         \
                                    .unsigned_handle = MPI_##name_,                                \
                                    .name = #name_,                                                \
                                    .kinds = (kinds_)};
  OPERATORS(FILL)
#undef FILL
  if (compares_signed()) {
    MPI_Op_create(keep_larger, 1, &operators[OP_MAX].unsigned_handle);
    MPI_Op_create(keep_smaller, 1, &operators[OP_MIN].unsigned_handle);
  }
}

nmpi_op *nmpi_op_predefined(int position) {
  return position >= 0 && position < OP_COUNT ? &operators[position] : NULL;
}

const char *nmpi_op_name(const nmpi_op *op) {
  const nmpi_op *found = op != NULL ? handle_of(op) : op_sum;
  return found->name;
}

/* ---- operators made by scripts ---- */

/* MPI tells a user function the datatype, but not the operator. So each operator in Lua has datatypes of its own, by
 * which both are found. */
typedef struct variant {
  MPI_Datatype type;
  struct custom *op;
  int dtype;
  bool live;
  struct variant *next;
} variant;

/* A Lua state of an operator, with its function on the stack. */
typedef struct state {
  lua_State *L;
  struct state *next;
} state;

typedef struct custom {
  nmpi_op op;
  int dtype;  /* NMPI_NONE: every one but structs */
  int ctype;  /* see nmpi_array */
  char *code; /* NULL: a C function */
  size_t bytes;
  char *path;
  char *cpath;
  bool jit;
  void *library; /* that the C function is in, or NULL */
  variant variants[NMPI_DTYPE_COUNT];
  state *states; /* that nobody is in */
  int uses;      /* by calls and pending operations */
  char *place;   /* the line of the script that made it, or NULL */
  struct custom *next;
  struct custom *previous;
} custom;

/* Guards what changes. MPI may hold locks of its own while it calls a user function, which takes this one: so nobody
 * calls MPI with it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* Held where a variant is made, for which MPI is called; never taken in a user function. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static custom *first, *last; /* those that are live */
static handle *unused;
static variant *variants; /* those of Lua operators */

/* ---- the states ---- */

static void state_free(state *s) {
  if (s->L != NULL) lua_close(s->L);
  free(s);
}

/* NULL after a failure. */
static state *state_new(const custom *c) {
  state *s = calloc(1, sizeof *s);
  if (s == NULL) {
    fail(NULL, "no memory for another Lua state");
    return NULL;
  }
  s->L = state_create(c->path, c->cpath, c->jit);
  if (s->L != NULL && state_load(s->L, c->code, c->bytes, "fn") == NMPI_SUCCESS) {
    if (state_call(s->L, 0, 1) && lua_isfunction(s->L, 1)) return s;
    fail(NULL, "%s", lua_tostring(s->L, 1));
  }
  state_free(s);
  return NULL;
}

static void state_give(custom *c, state *s) {
  pthread_mutex_lock(&mutex);
  s->next = c->states;
  c->states = s;
  pthread_mutex_unlock(&mutex);
}

static state *state_take(custom *c) {
  pthread_mutex_lock(&mutex);
  state *s = c->states;
  if (s != NULL) c->states = s->next;
  pthread_mutex_unlock(&mutex);
  return s != NULL ? s : state_new(c);
}

static const variant *variant_find(MPI_Datatype type) {
  pthread_mutex_lock(&mutex);
  const variant *v = variants;
  while (v != NULL && v->type != type) v = v->next;
  pthread_mutex_unlock(&mutex);
  return v;
}

static void give_up(const char *message) {
  fprintf(stderr, "nmpi: rank %d of %d: in an operator: %s\n", comm_world.rank, comm_world.size,
          message);
  nmpi_abort(1);
}

/* What MPI calls for every operator in Lua. */
static void apply(void *in, void *inout, int *n, MPI_Datatype *type) {
  const variant *v = variant_find(*type);
  if (v == NULL) {
    give_up("this MPI calls it with another datatype than it was given");
    return;
  }
  state *s = state_take(v->op);
  if (s == NULL) {
    give_up(nmpi_error_message());
    return;
  }
  lua_State *L = s->L;
  lua_pushvalue(L, 1);
  lua_pushstring(L, nmpi_dtype_ctype(v->dtype));
  lua_pushlightuserdata(L, in);
  lua_pushlightuserdata(L, inout);
  lua_pushinteger(L, *n);
  if (!state_call(L, 4, 0)) give_up(lua_tostring(L, -1));
  state_give(v->op, s);
}

/* ---- making and freeing ---- */

/* A struct with what the settings say of the operator; NULL after a failure. */
static custom *custom_new(const custom *settings) {
  pthread_mutex_lock(&mutex);
  custom *c = handle_new(&unused, sizeof *c);
  if (c != NULL) {
    handle h = c->op.h;
    *c = *settings;
    c->op.h = h;
  }
  pthread_mutex_unlock(&mutex);
  if (c == NULL) fail(NULL, "no memory for another operator");
  return c;
}

static void custom_free(custom *c) {
  while (c->states != NULL) {
    state *s = c->states;
    c->states = s->next;
    state_free(s);
  }
  free(c->code);
  free(c->path);
  free(c->cpath);
  free(c->place);
  if (c->library != NULL) dlclose(c->library);
  pthread_mutex_lock(&mutex);
  handle_free(&unused, &c->op.h);
  pthread_mutex_unlock(&mutex);
}

/* The end of an operator that is neither live nor in use. */
static void end(custom *c) {
  for (variant *v = c->variants; v < c->variants + NMPI_DTYPE_COUNT; v++) {
    if (!v->live) continue;
    pthread_mutex_lock(&mutex);
    variant **link = &variants;
    while (*link != v) link = &(*link)->next;
    *link = v->next;
    pthread_mutex_unlock(&mutex);
    MPI_Type_free(&v->type);
  }
  MPI_Op_free(&c->op.handle);
  custom_free(c);
}

static void link_last(custom *c) {
  pthread_mutex_lock(&mutex);
  c->previous = last;
  *(last != NULL ? &last->next : &first) = c;
  last = c;
  pthread_mutex_unlock(&mutex);
}

/* With the mutex held. */
static void unlink_from_list(custom *c) {
  c->op.h.live = NULL;
  *(c->previous != NULL ? &c->previous->next : &first) = c->next;
  *(c->next != NULL ? &c->next->previous : &last) = c->previous;
}

static int check_live(void) {
  return is_live() ? NMPI_SUCCESS : fail(NULL, "MPI is finalised");
}

static int adopt(custom *c, MPI_User_function *function, int commute, nmpi_op **made) {
  int code = MPI_Op_create(function, commute, &c->op.handle);
  if (code != MPI_SUCCESS) {
    custom_free(c);
    return code;
  }
  link_last(c);
  *made = c->op.h.live;
  return NMPI_SUCCESS;
}

int nmpi_op_create(const char *code, int64_t bytes, const char *path, const char *cpath, int jit,
                   int dtype, int ctype, int commute, nmpi_op **made) {
  TRY(check_live());
  const custom settings = {.dtype = dtype, .ctype = ctype, .bytes = (size_t)bytes, .jit = jit != 0};
  custom *c = custom_new(&settings);
  if (c == NULL) return NMPI_ERR_ARGUMENT;
  c->code = malloc(c->bytes);
  c->path = strdup(path);
  c->cpath = strdup(cpath);
  if (c->code == NULL || c->path == NULL || c->cpath == NULL) {
    custom_free(c);
    return fail(NULL, "no memory for another operator");
  }
  memcpy(c->code, code, c->bytes);
  state *s = state_new(c); /* what is wrong with the code is to be known now */
  if (s == NULL) {
    custom_free(c);
    return NMPI_ERR_ARGUMENT;
  }
  state_give(c, s);
  return adopt(c, apply, commute, made);
}

int nmpi_op_wrap(void *function, int dtype, int ctype, int commute, nmpi_op **made) {
  Dl_info info;
  TRY(check_live());
  /* A callback into Lua would end the process as soon as a compiled call comes to it. */
  if (dladdr(function, &info) == 0) {
    return fail("fn", "expected a function of a library, got a pointer to none (a callback?)");
  }
  /* LuaJIT unloads a library whose namespace it collects. */
  void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  const custom settings = {.dtype = dtype, .ctype = ctype, .library = library};
  custom *c = custom_new(&settings);
  if (c == NULL) {
    if (library != NULL) dlclose(library);
    return NMPI_ERR_ARGUMENT;
  }
  return adopt(c, (MPI_User_function *)(uintptr_t)function, commute, made);
}

static int fail_freed(void) {
  return fail("op", "expected an operator, got one that has been freed");
}

int nmpi_op_free(nmpi_op *held) {
  custom *c = handle_of(held);
  if (c->op.name != NULL) return fail("op", "MPI_%s cannot be freed", c->op.name);
  TRY(check_live());
  pthread_mutex_lock(&mutex);
  bool live = c->op.h.live == held, used = live && c->uses > 0;
  if (live) unlink_from_list(c);
  pthread_mutex_unlock(&mutex);
  if (!live) return fail_freed();
  if (!used) end(c);
  return NMPI_SUCCESS;
}

void nmpi_op_set_place(nmpi_op *made, const char *place) {
  custom *c = handle_of(made);
  c->place = strdup(place);
}

void op_finalize(void) {
  for (custom *c = first, *next; c != NULL; c = next) {
    next = c->next;
    if (debugging()) {
      fprintf(stderr, "nmpi: rank %d of %d: operator, made by op, was never freed%s%s\n",
              comm_world.rank, comm_world.size, c->place != NULL ? ": " : "",
              c->place != NULL ? c->place : "");
    }
    end(c);
  }
  first = NULL;
  last = NULL;
  for (int i = 0; i < OP_COUNT; i++) {
    nmpi_op *op = &operators[i];
    if (op->unsigned_handle != op->handle) MPI_Op_free(&op->unsigned_handle);
  }
}

/* ---- in a reduction ---- */

int check_made_op(const nmpi_op *op, const nmpi_array *data, const char *argument) {
  const nmpi_op *held = op != NULL ? op : op_sum;
  const nmpi_op *found = handle_of(held);
  const char *name = nmpi_dtype_name(data->type);
  if (found->name != NULL) {
    return fail("op", "MPI_%s is not defined on the dtype of '%s', %s", found->name, argument,
                name);
  }
  const custom *c = (const custom *)found;
  pthread_mutex_lock(&mutex);
  bool live = c->op.h.live == held;
  int dtype = c->dtype, ctype = c->ctype;
  pthread_mutex_unlock(&mutex);
  if (!live) return fail_freed();
  if (dtype == NMPI_NONE && data->type != NMPI_STRUCT) return NMPI_SUCCESS;
  if (dtype == data->type && ctype == data->ctype) return NMPI_SUCCESS;
  if (dtype == NMPI_NONE) {
    return fail("op",
                "expected an operator made for the struct of '%s', got one made without a dtype",
                argument);
  }
  return fail("op", "expected an operator made for the dtype of '%s', %s, got one made for %s%s",
              argument, name, data->type == dtype ? "another " : "", nmpi_dtype_name(dtype));
}

static int variant_type(custom *c, const nmpi_array *data, MPI_Datatype *type) {
  variant *v = &c->variants[data->type];
  int code = MPI_SUCCESS;
  pthread_mutex_lock(&making);
  if (!v->live) {
    MPI_Datatype new;
    code = MPI_Type_contiguous(data->itemsize, MPI_BYTE, &new);
    if (code == MPI_SUCCESS) code = MPI_Type_commit(&new);
    if (code == MPI_SUCCESS) {
      pthread_mutex_lock(&mutex);
      *v = (variant){new, c, data->type, true, variants};
      variants = v;
      pthread_mutex_unlock(&mutex);
    }
  }
  *type = v->type;
  pthread_mutex_unlock(&making);
  return code;
}

int op_begin(const nmpi_op *op, const nmpi_array *data, MPI_Op *handle, MPI_Datatype *type) {
  custom *c = handle_of(op);
  *handle = op_handle(&c->op, data->type);
  *type = dtypes[data->type].type;
  if (c->op.name != NULL) return NMPI_SUCCESS;
  pthread_mutex_lock(&mutex);
  bool live = c->op.h.live == op;
  if (live) c->uses++;
  pthread_mutex_unlock(&mutex);
  if (!live) return fail_freed();
  *handle = c->op.handle;
  if (c->code == NULL && data->type != NMPI_STRUCT) return NMPI_SUCCESS;
  int code = variant_type(c, data, type);
  if (code != MPI_SUCCESS) op_end(op);
  return code;
}

void op_end(const nmpi_op *op) {
  custom *c = handle_of(op);
  if (c->op.name != NULL) return;
  pthread_mutex_lock(&mutex);
  bool done = --c->uses == 0 && c->op.h.live == NULL;
  pthread_mutex_unlock(&mutex);
  if (done) end(c);
}
