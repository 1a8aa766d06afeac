/* SPDX-License-Identifier: MIT */
/* The loop of pi.lua in C. */
#include <math.h>
#include <mpi.h>

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

double bench_pi(int n_times, int n_intervals) {
  int rank, size;
  double pi = 0, part;
  for (int i = 0; i < n_times; i++) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    part = get_pi_part(n_intervals, rank, size);
    MPI_Allreduce(&part, &pi, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (fabs(pi - PI) / PI >= RTOL) MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return pi;
}
