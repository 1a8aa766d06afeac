/* SPDX-License-Identifier: MIT */
/* group.c: groups of processes. All is local. */
#include <limits.h>
#include <stdlib.h>

#include "internal.h"

static nmpi_group empty;

void group_init(void) {
  empty = (nmpi_group){.handle = MPI_GROUP_EMPTY, .rank = MPI_UNDEFINED, .live = true};
}

int nmpi_undefined(void) {
  return MPI_UNDEFINED;
}

nmpi_group *nmpi_group_empty(void) {
  return &empty;
}

int check_group(const nmpi_group *group, const char *argument) {
  if (group == NULL) return fail(argument, "expected a group, got nil");
  if (!group->live) return fail(argument, "expected a group, got one that has been freed");
  if (!is_live()) return fail(argument, "expected a live group, but MPI is finalised");
  return NMPI_SUCCESS;
}

int nmpi_group_rank(const nmpi_group *group) {
  TRY(check_group(group, "group"));
  return group->rank;
}

int nmpi_group_size(const nmpi_group *group) {
  TRY(check_group(group, "group"));
  return group->size;
}

/* ---- making groups ---- */

/* Some operations hand out MPI_GROUP_EMPTY itself. */
static int free_handle(MPI_Group *handle) {
  return *handle != MPI_GROUP_EMPTY ? MPI_Group_free(handle) : MPI_SUCCESS;
}

static int adopt(MPI_Group handle, nmpi_group **made) {
  nmpi_group *group = calloc(1, sizeof *group);
  if (group == NULL) {
    free_handle(&handle);
    return fail("group", "no memory for another group");
  }
  group->handle = handle;
  group->live = true;
  MPI_Group_rank(handle, &group->rank);
  MPI_Group_size(handle, &group->size);
  *made = group;
  return NMPI_SUCCESS;
}

int nmpi_comm_group(const nmpi_comm *comm, nmpi_group **made) {
  MPI_Group handle;
  TRY(check_comm(&comm));
  TRY(MPI_Comm_group(comm->handle, &handle));
  return adopt(handle, made);
}

/* A copy of the elements of `ranks`, to be freed; NULL after a failure. */
static int *read_ranks(const nmpi_array *ranks) {
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
    list = malloc(sizeof *list * (size_t)(ranks->length + 1));
    if (list == NULL) {
      fail("ranks", "no memory to copy the ranks");
    } else {
      pack(list, ranks, ranks->length);
    }
  }
  return list;
}

static int check_ranks(const int *list, int64_t n, const nmpi_group *group, bool null_too) {
  for (int64_t i = 0; i < n; i++) {
    if (null_too && list[i] == MPI_PROC_NULL) continue;
    if (list[i] >= 0 && list[i] < group->size) continue;
    return fail("ranks", "expected ranks in a group of %d, got %d", group->size, list[i]);
  }
  return NMPI_SUCCESS;
}

static int check_distinct(const int *list, int64_t n, const nmpi_group *group) {
  bool *seen = calloc((size_t)group->size + 1, sizeof *seen);
  if (seen == NULL) return fail("ranks", "no memory to check the ranks");
  int code = NMPI_SUCCESS;
  for (int64_t i = 0; i < n && code == NMPI_SUCCESS; i++) {
    if (seen[list[i]]) code = fail("ranks", "expected each rank once, got %d again", list[i]);
    seen[list[i]] = true;
  }
  free(seen);
  return code;
}

static int choose(int (*operation)(MPI_Group, int, const int *, MPI_Group *),
                  const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made) {
  MPI_Group handle;
  TRY(check_group(group, "group"));
  int *list = read_ranks(ranks);
  if (list == NULL) return NMPI_ERR_ARGUMENT;
  int code = check_ranks(list, ranks->length, group, false);
  if (code == NMPI_SUCCESS) code = check_distinct(list, ranks->length, group);
  if (code == NMPI_SUCCESS) code = operation(group->handle, (int)ranks->length, list, &handle);
  free(list);
  return code == NMPI_SUCCESS ? adopt(handle, made) : code;
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
  TRY(check_group(group, "group"));
  TRY(check_group(other, "other"));
  TRY(operation(group->handle, other->handle, &handle));
  return adopt(handle, made);
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
  TRY(check_group(group, "group"));
  TRY(check_group(other, "other"));
  int *list = read_ranks(ranks);
  if (list == NULL) return NMPI_ERR_ARGUMENT;
  int code = check_ranks(list, ranks->length, group, true);
  if (code == NMPI_SUCCESS) {
    code = MPI_Group_translate_ranks(group->handle, (int)ranks->length, list, other->handle, found);
  }
  free(list);
  return code;
}

int nmpi_group_compare(const nmpi_group *group, const nmpi_group *other, int *found) {
  int result;
  TRY(check_group(group, "group"));
  TRY(check_group(other, "other"));
  TRY(MPI_Group_compare(group->handle, other->handle, &result));
  *found = result == MPI_IDENT ? NMPI_IDENT : result == MPI_SIMILAR ? NMPI_SIMILAR : NMPI_UNEQUAL;
  return NMPI_SUCCESS;
}

/* ---- the end ---- */

int nmpi_group_free(nmpi_group *group) {
  TRY(check_group(group, "group"));
  if (group == &empty) return fail("group", "GROUP_EMPTY cannot be freed");
  TRY(free_handle(&group->handle));
  group->live = false;
  return NMPI_SUCCESS;
}

void nmpi_group_drop(nmpi_group *group) {
  if (group == NULL || group == &empty) return;
  if (group->live && !nmpi_finalized()) free_handle(&group->handle);
  free(group);
}
