/* Large objects: each has a span of its own. */
#ifndef MIDDEN_ALLOC_LARGE_H
#define MIDDEN_ALLOC_LARGE_H

#include <stdbool.h>
#include <stddef.h>

#include "alloc/cache.h"

struct large {
  void *start;
  size_t bytes; /* of the span */
  /* The caller clears it, outside the critical section, before handing it out; then cache.clearing is 0. */
  bool must_clear;
};

/* A large object of at least `bytes`, aligned to `alignment` (a power of two).  False where there is no memory.  Critical
 * sections only. */
bool large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large);

/* Frees the swept span of a large object.  Critical sections only. */
void large_free(struct cache *cache, struct span *span);

#endif
