/* SPDX-License-Identifier: MIT */
/* check.c: checks of plain arguments. Those of buffers are in message.c. */
#include "internal.h"

int check_dest(const nmpi_comm *comm, int dest) {
  if ((dest >= 0 && dest < comm->size) || dest == MPI_PROC_NULL) return NMPI_SUCCESS;
  return fail("dest", "expected a rank from 0 to %d or PROC_NULL, got %d", comm->size - 1, dest);
}

int check_source(const nmpi_comm *comm, int source) {
  if (source >= 0 && source < comm->size) return NMPI_SUCCESS;
  if (source == MPI_ANY_SOURCE || source == MPI_PROC_NULL) return NMPI_SUCCESS;
  return fail("source", "expected a rank from 0 to %d, ANY_SOURCE or PROC_NULL, got %d",
              comm->size - 1, source);
}

int check_root(const nmpi_comm *comm, int root) {
  if (root >= 0 && root < comm->size) return NMPI_SUCCESS;
  return fail("root", "expected a rank from 0 to %d, got %d", comm->size - 1, root);
}

int check_send_tag(int tag, const char *argument) {
  if (tag >= 0 && tag <= nmpi_tag_ub()) return NMPI_SUCCESS;
  return fail(argument, "expected a tag from 0 to %d, got %d", nmpi_tag_ub(), tag);
}

int check_recv_tag(int tag, const char *argument) {
  if (tag == MPI_ANY_TAG || (tag >= 0 && tag <= nmpi_tag_ub())) return NMPI_SUCCESS;
  return fail(argument, "expected a tag from 0 to %d or ANY_TAG, got %d", nmpi_tag_ub(), tag);
}

int check_same(const nmpi_array *send, const nmpi_array *recv) {
  if (send->type != recv->type || send->ctype != recv->ctype) {
    return fail("recvdata", "expected the dtype of 'senddata', %s, got %s",
                nmpi_dtype_name(send->type), nmpi_dtype_name(recv->type));
  }
  if (send->length != recv->length) {
    return fail("recvdata", "expected as many elements as 'senddata' has, %lld, got %lld",
                (long long)send->length, (long long)recv->length);
  }
  return NMPI_SUCCESS;
}
