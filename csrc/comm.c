/* SPDX-License-Identifier: MIT */
/* comm.c: communicators. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { NAME_LENGTH = 63 };

_Static_assert(MPI_MAX_OBJECT_NAME > NAME_LENGTH, "MPI holds shorter names");

nmpi_comm comm_world;
static nmpi_comm self, null;

/* Those that Lua had made and that are live, the oldest first. Several threads may have their own. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static nmpi_comm *first, *last;
static handle *unused;

static void describe(nmpi_comm *comm, MPI_Comm handle) {
  comm->handle = handle;
  comm->private_handle = MPI_COMM_NULL;
  MPI_Comm_rank(handle, &comm->rank);
  MPI_Comm_size(handle, &comm->size);
}

static void describe_grid(nmpi_comm *comm, MPI_Comm handle) {
  int topology, mine[NMPI_MAX_CART];
  MPI_Topo_test(handle, &topology);
  if (topology != MPI_CART) return;
  MPI_Cartdim_get(handle, &comm->ndims);
  MPI_Cart_get(handle, comm->ndims, comm->dims, comm->periods, mine);
}

void comm_init(void) {
  describe(&comm_world, MPI_COMM_WORLD);
  describe(&self, MPI_COMM_SELF);
  comm_world.h.live = &comm_world;
  self.h.live = &self;
}

nmpi_comm *nmpi_comm_world(void) {
  return &comm_world;
}

nmpi_comm *nmpi_comm_self(void) {
  return &self;
}

nmpi_comm *nmpi_comm_null(void) {
  return &null;
}

int fail_comm(const nmpi_comm *comm, const char *argument) {
  if (comm == &null) return fail(argument, "expected a communicator, got the null communicator");
  if (is_live()) return fail(argument, "expected a communicator, got one that has been freed");
  return fail(argument, "expected a live communicator, but MPI is finalised");
}

int nmpi_comm_rank(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  return comm->rank;
}

int nmpi_comm_size(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  return comm->size;
}

/* ---- making communicators ---- */

static nmpi_comm *new_struct(void) {
  pthread_mutex_lock(&mutex);
  nmpi_comm *comm = handle_new(&unused, sizeof *comm);
  if (comm != NULL) {
    comm->previous = last;
    *(last != NULL ? &last->next : &first) = comm;
    last = comm;
  }
  pthread_mutex_unlock(&mutex);
  return comm;
}

static void free_struct(nmpi_comm *comm) {
  pthread_mutex_lock(&mutex);
  free(comm->place);
  *(comm->previous != NULL ? &comm->previous->next : &first) = comm->next;
  *(comm->next != NULL ? &comm->next->previous : &last) = comm->previous;
  handle_free(&unused, &comm->h);
  pthread_mutex_unlock(&mutex);
}

int comm_adopt(MPI_Comm handle, const char *origin, nmpi_comm **made) {
  *made = &null;
  if (handle == MPI_COMM_NULL) return NMPI_SUCCESS;
  nmpi_comm *comm = new_struct();
  if (comm == NULL) {
    MPI_Comm_free(&handle);
    return fail("comm", "no memory for another communicator");
  }
  MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN);
  describe(comm, handle);
  describe_grid(comm, handle);
  comm->origin = origin;
  *made = comm->h.live;
  return NMPI_SUCCESS;
}

int nmpi_comm_dup(const nmpi_comm *comm, nmpi_comm **made) {
  MPI_Comm handle;
  TRY(check_comm(&comm));
  TRY(check_agreement(comm, "dup", -1, -1, 0));
  TRY(MPI_Comm_dup(comm->handle, &handle));
  return comm_adopt(handle, "dup", made);
}

int nmpi_comm_split(const nmpi_comm *comm, int color, int key, nmpi_comm **made) {
  MPI_Comm handle;
  TRY(check_comm(&comm));
  if (color < 0 && color != MPI_UNDEFINED) {
    return fail("color", "expected 0 or more, or UNDEFINED, got %d", color);
  }
  TRY(check_agreement(comm, "split", -1, -1, 0));
  TRY(MPI_Comm_split(comm->handle, color, key, &handle));
  return comm_adopt(handle, "split", made);
}

int nmpi_comm_split_shared(const nmpi_comm *comm, int key, nmpi_comm **made) {
  MPI_Comm handle;
  TRY(check_comm(&comm));
  TRY(check_agreement(comm, "split_type", -1, -1, 0));
  TRY(MPI_Comm_split_type(comm->handle, MPI_COMM_TYPE_SHARED, key, MPI_INFO_NULL, &handle));
  return comm_adopt(handle, "split_type", made);
}

/* A group that a part of a communicator is made of: all its processes belong to that. */
static int check_part(const nmpi_comm *comm, const nmpi_group **group) {
  MPI_Group whole, rest;
  int outside = 0;
  TRY(check_group(group, "group"));
  if ((*group)->within == comm->h.live) return NMPI_SUCCESS;
  TRY(MPI_Comm_group(comm->handle, &whole));
  int code = MPI_Group_difference((*group)->handle, whole, &rest);
  if (code == MPI_SUCCESS) {
    MPI_Group_size(rest, &outside);
    if (rest != MPI_GROUP_EMPTY) MPI_Group_free(&rest);
  }
  MPI_Group_free(&whole);
  if (outside > 0) {
    return fail("group", "expected processes of the communicator only, got %d others", outside);
  }
  if (code == MPI_SUCCESS) ((nmpi_group *)*group)->within = comm->h.live;
  return code;
}

int nmpi_comm_create(const nmpi_comm *comm, const nmpi_group *group, nmpi_comm **made) {
  MPI_Comm handle;
  TRY(check_comm(&comm));
  TRY(check_part(comm, &group));
  TRY(check_agreement(comm, "create", -1, -1, 0));
  TRY(MPI_Comm_create(comm->handle, group->handle, &handle));
  return comm_adopt(handle, "create", made);
}

int nmpi_comm_create_group(const nmpi_comm *comm, const nmpi_group *group, int tag,
                           nmpi_comm **made) {
  MPI_Comm handle = MPI_COMM_NULL;
  int rank;
  TRY(check_comm(&comm));
  TRY(check_part(comm, &group));
  TRY(check_send_tag(tag, "tag"));
  MPI_Group_rank(group->handle, &rank);
  /* Nobody waits for a process outside of the group. */
  if (rank != MPI_UNDEFINED) {
    TRY(MPI_Comm_create_group(comm->handle, group->handle, tag, &handle));
  }
  return comm_adopt(handle, "create_group", made);
}

int comm_private(const nmpi_comm *comm, MPI_Comm *handle) {
  *handle = comm->private_handle;
  if (*handle != MPI_COMM_NULL) return NMPI_SUCCESS;
  TRY(MPI_Comm_dup(comm->handle, handle));
  MPI_Comm_set_errhandler(*handle, MPI_ERRORS_RETURN);
  /* Two threads come here at once only where they err: by collective calls on one communicator. */
  ((nmpi_comm *)comm)->private_handle = *handle;
  return NMPI_SUCCESS;
}

/* ---- properties ---- */

int nmpi_comm_compare(const nmpi_comm *comm, const nmpi_comm *other, int *found) {
  int result;
  TRY(check_comm(&comm));
  if (other == NULL) return fail("other", "expected a communicator, got nil");
  const nmpi_comm *held = other;
  other = handle_of(held);
  if (other->h.live != held) return fail_comm(other, "other");
  TRY(MPI_Comm_compare(comm->handle, other->handle, &result));
  *found = result == MPI_IDENT       ? NMPI_IDENT
           : result == MPI_CONGRUENT ? NMPI_CONGRUENT
           : result == MPI_SIMILAR   ? NMPI_SIMILAR
                                     : NMPI_UNEQUAL;
  return NMPI_SUCCESS;
}

const char *nmpi_comm_name(const nmpi_comm *comm) {
  char *name = texts_mine()->comm_name;
  int length = 0;
  if (check_comm(&comm) != NMPI_SUCCESS) return NULL;
  name[0] = '\0';
  MPI_Comm_get_name(comm->handle, name, &length);
  return name;
}

int nmpi_comm_set_name(nmpi_comm *comm, const char *name) {
  const nmpi_comm *checked = comm;
  TRY(check_comm(&checked));
  if (strlen(name) > NAME_LENGTH) {
    return fail("name", "expected at most %d bytes, got %zu", NAME_LENGTH, strlen(name));
  }
  return MPI_Comm_set_name(checked->handle, name);
}

void nmpi_comm_set_place(nmpi_comm *made, const char *place) {
  nmpi_comm *comm = handle_of(made);
  comm->place = strdup(place);
}

/* ---- the end ---- */

static int free_private(nmpi_comm *comm) {
  MPI_Comm handle = comm->private_handle;
  comm->private_handle = MPI_COMM_NULL;
  return handle != MPI_COMM_NULL ? MPI_Comm_free(&handle) : MPI_SUCCESS;
}

int nmpi_comm_free(nmpi_comm *held) {
  const nmpi_comm *checked = held;
  TRY(check_comm(&checked));
  nmpi_comm *comm = handle_of(held);
  if (comm->origin == NULL) {
    return fail("comm", "%s cannot be freed", comm == &comm_world ? "COMM_WORLD" : "COMM_SELF");
  }
  if (!handle_claim(&comm->h, held)) return fail_comm(comm, "comm");
  int code = free_private(comm);
  if (code == MPI_SUCCESS) code = MPI_Comm_free(&comm->handle);
  if (code == MPI_SUCCESS) {
    free_struct(comm);
  } else {
    comm->h.live = held;
  }
  return code;
}

void comm_report(void) {
  if (!debugging()) return;
  pthread_mutex_lock(&mutex);
  for (const nmpi_comm *comm = first; comm != NULL; comm = comm->next) {
    const char *name = nmpi_comm_name(comm->h.live), *before = name[0] != '\0' ? " '" : "";
    fprintf(stderr, "nmpi: rank %d of %d: communicator%s%s%s, made by %s, was never freed%s%s\n",
            comm_world.rank, comm_world.size, before, name, name[0] != '\0' ? "'" : "",
            comm->origin, comm->place != NULL ? ": " : "", comm->place != NULL ? comm->place : "");
  }
  pthread_mutex_unlock(&mutex);
}

void comm_finalize(void) {
  pthread_mutex_lock(&mutex);
  for (nmpi_comm *comm = first; comm != NULL; comm = comm->next) {
    free_private(comm);
    comm->h.live = NULL;
  }
  pthread_mutex_unlock(&mutex);
  free_private(&comm_world);
  free_private(&self);
  comm_world.h.live = NULL;
  self.h.live = NULL;
}
