/* SPDX-License-Identifier: MIT */
/* op.c: the predefined operators, and which dtypes MPI defines them on (MPI-4.0 section 6.9.2). */
#include "internal.h"

#define OPERATORS(X)                                                                               \
  X(SUM, KIND_INTEGER | KIND_REAL | KIND_COMPLEX)                                                  \
  X(PROD, KIND_INTEGER | KIND_REAL | KIND_COMPLEX)                                                 \
  X(MAX, KIND_INTEGER | KIND_REAL)                                                                 \
  X(MIN, KIND_INTEGER | KIND_REAL)                                                                 \
  X(LAND, KIND_INTEGER | KIND_LOGICAL)                                                             \
  X(BAND, KIND_INTEGER)                                                                            \
  X(LOR, KIND_INTEGER | KIND_LOGICAL)                                                              \
  X(BOR, KIND_INTEGER)                                                                             \
  X(LXOR, KIND_INTEGER | KIND_LOGICAL)                                                             \
  X(BXOR, KIND_INTEGER)                                                                            \
  X(MAXLOC, KIND_PAIR)                                                                             \
  X(MINLOC, KIND_PAIR)

enum {
#define POSITION(name, kinds) OP_##name,
  OPERATORS(POSITION)
#undef POSITION
      OP_COUNT
};

static nmpi_op operators[OP_COUNT];
nmpi_op *const op_sum = &operators[OP_SUM];

/* ---- MPI_MAX and MPI_MIN of unsigned integers, for an MPI that gets them wrong ---- */

static void keep(const void *in, void *inout, int n, MPI_Datatype type, bool larger) {
  int size = 0;
  MPI_Type_size(type, &size);
  if (size == 1) {
    const uint8_t *a = in;
    uint8_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else if (size == 2) {
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else if (size == 4) {
    const uint32_t *a = in;
    uint32_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  } else {
    const uint64_t *a = in;
    uint64_t *b = inout;
    for (int i = 0; i < n; i++) b[i] = (a[i] > b[i]) == larger ? a[i] : b[i];
  }
}

static void keep_larger(void *in, void *inout, int *n, MPI_Datatype *type) {
  keep(in, inout, *n, *type, true);
}

static void keep_smaller(void *in, void *inout, int *n, MPI_Datatype *type) {
  keep(in, inout, *n, *type, false);
}

/* MPICH 4.0 compares unsigned integers as if they had a sign. */
static bool compares_signed(void) {
  uint8_t high = UINT8_MAX, low = 1;
  MPI_Reduce_local(&high, &low, 1, MPI_UINT8_T, MPI_MAX);
  return low != UINT8_MAX;
}

void op_init(void) {
#define FILL(name_, kinds_)                                                                        \
  operators[OP_##name_] = (nmpi_op){                                                               \
      .handle = MPI_##name_, .unsigned_handle = MPI_##name_, .name = #name_, .kinds = (kinds_)};
  OPERATORS(FILL)
#undef FILL
  if (compares_signed()) {
    MPI_Op_create(keep_larger, 1, &operators[OP_MAX].unsigned_handle);
    MPI_Op_create(keep_smaller, 1, &operators[OP_MIN].unsigned_handle);
  }
}

void op_finalize(void) {
  for (int i = 0; i < OP_COUNT; i++) {
    nmpi_op *op = &operators[i];
    if (op->unsigned_handle != op->handle) MPI_Op_free(&op->unsigned_handle);
  }
}

nmpi_op *nmpi_op_predefined(int position) {
  return position >= 0 && position < OP_COUNT ? &operators[position] : NULL;
}

const char *nmpi_op_name(const nmpi_op *op) {
  return op != NULL ? op->name : operators[OP_SUM].name;
}

int fail_op(const nmpi_op *op, const nmpi_array *data, const char *argument) {
  return fail("op", "MPI_%s is not defined on the dtype of '%s', %s", op->name, argument,
              nmpi_dtype_name(data->type));
}
