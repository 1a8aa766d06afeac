/* SPDX-License-Identifier: MIT */
/* comm.c: communicators. */
#include "internal.h"

static nmpi_comm world, self;

static void describe(nmpi_comm *comm, MPI_Comm handle) {
  comm->handle = handle;
  MPI_Comm_rank(handle, &comm->rank);
  MPI_Comm_size(handle, &comm->size);
  comm->live = true;
}

void comm_init(void) {
  describe(&world, MPI_COMM_WORLD);
  describe(&self, MPI_COMM_SELF);
}

void comm_finalize(void) {
  world.live = false;
  self.live = false;
}

nmpi_comm *nmpi_comm_world(void) {
  return &world;
}

nmpi_comm *nmpi_comm_self(void) {
  return &self;
}

int check_comm(const nmpi_comm **comm) {
  if (*comm == NULL) *comm = &world;
  if ((*comm)->live) return NMPI_SUCCESS;
  return fail("comm", "expected a live communicator, but MPI is finalised");
}

int nmpi_comm_rank(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  return comm->rank;
}

int nmpi_comm_size(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  return comm->size;
}
