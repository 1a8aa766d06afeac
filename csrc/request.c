/* SPDX-License-Identifier: MIT */
/* request.c: nonblocking and persistent point-to-point communication, matched probes, and the requests of nonblocking
 * collectives. */
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

/* What distinguishes an operation. */
enum trait {
  RECEIVE = 1,
  PERSISTENT = 2,
  FOREIGN = 4,      /* Lua anchors the memory */
  ALONE = 8,        /* in a communicator of one process */
  LOCAL = 16,       /* a message to oneself may meet it */
  WATCHED = 32,     /* it may be cut by the send that is going on */
  CUT = 64,         /* it has been, and MPI will not say so */
  CANCELLING = 128, /* MPI_Cancel has been called */
  NOBODY = 256,     /* receives from nobody, or is persistent and has nobody as its peer */
  PACKED = 512,     /* a view, which `view` holds */
  NOTED = 1024,     /* `line` is set */
  KEPT = 2048,      /* in the pool's list */
  REDUCTION = 4096,
  PIECES = 8192, /* it takes several requests of MPI */

  /* What ends without further ado may have these only. */
  SIMPLE = RECEIVE | PERSISTENT | FOREIGN | ALONE | LOCAL | REDUCTION
};

/* What every operation goes through comes first, in one cache line. */
typedef struct operation {
  _Alignas(NMPI_ALIGNMENT) double number; /* its own, if FREE the next one's: see number_of */
  enum state state;
  unsigned traits;
  MPI_Request handle;
  nmpi_owner *owner;
  int64_t elements; /* of a receive: as in message */
  int64_t wire;
  struct operation *next; /* in the pool's list of free ones */
  uint64_t met;           /* the last call on an array that has met it */
  int next_local;         /* slot, in the pool's list of local ones */
  int place;              /* in the pool's list of an array, if KEPT */
  int peer;
  int tag;
  int own; /* this process's rank in the communicator */
  bool among_local;
  const char *routine;
  const void *data; /* of local ones: as in message */
  size_t bytes;     /* none where the data are packed */
  MPI_Comm comm;
  MPI_Message matched;
  scratch packed;
  nmpi_array view; /* what `packed` stands for */
  char *line;      /* of the script, where noted */
  /* Of a reduction: */
  const nmpi_op *op;
  nmpi_owner *send_owner;
  scratch send_packed;
  scratch requests; /* MPI's, for each of its pieces: `handle` is one of them */
  int later;        /* so many, from the second on, come after that one, the last first */
} operation;

/* The active requests of a long array, each once. It is kept for the next call, which looks up only what differs: a
 * program that waits for one of many again and again would otherwise pay for all of them each time. A number never
 * stands for another operation later, so an entry is out of date only when its operation has ended, which says so
 * here. */
typedef struct list {
  /* Of each entry, the number if it is null or its request is below for it, else UNKNOWN. */
  int64_t *known;
  int length;
  int room;
  int active;   /* so many handles, slots and positions, in no order */
  int nobodies; /* of the active, those that NOBODY marks */
  MPI_Request *handles;
  int *slots;
  int *positions; /* in the array */
  int *changed;   /* entries to look up; what MPI_Waitsome says */
  MPI_Status *statuses;
  scratch memory[6];
} list;

typedef struct pool {
  own o;
  int id;
  bool taken; /* by a thread that lives */
  operation *slots;
  int count;
  int room;
  operation *free; /* the first free slot; NULL: all are taken */
  int local;       /* the first local one, see next_local */
  crowd crowds[2]; /* of the local ones; 1: receives */
  int foreign;     /* pending operations on foreign memory */
  double last;     /* the number from which on a slot is used up */
  uint64_t calls;  /* on arrays of requests */
  list list;
} pool;

static pool *pools[MAX_POOLS];
static atomic_int pool_count;
static pthread_mutex_t pools_mutex = PTHREAD_MUTEX_INITIALIZER;
static THREAD_LOCAL pool *mine;
THREAD_LOCAL crowd *crowds;

/* The pool outlives its thread, for the sake of its generations: the next thread goes on with it. */
static void pool_leave(own *o) {
  mine = NULL;
  crowds = NULL;
  pthread_mutex_lock(&pools_mutex);
  ((pool *)o)->taken = false;
  pthread_mutex_unlock(&pools_mutex);
}

/* The number of a slot's operation: of the next generation, if it is larger by MAX_SLOTS. */
static double number_of(const pool *p, int slot, int generation) {
  return ((double)p->id * (1 << GENERATION_BITS) + generation) * MAX_SLOTS + slot;
}

static pool *pool_find(void) {
  for (int i = 0; i < pool_count; i++) {
    if (!pools[i]->taken) return pools[i];
  }
  if (pool_count == MAX_POOLS) return NULL;
  pool *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->id = pool_count;
  p->local = END;
  p->last = number_of(p, 0, MAX_GENERATION);
  pools[pool_count++] = p;
  return p;
}

LONG_PATH pool *pool_join(void) {
  pthread_mutex_lock(&pools_mutex);
  mine = pool_find();
  if (mine != NULL) mine->taken = true;
  crowds = mine != NULL ? mine->crowds : NULL;
  pthread_mutex_unlock(&pools_mutex);
  if (mine != NULL) own_join(&mine->o, pool_leave);
  return mine;
}

SHORT_PATH pool *pool_mine(void) {
  return mine != NULL ? mine : pool_join();
}

LONG_PATH bool pool_grow(pool *p) {
  int room = p->room == 0 ? 64 : 2 * p->room;
  if (room > MAX_SLOTS) return false;
  operation *slots = aligned_alloc(_Alignof(operation), (size_t)room * sizeof *slots);
  if (slots == NULL) return false;
  if (p->count > 0) memcpy(slots, p->slots, (size_t)p->count * sizeof *slots);
  free(p->slots);
  p->slots = slots;
  p->room = room;
  return true;
}

/* Makes a slot that has never been used the first free one, if there is none. */
LONG_PATH bool pool_extend(void) {
  pool *p = pool_mine();
  if (p == NULL) {
    fail("request", "no more than %d threads can make requests", MAX_POOLS);
    return false;
  }
  if (p->free != NULL) return true;
  if (p->count == p->room && !pool_grow(p)) {
    fail("request", "there are too many pending operations, %d", p->count);
    return false;
  }
  p->free = &p->slots[p->count];
  *p->free = (operation){.number = number_of(p, p->count, 1)};
  p->count++;
  return true;
}

/* The slot for the operation that is about to start, which remains free until it is taken; NULL after a failure. */
SHORT_PATH operation *next_free(void) {
  if (RARELY(mine == NULL || mine->free == NULL) && !pool_extend()) return NULL;
  return mine->free;
}

/* Takes the slot of next_free. */
SHORT_PATH void take(operation *r) {
  mine->free = r->next;
}

/* One whose generations are used up is not used again. */
SHORT_PATH void give_back(operation *r) {
  bool last = r->number >= mine->last;
  r->state = FREE;
  r->number += MAX_SLOTS;
  if (RARELY(last)) return;
  r->next = mine->free;
  mine->free = r;
}

SHORT_PATH void let_go(operation *r) {
  if (r->traits & FOREIGN) mine->foreign--;
  owner_release(r->owner);
}

/* Ends what a slot was taken for. */
static void retire(operation *r) {
  let_go(r);
  if (RARELY(r->line != NULL)) {
    free(r->line);
    r->line = NULL;
  }
  scratch_trim(&r->packed, PACK_KEPT);
  give_back(r);
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
static int find_integer(int64_t number, const char *argument, operation **found) {
  *found = NULL;
  if (number == NMPI_REQUEST_NULL) return NMPI_SUCCESS;
  const pool *p = pool_mine();
  int slot = (int)(number & (MAX_SLOTS - 1));
  int generation = (int)(number >> SLOT_BITS & MAX_GENERATION);
  bool known = p != NULL && number >> (SLOT_BITS + GENERATION_BITS) == p->id && slot < p->count;
  operation *r = known ? &p->slots[slot] : NULL;
  double given =
      known ? r->number - (r->state == FREE ? MAX_SLOTS : 0) : 0; /* the last number given out */
  if (!known || generation == 0 || (double)number > given) {
    return fail_to_find((double)number, number >= MAX_SLOTS && number < INT64_C(1) << 53, argument);
  }
  bool live = r->state != FREE && r->state != ABANDONED;
  if (r->number == (double)number && live) *found = r;
  return NMPI_SUCCESS;
}

static int find(double number, const char *argument, operation **found) {
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

static int find_request(double number, const char *argument, operation **found) {
  TRY(find(number, argument, found));
  return check_not_message(*found, argument);
}

/* What a number names if that is in the given state, by the shortest path; else NULL. */
SHORT_PATH operation *find_in(enum state state, double number) {
  if (mine == NULL || !(number >= MAX_SLOTS && number < 0x1p53)) return NULL;
  int slot = (int)((int64_t)number & (MAX_SLOTS - 1));
  if (slot >= mine->count) return NULL;
  operation *r = &mine->slots[slot];
  return r->number == number && r->state == state ? r : NULL;
}

/* The slot of a whole number, if it is that of the slot's operation, or of its next one; else NULL. */
SHORT_PATH operation *slot_of(int64_t number) {
  int slot = (int)(number & (MAX_SLOTS - 1));
  if (slot >= mine->count) return NULL;
  operation *r = &mine->slots[slot];
  return r->number == (double)number ? r : NULL;
}

/* ---- the list of the pool ---- */

enum { UNKNOWN = -1 }; /* no request has this number */

/* The request of an entry is no longer among the active ones. */
static void list_drop(list *l, int k) {
  int last = --l->active;
  l->nobodies -= (mine->slots[l->slots[k]].traits & NOBODY) != 0;
  mine->slots[l->slots[k]].traits &= ~(unsigned)KEPT;
  l->known[l->positions[k]] = UNKNOWN;
  if (k == last) return;
  l->handles[k] = l->handles[last];
  l->slots[k] = l->slots[last];
  l->positions[k] = l->positions[last];
  mine->slots[l->slots[k]].place = k;
}

static void list_add(list *l, operation *r, int position) {
  int k = l->active++;
  r->traits |= KEPT;
  l->nobodies += (r->traits & NOBODY) != 0;
  r->place = k;
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
  for (int i = r->traits & PIECES ? r->later : 0; i > 0 && done; i--) {
    MPI_Request_get_status(((MPI_Request *)r->requests.data)[i], &done, MPI_STATUS_IGNORE);
  }
  return done;
}

/* Goes through the local operations: the one that `link`, or one after it, leads to; NULL at the end. Those that have
 * ended are in the list until then, so that ones which come and go need not be put there and taken out each time. */
static operation *next_local(int *link) {
  while (*link != END) {
    operation *r = &mine->slots[*link];
    if (r->state == ACTIVE && r->traits & LOCAL) return r;
    r->among_local = false;
    *link = r->next_local;
  }
  return NULL;
}

bool request_watch_own(MPI_Comm comm, int dest, int tag, int64_t bytes) {
  bool any = false;
  operation *r;
  if (mine == NULL || mine->crowds[true].count == 0) return false;
  if (mine->crowds[true].shortest >= bytes) return false;
  for (int *link = &mine->local; (r = next_local(link)) != NULL; link = &r->next_local) {
    if (!(r->traits & RECEIVE) || r->comm != comm || r->elements * r->wire >= bytes) continue;
    if (r->peer != MPI_ANY_SOURCE && r->peer != dest) continue;
    if (r->tag != MPI_ANY_TAG && r->tag != tag) continue;
    if (is_complete(r, MPI_STATUS_IGNORE)) continue;
    r->traits |= WATCHED;
    any = true;
  }
  return any;
}

void request_watched(void) {
  operation *r;
  for (int *link = &mine->local; (r = next_local(link)) != NULL; link = &r->next_local) {
    MPI_Status found = {.MPI_SOURCE = MPI_PROC_NULL};
    if (!(r->traits & WATCHED)) continue;
    r->traits &= ~(unsigned)WATCHED;
    if (is_complete(r, &found) && found.MPI_SOURCE == r->own) r->traits |= CUT;
  }
}

/* ---- messages to oneself that overlap ---- */

/* MPICH 4.0 ends the process where a message within a communicator of one process would be copied onto itself. */
int request_check_alone(const char *argument, const void *data, size_t bytes, MPI_Comm comm,
                        bool receive) {
  uintptr_t low = (uintptr_t)data, high = low + bytes;
  if (mine == NULL || bytes == 0 || crowd_is_apart(&mine->crowds[!receive], data, bytes)) {
    return NMPI_SUCCESS;
  }
  operation *r;
  for (int *link = &mine->local; (r = next_local(link)) != NULL; link = &r->next_local) {
    uintptr_t other = (uintptr_t)r->data;
    if ((r->traits & RECEIVE) == receive || r->comm != comm || r->bytes == 0) continue;
    if (other >= high || low >= other + r->bytes) continue;
    return fail(argument, "expected memory of its own, but it overlaps that of a pending %s",
                r->routine);
  }
  return NMPI_SUCCESS;
}

/* ---- posting ---- */

/* Open MPI's messages to oneself may cut any receive from oneself, see watch; check_alone wants those in communicators
 * of one process. */
SHORT_PATH unsigned traits_of(bool receive, int peer, const nmpi_comm *comm) {
  bool own = peer == comm->rank || (receive && peer == MPI_ANY_SOURCE), alone = comm->size == 1;
  unsigned traits = (receive ? RECEIVE : 0) | (alone ? ALONE : 0);
  if (own && (alone || (WATCHES && receive))) traits |= LOCAL;
  if (receive && peer == MPI_PROC_NULL) traits |= NOBODY;
  return traits;
}

/* What is local joins the others. */
SHORT_PATH void join(operation *r) {
  crowd *c = &mine->crowds[r->traits & RECEIVE];
  uintptr_t low = (uintptr_t)r->data, high = low + r->bytes;
  int64_t wire = WATCHES ? r->elements * r->wire : 0;
  if (c->count++ == 0) {
    c->low = low;
    c->high = high;
    c->shortest = wire;
  } else {
    if (low < c->low) c->low = low;
    if (high > c->high) c->high = high;
    if (wire < c->shortest) c->shortest = wire;
  }
  if (r->among_local) return;
  r->among_local = true;
  r->next_local = mine->local;
  mine->local = (int)(r - mine->slots);
}

SHORT_PATH void activate(operation *r) {
  r->state = ACTIVE;
  if (r->traits & LOCAL) join(r);
}

/* What a report of it needs, and how it ends. */
SHORT_PATH void describe(operation *r, unsigned traits, const nmpi_array *data, const char *routine,
                         int peer, int tag) {
  r->owner = data->owner;
  r->traits = data->owner != NULL ? traits : traits | FOREIGN;
  r->routine = routine;
  r->peer = peer;
  r->tag = tag;
}

/* It has been posted, and described. Returns its number. */
SHORT_PATH double begin(operation *r) {
  take(r);
  if (r->traits & FOREIGN) mine->foreign++;
  owner_retain(r->owner);
  if (r->traits & PERSISTENT) {
    r->state = INACTIVE;
  } else {
    activate(r);
  }
  return r->number;
}

/* What the others need not know of one that is not local. */
SHORT_PATH void describe_local(operation *r, const void *data, size_t bytes,
                               const nmpi_comm *comm) {
  r->data = data;
  r->bytes = bytes;
  r->comm = comm->handle;
  r->own = comm->rank;
}

/* What follows the call that posts an operation by the long path. */
static int posted(operation *r, message *m, int code, unsigned traits, const nmpi_array *data,
                  const char *routine, int peer, int tag, const nmpi_comm *comm, double *number) {
  if (m->large) message_free_type(m->type);
  if (code != MPI_SUCCESS) {
    scratch_trim(&r->packed, PACK_KEPT);
    return code;
  }
  if (m->packed) {
    r->view = *data;
    traits |= PACKED;
  }
  r->elements = m->elements;
  r->wire = m->wire;
  describe_local(r, m->data, m->packed ? 0 : m->bytes, comm);
  describe(r, traits, data, routine, peer, tag);
  *number = begin(r);
  return NMPI_SUCCESS;
}

/* MPI_Isend and its like, MPI_Send_init too. */
typedef int isender(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

enum sending { AT_ONCE, BUFFERED, PERSISTENTLY };

LONG_PATH int isend_view(isender *mpi_isend, enum sending sending, const char *routine,
                         const nmpi_array *data, int dest, int tag, const nmpi_comm *comm,
                         double *number) {
  bool persistent = sending == PERSISTENTLY;
  operation *r = next_free();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  message m;
  int code = persistent ? message_send(&m, data, "data", &r->packed)
                        : message_send_to(&m, data, "data", &r->packed, comm, dest);
  if (code == NMPI_SUCCESS && sending == BUFFERED) code = check_buffer(message_wire(&m), dest);
  if (code == NMPI_SUCCESS && !persistent) code = request_alone(&m, comm, false);
  if (code == NMPI_SUCCESS) {
    bool watched = !persistent && request_watch(comm, dest, tag, message_wire(&m));
    code = mpi_isend(m.data, m.count, m.type, dest, tag, comm->handle, &r->handle);
    if (watched) request_watched();
  }
  unsigned traits = traits_of(false, dest, comm);
  if (persistent) traits |= PERSISTENT | (dest == MPI_PROC_NULL ? NOBODY : 0);
  return posted(r, &m, code, traits, data, routine, dest, tag, comm, number);
}

SHORT_PATH int isend_by(isender *mpi_isend, enum sending sending, const char *routine,
                        const nmpi_array *data, int dest, int tag, const nmpi_comm *comm,
                        double *number) {
  *number = NMPI_REQUEST_NULL;
  TRY(check_send(&comm, dest, tag));
  operation *r = next_free();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  bool persistent = sending == PERSISTENTLY;
  if (RARELY(!array_is_short(data, 0)) ||
      (!persistent && RARELY(!request_send_is_free(data, comm, dest)))) {
    return isend_view(mpi_isend, sending, routine, data, dest, tag, comm, number);
  }
  if (sending == BUFFERED) TRY(check_buffer(data->length * array_wire(data), dest));
  TRY(mpi_isend(data->p.any, data->count, dtypes[data->type].unit, dest, tag, comm->handle,
                &r->handle));
  unsigned traits = traits_of(false, dest, comm);
  if (persistent) {
    traits |= PERSISTENT | (dest == MPI_PROC_NULL ? NOBODY : 0);
    r->elements = data->length;
    r->wire = array_wire(data);
  }
  if (persistent || traits & LOCAL) describe_local(r, data->p.any, array_bytes(data), comm);
  describe(r, traits, data, routine, dest, tag);
  *number = begin(r);
  return NMPI_SUCCESS;
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
  return isend_by(MPI_Send_init, PERSISTENTLY, "send_init", data, dest, tag, comm, request);
}

/* MPI_Irecv and MPI_Recv_init. */
typedef int ireceiver(void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

LONG_PATH int irecv_view(ireceiver *mpi_irecv, bool persistent, const char *routine,
                         nmpi_array *data, int source, int tag, const nmpi_comm *comm,
                         double *number) {
  operation *r = next_free();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  message m;
  int code = persistent ? message_recv(&m, data, "data", false, &r->packed)
                        : message_recv_from(&m, data, "data", &r->packed, comm, source);
  if (code == NMPI_SUCCESS && persistent && comm->size == 1) message_from_self(&m);
  if (code == NMPI_SUCCESS && !persistent) code = request_alone(&m, comm, true);
  if (code == NMPI_SUCCESS) {
    code = mpi_irecv(m.data, m.count, m.type, source, tag, comm->handle, &r->handle);
  }
  unsigned traits = traits_of(true, source, comm) | (persistent ? PERSISTENT : 0);
  return posted(r, &m, code, traits, data, routine, source, tag, comm, number);
}

SHORT_PATH int irecv_by(ireceiver *mpi_irecv, bool persistent, const char *routine,
                        nmpi_array *data, int source, int tag, const nmpi_comm *comm,
                        double *number) {
  int count;
  MPI_Datatype type;
  *number = NMPI_REQUEST_NULL;
  TRY(check_recv(&comm, source, tag));
  operation *r = next_free();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  if (RARELY(!array_is_short(data, NMPI_READONLY)) ||
      RARELY(!request_recv_is_free(data, comm->size == 1, &count, &type))) {
    return irecv_view(mpi_irecv, persistent, routine, data, source, tag, comm, number);
  }
  TRY(mpi_irecv(data->p.any, count, type, source, tag, comm->handle, &r->handle));
  unsigned traits = traits_of(true, source, comm) | (persistent ? PERSISTENT : 0);
  r->elements = data->length;
  r->wire = array_wire(data);
  if (persistent || traits & LOCAL) describe_local(r, data->p.any, array_bytes(data), comm);
  describe(r, traits, data, routine, source, tag);
  *number = begin(r);
  return NMPI_SUCCESS;
}

int nmpi_irecv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request) {
  return irecv_by(MPI_Irecv, false, "irecv", data, source, tag, comm, request);
}

int nmpi_recv_init(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request) {
  return irecv_by(MPI_Recv_init, true, "recv_init", data, source, tag, comm, request);
}

/* ---- reductions ---- */

static void trim(operation *r) {
  scratch_trim(&r->send_packed, PACK_KEPT);
  scratch_trim(&r->requests, PACK_KEPT);
}

int request_prepare(reduction *x, int64_t elements) {
  operation *r = next_free();
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  size_t pieces = (size_t)(elements / message_max_count) + 1;
  x->requests = scratch_get(&r->requests, pieces * sizeof(MPI_Request));
  if (x->requests == NULL) return fail(NULL, "no memory for another request");
  x->send_packed = &r->send_packed;
  x->recv_packed = &r->packed;
  return NMPI_SUCCESS;
}

int request_decline(int code) {
  operation *r = next_free();
  scratch_trim(&r->packed, PACK_KEPT);
  trim(r);
  return code;
}

/* Keeps an array's storage; Lua must keep that which has no count. */
static unsigned hold(nmpi_owner **owner, const nmpi_array *data) {
  *owner = data->owner;
  if (*owner == NULL) return FOREIGN;
  owner_retain(*owner);
  return 0;
}

/* It has been posted; by the long path there is more to be noted. */
SHORT_PATH void begin_reduction(operation *r, const char *routine, const nmpi_op *op,
                                const nmpi_array *senddata, const nmpi_array *recvdata) {
  unsigned traits = REDUCTION;
  take(r);
  r->owner = r->send_owner = NULL;
  if (senddata != NULL) traits |= hold(&r->send_owner, senddata);
  if (recvdata != NULL) traits |= hold(&r->owner, recvdata);
  if (traits & FOREIGN) mine->foreign++;
  r->traits = traits;
  r->routine = routine;
  r->op = op;
  r->later = 0;
  r->state = ACTIVE;
}

MPI_Request *request_handle(void) {
  operation *r = next_free();
  return r != NULL ? &r->handle : NULL;
}

double request_reduction_short(const char *routine, const nmpi_op *op, const nmpi_array *senddata,
                               const nmpi_array *recvdata) {
  operation *r = next_free();
  begin_reduction(r, routine, op, senddata, recvdata);
  return r->number;
}

double request_reduction(const reduction *x, int pieces, const nmpi_array *senddata,
                         nmpi_array *recvdata) {
  operation *r = next_free();
  begin_reduction(r, x->routine, x->op, senddata, recvdata);
  if (x->recv.unpack != NULL) {
    r->traits |= PACKED;
    r->view = *recvdata;
  }
  if (pieces > 1) r->traits |= PIECES;
  r->elements = x->recv.elements;
  r->handle = x->requests[0];
  r->later = pieces - 1;
  return r->number;
}

/* Where MPI has completed a piece of a reduction, the next one is to be waited for. */
SHORT_PATH bool proceeds(operation *r, int code) {
  if (!RARELY(r->traits & PIECES) || r->later == 0 || code != MPI_SUCCESS) return false;
  r->handle = ((MPI_Request *)r->requests.data)[r->later--];
  return true;
}

/* The end of a reduction, of which MPI has completed a piece with that code. */
static int finish_reduction(operation *r, int code) {
  for (; r->later > 0; r->later--) {
    int own = MPI_Wait((MPI_Request *)r->requests.data + r->later, MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS) code = own;
  }
  if (code == MPI_SUCCESS && r->traits & PACKED) unpack(&r->view, r->packed.data, r->elements);
  op_end(r->op);
  if (r->send_owner != NULL) owner_release(r->send_owner);
  trim(r);
  return code;
}

/* ---- starting persistent requests ---- */

/* The inactive persistent request of a number; NULL after a failure. */
static operation *find_startable(double number, const char *argument) {
  operation *r = find_in(INACTIVE, number);
  if (r != NULL) return r;
  if (find_request(number, argument, &r) != NMPI_SUCCESS) return NULL;
  fail(argument, "expected a persistent request that is not active, got %s",
       r == NULL ? "a null or completed one" : "an active one");
  return NULL;
}

static int start(operation *r) {
  bool sends = !(r->traits & RECEIVE);
  if (r->traits & ALONE) TRY(request_check_alone(NULL, r->data, r->bytes, r->comm, !sends));
  if (sends && r->traits & PACKED) pack(r->packed.data, &r->view, r->view.length);
  bool watched = WATCHES && sends && r->peer == r->own &&
                 request_watch_own(r->comm, r->peer, r->tag, r->elements * r->wire);
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
  operation *r = find_in(INACTIVE, request);
  if (r == NULL) {
    TRY(find_request(request, "request", &r));
    if (r == NULL) return NMPI_SUCCESS;
    return fail("request", "expected a request that is not active: wait for it first");
  }
  int code = MPI_Request_free(&r->handle);
  retire(r);
  return code;
}

/* ---- completing ---- */

static void deactivate(operation *r) {
  if (r->traits & LOCAL) crowds[r->traits & RECEIVE].count--;
  if (r->traits & KEPT) list_drop(&mine->list, r->place);
}

LONG_PATH int finish(operation *r, int code, const MPI_Status *found, nmpi_status *status) {
  const MPI_Status nobody = {.MPI_SOURCE = MPI_PROC_NULL, .MPI_TAG = MPI_ANY_TAG};
  if (r->traits & NOBODY) found = &nobody;
  int cancelled = 0;
  if (r->traits & CANCELLING && code == MPI_SUCCESS) MPI_Test_cancelled(found, &cancelled);
  if (r->traits & RECEIVE && !cancelled) {
    if (r->traits & CUT && code == MPI_SUCCESS) code = MPI_ERR_TRUNCATE;
    message m = {.data = r->packed.data, .elements = r->elements, .wire = r->wire};
    if (r->traits & PACKED) m.unpack = &r->view;
    code = message_receive_end(&m, code, found, status);
  } else {
    if (r->traits & REDUCTION) code = finish_reduction(r, code);
    status_empty(status, code);
    if (status != NULL) status->cancelled = cancelled;
  }
  deactivate(r);
  if (r->traits & PERSISTENT && code == MPI_SUCCESS) {
    r->traits &= ~(unsigned)(WATCHED | CUT | CANCELLING);
    r->state = INACTIVE;
  } else {
    /* Open MPI has freed a persistent request that fails; so that all are alike, it goes everywhere. */
    if (r->handle != MPI_REQUEST_NULL) MPI_Request_free(&r->handle);
    retire(r);
  }
  return code;
}

/* The same by the shortest path; false where that is not to be had. */
SHORT_PATH bool finish_simple(operation *r, const MPI_Status *found, nmpi_status *status) {
  unsigned traits = r->traits;
  if (RARELY(traits & ~(unsigned)SIMPLE)) return false;
  if (traits & RECEIVE) {
    int64_t bytes = status_bytes(found);
    if (RARELY(bytes != r->elements * r->wire)) return false;
    if (status != NULL) {
      *status = (nmpi_status){found->MPI_SOURCE, found->MPI_TAG, 0, 0, bytes, r->elements};
    }
  } else {
    if (traits & REDUCTION) finish_reduction(r, MPI_SUCCESS);
    status_empty(status, MPI_SUCCESS);
  }
  if (traits & LOCAL) crowds[traits & RECEIVE].count--;
  if (traits & PERSISTENT) {
    r->state = INACTIVE;
  } else {
    let_go(r);
    give_back(r);
  }
  return true;
}

/* MPI says that an operation has ended with a code. */
SHORT_PATH int end(operation *r, int code, const MPI_Status *found, nmpi_status *status) {
  bool ended = code == MPI_SUCCESS && finish_simple(r, found, status);
  return ended ? NMPI_SUCCESS : finish(r, code, found, status);
}

/* What a wait or test does where no operation is active. */
LONG_PATH int end_nothing(double request, nmpi_status *status) {
  operation *r;
  status_empty(status, MPI_SUCCESS);
  return find_request(request, "request", &r);
}

int nmpi_wait(double request, nmpi_status *status) {
  MPI_Status found = {0};
  operation *r = find_in(ACTIVE, request);
  if (RARELY(r == NULL)) return end_nothing(request, status);
  int code = MPI_Wait(&r->handle, &found);
  return end(r, code, &found, status);
}

int nmpi_test(double request, int *flag, nmpi_status *status) {
  MPI_Status found = {0};
  operation *r = find_in(ACTIVE, request);
  *flag = 0;
  if (r == NULL) {
    TRY(end_nothing(request, status));
    *flag = 1;
    return NMPI_SUCCESS;
  }
  int code;
  do {
    code = MPI_Test(&r->handle, flag, &found);
  } while (*flag && proceeds(r, code));
  if (code != MPI_SUCCESS) *flag = 1;
  if (*flag) return end(r, code, &found, status);
  status_empty(status, MPI_SUCCESS);
  return NMPI_SUCCESS;
}

int nmpi_cancel(double request) {
  operation *r;
  TRY(find_request(request, "request", &r));
  /* Open MPI 4.1 crashes where a cancelled request is cancelled again. */
  if (r == NULL || r->state != ACTIVE || r->traits & CANCELLING) return NMPI_SUCCESS;
  if (r->traits & REDUCTION) {
    return fail("request", "expected a send or receive, got %s: MPI cancels no collectives",
                r->routine);
  }
  r->traits |= CANCELLING;
  return MPI_Cancel(&r->handle);
}

/* ---- lists of requests ---- */

int nmpi_requests_check(const nmpi_array *requests) {
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

/* A call on an array of requests. */
typedef struct call {
  int64_t *numbers;
  int length;
  bool twice; /* some stand in the array more than once */
  list *list;
} call;

/* The active requests of an array that is short enough to be looked through each time. */
enum { SHORT_CALL = 32 };

typedef struct batch {
  int64_t *numbers;
  int active;
  MPI_Request handles[SHORT_CALL];
  int positions[SHORT_CALL]; /* in the array */
  int slots[SHORT_CALL];     /* a message may come into the array during the call */
} batch;

/* False where that is not to be had: what is wrong, stands there twice or has completed wants more care, and so do
 * reductions in pieces, and persistent requests of nobody, which MPICH 4.0 does not count among the active ones. */
SHORT_PATH bool gather(batch *b, int64_t *requests, int64_t n) {
  if (mine == NULL || n < 0 || n > SHORT_CALL) return false;
  uint64_t call = ++mine->calls;
  b->numbers = requests;
  b->active = 0;
  for (int i = 0; i < (int)n; i++) {
    int64_t number = requests[i];
    if (number == NMPI_REQUEST_NULL) continue;
    operation *r = slot_of(number);
    if (r == NULL || r->met == call) return false;
    r->met = call;
    if (r->state == INACTIVE) continue;
    if (r->state != ACTIVE || (r->traits & NOBODY && r->traits & PERSISTENT)) return false;
    if (RARELY(r->traits & PIECES)) return false;
    b->handles[b->active] = r->handle;
    b->positions[b->active] = i;
    b->slots[b->active] = (int)(r - mine->slots);
    b->active++;
  }
  return true;
}

/* Ends the k-th of them, which MPI has completed. */
SHORT_PATH int batch_end(const batch *b, int k, int code, const MPI_Status *found,
                         nmpi_status *status) {
  operation *r = &mine->slots[b->slots[k]];
  r->handle = b->handles[k];
  code = end(r, code, found, status);
  if (r->state == FREE) b->numbers[b->positions[k]] = NMPI_REQUEST_NULL;
  return code;
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
    if (number > 0) list_drop(l, mine->slots[number & (MAX_SLOTS - 1)].place);
  }
}

/* Puts in what stands there now. */
static int list_insert(call *c, int count) {
  list *l = c->list;
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
    } else if (r->traits & KEPT) {
      c->twice = true;
    } else {
      l->known[position] = number;
      list_add(l, r, position);
    }
  }
  return NMPI_SUCCESS;
}

/* Finds the active requests of an array; false after a failure. */
static bool call_begin(call *c, int64_t *requests, int64_t length) {
  bool countable = length >= 0 && length <= INT_MAX;
  list *l = countable && pool_mine() != NULL ? &mine->list : NULL;
  if (l == NULL || !list_reserve(l, (int)length)) {
    fail("requests", "no memory for %lld requests", (long long)length);
    return false;
  }
  int n = (int)length;
  *c = (call){.numbers = requests, .length = n, .list = l};
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
  list_drop(c->list, r->place);
  code = end(r, code, found, status);
  if (r->state == FREE) c->numbers[position] = c->list->known[position] = NMPI_REQUEST_NULL;
  return code;
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

/* Looks whether each is a request, and makes those null that have ended. */
SHORT_PATH int check_each(int64_t *requests, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (requests[i] == NMPI_REQUEST_NULL) continue;
    operation *r = mine != NULL ? slot_of(requests[i]) : NULL;
    if (r != NULL && (r->state == ACTIVE || r->state == INACTIVE)) continue;
    TRY(find_integer(requests[i], "requests", &r));
    TRY(check_not_message(r, "requests"));
    if (r == NULL) requests[i] = NMPI_REQUEST_NULL;
  }
  return NMPI_SUCCESS;
}

/* Waits for all, also where some fail. Open MPI 4.1's MPI_Waitall waits for ever where one has failed before the call
 * (under MPI_THREAD_MULTIPLE); a loop is as fast there. One that stands there twice has ended when its turn comes
 * again. */
SHORT_PATH int wait_each(int64_t *requests, int64_t n) {
  int first = NMPI_SUCCESS;
  for (int64_t i = 0; i < n; i++) {
    MPI_Status found = {0};
    if (requests[i] == NMPI_REQUEST_NULL) continue;
    operation *r = slot_of(requests[i]);
    if (r != NULL && r->state == ACTIVE) {
      int code = MPI_Wait(&r->handle, &found);
      code = end(r, code, &found, NULL);
      if (first == NMPI_SUCCESS) first = code;
    }
    bool inactive = r != NULL && r->number == (double)requests[i] && r->state == INACTIVE;
    if (!inactive) requests[i] = NMPI_REQUEST_NULL;
  }
  return first;
}

/* The same, for several on MPICH by one call, which leaves some pending where others fail. */
SHORT_PATH int wait_batch(batch *b) {
  MPI_Status statuses[SHORT_CALL];
  int first = NMPI_SUCCESS, code = NMPI_SUCCESS;
  bool waited = false;
#ifndef OPEN_MPI
  waited = b->active > 1;
  if (waited) code = MPI_Waitall(b->active, b->handles, statuses);
#endif
  for (int k = 0; k < b->active; k++) {
    int own = code;
    bool pending = !waited;
    if (RARELY(code != MPI_SUCCESS)) {
      bool told = code == MPI_ERR_IN_STATUS;
      if (told) own = statuses[k].MPI_ERROR;
      pending = told ? own == MPI_ERR_PENDING : b->handles[k] != MPI_REQUEST_NULL;
    }
    if (pending) own = MPI_Wait(&b->handles[k], &statuses[k]);
    own = batch_end(b, k, own, &statuses[k], NULL);
    if (first == NMPI_SUCCESS) first = own;
  }
  return first == NMPI_SUCCESS && code != MPI_ERR_IN_STATUS ? code : first;
}

int nmpi_waitall(int64_t *requests, int64_t n) {
  batch b;
  if (gather(&b, requests, n)) return wait_batch(&b);
  TRY(check_each(requests, n));
  return wait_each(requests, n);
}

/* MPICH's MPI_Testall ends one that has failed though others are pending, and says that all have completed. */
int nmpi_testall(int64_t *requests, int64_t n, int *flag) {
  batch b;
  *flag = 0;
  if (gather(&b, requests, n)) {
    for (int k = 0; k < b.active; k++) {
      if (!is_complete(&mine->slots[b.slots[k]], MPI_STATUS_IGNORE)) return NMPI_SUCCESS;
    }
    *flag = 1;
    return wait_batch(&b);
  }
  TRY(check_each(requests, n));
  for (int64_t i = 0; i < n; i++) {
    const operation *r = requests[i] != NMPI_REQUEST_NULL ? slot_of(requests[i]) : NULL;
    bool active = r != NULL && r->state == ACTIVE;
    if (active && !is_complete(r, MPI_STATUS_IGNORE)) return NMPI_SUCCESS;
  }
  *flag = 1;
  return wait_each(requests, n);
}

/* The first request of nobody: it is complete, but MPICH 4.0 does not count persistent ones among the active, and waits
 * for the others. */
static int list_nobody(const list *l) {
  for (int k = 0; k < l->active && l->nobodies > 0; k++) {
    if (at(l, k)->traits & NOBODY) return k;
  }
  return MPI_UNDEFINED;
}

/* The same of the k-th in the list; then MPI is to look for another one. */
static bool list_proceeds(list *l, int *k, int code) {
  if (*k == MPI_UNDEFINED || !proceeds(at(l, *k), code)) return false;
  l->handles[*k] = at(l, *k)->handle;
  *k = MPI_UNDEFINED;
  return true;
}

/* What MPI_Waitany or MPI_Testany has completed. */
static int call_finish_any(call *c, int k, int code, const MPI_Status *found, int *index,
                           nmpi_status *status) {
  list *l = c->list;
  if (k == MPI_UNDEFINED) return code;
  operation *r = at(l, k);
  r->handle = l->handles[k];
  *index = l->positions[k];
  code = call_finish(c, r, *index, code, found, status);
  call_end(c);
  return code;
}

/* The same. */
SHORT_PATH int batch_end_any(const batch *b, int k, int code, const MPI_Status *found, int *index,
                             nmpi_status *status) {
  if (k == MPI_UNDEFINED) return code;
  *index = b->positions[k];
  return batch_end(b, k, code, found, status);
}

LONG_PATH int waitany_kept(int64_t *requests, int64_t n, int *index, nmpi_status *status) {
  call c;
  MPI_Status found = {0};
  if (!call_begin(&c, requests, n)) return NMPI_ERR_ARGUMENT;
  if (c.list->active == 0) return NMPI_SUCCESS;
  int k = list_nobody(c.list), code;
  do {
    code = k != MPI_UNDEFINED ? MPI_Wait(&c.list->handles[k], &found)
                              : MPI_Waitany(c.list->active, c.list->handles, &k, &found);
  } while (list_proceeds(c.list, &k, code));
  return call_finish_any(&c, k, code, &found, index, status);
}

int nmpi_waitany(int64_t *requests, int64_t n, int *index, nmpi_status *status) {
  batch b;
  MPI_Status found = {0};
  int k = MPI_UNDEFINED;
  *index = NMPI_UNDEFINED;
  status_empty(status, MPI_SUCCESS);
  if (!gather(&b, requests, n)) return waitany_kept(requests, n, index, status);
  if (b.active == 0) return NMPI_SUCCESS;
  int code = MPI_Waitany(b.active, b.handles, &k, &found);
  return batch_end_any(&b, k, code, &found, index, status);
}

LONG_PATH int testany_kept(int64_t *requests, int64_t n, int *flag, int *index,
                           nmpi_status *status) {
  call c;
  MPI_Status found = {0};
  if (!call_begin(&c, requests, n)) return NMPI_ERR_ARGUMENT;
  *flag = 1;
  if (c.list->active == 0) return NMPI_SUCCESS;
  int k = list_nobody(c.list), code;
  do {
    code = k != MPI_UNDEFINED ? MPI_Wait(&c.list->handles[k], &found)
                              : MPI_Testany(c.list->active, c.list->handles, &k, flag, &found);
  } while (*flag && list_proceeds(c.list, &k, code));
  if (code != MPI_SUCCESS) *flag = 1;
  return call_finish_any(&c, k, code, &found, index, status);
}

int nmpi_testany(int64_t *requests, int64_t n, int *flag, int *index, nmpi_status *status) {
  batch b;
  MPI_Status found = {0};
  int k = MPI_UNDEFINED;
  *flag = 0;
  *index = NMPI_UNDEFINED;
  status_empty(status, MPI_SUCCESS);
  if (!gather(&b, requests, n)) return testany_kept(requests, n, flag, index, status);
  *flag = 1;
  if (b.active == 0) return NMPI_SUCCESS;
  int code = MPI_Testany(b.active, b.handles, &k, flag, &found);
  if (code != MPI_SUCCESS) *flag = 1;
  return batch_end_any(&b, k, code, &found, index, status);
}

/* Leaves out of what MPI_Waitsome or MPI_Testsome has completed the reductions of which other pieces are pending. True
 * if that is all. */
static bool list_proceed_some(list *l, int *count, int *done) {
  int kept = 0, found = *count;
  for (int j = 0; j < found; j++) {
    int k = done[j];
    if (list_proceeds(l, &k, MPI_SUCCESS)) continue;
    l->statuses[kept] = l->statuses[j];
    done[kept++] = k;
  }
  *count = kept;
  return kept == 0 && found > 0;
}

/* MPI_Waitsome and MPI_Testsome. */
typedef int completer(int, MPI_Request *, int *, int *, MPI_Status *);

LONG_PATH int some_kept(completer *mpi_some, int64_t *requests, int64_t n, int *count,
                        int *indices) {
  call c;
  if (!call_begin(&c, requests, n)) return NMPI_ERR_ARGUMENT;
  list *l = c.list;
  int *done = l->changed;
  if (l->active == 0) return NMPI_SUCCESS;
  int first = NMPI_SUCCESS, code, nobody = list_nobody(l);
  if (nobody != MPI_UNDEFINED) {
    code = MPI_Wait(&l->handles[nobody], l->statuses);
    done[0] = nobody;
    *count = 1;
  } else {
    do {
      code = mpi_some(l->active, l->handles, count, done, l->statuses);
    } while (code == MPI_SUCCESS && list_proceed_some(l, count, done));
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

SHORT_PATH int some_by(completer *mpi_some, int64_t *requests, int64_t n, int *count,
                       int *indices) {
  batch b;
  MPI_Status statuses[SHORT_CALL];
  *count = NMPI_UNDEFINED;
  if (!gather(&b, requests, n)) return some_kept(mpi_some, requests, n, count, indices);
  if (b.active == 0) return NMPI_SUCCESS;
  int first = NMPI_SUCCESS, code = mpi_some(b.active, b.handles, count, indices, statuses);
  if (*count == MPI_UNDEFINED) *count = 0;
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return code;
  for (int j = 0; j < *count; j++) {
    int k = indices[j], own = code == MPI_ERR_IN_STATUS ? statuses[j].MPI_ERROR : code;
    indices[j] = b.positions[k];
    own = batch_end(&b, k, own, &statuses[j], NULL);
    if (first == NMPI_SUCCESS) first = own;
  }
  return first;
}

int nmpi_waitsome(int64_t *requests, int64_t n, int *count, int *indices) {
  return some_by(MPI_Waitsome, requests, n, count, indices);
}

int nmpi_testsome(int64_t *requests, int64_t n, int *count, int *indices) {
  return some_by(MPI_Testsome, requests, n, count, indices);
}

int nmpi_startall(const int64_t *requests, int64_t n) {
  uint64_t call = pool_mine() != NULL ? ++mine->calls : 0;
  for (int64_t i = 0; i < n; i++) {
    operation *r = find_startable((double)requests[i], "requests");
    if (r == NULL) return NMPI_ERR_ARGUMENT;
    if (r->met == call) return fail("requests", "expected each request once, got one twice");
    r->met = call;
  }
  /* Those that have been started may have brought messages into the array. */
  for (int64_t i = 0; i < n; i++) {
    operation *r = find_startable((double)requests[i], "requests");
    if (r == NULL) return NMPI_ERR_ARGUMENT;
    TRY(start(r));
  }
  return NMPI_SUCCESS;
}

/* ---- matched probes ---- */

/* MPI gives a message once: a slot must be there before. */
static int probed(int code, bool found, MPI_Message *handle, const MPI_Status *from,
                  const nmpi_comm *comm, double *matched, nmpi_status *status) {
  if (code != MPI_SUCCESS || !found) return code;
  status_probed(status, code, from);
  operation *r = next_free();
  take(r);
  *matched = r->number;
  r->state = MESSAGE;
  r->traits = comm->size == 1 ? ALONE : 0;
  r->owner = NULL;
  r->matched = *handle;
  r->comm = comm->handle;
  r->routine = "mprobe";
  r->peer = from->MPI_SOURCE;
  r->tag = from->MPI_TAG;
  return NMPI_SUCCESS;
}

int nmpi_mprobe(int source, int tag, const nmpi_comm *comm, double *matched, nmpi_status *status) {
  MPI_Message handle;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  *matched = NMPI_REQUEST_NULL;
  TRY(check_recv(&comm, source, tag));
  if (next_free() == NULL) return NMPI_ERR_ARGUMENT;
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
  if (next_free() == NULL) return NMPI_ERR_ARGUMENT;
  int code = MPI_Improbe(source, tag, comm->handle, flag, &handle, &found);
  return probed(code, *flag != 0, &handle, &found, comm, matched, status);
}

/* What a matched probe has found; NULL after a failure. */
static operation *find_message(double number) {
  operation *r = find_in(MESSAGE, number);
  if (r != NULL) return r;
  if (find(number, "message", &r) != NMPI_SUCCESS) return NULL;
  fail("message", "expected a message that mprobe found, got %s",
       r == NULL ? "one that has been received" : "a request");
  return NULL;
}

/* What matched probes add to the making of a message. */
static int matched_build(message *m, const operation *from, nmpi_array *data, scratch *packed) {
  TRY(message_recv(m, data, "data", false, packed));
  if (!(from->traits & ALONE)) return NMPI_SUCCESS;
  message_from_self(m);
  return request_check_alone(m->argument, m->data, m->packed ? 0 : m->bytes, from->comm, true);
}

LONG_PATH int mrecv_view(operation *r, nmpi_array *data, nmpi_status *status) {
  message m;
  MPI_Status found = {0};
  TRY(matched_build(&m, r, data, NULL));
  int code = MPI_Mrecv(m.data, m.count, m.type, &r->matched, &found);
  retire(r);
  code = message_receive_end(&m, code, &found, status);
  message_done(&m);
  return code;
}

int nmpi_mrecv(nmpi_array *data, double matched, nmpi_status *status) {
  int count;
  MPI_Datatype type;
  MPI_Status found = {0};
  operation *r = find_message(matched);
  if (r == NULL) return NMPI_ERR_ARGUMENT;
  if (!array_is_short(data, NMPI_READONLY) ||
      !request_recv_is_free(data, r->traits & ALONE, &count, &type)) {
    return mrecv_view(r, data, status);
  }
  int code = MPI_Mrecv(data->p.any, count, type, &r->matched, &found);
  retire(r);
  return message_receive_end_short(data, "data", code, &found, status);
}

int nmpi_imrecv(nmpi_array *data, double matched, double *request) {
  *request = NMPI_REQUEST_NULL;
  operation *r = next_free(), *from = find_message(matched); /* the first may move the other */
  if (r == NULL || from == NULL) return NMPI_ERR_ARGUMENT;
  message m;
  int code = matched_build(&m, from, data, &r->packed);
  /* Its message has been found, so that no other one will meet it: it is not local. */
  unsigned traits = RECEIVE | (from->peer == MPI_PROC_NULL ? NOBODY : 0);
  const nmpi_comm comm = {.handle = from->comm, .rank = MPI_UNDEFINED};
  bool built = code == NMPI_SUCCESS;
  if (built) code = MPI_Imrecv(m.data, m.count, m.type, &from->matched, &r->handle);
  code = posted(r, &m, code, traits, data, "imrecv", from->peer, from->tag, &comm, request);
  if (built) retire(from);
  return code;
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
  r->traits |= NOTED;
}

/* ---- the end ---- */

static void describe_peer(char *text, size_t size, const operation *r) {
  const char *preposition = r->traits & RECEIVE || r->state == MESSAGE ? "from" : "to";
  if (r->peer == MPI_ANY_SOURCE) {
    snprintf(text, size, " %s any rank", preposition);
  } else if (r->peer == MPI_PROC_NULL) {
    snprintf(text, size, " %s nobody", preposition);
  } else {
    snprintf(text, size, " %s rank %d", preposition, r->peer);
  }
}

static void report(const operation *r) {
  char peer[32] = "", tag[32] = "";
  if (!(r->traits & REDUCTION)) {
    describe_peer(peer, sizeof peer, r);
    snprintf(tag, sizeof tag, r->tag == MPI_ANY_TAG ? ", any tag," : ", tag %d,", r->tag);
  }
  fprintf(stderr, "nmpi: rank %d of %d: %s%s%s was never completed%s%s\n", nmpi_comm_rank(NULL),
          nmpi_comm_size(NULL), r->routine, peer, tag, r->line != NULL ? ": " : "",
          r->line != NULL ? r->line : "");
}

/* Ends a receive by cancelling it, and what else there is by giving it until the deadline, in seconds of MPI_Wtime.
 * False where it is still pending. */
static bool settle(operation *r, double deadline) {
  int done = 0;
  if ((r->traits & (RECEIVE | CANCELLING)) == RECEIVE) MPI_Cancel(&r->handle);
  while (MPI_Test(&r->handle, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS) {
    if (done && !proceeds(r, MPI_SUCCESS)) return true;
    if (done) continue;
    if (MPI_Wtime() >= deadline) return false;
    poll(NULL, 0, 1);
  }
  return true;
}

/* In seconds, for all sends and reductions that are pending at the end. */
static const double GRACE = 2;

static void give_up(const operation *r) {
  const char *reason = r->traits & REDUCTION ? "other ranks do not take part in what was begun"
                                             : "nobody receives what was sent";
  fprintf(stderr, "nmpi: rank %d of %d: %s, so the job ends\n", nmpi_comm_rank(NULL),
          nmpi_comm_size(NULL), reason);
  nmpi_abort(1);
}

void nmpi_request_abandon(void *unused) {
  (void)unused;
  if (mine == NULL || nmpi_finalized() || exit_has_failed()) return;
  double deadline = MPI_Wtime() + GRACE;
  for (int slot = 0; slot < mine->count; slot++) {
    operation *r = &mine->slots[slot];
    if (r->state != ACTIVE || !(r->traits & FOREIGN)) continue;
    if (!settle(r, deadline)) {
      report(r);
      give_up(r);
    }
    deactivate(r);
    r->state = ABANDONED;
  }
}

enum { REPORTED = 10 };

void request_finalize(void) {
  double deadline = MPI_Wtime() + GRACE;
  int pending = 0;
  const operation *lost = NULL;
  for (int i = 0; i < pool_count; i++) {
    pools[i]->list.active = pools[i]->list.length = pools[i]->list.nobodies = 0;
    for (int slot = 0; slot < pools[i]->count; slot++) {
      operation *r = &pools[i]->slots[slot];
      if (r->state == FREE) continue;
      if (r->state == INACTIVE) {
        MPI_Request_free(&r->handle);
        r->state = ABANDONED;
        continue;
      }
      if (pending++ < REPORTED) report(r);
      bool receives = r->traits & RECEIVE;
      if (r->state == ACTIVE && !settle(r, receives ? 0 : deadline) && !receives) lost = r;
      r->state = ABANDONED;
    }
  }
  if (pending > REPORTED) {
    fprintf(stderr, "nmpi: rank %d of %d: and %d more\n", nmpi_comm_rank(NULL),
            nmpi_comm_size(NULL), pending - REPORTED);
  }
  /* MPI_Finalize might wait for ever, or forget the message while its receiver waits. */
  if (lost != NULL) give_up(lost);
}
