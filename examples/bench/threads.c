/* SPDX-License-Identifier: MIT */
/* A pool of threads as C programs have it: a mutex, and conditions that those who wait sleep on. */
#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begin = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
static pthread_t *threads;
static int size, step, running, closing;

static void *work(void *unused) {
  int seen = 0;
  (void)unused;
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (step == seen) pthread_cond_wait(&begin, &mutex);
    seen = step;
    if (closing) break;
    if (--running == 0) pthread_cond_signal(&end);
  }
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void next(int last) {
  running = size;
  closing = last;
  step++;
  pthread_cond_broadcast(&begin);
}

void bench_pool_open(int n) {
  size = n;
  step = closing = 0;
  threads = malloc((size_t)n * sizeof *threads);
  for (int i = 0; i < n; i++) pthread_create(&threads[i], NULL, work, NULL);
}

void bench_pool_run(int n) {
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < n; i++) {
    next(0);
    while (running > 0) pthread_cond_wait(&end, &mutex);
  }
  pthread_mutex_unlock(&mutex);
}

void bench_pool_close(void) {
  pthread_mutex_lock(&mutex);
  next(1);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < size; i++) pthread_join(threads[i], NULL);
  free(threads);
}
