/* SPDX-License-Identifier: MIT */
/* group.c: groups of processes. All is local. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

static nmpi_group empty;

/* To leave a group to the garbage collector costs several times as much as to make it. So a thread leaves it those only
 * that it makes while it has so many that nobody has freed. */
enum { FORGOTTEN = 64 };

/* Structs to use again, which are the thread's own, and how many more groups it has made than freed. */
static THREAD_LOCAL struct {
  own o;
  handle *unused;
  int live;
} mine;

/* Of threads that have ended. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static handle *left;

static void leave(own *o) {
  o->leave = NULL;
  pthread_mutex_lock(&mutex);
  while (mine.unused != NULL) {
    handle *h = mine.unused;
    mine.unused = h->unused;
    h->unused = left;
    left = h;
  }
  pthread_mutex_unlock(&mutex);
}

LONG_PATH void join(void) {
  own_join(&mine.o, leave);
  pthread_mutex_lock(&mutex);
  mine.unused = left;
  left = NULL;
  pthread_mutex_unlock(&mutex);
}

static void free_struct(nmpi_group *group) {
  if (mine.o.leave == NULL) join();
  handle_free(&mine.unused, &group->h);
  mine.live--;
}

void group_init(void) {
  empty.handle = MPI_GROUP_EMPTY;
  empty.h.live = &empty;
}

int nmpi_undefined(void) {
  return MPI_UNDEFINED;
}

nmpi_group *nmpi_group_empty(void) {
  return &empty;
}

int fail_group(const nmpi_group *group, const char *argument) {
  if (group == NULL) return fail(argument, "expected a group, got nil");
  if (is_live()) return fail(argument, "expected a group, got one that has been freed");
  return fail(argument, "expected a live group, but MPI is finalised");
}

static int size_of(const nmpi_group *group) {
  int size;
  MPI_Group_size(group->handle, &size);
  return size;
}

int nmpi_group_rank(const nmpi_group *group) {
  int rank;
  TRY(check_group(&group, "group"));
  MPI_Group_rank(group->handle, &rank);
  return rank;
}

int nmpi_group_size(const nmpi_group *group) {
  TRY(check_group(&group, "group"));
  return size_of(group);
}

/* ---- making groups ---- */

/* Some operations hand out MPI_GROUP_EMPTY itself. */
static int free_handle(MPI_Group *handle) {
  return *handle != MPI_GROUP_EMPTY ? MPI_Group_free(handle) : MPI_SUCCESS;
}

static int adopt(MPI_Group handle, const nmpi_comm *within, nmpi_group **made) {
  if (RARELY(mine.o.leave == NULL)) join();
  nmpi_group *group = handle_new(&mine.unused, sizeof *group);
  if (group == NULL) {
    free_handle(&handle);
    return fail("group", "no memory for another group");
  }
  group->handle = handle;
  group->within = within;
  made[0] = group->h.live;
  made[1] = ++mine.live > FORGOTTEN ? made[0] : NULL;
  return NMPI_SUCCESS;
}

int nmpi_comm_group(const nmpi_comm *comm, nmpi_group **made) {
  MPI_Group handle;
  TRY(check_comm(&comm));
  TRY(MPI_Comm_group(comm->handle, &handle));
  return adopt(handle, comm->h.live, made);
}

/* Lists up to this length are read, and groups up to this size marked, without taking memory. */
enum { FEW = 64 };

/* A copy of the elements of `ranks`: `few`, or to be freed; NULL after a failure. */
static int *read_ranks(const nmpi_array *ranks, int few[FEW]) {
  int *list = NULL;
  if (ranks == NULL) {
    fail("ranks", "expected a list of ranks, got nil");
  } else if (ranks->type != NMPI_INT32) {
    const char *dtype = nmpi_dtype_name(ranks->type);
    fail("ranks", "expected a list of ranks or an array of int32, got one of %s",
         dtype != NULL ? dtype : "no dtype");
  } else if (ranks->length > INT_MAX) {
    fail("ranks", "expected at most %d ranks, got %lld", INT_MAX, (long long)ranks->length);
  } else {
    list = ranks->length <= FEW ? few : malloc(sizeof *list * (size_t)ranks->length);
    if (list == NULL) {
      fail("ranks", "no memory to copy the ranks");
    } else {
      pack(list, ranks, ranks->length);
    }
  }
  return list;
}

static void free_ranks(int *list, const int *few) {
  if (list != few) free(list);
}

static int check_ranks(const int *list, int64_t n, int size, bool null_too) {
  for (int64_t i = 0; i < n; i++) {
    if (null_too && list[i] == MPI_PROC_NULL) continue;
    if (list[i] >= 0 && list[i] < size) continue;
    return fail("ranks", "expected ranks in a group of %d, got %d", size, list[i]);
  }
  return NMPI_SUCCESS;
}

static int check_distinct(const int *list, int64_t n, int size) {
  bool few[FEW] = {false};
  bool *seen = size <= FEW ? few : calloc((size_t)size, sizeof *seen);
  if (seen == NULL) return fail("ranks", "no memory to check the ranks");
  int code = NMPI_SUCCESS;
  for (int64_t i = 0; i < n && code == NMPI_SUCCESS; i++) {
    if (seen[list[i]]) code = fail("ranks", "expected each rank once, got %d again", list[i]);
    seen[list[i]] = true;
  }
  if (seen != few) free(seen);
  return code;
}

static int choose(int (*operation)(MPI_Group, int, const int *, MPI_Group *),
                  const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made) {
  MPI_Group handle;
  int few[FEW];
  TRY(check_group(&group, "group"));
  int *list = read_ranks(ranks, few), size = size_of(group);
  if (list == NULL) return NMPI_ERR_ARGUMENT;
  int code = check_ranks(list, ranks->length, size, false);
  if (code == NMPI_SUCCESS) code = check_distinct(list, ranks->length, size);
  if (code == NMPI_SUCCESS) code = operation(group->handle, (int)ranks->length, list, &handle);
  free_ranks(list, few);
  return code == NMPI_SUCCESS ? adopt(handle, group->within, made) : code;
}

int nmpi_group_incl(const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made) {
  return choose(MPI_Group_incl, group, ranks, made);
}

int nmpi_group_excl(const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made) {
  return choose(MPI_Group_excl, group, ranks, made);
}

static int combine(int (*operation)(MPI_Group, MPI_Group, MPI_Group *), const nmpi_group *group,
                   const nmpi_group *other, nmpi_group **made) {
  MPI_Group handle;
  TRY(check_group(&group, "group"));
  TRY(check_group(&other, "other"));
  TRY(operation(group->handle, other->handle, &handle));
  return adopt(handle, group->within == other->within ? group->within : NULL, made);
}

int nmpi_group_union(const nmpi_group *group, const nmpi_group *other, nmpi_group **made) {
  return combine(MPI_Group_union, group, other, made);
}

int nmpi_group_intersection(const nmpi_group *group, const nmpi_group *other, nmpi_group **made) {
  return combine(MPI_Group_intersection, group, other, made);
}

int nmpi_group_difference(const nmpi_group *group, const nmpi_group *other, nmpi_group **made) {
  return combine(MPI_Group_difference, group, other, made);
}

/* ---- comparing groups ---- */

int nmpi_group_translate_ranks(const nmpi_group *group, const nmpi_array *ranks,
                               const nmpi_group *other, int *found) {
  int few[FEW];
  TRY(check_group(&group, "group"));
  TRY(check_group(&other, "other"));
  int *list = read_ranks(ranks, few);
  if (list == NULL) return NMPI_ERR_ARGUMENT;
  int code = check_ranks(list, ranks->length, size_of(group), true);
  if (code == NMPI_SUCCESS) {
    code = MPI_Group_translate_ranks(group->handle, (int)ranks->length, list, other->handle, found);
  }
  free_ranks(list, few);
  return code;
}

int nmpi_group_compare(const nmpi_group *group, const nmpi_group *other, int *found) {
  int result;
  TRY(check_group(&group, "group"));
  TRY(check_group(&other, "other"));
  TRY(MPI_Group_compare(group->handle, other->handle, &result));
  *found = result == MPI_IDENT ? NMPI_IDENT : result == MPI_SIMILAR ? NMPI_SIMILAR : NMPI_UNEQUAL;
  return NMPI_SUCCESS;
}

/* ---- the end ---- */

int nmpi_group_free(nmpi_group *held) {
  const nmpi_group *checked = held;
  TRY(check_group(&checked, "group"));
  nmpi_group *group = handle_of(held);
  if (group == &empty) return fail("group", "GROUP_EMPTY cannot be freed");
  if (!handle_claim(&group->h, held)) return fail_group(group, "group");
  int code = free_handle(&group->handle);
  if (code == MPI_SUCCESS) {
    free_struct(group);
  } else {
    group->h.live = held;
  }
  return code;
}

void nmpi_group_drop(nmpi_group *held) {
  nmpi_group *group = handle_of(held);
  if (group == NULL || group == &empty || !handle_claim(&group->h, held)) return;
  if (is_live()) free_handle(&group->handle);
  free_struct(group);
}
