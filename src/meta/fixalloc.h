/* Fixed-size allocator for metadata (spans, mutators, specials): a free list over chunks of persistent memory.
 *
 * Blocks are never given back to the system and, unless `zero` is set, never cleared on reuse: a span's sweep
 * generation must survive being freed and allocated again, since a sweeper may still look at it. */
#ifndef MIDDEN_META_FIXALLOC_H
#define MIDDEN_META_FIXALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "meta/persist.h"

struct fixalloc {
  struct lock lock;
  size_t block_bytes, alignment;   /* constant after init */
  bool zero;                       /* clear blocks on reuse; constant after init */
  enum persist_purpose purpose;    /* whom the memory is charged to; constant after init */
  void *free;                      /* first free block, linked through its first word; under lock */
  uintptr_t chunk_next, chunk_end; /* rest of the current chunk; under lock */
  size_t in_use_count;             /* blocks allocated and not freed; under lock */
};

void fixalloc_init(struct fixalloc *allocator, size_t block_bytes, bool zero, enum persist_purpose purpose);

/* A block aligned to 16 bytes, or to a cache line if it fills some or is larger than two; fresh ones zeroed; NULL where the system
 * has no memory. */
void *fixalloc_alloc(struct fixalloc *allocator);

/* The block must be from this allocator. */
void fixalloc_free(struct fixalloc *allocator, void *block);

#endif
