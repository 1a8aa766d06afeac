/* SPDX-License-Identifier: MIT */
/* op.c: the predefined operators, which dtypes MPI defines them on (MPI-4.0 section 6.9.2), and those that scripts make. */
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
  operators[OP_##name_] = (nmpi_op){                                                               \
      .handle = MPI_##name_, .unsigned_handle = MPI_##name_, .name = #name_, .kinds = (kinds_)};
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
  return op != NULL ? op->name : operators[OP_SUM].name;
}

/* ---- operators made by scripts ---- */

/* MPI tells a user function the datatype, but not the operator. So each operator in Lua has datatypes of its own, by
 * which both are found. */
typedef struct variant {
  MPI_Datatype type;
  struct made *op;
  int dtype;
  bool live;
  struct variant *next;
} variant;

/* A Lua state of an operator, with its function on the stack. */
typedef struct state {
  lua_State *L;
  struct state *next;
} state;

typedef struct made {
  nmpi_op op;
  int dtype;  /* NMPI_NONE: every one but structs */
  int ctype;  /* see nmpi_array */
  char *code; /* NULL: a C function */
  size_t bytes;
  char *path;
  char *cpath;
  bool jit;
  variant variants[NMPI_DTYPE_COUNT];
  state *states; /* that nobody is in */
  int uses;      /* by calls and pending operations */
  bool live;
  bool ended;   /* nothing but the struct is left */
  bool dropped; /* nothing of Lua refers to it any more */
  char *place;  /* the line of the script that made it, or NULL */
  struct made *next;
  struct made *previous;
} made;

/* Guards what changes. MPI may hold locks of its own while it calls a user function, which takes this one: so nobody
 * calls MPI with it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* Held where a variant is made, for which MPI is called; never taken in a user function. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static made *first, *last; /* those that are live */
static variant *variants;  /* those of Lua operators */

static made *made_of(const nmpi_op *op) {
  return (made *)op;
}

/* ---- the states ---- */

static void state_free(state *s) {
  if (s->L != NULL) lua_close(s->L);
  free(s);
}

/* NULL after a failure. */
static state *state_new(const made *m) {
  state *s = calloc(1, sizeof *s);
  if (s == NULL) {
    fail(NULL, "no memory for another Lua state");
    return NULL;
  }
  s->L = state_create(m->path, m->cpath, m->jit);
  if (s->L != NULL && state_load(s->L, m->code, m->bytes, "fn") == NMPI_SUCCESS) {
    if (state_call(s->L, 0, 1) && lua_isfunction(s->L, 1)) return s;
    fail(NULL, "%s", lua_tostring(s->L, 1));
  }
  state_free(s);
  return NULL;
}

static void state_give(made *m, state *s) {
  pthread_mutex_lock(&mutex);
  s->next = m->states;
  m->states = s;
  pthread_mutex_unlock(&mutex);
}

static state *state_take(made *m) {
  pthread_mutex_lock(&mutex);
  state *s = m->states;
  if (s != NULL) m->states = s->next;
  pthread_mutex_unlock(&mutex);
  return s != NULL ? s : state_new(m);
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

static void clear(made *m) {
  while (m->states != NULL) {
    state *s = m->states;
    m->states = s->next;
    state_free(s);
  }
  free(m->code);
  free(m->path);
  free(m->cpath);
  free(m->place);
}

static void discard(made *m) {
  clear(m);
  free(m);
}

/* The end of an operator that is neither live nor in use. */
static void end(made *m) {
  for (variant *v = m->variants; v < m->variants + NMPI_DTYPE_COUNT; v++) {
    if (!v->live) continue;
    pthread_mutex_lock(&mutex);
    variant **link = &variants;
    while (*link != v) link = &(*link)->next;
    *link = v->next;
    pthread_mutex_unlock(&mutex);
    MPI_Type_free(&v->type);
  }
  MPI_Op_free(&m->op.handle);
  clear(m);
  pthread_mutex_lock(&mutex);
  m->ended = true;
  bool dropped = m->dropped;
  pthread_mutex_unlock(&mutex);
  if (dropped) free(m);
}

static void link_last(made *m) {
  pthread_mutex_lock(&mutex);
  m->live = true;
  m->previous = last;
  *(last != NULL ? &last->next : &first) = m;
  last = m;
  pthread_mutex_unlock(&mutex);
}

/* With the mutex held. */
static void unlink_from_list(made *m) {
  m->live = false;
  *(m->previous != NULL ? &m->previous->next : &first) = m->next;
  *(m->next != NULL ? &m->next->previous : &last) = m->previous;
}

static int check_live(void) {
  return is_live() ? NMPI_SUCCESS : fail(NULL, "MPI is finalised");
}

static int fail_memory(void) {
  return fail(NULL, "no memory for another operator");
}

/* A copy of the settings with code, or NULL. */
static made *made_new(const made *settings, const char *code, const char *path, const char *cpath) {
  made *m = malloc(sizeof *m);
  if (m == NULL) return NULL;
  *m = *settings;
  m->code = malloc(m->bytes);
  m->path = strdup(path);
  m->cpath = strdup(cpath);
  if (m->code != NULL && m->path != NULL && m->cpath != NULL) {
    memcpy(m->code, code, m->bytes);
    return m;
  }
  discard(m);
  return NULL;
}

static int adopt(made *m, MPI_User_function *function, int commute, nmpi_op **op) {
  int code = MPI_Op_create(function, commute, &m->op.handle);
  if (code != MPI_SUCCESS) {
    discard(m);
    return code;
  }
  link_last(m);
  *op = &m->op;
  return NMPI_SUCCESS;
}

int nmpi_op_create(const char *code, int64_t bytes, const char *path, const char *cpath, int jit,
                   int dtype, int ctype, int commute, nmpi_op **op) {
  TRY(check_live());
  made settings = {.dtype = dtype, .ctype = ctype, .bytes = (size_t)bytes, .jit = jit != 0};
  made *m = made_new(&settings, code, path, cpath);
  if (m == NULL) return fail_memory();
  state *s = state_new(m); /* what is wrong with the code is to be known now */
  if (s == NULL) {
    discard(m);
    return NMPI_ERR_ARGUMENT;
  }
  state_give(m, s);
  return adopt(m, apply, commute, op);
}

int nmpi_op_wrap(void *function, int dtype, int ctype, int commute, nmpi_op **op) {
  Dl_info info;
  TRY(check_live());
  /* A callback into Lua would end the process as soon as a compiled call comes to it. */
  if (dladdr(function, &info) == 0) {
    return fail("fn", "expected a function of a library, got a pointer to none (a callback?)");
  }
  made *m = calloc(1, sizeof *m);
  if (m == NULL) return fail_memory();
  m->dtype = dtype;
  m->ctype = ctype;
  return adopt(m, (MPI_User_function *)(uintptr_t)function, commute, op);
}

int nmpi_op_free(nmpi_op *op) {
  if (op->name != NULL) return fail("op", "MPI_%s cannot be freed", op->name);
  TRY(check_live());
  made *m = made_of(op);
  pthread_mutex_lock(&mutex);
  bool live = m->live, used = m->uses > 0;
  if (live) unlink_from_list(m);
  pthread_mutex_unlock(&mutex);
  if (!live) return fail("op", "expected an operator, got one that has been freed");
  if (!used) end(m);
  return NMPI_SUCCESS;
}

void nmpi_op_drop(nmpi_op *op) {
  if (op == NULL || op->name != NULL) return;
  made *m = made_of(op);
  pthread_mutex_lock(&mutex);
  m->dropped = true;
  bool ended = m->ended;
  pthread_mutex_unlock(&mutex);
  if (ended) free(m);
}

void nmpi_op_set_place(nmpi_op *op, const char *place) {
  made_of(op)->place = strdup(place);
}

void op_finalize(void) {
  for (made *m = first, *next; m != NULL; m = next) {
    next = m->next;
    if (debugging()) {
      fprintf(stderr, "nmpi: rank %d of %d: operator, made by op, was never freed%s%s\n",
              comm_world.rank, comm_world.size, m->place != NULL ? ": " : "",
              m->place != NULL ? m->place : "");
    }
    m->live = false;
    end(m);
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
  const char *name = nmpi_dtype_name(data->type);
  if (op->name != NULL) {
    return fail("op", "MPI_%s is not defined on the dtype of '%s', %s", op->name, argument, name);
  }
  const made *m = made_of(op);
  pthread_mutex_lock(&mutex);
  bool live = m->live;
  pthread_mutex_unlock(&mutex);
  if (!live) return fail("op", "expected an operator, got one that has been freed");
  if (m->dtype == NMPI_NONE && data->type != NMPI_STRUCT) return NMPI_SUCCESS;
  if (m->dtype == data->type && m->ctype == data->ctype) return NMPI_SUCCESS;
  if (m->dtype == NMPI_NONE) {
    return fail("op",
                "expected an operator made for the struct of '%s', got one made without a dtype",
                argument);
  }
  return fail("op", "expected an operator made for the dtype of '%s', %s, got one made for %s%s",
              argument, name, data->type == m->dtype ? "another " : "", nmpi_dtype_name(m->dtype));
}

static int variant_type(made *m, const nmpi_array *data, MPI_Datatype *type) {
  variant *v = &m->variants[data->type];
  int code = MPI_SUCCESS;
  pthread_mutex_lock(&making);
  if (!v->live) {
    MPI_Datatype new;
    code = MPI_Type_contiguous(data->itemsize, MPI_BYTE, &new);
    if (code == MPI_SUCCESS) code = MPI_Type_commit(&new);
    if (code == MPI_SUCCESS) {
      pthread_mutex_lock(&mutex);
      *v = (variant){new, m, data->type, true, variants};
      variants = v;
      pthread_mutex_unlock(&mutex);
    }
  }
  *type = v->type;
  pthread_mutex_unlock(&making);
  return code;
}

int op_begin(const nmpi_op *op, const nmpi_array *data, MPI_Op *handle, MPI_Datatype *type) {
  *handle = op_handle(op, data->type);
  *type = dtypes[data->type].type;
  if (op->name != NULL) return NMPI_SUCCESS;
  made *m = made_of(op);
  pthread_mutex_lock(&mutex);
  bool live = m->live;
  if (live) m->uses++;
  pthread_mutex_unlock(&mutex);
  if (!live) return fail("op", "expected an operator, got one that has been freed");
  *handle = op->handle;
  if (m->code == NULL && data->type != NMPI_STRUCT) return NMPI_SUCCESS;
  int code = variant_type(m, data, type);
  if (code != MPI_SUCCESS) op_end(op);
  return code;
}

void op_end(const nmpi_op *op) {
  if (op->name != NULL) return;
  made *m = made_of(op);
  pthread_mutex_lock(&mutex);
  bool done = --m->uses == 0 && !m->live;
  pthread_mutex_unlock(&mutex);
  if (done) end(m);
}
