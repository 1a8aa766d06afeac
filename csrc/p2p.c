/* SPDX-License-Identifier: MIT */
/* p2p.c: point-to-point communication. */
#include "internal.h"

/* What every receive does with MPI's status: the view is unpacked, the caller's struct filled. Returns the code. */
static int receive_end(int code, const message *m, const MPI_Status *from, nmpi_status *to) {
  int64_t elements = code == MPI_SUCCESS ? message_received(m, from) : 0;
  message_unpack(m, elements);
  if (to != NULL) {
    *to = (nmpi_status){from->MPI_SOURCE, from->MPI_TAG, code, elements};
  }
  message_done(m);
  return code;
}

int nmpi_send(const nmpi_array *data, int dest, int tag, const nmpi_comm *comm) {
  message m;
  TRY(check_comm(&comm));
  TRY(check_dest(comm, dest));
  TRY(check_send_tag(tag, "tag"));
  TRY(message_send(&m, data, "data"));
  int code = MPI_Send(m.data, m.count, m.type, dest, tag, comm->handle);
  message_done(&m);
  return code;
}

int nmpi_recv(nmpi_array *data, int source, int tag, const nmpi_comm *comm, nmpi_status *status) {
  message m;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(check_comm(&comm));
  TRY(check_source(comm, source));
  TRY(check_recv_tag(tag, "tag"));
  TRY(message_recv(&m, data, "data", false));
  int code = MPI_Recv(m.data, m.count, m.type, source, tag, comm->handle, &found);
  return receive_end(code, &m, &found, status);
}

int nmpi_sendrecv(const nmpi_array *senddata, int dest, nmpi_array *recvdata, int source,
                  int sendtag, int recvtag, const nmpi_comm *comm, nmpi_status *status) {
  message s, r;
  MPI_Status found = {.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
  TRY(check_comm(&comm));
  TRY(check_dest(comm, dest));
  TRY(check_source(comm, source));
  TRY(check_send_tag(sendtag, "sendtag"));
  TRY(check_recv_tag(recvtag, "recvtag"));
  TRY(message_send(&s, senddata, "senddata"));
  TRY(message_recv(&r, recvdata, "recvdata", false));
  TRY(message_disjoint(&s, &r));
  int code = MPI_Sendrecv(s.data, s.count, s.type, dest, sendtag, r.data, r.count, r.type, source,
                          recvtag, comm->handle, &found);
  /* Open MPI 4.1 does not tell when a short message to oneself was cut. */
  bool own = dest == comm->rank && found.MPI_SOURCE == dest && found.MPI_TAG == sendtag;
  if (code == MPI_SUCCESS && own && s.bytes > r.bytes &&
      message_received(&r, &found) == recvdata->length) {
    code = MPI_ERR_TRUNCATE;
  }
  message_done(&s);
  return receive_end(code, &r, &found, status);
}
