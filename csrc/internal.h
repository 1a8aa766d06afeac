/* SPDX-License-Identifier: MIT */
/* internal.h: what the core's files share. */
#ifndef NMPI_INTERNAL_H
#define NMPI_INTERNAL_H

#include <mpi.h>
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

void dtype_init(void);
void dtype_finalize(void);
/* What to reduce a dtype with; bytes for structs. */
MPI_Datatype dtype_mpi(int dtype);
/* What its messages consist of. */
MPI_Datatype dtype_unit(int dtype);
/* The bytes of an element in a message: pairs leave their padding behind. */
int dtype_wire(int dtype);
enum kind dtype_kind(int dtype);

/* ---- errors ---------------------------------------------------------------------------------- */

/* Records what is wrong with an argument and returns NMPI_ERR_ARGUMENT. The message reads
 * "argument 'NAME': " and then the format; without a name, only that. */
int fail(const char *argument, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Leaves the function with the status if it is not NMPI_SUCCESS. */
#define TRY(expression)                                                                            \
  do {                                                                                             \
    int status_ = (expression);                                                                    \
    if (status_ != NMPI_SUCCESS) return status_;                                                   \
  } while (0)

/* ---- groups, communicators and operators ------------------------------------------------------ */

struct nmpi_group {
  MPI_Group handle;
  int rank; /* or MPI_UNDEFINED */
  int size;
  bool live;
};

enum comm_state {
  COMM_ENDED, /* MPI is finalised */
  COMM_LIVE,
  COMM_FREED,
  COMM_NULL,
};

struct nmpi_comm {
  MPI_Comm handle;
  MPI_Comm private_handle; /* see comm_private */
  int rank;
  int size;
  enum comm_state state;
  bool dropped;       /* while live: nothing refers to it any more */
  const char *origin; /* the routine that made it; NULL for those that MPI has from the start */
  char *place;        /* the line of the script that called it, or NULL */
  nmpi_comm *next;    /* in the list of those that are live */
  nmpi_comm *previous;
};

struct nmpi_op {
  MPI_Op handle;
  MPI_Op unsigned_handle; /* for unsigned integers */
  const char *name;
  int kinds; /* the kinds of dtype that it is defined on */
};

/* The handle to reduce data of a dtype with. */
MPI_Op op_handle(const nmpi_op *op, int dtype);

void group_init(void);
void comm_init(void);
/* Where debugging: a line on stderr for each communicator that was never freed. */
void comm_report(void);
void comm_finalize(void);
/* A duplicate of a communicator for the library's own messages. The first call is collective. */
int comm_private(const nmpi_comm *comm, MPI_Comm *handle);
void op_init(void);
void op_finalize(void);

/* ---- argument checks ------------------------------------------------------------------------- */

bool debugging(void);

/* Replaces NULL by the default; fails where the object cannot be used. */
int check_comm(const nmpi_comm **comm);
/* The same for groups, which have no default. */
int check_group(const nmpi_group *group, const char *argument);
int check_op(const nmpi_op **op, const nmpi_array *data, const char *argument);

/* The communicator, the peer and the tag of a send; of a receive or probe. */
int check_send(const nmpi_comm **comm, int dest, int tag);
int check_recv(const nmpi_comm **comm, int source, int tag);
int check_dest(const nmpi_comm *comm, int dest);
int check_source(const nmpi_comm *comm, int source);
int check_root(const nmpi_comm *comm, int root);
int check_send_tag(int tag, const char *argument);
int check_recv_tag(int tag, const char *argument);
/* The two sides of a scatter or gather in one process: the same dtype; char and int8 are one to LuaJIT. */
int check_same_dtype(const nmpi_array *send, const nmpi_array *recv);
/* Where debugging, a collective call: fails on every rank unless all ranks call the same routine with the same root
 * (-1: it has none), elements for each rank (-1: this rank does not count them) and bytes in each element. */
int check_agreement(const nmpi_comm *comm, const char *routine, int root, int64_t elements,
                    int64_t itemsize);
/* The two sides of a reduction: the same dtype and size. */
int check_same(const nmpi_array *send, const nmpi_array *recv);

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

enum slot { SLOT_SEND, SLOT_RECV, SLOT_COUNT };

/* This thread's scratch for the message that a blocking call sends or receives. */
scratch *message_scratch(enum slot slot);
/* Builds a message from an array; a view is packed into scratch. */
int message_send(message *m, const nmpi_array *a, const char *argument, scratch *packed);
/* Builds a message to receive into; `load` packs the view's present elements first. */
int message_recv(message *m, nmpi_array *a, const char *argument, bool load, scratch *packed);
/* To be called for a receive in a communicator of one process. */
void message_from_self(message *m);
/* Builds a message to send a copy of what another one holds. */
int message_duplicate(message *copy, const message *m, const char *argument, scratch *packed);
/* The same for one message to or from another process, which may describe a view by a datatype, not packed. */
int message_send_to(message *m, const nmpi_array *a, const char *argument, scratch *packed,
                    const nmpi_comm *comm, int dest);
int message_recv_from(message *m, nmpi_array *a, const char *argument, scratch *packed,
                      const nmpi_comm *comm, int source);
/* The two of a sendrecv: packs where a datatype would let MPI read and write the same memory. Fails where whole arrays
 * do. */
int message_part(message *send, const nmpi_array *senddata, message *recv, nmpi_array *recvdata);
/* Before MPI is finalised: frees the datatypes that describe views. */
void datatype_finalize(void);
/* Lets count and type describe the first `elements` only. */
void message_limit(message *m, int64_t elements);
/* The bytes that all its elements take in a message. */
int64_t message_wire(const message *m);
/* Whether MPI itself would use the same memory for both; scratch is nobody else's. */
bool message_overlap(const message *a, const message *b);
/* Fails where it would read and write the same memory. */
int message_disjoint(const message *send, const message *recv);
/* After success: unpacks the first `elements` elements into the view, if it is one. */
void message_unpack(const message *m, int64_t elements);
/* The end of a receive that gave `code`: unpacks what came and fills the caller's status, which may be NULL. Fails
 * where that is no whole number of elements. */
int message_receive_end(const message *m, int code, const MPI_Status *from, nmpi_status *to);
int64_t status_bytes(const MPI_Status *status);
/* The status of a receive from nobody, and of whatever is no receive. */
void status_empty(nmpi_status *status, int code);
/* The status of a message that was found, not received: its elements are not known. */
void status_probed(nmpi_status *to, int code, const MPI_Status *from);
/* Frees the type of a large message. */
void message_free_type(message *m);
/* To be called last in a blocking call: frees what belongs to the message and gives large scratch back. */
void message_done(message *m);

/* Not less than `bytes` of scratch, or NULL. */
void *scratch_get(scratch *s, size_t bytes);
void scratch_free(scratch *s);
/* Frees it if it is larger than is worth keeping. */
void scratch_trim(scratch *s, size_t kept);

/* The most units that MPI is given in one call. */
extern int message_max_count;

/* MPI_ERR_BUFFER where the buffer of bsend could not hold the message even if it were empty. Open MPI 4.1 would not
 * notice it for small messages, and after it had noticed it would never deliver another message to that rank. */
int check_buffer(const message *m, int dest);

/* ---- requests ---------------------------------------------------------------------------------- */

/* To be called before what sends or receives: does what is needed in a communicator of one process. */
int request_alone(message *m, const nmpi_comm *comm, bool receive);
/* To be called before and after what sends `bytes`, the second if the first says so: pending receives that a message to
 * oneself cuts are found out, where MPI does not tell. */
bool request_watch(const nmpi_comm *comm, int dest, int tag, int64_t bytes);
void request_watched(void);

/* Whether somebody has told that the process ends with a failure, so that the job will be aborted. */
bool exit_has_failed(void);

/* Before MPI is finalised: reports what was never completed, and lets go of it. */
void request_finalize(void);

/* ---- arrays and packing ------------------------------------------------------------------------ */

/* Both harmless on NULL, which stands for foreign memory. */
void owner_retain(nmpi_owner *owner);
void owner_release(nmpi_owner *owner);

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

#endif
