/* SPDX-License-Identifier: MIT */
/* coll.c: collective communication. */
#include "internal.h"

int nmpi_barrier(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  return MPI_Barrier(comm->handle);
}

int nmpi_bcast(nmpi_array *data, int root, const nmpi_comm *comm) {
  message m;
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (comm->rank == root) {
    TRY(message_send(&m, data, "data"));
  } else {
    TRY(message_recv(&m, data, "data", false));
  }
  int code = MPI_Bcast(m.data, m.count, m.type, root, comm->handle);
  if (code == MPI_SUCCESS && comm->rank != root) message_unpack(&m, data->length);
  message_done(&m);
  return code;
}

/* The two sides of a reduction where both count: r receives, s sends or is MPI_IN_PLACE. */
static int reduction_build(message *s, message *r, const nmpi_array *senddata, nmpi_array *recvdata,
                           const nmpi_op **op) {
  bool in_place = senddata != NULL && (senddata->flags & NMPI_IN_PLACE);
  TRY(message_recv(r, recvdata, "recvdata", in_place));
  if (in_place) {
    *s = *r;
    s->data = MPI_IN_PLACE;
  } else {
    TRY(message_send(s, senddata, "senddata"));
    TRY(check_same(senddata, recvdata));
    TRY(message_disjoint(s, r));
  }
  return check_op(op, recvdata, "recvdata");
}

int nmpi_reduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op, int root,
                const nmpi_comm *comm) {
  message s, r = {0};
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (comm->rank == root) {
    TRY(reduction_build(&s, &r, senddata, recvdata, &op));
    /* MPICH 4.0 crashes when a root other than 0 reduces more than 2 KiB in place. */
    if (s.data == MPI_IN_PLACE && root != 0) TRY(message_duplicate(&s, &r, "recvdata"));
  } else {
    TRY(message_send(&s, senddata, "senddata"));
    TRY(check_op(&op, senddata, "senddata"));
  }
  MPI_Op handle = op_handle(op, comm->rank == root ? recvdata->type : senddata->type);
  int code = MPI_Reduce(s.data, r.data, s.count, s.type, handle, root, comm->handle);
  if (code == MPI_SUCCESS && comm->rank == root) message_unpack(&r, recvdata->length);
  message_done(&s);
  message_done(&r);
  return code;
}

int nmpi_allreduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op,
                   const nmpi_comm *comm) {
  message s, r;
  TRY(check_comm(&comm));
  TRY(reduction_build(&s, &r, senddata, recvdata, &op));
  int code =
      MPI_Allreduce(s.data, r.data, s.count, s.type, op_handle(op, recvdata->type), comm->handle);
  if (code == MPI_SUCCESS) message_unpack(&r, recvdata->length);
  message_done(&s);
  message_done(&r);
  return code;
}
