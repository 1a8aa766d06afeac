/* SPDX-License-Identifier: MIT */
/* message.c: what MPI is given for an array, and what comes back. All checks of buffers are here. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* A thread's scratch above this many bytes is given back after every call, and then touched for the first time in the
 * next one. From the size of a huge page on it asks for such pages, which makes that cheap. */
enum { SCRATCH_KEPT = 64 << 20, HUGE_PAGE = 2 << 20 };

int message_max_count = INT_MAX;

int nmpi_set_max_count(int64_t count) {
  if (count < 1 || count > INT_MAX) {
    return fail("count", "expected 1 to %d, got %lld", INT_MAX, (long long)count);
  }
  message_max_count = (int)count;
  return NMPI_SUCCESS;
}

/* ---- scratch ---- */

static _Thread_local scratch scratches[SLOT_COUNT];

static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;

static void scratch_free_all(void *mine) {
  for (int slot = 0; slot < SLOT_COUNT; slot++) scratch_free((scratch *)mine + slot);
}

static void scratch_make_key(void) {
  pthread_key_create(&scratch_key, scratch_free_all);
}

scratch *message_scratch(enum slot slot) {
  scratch *s = &scratches[slot];
  if (s->data == NULL) {
    pthread_once(&scratch_once, scratch_make_key);
    pthread_setspecific(scratch_key, scratches);
  }
  return s;
}

void scratch_free(scratch *s) {
  free(s->data);
  *s = (scratch){0};
}

void scratch_trim(scratch *s, size_t kept) {
  if (s->bytes > kept) scratch_free(s);
}

void *scratch_get(scratch *s, size_t bytes) {
  if (s->data != NULL && bytes <= s->bytes) return s->data;
  scratch_free(s);
  size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : NMPI_ALIGNMENT;
  if (posix_memalign(&s->data, alignment, bytes > 0 ? bytes : 1) != 0) {
    *s = (scratch){0};
    return NULL;
  }
#ifdef MADV_HUGEPAGE
  if (bytes >= HUGE_PAGE) madvise(s->data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  s->bytes = bytes;
  return s->data;
}

/* ---- count and type ---- */

/* MPI's int counts end at 2^31 - 1. Beyond, one element of a type made of chunks says the same; that serves every
 * MPI, where the `_c` functions of MPI 4 would serve some. */
static MPI_Datatype large_type(const message *m, int64_t units) {
  MPI_Datatype chunk, chunks, type;
  MPI_Aint lower, extent;
  int64_t whole = units / message_max_count, rest = units % message_max_count;
  MPI_Type_get_extent(m->unit, &lower, &extent);
  MPI_Type_contiguous(message_max_count, m->unit, &chunk);
  MPI_Type_contiguous((int)whole, chunk, &chunks);
  MPI_Type_create_struct(2, (int[]){1, (int)rest},
                         (MPI_Aint[]){0, (MPI_Aint)(units - rest) * extent},
                         (MPI_Datatype[]){chunks, m->unit}, &type);
  MPI_Type_commit(&type);
  MPI_Type_free(&chunks);
  MPI_Type_free(&chunk);
  return type;
}

void message_free_type(message *m) {
  if (!m->large) return;
  MPI_Type_free(&m->type);
  m->large = false;
}

void message_limit(message *m, int64_t elements) {
  int64_t units = elements * m->units;
  message_free_type(m);
  m->elements = elements;
  m->large = units > message_max_count;
  m->count = m->large ? 1 : (int)units;
  m->type = m->large ? large_type(m, units) : m->unit;
}

/* ---- building ---- */

static int message_build(message *m, const nmpi_array *a, const char *argument, scratch *packed) {
  m->argument = argument;
  m->packed = m->large = false;
  if (a == NULL) return fail(argument, "expected an array, got nil");
  if (a->flags & NMPI_IN_PLACE) return fail(argument, "IN_PLACE is not allowed here");
  if (a->type == NMPI_NONE) return fail(argument, "expected an array, got one that has been freed");
  m->units = a->type == NMPI_STRUCT ? a->itemsize : 1;
  m->wire = a->type == NMPI_STRUCT ? a->itemsize : dtype_wire(a->type);
  m->unit = dtype_unit(a->type);
  m->bytes = (size_t)a->length * (size_t)a->itemsize;
  m->unpack = NULL;
  m->data = a->p.any;
  if (!nmpi_array_is_contiguous(a, 0)) {
    m->data = scratch_get(packed, m->bytes);
    m->packed = true;
    if (m->data == NULL) {
      return fail(argument, "no memory to pack %lld elements", (long long)a->length);
    }
  }
  message_limit(m, a->length);
  return NMPI_SUCCESS;
}

int message_send(message *m, const nmpi_array *a, const char *argument, scratch *packed) {
  TRY(message_build(m, a, argument, packed));
  if (m->packed) pack(m->data, a, a->length);
  return NMPI_SUCCESS;
}

int message_recv(message *m, nmpi_array *a, const char *argument, bool load, scratch *packed) {
  if (a != NULL && (a->flags & NMPI_READONLY)) {
    return fail(argument, "expected a writable array, got a read-only one");
  }
  TRY(message_build(m, a, argument, packed));
  if (m->packed) {
    if (!array_is_injective(a)) {
      message_free_type(m);
      return fail(argument, "expected a view whose elements do not overlap: it is written to");
    }
    m->unpack = a;
    if (load) pack(m->data, a, a->length);
  }
  return NMPI_SUCCESS;
}

/* MPICH 4.0 ends the process where a message within a communicator of one process fills an element of a basic type in
 * part; of bytes there are no parts. */
void message_from_self(message *m) {
  if (m->units != 1 || m->wire * m->elements != (int64_t)m->bytes) return;
  m->unit = MPI_BYTE;
  m->units = m->wire;
  message_limit(m, m->elements);
}

int message_duplicate(message *copy, const message *m, const char *argument, scratch *packed) {
  *copy = *m;
  copy->large = false;
  copy->packed = true;
  copy->unpack = NULL;
  copy->data = scratch_get(packed, m->bytes);
  if (copy->data == NULL) return fail(argument, "no memory to copy %zu bytes", m->bytes);
  memcpy(copy->data, m->data, m->bytes);
  message_limit(copy, m->elements);
  return NMPI_SUCCESS;
}

bool message_overlap(const message *a, const message *b) {
  if (a->packed || b->packed || a->bytes == 0 || b->bytes == 0) return false;
  uintptr_t first = (uintptr_t)a->data, second = (uintptr_t)b->data;
  return first < second + b->bytes && second < first + a->bytes;
}

int message_disjoint(const message *send, const message *recv) {
  if (!message_overlap(send, recv)) return NMPI_SUCCESS;
  return fail("recvdata", "expected memory of its own, but it overlaps 'senddata'");
}

int64_t message_wire(const message *m) {
  return m->elements * m->wire;
}

/* ---- receiving ---- */

void message_unpack(const message *m, int64_t elements) {
  if (m->unpack != NULL) unpack(m->unpack, m->data, elements);
}

int64_t status_bytes(const MPI_Status *status) {
  MPI_Count bytes = 0;
  MPI_Get_elements_x(status, MPI_BYTE, &bytes);
  return bytes > 0 ? bytes : 0;
}

void status_empty(nmpi_status *status, int code) {
  if (status != NULL) *status = (nmpi_status){MPI_ANY_SOURCE, MPI_ANY_TAG, code, 0, 0, 0};
}

int64_t nmpi_status_count(const nmpi_status *status, int dtype, int itemsize) {
  int64_t wire = dtype == NMPI_STRUCT ? itemsize : dtype_wire(dtype);
  return status->bytes % wire == 0 ? status->bytes / wire : NMPI_UNDEFINED;
}

void status_probed(nmpi_status *to, int code, const MPI_Status *from) {
  if (to == NULL) return;
  *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, code, 0, status_bytes(from), -1};
}

int message_receive_end(const message *m, int code, const MPI_Status *from, nmpi_status *to) {
  int64_t bytes = code == MPI_SUCCESS ? status_bytes(from) : 0;
  message_unpack(m, bytes / m->wire);
  if (to != NULL) {
    *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, code, 0, bytes, bytes / m->wire};
  }
  if (bytes % m->wire == 0) return code;
  return fail(m->argument,
              "expected whole elements of %lld bytes, got a message of %lld bytes "
              "(is the dtype of the same size on every rank?)",
              (long long)m->wire, (long long)bytes);
}

void message_done(message *m) {
  message_free_type(m);
  if (!m->packed) return;
  for (int slot = 0; slot < SLOT_COUNT; slot++) scratch_trim(&scratches[slot], SCRATCH_KEPT);
}
