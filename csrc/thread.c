/* SPDX-License-Identifier: MIT */
/* thread.c: what threads have of their own, and teams of threads that each run Lua in a state of its own. */
#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

/* ---- the end of a thread ---- */

static THREAD_LOCAL own *owned;
static pthread_key_t own_key;
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

static void own_leave(void *unused) {
  (void)unused;
  while (owned != NULL) {
    own *o = owned;
    owned = o->next;
    o->leave(o);
  }
}

static void own_make_key(void) {
  pthread_key_create(&own_key, own_leave);
}

void own_join(own *o, void (*leave)(own *)) {
  pthread_once(&own_once, own_make_key);
  o->leave = leave;
  o->next = owned;
  owned = o;
  pthread_setspecific(own_key, o);
}

/* ---- teams ---- */

enum { NOBODY = -1, MAX_MEMBERS = 256 };

/* In milliseconds: so long the others may go on after one has failed. */
enum { GRACE = 5000 };

/* A member, and what nobody but the core may see of it. */
typedef struct member {
  nmpi_member m;
  pthread_t thread;
  lua_State *L;
  int round;  /* the last that it has seen */
  bool holds; /* the critical section */
} member;

struct nmpi_team {
  int size;
  bool with_caller; /* member 0 is the thread that made the team */
  const char *path;
  const char *cpath;
  bool jit;
  bool debug;
  member *members;
  pthread_mutex_t mutex;
  pthread_mutex_t section; /* the critical section */
  pthread_cond_t begin;    /* for members: another round */
  pthread_cond_t end;      /* for the caller: the round has ended */
  pthread_cond_t meeting;  /* for members that wait for each other */
  atomic_int round;
  atomic_int running; /* members that have not ended this round */
  atomic_int met;     /* meetings that have taken place */
  atomic_int missing; /* the member that will not come to a meeting any more, or NOBODY */
  nmpi_work work;
  bool closing;
  atomic_int failed; /* the first member that failed, or NOBODY */
  int results;       /* members with a result */
  /* Of the meeting that is going on, and of the last. */
  int arrived;
  const nmpi_op *op; /* and what MPI is given for it */
  MPI_Op handle;
  MPI_Datatype type;
  bool mixed; /* not all have come for the same */
  bool was_mixed;
  double *numbers; /* one for each member */
  double result;
  _Atomic int64_t next; /* what nobody has taken yet */
};

static atomic_int teams_running;

bool teams_run(void) {
  return teams_running > 0;
}

/* ---- waiting ---- */

/* Sleeping threads are slow to wake up: look for a while before. Other threads that want this core get it. */
static bool spin(const atomic_int *word, int value, const atomic_int *other, int other_value) {
  for (int i = 0; i < 400; i++) {
    if (atomic_load_explicit(word, memory_order_acquire) != value) return true;
    if (other != NULL && atomic_load_explicit(other, memory_order_acquire) != other_value) {
      return true;
    }
    if (i % 8 == 7) sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

/* ---- members ---- */

static bool has_failed(const member *m) {
  return m->m.error != NULL;
}

/* The first member has failed, and others go on: perhaps they wait in MPI for what it would have sent, for ever. */
static void watch(const nmpi_team *t, int id, const char *error, int round) {
  int waited = 0;
  for (; t->running > 0 && t->round == round && waited < GRACE; waited += 10) poll(NULL, 0, 10);
  if (waited < GRACE || t->running == 0 || t->round != round) return;
  int rank = nmpi_comm_rank(NULL), size = nmpi_comm_size(NULL);
  fprintf(
      stderr,
      "nmpi: rank %d of %d: thread %d of %d: %s\n"
      "nmpi: rank %d of %d: %d seconds later %d other threads still run, perhaps waiting for what "
      "this one would have sent, so the job ends\n",
      rank, size, id, t->size, error, rank, size, GRACE / 1000, (int)t->running);
  nmpi_exit_status(1);
  nmpi_abort(1);
}

static void end_round(nmpi_team *t, member *m) {
  if (m->holds) pthread_mutex_unlock(&t->section);
  m->holds = false;
  pthread_mutex_lock(&t->mutex);
  /* Once this one does not run any more, the next round may begin. */
  int round = t->round;
  const char *error = m->m.error;
  bool first = has_failed(m) && t->failed == NOBODY;
  if (first) t->failed = m->m.id;
  t->results += m->m.count > 0;
  if (t->missing == NOBODY || first) t->missing = m->m.id;
  if (t->arrived > 0) pthread_cond_broadcast(&t->meeting);
  bool last = atomic_fetch_sub(&t->running, 1) == 1;
  if (last) pthread_cond_signal(&t->end);
  pthread_mutex_unlock(&t->mutex);
  if (first && !last && round != 0) watch(t, m->m.id, error, round);
}

/* Waits for the next round; false where there is to be none. */
static bool await_round(nmpi_team *t, member *m) {
  if (!spin(&t->round, m->round, NULL, 0)) {
    pthread_mutex_lock(&t->mutex);
    while (t->round == m->round) pthread_cond_wait(&t->begin, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
  }
  m->round = t->round;
  return !t->closing;
}

/* What a state begins with; its result is what each round calls. */
static const char boot[] = "local debugging = ... "
                           "require('nmpi.rc').debug = debugging "
                           "return require('nmpi.team').start()";

static void prepare(const nmpi_team *t, member *m) {
  m->L = state_create(t->path, t->cpath, t->jit);
  if (m->L == NULL || state_load(m->L, boot, sizeof boot - 1, NULL) != NMPI_SUCCESS) {
    m->m.error = nmpi_error_message();
    return;
  }
  lua_pushboolean(m->L, t->debug);
  if (!state_call(m->L, 1, 1)) m->m.error = lua_tostring(m->L, -1);
}

/* What is on the stack of a state: the function that each round calls, and the error of the last round, if any. */
static void run(member *m) {
  lua_settop(m->L, 1);
  lua_pushvalue(m->L, 1);
  lua_pushlightuserdata(m->L, &m->m);
  if (!state_call(m->L, 1, 0)) m->m.error = lua_tostring(m->L, -1);
}

static void *member_main(void *member_) {
  member *m = member_;
  nmpi_team *t = m->m.team;
  prepare(t, m);
  bool good = !has_failed(m);
  end_round(t, m);
  while (await_round(t, m)) {
    if (good) run(m);
    end_round(t, m);
  }
  if (m->L != NULL) lua_close(m->L);
  return NULL;
}

/* ---- rounds ---- */

static void begin_round(nmpi_team *t) {
  t->failed = t->missing = NOBODY;
  t->results = t->arrived = 0;
  t->mixed = false;
  t->next = 0;
  t->met++; /* the pieces of earlier rounds are not handed out any more */
  t->running = t->size;
  teams_running++;
}

/* Waits until all have ended. */
static void finish_round(nmpi_team *t) {
  for (int running = t->running; running > 0; running = t->running) {
    if (spin(&t->running, running, NULL, 0)) continue;
    pthread_mutex_lock(&t->mutex);
    while (t->running > 0) pthread_cond_wait(&t->end, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
  }
  teams_running--;
}

void nmpi_team_begin(nmpi_team *t, const nmpi_work *work) {
  for (int id = 0; id < t->size; id++) {
    t->members[id].m.error = NULL;
    t->members[id].m.count = 0;
    t->members[id].m.consequence = false;
  }
  pthread_mutex_lock(&t->mutex);
  t->work = *work;
  begin_round(t);
  t->round++;
  pthread_cond_broadcast(&t->begin);
  pthread_mutex_unlock(&t->mutex);
}

int nmpi_team_finish(nmpi_team *t, const char *error) {
  if (t->with_caller) {
    t->members[0].m.error = error;
    end_round(t, &t->members[0]);
  }
  finish_round(t);
  return t->failed != NOBODY ? NMPI_ERR_ARGUMENT : t->results;
}

nmpi_member *nmpi_team_member(nmpi_team *t, int id) {
  return &t->members[id].m;
}

const nmpi_work *nmpi_member_work(const nmpi_member *m) {
  return &m->team->work;
}

void nmpi_member_answer(nmpi_member *m, const nmpi_value *values, int count) {
  m->values = values;
  m->count = count;
}

/* ---- making and closing teams ---- */

/* The signals of the process are for the thread that it began with. */
static int create_thread(member *m) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&m->thread, NULL, member_main, m);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

static void join(nmpi_team *t, int first, int end) {
  pthread_mutex_lock(&t->mutex);
  t->closing = true;
  t->round++;
  pthread_cond_broadcast(&t->begin);
  pthread_mutex_unlock(&t->mutex);
  for (int id = first; id < end; id++) pthread_join(t->members[id].thread, NULL);
}

static void destroy(nmpi_team *t) {
  pthread_mutex_destroy(&t->mutex);
  pthread_mutex_destroy(&t->section);
  pthread_cond_destroy(&t->begin);
  pthread_cond_destroy(&t->end);
  pthread_cond_destroy(&t->meeting);
  free(t->members);
  free(t->numbers);
  free(t);
}

static nmpi_team *allocate(int size) {
  nmpi_team *t = calloc(1, sizeof *t);
  member *members = calloc((size_t)size, sizeof *members);
  double *numbers = calloc((size_t)size, sizeof *numbers);
  if (t == NULL || members == NULL || numbers == NULL) {
    free(t);
    free(members);
    free(numbers);
    return NULL;
  }
  t->size = size;
  t->members = members;
  t->numbers = numbers;
  pthread_mutex_init(&t->mutex, NULL);
  pthread_mutex_init(&t->section, NULL);
  pthread_cond_init(&t->begin, NULL);
  pthread_cond_init(&t->end, NULL);
  pthread_cond_init(&t->meeting, NULL);
  for (int i = 0; i < size; i++) members[i].m = (nmpi_member){.team = t, .id = i, .size = size};
  return t;
}

/* The first round: each member makes its state. */
static int start(nmpi_team *t) {
  int first = t->with_caller ? 1 : 0, id = first;
  begin_round(t);
  t->running -= first;
  while (id < t->size && create_thread(&t->members[id]) == 0) id++;
  t->running -= t->size - id;
  finish_round(t);
  if (id < t->size) {
    fail("n", "the system has no more than %d threads for it", id - first);
  } else if (t->failed != NOBODY) {
    fail(NULL, "thread %d of %d: %s", t->failed, t->size, t->members[t->failed].m.error);
  } else {
    return NMPI_SUCCESS;
  }
  join(t, first, id);
  return NMPI_ERR_ARGUMENT;
}

int nmpi_team_create(int size, int with_caller, const char *path, const char *cpath, int jit,
                     nmpi_team **made) {
  if (size < 1 || size > MAX_MEMBERS) {
    return fail("n", "expected 1 to %d threads, got %d", MAX_MEMBERS, size);
  }
  if (nmpi_query_thread() < 3) {
    return fail(
        NULL,
        "expected MPI with thread level 'multiple', got '%s': set NMPI_THREAD_LEVEL or "
        "require('nmpi.rc').thread_level to 'multiple'; if it is, this MPI library cannot do it",
        (const char *[]){"single", "funneled", "serialized"}[nmpi_query_thread()]);
  }
  nmpi_team *t = allocate(size);
  if (t == NULL) return fail("n", "no memory for %d threads", size);
  t->with_caller = with_caller != 0;
  t->path = path;
  t->cpath = cpath;
  t->jit = jit != 0;
  t->debug = debugging();
  int code = start(t);
  if (code == NMPI_SUCCESS) {
    *made = t;
  } else {
    destroy(t);
  }
  return code;
}

void nmpi_team_close(nmpi_team **team) {
  nmpi_team *t = *team;
  if (t == NULL) return;
  *team = NULL;
  /* An error that struck between begin and finish, as that of a signal's hook may, leaves work unfinished. */
  if (t->running > 0) nmpi_team_finish(t, "the team has been closed");
  join(t, t->with_caller ? 1 : 0, t->size);
  destroy(t);
}

/* ---- members that wait for each other ---- */

static int fail_to_meet(nmpi_team *t, member *m) {
  int id = t->missing;
  bool failed = t->failed == id;
  m->m.consequence = failed;
  return fail(NULL, failed ? "thread %d has failed" : "thread %d has returned without coming here",
              id);
}

/* The last to come works out what the meeting was for, in the order of the members. */
static void conclude(nmpi_team *t) {
  t->was_mixed = t->mixed;
  t->result = t->numbers[t->size - 1];
  if (t->op != NULL && !t->mixed) {
    /* MPI's second operand comes last. */
    for (int id = t->size - 2; id >= 0; id--) {
      MPI_Reduce_local(&t->numbers[id], &t->result, 1, t->type, t->handle);
    }
  }
  t->arrived = 0;
  t->mixed = false;
  t->next = 0;
  t->met++;
  pthread_cond_broadcast(&t->meeting);
}

static int meet(member *m, const nmpi_op *op, MPI_Op handle, MPI_Datatype type, double *number) {
  nmpi_team *t = m->m.team;
  if (m->holds) return fail(NULL, "expected a thread that is not in the critical section");
  pthread_mutex_lock(&t->mutex);
  if (t->missing != NOBODY || t->running == 0) {
    pthread_mutex_unlock(&t->mutex);
    return t->running == 0 ? fail(NULL, "the team does not run") : fail_to_meet(t, m);
  }
  int met = t->met;
  t->numbers[m->m.id] = *number;
  if (t->arrived > 0 && t->op != op) t->mixed = true;
  t->op = op;
  t->handle = handle;
  t->type = type;
  if (++t->arrived == t->size) conclude(t);
  pthread_mutex_unlock(&t->mutex);
  if (!spin(&t->met, met, &t->missing, NOBODY)) {
    pthread_mutex_lock(&t->mutex);
    while (t->met == met && t->missing == NOBODY) pthread_cond_wait(&t->meeting, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
  }
  if (t->met == met) return fail_to_meet(t, m);
  *number = t->result;
  if (!t->was_mixed) return NMPI_SUCCESS;
  return fail(NULL, "the threads do not agree: they have come here by different calls");
}

int nmpi_member_barrier(nmpi_member *m) {
  double nothing = 0;
  return meet((member *)m, NULL, MPI_OP_NULL, MPI_DATATYPE_NULL, &nothing);
}

int nmpi_member_reduce(nmpi_member *m, const nmpi_op *op, double *number) {
  const nmpi_array scalar = {.type = NMPI_DOUBLE, .itemsize = sizeof(double)};
  MPI_Op handle;
  MPI_Datatype type;
  if (!is_live()) return fail(NULL, "MPI is finalised");
  TRY(check_op(&op, &scalar, "x"));
  TRY(op_begin(op, &scalar, &handle, &type));
  int code = meet((member *)m, op, handle, type, number);
  op_end(op);
  return code;
}

int nmpi_member_meetings(const nmpi_member *m) {
  return m->team->met;
}

double nmpi_member_take(nmpi_member *m, double elements, int meetings) {
  if (m->team->met != meetings) return fail(NULL, "the team has met within the loop");
  return (double)atomic_fetch_add(&m->team->next, (int64_t)elements);
}

int nmpi_member_lock(nmpi_member *m) {
  member *own = (member *)m;
  if (own->holds) return fail(NULL, "expected a thread that is not in the critical section yet");
  if (m->team->running == 0) return fail(NULL, "the team does not run");
  pthread_mutex_lock(&m->team->section);
  own->holds = true;
  return NMPI_SUCCESS;
}

int nmpi_member_unlock(nmpi_member *m) {
  member *own = (member *)m;
  if (!own->holds) return fail(NULL, "expected a thread that is in the critical section");
  own->holds = false;
  pthread_mutex_unlock(&m->team->section);
  return NMPI_SUCCESS;
}

/* ---- what threads share ---- */

void nmpi_array_share(const nmpi_array *a) {
  if (a->owner != NULL && !a->owner->shared) a->owner->shared = true;
}

int nmpi_array_receive(nmpi_array *view, const nmpi_array *a, int ctype) {
  TRY(nmpi_array_view(view, a));
  view->ctype = ctype;
  return NMPI_SUCCESS;
}

int nmpi_array_fetch_add(nmpi_array *a, int64_t i, int64_t x, int64_t *before) {
  if (i < 0 || i >= a->length) {
    return fail("i", "expected an index from 0 to %lld, got %lld", (long long)a->length - 1,
                (long long)i);
  }
  int64_t *element = &a->p.i64[i * a->stride[0]];
  if ((uintptr_t)element % sizeof *element != 0) {
    return fail("a", "expected elements at multiples of %zu bytes", sizeof *element);
  }
  *before = atomic_fetch_add((_Atomic int64_t *)element, x);
  return NMPI_SUCCESS;
}
