/* SPDX-License-Identifier: MIT */
/* file.c: files that the ranks of a communicator write and read together. */
#include "internal.h"

typedef int set_comm(int64_t list, MPI_Comm comm, MPI_Info info);

int nmpi_file_give_comm(const nmpi_comm *comm, void *function, int64_t list) {
  TRY(check_comm(&comm));
  return ((set_comm *)(uintptr_t)function)(list, comm->handle, MPI_INFO_NULL);
}
