/* SPDX-License-Identifier: MIT */
/* The loops of transfer.lua in C. */
#include <mpi.h>
#include <stdint.h>

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

void bench_bidirectional(int n, char *send, char *recv, int bytes) {
  int peer = 1 - own_rank();
  MPI_Request requests[2];
  for (int i = 0; i < n; i++) {
    MPI_Irecv(recv, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Isend(send, bytes, MPI_INT8_T, peer, TAG, MPI_COMM_WORLD, &requests[1]);
    MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
  }
}

void bench_allreduce(int n, int32_t *send, int32_t *recv, int count) {
  for (int i = 0; i < n; i++) {
    MPI_Allreduce(send, recv, count, MPI_INT32_T, MPI_SUM, MPI_COMM_WORLD);
  }
}

void bench_bcast(int n, char *data, int bytes) {
  for (int i = 0; i < n; i++) MPI_Bcast(data, bytes, MPI_INT8_T, 0, MPI_COMM_WORLD);
}

void bench_allgather(int n, char *send, char *recv, int bytes) {
  for (int i = 0; i < n; i++) {
    MPI_Allgather(send, bytes, MPI_INT8_T, recv, bytes, MPI_INT8_T, MPI_COMM_WORLD);
  }
}
