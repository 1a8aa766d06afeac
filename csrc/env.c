/* SPDX-License-Identifier: MIT */
/* env.c: the library that is in use, start and end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr, on_exit */
#endif
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "signature.h"

static atomic_bool aborting; /* MPI_Abort runs the exit handlers */
static bool installed;       /* nmpi_init has run */
static bool ours;            /* and was the one to initialise MPI */
static pid_t init_pid;       /* a forked child must leave MPI alone */
int tag_ub = 32767;          /* the least that the standard allows */
static int provided_level = MPI_THREAD_SINGLE;
static double clock_offset; /* MPI_Wtime's zero in the system's monotonic seconds */
static double clock_tick;
static char processor_name[MPI_MAX_PROCESSOR_NAME];

const char *nmpi_signature(void) {
  return NMPI_SIGNATURE;
}

const char *nmpi_abi(void) {
  return NMPI_ABI;
}

const char *nmpi_library_path(void) {
  Dl_info info;
  void *symbol = dlsym(RTLD_DEFAULT, "MPI_Init");
  return symbol != NULL && dladdr(symbol, &info) != 0 ? info.dli_fname : "";
}

static char library_version[MPI_MAX_LIBRARY_VERSION_STRING], standard_version[32];

static void read_versions(void) {
  int length = 0, major = 0, minor = 0;
  MPI_Get_library_version(library_version, &length);
  MPI_Get_version(&major, &minor);
  snprintf(standard_version, sizeof standard_version, "%d.%d", major, minor);
}

static pthread_once_t versions_once = PTHREAD_ONCE_INIT;

const char *nmpi_library_version(void) {
  pthread_once(&versions_once, read_versions);
  return library_version;
}

const char *nmpi_standard_version(void) {
  pthread_once(&versions_once, read_versions);
  return standard_version;
}

const char *nmpi_processor_name(void) {
  return processor_name;
}

int nmpi_initialized(void) {
  int flag = 0;
  MPI_Initialized(&flag);
  return flag;
}

int nmpi_finalized(void) {
  int flag = 0;
  MPI_Finalized(&flag);
  return flag;
}

int nmpi_abort(int code) {
  aborting = true;
  /* MPI_Abort loses what is still in buffers: ours, and what MPICH's launcher has not yet read. Open MPI's launcher may
   * crash where all ranks abort at once, so they take turns; all but the first will be killed while they wait. */
  int rank = nmpi_comm_rank(NULL), turn = rank > 0 ? rank % 8 : 0;
  fflush(NULL);
  poll(NULL, 0, 50 * (1 + turn));
  return MPI_Abort(MPI_COMM_WORLD, (code & 0xff) != 0 ? code & 0xff : 1);
}

int nmpi_finalize(void) {
  int is_main = 0;
  if (nmpi_finalized()) return NMPI_SUCCESS;
  MPI_Is_thread_main(&is_main);
  if (!is_main) return fail(NULL, "expected the thread that initialised MPI, got another one");
  if (teams_run()) return fail(NULL, "expected no threads at work, but a team has not ended");
  if (file_is_lost()) return fail(NULL, "HDF5 could not write a file: the job can only be aborted");
  return MPI_Finalize();
}

/* Called by MPI_Finalize, whoever calls that. */
static int finalizing(MPI_Comm self, int keyval, void *value, void *extra) {
  (void)self, (void)keyval, (void)value, (void)extra;
  request_finalize();
  comm_report();
  comm_finalize();
  op_finalize();
  datatype_finalize();
  dtype_finalize();
  return MPI_SUCCESS;
}

static void watch_finalize(void) {
  int keyval = MPI_KEYVAL_INVALID;
  MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, finalizing, &keyval, NULL);
  MPI_Comm_set_attr(MPI_COMM_SELF, keyval, NULL);
}

static int told_status = -1;

void nmpi_exit_status(int status) {
  told_status = status;
}

bool exit_has_failed(void) {
  return told_status > 0;
}

static void leave(int status) {
  if (aborting || getpid() != init_pid || nmpi_finalized()) return;
  /* MPI cannot be finalised beneath threads that may be using it. */
  if (status == 0 && teams_run()) {
    fprintf(stderr, "nmpi: rank %d of %d ends while threads are at work\n", nmpi_comm_rank(NULL),
            nmpi_comm_size(NULL));
    status = told_status = 1;
  }
  if (status == 0 && file_is_lost()) {
    fprintf(stderr, "nmpi: rank %d of %d ends with an HDF5 file that could not be written\n",
            nmpi_comm_rank(NULL), nmpi_comm_size(NULL));
    status = told_status = 1;
  }
  if (status != 0) {
    int rank = nmpi_comm_rank(NULL), size = nmpi_comm_size(NULL);
    if (size > 1 && status != told_status) {
      fprintf(stderr, "nmpi: rank %d of %d ends the job with exit status %d\n", rank, size, status);
    }
    nmpi_abort(status);
  } else if (ours) {
    nmpi_finalize();
  }
}

#ifdef __GLIBC__

static void leave_with(int status, void *unused) {
  (void)unused;
  leave(status);
}

static void install_exit_handler(void) {
  on_exit(leave_with, NULL);
}

#else

/* To finalise after an error would leave the other ranks hanging: without word it must be taken for one. */
static void leave_without(void) {
  leave(told_status < 0 ? 1 : told_status);
}

static void install_exit_handler(void) {
  atexit(leave_without);
}

#endif

static double monotonic_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Open MPI 4.1 lets a message that is longer than the receive buffer overrun it when the data is fetched by RDMA
 * (ob1's RGET protocol: messages to oneself, and between processes through CMA) and reports the truncation only
 * then. Without RDMA nothing is written beyond the buffer. Whoever sets the variable decides otherwise. */
static void prevent_overruns(void) {
#ifdef OPEN_MPI
  setenv("OMPI_MCA_pml_ob1_max_rdma_per_request", "0", 0);
#endif
}

/* The luajit command's handler for Ctrl-C is heeded by interpreted code only, so that a compiled loop would go on
 * for ever. In a parallel job, where the launcher passes Ctrl-C on, the default action is the right one. */
static void let_interrupts_kill(void) {
  struct sigaction action;
  Dl_info info;
  if (sigaction(SIGINT, NULL, &action) != 0 || (action.sa_flags & SA_SIGINFO) != 0) return;
  if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) return;
  if (dladdr((void *)(uintptr_t)action.sa_handler, &info) == 0 || info.dli_fname == NULL) return;
  const char *slash = strrchr(info.dli_fname, '/');
  const char *program = slash != NULL ? slash + 1 : info.dli_fname;
  if (strncmp(program, "luajit", strlen("luajit")) == 0) signal(SIGINT, SIG_DFL);
}

static int initialize(int thread_level) {
  static const int levels[] = {MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED, MPI_THREAD_SERIALIZED,
                               MPI_THREAD_MULTIPLE};
  if (installed) return NMPI_SUCCESS;
  if (nmpi_finalized()) return fail("nmpi", "MPI is finalised and cannot be initialised again");
  if (!nmpi_initialized()) {
    int provided = 0;
    prevent_overruns();
    TRY(MPI_Init_thread(NULL, NULL, levels[thread_level & 3], &provided));
    ours = true;
  }
  installed = true;
  init_pid = getpid();
  install_exit_handler();
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  MPI_Query_thread(&provided_level);
  int found = 0, *value = NULL, length = 0;
  MPI_Get_processor_name(processor_name, &length);
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &value, &found);
  if (found) tag_ub = *value;
  clock_offset = MPI_Wtime() - monotonic_seconds();
  clock_tick = MPI_Wtick();
  dtype_init();
  status_init();
  datatype_init();
  group_init();
  comm_init();
  op_init();
  watch_finalize();
  if (nmpi_comm_size(NULL) > 1) let_interrupts_kill();
  return NMPI_SUCCESS;
}

/* Several Lua states, each in a thread of its own, may come here at once. */
int nmpi_init(int thread_level) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  int status = initialize(thread_level);
  pthread_mutex_unlock(&mutex);
  return status;
}

int nmpi_query_thread(void) {
  if (provided_level >= MPI_THREAD_MULTIPLE) return 3;
  if (provided_level >= MPI_THREAD_SERIALIZED) return 2;
  return provided_level >= MPI_THREAD_FUNNELED ? 1 : 0;
}

/* After MPI_Finalize, where MPI_Wtime is not allowed, the system's clock goes on from where MPI's was. */
double nmpi_wtime(void) {
  return is_live() ? MPI_Wtime() : monotonic_seconds() + clock_offset;
}

double nmpi_wtick(void) {
  return clock_tick;
}

int nmpi_any_source(void) {
  return MPI_ANY_SOURCE;
}

int nmpi_any_tag(void) {
  return MPI_ANY_TAG;
}

int nmpi_proc_null(void) {
  return MPI_PROC_NULL;
}

int nmpi_tag_ub(void) {
  return tag_ub;
}
