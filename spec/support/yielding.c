// SPDX-License-Identifier: MIT
// To be preloaded: lets the ranks of MPICH over UCX, which wait without ever yielding, share a core. Where there are
// more ranks than cores, each message would otherwise take some milliseconds, the time slices of those that wait.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <string.h>

typedef unsigned progress_function(void *worker);

unsigned ucp_worker_progress(void *worker);

unsigned ucp_worker_progress(void *worker) {
  static _Thread_local progress_function *progress;
  static _Thread_local int idle;
  if (progress == NULL) {
    void *symbol = dlsym(RTLD_NEXT, "ucp_worker_progress");
    memcpy(&progress, &symbol, sizeof(progress));
  }
  unsigned events = progress(worker);
  idle = events > 0 ? 0 : idle + 1;
  if (idle == 10) {
    idle = 0;
    sched_yield();
  }
  return events;
}
