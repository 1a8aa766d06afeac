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

void op_init(void) {
#define FILL(name_, kinds_)                                                                        \
  operators[OP_##name_] = (nmpi_op){.handle = MPI_##name_, .name = #name_, .kinds = (kinds_)};
  OPERATORS(FILL)
#undef FILL
}

nmpi_op *nmpi_op_predefined(int position) {
  return position >= 0 && position < OP_COUNT ? &operators[position] : NULL;
}

const char *nmpi_op_name(const nmpi_op *op) {
  return op != NULL ? op->name : operators[OP_SUM].name;
}

int check_op(const nmpi_op **op, const nmpi_array *data, const char *argument) {
  if (*op == NULL) *op = &operators[OP_SUM];
  if (((*op)->kinds & (int)dtype_kind(data->type)) != 0) return NMPI_SUCCESS;
  return fail("op", "MPI_%s is not defined on the dtype of '%s', %s", (*op)->name, argument,
              nmpi_dtype_name(data->type));
}
