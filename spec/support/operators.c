/* SPDX-License-Identifier: MIT */
/* For own_op_spec.lua: operators in C, and threads that reduce. Linked against neither MPI nor nmpi. */
#include <pthread.h>
#include <stdlib.h>

typedef void function(void *in, void *inout, int *n, void *type);
typedef int allreduce(const void *send, void *recv, const void *op, const void *comm);

/* What a thread is to do, and what came of it: a status. */
typedef struct job {
  allreduce *allreduce;
  const void *send;
  void *recv;
  const void *op;
  const void *comm;
  int times;
  int status;
  int done;
  pthread_t thread;
} job;

function spec_hypotenuse, spec_second;
void spec_start(job *j);
void spec_join(job *j);

/* Of doubles: the sum of the squares of both. It is commutative, but not associative: for two ranks. */
void spec_hypotenuse(void *in, void *inout, int *n, void *type) {
  const double *a = in;
  double *b = inout;
  (void)type;
  for (int i = 0; i < *n; i++) b[i] = a[i] * a[i] + b[i] * b[i];
}

/* Of anything: the second operand. */
void spec_second(void *in, void *inout, int *n, void *type) {
  (void)in, (void)inout, (void)n, (void)type;
}

static void *work(void *job_) {
  job *j = job_;
  for (int i = 0; i < j->times && j->status == 0; i++) {
    j->status = j->allreduce(j->send, j->recv, j->op, j->comm);
  }
  __atomic_store_n(&j->done, 1, __ATOMIC_RELEASE);
  return NULL;
}

void spec_start(job *j) {
  if (pthread_create(&j->thread, NULL, work, j) != 0) abort();
}

void spec_join(job *j) {
  pthread_join(j->thread, NULL);
}
