/* SPDX-License-Identifier: MIT */
/* cart.c: Cartesian grids of processes, and exchanges between their neighbours. */
#include "internal.h"

/* ---- checks ---- */

static int check_ndims(int ndims, const char *argument) {
  if (ndims >= 1 && ndims <= NMPI_MAX_CART) return NMPI_SUCCESS;
  return fail(argument, "expected 1 to %d dimensions, got %d", NMPI_MAX_CART, ndims);
}

static int check_cart(const nmpi_comm **comm) {
  TRY(check_comm(comm));
  if ((*comm)->ndims > 0) return NMPI_SUCCESS;
  return fail("comm", "expected a Cartesian communicator, as cart_create makes");
}

static int check_length(int expected, int given, const char *argument) {
  if (given == expected) return NMPI_SUCCESS;
  return fail(argument, "expected an entry for each of %d dimensions, got %d", expected, given);
}

/* ---- making them ---- */

int nmpi_dims_create(int nnodes, int ndims, int *dims) {
  int64_t fixed = 1;
  bool free = false;
  if (nnodes < 1) return fail("nnodes", "expected at least 1, got %d", nnodes);
  TRY(check_ndims(ndims, "dims"));
  for (int d = 0; d < ndims; d++) {
    if (dims[d] < 0) return fail("dims", "expected entries of at least 0, got %d", dims[d]);
    free = free || dims[d] == 0;
    if (dims[d] > 0 && fixed <= nnodes) fixed *= dims[d];
  }
  if (fixed > nnodes || nnodes % fixed != 0 || (!free && fixed != nnodes)) {
    return fail("dims", "expected entries whose product %s %d, got %s%lld", free ? "divides" : "is",
                nnodes, fixed > nnodes ? "at least " : "", (long long)fixed);
  }
  return free ? MPI_Dims_create(nnodes, ndims, dims) : NMPI_SUCCESS;
}

int nmpi_cart_create(const nmpi_comm *comm, int ndims, const int *dims, const int *periods,
                     int reorder, nmpi_comm **made) {
  MPI_Comm handle;
  int64_t nodes = 1;
  TRY(check_comm(&comm));
  TRY(check_ndims(ndims, "dims"));
  for (int d = 0; d < ndims; d++) {
    if (dims[d] < 1) return fail("dims", "expected entries of at least 1, got %d", dims[d]);
    if (nodes <= comm->size) nodes *= dims[d];
  }
  if (nodes > comm->size) {
    return fail("dims", "expected a grid of at most %d processes, which the communicator has",
                comm->size);
  }
  TRY(check_agreement(comm, "cart_create", -1, -1, 0));
  TRY(MPI_Cart_create(comm->handle, ndims, dims, periods, reorder, &handle));
  return comm_adopt(handle, "cart_create", made);
}

int nmpi_cart_sub(const nmpi_comm *comm, int ndims, const int *remain, nmpi_comm **made) {
  MPI_Comm handle;
  TRY(check_cart(&comm));
  TRY(check_length(comm->ndims, ndims, "remain"));
  /* Open MPI 4.1 forgets that a grid of no dimensions is one. */
  int remaining = 0;
  for (int d = 0; d < ndims; d++) remaining += remain[d] != 0;
  if (remaining == 0) return fail("remain", "expected a dimension that remains");
  TRY(check_agreement(comm, "cart_sub", -1, -1, 0));
  TRY(MPI_Cart_sub(comm->handle, remain, &handle));
  return comm_adopt(handle, "cart_sub", made);
}

/* ---- asking them ---- */

int nmpi_cart_ndims(const nmpi_comm *comm) {
  TRY(check_cart(&comm));
  return comm->ndims;
}

int nmpi_cart_get(const nmpi_comm *comm, int *dims, int *periods, int *coords) {
  TRY(check_cart(&comm));
  return MPI_Cart_get(comm->handle, comm->ndims, dims, periods, coords);
}

int nmpi_cart_coords(const nmpi_comm *comm, int rank, int *coords) {
  TRY(check_cart(&comm));
  if (rank < 0 || rank >= comm->size) {
    return fail("rank", "expected a rank from 0 to %d, got %d", comm->size - 1, rank);
  }
  return MPI_Cart_coords(comm->handle, rank, comm->ndims, coords);
}

int nmpi_cart_rank(const nmpi_comm *comm, int ndims, const int *coords, int *rank) {
  TRY(check_cart(&comm));
  TRY(check_length(comm->ndims, ndims, "coords"));
  for (int d = 0; d < ndims; d++) {
    if (!comm->periods[d] && (coords[d] < 0 || coords[d] >= comm->dims[d])) {
      return fail("coords", "expected 0 to %d in dimension %d, which is not periodic, got %d",
                  comm->dims[d] - 1, d, coords[d]);
    }
  }
  return MPI_Cart_rank(comm->handle, coords, rank);
}

int nmpi_cart_shift(const nmpi_comm *comm, int direction, int disp, int *source, int *dest) {
  TRY(check_cart(&comm));
  if (direction < 0 || direction >= comm->ndims) {
    return fail("direction", "expected a dimension from 0 to %d, got %d", comm->ndims - 1,
                direction);
  }
  /* MPI adds it to a coordinate, as an int. */
  int extent = comm->dims[direction];
  if (disp < -extent || disp > extent) {
    disp = comm->periods[direction] ? disp % extent : disp < 0 ? -extent : extent;
  }
  return MPI_Cart_shift(comm->handle, direction, disp, source, dest);
}

/* ---- exchanges ---- */

int nmpi_exchange(const nmpi_transfer *transfers, int count, const nmpi_comm *comm) {
  const nmpi_comm *checked = comm;
  int first = NMPI_SUCCESS;
  TRY(check_comm(&checked));
  for (const nmpi_transfer *t = transfers; t < transfers + count; t++) {
    int code;
    /* Of a view that goes nowhere nothing is packed. */
    if (t->dest == MPI_PROC_NULL) {
      code = nmpi_recv(t->recvdata, t->source, t->tag, comm, NULL);
    } else if (t->source == MPI_PROC_NULL) {
      code = nmpi_send(t->senddata, t->dest, t->tag, comm);
    } else {
      code =
          nmpi_sendrecv(t->senddata, t->dest, t->recvdata, t->source, t->tag, t->tag, comm, NULL);
    }
    /* The neighbours wait for the rest. */
    if (first == NMPI_SUCCESS) first = code;
  }
  return first;
}

static int post(int code, double request, int64_t *entry, int first) {
  *entry = code == NMPI_SUCCESS ? (int64_t)request : NMPI_REQUEST_NULL;
  return first == NMPI_SUCCESS ? code : first;
}

int nmpi_exchange_begin(const nmpi_transfer *transfers, int count, const nmpi_comm *comm,
                        int64_t *requests) {
  const nmpi_comm *checked = comm;
  int first = NMPI_SUCCESS;
  double request = NMPI_REQUEST_NULL;
  TRY(check_comm(&checked));
  for (const nmpi_transfer *t = transfers; t < transfers + count; t++) {
    if (t->source == MPI_PROC_NULL) continue;
    int code = nmpi_irecv(t->recvdata, t->source, t->tag, comm, &request);
    first = post(code, request, requests + 2 * (t - transfers), first);
  }
  for (const nmpi_transfer *t = transfers; t < transfers + count; t++) {
    if (t->dest == MPI_PROC_NULL) continue;
    int code = nmpi_isend(t->senddata, t->dest, t->tag, comm, &request);
    first = post(code, request, requests + 2 * (t - transfers) + 1, first);
  }
  return first;
}
