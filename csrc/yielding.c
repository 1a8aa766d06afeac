/* SPDX-License-Identifier: MIT */
/* yielding.c: a library of its own, which lets the ranks of MPICH over UCX share a core. These wait without ever
 * yielding, so that where there are more of them than cores a message takes some milliseconds: the time slices of those
 * that wait. nmpi.lib loads it before MPICH, whose calls of ucp_worker_progress then come here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than a rank that has a core of its own waits for a short message. */
#define IDLE_POLLS 30

typedef unsigned progress_function(void *worker);

unsigned ucp_worker_progress(void *worker);

/* What the library that `caller` is an address in would call without this one. */
static progress_function *next_progress(void *caller) {
  progress_function *progress;
  Dl_info info;
  void *library =
      dladdr(caller, &info) != 0 ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  void *symbol = library != NULL ? dlsym(library, "ucp_worker_progress") : NULL;
  if (symbol == NULL) {
    fputs("nmpi: UCX is not where the MPI library that uses it says it is\n", stderr);
    abort();
  }
  memcpy(&progress, &symbol, sizeof progress);
  return progress;
}

unsigned ucp_worker_progress(void *worker) {
  static _Thread_local progress_function *progress;
  static _Thread_local int idle;
  if (progress == NULL) progress = next_progress(__builtin_return_address(0));
  unsigned events = progress(worker);
  idle = events > 0 ? 0 : idle + 1;
  if (idle == IDLE_POLLS) {
    idle = 0;
    sched_yield();
  }
  return events;
}
