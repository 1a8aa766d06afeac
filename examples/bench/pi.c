/* SPDX-License-Identifier: MIT */
/* The loop of examples/02_pi.lua in C. Usage: pi [n_intervals [n_times]]; prints the seconds that the loop took. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static const double RTOL = 1e-3;
static const double PI = 3.141592653589793;

static double get_pi_part(int n, int rank, int size) {
  double h = 1.0 / n, partial_sum = 0.0;
  for (int i = rank + 1; i <= n; i += size) {
    double x = h * (i - 0.5);
    partial_sum += 4 / (1 + x * x);
  }
  return h * partial_sum;
}

int main(int argc, char **argv) {
  int provided, rank, size, n = argc > 1 ? atoi(argv[1]) : 1000;
  int n_times = argc > 2 ? atoi(argv[2]) : 10000;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  MPI_Barrier(MPI_COMM_WORLD);
  double start = MPI_Wtime(), pi = 0, part;
  for (int i = 0; i < n_times; i++) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    part = get_pi_part(n, rank, size);
    MPI_Allreduce(&part, &pi, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (fabs(pi - PI) / PI >= RTOL) MPI_Abort(MPI_COMM_WORLD, 1);
  }
  double mine = MPI_Wtime() - start, seconds;
  MPI_Allreduce(&mine, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0) printf("%.6f\n", seconds);
  MPI_Finalize();
  return 0;
}
