/* SPDX-License-Identifier: MIT */
/* array.c: storage, and views of it. */
#include <complex.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* Memory of this size and more begins on a huge page of its own; from SHARED on, blocks share regions of such pages.
 * Nothing else about its place matters to a message between two ranks: malloc, calloc, LuaJIT's own memory and aligned
 * small pages are alike. MPICH, whose receivers read what is longer than 8 KiB where it lies, takes about a fifth less
 * time for 16 KiB on huge pages and half from 1 MiB on, or less than a third where the two cores share a cache; Open
 * MPI up to a fifth less from 1 MiB on (`tools/bench --only storage`; how much depends on the machine), so that what
 * malloc happens to give makes the difference between two runs of a program. The first touch of new memory is several
 * times cheaper, too. The kernel's pages are known to be zero. */
enum { HUGE_PAGE = 2 << 20 };

/* Not where a sanitizer is to see what goes beyond the end of a block. */
#if defined(MADV_HUGEPAGE) && !defined(__SANITIZE_ADDRESS__)
enum { SHARED = 12 << 10 };
#else
enum { SHARED = HUGE_PAGE };
#endif

/* No system has larger pages than this for what asks for nothing. */
enum { LARGEST_PAGE = 64 << 10 };

/* What is mapped is kept when it is freed, for the next one of that size: making the pages anew takes several times as
 * long as all else. No more than so many, and bytes; and one empty region. */
enum { KEPT = 4, KEPT_BYTES = 64 << 20 };

/* Of such bytes a double is 1.38e306; of 0xff it would be no number to LuaJIT. */
enum { POISON = 0x7f };

enum { PRESSURE_FLOOR = 300 * 1000 * 1000 };

static _Atomic int64_t memory_bytes;
static _Atomic int64_t memory_limit = PRESSURE_FLOOR;
static atomic_int memory_pressures;

int64_t nmpi_memory_bytes(void) {
  return memory_bytes;
}

int nmpi_memory_pressure(void) {
  bool high = memory_bytes > memory_limit;
  if (high) memory_pressures++;
  return high;
}

int nmpi_memory_pressures(void) {
  return memory_pressures;
}

void nmpi_memory_settle(void) {
  int64_t limit = (int64_t)(1.4 * (double)memory_bytes);
  memory_limit = limit > PRESSURE_FLOOR ? limit : PRESSURE_FLOOR;
}

/* ---- mapped memory ---- */

typedef struct mapping {
  void *data;
  size_t bytes;
} mapping;

static mapping kept[KEPT]; /* the oldest first */
static int kept_count;
static size_t kept_bytes;
static pthread_mutex_t kept_mutex = PTHREAD_MUTEX_INITIALIZER;

static mapping kept_remove(int i) {
  mapping m = kept[i];
  kept_count--;
  kept_bytes -= m.bytes;
  memmove(&kept[i], &kept[i + 1], (size_t)(kept_count - i) * sizeof m);
  return m;
}

/* A mapping of that size, or NULL. */
static void *kept_take(size_t bytes) {
  void *data = NULL;
  pthread_mutex_lock(&kept_mutex);
  for (int i = kept_count - 1; i >= 0 && data == NULL; i--) {
    if (kept[i].bytes == bytes) data = kept_remove(i).data;
  }
  pthread_mutex_unlock(&kept_mutex);
  return data;
}

static void kept_give(void *data, size_t bytes) {
  pthread_mutex_lock(&kept_mutex);
  while (kept_count == KEPT || kept_bytes + bytes > KEPT_BYTES) {
    mapping oldest = kept_remove(0);
    munmap(oldest.data, oldest.bytes);
  }
  kept[kept_count++] = (mapping){data, bytes};
  kept_bytes += bytes;
  pthread_mutex_unlock(&kept_mutex);
}

/* What is mapped for so many bytes. */
static size_t mapped(size_t bytes) {
  return (bytes + LARGEST_PAGE - 1) / LARGEST_PAGE * LARGEST_PAGE;
}

/* Zeros from a multiple of `alignment` on, itself one of HUGE_PAGE; or NULL. */
static void *map(size_t bytes, size_t alignment) {
  if (bytes > SIZE_MAX / 2) return NULL;
  size_t whole = mapped(bytes);
  char *data =
      mmap(NULL, whole + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return NULL;
  size_t before = -(uintptr_t)data % alignment;
  if (before > 0) munmap(data, before);
  munmap(data + before + whole, alignment - before);
#ifdef MADV_HUGEPAGE
  madvise(data + before, whole, MADV_HUGEPAGE);
#endif
  return data + before;
}

/* ---- regions ---- */

/* Not a power of two: blocks of such a size would begin in one set of the nearest cache, which loops over more than ten
 * of them would wait for. Of eight pages large blocks leave at most an eighth unused. */
enum { UNIT = 65 * NMPI_ALIGNMENT, REGION = 8 * HUGE_PAGE, UNITS = REGION / UNIT };

/* Huge pages in a row that blocks of whole units share. This lies behind them. It is listed by the binary logarithm of
 * `most`, except where that is 0. */
typedef struct region {
  struct region *next, *before;
  int used;
  int most; /* no more units in a row are free; fewer may be */
  int hint; /* the unit that was freed last, or follows what was taken last */
  unsigned char is_used[UNITS];
} region;

enum { REGION_BYTES = REGION + sizeof(region), LISTS = 12 };
_Static_assert(UNITS < 1 << LISTS, "a list for each logarithm");

/* So many of a list are looked at, for a search must come to an end. */
enum { TRIED = 8 };

static region *regions[LISTS];
static bool empty_kept;
static pthread_mutex_t regions_mutex = PTHREAD_MUTEX_INITIALIZER;

static int logarithm(int n) {
  return (int)(CHAR_BIT * sizeof n) - 1 - __builtin_clz((unsigned)n);
}

static void region_link(region *r, int most) {
  r->most = most;
  if (most == 0) return;
  region **list = &regions[logarithm(most)];
  r->before = NULL;
  r->next = *list;
  if (*list != NULL) (*list)->before = r;
  *list = r;
}

static void region_unlink(region *r) {
  if (r->most == 0) return;
  if (r->before != NULL) {
    r->before->next = r->next;
  } else {
    regions[logarithm(r->most)] = r->next;
  }
  if (r->next != NULL) r->next->before = r->before;
}

static region *region_create(void) {
  char *data = map(REGION_BYTES, REGION);
  if (data == NULL) return NULL;
  region *r = (region *)(data + REGION);
  region_link(r, UNITS);
  return r;
}

static void region_destroy(region *r) {
  munmap((char *)r - REGION, mapped(REGION_BYTES));
}

/* The first unit from there on that is used, or free; UNITS where there is none. */
static int region_seek(const region *r, int from, bool used) {
  const unsigned char *at = memchr(r->is_used + from, used, (size_t)(UNITS - from));
  return at != NULL ? (int)(at - r->is_used) : UNITS;
}

static bool region_has(const region *r, int first, int n) {
  return first + n <= UNITS && memchr(r->is_used + first, true, (size_t)n) == NULL;
}

/* The first of n free units in a row, best those that are still in the caches; or UNITS, and `most` is exact
 * then. */
static int region_fit(region *r, int n) {
  if (region_has(r, r->hint, n)) return r->hint;
  int most = 0, first = region_seek(r, 0, false);
  while (first < UNITS) {
    int end = region_seek(r, first, true);
    if (end - first >= n) return first;
    if (end - first > most) most = end - first;
    first = region_seek(r, end, false);
  }
  region_unlink(r);
  region_link(r, most);
  return UNITS;
}

/* A region that may have n free units in a row, rather one with few more; or NULL. */
static region *region_find(int n) {
  int list = logarithm(n);
  region *r = regions[list];
  for (int tried = 1; r != NULL && r->most < n; tried++) r = tried < TRIED ? r->next : NULL;
  while (r == NULL && ++list < LISTS) r = regions[list];
  return r;
}

/* Not a multiple of 32, which again would lie in one set or two. */
static int units_of(size_t bytes) {
  int n = (int)((bytes + UNIT - 1) / UNIT);
  return n % 32 == 0 ? n + 1 : n;
}

static void *region_take(size_t bytes) {
  int n = units_of(bytes), first = UNITS;
  region *r;
  pthread_mutex_lock(&regions_mutex);
  do {
    r = region_find(n);
    if (r == NULL) r = region_create();
    if (r != NULL) first = region_fit(r, n);
  } while (r != NULL && first == UNITS);
  if (r != NULL) {
    if (r->used == 0) empty_kept = false;
    r->used += n;
    r->hint = first + n;
    memset(r->is_used + first, true, (size_t)n);
  }
  pthread_mutex_unlock(&regions_mutex);
  return r != NULL ? (char *)r - REGION + (size_t)first * UNIT : NULL;
}

static void region_give(char *data, size_t bytes) {
  size_t offset = (uintptr_t)data % REGION;
  region *r = (region *)(data - offset + REGION);
  int n = units_of(bytes), first = (int)(offset / UNIT);
  if (debugging()) memset(data, POISON, bytes);
  pthread_mutex_lock(&regions_mutex);
  r->used -= n;
  r->hint = first;
  memset(r->is_used + first, false, (size_t)n);
  int free_units = UNITS; /* as long as that has not been found wrong */
  if (r->most < UNITS) {
    while (first > 0 && !r->is_used[first - 1]) first--;
    free_units = region_seek(r, first, true) - first;
  }
  bool superfluous = r->used == 0 && empty_kept;
  if (superfluous || free_units > r->most) {
    region_unlink(r);
    if (!superfluous) region_link(r, free_units);
  }
  if (r->used == 0) empty_kept = true;
  pthread_mutex_unlock(&regions_mutex);
  if (superfluous) region_destroy(r);
}

/* ---- storage ---- */

void *storage_create(size_t bytes, bool zero) {
  void *data;
  if (bytes >= HUGE_PAGE) {
    data = bytes <= KEPT_BYTES ? kept_take(mapped(bytes)) : NULL;
    if (data == NULL) return map(bytes, HUGE_PAGE);
  } else if (bytes >= SHARED) {
    data = region_take(bytes);
    if (data == NULL) return NULL;
  } else if (posix_memalign(&data, NMPI_ALIGNMENT, bytes > 0 ? bytes : 1) != 0) {
    return NULL;
  }
  if (zero) memset(data, 0, bytes);
  return data;
}

/* Whoever debugs is to meet a fault where freed memory is used, or POISON. */
void storage_free(void *data, size_t bytes) {
  if (bytes < SHARED) {
    free(data);
  } else if (bytes < HUGE_PAGE) {
    region_give(data, bytes);
  } else if (mapped(bytes) <= KEPT_BYTES && !debugging()) {
    kept_give(data, mapped(bytes));
  } else {
    munmap(data, mapped(bytes));
  }
}

/* ---- owners ---- */

static nmpi_owner *owner_create(size_t bytes, bool zero) {
  nmpi_owner *owner = malloc(sizeof *owner);
  if (owner == NULL) return NULL;
  owner->data = storage_create(bytes, zero);
  if (owner->data == NULL) {
    free(owner);
    return NULL;
  }
  owner->bytes = bytes;
  owner->shared = false;
  atomic_init(&owner->references, 1);
  memory_bytes += (int64_t)bytes;
  return owner;
}

void owner_destroy(nmpi_owner *owner) {
  memory_bytes -= (int64_t)owner->bytes;
  storage_free(owner->data, owner->bytes);
  free(owner);
}

static int check_dimension(int d, int ndim) {
  if (d >= 0 && d < ndim) return NMPI_SUCCESS;
  return fail("dimension", "expected 0 to %d, got %d", ndim - 1, d);
}

/* To be called when the layout has changed. */
static void count(nmpi_array *a) {
  int64_t units = a->length;
  bool overflow = a->type == NMPI_STRUCT && __builtin_mul_overflow(units, a->itemsize, &units);
  bool countable = !overflow && units <= INT_MAX && nmpi_array_is_contiguous(a, 0);
  a->count = countable ? (int32_t)units : 0;
}

int nmpi_array_set_extent(nmpi_array *a, int d, int64_t extent) {
  TRY(check_dimension(d, NMPI_MAX_NDIM));
  if (extent < 0) {
    return fail("shape", "expected extents of at least 0, got %lld in dimension %d",
                (long long)extent, d);
  }
  a->extent[d] = extent;
  a->count = 0;
  return NMPI_SUCCESS;
}

int nmpi_array_set_stride(nmpi_array *a, int d, int64_t stride) {
  TRY(check_dimension(d, NMPI_MAX_NDIM));
  a->stride[d] = stride;
  a->count = 0;
  return NMPI_SUCCESS;
}

/* Fills in everything but the storage: the extents are set, and the strides too where strided. */
static int describe(nmpi_array *a, int dtype, int itemsize, int ctype, int ndim, bool fortran,
                    bool strided) {
  if (ndim < 0 || ndim > NMPI_MAX_NDIM) {
    return fail("shape", "expected at most %d dimensions, got %d", NMPI_MAX_NDIM, ndim);
  }
  if (nmpi_dtype_name(dtype) == NULL) return fail("dtype", "unknown dtype code %d", dtype);
  if (dtype != NMPI_STRUCT) itemsize = nmpi_dtype_size(dtype);
  if (itemsize <= 0) return fail("dtype", "expected elements of fixed size above 0 bytes");

  /* The strides of an empty array multiply as if its extents of 0 were 1, as NumPy's do. */
  int64_t step = 1, bytes;
  bool empty = false, overflow = false;
  for (int i = 0; i < ndim; i++) {
    int d = fortran ? i : ndim - 1 - i;
    if (!strided) a->stride[d] = step;
    if (a->extent[d] == 0) {
      empty = true;
    } else {
      overflow |= __builtin_mul_overflow(step, a->extent[d], &step);
    }
  }
  overflow |= __builtin_mul_overflow(step, (int64_t)itemsize, &bytes);
  if (overflow) return fail("shape", "the size of the array overflows 2^63 - 1 bytes");
  a->length = empty ? 0 : step;
  for (int d = ndim; d < NMPI_MAX_NDIM; d++) {
    a->extent[d] = 0;
    a->stride[d] = 0;
  }
  a->type = dtype;
  a->ndim = ndim;
  a->itemsize = itemsize;
  a->ctype = dtype == NMPI_STRUCT ? ctype : 0;
  return NMPI_SUCCESS;
}

int nmpi_array_create(nmpi_array *a, int dtype, int itemsize, int ctype, int ndim, int fortran,
                      int zero) {
  TRY(describe(a, dtype, itemsize, ctype, ndim, fortran != 0, false));
  nmpi_owner *owner = owner_create((size_t)a->length * (size_t)a->itemsize, zero != 0);
  if (owner == NULL) {
    a->type = NMPI_NONE;
    return fail("shape", "no memory for %lld elements of %d bytes", (long long)a->length,
                a->itemsize);
  }
  a->owner = owner;
  a->p.any = owner->data;
  a->flags = 0;
  count(a);
  return NMPI_SUCCESS;
}

/* The lowest element that the indices reach, and the one past the highest, relative to the first. False
 * where that overflows. */
static bool reach(const nmpi_array *a, int64_t *low, int64_t *high) {
  *low = 0;
  *high = a->length > 0 ? 1 : 0;
  for (int d = 0; d < a->ndim && a->length > 0; d++) {
    int64_t last, *end = a->stride[d] < 0 ? low : high;
    if (__builtin_mul_overflow(a->extent[d] - 1, a->stride[d], &last)) return false;
    if (__builtin_add_overflow(*end, last, end)) return false;
  }
  int64_t bytes;
  return !__builtin_mul_overflow(*low, (int64_t)a->itemsize, &bytes) &&
         !__builtin_mul_overflow(*high, (int64_t)a->itemsize, &bytes);
}

int nmpi_array_wrap(nmpi_array *a, const void *data, int64_t bytes, int dtype, int itemsize,
                    int ctype, int ndim, int strided, int flags) {
  static char nowhere[NMPI_ALIGNMENT];
  int64_t low, high;
  TRY(describe(a, dtype, itemsize, ctype, ndim, false, strided != 0));
  if (data == NULL && a->length > 0) {
    a->type = NMPI_NONE;
    return fail("cdata", "expected memory, got a NULL pointer");
  }
  if (a->length == 0) TRY(describe(a, dtype, itemsize, ctype, ndim, false, false));
  if (!reach(a, &low, &high) || (bytes >= 0 && (low < 0 || high > bytes / a->itemsize))) {
    a->type = NMPI_NONE;
    if (bytes < 0) return fail("strides", "the array would reach beyond all memory");
    return fail("shape", "the array would reach beyond the %lld bytes of memory given",
                (long long)bytes);
  }
  a->p.any = data != NULL ? (void *)data : nowhere;
  a->owner = NULL;
  a->flags = flags | NMPI_FOREIGN;
  count(a);
  return NMPI_SUCCESS;
}

nmpi_array *nmpi_array_borrow(nmpi_array *a, const void *data, int dtype, int itemsize, int ctype,
                              int64_t length, int flags) {
  a->p.any = (void *)data;
  a->length = length;
  a->extent[0] = length;
  a->stride[0] = 1;
  a->type = dtype;
  a->ndim = 1;
  a->itemsize = itemsize;
  a->flags = flags | NMPI_FOREIGN;
  a->ctype = ctype;
  count(a);
  return a;
}

static int check_array(const nmpi_array *a, const char *argument) {
  if (a == NULL) return fail(argument, "expected an array, got nil");
  if (a->flags & NMPI_IN_PLACE) return fail(argument, "expected an array, got IN_PLACE");
  if (a->type == NMPI_NONE) return fail(argument, "expected an array, got one that has been freed");
  return NMPI_SUCCESS;
}

int nmpi_array_view(nmpi_array *view, const nmpi_array *a) {
  TRY(check_array(a, "self"));
  owner_retain(a->owner);
  *view = *a;
  return NMPI_SUCCESS;
}

static void measure(nmpi_array *view) {
  view->length = 1;
  for (int d = 0; d < view->ndim; d++) view->length *= view->extent[d];
}

static void advance(nmpi_array *view, int64_t elements) {
  view->p.ch += elements * view->itemsize;
}

int nmpi_array_range(nmpi_array *view, int d, int64_t from, int64_t to, int64_t step) {
  TRY(check_dimension(d, view->ndim));
  int64_t n = view->extent[d];
  if (step == 0) return fail("range", "expected a step other than 0 in dimension %d", d);
  /* Bounds going up are 0 to n; going down the first is an index and the last may lie before 0. */
  int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
  int64_t first = from < 0 ? from + n : from, last = to < 0 ? to + n : to;
  if (first < (n == 0 ? low : 0) || first > high) {
    return fail("range", "expected a start within an extent of %lld in dimension %d, got %lld",
                (long long)n, d, (long long)from);
  }
  if (last < low || last > high) {
    return fail("range", "expected an end within an extent of %lld in dimension %d, got %lld",
                (long long)n, d, (long long)to);
  }
  int64_t distance = step > 0 ? last - first : first - last;
  uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
  int64_t extent = distance > 0 ? (int64_t)(((uint64_t)distance - 1) / stride) + 1 : 0;
  view->extent[d] = extent;
  if (extent > 0) advance(view, first * view->stride[d]);
  if (extent > 1) view->stride[d] *= step; /* no overflow: it is within the memory */
  measure(view);
  count(view);
  return NMPI_SUCCESS;
}

int nmpi_array_select(nmpi_array *view, int d, int64_t i) {
  TRY(check_dimension(d, view->ndim));
  int64_t n = view->extent[d], index = i < 0 ? i + n : i;
  if (index < 0 || index >= n) {
    return fail("index", "expected an index within an extent of %lld in dimension %d, got %lld",
                (long long)n, d, (long long)i);
  }
  advance(view, index * view->stride[d]);
  view->ndim--;
  for (int e = d; e < NMPI_MAX_NDIM - 1; e++) {
    view->extent[e] = view->extent[e + 1];
    view->stride[e] = view->stride[e + 1];
  }
  view->extent[NMPI_MAX_NDIM - 1] = 0;
  view->stride[NMPI_MAX_NDIM - 1] = 0;
  measure(view);
  count(view);
  return NMPI_SUCCESS;
}

int nmpi_array_transpose(nmpi_array *view) {
  for (int i = 0, j = view->ndim - 1; i < j; i++, j--) {
    int64_t extent = view->extent[i], stride = view->stride[i];
    view->extent[i] = view->extent[j];
    view->stride[i] = view->stride[j];
    view->extent[j] = extent;
    view->stride[j] = stride;
  }
  count(view);
  return NMPI_SUCCESS;
}

/* Works out the extent that is INT64_MAX and compares the products. */
static int complete_shape(nmpi_array *view, int64_t length, int ndim) {
  int open = -1;
  int64_t known = 1;
  bool empty = false;
  for (int d = 0; d < ndim; d++) {
    if (view->extent[d] == INT64_MAX) {
      if (open >= 0) return fail("shape", "expected at most one extent of -1");
      open = d;
    } else if (view->extent[d] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(known, view->extent[d], &known)) {
      return fail("shape", "its size overflows; the array has %lld elements", (long long)length);
    }
  }
  if (empty) known = 0;
  if (open >= 0 && (known == 0 || length % known != 0)) {
    return fail("shape", "%lld elements cannot be divided into %lld", (long long)length,
                (long long)known);
  }
  if (open >= 0) {
    view->extent[open] = length / known;
  } else if (known != length) {
    return fail("shape", "expected the size of the array, %lld, got %lld", (long long)length,
                (long long)known);
  }
  return NMPI_SUCCESS;
}

int nmpi_array_reshape(nmpi_array *view, const nmpi_array *a, int ndim) {
  TRY(check_array(a, "self"));
  if (ndim < 0 || ndim > NMPI_MAX_NDIM) {
    return fail("shape", "expected at most %d dimensions, got %d", NMPI_MAX_NDIM, ndim);
  }
  TRY(complete_shape(view, a->length, ndim));
  nmpi_array result = *a;
  result.ndim = ndim;
  memset(result.extent, 0, sizeof result.extent);
  memset(result.stride, 0, sizeof result.stride);
  memcpy(result.extent, view->extent, (size_t)ndim * sizeof result.extent[0]);

  /* Old dimensions that lie in memory as one are shared out among new ones whose extents multiply to
   * theirs; where a new extent straddles two of them, only a copy helps. */
  loops old = collapse(a, a->stride, a->stride);
  int next = 0;
  for (int group = 0; group < old.depth && a->length > 0; group++) {
    int first = next;
    int64_t product = 1;
    while (product < old.extent[group]) product *= result.extent[next++];
    if (product > old.extent[group]) return 1;
    int64_t step = old.to[group];
    for (int d = next - 1; d >= first; d--) {
      result.stride[d] = step;
      step *= result.extent[d];
    }
  }
  for (; next < ndim; next++) result.stride[next] = 1;
  count(&result);
  owner_retain(a->owner);
  *view = result;
  return NMPI_SUCCESS;
}

int nmpi_array_is_contiguous(const nmpi_array *a, int fortran) {
  int64_t step = 1;
  if (a->length <= 1) return 1;
  for (int i = 0; i < a->ndim; i++) {
    int d = fortran ? i : a->ndim - 1 - i;
    if (a->extent[d] == 1) continue;
    if (a->stride[d] != step) return 0;
    step *= a->extent[d];
  }
  return 1;
}

static int64_t magnitude(int64_t n) {
  return n < 0 ? -n : n;
}

/* Whether each dimension, from the last, steps over all that the ones after it reach. */
static bool is_nested(const nmpi_array *a) {
  int64_t reach = 0;
  for (int d = a->ndim - 1; d >= 0; d--) {
    int64_t stride = magnitude(a->stride[d]);
    if (a->extent[d] == 1) continue;
    if (stride <= reach) return false;
    reach += stride * (a->extent[d] - 1);
  }
  return true;
}

bool array_is_injective(const nmpi_array *a) {
  if (a->length <= 1 || is_nested(a)) return true;
  /* The same, taken by growing stride. */
  loops l = collapse(a, a->stride, a->stride);
  int64_t reach = 0;
  for (int taken = 0; taken < l.depth; taken++) {
    int next = taken;
    for (int d = taken + 1; d < l.depth; d++) {
      if (magnitude(l.to[d]) < magnitude(l.to[next])) next = d;
    }
    int64_t stride = magnitude(l.to[next]), extent = l.extent[next];
    l.to[next] = l.to[taken];
    l.extent[next] = l.extent[taken];
    if (stride <= reach) return false;
    reach += stride * (extent - 1);
  }
  return true;
}

bool array_overlap(const nmpi_array *a, const nmpi_array *b) {
  int64_t a_low = 0, a_high = 0, b_low = 0, b_high = 0;
  reach(a, &a_low, &a_high);
  reach(b, &b_low, &b_high);
  return a->p.ch + a_low * a->itemsize < b->p.ch + b_high * b->itemsize &&
         b->p.ch + b_low * b->itemsize < a->p.ch + a_high * a->itemsize;
}

/* ---- conversion ---- */

/* A number on its way from one dtype to another, in the widest type of its kind. */
typedef struct number {
  enum { SIGNED, UNSIGNED, REAL } kind;
  int64_t i;
  uint64_t u;
  double re;
  double im;
} number;

static number load(int dtype, const void *from) {
  number n = {.kind = SIGNED};
  switch (dtype) {
    case NMPI_INT8: n.i = *(const int8_t *)from; break;
    case NMPI_INT16: n.i = *(const int16_t *)from; break;
    case NMPI_INT32: n.i = *(const int32_t *)from; break;
    case NMPI_INT64: n.i = *(const int64_t *)from; break;
    case NMPI_UINT8: n.i = *(const uint8_t *)from; break;
    case NMPI_UINT16: n.i = *(const uint16_t *)from; break;
    case NMPI_UINT32: n.i = *(const uint32_t *)from; break;
    case NMPI_CHAR: n.i = *(const char *)from; break;
    /* A byte of an array that was never filled need not hold a valid _Bool. */
    case NMPI_BOOL: n.i = *(const uint8_t *)from != 0; break;
    case NMPI_UINT64:
      n.kind = UNSIGNED;
      n.u = *(const uint64_t *)from;
      break;
    case NMPI_FLOAT:
      n.kind = REAL;
      n.re = (double)*(const float *)from;
      break;
    case NMPI_DOUBLE:
      n.kind = REAL;
      n.re = *(const double *)from;
      break;
    case NMPI_COMPLEX_FLOAT:
      n.kind = REAL;
      n.re = (double)crealf(*(const float _Complex *)from);
      n.im = (double)cimagf(*(const float _Complex *)from);
      break;
    default:
      n.kind = REAL;
      n.re = creal(*(const double _Complex *)from);
      n.im = cimag(*(const double _Complex *)from);
  }
  return n;
}

/* Out of range, where C leaves the result open, becomes the lowest int64 before it is cut to size. */
static int64_t to_integer(number n) {
  if (n.kind == SIGNED) return n.i;
  if (n.kind == UNSIGNED) return (int64_t)n.u;
  if (n.re >= -0x1p63 && n.re < 0x1p63) return (int64_t)n.re;
  if (n.re >= 0x1p63 && n.re < 0x1p64) return (int64_t)(uint64_t)n.re;
  return INT64_MIN;
}

static double to_real(number n) {
  if (n.kind == SIGNED) return (double)n.i;
  return n.kind == UNSIGNED ? (double)n.u : n.re;
}

static void store(int dtype, void *to, number n) {
  switch (dtype) {
    case NMPI_INT8: *(int8_t *)to = (int8_t)to_integer(n); break;
    case NMPI_INT16: *(int16_t *)to = (int16_t)to_integer(n); break;
    case NMPI_INT32: *(int32_t *)to = (int32_t)to_integer(n); break;
    case NMPI_INT64: *(int64_t *)to = to_integer(n); break;
    case NMPI_UINT8: *(uint8_t *)to = (uint8_t)to_integer(n); break;
    case NMPI_UINT16: *(uint16_t *)to = (uint16_t)to_integer(n); break;
    case NMPI_UINT32: *(uint32_t *)to = (uint32_t)to_integer(n); break;
    case NMPI_UINT64: *(uint64_t *)to = (uint64_t)to_integer(n); break;
    case NMPI_CHAR: *(char *)to = (char)to_integer(n); break;
    case NMPI_BOOL: *(_Bool *)to = to_real(n) != 0 || n.im != 0; break;
    case NMPI_FLOAT: *(float *)to = (float)to_real(n); break;
    case NMPI_DOUBLE: *(double *)to = to_real(n); break;
    case NMPI_COMPLEX_FLOAT: {
      float parts[2] = {(float)to_real(n), (float)n.im};
      memcpy(to, parts, sizeof parts);
      break;
    }
    default: {
      double parts[2] = {to_real(n), n.im};
      memcpy(to, parts, sizeof parts);
    }
  }
}

static int check_convertible(const nmpi_array *to, const nmpi_array *from) {
  enum kind a = dtypes[to->type].kind, b = dtypes[from->type].kind;
  bool plain = ((a | b) & (KIND_PAIR | KIND_STRUCT)) == 0;
  if (plain && (b != KIND_COMPLEX || a == KIND_COMPLEX || a == KIND_LOGICAL)) return NMPI_SUCCESS;
  return fail("b", "%s cannot be converted to %s", nmpi_dtype_name(from->type),
              nmpi_dtype_name(to->type));
}

int nmpi_array_assign(nmpi_array *dst, const nmpi_array *src) {
  TRY(check_array(dst, "self"));
  TRY(check_array(src, "b"));
  if (dst->flags & NMPI_READONLY) return fail("self", "expected a writable array");
  bool same_shape = dst->ndim == src->ndim;
  for (int d = 0; d < dst->ndim && same_shape; d++) same_shape = dst->extent[d] == src->extent[d];
  if (!same_shape) return fail("b", "expected an array of the same shape");
  bool same_type = dst->type == src->type && dst->ctype == src->ctype;
  if (!same_type) TRY(check_convertible(dst, src));
  if (dst->length == 0) return NMPI_SUCCESS;

  if (same_type && dst->count > 0 && src->count > 0) {
    memmove(dst->p.any, src->p.any, (size_t)dst->length * (size_t)dst->itemsize);
    return NMPI_SUCCESS;
  }
  if (same_type && !array_overlap(dst, src)) {
    copy(dst, src->p.any, src->stride);
    return NMPI_SUCCESS;
  }
  size_t from_size = (size_t)src->itemsize, to_size = (size_t)dst->itemsize;
  size_t widest = from_size > to_size ? from_size : to_size;
  char *packed = malloc((size_t)src->length * widest);
  if (packed == NULL) return fail("b", "no memory to copy %lld elements", (long long)src->length);
  pack(packed, src, src->length);
  if (!same_type) {
    /* In place: growing elements are converted from the last, shrinking ones from the first. */
    int64_t n = src->length;
    for (int64_t k = 0; k < n; k++) {
      int64_t i = to_size > from_size ? n - 1 - k : k;
      store(dst->type, packed + (size_t)i * to_size,
            load(src->type, packed + (size_t)i * from_size));
    }
  }
  unpack(dst, packed, dst->length);
  free(packed);
  return NMPI_SUCCESS;
}

int nmpi_array_fill(nmpi_array *dst, const nmpi_array *value) {
  static const int64_t standing_still[NMPI_MAX_NDIM] = {0};
  TRY(check_array(dst, "self"));
  if (dst->flags & NMPI_READONLY) return fail("self", "expected a writable array");
  copy(dst, value->p.any, standing_still);
  return NMPI_SUCCESS;
}

void nmpi_array_release(nmpi_array *a) {
  if (a == NULL || (a->flags & NMPI_IN_PLACE)) return;
  owner_release(a->owner);
  memset(a, 0, sizeof *a);
}
