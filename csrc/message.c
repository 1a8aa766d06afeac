/* SPDX-License-Identifier: MIT */
/* message.c: what MPI is given for an array, and what comes back. All checks of buffers are here. */
#include <limits.h>
#include <string.h>

#include "internal.h"

/* A thread's scratch above this many bytes is given back after every call, and then touched for the first time in the
 * next one. */
enum { SCRATCH_KEPT = 64 << 20 };

int message_max_count = INT_MAX, short_max_count = INT_MAX;

void message_limit_short(void) {
  short_max_count = debugging() ? 0 : message_max_count;
}

int nmpi_set_max_count(int64_t count) {
  if (count < 1 || count > INT_MAX) {
    return fail("count", "expected 1 to %d, got %lld", INT_MAX, (long long)count);
  }
  message_max_count = (int)count;
  message_limit_short();
  return NMPI_SUCCESS;
}

/* ---- scratch ---- */

static THREAD_LOCAL scratch scratches[SLOT_COUNT];
static THREAD_LOCAL own scratch_own;

static void scratch_leave(own *o) {
  o->leave = NULL;
  for (int slot = 0; slot < SLOT_COUNT; slot++) scratch_free(&scratches[slot]);
}

scratch *message_scratch(enum slot slot) {
  if (RARELY(scratch_own.leave == NULL)) own_join(&scratch_own, scratch_leave);
  return &scratches[slot];
}

void scratch_free(scratch *s) {
  if (s->data != NULL) storage_free(s->data, s->bytes);
  *s = (scratch){0};
}

void scratch_trim(scratch *s, size_t kept) {
  if (s->bytes > kept) scratch_free(s);
}

void *scratch_get(scratch *s, size_t bytes) {
  if (s->data != NULL && bytes <= s->bytes) return s->data;
  scratch_free(s);
  s->data = storage_create(bytes, false);
  s->bytes = s->data != NULL ? bytes : 0;
  return s->data;
}

/* ---- count and type ---- */

/* MPI's int counts end at 2^31 - 1. Beyond, one element of a type made of chunks says the same; that serves every
 * MPI, where the `_c` functions of MPI 4 would serve some. */
MPI_Datatype message_large_type(MPI_Datatype unit, int64_t units) {
  MPI_Datatype chunk, chunks, type;
  MPI_Aint lower, extent;
  int64_t whole = units / message_max_count, rest = units % message_max_count;
  MPI_Type_get_extent(unit, &lower, &extent);
  MPI_Type_contiguous(message_max_count, unit, &chunk);
  MPI_Type_contiguous((int)whole, chunk, &chunks);
  MPI_Type_create_struct(2, (int[]){1, (int)rest},
                         (MPI_Aint[]){0, (MPI_Aint)(units - rest) * extent},
                         (MPI_Datatype[]){chunks, unit}, &type);
  MPI_Type_commit(&type);
  MPI_Type_free(&chunks);
  MPI_Type_free(&chunk);
  return type;
}

void message_free_type(MPI_Datatype type) {
  MPI_Type_free(&type);
}

/* ---- views, and what is no array ---- */

bool array_is_gapless(const nmpi_array *a) {
  return a->type != NMPI_NONE && nmpi_array_is_contiguous(a, 0);
}

/* What a thread packs goes to one part of its scratch after the other. With MPICH, whose receivers read longer messages
 * where they lie, it takes long to write again to lines that both processes have in their caches: packing in one place
 * makes an exchange of 32 KiB take up to twice as long. Larger messages leave the caches by themselves. Open MPI, which
 * copies here, prefers what the cache still has. */
enum { ROTATED_BYTES = 2 << 20, LEAST_ROTATED = 8 << 10 };
#ifdef OPEN_MPI
enum { MOST_ROTATED = 0 };
#else
enum { MOST_ROTATED = ROTATED_BYTES / 2 };
#endif

static void *room_to_send(size_t bytes) {
  static THREAD_LOCAL size_t next;
  scratch *s = message_scratch(SLOT_SEND);
  if (bytes <= LEAST_ROTATED || bytes > MOST_ROTATED) return scratch_get(s, bytes);
  char *data = scratch_get(s, ROTATED_BYTES);
  if (data == NULL) return NULL;
  if (bytes > ROTATED_BYTES - next) next = 0;
  data += next;
  next += (bytes + NMPI_ALIGNMENT - 1) / NMPI_ALIGNMENT * NMPI_ALIGNMENT;
  return data;
}

void *view_pack(const nmpi_array *a, scratch *packed) {
  if (!array_is_usable(a, NMPI_IN_PLACE)) return NULL;
  size_t bytes = (size_t)a->length * (size_t)a->itemsize;
  void *data = packed == NULL ? room_to_send(bytes) : scratch_get(packed, bytes);
  if (data != NULL) pack(data, a, a->length);
  return data;
}

void *view_room(const nmpi_array *a, bool load, scratch *packed) {
  if (!array_is_usable(a, NMPI_IN_PLACE | NMPI_READONLY) || !array_is_injective(a)) return NULL;
  if (packed == NULL) packed = message_scratch(SLOT_RECV);
  void *data = scratch_get(packed, (size_t)a->length * (size_t)a->itemsize);
  if (data != NULL && load) pack(data, a, a->length);
  return data;
}

int message_refuse(message *m, const nmpi_array *a, const char *argument, bool receive) {
  message_none(m);
  if (a == NULL) return fail(argument, "expected an array, got nil");
  if (receive && a->flags & NMPI_READONLY) {
    return fail(argument, "expected a writable array, got a read-only one");
  }
  if (a->flags & NMPI_IN_PLACE) return fail(argument, "IN_PLACE is not allowed here");
  if (a->type == NMPI_NONE) return fail(argument, "expected an array, got one that has been freed");
  if (receive && !array_is_injective(a)) {
    return fail(argument, "expected a view whose elements do not overlap: it is written to");
  }
  return fail(argument, "no memory to pack %lld elements", (long long)a->length);
}

void *message_copy(const void *data, size_t bytes, const char *argument, scratch *packed) {
  void *copy = scratch_get(packed != NULL ? packed : message_scratch(SLOT_SEND), bytes);
  if (copy == NULL) {
    fail(argument, "no memory to copy %zu bytes", bytes);
  } else {
    memcpy(copy, data, bytes);
  }
  return copy;
}

/* ---- receiving ---- */

void message_unpack_view(const nmpi_array *view, const void *packed, int64_t elements) {
  unpack(view, packed, elements);
}

bool status_is_known;

int64_t status_count_bytes(const MPI_Status *status) {
  MPI_Count bytes = 0;
  MPI_Get_elements_x(status, MPI_BYTE, &bytes);
  return bytes > 0 ? bytes : 0;
}

/* Another library of the same ABI might keep them elsewhere. */
void status_init(void) {
  static const MPI_Count lengths[] = {0, 1, 0x123456789a, 77};
  bool found = true;
  status_is_known = true;
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    MPI_Status status = {.MPI_SOURCE = 0};
    MPI_Status_set_elements_x(&status, MPI_BYTE, lengths[i]);
    found = found && status_bytes(&status) == lengths[i];
  }
  status_is_known = found;
}

int64_t nmpi_status_count(const nmpi_status *status, int dtype, int itemsize) {
  int64_t wire = dtype == NMPI_STRUCT ? itemsize : dtypes[dtype].wire;
  return status->bytes % wire == 0 ? status->bytes / wire : NMPI_UNDEFINED;
}

int message_fail_whole(const char *argument, int64_t wire, int64_t bytes) {
  return fail(argument,
              "expected whole elements of %lld bytes, got a message of %lld bytes "
              "(is the dtype of the same size on every rank?)",
              (long long)wire, (long long)bytes);
}

int message_receive_end_array(nmpi_array *a, const char *argument, int code, const MPI_Status *from,
                              nmpi_status *to) {
  message m;
  message_describe(&m, a, argument, a->p.any);
  return message_receive_end(&m, code, from, to);
}

void message_trim_scratch(void) {
  for (int slot = 0; slot < SLOT_COUNT; slot++) scratch_trim(&scratches[slot], SCRATCH_KEPT);
}
