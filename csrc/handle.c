/* SPDX-License-Identifier: MIT */
/* handle.c: structs that are used again, behind pointers that are not. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void *handle_new(handles *pool, size_t size) {
  pthread_mutex_lock(&pool->mutex);
  handle *h = pool->unused;
  if (h != NULL) pool->unused = h->unused;
  pthread_mutex_unlock(&pool->mutex);
  if (h == NULL) h = calloc(1, size);
  if (h == NULL) return NULL;
  memset(h + 1, 0, size - sizeof *h);
  h->live = (void *)((uintptr_t)h | h->tag);
  return h;
}

void handle_free(handles *pool, handle *h) {
  h->live = NULL;
  h->tag += ~TAG_MASK + 1;
  if (h->tag == 0) return; /* it has had all of them */
  pthread_mutex_lock(&pool->mutex);
  h->unused = pool->unused;
  pool->unused = h;
  pthread_mutex_unlock(&pool->mutex);
}
