/* SPDX-License-Identifier: MIT */
/* message.c: what MPI is given for an array, and what comes back. All checks of buffers are here. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Scratch above this many bytes is given back after every call. */
enum { SCRATCH_KEPT = 16 << 20 };

typedef struct scratch {
  void *data;
  size_t bytes;
} scratch;

static _Thread_local scratch scratches[SLOT_COUNT];

static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;

static void scratch_free(void *mine) {
  for (int slot = 0; slot < SLOT_COUNT; slot++) {
    scratch *s = (scratch *)mine + slot;
    free(s->data);
    *s = (scratch){0};
  }
}

static void scratch_make_key(void) {
  pthread_key_create(&scratch_key, scratch_free);
}

static void *scratch_get(enum slot slot, size_t bytes) {
  scratch *s = &scratches[slot];
  if (s->data != NULL && bytes <= s->bytes) return s->data;
  pthread_once(&scratch_once, scratch_make_key);
  pthread_setspecific(scratch_key, scratches);
  free(s->data);
  *s = (scratch){0};
  if (posix_memalign(&s->data, NMPI_ALIGNMENT, bytes > 0 ? bytes : 1) != 0) return NULL;
  s->bytes = bytes;
  return s->data;
}

void message_done(const message *m) {
  if (!m->scratch) return;
  for (int slot = 0; slot < SLOT_COUNT; slot++) {
    scratch *s = &scratches[slot];
    if (s->bytes > SCRATCH_KEPT) {
      free(s->data);
      *s = (scratch){0};
    }
  }
}

static int message_build(message *m, const nmpi_array *a, const char *argument, enum slot slot) {
  if (a == NULL) return fail(argument, "expected an array, got nil");
  if (a->flags & NMPI_IN_PLACE) return fail(argument, "IN_PLACE is not allowed here");
  if (a->type == NMPI_NONE) return fail(argument, "expected an array, got one that has been freed");
  m->item = a->type == NMPI_STRUCT ? a->itemsize : 1;
  if (a->length > INT_MAX / m->item) {
    return fail(argument, "expected at most %d elements in one message, got %lld",
                (int)(INT_MAX / m->item), (long long)a->length);
  }
  m->count = (int)(a->length * m->item);
  m->itemsize = a->itemsize;
  m->bytes = (size_t)a->length * (size_t)a->itemsize;
  m->type = dtype_mpi(a->type);
  m->unpack = NULL;
  m->scratch = !nmpi_array_is_contiguous(a, 0);
  m->data = a->p.any;
  if (m->scratch) {
    m->data = scratch_get(slot, m->bytes);
    if (m->data == NULL) {
      return fail(argument, "no memory to pack %lld elements", (long long)a->length);
    }
  }
  return NMPI_SUCCESS;
}

int message_send(message *m, const nmpi_array *a, const char *argument) {
  TRY(message_build(m, a, argument, SLOT_SEND));
  if (m->scratch) pack(m->data, a, a->length);
  return NMPI_SUCCESS;
}

int message_recv(message *m, nmpi_array *a, const char *argument, bool load) {
  TRY(message_build(m, a, argument, SLOT_RECV));
  if (a->flags & NMPI_READONLY)
    return fail(argument, "expected a writable array, got a read-only one");
  if (m->scratch) {
    if (!array_is_injective(a)) {
      return fail(argument, "expected a view whose elements do not overlap: it is written to");
    }
    m->unpack = a;
    if (load) pack(m->data, a, a->length);
  }
  return NMPI_SUCCESS;
}

int message_duplicate(message *copy, const message *m, const char *argument) {
  *copy = *m;
  copy->scratch = true;
  copy->data = scratch_get(SLOT_SEND, m->bytes);
  if (copy->data == NULL) return fail(argument, "no memory to copy %zu bytes", m->bytes);
  memcpy(copy->data, m->data, m->bytes);
  return NMPI_SUCCESS;
}

int message_disjoint(const message *send, const message *recv) {
  if (send->scratch || recv->scratch) return NMPI_SUCCESS;
  uintptr_t s = (uintptr_t)send->data, r = (uintptr_t)recv->data;
  if (s + send->bytes <= r || r + recv->bytes <= s) return NMPI_SUCCESS;
  if (send->count == 0 || recv->count == 0) return NMPI_SUCCESS;
  return fail("recvdata", "expected memory of its own, but it overlaps 'senddata'");
}

void message_unpack(const message *m, int64_t elements) {
  if (m->unpack != NULL) unpack(m->unpack, m->data, elements);
}

int64_t message_received(const message *m, const MPI_Status *status) {
  int count = 0;
  MPI_Get_count(status, m->type, &count);
  if (count != MPI_UNDEFINED) return count / m->item;
  MPI_Get_count(status, MPI_BYTE, &count);
  return count == MPI_UNDEFINED ? 0 : count / m->itemsize;
}
