/* SPDX-License-Identifier: MIT */
/* The loops of growth.lua in C. */
#include <mpi.h>
#include <stdlib.h>

/* GCC takes MPICH's MPI_STATUSES_IGNORE, which is 1, for the address of an array. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"

enum { TAG = 1, BACKGROUND = 2 };

static MPI_Request *requests;
static int *indices;
static double got, sent;

/* Room for so many requests; all null. */
int bench_requests(int n) {
  free(requests);
  free(indices);
  requests = malloc((size_t)n * sizeof *requests);
  indices = malloc((size_t)n * sizeof *indices);
  if (requests == NULL || indices == NULL) return 0;
  for (int i = 0; i < n; i++) requests[i] = MPI_REQUEST_NULL;
  return 1;
}

static void post_all(int n, int self) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&got, 1, MPI_DOUBLE, self, TAG, MPI_COMM_WORLD, &requests[i]);
  }
  for (int i = 0; i < n; i++) MPI_Send(&sent, 1, MPI_DOUBLE, self, TAG, MPI_COMM_WORLD);
}

void bench_waitall(int times, int n, int self) {
  for (int i = 0; i < times; i++) {
    post_all(n, self);
    MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
  }
}

void bench_waitany(int times, int n, int self) {
  int index;
  for (int i = 0; i < times; i++) {
    post_all(n, self);
    do {
      MPI_Waitany(n, requests, &index, MPI_STATUS_IGNORE);
    } while (index != MPI_UNDEFINED);
  }
}

void bench_waitsome(int times, int n, int self) {
  int count;
  for (int i = 0; i < times; i++) {
    post_all(n, self);
    do {
      MPI_Waitsome(n, requests, &count, indices, MPI_STATUSES_IGNORE);
    } while (count != MPI_UNDEFINED);
  }
}

/* Receives that stay pending in the first n entries, until the peer has sent what they wait for. */
void bench_background(int n, int peer) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&got, 1, MPI_DOUBLE, peer, BACKGROUND, MPI_COMM_WORLD, &requests[i]);
  }
}

void bench_background_end(int n) {
  MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
}

/* The last of n completes. */
void bench_one_of(int times, int n, int self) {
  int index, place = n - 1;
  for (int i = 0; i < times; i++) {
    MPI_Irecv(&got, 1, MPI_DOUBLE, self, TAG, MPI_COMM_WORLD, &requests[place]);
    MPI_Send(&sent, 1, MPI_DOUBLE, self, TAG, MPI_COMM_WORLD);
    MPI_Waitany(n, requests, &index, MPI_STATUS_IGNORE);
  }
}

void bench_allreduce(int times) {
  double sum;
  for (int i = 0; i < times; i++) {
    MPI_Allreduce(&sent, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  }
}
