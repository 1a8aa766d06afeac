/* SPDX-License-Identifier: MIT */
/* check.c: checks of plain arguments. Those of buffers are in message.c. */
#include <stdio.h>

#include "internal.h"

atomic_bool debug;

void nmpi_debug(int on) {
  if (atomic_exchange(&debug, on != 0) != (on != 0)) message_limit_short();
}

int fail_dest(const nmpi_comm *comm, int dest) {
  return fail("dest", "expected a rank from 0 to %d or PROC_NULL, got %d", comm->size - 1, dest);
}

int fail_source(const nmpi_comm *comm, int source) {
  return fail("source", "expected a rank from 0 to %d, ANY_SOURCE or PROC_NULL, got %d",
              comm->size - 1, source);
}

int fail_root(const nmpi_comm *comm, int root) {
  return fail("root", "expected a rank from 0 to %d, got %d", comm->size - 1, root);
}

int fail_send_tag(int tag, const char *argument) {
  return fail(argument, "expected a tag from 0 to %d, got %d", tag_ub, tag);
}

int fail_recv_tag(int tag, const char *argument) {
  return fail(argument, "expected a tag from 0 to %d or ANY_TAG, got %d", tag_ub, tag);
}

static int fail_dtype(const nmpi_array *send, const nmpi_array *recv) {
  return fail("recvdata", "expected the dtype of 'senddata', %s, got %s",
              nmpi_dtype_name(send->type), nmpi_dtype_name(recv->type));
}

static int char_as_int8(int dtype) {
  return dtype == NMPI_CHAR ? NMPI_INT8 : dtype;
}

int check_same_dtype(const nmpi_array *send, const nmpi_array *recv) {
  bool same = char_as_int8(send->type) == char_as_int8(recv->type) && send->ctype == recv->ctype;
  return same ? NMPI_SUCCESS : fail_dtype(send, recv);
}

int check_same(const nmpi_array *send, const nmpi_array *recv) {
  if (send->type != recv->type || send->ctype != recv->ctype) return fail_dtype(send, recv);
  if (send->length == recv->length) return NMPI_SUCCESS;
  return fail("recvdata", "expected as many elements as 'senddata' has, %lld, got %lld",
              (long long)send->length, (long long)recv->length);
}

static int64_t hash(const char *text) {
  uint32_t sum = 0x811c9dc5;
  for (; *text != '\0'; text++) sum = (sum ^ (unsigned char)*text) * 0x01000193;
  return sum;
}

/* What is compared, most telling first. */
enum { ROUTINE, ROOT, ELEMENTS, ITEMSIZE, FIELD_COUNT };

/* INT64_MAX in both halves stands for what does not count on this rank. */
static void announce(int64_t *values, int field, int64_t value, bool counts) {
  values[field] = counts ? value : INT64_MAX;
  values[FIELD_COUNT + field] = counts ? -value : INT64_MAX;
}

static int disagree(const char *routine, int root, int64_t elements, int64_t itemsize, int field) {
  static const char *const names[] = {"routine", "root", "number of elements", "size of elements"};
  char size[80] = "", from[32] = "";
  if (elements >= 0) {
    snprintf(size, sizeof size, " of %lld element%s of %lld bytes", (long long)elements,
             elements == 1 ? "" : "s", (long long)itemsize);
  }
  if (root >= 0) snprintf(from, sizeof from, " with root %d", root);
  return fail(NULL, "the ranks do not agree: here %s%s%s; another rank differs in the %s", routine,
              size, from, names[field]);
}

int compare_calls(const nmpi_comm *comm, const char *routine, int root, int64_t elements,
                  int64_t itemsize) {
  int64_t mine[2 * FIELD_COUNT], least[2 * FIELD_COUNT];
  MPI_Comm handle;
  TRY(comm_private(comm, &handle));
  announce(mine, ROUTINE, hash(routine), true);
  announce(mine, ROOT, root, true);
  announce(mine, ELEMENTS, elements, elements >= 0);
  announce(mine, ITEMSIZE, itemsize, elements > 0);
  TRY(MPI_Allreduce(mine, least, 2 * FIELD_COUNT, MPI_INT64_T, MPI_MIN, handle));
  for (int field = 0; field < FIELD_COUNT; field++) {
    int64_t lowest = least[field], highest = -least[FIELD_COUNT + field];
    if (lowest != INT64_MAX && lowest != highest) {
      return disagree(routine, root, elements, itemsize, field);
    }
  }
  return NMPI_SUCCESS;
}
