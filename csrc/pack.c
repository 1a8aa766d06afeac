/* SPDX-License-Identifier: MIT */
/* pack.c: elements from one layout to another. */
#include <string.h>

#include "internal.h"

loops collapse(const nmpi_array *a, const int64_t *to, const int64_t *from) {
  loops l = {0};
  for (int d = 0; d < a->ndim; d++) {
    int64_t extent = a->extent[d];
    if (extent == 1) continue;
    int outer = l.depth - 1;
    if (outer >= 0 && l.to[outer] == to[d] * extent && l.from[outer] == from[d] * extent) {
      l.extent[outer] *= extent;
    } else {
      outer = l.depth++;
      l.extent[outer] = extent;
    }
    l.to[outer] = to[d];
    l.from[outer] = from[d];
  }
  if (l.depth == 0) {
    l = (loops){.depth = 1, .extent = {1}, .to = {1}, .from = {1}};
  }
  return l;
}

/* One run of n elements. memcpy of a constant size is a single move that asks for no alignment. */
static void copy_run(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                     int size) {
  if (to_step == size && from_step == size) {
    memcpy(to, from, (size_t)(n * size));
    return;
  }
  switch (size) {
    case 1:
      for (int64_t i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
      break;
    case 2:
      for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 2);
      break;
    case 4:
      for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 4);
      break;
    case 8:
      for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 8);
      break;
    case 16:
      for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 16);
      break;
    default:
      for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * to_step, from + i * from_step, (size_t)size);
      }
  }
}

static void copy_loops(char *to, const char *from, const loops *l, int64_t limit, int64_t size) {
  int inner = l->depth - 1;
  int64_t index[NMPI_MAX_NDIM] = {0};
  while (limit > 0) {
    int64_t n = l->extent[inner] < limit ? l->extent[inner] : limit;
    copy_run(to, l->to[inner] * size, from, l->from[inner] * size, n, (int)size);
    limit -= n;
    for (int d = inner - 1; d >= 0; d--) {
      to += l->to[d] * size;
      from += l->from[d] * size;
      if (++index[d] < l->extent[d]) break;
      to -= l->to[d] * size * l->extent[d];
      from -= l->from[d] * size * l->extent[d];
      index[d] = 0;
    }
  }
}

static void packed_strides(const nmpi_array *view, int64_t *stride) {
  int64_t step = 1;
  for (int d = view->ndim - 1; d >= 0; d--) {
    stride[d] = step;
    step *= view->extent[d];
  }
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

void pack(void *packed, const nmpi_array *view, int64_t limit) {
  int64_t stride[NMPI_MAX_NDIM];
  packed_strides(view, stride);
  loops l = collapse(view, stride, view->stride);
  copy_loops(packed, view->p.any, &l, least(limit, view->length), view->itemsize);
}

void unpack(const nmpi_array *view, const void *packed, int64_t limit) {
  int64_t stride[NMPI_MAX_NDIM];
  packed_strides(view, stride);
  loops l = collapse(view, view->stride, stride);
  copy_loops(view->p.any, packed, &l, least(limit, view->length), view->itemsize);
}

void copy(const nmpi_array *to, const void *from, const int64_t *from_stride) {
  loops l = collapse(to, to->stride, from_stride);
  copy_loops(to->p.any, from, &l, to->length, to->itemsize);
}
