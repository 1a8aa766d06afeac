/* SPDX-License-Identifier: MIT */
/* handle.c: structs that are used again, behind pointers that are not. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

void *handle_new(handle **unused, size_t size) {
  handle *h = *unused;
  if (h != NULL) {
    *unused = h->unused;
    memset(h + 1, 0, size - sizeof *h);
  } else {
    h = calloc(1, size);
    if (h == NULL) return NULL;
  }
  atomic_store_explicit(&h->live, (void *)((uintptr_t)h | h->tag), memory_order_release);
  return h;
}

bool handle_claim(handle *h, void *held) {
  void *live = held;
  return atomic_compare_exchange_strong(&h->live, &live, NULL);
}

void handle_free(handle **unused, handle *h) {
  atomic_store_explicit(&h->live, NULL, memory_order_release);
  h->tag += ~TAG_MASK + 1;
  if (h->tag == 0) return; /* it has had all of them */
  h->unused = *unused;
  *unused = h;
}
