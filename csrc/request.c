/* SPDX-License-Identifier: MIT */
/* request.c: nonblocking and persistent point-to-point communication, and matched probes. */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- the pool: a thread's requests ---- */

enum {
  SLOT_BITS = 20,
  GENERATION_BITS = 25,
  MAX_SLOTS = 1 << SLOT_BITS,
  MAX_GENERATION = (1 << GENERATION_BITS) - 1,
  MAX_POOLS = 256,  /* 53 bits, what a double holds, less those of slot and generation */
  PACK_KEPT = 4096, /* bytes: a packed view's buffer up to this size stays with the slot */
  END = -1
};

enum state {
  FREE,
  ACTIVE,
  INACTIVE,  /* a persistent request that has not been started, or has completed */
  MESSAGE,   /* what a matched probe found */
  ABANDONED, /* freed, or completed or cancelled by force: counts as null */
};

/* Arrays of requests up to this length are kept apart from longer ones, so that a program can wait for a few requests
 * in between without what is known of the many being forgotten. */
enum { SHORT_LIST = 32, LISTS = 2 };

/* What a call on an array of many requests goes through comes first, so that it stays in one cache line. */
typedef struct operation {
  enum state state;
  int generation;   /* of the number last given out */
  int place[LISTS]; /* in the pool's lists, or END */
  int next;         /* slot, in the pool's list of free ones or of local ones */
  int before;       /* slot, in the list of local ones */
  MPI_Request handle;
  bool receive;
  bool persistent;
  bool foreign;    /* Lua anchors the memory */
  bool cancelling; /* MPI_Cancel has been called */
  bool listed;     /* in what startall has seen of its array */
  bool local;      /* a message to oneself may meet it */
  bool watched;    /* it may be cut by the send that is going on */
  bool cut;        /* it has been, and MPI will not say so */
  bool alone;      /* in a communicator of one process */
  MPI_Comm comm;
  int own; /* this process's rank in it */
  MPI_Message matched;
  message message;
  nmpi_owner *owner;
  scratch packed;
  nmpi_array view; /* what `packed` stands for */
  const char *routine;
  int peer;
  int tag;
  char *line; /* of the script, where noted */
} operation;

/* The active requests of an array, each once. It is kept for the next call, which looks up only what differs: a program
 * that waits for one of many again and again would otherwise pay for all of them each time. A number never stands for
 * another operation later, so an entry is out of date only when its operation has ended, which says so here. */
typedef struct list {
  /* Of each entry, the number if it is null or its request is below for it, else UNKNOWN. */
  int64_t *known;
  int length;
  int room;
  int active; /* so many handles, slots and positions, in no order */
  MPI_Request *handles;
  int *slots;
  int *positions; /* in the array */
  int *changed;   /* entries to look up; what MPI_Waitsome says */
  MPI_Status *statuses;
  scratch memory[6];
} list;

/* What local operations of one direction have in common at least, until none is left: so that a message to oneself need
 * not be compared with each. */
typedef struct crowd {
  int count;
  uintptr_t low, high; /* of all memory, in communicators of one process */
  int64_t shortest;    /* in bytes */
} crowd;

typedef struct pool {
  int id;
  bool taken; /* by a thread that lives */
  operation *slots;
  int count;
  int room;
  int free;        /* the first free slot */
  int local;       /* the first local one */
  crowd crowds[2]; /* of the local ones; 1: receives */
  int foreign;     /* pending operations on foreign memory */
  list lists[LISTS];
} pool;

static pool *pools[MAX_POOLS];
static int pool_count;
static pthread_mutex_t pools_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;
static pthread_key_t pool_key;
static THREAD_LOCAL pool *mine;

/* The pool outlives its thread, for the sake of its generations: the next thread goes on with it. */
static void pool_leave(void *pool_) {
  pthread_mutex_lock(&pools_mutex);
  ((pool *)pool_)->taken = false;
  pthread_mutex_unlock(&pools_mutex);
}

static void pool_make_key(void) {
  pthread_key_create(&pool_key, pool_leave);
}

static pool *pool_find(void) {
  for (int i = 0; i < pool_count; i++) {
    if (!pools[i]->taken) return pools[i];
  }
  if (pool_count == MAX_POOLS) return NULL;
  pool *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->id = pool_count;
  p->free = p->local = END;
  pools[pool_count++] = p;
  return p;
}

LONG_PATH pool *pool_join(void) {
  pthread_once(&pool_once, pool_make_key);
  pthread_mutex_lock(&pools_mutex);
  mine = pool_find();
  if (mine != NULL) mine->taken = true;
  pthread_mutex_unlock(&pools_mutex);
  pthread_setspecific(pool_key, mine);
  return mine;
}

SHORT_PATH pool *pool_mine(void) {
  return mine != NULL ? mine : pool_join();
}

LONG_PATH bool pool_grow(pool *p) {
  int room = p->room == 0 ? 64 : 2 * p->room;
  if (room > MAX_SLOTS) return false;
  operation *slots = realloc(p->slots, (size_t)room * sizeof *slots);
  if (slots == NULL) return false;
  p->slots = slots;
  p->room = room;
  return true;
}

/* A slot that has never been used. */
LONG_PATH operation *slot_first(pool *p) {
  operation *r = &p->slots[p->count++];
  *r = (operation){.place = {END, END}};
  return r;
}

/* A slot for an operation that is about to start; NULL after a failure. */
SHORT_PATH operation *take(void) {
  pool *p = pool_mine();
  operation *r = NULL;
  if (p == NULL) {
    fail("request", "no more than %d threads can make requests", MAX_POOLS);
  } else if (p->free != END) {
    r = &p->slots[p->free];
    p->free = r->next;
  } else if (p->count == p->room && !pool_grow(p)) {
    fail("request", "there are too many pending operations, %d", p->count);
  } else {
    r = slot_first(p);
  }
  if (r != NULL) r->generation++;
  return r;
}

/* Ends what a slot was taken for. One whose generations are used up is not used again. */
SHORT_PATH void retire(operation *r) {
  if (r->owner != NULL) owner_release(r->owner);
  r->owner = NULL;
  if (RARELY(r->line != NULL)) free(r->line);
  r->line = NULL;
  if (RARELY(r->packed.bytes > PACK_KEPT)) scratch_free(&r->packed);
  mine->foreign -= r->foreign;
  r->foreign = false;
  r->state = FREE;
  if (r->generation == MAX_GENERATION) return;
  r->next = mine->free;
  mine->free = (int)(r - mine->slots);
}

SHORT_PATH double number_of(const operation *r) {
  double high = (double)mine->id * (1 << GENERATION_BITS) + (double)r->generation;
  return high * MAX_SLOTS + (double)(r - mine->slots);
}

LONG_PATH int fail_to_find(double number, bool whole, const char *argument) {
  if (whole) {
    int id = (int)((int64_t)number >> (SLOT_BITS + GENERATION_BITS));
    if (mine != NULL && id != mine->id && id < pool_count) {
      return fail(argument, "expected a request of this thread, got one of another thread");
    }
  }
  return fail(argument, "expected a %s, got %.17g, which is none",
              strcmp(argument, "message") == 0 ? "message" : "request", number);
}

/* Finds the request of a number; NULL for one that is null or has completed. */
SHORT_PATH int find_integer(int64_t number, const char *argument, operation **found) {
  *found = NULL;
  if (number == NMPI_REQUEST_NULL) return NMPI_SUCCESS;
  const pool *p = pool_mine();
  int slot = (int)(number & (MAX_SLOTS - 1));
  int generation = (int)(number >> SLOT_BITS & MAX_GENERATION);
  if (p == NULL || number >> (SLOT_BITS + GENERATION_BITS) != p->id || slot >= p->count ||
      generation == 0 || generation > p->slots[slot].generation) {
    return fail_to_find((double)number, number >= MAX_SLOTS && number < INT64_C(1) << 53, argument);
  }
  operation *r = &p->slots[slot];
  bool live = r->state != FREE && r->state != ABANDONED;
  if (generation == r->generation && live) *found = r;
  return NMPI_SUCCESS;
}

SHORT_PATH int find(double number, const char *argument, operation **found) {
  bool small = number >= 0 && number < 0x1p53;
  int64_t integer = small ? (int64_t)number : 0;
  if (small && (double)integer == number) return find_integer(integer, argument, found);
  *found = NULL;
  return fail_to_find(number, false, argument);
}

SHORT_PATH int check_not_message(const operation *r, const char *argument) {
  if (r == NULL || r->state != MESSAGE) return NMPI_SUCCESS;
  return fail(argument, "expected a request, got a message that mprobe found");
}

SHORT_PATH int find_request(double number, const char *argument, operation **found) {
  TRY(find(number, argument, found));
  return check_not_message(*found, argument);
}

/* ---- the lists of the pool ---- */

enum { UNKNOWN = -1 }; /* no request has this number */

/* The request of an entry is no longer among the active ones. */
LONG_PATH void list_drop(list *l, int k) {
  int which = (int)(l - mine->lists), last = --l->active;
  mine->slots[l->slots[k]].place[which] = END;
  l->known[l->positions[k]] = UNKNOWN;
  if (k == last) return;
  l->handles[k] = l->handles[last];
  l->slots[k] = l->slots[last];
  l->positions[k] = l->positions[last];
  mine->slots[l->slots[k]].place[which] = k;
}

static void list_add(list *l, operation *r, int position) {
  int k = l->active++;
  r->place[l - mine->lists] = k;
  l->handles[k] = r->handle;
  l->slots[k] = (int)(r - mine->slots);
  l->positions[k] = position;
}

/* Forgets the entries from the n-th on. */
static void list_cut(list *l, int n) {
  for (int k = l->active - 1; k >= 0 && n < l->length; k--) {
    if (l->positions[k] >= n) list_drop(l, k);
  }
  if (n < l->length) l->length = n;
}

static bool list_reserve(list *l, int n) {
  if (n <= l->room) return true;
  list_cut(l, 0);
  /* A list that grows entry by entry must not start anew each time. */
  size_t room = (size_t)n + (size_t)n / 2;
  if (room > INT_MAX) room = INT_MAX;
  l->room = 0;
  l->known = scratch_get(&l->memory[0], room * sizeof *l->known);
  l->handles = scratch_get(&l->memory[1], room * sizeof(MPI_Request));
  l->slots = scratch_get(&l->memory[2], room * sizeof *l->slots);
  l->positions = scratch_get(&l->memory[3], room * sizeof *l->positions);
  l->changed = scratch_get(&l->memory[4], room * sizeof *l->changed);
  l->statuses = scratch_get(&l->memory[5], room * sizeof(MPI_Status));
  if (!l->known || !l->handles || !l->slots || !l->positions || !l->changed || !l->statuses) {
    return false;
  }
  l->room = (int)room;
  return true;
}

/* ---- messages to oneself that are cut ---- */

/* Open MPI completes such a receive within the call that sends, so what is complete after it, and was not before, has
 * been cut if there was less room than the message takes. */

static bool is_complete(const operation *r, MPI_Status *found) {
  int done = 0;
  MPI_Request_get_status(r->handle, &done, found);
  return done;
}

bool request_watch_own(MPI_Comm comm, int dest, int tag, int64_t bytes) {
  bool any = false;
  if (mine == NULL || mine->crowds[true].count == 0) return false;
  if (mine->crowds[true].shortest >= bytes) return false;
  for (int slot = mine->local; slot != END; slot = mine->slots[slot].next) {
    operation *r = &mine->slots[slot];
    r->watched = r->receive && r->comm == comm && message_wire(&r->message) < bytes &&
                 (r->peer == MPI_ANY_SOURCE || r->peer == dest) &&
                 (r->tag == MPI_ANY_TAG || r->tag == tag) && !is_complete(r, MPI_STATUS_IGNORE);
    any |= r->watched;
  }
  return any;
}

void request_watched(void) {
  for (int slot = mine->local; slot != END; slot = mine->slots[slot].next) {
    operation *r = &mine->slots[slot];
    MPI_Status found = {.MPI_SOURCE = MPI_PROC_NULL};
    if (r->watched) r->cut = is_complete(r, &found) && found.MPI_SOURCE == r->own;
  }
}

/* ---- messages to oneself that overlap ---- */

/* MPICH 4.0 ends the process where a message within a communicator of one process would be copied onto itself. */
int request_check_alone(const char *argument, const void *data, size_t bytes, MPI_Comm comm,
                        bool receive) {
  uintptr_t low = (uintptr_t)data, high = low + bytes;
  if (mine == NULL || bytes == 0) return NMPI_SUCCESS;
  const crowd *others = &mine->crowds[!receive];
  if (others->count == 0 || high <= others->low || others->high <= low) return NMPI_SUCCESS;
  for (int slot = mine->local; slot != END; slot = mine->slots[slot].next) {
    const operation *r = &mine->slots[slot];
    uintptr_t other = (uintptr_t)r->message.data;
    if (r->receive == receive || r->comm != comm || r->message.packed) continue;
    if (r->message.bytes == 0 || other >= high || low >= other + r->message.bytes) continue;
    return fail(argument, "expected memory of its own, but it overlaps that of a pending %s",
                r->routine);
  }
  return NMPI_SUCCESS;
}

static int check_alone(const operation *r) {
  const message *m = &r->message;
  return request_check_alone(m->argument, m->data, m->packed ? 0 : m->bytes, r->comm, r->receive);
}

/* ---- posting ---- */

/* Open MPI's messages to oneself may cut any receive from oneself, see watch; check_alone wants those in communicators of
 * one process. */
SHORT_PATH bool is_local(const operation *r) {
#ifdef OPEN_MPI
  if (r->receive && (r->peer == r->own || r->peer == MPI_ANY_SOURCE)) return true;
#endif
  return r->alone;
}

SHORT_PATH void crowd_join(crowd *c, const operation *r) {
  if (c->count++ == 0) *c = (crowd){.count = 1, .low = UINTPTR_MAX, .shortest = INT64_MAX};
  int64_t wire = message_wire(&r->message);
  if (wire < c->shortest) c->shortest = wire;
  if (!r->alone || r->message.packed) return;
  uintptr_t low = (uintptr_t)r->message.data, high = low + r->message.bytes;
  if (low < c->low) c->low = low;
  if (high > c->high) c->high = high;
}

SHORT_PATH void activate(operation *r) {
  int slot = (int)(r - mine->slots);
  r->state = ACTIVE;
  r->cancelling = r->watched = r->cut = false;
  r->local = is_local(r);
  if (!r->local) return;
  crowd_join(&mine->crowds[r->receive], r);
  r->next = mine->local;
  r->before = END;
  if (r->next != END) mine->slots[r->next].before = slot;
  mine->local = slot;
}

SHORT_PATH void leave(operation *r) {
  mine->crowds[r->receive].count--;
  if (r->next != END) mine->slots[r->next].before = r->before;
  if (r->before != END) {
    mine->slots[r->before].next = r->next;
  } else {
    mine->local = r->next;
  }
}

SHORT_PATH void deactivate(operation *r) {
  if (r->local) leave(r);
  for (int i = 0; i < LISTS; i++) {
    if (r->place[i] != END) list_drop(&mine->lists[i], r->place[i]);
  }
}

/* What follows the call that posts an operation. */
SHORT_PATH int posted(operation *r, int code, const nmpi_array *data, const char *routine, int peer,
                      int tag, MPI_Comm comm, double *number) {
  if (RARELY(r->message.large)) message_free_type(r->message.type);
  r->message.large = false;
  if (code != MPI_SUCCESS) {
    retire(r);
    return code;
  }
  r->comm = comm;
  r->owner = data->owner;
  owner_retain(r->owner);
  r->foreign = data->owner == NULL;
  mine->foreign += r->foreign;
  if (r->message.packed) r->view = *data;
  r->message.argument = NULL; /* what completes it has no such argument */
  r->routine = routine;
  r->peer = peer;
  r->tag = tag;
  if (r->persistent) {
    r->state = INACTIVE;
  } else {
    activate(r);
  }
  *number = number_of(r);
  return NMPI_SUCCESS;
}

/* MPI_Isend and its like, MPI_Send_init too. */
typedef int isender(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

enum sending { AT_ONCE, BUFFERED, PERSISTENT };

SHORT_PATH int isend_by(isender *mpi_isend, enum sending sending, const char *routine,
                        const nmpi_array *data, int dest, int tag, const nmpi_comm *comm,
                        double *number) {
  *number = NMPI_REQUEST_NULL;
  TRY(check_send(&comm, dest, tag));
  operation *r = take();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  r->receive = false;
  r->own = comm->rank;
  r->alone = comm->size == 1;
  r->persistent = sending == PERSISTENT;
  message *m = &r->message;
  int code = sending == PERSISTENT ? message_send(m, data, "data", &r->packed)
                                   : message_send_to(m, data, "data", &r->packed, comm, dest);
  if (code == NMPI_SUCCESS && sending == BUFFERED) code = check_buffer(message_wire(m), dest);
  if (code == NMPI_SUCCESS && sending != PERSISTENT) code = request_alone(m, comm, false);
  if (code == NMPI_SUCCESS) {
    bool watched = sending != PERSISTENT && request_watch(comm, dest, tag, message_wire(m));
    code = mpi_isend(m->data, m->count, m->type, dest, tag, comm->handle, &r->handle);
    if (watched) request_watched();
  }
  return posted(r, code, data, routine, dest, tag, comm->handle, number);
}

int nmpi_isend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request) {
  return isend_by(MPI_Isend, AT_ONCE, "isend", data, dest, tag, comm, request);
}

int nmpi_issend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request) {
  return isend_by(MPI_Issend, AT_ONCE, "issend", data, dest, tag, comm, request);
}

int nmpi_ibsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request) {
  return isend_by(MPI_Ibsend, BUFFERED, "ibsend", data, dest, tag, comm, request);
}

int nmpi_irsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request) {
  return isend_by(MPI_Irsend, AT_ONCE, "irsend", data, dest, tag, comm, request);
}

int nmpi_send_init(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm,
                   double *request) {
  return isend_by(MPI_Send_init, PERSISTENT, "send_init", data, dest, tag, comm, request);
}

/* MPI_Irecv and MPI_Recv_init. */
typedef int ireceiver(void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

SHORT_PATH int irecv_by(ireceiver *mpi_irecv, bool persistent, const char *routine,
                        nmpi_array *data, int source, int tag, const nmpi_comm *comm,
                        double *number) {
  *number = NMPI_REQUEST_NULL;
  TRY(check_recv(&comm, source, tag));
  operation *r = take();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  r->receive = true;
  r->own = comm->rank;
  r->alone = comm->size == 1;
  r->persistent = persistent;
  message *m = &r->message;
  int code = persistent ? message_recv(m, data, "data", false, &r->packed)
                        : message_recv_from(m, data, "data", &r->packed, comm, source);
  if (code == NMPI_SUCCESS && persistent && r->alone) message_from_self(m);
  if (code == NMPI_SUCCESS && !persistent) code = request_alone(m, comm, true);
  if (code == NMPI_SUCCESS) {
    code = mpi_irecv(m->data, m->count, m->type, source, tag, comm->handle, &r->handle);
  }
  return posted(r, code, data, routine, source, tag, comm->handle, number);
}

int nmpi_irecv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request) {
  return irecv_by(MPI_Irecv, false, "irecv", data, source, tag, comm, request);
}

int nmpi_recv_init(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request) {
  return irecv_by(MPI_Recv_init, true, "recv_init", data, source, tag, comm, request);
}

/* ---- starting persistent requests ---- */

/* The inactive persistent request of a number; NULL after a failure. */
static operation *find_startable(double number, const char *argument) {
  operation *r;
  if (find_request(number, argument, &r) != NMPI_SUCCESS) return NULL;
  if (r != NULL && r->state == INACTIVE) return r;
  fail(argument, "expected a persistent request that is not active, got %s",
       r == NULL ? "a null or completed one" : "an active one");
  return NULL;
}

static int start(operation *r) {
  if (r->alone) TRY(check_alone(r));
  if (!r->receive && r->message.packed) pack(r->message.data, &r->view, r->view.length);
  bool watched = WATCHES && !r->receive && r->peer == r->own &&
                 request_watch_own(r->comm, r->peer, r->tag, message_wire(&r->message));
  int code = MPI_Start(&r->handle);
  if (watched) request_watched();
  if (code == MPI_SUCCESS) activate(r);
  return code;
}

int nmpi_start(double request) {
  operation *r = find_startable(request, "request");
  return r != NULL ? start(r) : NMPI_ERR_ARGUMENT;
}

int nmpi_request_free(double request) {
  operation *r;
  TRY(find_request(request, "request", &r));
  if (r == NULL) return NMPI_SUCCESS;
  if (r->state != INACTIVE) {
    return fail("request", "expected a request that is not active: wait for it first");
  }
  int code = MPI_Request_free(&r->handle);
  retire(r);
  return code;
}

/* ---- completing ---- */

/* MPI says that an operation has ended with a code. */
SHORT_PATH int finish(operation *r, int code, const MPI_Status *found, nmpi_status *status) {
  const MPI_Status nobody = {.MPI_SOURCE = MPI_PROC_NULL, .MPI_TAG = MPI_ANY_TAG};
  if (r->peer == MPI_PROC_NULL) found = &nobody;
  int cancelled = 0;
  if (r->cancelling && code == MPI_SUCCESS) MPI_Test_cancelled(found, &cancelled);
  if (r->receive && !cancelled) {
    if (r->cut && code == MPI_SUCCESS) code = MPI_ERR_TRUNCATE;
    if (r->message.packed) r->message.unpack = &r->view;
    code = message_receive_end(&r->message, code, found, status);
  } else {
    status_empty(status, code);
    if (status != NULL) status->cancelled = cancelled;
  }
  deactivate(r);
  if (r->persistent && code == MPI_SUCCESS) {
    r->state = INACTIVE;
  } else {
    /* Open MPI has freed a persistent request that fails; so that all are alike, it goes everywhere. */
    if (r->handle != MPI_REQUEST_NULL) MPI_Request_free(&r->handle);
    retire(r);
  }
  return code;
}

int nmpi_wait(double request, nmpi_status *status) {
  operation *r;
  MPI_Status found = {0};
  status_empty(status, MPI_SUCCESS);
  TRY(find_request(request, "request", &r));
  if (r == NULL || r->state != ACTIVE) return NMPI_SUCCESS;
  return finish(r, MPI_Wait(&r->handle, &found), &found, status);
}

int nmpi_test(double request, int *flag, nmpi_status *status) {
  operation *r;
  MPI_Status found = {0};
  *flag = 0;
  status_empty(status, MPI_SUCCESS);
  TRY(find_request(request, "request", &r));
  if (r == NULL || r->state != ACTIVE) {
    *flag = 1;
    return NMPI_SUCCESS;
  }
  int code = MPI_Test(&r->handle, flag, &found);
  if (code != MPI_SUCCESS) *flag = 1;
  return *flag ? finish(r, code, &found, status) : NMPI_SUCCESS;
}

int nmpi_cancel(double request) {
  operation *r;
  TRY(find_request(request, "request", &r));
  /* Open MPI 4.1 crashes where a cancelled request is cancelled again. */
  if (r == NULL || r->state != ACTIVE || r->cancelling) return NMPI_SUCCESS;
  r->cancelling = true;
  return MPI_Cancel(&r->handle);
}

/* ---- lists of requests ---- */

/* A call on an array of requests. */
typedef struct call {
  int64_t *numbers;
  int length;
  bool twice; /* some stand in the array more than once */
  list *list;
} call;

static int check_requests(const nmpi_array *requests) {
  if (requests == NULL) return fail("requests", "expected requests, got nil");
  if ((requests->type != NMPI_INT64 && requests->type != NMPI_UINT64) ||
      !nmpi_array_is_contiguous(requests, 0) || (requests->flags & NMPI_READONLY) ||
      requests->length > INT_MAX) {
    const char *kind = requests->flags & NMPI_READONLY         ? "a read-only array"
                       : nmpi_array_is_contiguous(requests, 0) ? "an array"
                                                               : "a strided array";
    const char *dtype = nmpi_dtype_name(requests->type);
    return fail("requests",
                "expected a list of requests, or what mpi.requests(n) makes, got %s of %s", kind,
                dtype != NULL ? dtype : "nothing: it has been freed");
  }
  return NMPI_SUCCESS;
}

/* Notes the entries in which the array differs from what is known of it; returns how many. */
static int list_compare(list *l, const int64_t *numbers, int n) {
  enum { BLOCK = 16 };
  const int64_t *known = l->known;
  int count = 0;
  for (int i = 0; i < n; i += BLOCK) {
    int end = i + BLOCK < n ? i + BLOCK : n;
    if (end - i == BLOCK) {
      int64_t differ = 0, unknown = 0; /* what the array holds may itself be negative */
      for (int j = 0; j < BLOCK; j++) {
        differ |= numbers[i + j] ^ known[i + j];
        unknown |= known[i + j];
      }
      if (differ == 0 && unknown >= 0) continue;
    }
    for (int j = i; j < end; j++) {
      if (numbers[j] != known[j] || known[j] < 0) l->changed[count++] = j;
    }
  }
  return count;
}

/* Takes those entries out of the list. */
static void list_remove(list *l, int count) {
  for (int j = 0; j < count; j++) {
    int64_t number = l->known[l->changed[j]];
    l->known[l->changed[j]] = UNKNOWN;
    if (number > 0) list_drop(l, mine->slots[number & (MAX_SLOTS - 1)].place[l - mine->lists]);
  }
}

/* Puts in what stands there now. */
static int list_insert(call *c, int count) {
  list *l = c->list;
  int which = (int)(l - mine->lists);
  for (int j = 0; j < count; j++) {
    operation *r;
    int position = l->changed[j];
    int64_t number = c->numbers[position];
    TRY(find_integer(number, "requests", &r));
    TRY(check_not_message(r, "requests"));
    if (r == NULL) {
      c->numbers[position] = l->known[position] = NMPI_REQUEST_NULL;
    } else if (r->state != ACTIVE) {
      continue;
    } else if (r->place[which] != END) {
      c->twice = true;
    } else {
      l->known[position] = number;
      list_add(l, r, position);
    }
  }
  return NMPI_SUCCESS;
}

/* Finds the active requests of an array; false after a failure. */
static bool call_begin(call *c, nmpi_array *requests) {
  if (check_requests(requests) != NMPI_SUCCESS) return false;
  int n = (int)requests->length;
  list *l = pool_mine() != NULL ? &mine->lists[n > SHORT_LIST] : NULL;
  *c = (call){.numbers = requests->p.i64, .length = n, .list = l};
  if (l == NULL || !list_reserve(l, n)) {
    fail("requests", "no memory for %d requests", n);
    return false;
  }
  list_cut(l, n);
  for (; l->length < n; l->length++) l->known[l->length] = UNKNOWN;
  int count = list_compare(l, c->numbers, n);
  list_remove(l, count);
  return list_insert(c, count) == NMPI_SUCCESS;
}

static operation *at(const list *l, int k) {
  return &mine->slots[l->slots[k]];
}

/* Ends the request of an entry. */
static int call_finish(call *c, operation *r, int position, int code, const MPI_Status *found,
                       nmpi_status *status) {
  code = finish(r, code, found, status);
  if (r->state == FREE) c->numbers[position] = c->list->known[position] = NMPI_REQUEST_NULL;
  return code;
}

/* Ends the requests that a call over the whole list has completed; returns the first code that is no success. */
static int call_finish_all(call *c, int code) {
  list *l = c->list;
  int first = NMPI_SUCCESS, first_position = INT_MAX;
  /* From the back: what has ended leaves the list, and the last takes its place. */
  for (int k = l->active - 1; k >= 0; k--) {
    operation *r = at(l, k);
    int position = l->positions[k];
    int own = code == MPI_ERR_IN_STATUS ? l->statuses[k].MPI_ERROR : code;
    r->handle = l->handles[k];
    if (own == MPI_ERR_PENDING) continue;
    own = call_finish(c, r, position, own, &l->statuses[k], NULL);
    if (own == NMPI_SUCCESS || position > first_position) continue;
    first = own;
    first_position = position;
  }
  return first;
}

/* The entries that stand for a request which another entry has completed. */
static void call_end(call *c) {
  if (!c->twice) return;
  for (int i = 0; i < c->length; i++) {
    operation *r;
    if (find_integer(c->numbers[i], "requests", &r) == NMPI_SUCCESS && r == NULL) {
      c->numbers[i] = NMPI_REQUEST_NULL;
    }
  }
}

/* MPI_Waitall, which may return as soon as one operation has failed; this waits for the others too. Open MPI 4.1's
 * waits for ever where one has failed before the call (under MPI_THREAD_MULTIPLE), and a loop is no slower there. */
static int list_wait(const list *l) {
  int code = MPI_SUCCESS;
#ifdef OPEN_MPI
  for (int k = 0; k < l->active; k++) l->statuses[k].MPI_ERROR = MPI_ERR_PENDING;
#else
  code = MPI_Waitall(l->active, l->handles, l->statuses);
  if (code != MPI_ERR_IN_STATUS) return code;
#endif
  for (int k = 0; k < l->active; k++) {
    if (l->statuses[k].MPI_ERROR == MPI_ERR_PENDING) {
      int own = MPI_Wait(&l->handles[k], &l->statuses[k]);
      l->statuses[k].MPI_ERROR = own;
    }
    if (l->statuses[k].MPI_ERROR != MPI_SUCCESS) code = MPI_ERR_IN_STATUS;
  }
  return code;
}

int nmpi_waitall(nmpi_array *requests) {
  call c;
  if (!call_begin(&c, requests)) return NMPI_ERR_ARGUMENT;
  if (c.list->active == 0) return NMPI_SUCCESS;
  int code = call_finish_all(&c, list_wait(c.list));
  call_end(&c);
  return code;
}

int nmpi_testall(nmpi_array *requests, int *flag) {
  call c;
  *flag = 0;
  if (!call_begin(&c, requests)) return NMPI_ERR_ARGUMENT;
  *flag = 1;
  if (c.list->active == 0) return NMPI_SUCCESS;
  /* MPICH's MPI_Testall ends one that has failed though others are pending, and says that all have completed. */
  for (int k = 0; k < c.list->active && *flag; k++) {
    *flag = is_complete(at(c.list, k), MPI_STATUS_IGNORE);
  }
  if (*flag == 0) return NMPI_SUCCESS;
  int code = call_finish_all(&c, list_wait(c.list));
  call_end(&c);
  return code;
}

/* The first persistent request of nobody, which MPICH 4.0 does not count among the active ones. */
static int list_nobody(const list *l) {
  for (int k = 0; k < l->active; k++) {
    if (at(l, k)->peer == MPI_PROC_NULL) return k;
  }
  return MPI_UNDEFINED;
}

/* What MPI_Waitany or MPI_Testany has completed. */
static int call_finish_any(call *c, int k, int code, bool done, const MPI_Status *found, int *index,
                           nmpi_status *status) {
  list *l = c->list;
  if (k == MPI_UNDEFINED && done) k = list_nobody(l);
  if (k == MPI_UNDEFINED) return code;
  operation *r = at(l, k);
  r->handle = l->handles[k];
  *index = l->positions[k];
  code = call_finish(c, r, *index, code, found, status);
  call_end(c);
  return code;
}

int nmpi_waitany(nmpi_array *requests, int *index, nmpi_status *status) {
  call c;
  MPI_Status found = {0};
  int k = MPI_UNDEFINED;
  *index = NMPI_UNDEFINED;
  status_empty(status, MPI_SUCCESS);
  if (!call_begin(&c, requests)) return NMPI_ERR_ARGUMENT;
  if (c.list->active == 0) return NMPI_SUCCESS;
  int code = MPI_Waitany(c.list->active, c.list->handles, &k, &found);
  return call_finish_any(&c, k, code, true, &found, index, status);
}

int nmpi_testany(nmpi_array *requests, int *flag, int *index, nmpi_status *status) {
  call c;
  MPI_Status found = {0};
  int k = MPI_UNDEFINED;
  *flag = 0;
  *index = NMPI_UNDEFINED;
  status_empty(status, MPI_SUCCESS);
  if (!call_begin(&c, requests)) return NMPI_ERR_ARGUMENT;
  *flag = 1;
  if (c.list->active == 0) return NMPI_SUCCESS;
  int code = MPI_Testany(c.list->active, c.list->handles, &k, flag, &found);
  if (code != MPI_SUCCESS) *flag = 1;
  return call_finish_any(&c, k, code, *flag != 0, &found, index, status);
}

/* MPI_Waitsome and MPI_Testsome. */
typedef int completer(int, MPI_Request *, int *, int *, MPI_Status *);

static int some_by(completer *mpi_some, nmpi_array *requests, int *count, int *indices) {
  call c;
  *count = NMPI_UNDEFINED;
  if (!call_begin(&c, requests)) return NMPI_ERR_ARGUMENT;
  list *l = c.list;
  int *done = l->changed;
  if (l->active == 0) return NMPI_SUCCESS;
  int first = NMPI_SUCCESS, code = mpi_some(l->active, l->handles, count, done, l->statuses);
  if (*count == MPI_UNDEFINED) {
    done[0] = list_nobody(l);
    *count = done[0] == MPI_UNDEFINED ? 0 : 1;
  }
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return code;
  /* What ends leaves the list, which changes the order of the others. */
  for (int j = 0; j < *count; j++) {
    int k = done[j];
    indices[j] = l->positions[k];
    done[j] = l->slots[k];
    at(l, k)->handle = l->handles[k];
  }
  for (int j = 0; j < *count; j++) {
    int own = code == MPI_ERR_IN_STATUS ? l->statuses[j].MPI_ERROR : code;
    own = call_finish(&c, &mine->slots[done[j]], indices[j], own, &l->statuses[j], NULL);
    if (first == NMPI_SUCCESS) first = own;
  }
  call_end(&c);
  return first;
}

int nmpi_waitsome(nmpi_array *requests, int *count, int *indices) {
  return some_by(MPI_Waitsome, requests, count, indices);
}

int nmpi_testsome(nmpi_array *requests, int *count, int *indices) {
  return some_by(MPI_Testsome, requests, count, indices);
}

/* Marks the requests of a list, from the first, that can be started; returns how many. */
static int64_t mark_startable(const int64_t *numbers, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    operation *r = find_startable((double)numbers[i], "requests");
    if (r == NULL) return i;
    if (r->listed) {
      fail("requests", "expected each request once, got one twice");
      return i;
    }
    r->listed = true;
  }
  return n;
}

int nmpi_startall(nmpi_array *requests) {
  TRY(check_requests(requests));
  const int64_t *numbers = requests->p.i64;
  int64_t startable = mark_startable(numbers, requests->length);
  for (int64_t i = 0; i < startable; i++) {
    operation *r;
    if (find((double)numbers[i], "requests", &r) == NMPI_SUCCESS && r != NULL) r->listed = false;
  }
  if (startable < requests->length) return NMPI_ERR_ARGUMENT;
  for (int64_t i = 0; i < startable; i++) TRY(nmpi_start((double)numbers[i]));
  return NMPI_SUCCESS;
}

/* ---- matched probes ---- */

static int probed(int code, bool found, MPI_Message *handle, const MPI_Status *from,
                  const nmpi_comm *comm, double *matched, nmpi_status *status) {
  if (code != MPI_SUCCESS || !found) return code;
  status_probed(status, code, from);
  operation *r = take();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  r->state = MESSAGE;
  r->matched = *handle;
  r->comm = comm->handle;
  r->own = comm->rank;
  r->alone = comm->size == 1;
  r->persistent = false;
  r->routine = "mprobe";
  r->peer = from->MPI_SOURCE;
  r->tag = from->MPI_TAG;
  *matched = number_of(r);
  return NMPI_SUCCESS;
}

int nmpi_mprobe(int source, int tag, const nmpi_comm *comm, double *matched, nmpi_status *status) {
  MPI_Message handle;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  *matched = NMPI_REQUEST_NULL;
  TRY(check_recv(&comm, source, tag));
  int code = MPI_Mprobe(source, tag, comm->handle, &handle, &found);
  return probed(code, true, &handle, &found, comm, matched, status);
}

int nmpi_improbe(int source, int tag, const nmpi_comm *comm, int *flag, double *matched,
                 nmpi_status *status) {
  MPI_Message handle;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  *flag = 0;
  *matched = NMPI_REQUEST_NULL;
  TRY(check_recv(&comm, source, tag));
  int code = MPI_Improbe(source, tag, comm->handle, flag, &handle, &found);
  return probed(code, *flag != 0, &handle, &found, comm, matched, status);
}

/* What a matched probe has found; NULL after a failure. */
static operation *find_message(double number) {
  operation *r;
  if (find(number, "message", &r) != NMPI_SUCCESS) return NULL;
  if (r != NULL && r->state == MESSAGE) return r;
  fail("message", "expected a message that mprobe found, got %s",
       r == NULL ? "one that has been received" : "a request");
  return NULL;
}

/* What matched probes add to the making of a message. */
static int matched_build(message *m, const operation *from, nmpi_array *data, scratch *packed) {
  TRY(message_recv(m, data, "data", false, packed));
  if (!from->alone) return NMPI_SUCCESS;
  message_from_self(m);
  return request_check_alone(m->argument, m->data, m->packed ? 0 : m->bytes, from->comm, true);
}

int nmpi_mrecv(nmpi_array *data, double matched, nmpi_status *status) {
  message m;
  MPI_Status found = {0};
  operation *r = find_message(matched);
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  TRY(matched_build(&m, r, data, NULL));
  int code = MPI_Mrecv(m.data, m.count, m.type, &r->matched, &found);
  retire(r);
  code = message_receive_end(&m, code, &found, status);
  message_done(&m);
  return code;
}

int nmpi_imrecv(nmpi_array *data, double matched, double *request) {
  *request = NMPI_REQUEST_NULL;
  if (find_message(matched) == NULL) return NMPI_ERR_ARGUMENT;
  operation *r = take(), *from = find_message(matched); /* taking may have moved it */
  if (r == NULL || from == NULL) return NMPI_ERR_ARGUMENT;
  int peer = from->peer, tag = from->tag;
  MPI_Comm comm = from->comm;
  r->receive = true;
  /* Its message has been found, so that no other one will meet it. */
  r->own = MPI_UNDEFINED;
  r->alone = false;
  r->persistent = false;
  message *m = &r->message;
  int code = matched_build(m, from, data, &r->packed);
  if (code == NMPI_SUCCESS) {
    code = MPI_Imrecv(m->data, m->count, m->type, &from->matched, &r->handle);
    retire(from);
  }
  return posted(r, code, data, "imrecv", peer, tag, comm, request);
}

/* ---- foreign memory ---- */

int nmpi_request_slot(double request) {
  operation *r;
  return find(request, "request", &r) == NMPI_SUCCESS && r != NULL ? (int)(r - mine->slots) : END;
}

int nmpi_request_foreign(void) {
  return mine != NULL ? mine->foreign : 0;
}

void nmpi_request_note(double request, const char *line) {
  operation *r;
  if (find(request, "request", &r) != NMPI_SUCCESS || r == NULL) return;
  free(r->line);
  r->line = strdup(line);
}

/* ---- the end ---- */

static void describe_peer(char *text, size_t size, const operation *r) {
  const char *preposition = r->receive || r->state == MESSAGE ? "from" : "to";
  if (r->peer == MPI_ANY_SOURCE) {
    snprintf(text, size, "%s any rank", preposition);
  } else if (r->peer == MPI_PROC_NULL) {
    snprintf(text, size, "%s nobody", preposition);
  } else {
    snprintf(text, size, "%s rank %d", preposition, r->peer);
  }
}

static void report(const operation *r) {
  char peer[32], tag[32] = "any tag";
  describe_peer(peer, sizeof peer, r);
  if (r->tag != MPI_ANY_TAG) snprintf(tag, sizeof tag, "tag %d", r->tag);
  fprintf(stderr, "nmpi: rank %d of %d: %s %s, %s, was never completed%s%s\n", nmpi_comm_rank(NULL),
          nmpi_comm_size(NULL), r->routine, peer, tag, r->line != NULL ? ": " : "",
          r->line != NULL ? r->line : "");
}

/* Ends a receive by cancelling it, and a send by giving it until the deadline, in seconds of MPI_Wtime. False where
 * it is still pending. */
static bool settle(operation *r, double deadline) {
  int done = 0;
  if (r->receive && !r->cancelling) MPI_Cancel(&r->handle);
  while (MPI_Test(&r->handle, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done) {
    if (MPI_Wtime() >= deadline) return false;
    poll(NULL, 0, 1);
  }
  return true;
}

/* In seconds, for all sends that are pending at the end. */
static const double GRACE = 2;

static void give_up(void) {
  fprintf(stderr, "nmpi: rank %d of %d: nobody receives what was sent, so the job ends\n",
          nmpi_comm_rank(NULL), nmpi_comm_size(NULL));
  nmpi_abort(1);
}

void nmpi_request_abandon(void *unused) {
  (void)unused;
  if (mine == NULL || nmpi_finalized() || exit_has_failed()) return;
  double deadline = MPI_Wtime() + GRACE;
  for (int slot = 0; slot < mine->count; slot++) {
    operation *r = &mine->slots[slot];
    if (r->state != ACTIVE || !r->foreign) continue;
    if (!settle(r, deadline)) {
      report(r);
      give_up();
    }
    deactivate(r);
    r->state = ABANDONED;
  }
}

enum { REPORTED = 10 };

void request_finalize(void) {
  double deadline = MPI_Wtime() + GRACE;
  int pending = 0;
  bool lost = false;
  for (int i = 0; i < pool_count; i++) {
    for (int which = 0; which < LISTS; which++) {
      pools[i]->lists[which].active = pools[i]->lists[which].length = 0;
    }
    for (int slot = 0; slot < pools[i]->count; slot++) {
      operation *r = &pools[i]->slots[slot];
      if (r->state == FREE) continue;
      if (r->state == INACTIVE) {
        MPI_Request_free(&r->handle);
        r->state = ABANDONED;
        continue;
      }
      if (pending++ < REPORTED) report(r);
      lost |= r->state == ACTIVE && !settle(r, r->receive ? 0 : deadline) && !r->receive;
      r->state = ABANDONED;
    }
  }
  if (pending > REPORTED) {
    fprintf(stderr, "nmpi: rank %d of %d: and %d more\n", nmpi_comm_rank(NULL),
            nmpi_comm_size(NULL), pending - REPORTED);
  }
  /* MPI_Finalize might wait for ever, or forget the message while its receiver waits. */
  if (lost) give_up();
}
