/* SPDX-License-Identifier: MIT */
/* dtype.c: the table of dtypes. */
#include "internal.h"

static const struct {
  const char *name;
  const char *ctype;
  const char *field;
  int size;
  enum kind kind;
} descriptions[NMPI_DTYPE_COUNT] = {
#define ROW(code, name, ctype, field, mpi, kind)                                                   \
  [code] = {name, #ctype, #field, sizeof(ctype), kind},
    NMPI_DTYPES(ROW)
#undef ROW
        [NMPI_STRUCT] = {"struct", NULL, "any", 0, KIND_STRUCT},
};

#define CHECK_FIELD(code, name, ctype, field, mpi, kind)                                           \
  _Static_assert(_Generic(((nmpi_array *)0)->p.field, ctype * : 1), name);
NMPI_DTYPES(CHECK_FIELD)
#undef CHECK_FIELD

static bool is_dtype(int dtype) {
  return dtype > NMPI_NONE && dtype < NMPI_DTYPE_COUNT;
}

const char *nmpi_dtype_name(int dtype) {
  return is_dtype(dtype) ? descriptions[dtype].name : NULL;
}

const char *nmpi_dtype_ctype(int dtype) {
  return is_dtype(dtype) ? descriptions[dtype].ctype : NULL;
}

const char *nmpi_dtype_field(int dtype) {
  return is_dtype(dtype) ? descriptions[dtype].field : NULL;
}

int nmpi_dtype_size(int dtype) {
  return is_dtype(dtype) ? descriptions[dtype].size : 0;
}

dtype_info dtypes[NMPI_DTYPE_COUNT];

/* A switch, not a table: Open MPI's handles are addresses that no static initialiser can hold. */
static MPI_Datatype type_of(int dtype) {
  switch (dtype) {
#define CASE(code, name, ctype, field, mpi, kind)                                                  \
  case code: return mpi;
    NMPI_DTYPES(CASE)
#undef CASE
    default: return MPI_BYTE;
  }
}

/* MPICH 4.0 gives up a receive into a type with padding where a piece of the message, as its collectives cut them,
 * ends within a member. The same bytes described as bytes arrive. */
static MPI_Datatype padded_unit(int wire, int size) {
  int value = wire - (int)sizeof(int);
  MPI_Datatype members, unit;
  MPI_Type_create_hindexed(2, (int[]){value, (int)sizeof(int)}, (MPI_Aint[]){0, size / 2}, MPI_BYTE,
                           &members);
  MPI_Type_create_resized(members, 0, size, &unit);
  MPI_Type_commit(&unit);
  MPI_Type_free(&members);
  return unit;
}

static bool is_padded(int dtype) {
  return descriptions[dtype].kind == KIND_PAIR && dtypes[dtype].wire != descriptions[dtype].size;
}

void dtype_init(void) {
  for (int dtype = 0; dtype < NMPI_DTYPE_COUNT; dtype++) {
    dtype_info *d = &dtypes[dtype];
    d->kind = descriptions[dtype].kind;
    d->type = d->unit = type_of(dtype);
    MPI_Type_size(d->type, &d->wire);
    if (is_padded(dtype)) d->unit = padded_unit(d->wire, descriptions[dtype].size);
  }
}

void dtype_finalize(void) {
  for (int dtype = 0; dtype < NMPI_DTYPE_COUNT; dtype++) {
    if (is_padded(dtype)) MPI_Type_free(&dtypes[dtype].unit);
  }
}
