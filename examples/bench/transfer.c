/* SPDX-License-Identifier: MIT */
/* The loops of transfer.lua in C. */
#include <mpi.h>

enum { TAG = 1 };

static int own_rank(void) {
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

void bench_pingpong(int n, char *data, int bytes) {
  int rank = own_rank(), peer = 1 - rank;
  for (int i = 0; i < n; i++) {
    if (rank == 0) {
      MPI_Send(data, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD);
      MPI_Recv(data, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
      MPI_Recv(data, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Send(data, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD);
    }
  }
}
