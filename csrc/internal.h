/* SPDX-License-Identifier: MIT */
/* internal.h: what the core's files share. */
#ifndef NMPI_INTERNAL_H
#define NMPI_INTERNAL_H

#include <mpi.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "nmpi.h"

/* ---- dtypes: code, name, C type, member of nmpi_array.p, MPI datatype, kind ------------------ */

enum kind {
  KIND_SIGNED = 1,
  KIND_UNSIGNED = 2,
  KIND_INTEGER = KIND_SIGNED | KIND_UNSIGNED,
  KIND_REAL = 4,
  KIND_COMPLEX = 8,
  KIND_LOGICAL = 16,
  KIND_TEXT = 32,
  KIND_PAIR = 64,
  KIND_STRUCT = 128,
};

#define NMPI_DTYPES(X)                                                                             \
  X(NMPI_INT8, "int8", int8_t, i8, MPI_INT8_T, KIND_SIGNED)                                        \
  X(NMPI_INT16, "int16", int16_t, i16, MPI_INT16_T, KIND_SIGNED)                                   \
  X(NMPI_INT32, "int32", int32_t, i32, MPI_INT32_T, KIND_SIGNED)                                   \
  X(NMPI_INT64, "int64", int64_t, i64, MPI_INT64_T, KIND_SIGNED)                                   \
  X(NMPI_UINT8, "uint8", uint8_t, u8, MPI_UINT8_T, KIND_UNSIGNED)                                  \
  X(NMPI_UINT16, "uint16", uint16_t, u16, MPI_UINT16_T, KIND_UNSIGNED)                             \
  X(NMPI_UINT32, "uint32", uint32_t, u32, MPI_UINT32_T, KIND_UNSIGNED)                             \
  X(NMPI_UINT64, "uint64", uint64_t, u64, MPI_UINT64_T, KIND_UNSIGNED)                             \
  X(NMPI_FLOAT, "float", float, f32, MPI_FLOAT, KIND_REAL)                                         \
  X(NMPI_DOUBLE, "double", double, f64, MPI_DOUBLE, KIND_REAL)                                     \
  X(NMPI_COMPLEX_FLOAT, "complex float", float _Complex, c64, MPI_C_FLOAT_COMPLEX, KIND_COMPLEX)   \
  X(NMPI_COMPLEX_DOUBLE, "complex double", double _Complex, c128, MPI_C_DOUBLE_COMPLEX,            \
    KIND_COMPLEX)                                                                                  \
  X(NMPI_BOOL, "bool", _Bool, b, MPI_C_BOOL, KIND_LOGICAL)                                         \
  X(NMPI_CHAR, "char", char, ch, MPI_CHAR, KIND_TEXT)                                              \
  X(NMPI_FLOAT_INT, "float_int", nmpi_float_int, f32i, MPI_FLOAT_INT, KIND_PAIR)                   \
  X(NMPI_DOUBLE_INT, "double_int", nmpi_double_int, f64i, MPI_DOUBLE_INT, KIND_PAIR)               \
  X(NMPI_LONG_INT, "long_int", nmpi_long_int, li, MPI_LONG_INT, KIND_PAIR)                         \
  X(NMPI_SHORT_INT, "short_int", nmpi_short_int, si, MPI_SHORT_INT, KIND_PAIR)                     \
  X(NMPI_2INT, "2int", nmpi_2int, ii, MPI_2INT, KIND_PAIR)

/* What a dtype is to MPI. */
typedef struct dtype_info {
  MPI_Datatype type; /* what to reduce it with; bytes for structs */
  MPI_Datatype unit; /* what its messages consist of */
  int wire;          /* the bytes of an element in a message: pairs leave their padding behind */
  enum kind kind;
} dtype_info;

extern dtype_info dtypes[NMPI_DTYPE_COUNT];

void dtype_init(void);
void dtype_finalize(void);

/* ---- what each thread has of its own ----------------------------------------------------------- */

/* With glibc such a variable is found without a call, in the memory that the loader keeps free for libraries which are
 * loaded late. There is little of it: what is large must be behind a pointer. */
#ifdef __GLIBC__
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL _Thread_local
#endif

/* How the data begins that a thread has of its own and that is not to outlive it. */
typedef struct own {
  void (*leave)(struct own *); /* to be called when the thread ends */
  struct own *next;
} own;

void own_join(own *o, void (*leave)(own *));

/* What functions that return a string have last returned. */
typedef struct texts {
  own o;
  char argument_error[512];
  char mpi_error[MPI_MAX_ERROR_STRING];
  char comm_name[MPI_MAX_OBJECT_NAME];
} texts;

texts *texts_mine(void);

/* ---- errors ---------------------------------------------------------------------------------- */

/* Records what is wrong with an argument and returns NMPI_ERR_ARGUMENT. The message reads
 * "argument 'NAME': " and then the format; without a name, only that. */
int fail(const char *argument, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));

/* What a hot path hardly ever comes to. */
#define RARELY(condition) __builtin_expect((condition), 0)

/* What the short path of a call is made of: only when all of it is in one function does a message stay in registers.
 * Its address must not be taken there, hence copies where a longer path begins. */
#define SHORT_PATH static inline __attribute__((always_inline))
/* What a call with a shorter path comes to where that is not to be had. */
#define LONG_PATH static __attribute__((noinline))

/* Leaves the function with the status if it is not NMPI_SUCCESS. */
#define TRY(expression)                                                                            \
  do {                                                                                             \
    int status_ = (expression);                                                                    \
    if (RARELY(status_ != NMPI_SUCCESS)) return status_;                                           \
  } while (0)

/* ---- groups, communicators and operators ------------------------------------------------------ */

/* Addresses leave these bits free. */
#if UINTPTR_MAX > 0xffffffff
#define TAG_MASK ((uintptr_t)0xffff << 48)
#else
#define TAG_MASK ((uintptr_t)0)
#endif

/* How the struct of a communicator, group or operator begins. What Lua holds is the struct's address with a tag that
 * changes from one use of the struct to the next: what was freed is recognised, and need not wait for the
 * garbage collector. */
typedef struct handle {
  _Atomic(void *) live; /* what Lua holds; NULL where that must not be used any more */
  uintptr_t tag;
  struct handle *unused; /* the next of those */
} handle;

/* The struct that Lua's pointer means, whether it is live or not. */
SHORT_PATH void *handle_of(const void *held) {
  return (void *)((uintptr_t)held & ~TAG_MASK);
}

/* A struct, one of the `unused` if there are any, all of it 0 but how it begins; NULL if there is no memory. */
void *handle_new(handle **unused, size_t size);
void handle_free(handle **unused, handle *h);
/* Ends what is held; of several threads that do so, true for one. */
bool handle_claim(handle *h, void *held);

struct nmpi_group {
  handle h;
  MPI_Group handle;
  const nmpi_comm *within; /* NULL, or one that all its processes are known to belong to */
};

struct nmpi_comm {
  handle h;
  MPI_Comm handle;
  _Atomic(MPI_Comm) private_handle; /* see comm_private */
  int rank;
  int size;
  int ndims; /* of the grid that its processes form, or 0 */
  int dims[NMPI_MAX_CART];
  int periods[NMPI_MAX_CART];
  const char *origin; /* the routine that made it; NULL for those that MPI has from the start */
  char *place;        /* the line of the script that called it, or NULL */
  nmpi_comm *next;    /* in the list of those that are live */
  nmpi_comm *previous;
};

struct nmpi_op {
  handle h;
  MPI_Op handle;
  MPI_Op unsigned_handle; /* for unsigned integers */
  const char *name;       /* NULL: made by a script */
  int kinds; /* the kinds of dtype that it is defined on; 0 where it is made by a script, which op_begin looks at */
};

extern nmpi_op *const op_sum;

int check_made_op(const nmpi_op *op, const nmpi_array *data, const char *argument);

/* Whether an operator is one of MPI's that is defined on a dtype; NULL stands for MPI_SUM. If so, what Lua holds is
 * replaced by the struct. One that a script has made remains what Lua holds: op_begin looks whether it is still that
 * one. */
SHORT_PATH bool op_applies(const nmpi_op **op, int dtype) {
  const nmpi_op *held = *op != NULL ? *op : op_sum, *found = handle_of(held);
  if ((found->kinds & (int)dtypes[dtype].kind) == 0) return false;
  *op = found;
  return true;
}

SHORT_PATH int check_op(const nmpi_op **op, const nmpi_array *data, const char *argument) {
  return op_applies(op, data->type) ? NMPI_SUCCESS : check_made_op(*op, data, argument);
}

/* The handle to reduce data of a dtype with. */
SHORT_PATH MPI_Op op_handle(const nmpi_op *op, int dtype) {
  return dtypes[dtype].kind == KIND_UNSIGNED ? op->unsigned_handle : op->handle;
}

/* What MPI is given to reduce data with an operator that check_op has accepted. Until op_end, which is due after
 * success only, the operator remains, though a script may have freed it. */
int op_begin(const nmpi_op *op, const nmpi_array *data, MPI_Op *handle, MPI_Datatype *type);
void op_end(const nmpi_op *op);

extern nmpi_comm comm_world;

void group_init(void);
void comm_init(void);
/* Where debugging: a line on stderr for each communicator that was never freed. */
void comm_report(void);
void comm_finalize(void);
/* Gives a communicator that MPI has made to Lua; `origin` is the routine. */
int comm_adopt(MPI_Comm handle, const char *origin, nmpi_comm **made);
/* A duplicate of a communicator for the library's own messages. The first call is collective. */
int comm_private(const nmpi_comm *comm, MPI_Comm *handle);
void op_init(void);
void op_finalize(void);

/* ---- argument checks ------------------------------------------------------------------------- */

extern atomic_bool debug;

static inline bool debugging(void) {
  return atomic_load_explicit(&debug, memory_order_relaxed);
}

/* Whether MPI has been initialised and not begun to be finalised. */
static inline bool is_live(void) {
  return comm_world.h.live != NULL;
}

int fail_comm(const nmpi_comm *comm, const char *argument) __attribute__((cold));
int fail_dest(const nmpi_comm *comm, int dest) __attribute__((cold));
int fail_source(const nmpi_comm *comm, int source) __attribute__((cold));
int fail_root(const nmpi_comm *comm, int root) __attribute__((cold));
int fail_send_tag(int tag, const char *argument) __attribute__((cold));
int fail_recv_tag(int tag, const char *argument) __attribute__((cold));

/* Replaces what Lua holds by the struct, NULL by the default; fails where the object cannot be used. */
SHORT_PATH int check_comm(const nmpi_comm **comm) {
  const nmpi_comm *held = *comm != NULL ? *comm : &comm_world;
  *comm = handle_of(held);
  return (*comm)->h.live == held ? NMPI_SUCCESS : fail_comm(*comm, "comm");
}

/* The same for groups, which have no default. */
int fail_group(const nmpi_group *group, const char *argument) __attribute__((cold));

SHORT_PATH int check_group(const nmpi_group **group, const char *argument) {
  const nmpi_group *held = *group;
  *group = handle_of(held);
  bool good = held != NULL && (*group)->h.live == held && is_live();
  return good ? NMPI_SUCCESS : fail_group(*group, argument);
}

SHORT_PATH int check_dest(const nmpi_comm *comm, int dest) {
  bool good = (dest >= 0 && dest < comm->size) || dest == MPI_PROC_NULL;
  return good ? NMPI_SUCCESS : fail_dest(comm, dest);
}

SHORT_PATH int check_source(const nmpi_comm *comm, int source) {
  bool good =
      (source >= 0 && source < comm->size) || source == MPI_ANY_SOURCE || source == MPI_PROC_NULL;
  return good ? NMPI_SUCCESS : fail_source(comm, source);
}

SHORT_PATH int check_root(const nmpi_comm *comm, int root) {
  return root >= 0 && root < comm->size ? NMPI_SUCCESS : fail_root(comm, root);
}

extern int tag_ub;

SHORT_PATH int check_send_tag(int tag, const char *argument) {
  return tag >= 0 && tag <= tag_ub ? NMPI_SUCCESS : fail_send_tag(tag, argument);
}

SHORT_PATH int check_recv_tag(int tag, const char *argument) {
  bool good = tag == MPI_ANY_TAG || (tag >= 0 && tag <= tag_ub);
  return good ? NMPI_SUCCESS : fail_recv_tag(tag, argument);
}

/* The communicator, the peer and the tag of a send. */
SHORT_PATH int check_send(const nmpi_comm **comm, int dest, int tag) {
  TRY(check_comm(comm));
  TRY(check_dest(*comm, dest));
  return check_send_tag(tag, "tag");
}

/* The same of a receive or probe. */
SHORT_PATH int check_recv(const nmpi_comm **comm, int source, int tag) {
  TRY(check_comm(comm));
  TRY(check_source(*comm, source));
  return check_recv_tag(tag, "tag");
}

/* The two sides of a scatter or gather in one process: the same dtype; char and int8 are one to LuaJIT. */
int check_same_dtype(const nmpi_array *send, const nmpi_array *recv);
/* The two sides of a reduction: the same dtype and size. */
int check_same(const nmpi_array *send, const nmpi_array *recv);

int compare_calls(const nmpi_comm *comm, const char *routine, int root, int64_t elements,
                  int64_t itemsize);

/* Where debugging, a collective call: fails on every rank unless all ranks call the same routine with the same root
 * (-1: it has none), elements for each rank (-1: this rank does not count them) and bytes in each element. */
SHORT_PATH int check_agreement(const nmpi_comm *comm, const char *routine, int root,
                               int64_t elements, int64_t itemsize) {
  if (!RARELY(debugging()) || comm->size == 1) return NMPI_SUCCESS;
  return compare_calls(comm, routine, root, elements, itemsize);
}

/* ---- arrays and packing ------------------------------------------------------------------------ */

/* Memory for so many bytes, on huge pages where it is not small; NULL where there is none. */
void *storage_create(size_t bytes, bool zero);
void storage_free(void *data, size_t bytes);

/* The storage of arrays. */
struct nmpi_owner {
  atomic_int references;
  bool shared; /* with another thread: see nmpi_array_share */
  size_t bytes;
  void *data; /* of storage_create */
};

void owner_destroy(nmpi_owner *owner) __attribute__((noinline));

/* Returns how many references there are. An atomic addition takes as long as all the rest of a call, and until an array
 * is shared, one thread has all of them. */
SHORT_PATH int owner_count(nmpi_owner *owner, int n) {
  if (RARELY(owner->shared)) return atomic_fetch_add(&owner->references, n) + n;
  int references = atomic_load_explicit(&owner->references, memory_order_relaxed) + n;
  atomic_store_explicit(&owner->references, references, memory_order_relaxed);
  return references;
}

/* Both harmless on NULL, which stands for foreign memory. */
SHORT_PATH void owner_retain(nmpi_owner *owner) {
  if (owner != NULL) owner_count(owner, 1);
}

SHORT_PATH void owner_release(nmpi_owner *owner) {
  if (owner != NULL && RARELY(owner_count(owner, -1) <= 0)) owner_destroy(owner);
}

/* Nested loops over two layouts of one shape, reduced to those that are left when extents of 1 are dropped
 * and dimensions that follow each other in both layouts are merged. The last is the innermost. */
typedef struct loops {
  int depth; /* at least 1 */
  int64_t extent[NMPI_MAX_NDIM];
  int64_t to[NMPI_MAX_NDIM]; /* strides, in elements */
  int64_t from[NMPI_MAX_NDIM];
} loops;

loops collapse(const nmpi_array *a, const int64_t *to, const int64_t *from);

/* Copies the first `limit` elements of a view, in row-major order, to or from contiguous memory. */
void pack(void *packed, const nmpi_array *view, int64_t limit);
void unpack(const nmpi_array *view, const void *packed, int64_t limit);
/* Copies elements of the same size and shape, which must not overlap `to`. */
void copy(const nmpi_array *to, const void *from, const int64_t *from_stride);
/* True if no two indices of the view reach the same memory (sufficient; exact for slices). */
bool array_is_injective(const nmpi_array *a);
/* False if the two have no memory in common; true where their elements lie between each other's, too. */
bool array_overlap(const nmpi_array *a, const nmpi_array *b);

/* ---- messages: what MPI is given for an array -------------------------------------------------- */

/* Memory that is kept from one use to the next. */
typedef struct scratch {
  void *data;
  size_t bytes;
} scratch;

typedef struct message {
  const char *argument;
  void *data; /* the array's own elements, or scratch */
  int64_t elements;
  size_t bytes; /* of `elements` in memory */
  int count;    /* of `type` */
  MPI_Datatype type;
  MPI_Datatype unit;  /* what an element consists of */
  int64_t units;      /* so many in one element */
  int64_t wire;       /* bytes that one element takes in a message */
  nmpi_array *unpack; /* the view that a receive into scratch goes to, else NULL */
  bool packed;        /* `data` is scratch */
  bool large; /* `type` was made for this message: there are more units than an int can count */
} message;

/* The most units that MPI is given in one call. */
extern int message_max_count;

enum slot { SLOT_SEND, SLOT_RECV, SLOT_COUNT };

/* This thread's scratch for the message that a blocking call sends or receives. */
scratch *message_scratch(enum slot slot);

MPI_Datatype message_large_type(MPI_Datatype unit, int64_t units) __attribute__((cold));
void message_free_type(MPI_Datatype type) __attribute__((cold));

/* Lets count and type describe the first `elements` only. */
SHORT_PATH void message_limit(message *m, int64_t elements) {
  int64_t units = elements * m->units;
  if (RARELY(m->large)) message_free_type(m->type);
  m->elements = elements;
  m->large = RARELY(units > message_max_count);
  m->count = m->large ? 1 : (int)units;
  m->type = m->large ? message_large_type(m->unit, units) : m->unit;
}

/* A message of what an array holds, from `data`. */
SHORT_PATH void message_describe(message *m, const nmpi_array *a, const char *argument,
                                 void *data) {
  bool is_struct = a->type == NMPI_STRUCT;
  m->argument = argument;
  m->data = data;
  m->bytes = (size_t)a->length * (size_t)a->itemsize;
  m->unit = dtypes[a->type].unit;
  m->units = is_struct ? a->itemsize : 1;
  m->wire = is_struct ? a->itemsize : dtypes[a->type].wire;
  m->unpack = NULL;
  m->packed = m->large = false;
  message_limit(m, a->length);
}

bool array_is_gapless(const nmpi_array *a) __attribute__((noinline));

/* Whether MPI may be given the elements as they lie. */
SHORT_PATH bool array_is_plain(const nmpi_array *a, int refused) {
  return a != NULL && (a->count > 0 || array_is_gapless(a)) && !(a->flags & refused);
}

/* The most units that a call takes its shortest path for: there is none while debugging. */
extern int short_max_count;
void message_limit_short(void);

/* Whether an array can be given to MPI as its `count` units without further ado. */
SHORT_PATH bool array_is_short(const nmpi_array *a, int refused) {
  return a != NULL && a->count > 0 && a->count <= short_max_count && !(a->flags & refused);
}

SHORT_PATH size_t array_bytes(const nmpi_array *a) {
  return (size_t)a->length * (size_t)a->itemsize;
}

/* The bytes that an element takes in a message. */
SHORT_PATH int array_wire(const nmpi_array *a) {
  return a->type == NMPI_STRUCT ? a->itemsize : dtypes[a->type].wire;
}

/* Whether two arrays that lie without gaps have memory in common. */
SHORT_PATH bool arrays_overlap_whole(const nmpi_array *a, const nmpi_array *b) {
  uintptr_t first = (uintptr_t)a->p.any, second = (uintptr_t)b->p.any;
  return first + array_bytes(a) > second && second + array_bytes(b) > first;
}

/* The same for the two sides of a collective in one process, which must not overlap. */
SHORT_PATH bool arrays_are_short(const nmpi_array *send, const nmpi_array *recv) {
  if (!array_is_short(send, 0) || !array_is_short(recv, NMPI_READONLY)) return false;
  if (arrays_overlap_whole(send, recv)) return false;
  return send->type == recv->type && send->ctype == recv->ctype;
}

SHORT_PATH bool array_is_usable(const nmpi_array *a, int refused) {
  return a != NULL && a->type != NMPI_NONE && !(a->flags & refused);
}

/* A copy of a view's elements in scratch, or room for them, which `load` fills with them; it is this thread's where
 * `packed` is NULL. NULL where that cannot be: message_refuse tells why. */
void *view_pack(const nmpi_array *a, scratch *packed);
void *view_room(const nmpi_array *a, bool load, scratch *packed);

int message_refuse(message *m, const nmpi_array *a, const char *argument, bool receive)
    __attribute__((cold));

/* Builds a message from an array; a view is packed into scratch: this thread's where that is NULL. */
SHORT_PATH int message_send(message *m, const nmpi_array *a, const char *argument,
                            scratch *packed) {
  if (RARELY(!array_is_plain(a, NMPI_IN_PLACE))) {
    void *data = view_pack(a, packed);
    if (RARELY(data == NULL)) return message_refuse(m, a, argument, false);
    message_describe(m, a, argument, data);
    m->packed = true;
    return NMPI_SUCCESS;
  }
  message_describe(m, a, argument, a->p.any);
  return NMPI_SUCCESS;
}

/* Builds a message to receive into; `load` packs the view's present elements first. */
SHORT_PATH int message_recv(message *m, nmpi_array *a, const char *argument, bool load,
                            scratch *packed) {
  if (RARELY(!array_is_plain(a, NMPI_IN_PLACE | NMPI_READONLY))) {
    void *data = view_room(a, load, packed);
    if (RARELY(data == NULL)) return message_refuse(m, a, argument, true);
    message_describe(m, a, argument, data);
    m->packed = true;
    m->unpack = a;
    return NMPI_SUCCESS;
  }
  message_describe(m, a, argument, a->p.any);
  return NMPI_SUCCESS;
}

/* From so many bytes on, datatype.c is asked whether to describe a view. */
#ifdef OPEN_MPI
enum { DESCRIBED_BYTES = 4 << 10 };
#else
enum { DESCRIBED_BYTES = 16 << 10 };
#endif

SHORT_PATH bool array_may_be_described(const nmpi_array *a) {
  return a != NULL && a->count == 0 && a->length * a->itemsize >= DESCRIBED_BYTES;
}

bool message_send_by_datatype(message *m, const nmpi_array *a, const char *argument,
                              const nmpi_comm *comm, int dest);
bool message_recv_by_datatype(message *m, const nmpi_array *a, const char *argument,
                              const nmpi_comm *comm, int source);

/* The same for one message to or from another process, which may describe a view by a datatype, not packed. */
SHORT_PATH int message_send_to(message *m, const nmpi_array *a, const char *argument,
                               scratch *packed, const nmpi_comm *comm, int dest) {
  if (RARELY(array_may_be_described(a))) {
    message view;
    if (message_send_by_datatype(&view, a, argument, comm, dest)) {
      *m = view;
      return NMPI_SUCCESS;
    }
  }
  return message_send(m, a, argument, packed);
}

SHORT_PATH int message_recv_from(message *m, nmpi_array *a, const char *argument, scratch *packed,
                                 const nmpi_comm *comm, int source) {
  if (RARELY(array_may_be_described(a))) {
    message view;
    if (message_recv_by_datatype(&view, a, argument, comm, source)) {
      *m = view;
      return NMPI_SUCCESS;
    }
  }
  return message_recv(m, a, argument, false, packed);
}

/* The side of a collective that this rank has not. */
SHORT_PATH void message_none(message *m) {
  m->data = NULL;
  m->elements = 0;
  m->count = 0;
  m->type = MPI_BYTE;
  m->unpack = NULL;
  m->packed = m->large = false;
}

/* To be called for a receive in a communicator of one process. MPICH 4.0 ends the process where a message within such a
 * communicator fills an element of a basic type in part; of bytes there are no parts. */
SHORT_PATH void message_from_self(message *m) {
  if (m->units != 1 || m->wire * m->elements != (int64_t)m->bytes) return;
  m->unit = MPI_BYTE;
  m->units = m->wire;
  message_limit(m, m->elements);
}

void *message_copy(const void *data, size_t bytes, const char *argument, scratch *packed);

/* Builds a message to send a copy of what another one holds, in scratch as above. */
SHORT_PATH int message_duplicate(message *copy, const message *m, const char *argument,
                                 scratch *packed) {
  *copy = *m;
  copy->large = false;
  copy->packed = true;
  copy->unpack = NULL;
  copy->data = message_copy(m->data, m->bytes, argument, packed);
  message_limit(copy, m->elements);
  return copy->data != NULL ? NMPI_SUCCESS : NMPI_ERR_ARGUMENT;
}

/* The bytes that all its elements take in a message. */
SHORT_PATH int64_t message_wire(const message *m) {
  return m->elements * m->wire;
}

/* Whether MPI itself would use the same memory for both; scratch is nobody else's. */
SHORT_PATH bool message_overlap(const message *a, const message *b) {
  if (a->packed || b->packed || a->bytes == 0 || b->bytes == 0) return false;
  uintptr_t first = (uintptr_t)a->data, second = (uintptr_t)b->data;
  return first < second + b->bytes && second < first + a->bytes;
}

/* Fails where it would read and write the same memory. */
SHORT_PATH int message_disjoint(const message *send, const message *recv) {
  if (!message_overlap(send, recv)) return NMPI_SUCCESS;
  return fail("recvdata", "expected memory of its own, but it overlaps 'senddata'");
}

SHORT_PATH bool message_is_by_datatype(const message *m) {
  return !m->packed && !m->large && m->type != m->unit;
}

int message_part_views(message *send, const nmpi_array *senddata, message *recv,
                       nmpi_array *recvdata);

/* The two of a sendrecv: packs where a datatype would let MPI read and write the same memory. Fails where whole arrays
 * do. */
SHORT_PATH int message_part(message *send, const nmpi_array *senddata, message *recv,
                            nmpi_array *recvdata) {
  if (RARELY(message_is_by_datatype(send) || message_is_by_datatype(recv))) {
    return message_part_views(send, senddata, recv, recvdata);
  }
  return message_disjoint(send, recv);
}

void datatype_init(void);
/* Before MPI is finalised: frees the datatypes that describe views. */
void datatype_finalize(void);

void message_unpack_view(const nmpi_array *view, const void *packed, int64_t elements)
    __attribute__((noinline));

/* After success: unpacks the first `elements` elements into the view, if it is one. */
SHORT_PATH void message_unpack(const message *m, int64_t elements) {
  if (RARELY(m->unpack != NULL)) message_unpack_view(m->unpack, m->data, elements);
}

int message_fail_whole(const char *argument, int64_t wire, int64_t bytes) __attribute__((cold));

int64_t status_count_bytes(const MPI_Status *status);

/* Whether an MPI_Status keeps its bytes where this MPI's header makes us look for them. */
extern bool status_is_known;

/* MPI_Get_elements_x costs as much as a short receive. */
SHORT_PATH int64_t status_bytes(const MPI_Status *status) {
#if defined(OPEN_MPI)
  if (status_is_known) return (int64_t)status->_ucount;
#elif defined(MPICH_VERSION)
  if (status_is_known) {
    return (int64_t)((unsigned)status->count_hi_and_cancelled >> 1) << 32 |
           (unsigned)status->count_lo;
  }
#endif
  return status_count_bytes(status);
}

void status_init(void);

/* The end of a receive that gave `code`: unpacks what came and fills the caller's status, which may be NULL. Fails
 * where that is no whole number of elements. */
SHORT_PATH int message_receive_end(const message *m, int code, const MPI_Status *from,
                                   nmpi_status *to) {
  int64_t bytes = code == MPI_SUCCESS ? status_bytes(from) : 0, elements = m->elements;
  if (bytes != message_wire(m)) elements = bytes > 0 ? bytes / m->wire : 0; /* a division is slow */
  message_unpack(m, elements);
  if (to != NULL) {
    *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, code, 0, bytes, elements};
  }
  return elements * m->wire == bytes ? code : message_fail_whole(m->argument, m->wire, bytes);
}

int message_receive_end_array(nmpi_array *a, const char *argument, int code, const MPI_Status *from,
                              nmpi_status *to) __attribute__((noinline));

/* The same of an array that MPI was given as it is, by the short path of a routine. */
SHORT_PATH int message_receive_end_short(nmpi_array *a, const char *argument, int code,
                                         const MPI_Status *from, nmpi_status *to) {
  int64_t bytes = status_bytes(from);
  if (RARELY(code != MPI_SUCCESS || bytes != a->length * array_wire(a))) {
    return message_receive_end_array(a, argument, code, from, to);
  }
  if (to != NULL) *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, 0, 0, bytes, a->length};
  return MPI_SUCCESS;
}

/* The status of a receive from nobody, and of whatever is no receive. */
SHORT_PATH void status_empty(nmpi_status *status, int code) {
  if (status != NULL) *status = (nmpi_status){MPI_ANY_SOURCE, MPI_ANY_TAG, code, 0, 0, 0};
}

/* The status of a message that was found, not received: its elements are not known. */
SHORT_PATH void status_probed(nmpi_status *to, int code, const MPI_Status *from) {
  if (to == NULL) return;
  *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, code, 0, status_bytes(from), -1};
}

void message_trim_scratch(void) __attribute__((noinline));

/* To be called last in a blocking call: frees what belongs to the message and gives large scratch back. */
SHORT_PATH void message_done(message *m) {
  if (RARELY(m->large)) message_free_type(m->type);
  if (RARELY(m->packed)) message_trim_scratch();
}

/* Not less than `bytes` of scratch, or NULL. */
void *scratch_get(scratch *s, size_t bytes);
void scratch_free(scratch *s);
/* Frees it if it is larger than is worth keeping. */
void scratch_trim(scratch *s, size_t kept);

/* MPI_ERR_BUFFER where the buffer of bsend could not hold the message even if it were empty. Open MPI 4.1 would not
 * notice it for small messages, and after it had noticed it would never deliver another message to that rank. */
int check_buffer(int64_t wire, int dest);

/* ---- Lua states of the core's own --------------------------------------------------------------- */

typedef struct lua_State lua_State;

/* A state with the standard libraries and the search paths that are given; NULL after a failure. To be used by one
 * thread at a time. */
lua_State *state_create(const char *path, const char *cpath, bool jit);
/* Pushes the function that string.dump has made `code` of. */
int state_load(lua_State *L, const char *code, size_t bytes, const char *argument);
/* Calls a function with the arguments above it. False after an error: then its message, with the traceback, takes their
 * place. Memory may be so short that there is no traceback. */
bool state_call(lua_State *L, int arguments, int results);

/* Whether a team of threads is at work. */
bool teams_run(void);

/* ---- files -------------------------------------------------------------------------------------- */

/* Whether HDF5 holds a file that it could not write. */
bool file_is_lost(void);

/* ---- requests ---------------------------------------------------------------------------------- */

/* What pending operations of one direction that a message to oneself may meet have in common at least: so that it need
 * not be compared with each. */
typedef struct crowd {
  int count;
  uintptr_t low, high; /* of all their memory */
  int64_t shortest;    /* in bytes */
} crowd;

/* Of this thread: sends and receives; NULL before its first request. */
extern THREAD_LOCAL crowd *crowds;

SHORT_PATH bool crowd_is_apart(const crowd *c, const void *data, size_t bytes) {
  uintptr_t low = (uintptr_t)data;
  return c->count == 0 || low + bytes <= c->low || c->high <= low;
}

int request_check_alone(const char *argument, const void *data, size_t bytes, MPI_Comm comm,
                        bool receive);

/* To be called before what sends or receives: does what is needed in a communicator of one process. */
SHORT_PATH int request_alone(message *m, const nmpi_comm *comm, bool receive) {
  if (comm->size > 1) return NMPI_SUCCESS;
  if (receive) message_from_self(m);
  return request_check_alone(m->argument, m->data, m->packed ? 0 : m->bytes, comm->handle, receive);
}

/* Open MPI 4.1 does not tell when a message to oneself of less than 1 KiB is longer than the pending receive that it
 * meets. */
#ifdef OPEN_MPI
enum { WATCHES = true };
#else
enum { WATCHES = false };
#endif

bool request_watch_own(MPI_Comm comm, int dest, int tag, int64_t bytes);

/* To be called before and after what sends `bytes`, the second if the first says so: pending receives that a message to
 * oneself cuts are found out, where MPI does not tell. */
SHORT_PATH bool request_watch(const nmpi_comm *comm, int dest, int tag, int64_t bytes) {
  return WATCHES && dest == comm->rank && request_watch_own(comm->handle, dest, tag, bytes);
}

void request_watched(void);

/* Whether the shortest path may send an array: what follows need not be compared with pending operations. */
SHORT_PATH bool request_send_is_free(const nmpi_array *a, const nmpi_comm *comm, int dest) {
  if (dest != comm->rank || crowds == NULL || crowds[true].count == 0) return true;
  if (WATCHES && crowds[true].shortest < a->length * array_wire(a)) return false;
  return comm->size > 1 || crowd_is_apart(&crowds[true], a->p.any, array_bytes(a));
}

/* The same of a receive, with what MPI is to be given as its count and datatype; see message_from_self. */
SHORT_PATH bool request_recv_is_free(const nmpi_array *a, bool alone, int *count,
                                     MPI_Datatype *type) {
  size_t bytes = array_bytes(a);
  *count = a->count;
  *type = dtypes[a->type].unit;
  if (!alone) return true;
  *count = (int)bytes;
  *type = MPI_BYTE;
  return array_wire(a) == a->itemsize && bytes <= (size_t)short_max_count &&
         (crowds == NULL || crowd_is_apart(&crowds[false], a->p.any, bytes));
}

/* What MPI is given for a reduction. */
typedef struct reduction {
  const char *routine;
  const nmpi_op *op;
  int root; /* -1: every rank gets the result */
  const nmpi_comm *comm;
  message send;
  message recv;
  const nmpi_array *data; /* what says how the elements are */
  MPI_Op handle;
  MPI_Datatype type;
  /* Of a nonblocking one, what its request keeps; else NULL: then this thread's scratch serves. */
  scratch *send_packed;
  scratch *recv_packed;
  MPI_Request *requests; /* one for each piece */
} reduction;

/* To be called before a nonblocking reduction of so many elements is built: provides for its request. */
int request_prepare(reduction *x, int64_t elements);
/* And where nothing comes of it: lets go of that. Returns the code. */
int request_decline(int code);
/* Makes the request. `recvdata` is NULL where nothing is received, and `senddata` where it is not read. */
double request_reduction(const reduction *x, int pieces, const nmpi_array *senddata,
                         nmpi_array *recvdata);
/* The same by the short path: where MPI is to put the request, NULL after a failure, and what makes that one nmpi's. */
MPI_Request *request_handle(void);
double request_reduction_short(const char *routine, const nmpi_op *op, const nmpi_array *senddata,
                               const nmpi_array *recvdata);

/* Whether somebody has told that the process ends with a failure, so that the job will be aborted. */
bool exit_has_failed(void);

/* Before MPI is finalised: reports what was never completed, and lets go of it. */
void request_finalize(void);

#endif
