/* SPDX-License-Identifier: MIT */
/* coll.c: collective communication. */
#include "internal.h"

int nmpi_barrier(const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  TRY(check_agreement(comm, "barrier", -1, -1, 0));
  return MPI_Barrier(comm->handle);
}

SHORT_PATH int send_side(message *s, const nmpi_array *senddata, scratch *packed) {
  return message_send(s, senddata, "senddata", packed);
}

SHORT_PATH int recv_side(message *r, nmpi_array *recvdata, bool load, scratch *packed) {
  return message_recv(r, recvdata, "recvdata", load, packed);
}

/* The end of a collective; `elements` have arrived. */
SHORT_PATH int finish(int code, message *s, message *r, int64_t elements) {
  if (code == MPI_SUCCESS) message_unpack(r, elements);
  message_done(s);
  message_done(r);
  return code;
}

SHORT_PATH bool is_in_place(const nmpi_array *a) {
  return a != NULL && (a->flags & NMPI_IN_PLACE);
}

LONG_PATH int bcast(nmpi_array *data, int root, const nmpi_comm *comm) {
  message m;
  if (comm->rank == root) {
    TRY(message_send(&m, data, "data", NULL));
  } else {
    TRY(message_recv(&m, data, "data", false, NULL));
  }
  TRY(check_agreement(comm, "bcast", root, data->length, data->itemsize));
  int code = MPI_Bcast(m.data, m.count, m.type, root, comm->handle);
  if (code == MPI_SUCCESS) message_unpack(&m, m.elements);
  message_done(&m);
  return code;
}

int nmpi_bcast(nmpi_array *data, int root, const nmpi_comm *comm) {
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (!array_is_short(data, comm->rank == root ? 0 : NMPI_READONLY)) return bcast(data, root, comm);
  return MPI_Bcast(data->p.any, data->count, dtypes[data->type].unit, root, comm->handle);
}

/* ---- scatter and gather ---- */

/* Whether a call may take the short path: `whole` divides into parts of `count` elements, and `part` holds one. */
SHORT_PATH bool is_divided(const nmpi_array *whole, const nmpi_array *part, int64_t *count,
                           const nmpi_comm *comm) {
  bool given = *count != NMPI_UNDEFINED;
  if (part->type == NMPI_STRUCT) return false;
  if (!given) *count = part->length;
  if (*count < 0 || *count > part->length) return false;
  int64_t all = *count * comm->size;
  return given ? all <= whole->length : all == whole->length;
}

/* The same where this rank's part lies in `whole` already. */
SHORT_PATH bool is_divided_in_place(const nmpi_array *whole, int unwanted, int64_t *count,
                                    const nmpi_comm *comm) {
  int64_t size = comm->size;
  if (!array_is_short(whole, unwanted) || whole->type == NMPI_STRUCT) return false;
  if (*count != NMPI_UNDEFINED) {
    return *count >= 0 && *count <= whole->length && *count * size <= whole->length;
  }
  *count = size == 1 ? whole->length : whole->length / size;
  return *count * size == whole->length;
}

/* Fits both sides of a scatter or gather, where a process has both or one (the other is NULL): `whole` holds a part
 * for each of the ranks, `part` one of them. A count of NMPI_UNDEFINED is worked out. */
SHORT_PATH int divide(message *whole, message *part, int64_t *count, const nmpi_comm *comm) {
  bool given = *count != NMPI_UNDEFINED;
  if (given && *count < 0) return fail("count", "expected at least 0, got %lld", (long long)*count);
  int64_t share = whole != NULL ? whole->elements : 0;
  if (comm->size > 1) share /= comm->size;
  if (!given && whole != NULL && whole->elements != share * comm->size) {
    return fail(whole->argument, "expected elements that divide by the %d ranks, got %lld",
                comm->size, (long long)whole->elements);
  }
  if (!given) *count = whole != NULL ? share : part->elements;
  if (part != NULL && (given ? part->elements < *count : part->elements != *count)) {
    return fail(part->argument, "expected %s%lld elements, got %lld", given ? "at least " : "",
                (long long)*count, (long long)part->elements);
  }
  if (whole != NULL && *count > share) {
    return fail(whole->argument,
                "expected at least %lld elements for each of the %d ranks, got %lld",
                (long long)*count, comm->size, (long long)whole->elements);
  }
  if (whole != NULL) message_limit(whole, *count);
  if (part != NULL) message_limit(part, *count);
  return NMPI_SUCCESS;
}

LONG_PATH int scatter(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                      const nmpi_comm *comm) {
  message s, r;
  bool is_root = comm->rank == root, in_place = is_root && is_in_place(recvdata);
  if (is_root) {
    TRY(send_side(&s, senddata, NULL));
  } else {
    message_none(&s);
  }
  if (in_place) {
    message_none(&r);
  } else {
    TRY(recv_side(&r, recvdata, false, NULL));
  }
  if (is_root && !in_place) {
    TRY(check_same_dtype(senddata, recvdata));
    TRY(message_disjoint(&s, &r));
  }
  TRY(divide(is_root ? &s : NULL, in_place ? NULL : &r, &count, comm));
  if (in_place) r.type = s.type;
  if (!is_root) s.type = r.type;
  TRY(check_agreement(comm, "scatter", root, count, (is_root ? senddata : recvdata)->itemsize));
  int code = MPI_Scatter(s.data, s.count, s.type, in_place ? MPI_IN_PLACE : r.data, r.count, r.type,
                         root, comm->handle);
  return finish(code, &s, &r, count);
}

int nmpi_scatter(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                 const nmpi_comm *comm) {
  int64_t n = count;
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (comm->rank == root && is_in_place(recvdata) && is_divided_in_place(senddata, 0, &n, comm)) {
    MPI_Datatype type = dtypes[senddata->type].unit;
    return MPI_Scatter(senddata->p.any, (int)n, type, MPI_IN_PLACE, 0, type, root, comm->handle);
  }
  if (comm->rank != root || !arrays_are_short(senddata, recvdata) ||
      !is_divided(senddata, recvdata, &n, comm)) {
    return scatter(senddata, recvdata, count, root, comm);
  }
  MPI_Datatype type = dtypes[senddata->type].unit;
  return MPI_Scatter(senddata->p.any, (int)n, type, recvdata->p.any, (int)n, type, root,
                     comm->handle);
}

/* The two sides of a gather where both count: `r` receives from all, `s` is this rank's part or MPI_IN_PLACE. */
SHORT_PATH int gather_build(message *s, message *r, const nmpi_array *senddata,
                            nmpi_array *recvdata, int64_t *count, const nmpi_comm *comm) {
  bool in_place = is_in_place(senddata);
  TRY(recv_side(r, recvdata, in_place, NULL));
  if (in_place) {
    message_none(s);
  } else {
    TRY(send_side(s, senddata, NULL));
    TRY(check_same_dtype(senddata, recvdata));
    TRY(message_disjoint(s, r));
  }
  TRY(divide(r, in_place ? NULL : s, count, comm));
  if (in_place) {
    s->data = MPI_IN_PLACE;
    s->type = r->type;
  }
  return NMPI_SUCCESS;
}

LONG_PATH int gather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                     const nmpi_comm *comm) {
  message s, r;
  if (comm->rank == root) {
    TRY(gather_build(&s, &r, senddata, recvdata, &count, comm));
  } else {
    message_none(&r);
    TRY(send_side(&s, senddata, NULL));
    TRY(divide(NULL, &s, &count, comm));
    r.type = s.type;
  }
  const nmpi_array *data = comm->rank == root ? recvdata : senddata;
  TRY(check_agreement(comm, "gather", root, count, data->itemsize));
  int code = MPI_Gather(s.data, s.count, s.type, r.data, r.count, r.type, root, comm->handle);
  return finish(code, &s, &r, count * comm->size);
}

int nmpi_gather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count, int root,
                const nmpi_comm *comm) {
  int64_t n = count;
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (comm->rank == root && is_in_place(senddata) &&
      is_divided_in_place(recvdata, NMPI_READONLY, &n, comm)) {
    MPI_Datatype type = dtypes[recvdata->type].unit;
    return MPI_Gather(MPI_IN_PLACE, 0, type, recvdata->p.any, (int)n, type, root, comm->handle);
  }
  if (comm->rank != root || !arrays_are_short(senddata, recvdata) ||
      !is_divided(recvdata, senddata, &n, comm)) {
    return gather(senddata, recvdata, count, root, comm);
  }
  MPI_Datatype type = dtypes[senddata->type].unit;
  return MPI_Gather(senddata->p.any, (int)n, type, recvdata->p.any, (int)n, type, root,
                    comm->handle);
}

LONG_PATH int allgather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count,
                        const nmpi_comm *comm) {
  message s, r;
  TRY(gather_build(&s, &r, senddata, recvdata, &count, comm));
  TRY(check_agreement(comm, "allgather", -1, count, recvdata->itemsize));
  int code = MPI_Allgather(s.data, s.count, s.type, r.data, r.count, r.type, comm->handle);
  return finish(code, &s, &r, count * comm->size);
}

int nmpi_allgather(const nmpi_array *senddata, nmpi_array *recvdata, int64_t count,
                   const nmpi_comm *comm) {
  int64_t n = count;
  TRY(check_comm(&comm));
  if (is_in_place(senddata) && is_divided_in_place(recvdata, NMPI_READONLY, &n, comm)) {
    MPI_Datatype type = dtypes[recvdata->type].unit;
    return MPI_Allgather(MPI_IN_PLACE, 0, type, recvdata->p.any, (int)n, type, comm->handle);
  }
  if (!arrays_are_short(senddata, recvdata) || !is_divided(recvdata, senddata, &n, comm)) {
    return allgather(senddata, recvdata, count, comm);
  }
  MPI_Datatype type = dtypes[senddata->type].unit;
  return MPI_Allgather(senddata->p.any, (int)n, type, recvdata->p.any, (int)n, type, comm->handle);
}

/* ---- reductions ---- */

/* The two sides where both count: recv receives, send sends or is MPI_IN_PLACE. */
static int reduction_sides(reduction *x, const nmpi_array *senddata, nmpi_array *recvdata) {
  message *s = &x->send, *r = &x->recv;
  bool in_place = is_in_place(senddata);
  TRY(recv_side(r, recvdata, in_place, x->recv_packed));
  if (in_place) {
    *s = *r;
    s->large = false;
    s->unpack = NULL;
    s->data = MPI_IN_PLACE;
  } else {
    TRY(send_side(s, senddata, x->send_packed));
    TRY(check_same(senddata, recvdata));
    TRY(message_disjoint(s, r));
  }
  TRY(check_op(&x->op, recvdata, "recvdata"));
  /* MPICH 4.0 crashes when a root other than 0 reduces more than 2 KiB in place. */
  bool crashes = in_place && x->root > 0;
  return crashes ? message_duplicate(s, r, "recvdata", x->send_packed) : NMPI_SUCCESS;
}

/* After success op_end is due. */
static int reduction_build(reduction *x, const nmpi_array *senddata, nmpi_array *recvdata) {
  if (x->root < 0 || x->comm->rank == x->root) {
    x->data = recvdata;
    TRY(reduction_sides(x, senddata, recvdata));
  } else {
    x->data = senddata;
    message_none(&x->recv);
    TRY(send_side(&x->send, senddata, x->send_packed));
    TRY(check_op(&x->op, senddata, "senddata"));
  }
  /* That waits for the other ranks, which a nonblocking call must not. */
  if (x->requests == NULL) {
    TRY(check_agreement(x->comm, x->routine, x->root, x->data->length, x->data->itemsize));
  }
  return op_begin(x->op, x->data, &x->handle, &x->type);
}

/* Data that is MPI_IN_PLACE or NULL stays so. */
SHORT_PATH void *piece(const message *m, int64_t from, int64_t itemsize) {
  if (m->data == MPI_IN_PLACE || m->data == NULL) return m->data;
  return (char *)m->data + from * itemsize;
}

/* Reduces n elements. */
static int reduction_call(const reduction *x, int64_t from, int n, MPI_Request *request) {
  const void *s = piece(&x->send, from, x->data->itemsize);
  void *r = piece(&x->recv, from, x->data->itemsize);
  MPI_Comm comm = x->comm->handle;
  if (x->root < 0) {
    return request == NULL ? MPI_Allreduce(s, r, n, x->type, x->handle, comm)
                           : MPI_Iallreduce(s, r, n, x->type, x->handle, comm, request);
  }
  return request == NULL ? MPI_Reduce(s, r, n, x->type, x->handle, x->root, comm)
                         : MPI_Ireduce(s, r, n, x->type, x->handle, x->root, comm, request);
}

/* MPI's operators do not work on the type of a large message, so a reduction takes it piece by piece; *pieces becomes
 * the number of those for which MPI has been called with success. */
static int reduction_call_all(const reduction *x, int *pieces) {
  int code;
  int64_t from = 0;
  *pieces = 0;
  do {
    int64_t rest = x->send.elements - from;
    int n = rest < message_max_count ? (int)rest : message_max_count;
    code = reduction_call(x, from, n, x->requests != NULL ? &x->requests[*pieces] : NULL);
    *pieces += code == MPI_SUCCESS;
    from += n;
  } while (code == MPI_SUCCESS && from < x->send.elements);
  return code;
}

LONG_PATH int reduce_by(const char *routine, const nmpi_array *senddata, nmpi_array *recvdata,
                        const nmpi_op *op, int root, const nmpi_comm *comm) {
  int pieces;
  reduction x = {.routine = routine, .op = op, .root = root, .comm = comm};
  TRY(reduction_build(&x, senddata, recvdata));
  int code = reduction_call_all(&x, &pieces);
  op_end(x.op);
  return finish(code, &x.send, &x.recv, x.recv.elements);
}

/* Whether a reduction to all ranks may take the short path, and what it is to send. */
SHORT_PATH bool is_reducible(const nmpi_array *senddata, const nmpi_array *recvdata,
                             const nmpi_op **op, const void **from) {
  *from = MPI_IN_PLACE;
  if (is_in_place(senddata)) {
    return array_is_short(recvdata, NMPI_READONLY) && op_applies(op, recvdata->type);
  }
  if (!arrays_are_short(senddata, recvdata) || senddata->length != recvdata->length) return false;
  *from = senddata->p.any;
  return op_applies(op, recvdata->type);
}

/* The same of a reduction to a root: `data` tells how the elements are, and elsewhere it is to receive at NULL. In place
 * MPICH 4.0 crashes for roots other than 0, see reduction_sides. */
SHORT_PATH bool is_reducible_to(int root, const nmpi_comm *comm, const nmpi_array *senddata,
                                const nmpi_array *recvdata, const nmpi_op **op,
                                const nmpi_array **data, const void **from, void **to) {
  if (comm->rank != root) {
    *data = senddata;
    *to = NULL;
    if (!array_is_short(senddata, 0)) return false;
    *from = senddata->p.any;
    return op_applies(op, senddata->type);
  }
  if (root > 0 && is_in_place(senddata)) return false;
  if (!is_reducible(senddata, recvdata, op, from)) return false;
  *data = recvdata;
  *to = recvdata->p.any;
  return true;
}

int nmpi_reduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op, int root,
                const nmpi_comm *comm) {
  const nmpi_array *data;
  const void *from;
  void *to;
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (!is_reducible_to(root, comm, senddata, recvdata, &op, &data, &from, &to)) {
    return reduce_by("reduce", senddata, recvdata, op, root, comm);
  }
  return MPI_Reduce(from, to, data->count, dtypes[data->type].type, op_handle(op, data->type), root,
                    comm->handle);
}

int nmpi_allreduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op,
                   const nmpi_comm *comm) {
  const void *from;
  TRY(check_comm(&comm));
  if (!is_reducible(senddata, recvdata, &op, &from)) {
    return reduce_by("allreduce", senddata, recvdata, op, -1, comm);
  }
  return MPI_Allreduce(from, recvdata->p.any, recvdata->count, dtypes[recvdata->type].type,
                       op_handle(op, recvdata->type), comm->handle);
}

LONG_PATH int ireduce_by(const char *routine, const nmpi_array *senddata, nmpi_array *recvdata,
                         const nmpi_op *op, int root, const nmpi_comm *comm, double *request) {
  int pieces;
  reduction x = {.routine = routine, .op = op, .root = root, .comm = comm};
  bool receives = root < 0 || comm->rank == root;
  const nmpi_array *data = receives ? recvdata : senddata;
  TRY(request_prepare(&x, data != NULL ? data->length : 0));
  int code = reduction_build(&x, senddata, recvdata);
  if (code != NMPI_SUCCESS) return request_decline(code);
  code = reduction_call_all(&x, &pieces);
  if (x.send.large) message_free_type(x.send.type);
  if (x.recv.large) message_free_type(x.recv.type);
  if (code != MPI_SUCCESS) {
    while (pieces > 0) MPI_Wait(&x.requests[--pieces], MPI_STATUS_IGNORE);
    op_end(x.op);
    return request_decline(code);
  }
  *request = request_reduction(&x, pieces, is_in_place(senddata) ? NULL : senddata,
                               receives ? recvdata : NULL);
  return NMPI_SUCCESS;
}

int nmpi_ireduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op, int root,
                 const nmpi_comm *comm, double *request) {
  const nmpi_array *data;
  const void *from;
  void *to;
  *request = NMPI_REQUEST_NULL;
  TRY(check_comm(&comm));
  TRY(check_root(comm, root));
  if (!is_reducible_to(root, comm, senddata, recvdata, &op, &data, &from, &to)) {
    return ireduce_by("ireduce", senddata, recvdata, op, root, comm, request);
  }
  MPI_Request *handle = request_handle();
  if (handle == NULL) return NMPI_ERR_ARGUMENT;
  TRY(MPI_Ireduce(from, to, data->count, dtypes[data->type].type, op_handle(op, data->type), root,
                  comm->handle, handle));
  *request = request_reduction_short("ireduce", op, from == MPI_IN_PLACE ? NULL : senddata,
                                     to != NULL ? recvdata : NULL);
  return NMPI_SUCCESS;
}

int nmpi_iallreduce(const nmpi_array *senddata, nmpi_array *recvdata, const nmpi_op *op,
                    const nmpi_comm *comm, double *request) {
  const void *from;
  *request = NMPI_REQUEST_NULL;
  TRY(check_comm(&comm));
  if (!is_reducible(senddata, recvdata, &op, &from)) {
    return ireduce_by("iallreduce", senddata, recvdata, op, -1, comm, request);
  }
  MPI_Request *handle = request_handle();
  if (handle == NULL) return NMPI_ERR_ARGUMENT;
  TRY(MPI_Iallreduce(from, recvdata->p.any, recvdata->count, dtypes[recvdata->type].type,
                     op_handle(op, recvdata->type), comm->handle, handle));
  *request =
      request_reduction_short("iallreduce", op, from == MPI_IN_PLACE ? NULL : senddata, recvdata);
  return NMPI_SUCCESS;
}
