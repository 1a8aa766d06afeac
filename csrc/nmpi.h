/* SPDX-License-Identifier: MIT */
/*
 * nmpi.h: the whole interface of nmpi's C core, and the only place where its ABI is written down.
 *
 * The part between the two markers is read by two parsers: the C compiler and LuaJIT's FFI. It is
 * therefore kept free of the preprocessor. The build extracts it into nmpi/cdef.lua, where NMPI_CONST
 * becomes `const`: what the core writes, a script can only read.
 *
 * Conventions
 *   - A function that returns `int` returns a status unless it says otherwise: NMPI_SUCCESS, an MPI
 *     error code (positive; explained by nmpi_error_string and nmpi_error_class), or
 *     NMPI_ERR_ARGUMENT (negative: a mistake of the caller, described by nmpi_error_message).
 *   - Wherever a communicator is wanted, NULL means MPI_COMM_WORLD; an operator, NULL means MPI_SUM.
 *   - Extents, strides, counts and indices are in elements, never in bytes, unless named `bytes`.
 *   - Data travels in logical (row-major) order, whatever the memory order of either side.
 *   - Nothing prints, nothing calls back into the Lua state that called, nothing throws, nothing exits; only the exit
 *     handler that nmpi_init installs and an operator that fails do, and nmpi_debug's report prints.
 */
#ifndef NMPI_H
#define NMPI_H

#include <stdint.h>

#define NMPI_CONST

/* The core is compiled with hidden visibility: what is declared here is all that it exports. */
#pragma GCC visibility push(default)

/* NMPI_CDEF_BEGIN */

enum {
  NMPI_SUCCESS = 0,
  NMPI_ERR_ARGUMENT = -1, /* see nmpi_error_message */
  NMPI_MAX_NDIM = 8,
  NMPI_ALIGNMENT = 64 /* bytes: every array that the core allocates starts at a multiple of it */
};

/* ---- dtypes ------------------------------------------------------------------------------- */

/* The element pairs of MPI_MAXLOC and MPI_MINLOC, laid out as MPI-4.0 section 6.9.4 says. */
typedef struct nmpi_float_int {
  float value;
  int index;
} nmpi_float_int;
typedef struct nmpi_double_int {
  double value;
  int index;
} nmpi_double_int;
typedef struct nmpi_long_int {
  long value;
  int index;
} nmpi_long_int;
typedef struct nmpi_short_int {
  short value;
  int index;
} nmpi_short_int;
typedef struct nmpi_2int {
  int value;
  int index;
} nmpi_2int;

/* Codes of the dtypes; 0 marks an array without storage (never made, or freed). */
enum {
  NMPI_NONE,
  NMPI_INT8,
  NMPI_INT16,
  NMPI_INT32,
  NMPI_INT64,
  NMPI_UINT8,
  NMPI_UINT16,
  NMPI_UINT32,
  NMPI_UINT64,
  NMPI_FLOAT,
  NMPI_DOUBLE,
  NMPI_COMPLEX_FLOAT,
  NMPI_COMPLEX_DOUBLE,
  NMPI_BOOL,
  NMPI_CHAR,
  NMPI_FLOAT_INT,
  NMPI_DOUBLE_INT,
  NMPI_LONG_INT,
  NMPI_SHORT_INT,
  NMPI_2INT,
  NMPI_STRUCT, /* any other C struct of fixed size: travels as bytes */
  NMPI_DTYPE_COUNT
};

/* The name of a dtype as scripts write it ("double", "complex float"), its C type for ffi.typeof, the
 * member of nmpi_array's union `p` that points to it, and its size in bytes. NULL and 0 for a code
 * that is no dtype; NMPI_STRUCT has neither a C type nor a size of its own. */
const char *nmpi_dtype_name(int dtype);
const char *nmpi_dtype_ctype(int dtype);
const char *nmpi_dtype_field(int dtype);
int nmpi_dtype_size(int dtype);

/* ---- arrays ------------------------------------------------------------------------------- */

/* A block of storage, counted: every array on it holds one reference. */
typedef struct nmpi_owner nmpi_owner;

enum {
  NMPI_READONLY = 1, /* never a receive buffer */
  NMPI_FOREIGN = 2,  /* the storage is not ours: Lua keeps its owner alive */
  NMPI_IN_PLACE = 4  /* no array at all, but MPI_IN_PLACE */
};

/* An n-dimensional array, or a view of one: where its first element lies, and how to step from there.
 * Lua makes the struct (zeroed), the core fills it. Unused entries of extent and stride are 0. */
typedef struct nmpi_array {
  NMPI_CONST union {
    int8_t *i8;
    int16_t *i16;
    int32_t *i32;
    int64_t *i64;
    uint8_t *u8;
    uint16_t *u16;
    uint32_t *u32;
    uint64_t *u64;
    float *f32;
    double *f64;
    float _Complex *c64;
    double _Complex *c128;
    _Bool *b;
    char *ch;
    nmpi_float_int *f32i;
    nmpi_double_int *f64i;
    nmpi_long_int *li;
    nmpi_short_int *si;
    nmpi_2int *ii;
    void *any;
  } p;                          /* the first element; never NULL while dtype is not NMPI_NONE */
  nmpi_owner *NMPI_CONST owner; /* the storage; NULL for foreign memory */
  NMPI_CONST int64_t length;    /* the product of the extents */
  NMPI_CONST int64_t extent[8];
  NMPI_CONST int64_t stride[8]; /* any sign; 0 repeats an element */
  NMPI_CONST int32_t type;      /* NMPI_INT8 ... NMPI_STRUCT, or NMPI_NONE */
  NMPI_CONST int32_t ndim;      /* 0 to 8 */
  NMPI_CONST int32_t itemsize;  /* bytes */
  NMPI_CONST int32_t flags;
  NMPI_CONST int32_t ctype; /* NMPI_STRUCT: the FFI's id of the element's C type; else 0 */
  /* For MPI: the elements (bytes of structs) where they lie without gaps in row-major order; else 0, as where an int
   * cannot count them and where there are none. */
  NMPI_CONST int32_t count;
} nmpi_array;

/* Sets one extent or stride of an array that is being made (before create, wrap or reshape). The
 * extent must not be negative; d is from 0 to NMPI_MAX_NDIM - 1. */
int nmpi_array_set_extent(nmpi_array *a, int d, int64_t extent);
int nmpi_array_set_stride(nmpi_array *a, int d, int64_t stride);

/* Allocates storage for an array whose extents are set. itemsize and ctype count for NMPI_STRUCT only.
 * fortran: the first index varies fastest. zero: the elements are zeroed; else undefined. */
int nmpi_array_create(nmpi_array *a, int dtype, int itemsize, int ctype, int ndim, int fortran,
                      int zero);

/* Describes foreign memory by an array whose extents (and strides, where strided is non-zero) are set. The
 * memory is not copied, not owned and must outlive the array. `bytes` is its size, which the array must not
 * reach beyond, or -1 where that is not known; `flags` is NMPI_READONLY or 0. NULL will do for no elements. */
int nmpi_array_wrap(nmpi_array *a, const void *data, int64_t bytes, int dtype, int itemsize,
                    int ctype, int ndim, int strided, int flags);

/* As nmpi_array_wrap for `length` contiguous elements, without the checks: for the wrappers' own
 * scratch arrays. Returns its first argument. */
nmpi_array *nmpi_array_borrow(nmpi_array *a, const void *data, int dtype, int itemsize, int ctype,
                              int64_t length, int flags);

/* Makes `view` another array on the storage of `a`, which it then keeps alive. */
int nmpi_array_view(nmpi_array *view, const nmpi_array *a);

/* Restricts dimension d of a view to the half-open range from, from + step, ... before to. Negative
 * bounds count from the end; with a negative step, to = -extent - 1 means "down to the first". */
int nmpi_array_range(nmpi_array *view, int d, int64_t from, int64_t to, int64_t step);

/* Drops dimension d of a view at index i (negative: from the end). */
int nmpi_array_select(nmpi_array *view, int d, int64_t i);

/* Reverses the dimensions of a view. */
int nmpi_array_transpose(nmpi_array *view);

/* Makes `view`, whose ndim extents are set, show the elements of `a` in row-major order under those
 * extents; one extent may be INT64_MAX, "what is left". Returns 1 (not a status), with that extent worked
 * out, where no strides can do it and a copy is needed. */
int nmpi_array_reshape(nmpi_array *view, const nmpi_array *a, int ndim);

/* 1 if the elements lie without gaps in row-major (fortran: column-major) order, else 0. */
int nmpi_array_is_contiguous(const nmpi_array *a, int fortran);

/* Copies the elements of src, converted as C converts, into dst of the same shape; the two may overlap.
 * Complex to real, and struct to anything but the same struct, are refused. */
int nmpi_array_assign(nmpi_array *dst, const nmpi_array *src);

/* Sets every element of dst to the first element of value, an array of the same dtype. */
int nmpi_array_fill(nmpi_array *dst, const nmpi_array *value);

/* Drops the reference to the storage and empties the array. Harmless on an empty one. */
void nmpi_array_release(nmpi_array *a);

/* Bytes of storage now allocated by the core, in this process. */
int64_t nmpi_memory_bytes(void);
/* 1 if so many bytes are allocated that a garbage collection is due, else 0. */
int nmpi_memory_pressure(void);
/* How often that was so in any thread: a thread that has not seen all of it may hold what others have dropped. */
int nmpi_memory_pressures(void);
/* To be called after that collection: sets the next limit to 1.4 times what is left, at least 300 MB. */
void nmpi_memory_settle(void);

/* ---- errors ------------------------------------------------------------------------------- */

/* What the last NMPI_ERR_ARGUMENT of this thread was about. Owned by the core, until the next one. */
const char *nmpi_error_message(void);

/* MPI_Error_string and MPI_Error_class. The string is owned by the core, until the thread's next call. */
const char *nmpi_error_string(int status);
int nmpi_error_class(int status);
/* To be told of each error code that a routine has returned: others have no error string. */
void nmpi_error_note(int status);

/* The error classes by position: MPI's name without "MPI_", and this MPI's value. NULL past the end. */
const char *nmpi_error_class_name(int position);
int nmpi_error_class_value(int position);

/* ---- the library, start and end ------------------------------------------------------------ */

/* What the header, the core and cdef.lua must agree on: the version and a hash of this section. */
const char *nmpi_signature(void);
/* The ABI this core was compiled for ("mpich", "openmpi"), the file of the MPI library in use, what
 * MPI_Get_library_version says, and the MPI standard's version as "4.0". Owned by the core. */
const char *nmpi_abi(void);
const char *nmpi_library_path(void);
const char *nmpi_library_version(void);
const char *nmpi_standard_version(void);
/* MPI_Get_processor_name. Owned by the core. */
const char *nmpi_processor_name(void);

/* Initialises MPI with a thread level of 0 (single) to 3 (multiple), unless somebody has done so; sets
 * MPI_ERRORS_RETURN on MPI_COMM_WORLD and MPI_COMM_SELF; and installs the exit handler: a process that
 * ends with a status other than 0 aborts the job with it, one that ends with 0 finalises MPI if it was
 * initialised here. Calling it again does nothing. */
int nmpi_init(int thread_level);
/* Not statuses: 1 or 0. */
int nmpi_initialized(void);
int nmpi_finalized(void);
/* Not a status: MPI_Query_thread as 0 (single), 1 (funneled), 2 (serialized) or 3 (multiple). */
int nmpi_query_thread(void);
/* MPI_Finalize. Does nothing where MPI is finalised already. Only the thread that initialised MPI may call it, and not
 * while a team runs. */
int nmpi_finalize(void);
/* MPI_Abort; a code whose low eight bits are 0, which the shell would take for success, becomes 1. */
int nmpi_abort(int code);
/* Tells the exit handler the status, by whoever has said why the process ends with it; else the handler prints a
 * line with the rank and the status. Where the system does not tell exit handlers the status (all but glibc), it
 * must be told so, even of 0. */
void nmpi_exit_status(int status);

/* Switches the checks of debugging on or off: collective routines first compare what the ranks call, for which all
 * ranks of a communicator must have them on; and what was never freed is reported where MPI is finalised. */
void nmpi_debug(int on);

/* MPI_Wtime and MPI_Wtick, in seconds. */
double nmpi_wtime(void);
double nmpi_wtick(void);

/* This MPI's values of MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_PROC_NULL and MPI_TAG_UB. */
int nmpi_any_source(void);
int nmpi_any_tag(void);
int nmpi_proc_null(void);
int nmpi_tag_ub(void);

/* ---- groups --------------------------------------------------------------------------------- */

/* An ordered set of processes. Groups are local: nobody else need be told of them. The one that a function gives in
 * made[0] belongs to the caller, until nmpi_group_free or nmpi_group_drop; it stands in made[1], too, where the garbage
 * collector is to drop it in the end, else NULL: a thread may forget some, and no more. No two have the same pointer,
 * dead ones included; it is not to be followed. */
typedef struct nmpi_group nmpi_group;

/* What nmpi_comm_compare and nmpi_group_compare find: the same object; the same processes in the same order
 * (of groups, that is NMPI_IDENT too); the same in another order; others. */
enum { NMPI_IDENT, NMPI_CONGRUENT, NMPI_SIMILAR, NMPI_UNEQUAL };

/* This MPI's value of MPI_UNDEFINED, as a rank or color; it is never NMPI_ERR_ARGUMENT. */
int nmpi_undefined(void);

/* MPI_GROUP_EMPTY. Owned by the core. */
nmpi_group *nmpi_group_empty(void);
/* Not statuses: this process's rank or MPI_UNDEFINED, the number of processes; NMPI_ERR_ARGUMENT where the group
 * cannot be used. */
int nmpi_group_rank(const nmpi_group *group);
int nmpi_group_size(const nmpi_group *group);
/* MPI_Group_incl and MPI_Group_excl. `ranks` is of dtype int32; none may be repeated. */
int nmpi_group_incl(const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made);
int nmpi_group_excl(const nmpi_group *group, const nmpi_array *ranks, nmpi_group **made);
/* MPI_Group_union, MPI_Group_intersection and MPI_Group_difference. */
int nmpi_group_union(const nmpi_group *group, const nmpi_group *other, nmpi_group **made);
int nmpi_group_intersection(const nmpi_group *group, const nmpi_group *other, nmpi_group **made);
int nmpi_group_difference(const nmpi_group *group, const nmpi_group *other, nmpi_group **made);
/* MPI_Group_translate_ranks. `found` has room for an entry for each of `ranks`, which may contain MPI_PROC_NULL. */
int nmpi_group_translate_ranks(const nmpi_group *group, const nmpi_array *ranks,
                               const nmpi_group *other, int *found);
/* MPI_Group_compare. */
int nmpi_group_compare(const nmpi_group *group, const nmpi_group *other, int *found);
/* MPI_Group_free. Later use of the pointer is recognised. */
int nmpi_group_free(nmpi_group *held);
/* The same, unless that has been done. */
void nmpi_group_drop(nmpi_group *held);

/* ---- communicators ------------------------------------------------------------------------ */

/* As with groups, pointers are unique and not to be followed. */
typedef struct nmpi_comm nmpi_comm;

/* MPI_COMM_WORLD, MPI_COMM_SELF and MPI_COMM_NULL. Owned by the core; never NULL. */
nmpi_comm *nmpi_comm_world(void);
nmpi_comm *nmpi_comm_self(void);
nmpi_comm *nmpi_comm_null(void);
/* Not statuses: the number, or NMPI_ERR_ARGUMENT where the communicator cannot be used. */
int nmpi_comm_rank(const nmpi_comm *comm);
int nmpi_comm_size(const nmpi_comm *comm);

/* MPI_Comm_dup, MPI_Comm_split, MPI_Comm_split_type with MPI_COMM_TYPE_SHARED, MPI_Comm_create and
 * MPI_Comm_create_group, with MPI_ERRORS_RETURN set on what they make. *made becomes nmpi_comm_null() on a rank
 * that does not belong to the new communicator; else it belongs to the caller, until nmpi_comm_free. */
int nmpi_comm_dup(const nmpi_comm *comm, nmpi_comm **made);
int nmpi_comm_split(const nmpi_comm *comm, int color, int key, nmpi_comm **made);
int nmpi_comm_split_shared(const nmpi_comm *comm, int key, nmpi_comm **made);
int nmpi_comm_create(const nmpi_comm *comm, const nmpi_group *group, nmpi_comm **made);
int nmpi_comm_create_group(const nmpi_comm *comm, const nmpi_group *group, int tag,
                           nmpi_comm **made);
/* MPI_Comm_free. Later use of the pointer is recognised. */
int nmpi_comm_free(nmpi_comm *held);
/* Notes the line of the script that made a communicator, for the report of those that are never freed. */
void nmpi_comm_set_place(nmpi_comm *made, const char *place);

/* MPI_Comm_group. */
int nmpi_comm_group(const nmpi_comm *comm, nmpi_group **made);
/* MPI_Comm_compare; neither may be NULL. */
int nmpi_comm_compare(const nmpi_comm *comm, const nmpi_comm *other, int *found);
/* MPI_Comm_get_name: owned by the core, until the thread's next call; NULL where the communicator cannot be used
 * (see nmpi_error_message). MPI_Comm_set_name: at most 63 bytes, which every MPI can hold. */
const char *nmpi_comm_name(const nmpi_comm *comm);
int nmpi_comm_set_name(nmpi_comm *comm, const char *name);

/* ---- files --------------------------------------------------------------------------------- */

/* Calls `function(list, comm, info)` with MPI's own handles, by value: HDF5's H5Pset_fapl_mpio, which takes an hid_t
 * first. Not a status: what it returns, or NMPI_ERR_ARGUMENT. */
int nmpi_file_give_comm(const nmpi_comm *comm, void *function, int64_t list);

/* Reserves space, so that a file of this size can be written: fails where there is not so much. Does nothing where the
 * file system cannot. The file may grow; nmpi_file_truncate cuts what was too much. */
int nmpi_file_reserve(const char *path, int64_t bytes);
int nmpi_file_truncate(const char *path, int64_t bytes);
/* Notes that HDF5 could not write a file: it would try again when MPI is finalised, and hang or crash. The process will
 * abort the job at its end instead. */
void nmpi_file_lose(void);

/* The part of an array in a file that an array in memory is: `extent` from `start` on, within `shape`. */
typedef struct nmpi_part {
  int ndim;
  int64_t shape[8];
  int64_t start[8];
  int64_t extent[8];
} nmpi_part;

/* MPI_File_write_all and MPI_File_read_all: the parts of all ranks in an array that begins `offset` bytes from the
 * start of a file, in row-major order. The file must be there. Where it fails, on one rank or more, no rank hangs, and
 * those that have not failed themselves return NMPI_SUCCESS. */
int nmpi_file_write(const char *path, int64_t offset, const nmpi_array *data, const nmpi_part *part,
                    const nmpi_comm *comm);
int nmpi_file_read(const char *path, int64_t offset, nmpi_array *data, const nmpi_part *part,
                   const nmpi_comm *comm);

/* ---- point to point ------------------------------------------------------------------------ */

/* What a receive found. Made by Lua, filled by the core; never MPI's own layout. */
typedef struct nmpi_status {
  int source;
  int tag;
  int error;       /* an MPI error code */
  _Bool cancelled; /* the operation was cancelled */
  int64_t bytes;   /* received */
  int64_t
      elements; /* whole elements of the receive buffer's dtype; -1 after a probe, which has no buffer */
} nmpi_status;

/* The whole elements of a dtype in the message that a status tells of; -1 where it is no whole number. */
int64_t nmpi_status_count(const nmpi_status *status, int dtype, int itemsize);

/* MPI_Send, MPI_Ssend, MPI_Bsend, MPI_Rsend, MPI_Recv, MPI_Sendrecv and MPI_Sendrecv_replace. `status` may be
 * NULL. A view is packed and unpacked by the core; a message shorter than the buffer writes only the elements
 * that arrived. */
int nmpi_send(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm);
int nmpi_ssend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm);
int nmpi_bsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm);
int nmpi_rsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm);
int nmpi_recv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, nmpi_status *status);
int nmpi_sendrecv(const nmpi_array *senddata, int dest, nmpi_array *recvdata, int source,
                  int sendtag, int recvtag, const nmpi_comm *comm, nmpi_status *status);
int nmpi_sendrecv_replace(nmpi_array *data, int dest, int source, int sendtag, int recvtag,
                          const nmpi_comm *comm, nmpi_status *status);

/* MPI_Probe and MPI_Iprobe; *flag becomes 1 or 0. */
int nmpi_probe(int source, int tag, const nmpi_comm *comm, nmpi_status *status);
int nmpi_iprobe(int source, int tag, const nmpi_comm *comm, int *flag, nmpi_status *status);

/* MPI_Buffer_attach and MPI_Buffer_detach, with memory of the core's; MPI_BSEND_OVERHEAD in bytes. */
int nmpi_buffer_attach(int64_t bytes);
int nmpi_buffer_detach(void);
int nmpi_bsend_overhead(void);

/* ---- requests ------------------------------------------------------------------------------ */

/* A request is a number: NMPI_REQUEST_NULL, or one that names a thread, a slot of its pool and the slot's
 * generation, so that none is ever given out twice. The number of an operation that has completed counts as the
 * null request; one of another thread and one that was never given out are argument errors. While an operation
 * is pending it holds a reference to the storage of its array, and the buffer into which a view was packed.
 * Requests in an array are int64 elements, contiguous; the entries of operations that complete become null, but
 * for persistent ones, which become inactive. The same request twice in an array counts once. */
enum {
  NMPI_REQUEST_NULL = 0,
  NMPI_UNDEFINED = -1 /* an index or count where no request is active */
};

/* MPI_Isend, MPI_Issend, MPI_Ibsend, MPI_Irsend and MPI_Irecv. *request becomes null where they fail. */
int nmpi_isend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request);
int nmpi_issend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request);
int nmpi_ibsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request);
int nmpi_irsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm, double *request);
int nmpi_irecv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request);

/* Several requests are `n` numbers one after the other. Those of operations that have completed become
 * NMPI_REQUEST_NULL there. This looks whether an array is such, and can be written to. */
int nmpi_requests_check(const nmpi_array *requests);

/* MPI_Send_init, MPI_Recv_init, MPI_Start, MPI_Startall and MPI_Request_free, the last for persistent requests
 * that are inactive, and null ones. A view is packed at each start. One whose operation fails is freed. */
int nmpi_send_init(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm,
                   double *request);
int nmpi_recv_init(nmpi_array *data, int source, int tag, const nmpi_comm *comm, double *request);
int nmpi_start(double request);
int nmpi_startall(const int64_t *requests, int64_t n);
int nmpi_request_free(double request);

/* MPI_Wait and MPI_Test. What a receive brought is in its array, and in `status`, which may be NULL. */
int nmpi_wait(double request, nmpi_status *status);
int nmpi_test(double request, int *flag, nmpi_status *status);

/* MPI_Waitall and MPI_Testall. Returns the error code of the first operation that failed, in place of
 * MPI_ERR_IN_STATUS. */
int nmpi_waitall(int64_t *requests, int64_t n);
int nmpi_testall(int64_t *requests, int64_t n, int *flag);

/* MPI_Waitany and MPI_Testany: *index is the position of the one that has completed, or NMPI_UNDEFINED. */
int nmpi_waitany(int64_t *requests, int64_t n, int *index, nmpi_status *status);
int nmpi_testany(int64_t *requests, int64_t n, int *flag, int *index, nmpi_status *status);

/* MPI_Waitsome and MPI_Testsome: *count, or NMPI_UNDEFINED, and that many positions in `indices`, which has room for
 * as many as there are requests. */
int nmpi_waitsome(int64_t *requests, int64_t n, int *count, int *indices);
int nmpi_testsome(int64_t *requests, int64_t n, int *count, int *indices);

/* MPI_Cancel. Does nothing to an operation that has completed. */
int nmpi_cancel(double request);

/* MPI_Mprobe, MPI_Improbe, MPI_Mrecv and MPI_Imrecv. A message is a number as requests are; what it names is
 * received once. */
int nmpi_mprobe(int source, int tag, const nmpi_comm *comm, double *matched, nmpi_status *status);
int nmpi_improbe(int source, int tag, const nmpi_comm *comm, int *flag, double *matched,
                 nmpi_status *status);
int nmpi_mrecv(nmpi_array *data, double matched, nmpi_status *status);
int nmpi_imrecv(nmpi_array *data, double matched, double *request);

/* Foreign memory has no count to hold: Lua anchors its owner by the slot of the request, which is not used for another
 * one before the operation has completed. Not statuses: the slot of a pending request, and how many operations on
 * foreign memory are pending in this thread. */
int nmpi_request_slot(double request);
int nmpi_request_foreign(void);
/* Notes the line of the script that made a request, for the report at exit. */
void nmpi_request_note(double request, const char *line);
/* To be called before foreign memory goes (lua_close): cancels pending receives into it, gives sends from it 2 seconds,
 * and ends the job where that is not enough. The argument is ignored. */
void nmpi_request_abandon(void *unused);

/* ---- operators ---------------------------------------------------------------------------- */

/* As with groups, pointers are unique and not to be followed. */
typedef struct nmpi_op nmpi_op;

/* The predefined operators by position: the operator and MPI's name without "MPI_". NULL past the end. */
nmpi_op *nmpi_op_predefined(int position);
const char *nmpi_op_name(const nmpi_op *op);

/* An operator (MPI_Op_create) that is made of Lua code, for elements of `dtype`, or, where that is NMPI_NONE, of every
 * dtype but structs. It runs in Lua states of its own, one for each thread that is in it, with these search paths and
 * with the JIT compiler on or off. There `code` (`bytes` long, source or bytecode) is called first and returns a
 * function, or a string that says what is wrong. The function is then called as f(ctype, in, inout, n): the element's C
 * type, nil for structs, two addresses as light userdata, and the number of elements. An error in it prints its
 * message and traceback, and aborts the job. */
int nmpi_op_create(const char *code, int64_t bytes, const char *path, const char *cpath, int jit,
                   int dtype, int ctype, int commute, nmpi_op **made);
/* The same of a C function, MPI's MPI_User_function. It is given MPI's own datatype for a dtype; for structs, one of as
 * many bytes. Its library remains loaded. */
int nmpi_op_wrap(void *function, int dtype, int ctype, int commute, nmpi_op **made);
/* MPI_Op_free. Later use of the pointer is recognised; what a call still needs remains until that has ended. */
int nmpi_op_free(nmpi_op *held);
/* Notes the line of the script that made an operator, for the report of those that are never freed. */
void nmpi_op_set_place(nmpi_op *made, const char *place);

/* ---- collectives --------------------------------------------------------------------------- */

/* MPI_Barrier, MPI_Bcast, MPI_Scatter, MPI_Gather, MPI_Allgather, MPI_Reduce and MPI_Allreduce. The buffer that
 * MPI does not read off the root may be NULL. An array with NMPI_IN_PLACE stands for MPI_IN_PLACE. `count` is the
 * elements for or from each rank, or NMPI_UNDEFINED: all that the arrays hold. */
int nmpi_barrier(const nmpi_comm *comm);
int nmpi_bcast(nmpi_array *data, int root, const nmpi_comm *comm);
int nmpi_scatter(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                 const nmpi_comm *comm);
int nmpi_gather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                const nmpi_comm *comm);
int nmpi_allgather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count,
                   const nmpi_comm *comm);
int nmpi_reduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op, int root,
                const nmpi_comm *comm);
int nmpi_allreduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op,
                   const nmpi_comm *comm);

/* MPI_Ireduce and MPI_Iallreduce. *request becomes null where they fail. The request holds both arrays and the
 * operator; it cannot be cancelled. */
int nmpi_ireduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op, int root,
                 const nmpi_comm *comm, double *request);
int nmpi_iallreduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op,
                    const nmpi_comm *comm, double *request);

/* ---- Cartesian grids of processes ----------------------------------------------------------- */

enum { NMPI_MAX_CART = 32 }; /* dimensions */

/* MPI_Dims_create. Entries that are 0 are chosen. */
int nmpi_dims_create(int nnodes, int ndims, int *dims);
/* MPI_Cart_create and MPI_Cart_sub; *made is as with nmpi_comm_dup. */
int nmpi_cart_create(const nmpi_comm *comm, int ndims, const int *dims, const int *periods,
                     int reorder, nmpi_comm **made);
int nmpi_cart_sub(const nmpi_comm *comm, int ndims, const int *remain, nmpi_comm **made);
/* MPI_Cartdim_get. Not a status: the number, or NMPI_ERR_ARGUMENT. */
int nmpi_cart_ndims(const nmpi_comm *comm);
/* MPI_Cart_get, MPI_Cart_coords, MPI_Cart_rank and MPI_Cart_shift. Arrays have an entry for each dimension. */
int nmpi_cart_get(const nmpi_comm *comm, int *dims, int *periods, int *coords);
int nmpi_cart_coords(const nmpi_comm *comm, int rank, int *coords);
int nmpi_cart_rank(const nmpi_comm *comm, int ndims, const int *coords, int *rank);
int nmpi_cart_shift(const nmpi_comm *comm, int direction, int disp, int *source, int *dest);

/* A message to one neighbour, and one from the neighbour opposite; either may be MPI_PROC_NULL. */
typedef struct nmpi_transfer {
  const nmpi_array *senddata;
  nmpi_array *recvdata;
  int dest;
  int source;
  int tag;
} nmpi_transfer;

/* Carries out transfers one after the other, or begins all of them: then `requests` has room for two for each. Where
 * some fail the others go on. Returns the status of the first that failed. */
int nmpi_exchange(const nmpi_transfer *transfers, int count, const nmpi_comm *comm);
int nmpi_exchange_begin(const nmpi_transfer *transfers, int count, const nmpi_comm *comm,
                        int64_t *requests);

/* ---- threads -------------------------------------------------------------------------------- */

/* A value on its way from one Lua state to another, in an array of them: a table is followed by its keys and values, an
 * array of structs by the name of their type. */
enum {
  NMPI_VALUE_NIL,
  NMPI_VALUE_BOOLEAN, /* number is 0 or 1 */
  NMPI_VALUE_NUMBER,
  NMPI_VALUE_STRING, /* pointer and size */
  NMPI_VALUE_TABLE,  /* size is the number of its pairs */
  NMPI_VALUE_AGAIN,  /* a table that has come before: size is its number among them, from 1 */
  NMPI_VALUE_ARRAY,
  NMPI_VALUE_COMM,
  NMPI_VALUE_OP
};

typedef struct nmpi_value {
  int kind;
  double number;
  const void *pointer;
  int64_t size;
} nmpi_value;

/* Threads, each with a Lua state of its own, that do the same work. */
typedef struct nmpi_team nmpi_team;

/* What a team is to do, until it has ended: the code of a function (string.dump), the function's number in the team,
 * under which each thread keeps it, and its arguments. `forget`: first drop all functions that are kept. */
typedef struct nmpi_work {
  const char *code;
  int64_t bytes;
  int function;
  int forget;
  int count;
  const nmpi_value *values;
} nmpi_work;

/* One thread of a team, with what came of its last work: a message where it failed, else what nmpi_member_answer was
 * given. `consequence`: it failed to meet another one that had failed. */
typedef struct nmpi_member {
  nmpi_team *NMPI_CONST team;
  NMPI_CONST int id; /* 0 to size - 1 */
  NMPI_CONST int size;
  NMPI_CONST int count;
  const nmpi_value *NMPI_CONST values;
  const char *NMPI_CONST error;
  NMPI_CONST _Bool consequence;
} nmpi_member;

/* Makes a team of `size` threads, whose states have these search paths and the JIT compiler on or off. with_caller: the
 * calling thread is number 0, and there is one less to make. Each requires nmpi.team, and nmpi.team.start() must return
 * the function that its work begins with; it is called with the address of its nmpi_member. */
int nmpi_team_create(int size, int with_caller, const char *path, const char *cpath, int jit,
                     nmpi_team **made);
/* Begins work. Arguments and code must stay where they are until it has ended. */
void nmpi_team_begin(nmpi_team *team, const nmpi_work *work);
/* Waits until the work has ended. `error` is that of the calling thread, where it is one of the team, or NULL. Not a
 * status: NMPI_ERR_ARGUMENT where a member has failed, else how many have answered. Where one fails and others still
 * run 5 seconds later, the job is aborted, with its message. */
int nmpi_team_finish(nmpi_team *team, const char *error);
/* Ends the threads, after their work if any is going on; *team becomes NULL. Harmless where it is. */
void nmpi_team_close(nmpi_team **team);
nmpi_member *nmpi_team_member(nmpi_team *team, int id);
const nmpi_work *nmpi_member_work(const nmpi_member *member);
/* Gives what the work has produced: to stay where it is until the next begins. */
void nmpi_member_answer(nmpi_member *member, const nmpi_value *values, int count);

/* All threads of a team meet: for nothing else, or to combine a number, in their order, by an operator. They fail where
 * one cannot come any more, or has come by another call. */
int nmpi_member_barrier(nmpi_member *member);
int nmpi_member_reduce(nmpi_member *member, const nmpi_op *op, double *number);
/* Not a status: a number that each meeting changes. */
int nmpi_member_meetings(const nmpi_member *member);
/* Hands out whole numbers, from 0 after each meeting: the first of the `elements` that nobody else gets. `meetings` is
 * what the function above says after the meeting that began it; NMPI_ERR_ARGUMENT where there has been another one. */
double nmpi_member_take(nmpi_member *member, double elements, int meetings);
/* Enters and leaves what one thread of a team at a time is in. */
int nmpi_member_lock(nmpi_member *member);
int nmpi_member_unlock(nmpi_member *member);

/* To be called before another thread may receive the array: from then on the references to its storage are counted by
 * atomic additions. */
void nmpi_array_share(const nmpi_array *a);
/* As nmpi_array_view, in another Lua state, where structs have the C type `ctype`. */
int nmpi_array_receive(nmpi_array *view, const nmpi_array *a, int ctype);
/* Adds to an element of a writable 1-d array of int64 as one step, and tells what it was before. */
int nmpi_array_fetch_add(nmpi_array *a, int64_t i, int64_t x, int64_t *before);

/* NMPI_CDEF_END */

/* For specs, which lower it: the most elements (bytes of structs) that MPI is given in one call, 2^31 - 1. What is more
 * travels in chunks. */
int nmpi_set_max_count(int64_t count);

#pragma GCC visibility pop

#endif
