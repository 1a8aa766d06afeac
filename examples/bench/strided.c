/* SPDX-License-Identifier: MIT */
/* The transfers of strided.lua in C: by a derived datatype, by loops that pack and unpack, the same in pieces, and of
 * contiguous data. */
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TAG = 1, NDIM = 3, PIECE_BYTES = 256 << 10, MOST_PIECES = 1024 };

/* Strides are in elements; the last dimension is the innermost. */
typedef struct layout {
  char *data;
  int64_t extent[NDIM];
  int64_t stride[NDIM];
  MPI_Datatype type; /* the elements' */
  size_t size;       /* of an element */
} layout;

typedef struct side {
  layout view;
  MPI_Datatype derived;
  char *buffer;
} side;

typedef struct exchange {
  side send, recv;
  int peer;
  int count; /* of elements */
} exchange;

static layout layout_of(void *data, int size, int ndim, const int64_t *extent,
                        const int64_t *stride) {
  layout l = {.data = data, .extent = {1, 1, 1}, .stride = {0, 0, 0}, .size = (size_t)size};
  for (int d = 0; d < ndim; d++) {
    l.extent[NDIM - ndim + d] = extent[d];
    l.stride[NDIM - ndim + d] = stride[d];
  }
  switch (size) {
    case 1: l.type = MPI_INT8_T; break;
    case 4: l.type = MPI_FLOAT; break;
    case 8: l.type = MPI_DOUBLE; break;
    default: l.type = MPI_C_DOUBLE_COMPLEX;
  }
  return l;
}

static int count_of(const layout *l) {
  return (int)(l->extent[0] * l->extent[1] * l->extent[2]);
}

/* ---- derived datatypes ---- */

static MPI_Datatype derived_of(const layout *l) {
  const int64_t *n = l->extent, *step = l->stride;
  MPI_Aint size = (MPI_Aint)l->size;
  MPI_Datatype rows, all;
  if (step[2] == 1) {
    MPI_Type_vector((int)n[1], (int)n[2], (int)step[1], l->type, &rows);
  } else if (n[1] == 1) {
    MPI_Type_vector((int)n[2], 1, (int)step[2], l->type, &rows);
  } else {
    MPI_Datatype row;
    MPI_Type_vector((int)n[2], 1, (int)step[2], l->type, &row);
    MPI_Type_create_hvector((int)n[1], 1, step[1] * size, row, &rows);
    MPI_Type_free(&row);
  }
  if (n[0] == 1) {
    all = rows;
  } else {
    MPI_Type_create_hvector((int)n[0], 1, step[0] * size, rows, &all);
    MPI_Type_free(&rows);
  }
  MPI_Type_commit(&all);
  return all;
}

/* ---- loops ---- */

/* Inlined, so that the size is a constant in the innermost loop. */
static inline void pack_elements(char *restrict to, const layout *l, size_t size) {
  int64_t n = l->extent[2], step = l->stride[2] * (int64_t)size;
  for (int64_t i = 0; i < l->extent[0]; i++) {
    for (int64_t j = 0; j < l->extent[1]; j++) {
      const char *from = l->data + (i * l->stride[0] + j * l->stride[1]) * (int64_t)size;
      if (l->stride[2] == 1) {
        memcpy(to, from, (size_t)n * size);
      } else {
        for (int64_t k = 0; k < n; k++) memcpy(to + k * (int64_t)size, from + k * step, size);
      }
      to += n * (int64_t)size;
    }
  }
}

static inline void unpack_elements(const layout *l, const char *restrict from, size_t size) {
  int64_t n = l->extent[2], step = l->stride[2] * (int64_t)size;
  for (int64_t i = 0; i < l->extent[0]; i++) {
    for (int64_t j = 0; j < l->extent[1]; j++) {
      char *to = l->data + (i * l->stride[0] + j * l->stride[1]) * (int64_t)size;
      if (l->stride[2] == 1) {
        memcpy(to, from, (size_t)n * size);
      } else {
        for (int64_t k = 0; k < n; k++) memcpy(to + k * step, from + k * (int64_t)size, size);
      }
      from += n * (int64_t)size;
    }
  }
}

static void pack(char *to, const layout *l) {
  switch (l->size) {
    case 1: pack_elements(to, l, 1); break;
    case 4: pack_elements(to, l, 4); break;
    case 8: pack_elements(to, l, 8); break;
    default: pack_elements(to, l, 16);
  }
}

static void unpack(const layout *l, const char *from) {
  switch (l->size) {
    case 1: unpack_elements(l, from, 1); break;
    case 4: unpack_elements(l, from, 4); break;
    case 8: unpack_elements(l, from, 8); break;
    default: unpack_elements(l, from, 16);
  }
}

static bool is_contiguous(const layout *l) {
  int64_t step = 1;
  for (int d = NDIM - 1; d >= 0; d--) {
    if (l->extent[d] != 1 && l->stride[d] != step) return false;
    step *= l->extent[d];
  }
  return true;
}

/* ---- what strided.lua calls ---- */

/* Data, extents and strides of the two views, whose elements are of `size` bytes. */
exchange *bench_strided_open(void *send, int send_ndim, const int64_t *send_extent,
                             const int64_t *send_stride, void *recv, int recv_ndim,
                             const int64_t *recv_extent, const int64_t *recv_stride, int size) {
  exchange *x = malloc(sizeof *x);
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  x->peer = 1 - rank;
  x->send.view = layout_of(send, size, send_ndim, send_extent, send_stride);
  x->recv.view = layout_of(recv, size, recv_ndim, recv_extent, recv_stride);
  x->count = count_of(&x->send.view);
  x->send.derived = derived_of(&x->send.view);
  x->recv.derived = derived_of(&x->recv.view);
  size_t bytes = (size_t)x->count * (size_t)size;
  x->send.buffer = malloc(bytes);
  x->recv.buffer = malloc(bytes);
  memset(x->send.buffer, 1, bytes);
  memset(x->recv.buffer, 2, bytes);
  return x;
}

void bench_strided_close(exchange *x) {
  MPI_Type_free(&x->send.derived);
  MPI_Type_free(&x->recv.derived);
  free(x->send.buffer);
  free(x->recv.buffer);
  free(x);
}

void bench_strided_derived(int n, exchange *x) {
  for (int i = 0; i < n; i++) {
    MPI_Sendrecv(x->send.view.data, 1, x->send.derived, x->peer, TAG, x->recv.view.data, 1,
                 x->recv.derived, x->peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
}

void bench_strided_contiguous(int n, exchange *x) {
  for (int i = 0; i < n; i++) {
    MPI_Sendrecv(x->send.buffer, x->count, x->send.view.type, x->peer, TAG, x->recv.buffer,
                 x->count, x->recv.view.type, x->peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
}

/* A side that is contiguous needs no packing. */
void bench_strided_pack(int n, exchange *x) {
  bool packs = !is_contiguous(&x->send.view), unpacks = !is_contiguous(&x->recv.view);
  for (int i = 0; i < n; i++) {
    char *from = packs ? x->send.buffer : x->send.view.data;
    char *to = unpacks ? x->recv.buffer : x->recv.view.data;
    if (packs) pack(from, &x->send.view);
    MPI_Sendrecv(from, x->count, x->send.view.type, x->peer, TAG, to, x->count, x->recv.view.type,
                 x->peer, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (unpacks) unpack(&x->recv.view, to);
  }
}

/* Rows, planes or elements: the part of the first dimension that has any extent. */
static layout piece_of(const layout *l, int64_t first, int64_t n) {
  layout piece = *l;
  int d = 0;
  while (d < NDIM - 1 && l->extent[d] == 1) d++;
  if (n > l->extent[d] - first) n = l->extent[d] - first;
  piece.extent[d] = n;
  piece.data += first * l->stride[d] * (int64_t)l->size;
  return piece;
}

/* Packed in pieces, each a message, posted before the next is packed and the one before is unpacked: what two sides can
 * do that both know of it. */
void bench_strided_pieces(int n, exchange *x) {
  MPI_Request sends[MOST_PIECES], recvs[MOST_PIECES];
  const layout *send = &x->send.view, *recv = &x->recv.view;
  bool packs = !is_contiguous(send), unpacks = !is_contiguous(recv);
  layout one = piece_of(send, 0, 1);
  int64_t row = count_of(&one), rows = x->count / row, row_bytes = row * (int64_t)send->size;
  int64_t each = row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 1;
  /* No more than there is room for. */
  if (each * MOST_PIECES < rows) each = (rows + MOST_PIECES - 1) / MOST_PIECES;
  int64_t bytes = each * row_bytes;
  int pieces = (int)((rows + each - 1) / each);
  char *from = packs ? x->send.buffer : send->data, *to = unpacks ? x->recv.buffer : recv->data;
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < pieces; k++) {
      layout piece = piece_of(recv, k * each, each);
      MPI_Irecv(to + k * bytes, count_of(&piece), recv->type, x->peer, TAG, MPI_COMM_WORLD,
                &recvs[k]);
    }
    for (int k = 0; k <= pieces; k++) {
      if (k < pieces) {
        layout piece = piece_of(send, k * each, each);
        if (packs) pack(from + k * bytes, &piece);
        MPI_Isend(from + k * bytes, count_of(&piece), send->type, x->peer, TAG, MPI_COMM_WORLD,
                  &sends[k]);
      }
      if (k > 0) {
        layout piece = piece_of(recv, (k - 1) * each, each);
        MPI_Wait(&recvs[k - 1], MPI_STATUS_IGNORE);
        if (unpacks) unpack(&piece, to + (k - 1) * bytes);
      }
    }
    MPI_Waitall(pieces, sends, MPI_STATUSES_IGNORE);
  }
}

/* Whether the view that was received into shows what the view `sent` does, which is laid out as the one that is sent;
 * the buffers are used for that. */
int bench_strided_arrived(exchange *x, void *sent) {
  layout expected = x->send.view;
  expected.data = sent;
  pack(x->send.buffer, &expected);
  pack(x->recv.buffer, &x->recv.view);
  return memcmp(x->send.buffer, x->recv.buffer, (size_t)x->count * x->recv.view.size) == 0;
}
