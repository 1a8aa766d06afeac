/* SPDX-License-Identifier: MIT */
/* p2p.c: blocking point-to-point communication. request.c has the rest. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

/* ---- the buffer of bsend ---- */

/* MPI has one for the process. It remains for the next one when it is detached, unless it is large. */
enum { ROOM_KEPT = 1 << 20 };
static void *attached;
static _Atomic int64_t attached_bytes; /* 0: it is not attached */
static int64_t attached_room;
static pthread_mutex_t attached_mutex = PTHREAD_MUTEX_INITIALIZER;

int check_buffer(int64_t wire, int dest) {
  if (dest == MPI_PROC_NULL) return MPI_SUCCESS;
  return wire + MPI_BSEND_OVERHEAD <= attached_bytes ? MPI_SUCCESS : MPI_ERR_BUFFER;
}

int nmpi_bsend_overhead(void) {
  return MPI_BSEND_OVERHEAD;
}

static int attach(int64_t bytes) {
  if (attached_bytes > 0) return fail("bytes", "there is a buffer already: detach it first");
  if (bytes > attached_room) {
    free(attached);
    attached = malloc((size_t)bytes);
    attached_room = attached != NULL ? bytes : 0;
  }
  if (attached == NULL) return fail("bytes", "no memory for %lld bytes", (long long)bytes);
  TRY(MPI_Buffer_attach(attached, (int)bytes));
  atomic_store_explicit(&attached_bytes, bytes, memory_order_release);
  return MPI_SUCCESS;
}

int nmpi_buffer_attach(int64_t bytes) {
  const nmpi_comm *world = NULL;
  if (bytes < MPI_BSEND_OVERHEAD || bytes > INT_MAX) {
    return fail("bytes", "expected %d (BSEND_OVERHEAD) to %d, got %lld", MPI_BSEND_OVERHEAD,
                INT_MAX, (long long)bytes);
  }
  TRY(check_comm(&world));
  pthread_mutex_lock(&attached_mutex);
  int code = attach(bytes);
  pthread_mutex_unlock(&attached_mutex);
  return code;
}

int nmpi_buffer_detach(void) {
  const nmpi_comm *world = NULL;
  void *buffer;
  int bytes, code = NMPI_SUCCESS;
  TRY(check_comm(&world));
  pthread_mutex_lock(&attached_mutex);
  if (attached_bytes > 0) code = MPI_Buffer_detach((void *)&buffer, &bytes);
  if (attached_bytes > 0 && code == MPI_SUCCESS) {
    atomic_store_explicit(&attached_bytes, 0, memory_order_release);
    if (attached_room > ROOM_KEPT) {
      free(attached);
      attached = NULL;
      attached_room = 0;
    }
  }
  pthread_mutex_unlock(&attached_mutex);
  return code;
}

/* ---- sending and receiving ---- */

/* MPI_Send and its like. */
typedef int sender(const void *, int, MPI_Datatype, int, int, MPI_Comm);

SHORT_PATH int send_by(sender *mpi_send, bool buffered, const nmpi_array *data, int dest, int tag,
                       const nmpi_comm *comm) {
  message m;
  TRY(check_send(&comm, dest, tag));
  if (array_is_short(data, 0) && request_send_is_free(data, comm, dest)) {
    if (buffered) TRY(check_buffer(data->length * array_wire(data), dest));
    return mpi_send(data->p.any, data->count, dtypes[data->type].unit, dest, tag, comm->handle);
  }
  TRY(message_send_to(&m, data, "data", NULL, comm, dest));
  TRY(request_alone(&m, comm, false));
  int code = buffered ? check_buffer(message_wire(&m), dest) : MPI_SUCCESS;
  if (code == MPI_SUCCESS) {
    bool watched = request_watch(comm, dest, tag, message_wire(&m));
    code = mpi_send(m.data, m.count, m.type, dest, tag, comm->handle);
    if (watched) request_watched();
  }
  message_done(&m);
  return code;
}

int nmpi_send(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm) {
  return send_by(MPI_Send, false, data, dest, tag, comm);
}

int nmpi_ssend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm) {
  return send_by(MPI_Ssend, false, data, dest, tag, comm);
}

int nmpi_bsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm) {
  return send_by(MPI_Bsend, true, data, dest, tag, comm);
}

int nmpi_rsend(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm) {
  return send_by(MPI_Rsend, false, data, dest, tag, comm);
}

LONG_PATH int recv_view(nmpi_array *data, int source, int tag, const nmpi_comm *comm,
                        nmpi_status *status) {
  message m;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(message_recv_from(&m, data, "data", NULL, comm, source));
  TRY(request_alone(&m, comm, true));
  int code = MPI_Recv(m.data, m.count, m.type, source, tag, comm->handle, &found);
  code = message_receive_end(&m, code, &found, status);
  message_done(&m);
  return code;
}

int nmpi_recv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, nmpi_status *status) {
  int count;
  MPI_Datatype type;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(check_recv(&comm, source, tag));
  if (!array_is_short(data, NMPI_READONLY) ||
      !request_recv_is_free(data, comm->size == 1, &count, &type)) {
    return recv_view(data, source, tag, comm, status);
  }
  int code = MPI_Recv(data->p.any, count, type, source, tag, comm->handle, &found);
  return message_receive_end_short(data, "data", code, &found, status);
}

/* Open MPI 4.1 does not tell when a short message to oneself is longer than the receive of the same call. That takes
 * another message where one is waiting. */
SHORT_PATH bool may_be_cut(const message *s, int dest, const message *r, int source, int recvtag,
                           const nmpi_comm *comm) {
#ifdef OPEN_MPI
  int waiting = 0;
  if (dest != comm->rank || message_wire(s) <= message_wire(r)) return false;
  MPI_Iprobe(source, recvtag, comm->handle, &waiting, MPI_STATUS_IGNORE);
  return !waiting;
#else
  (void)s, (void)dest, (void)r, (void)source, (void)recvtag, (void)comm;
  return false;
#endif
}

SHORT_PATH int exchange(message *s, int dest, message *r, int source, int sendtag, int recvtag,
                        const nmpi_comm *comm, nmpi_status *status) {
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(request_alone(s, comm, false));
  TRY(request_alone(r, comm, true));
  bool cut = may_be_cut(s, dest, r, source, recvtag, comm);
  bool watched = request_watch(comm, dest, sendtag, message_wire(s));
  int code = MPI_Sendrecv(s->data, s->count, s->type, dest, sendtag, r->data, r->count, r->type,
                          source, recvtag, comm->handle, &found);
  if (watched) request_watched();
  cut = cut && found.MPI_SOURCE == dest && found.MPI_TAG == sendtag;
  if (code == MPI_SUCCESS && cut && status_bytes(&found) == message_wire(r)) {
    code = MPI_ERR_TRUNCATE;
  }
  code = message_receive_end(r, code, &found, status);
  message_done(s);
  message_done(r);
  return code;
}

SHORT_PATH int check_exchange(const nmpi_comm **comm, int dest, int source, int sendtag,
                              int recvtag) {
  TRY(check_comm(comm));
  TRY(check_dest(*comm, dest));
  TRY(check_source(*comm, source));
  TRY(check_send_tag(sendtag, "sendtag"));
  return check_recv_tag(recvtag, "recvtag");
}

LONG_PATH int sendrecv_view(const nmpi_array *senddata, int dest, nmpi_array *recvdata, int source,
                            int sendtag, int recvtag, const nmpi_comm *comm, nmpi_status *status) {
  message s, r;
  TRY(message_send_to(&s, senddata, "senddata", NULL, comm, dest));
  TRY(message_recv_from(&r, recvdata, "recvdata", NULL, comm, source));
  TRY(message_part(&s, senddata, &r, recvdata));
  return exchange(&s, dest, &r, source, sendtag, recvtag, comm, status);
}

/* Whether two arrays may be given to one MPI_Sendrecv as they are, with the count and datatype of the second. */
SHORT_PATH bool exchange_is_short(const nmpi_array *send, int dest, const nmpi_array *recv,
                                  const nmpi_comm *comm, int *count, MPI_Datatype *type) {
  if (!array_is_short(send, 0) || !array_is_short(recv, NMPI_READONLY)) return false;
  if (arrays_overlap_whole(send, recv)) return false;
  if (WATCHES && dest == comm->rank &&
      array_wire(send) * send->length > array_wire(recv) * recv->length) {
    return false; /* see may_be_cut */
  }
  return request_send_is_free(send, comm, dest) &&
         request_recv_is_free(recv, comm->size == 1, count, type);
}

int nmpi_sendrecv(const nmpi_array *senddata, int dest, nmpi_array *recvdata, int source,
                  int sendtag, int recvtag, const nmpi_comm *comm, nmpi_status *status) {
  int count;
  MPI_Datatype type;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(check_exchange(&comm, dest, source, sendtag, recvtag));
  if (!exchange_is_short(senddata, dest, recvdata, comm, &count, &type)) {
    return sendrecv_view(senddata, dest, recvdata, source, sendtag, recvtag, comm, status);
  }
  int code =
      MPI_Sendrecv(senddata->p.any, senddata->count, dtypes[senddata->type].unit, dest, sendtag,
                   recvdata->p.any, count, type, source, recvtag, comm->handle, &found);
  return message_receive_end_short(recvdata, "recvdata", code, &found, status);
}

int nmpi_sendrecv_replace(nmpi_array *data, int dest, int source, int sendtag, int recvtag,
                          const nmpi_comm *comm, nmpi_status *status) {
  message s, r;
  TRY(check_exchange(&comm, dest, source, sendtag, recvtag));
  TRY(message_recv(&r, data, "data", true, NULL));
  TRY(message_duplicate(&s, &r, "data", NULL));
  return exchange(&s, dest, &r, source, sendtag, recvtag, comm, status);
}

int nmpi_probe(int source, int tag, const nmpi_comm *comm, nmpi_status *status) {
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(check_recv(&comm, source, tag));
  int code = MPI_Probe(source, tag, comm->handle, &found);
  status_probed(status, code, &found);
  return code;
}

int nmpi_iprobe(int source, int tag, const nmpi_comm *comm, int *flag, nmpi_status *status) {
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  *flag = 0;
  TRY(check_recv(&comm, source, tag));
  int code = MPI_Iprobe(source, tag, comm->handle, flag, &found);
  if (*flag) status_probed(status, code, &found);
  return code;
}
