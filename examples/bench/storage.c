/* SPDX-License-Identifier: MIT */
/* Memory in several places, and the ping-pong of storage.lua in C. */
#define _GNU_SOURCE
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TAG = 1, PAGE = 4096, HUGE_PAGE = 2 << 20 };

/* Memory as C programs have it. */
void *bench_malloc(int64_t bytes) {
  void *data = malloc((size_t)bytes);
  if (data != NULL) memset(data, 0, (size_t)bytes);
  return data;
}

/* Untouched: the first message makes its pages. */
void *bench_calloc(int64_t bytes) {
  return calloc(1, (size_t)bytes);
}

/* On a boundary of pages, small ones or huge ones. */
void *bench_pages(int64_t bytes, int huge) {
  void *data;
  size_t alignment = huge ? HUGE_PAGE : PAGE;
  size_t whole = ((size_t)bytes + alignment - 1) / alignment * alignment;
  if (posix_memalign(&data, alignment, whole) != 0) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(data, whole, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
  memset(data, 0, whole);
  return data;
}

void bench_free(void *data) {
  free(data);
}

void bench_pingpong(int n, char *data, int bytes) {
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int i = 0; i < n; i++) {
    if (rank == 0) {
      MPI_Send(data, bytes, MPI_INT8_T, 1, TAG, MPI_COMM_WORLD);
      MPI_Recv(data, bytes, MPI_INT8_T, 1, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
      MPI_Recv(data, bytes, MPI_INT8_T, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Send(data, bytes, MPI_INT8_T, 0, TAG, MPI_COMM_WORLD);
    }
  }
}

/* Makes memory, writes all of it, and frees it. */
void bench_create(int n, int64_t bytes, int zero) {
  for (int i = 0; i < n; i++) {
    char *data = zero ? calloc(1, (size_t)bytes) : malloc((size_t)bytes);
    if (data == NULL) return;
    memset(data, 1, (size_t)bytes);
    __asm__ volatile("" : : "r"(data) : "memory"); /* or else GCC leaves all of it out */
    free(data);
  }
}
