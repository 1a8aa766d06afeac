/* SPDX-License-Identifier: MIT */
/* pack.c: elements from one layout to another. */
#include <string.h>

#include "internal.h"

loops collapse(const nmpi_array *a, const int64_t *to, const int64_t *from) {
  loops l;
  l.depth = 0;
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
    l.depth = 1;
    l.extent[0] = l.to[0] = l.from[0] = 1;
  }
  return l;
}

/* ---- kernels: two nested loops over blocks ---- */

/* A loop: so many rounds, and the bytes from one to the next. */
typedef struct loop {
  int64_t n;
  int64_t to;
  int64_t from;
} loop;

static const loop once = {1, 0, 0};

/* The kernels are inlined where `size` is a constant, and where a step is one: memcpy is a single move then, which asks
 * for no alignment, and the loops are unrolled and vectorised. */
#define INLINE static inline __attribute__((always_inline))

INLINE void copy_row(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                     int64_t size) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    memcpy(to, from, (size_t)size);
    memcpy(to + to_step, from + from_step, (size_t)size);
    memcpy(to + 2 * to_step, from + 2 * from_step, (size_t)size);
    memcpy(to + 3 * to_step, from + 3 * from_step, (size_t)size);
    to += 4 * to_step;
    from += 4 * from_step;
  }
  for (; i < n; i++) {
    memcpy(to, from, (size_t)size);
    to += to_step;
    from += from_step;
  }
}

/* Elements one after the other in one of the layouts take fewer instructions. */
INLINE void copy_any_row(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                         int64_t size) {
  if (to_step == size && from_step == 0) {
    char value[16]; /* which the copies cannot change */
    memcpy(value, from, (size_t)size);
    copy_row(to, size, value, 0, n, size);
  } else if (to_step == size) {
    copy_row(to, size, from, from_step, n, size);
  } else if (from_step == size) {
    copy_row(to, to_step, from, size, n, size);
  } else {
    copy_row(to, to_step, from, from_step, n, size);
  }
}

INLINE void copy_rows(char *to, const char *from, loop outer, loop inner, int64_t size) {
  for (int64_t i = 0; i < outer.n; i++) {
    copy_any_row(to, inner.to, from, inner.from, inner.n, size);
    to += outer.to;
    from += outer.from;
  }
}

/* A block of `size` bytes, which is more than `move` and at most twice that. */
INLINE void copy_ends(char *to, const char *from, int64_t size, int64_t move) {
  char head[64], tail[64];
  memcpy(head, from, (size_t)move);
  memcpy(tail, from + size - move, (size_t)move);
  memcpy(to, head, (size_t)move);
  memcpy(to + size - move, tail, (size_t)move);
}

INLINE void copy_blocks(char *to, const char *from, loop outer, loop inner, int64_t size,
                        int64_t move) {
  for (int64_t i = 0; i < outer.n; i++) {
    for (int64_t j = 0; j < inner.n; j++) {
      if (move > 0) {
        copy_ends(to + j * inner.to, from + j * inner.from, size, move);
      } else {
        memcpy(to + j * inner.to, from + j * inner.from, (size_t)size);
      }
    }
    to += outer.to;
    from += outer.from;
  }
}

/* Loops go by address where a call is not inlined: copies of what has just been written would wait for it. */
static void copy_2d(char *to, const char *from, const loop *outer, const loop *inner,
                    int64_t size) {
  switch (size) {
    case 1: copy_rows(to, from, *outer, *inner, 1); return;
    case 2: copy_rows(to, from, *outer, *inner, 2); return;
    case 4: copy_rows(to, from, *outer, *inner, 4); return;
    case 8: copy_rows(to, from, *outer, *inner, 8); return;
    case 16: copy_rows(to, from, *outer, *inner, 16); return;
    default: break;
  }
  if (size > 128) {
    copy_blocks(to, from, *outer, *inner, size, 0);
  } else if (size > 64) {
    copy_blocks(to, from, *outer, *inner, size, 64);
  } else if (size > 32) {
    copy_blocks(to, from, *outer, *inner, size, 32);
  } else if (size > 16) {
    copy_blocks(to, from, *outer, *inner, size, 16);
  } else if (size > 8) {
    copy_blocks(to, from, *outer, *inner, size, 8);
  } else if (size > 4) {
    copy_blocks(to, from, *outer, *inner, size, 4);
  } else {
    copy_blocks(to, from, *outer, *inner, size, 2);
  }
}

/* The same in one loop: all of a short message. */
static void copy_1d(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                    int64_t size) {
  switch (size) {
    case 1: copy_any_row(to, to_step, from, from_step, n, 1); return;
    case 2: copy_any_row(to, to_step, from, from_step, n, 2); return;
    case 4: copy_any_row(to, to_step, from, from_step, n, 4); return;
    case 8: copy_any_row(to, to_step, from, from_step, n, 8); return;
    case 16: copy_any_row(to, to_step, from, from_step, n, 16); return;
    default: copy_2d(to, from, &once, &(loop){n, to_step, from_step}, size);
  }
}

/* ---- transposes ---- */

/* Blocks of as many elements on an edge as fit into a vector register. */
enum { VECTOR = 16 };

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLE
#endif
#endif

#ifdef HAS_SHUFFLE
typedef int8_t lanes_1 __attribute__((vector_size(VECTOR)));
typedef int16_t lanes_2 __attribute__((vector_size(VECTOR)));
typedef int32_t lanes_4 __attribute__((vector_size(VECTOR)));
typedef int64_t lanes_8 __attribute__((vector_size(VECTOR)));

/* The elements of two vectors in turn. */
INLINE void interleave(lanes_1 to[2], lanes_1 a, lanes_1 b, int64_t size) {
  switch (size) {
    case 1:
      to[0] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      to[1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,
                                      15, 31);
      return;
    case 2:
      to[0] = (lanes_1)__builtin_shufflevector((lanes_2)a, (lanes_2)b, 0, 8, 1, 9, 2, 10, 3, 11);
      to[1] = (lanes_1)__builtin_shufflevector((lanes_2)a, (lanes_2)b, 4, 12, 5, 13, 6, 14, 7, 15);
      return;
    case 4:
      to[0] = (lanes_1)__builtin_shufflevector((lanes_4)a, (lanes_4)b, 0, 4, 1, 5);
      to[1] = (lanes_1)__builtin_shufflevector((lanes_4)a, (lanes_4)b, 2, 6, 3, 7);
      return;
    default:
      to[0] = (lanes_1)__builtin_shufflevector((lanes_8)a, (lanes_8)b, 0, 2);
      to[1] = (lanes_1)__builtin_shufflevector((lanes_8)a, (lanes_8)b, 1, 3);
  }
}

/* Every row is a vector; the first half of them interleaved with the second, as often as it takes to halve them down to
 * one, is the transpose. */
INLINE void copy_block(char *to, int64_t to_step, const char *from, int64_t from_step,
                       int64_t size) {
  int64_t n = VECTOR / size;
  lanes_1 rows[VECTOR], mixed[VECTOR];
  for (int64_t i = 0; i < n; i++) memcpy(&rows[i], from + i * from_step, VECTOR);
  for (int64_t left = n; left > 1; left /= 2) {
    for (int64_t i = 0; i < n / 2; i++) interleave(&mixed[2 * i], rows[i], rows[i + n / 2], size);
    for (int64_t i = 0; i < n; i++) rows[i] = mixed[i];
  }
  for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, &rows[i], VECTOR);
}
#else
INLINE void copy_block(char *to, int64_t to_step, const char *from, int64_t from_step,
                       int64_t size) {
  int64_t n = VECTOR / size;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) {
      memcpy(to + i * to_step + j * size, from + i * size + j * from_step, (size_t)size);
    }
  }
}
#endif

/* A tile of `edge` times `edge` elements: in both layouts it lies on few lines, each of which is used as a whole. */
INLINE void copy_tile(char *to, const char *from, loop outer, loop inner, int64_t size, int edge) {
  int n = VECTOR / (int)size;
  for (int j = 0; j < edge; j += n) {
    for (int i = 0; i < edge; i += n) {
      copy_block(to + i * outer.to + j * size, outer.to, from + i * size + j * inner.from,
                 inner.from, size);
    }
  }
}

/* A tile of smaller elements takes fewer moves than lines. */
enum { LEAST_PREFETCHED = 8 };

INLINE void copy_tiles(char *to, const char *from, loop outer, loop inner, int64_t size, int edge) {
  int64_t rows = outer.n / edge * edge, columns = inner.n / edge * edge;
  for (int64_t i = 0; i < rows; i += edge) {
    for (int64_t j = 0; j < columns; j += edge) {
      const char *next = from + i * size + (j + edge) * inner.from;
      for (int k = 0; k < edge && size >= LEAST_PREFETCHED; k++) {
        __builtin_prefetch(next + k * inner.from);
      }
      copy_tile(to + i * outer.to + j * size, from + i * size + j * inner.from, outer, inner, size,
                edge);
    }
  }
  /* What is left of each row, and the rows that are left. */
  loop right = {inner.n - columns, inner.to, inner.from};
  loop top = {rows, outer.to, outer.from};
  loop bottom = {outer.n - rows, outer.to, outer.from};
  copy_rows(to + columns * size, from + columns * inner.from, right, top, size);
  copy_rows(to + rows * outer.to, from + rows * size, bottom, inner, size);
}

/* The inner loop is the one of small steps in `to`, the outer one in `from`. */
static void transpose_2d(char *to, const char *from, const loop *outer, const loop *inner,
                         int64_t size) {
  switch (inner->to == size && outer->from == size ? size : 0) {
    case 1: copy_tiles(to, from, *outer, *inner, 1, 16); return;
    case 2: copy_tiles(to, from, *outer, *inner, 2, 16); return;
    case 4: copy_tiles(to, from, *outer, *inner, 4, 16); return;
    case 8: copy_tiles(to, from, *outer, *inner, 8, 8); return;
    case 16: copy_tiles(to, from, *outer, *inner, 16, 4); return;
    default: copy_2d(to, from, outer, inner, size);
  }
}

/* ---- any number of loops ---- */

static int64_t magnitude(int64_t n) {
  return n < 0 ? -n : n;
}

/* Orders loops by their steps in `to`, the smallest innermost, and makes one of those that have come to follow each
 * other in both layouts; returns how many are left. */
static int order(loop *l, int depth) {
  for (int d = 1; d < depth; d++) {
    loop moved = l[d];
    int at = d;
    for (; at > 0 && magnitude(l[at - 1].to) < magnitude(moved.to); at--) l[at] = l[at - 1];
    l[at] = moved;
  }
  int outer = 0;
  for (int d = 1; d < depth; d++) {
    if (l[outer].to == l[d].to * l[d].n && l[outer].from == l[d].from * l[d].n) {
      l[outer] = (loop){l[outer].n * l[d].n, l[d].to, l[d].from};
    } else {
      l[++outer] = l[d];
    }
  }
  return outer + 1;
}

/* Makes the loop of the smallest step in `from` the second innermost; false where that is the innermost. */
static bool is_transposed(loop *l, int depth) {
  int smallest = depth - 1;
  for (int d = depth - 2; d >= 0; d--) {
    if (magnitude(l[d].from) < magnitude(l[smallest].from)) smallest = d;
  }
  if (smallest == depth - 1) return false;
  loop moved = l[smallest];
  for (int d = smallest; d < depth - 2; d++) l[d] = l[d + 1];
  l[depth - 2] = moved;
  return true;
}

typedef void kernel(char *to, const char *from, const loop *outer, const loop *inner, int64_t size);

/* All loops around the two that a kernel takes. */
static void copy_nest(kernel *copy_kernel, char *to, const char *from, const loop *l, int depth,
                      int64_t size) {
  if (depth == 2) {
    copy_kernel(to, from, &l[0], &l[1], size);
    return;
  }
  for (int64_t i = 0; i < l->n; i++) {
    copy_nest(copy_kernel, to + i * l->to, from + i * l->from, l + 1, depth - 1, size);
  }
}

/* Two loops in any order, neither of which is empty. */
static void copy_plane(char *to, const char *from, const loop *outer, const loop *inner,
                       int64_t size) {
  if (magnitude(outer->to) < magnitude(inner->to)) {
    const loop *moved = outer;
    outer = inner;
    inner = moved;
  }
  if (inner->to == size && inner->from == size) {
    copy_2d(to, from, &once, outer, size * inner->n);
  } else if (outer->to == inner->to * inner->n && outer->from == inner->from * inner->n) {
    copy_1d(to, inner->to, from, inner->from, outer->n * inner->n, size);
  } else if (inner->n == 1) {
    copy_1d(to, outer->to, from, outer->from, outer->n, size);
  } else if (magnitude(outer->from) < magnitude(inner->from)) {
    transpose_2d(to, from, outer, inner, size);
  } else {
    copy_2d(to, from, outer, inner, size);
  }
}

/* All rounds of the loops, in any order. */
static void copy_all(char *to, const char *from, loop *l, int depth, int64_t size) {
  if (depth > 2) depth = order(l, depth);
  if (l[depth - 1].to == size && l[depth - 1].from == size) size *= l[--depth].n;
  if (depth == 0) {
    memcpy(to, from, (size_t)size);
  } else if (depth == 1) {
    copy_1d(to, l->to, from, l->from, l->n, size);
  } else if (depth == 2) {
    copy_plane(to, from, &l[0], &l[1], size);
  } else {
    copy_nest(is_transposed(l, depth) ? transpose_2d : copy_2d, to, from, l, depth, size);
  }
}

/* The first `limit` elements in the order of the loops: whole rounds of the outermost, then of the next one for what is
 * left. */
static void copy_loops(char *to, const char *from, const loops *l, int64_t limit, int64_t size) {
  int64_t inside = 1;
  for (int d = 1; d < l->depth; d++) inside *= l->extent[d];
  for (int first = 0; limit > 0; first++) {
    loop part[NMPI_MAX_NDIM] = {{0}};
    for (int d = first; d < l->depth; d++) {
      part[d - first] = (loop){l->extent[d], l->to[d] * size, l->from[d] * size};
    }
    int64_t rounds = limit / inside;
    part[0].n = rounds;
    if (rounds > 0) copy_all(to, from, part, l->depth - first, size);
    to += rounds * l->to[first] * size;
    from += rounds * l->from[first] * size;
    limit -= rounds * inside;
    if (limit > 0) inside /= l->extent[first + 1];
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

/* The first `n` elements of a view of any shape. */
LONG_PATH void pack_any(void *packed, const nmpi_array *view, int64_t n) {
  int64_t stride[NMPI_MAX_NDIM];
  packed_strides(view, stride);
  loops l = collapse(view, stride, view->stride);
  copy_loops(packed, view->p.any, &l, n, view->itemsize);
}

LONG_PATH void unpack_any(const nmpi_array *view, const void *packed, int64_t n) {
  int64_t stride[NMPI_MAX_NDIM];
  packed_strides(view, stride);
  loops l = collapse(view, view->stride, stride);
  copy_loops(view->p.any, packed, &l, n, view->itemsize);
}

/* Whether `n` elements are all that two loops reach, as they mostly are. */
static bool is_plane(const nmpi_array *view, int64_t n) {
  return view->ndim == 2 && n == view->length && n > 0;
}

void pack(void *packed, const nmpi_array *view, int64_t limit) {
  const int64_t *extent = view->extent, *from = view->stride;
  int64_t size = view->itemsize, n = least(limit, view->length);
  if (view->ndim == 1) {
    copy_1d(packed, size, view->p.any, from[0] * size, n, size);
  } else if (is_plane(view, n)) {
    loop rows = {extent[0], extent[1] * size, from[0] * size};
    loop columns = {extent[1], size, from[1] * size};
    copy_plane(packed, view->p.any, &rows, &columns, size);
  } else {
    pack_any(packed, view, n);
  }
}

void unpack(const nmpi_array *view, const void *packed, int64_t limit) {
  const int64_t *extent = view->extent, *to = view->stride;
  int64_t size = view->itemsize, n = least(limit, view->length);
  if (view->ndim == 1) {
    copy_1d(view->p.any, to[0] * size, packed, size, n, size);
  } else if (is_plane(view, n)) {
    loop rows = {extent[0], to[0] * size, extent[1] * size};
    loop columns = {extent[1], to[1] * size, size};
    copy_plane(view->p.any, packed, &rows, &columns, size);
  } else {
    unpack_any(view, packed, n);
  }
}

void copy(const nmpi_array *to, const void *from, const int64_t *from_stride) {
  loops l = collapse(to, to->stride, from_stride);
  copy_loops(to->p.any, from, &l, to->length, to->itemsize);
}
