/* SPDX-License-Identifier: MIT */
/* datatype.c: MPI datatypes for views, where MPI moves them faster than packing does. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* From so many bytes on, a view, what it is packed in and what it is received in do not stay in the caches: an eighth of
 * the last one, within bounds. */
enum { SHARE = 8, LEAST_LARGE = 1 << 20, MOST_LARGE = 4 << 20 };
static int64_t large = LEAST_LARGE;

void datatype_init(void) {
  char text[32] = "";
  FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r"); /* such as 8192K */
  if (file == NULL) return;
  if (fgets(text, sizeof text, file) != NULL) {
    int64_t bytes = strtoll(text, NULL, 10) / SHARE * 1024;
    if (bytes > LEAST_LARGE) large = bytes < MOST_LARGE ? bytes : MOST_LARGE;
  }
  fclose(file);
}

/* How many bytes must lie in a row for MPI to gain by copying straight between the view and what it sends through: that
 * saves a copy. Shorter runs cost it more than the copy, the sender of a message in the caches sooner than the
 * receiver. Measured with runs of 8 bytes to 64 KiB in messages of 1 KiB to 64 MiB, packed or described at each end, on
 * Zen 1 and Zen 5: to receive by a datatype saves up to a fifth of the time, with MPICH in short messages only; to do
 * both saves up to two thirds in large ones. Where the two ranks do not share a cache it may cost that much, and what
 * it saves in others is less. */
static int64_t least_run(int64_t bytes, bool sent) {
#ifdef OPEN_MPI
  if (!sent) return 64;
  return bytes >= large ? 128 : INT64_MAX;
#else
  if (bytes >= large) return 512;
  return bytes > 64 << 10 ? INT64_MAX : sent ? 4096 : 128;
#endif
}

/* ---- the types of a thread, by what they describe ---- */

enum { CACHED = 64 };

typedef struct layout {
  MPI_Datatype unit;
  int64_t units; /* of an element */
  int64_t size;  /* of an element, in bytes */
  int depth;
  int64_t extent[NMPI_MAX_NDIM];
  int64_t stride[NMPI_MAX_NDIM];
} layout;

typedef struct entry {
  MPI_Datatype type;
  uint64_t hash; /* 0: free */
  uint64_t used; /* the time of its last use, in uses */
  layout layout;
} entry;

typedef struct cache {
  own o;
  entry entries[CACHED];
  uint64_t uses;
  struct cache *next;
} cache;

static cache *caches; /* of all threads */
static bool finalized;
static pthread_mutex_t caches_mutex = PTHREAD_MUTEX_INITIALIZER;
static THREAD_LOCAL cache *mine;

static void cache_clear(cache *c) {
  for (int i = 0; i < CACHED; i++) {
    if (c->entries[i].hash != 0) MPI_Type_free(&c->entries[i].type);
    c->entries[i].hash = 0;
  }
}

static void cache_leave(own *o) {
  cache *c = (cache *)o, **link = &caches;
  mine = NULL;
  pthread_mutex_lock(&caches_mutex);
  if (!finalized) cache_clear(c);
  while (*link != c) link = &(*link)->next;
  *link = c->next;
  pthread_mutex_unlock(&caches_mutex);
  free(c);
}

static cache *cache_mine(void) {
  if (mine != NULL) return mine;
  mine = calloc(1, sizeof *mine);
  if (mine == NULL) return NULL;
  own_join(&mine->o, cache_leave);
  pthread_mutex_lock(&caches_mutex);
  mine->next = caches;
  caches = mine;
  pthread_mutex_unlock(&caches_mutex);
  return mine;
}

void datatype_finalize(void) {
  pthread_mutex_lock(&caches_mutex);
  for (cache *c = caches; c != NULL; c = c->next) cache_clear(c);
  finalized = true;
  pthread_mutex_unlock(&caches_mutex);
}

static uint64_t mix(uint64_t hash, int64_t value) {
  hash = (hash ^ (uint64_t)value) * 0x9e3779b97f4a7c15U;
  return hash ^ hash >> 29;
}

static uint64_t hash_of(const layout *l) {
  uint64_t hash = mix((uint64_t)l->size, l->depth);
  for (int d = 0; d < l->depth; d++) hash = mix(mix(hash, l->extent[d]), l->stride[d]);
  return hash != 0 ? hash : 1;
}

static bool is_same(const layout *a, const layout *b) {
  size_t bytes = (size_t)a->depth * sizeof a->extent[0];
  return a->unit == b->unit && a->size == b->size && a->depth == b->depth &&
         memcmp(a->extent, b->extent, bytes) == 0 && memcmp(a->stride, b->stride, bytes) == 0;
}

static int type_create(const layout *l, MPI_Datatype *type) {
  int inner = l->depth - 1, code;
  code = MPI_Type_create_hvector((int)l->extent[inner - 1], (int)(l->extent[inner] * l->units),
                                 (MPI_Aint)(l->stride[inner - 1] * l->size), l->unit, type);
  for (int d = inner - 2; d >= 0 && code == MPI_SUCCESS; d--) {
    MPI_Datatype part = *type;
    code = MPI_Type_create_hvector((int)l->extent[d], 1, (MPI_Aint)(l->stride[d] * l->size), part,
                                   type);
    MPI_Type_free(&part);
  }
  return code == MPI_SUCCESS ? MPI_Type_commit(type) : code;
}

/* The type of a layout, which stays valid while this thread asks for fewer than CACHED others; false where it cannot
 * be made. MPI keeps one that is freed for as long as a pending operation needs it. */
static bool type_find(const layout *l, MPI_Datatype *type) {
  cache *c = cache_mine();
  if (c == NULL) return false;
  uint64_t hash = hash_of(l);
  entry *oldest = &c->entries[0];
  for (entry *e = c->entries; e < c->entries + CACHED; e++) {
    if (e->hash == hash && is_same(&e->layout, l)) {
      e->used = ++c->uses;
      *type = e->type;
      return true;
    }
    if (e->used < oldest->used) oldest = e;
  }
  MPI_Datatype made;
  if (type_create(l, &made) != MPI_SUCCESS) return false;
  if (oldest->hash != 0) MPI_Type_free(&oldest->type);
  *oldest = (entry){made, hash, ++c->uses, *l};
  *type = made;
  return true;
}

/* ---- messages ---- */

/* What a datatype is to say of a view; false where packing is better or the only way. A message to this process, where
 * MPI copies from view to view, has troubles of its own. */
static bool describe(layout *l, const nmpi_array *a, bool sent, const nmpi_comm *comm, int peer) {
  int64_t units = a->type == NMPI_STRUCT ? a->itemsize : 1;
  if (comm->size == 1 || peer == comm->rank || peer == MPI_PROC_NULL) return false;
  if (a->length * units > message_max_count) return false;
  if (nmpi_array_is_contiguous(a, 0)) return false;
  if (a->type != NMPI_STRUCT && dtypes[a->type].wire != a->itemsize) return false;
  int64_t least = least_run(a->length * a->itemsize, sent);
  if (least == INT64_MAX) return false;
  loops nest = collapse(a, a->stride, a->stride);
  int inner = nest.depth - 1;
  if (inner == 0 || nest.to[inner] != 1 || nest.extent[inner] * a->itemsize < least) return false;
  l->unit = dtypes[a->type].unit;
  l->units = units;
  l->size = a->itemsize;
  l->depth = nest.depth;
  memcpy(l->extent, nest.extent, sizeof l->extent);
  memcpy(l->stride, nest.to, sizeof l->stride);
  return true;
}

static bool message_by_datatype(message *m, const nmpi_array *a, bool sent, const char *argument,
                                const nmpi_comm *comm, int peer) {
  layout l;
  MPI_Datatype type;
  if (!describe(&l, a, sent, comm, peer) || !type_find(&l, &type)) return false;
  *m = (message){
      .argument = argument,
      .data = a->p.any,
      .elements = a->length,
      .bytes = 0, /* in a row: none of its memory is all its own */
      .count = 1,
      .type = type,
      .unit = l.unit,
      .units = l.units,
      .wire = l.size,
  };
  return true;
}

bool message_send_by_datatype(message *m, const nmpi_array *a, const char *argument,
                              const nmpi_comm *comm, int dest) {
  return array_is_usable(a, NMPI_IN_PLACE) && message_by_datatype(m, a, true, argument, comm, dest);
}

bool message_recv_by_datatype(message *m, const nmpi_array *a, const char *argument,
                              const nmpi_comm *comm, int source) {
  return array_is_usable(a, NMPI_IN_PLACE | NMPI_READONLY) && array_is_injective(a) &&
         message_by_datatype(m, a, false, argument, comm, source);
}

int message_part_views(message *send, const nmpi_array *senddata, message *recv,
                       nmpi_array *recvdata) {
  if (send->packed || recv->packed || !array_overlap(senddata, recvdata)) return NMPI_SUCCESS;
  if (message_is_by_datatype(send)) {
    return message_send(send, senddata, send->argument, NULL);
  }
  return message_recv(recv, recvdata, recv->argument, false, NULL);
}
