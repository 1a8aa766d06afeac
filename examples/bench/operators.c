/* SPDX-License-Identifier: MIT */
/* The operators of operators.lua in C, and the loops that reduce with them. */
#include <math.h>
#include <mpi.h>

void bench_sum(void *in, void *inout, int *n, MPI_Datatype *type) {
  const double *a = in;
  double *b = inout;
  (void)type;
  for (int i = 0; i < *n; i++) b[i] = a[i] + b[i];
}

void bench_magnitude(void *in, void *inout, int *n, MPI_Datatype *type) {
  const double *a = in;
  double *b = inout;
  (void)type;
  for (int i = 0; i < *n; i++) {
    double x = fabs(a[i]), y = fabs(b[i]);
    b[i] = x > y ? x : y;
  }
}

void bench_mean(void *in, void *inout, int *n, MPI_Datatype *type) {
  const struct bench_moments { double n, mean, m2; } *a = in;
  struct bench_moments *b = inout;
  (void)type;
  for (int i = 0; i < *n; i++) {
    double count = a[i].n + b[i].n, difference = b[i].mean - a[i].mean;
    b[i].mean = a[i].mean + difference * b[i].n / count;
    b[i].m2 = a[i].m2 + b[i].m2 + difference * difference * a[i].n * b[i].n / count;
    b[i].n = count;
  }
}

static MPI_Op op = MPI_OP_NULL;
static MPI_Datatype type = MPI_DATATYPE_NULL;

/* What bench_allreduce is to use: a user function, on elements of so many doubles. */
void bench_op(MPI_User_function *function, int doubles) {
  MPI_Op_create(function, 1, &op);
  MPI_Type_contiguous(doubles, MPI_DOUBLE, &type);
  MPI_Type_commit(&type);
}

void bench_op_free(void) {
  MPI_Op_free(&op);
  MPI_Type_free(&type);
}

void bench_allreduce(int times, const void *send, void *recv, int n) {
  for (int i = 0; i < times; i++) MPI_Allreduce(send, recv, n, type, op, MPI_COMM_WORLD);
}
