/* A free list, and behind it a chunk that is cut from the front. */
#include "meta/fixalloc.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"

enum { BLOCK_ALIGNMENT = 16, CHUNK_BYTES = 16 << 10 };

void fixalloc_init(struct fixalloc *allocator, size_t block_bytes, bool zero, enum persist_purpose purpose) {
  CHECK(block_bytes >= sizeof(void *), "fixalloc: blocks of %zu bytes are too small for a link", block_bytes);
  *allocator = (struct fixalloc){0};
  lock_init(&allocator->lock, LOCK_RANK_META);
  bool by_line = block_bytes > 2 * CACHE_LINE_BYTES || is_aligned(block_bytes, CACHE_LINE_BYTES);
  allocator->alignment = by_line ? CACHE_LINE_BYTES : BLOCK_ALIGNMENT;
  allocator->block_bytes = round_up(block_bytes, allocator->alignment);
  allocator->zero = zero;
  allocator->purpose = purpose;
}

/* The next block that was never used, from a new chunk where the last is cut up; NULL where there is no memory. */
static void *cut_fresh_locked(struct fixalloc *allocator) {
  size_t block_bytes = allocator->block_bytes;
  if (allocator->chunk_end - allocator->chunk_next < block_bytes) {
    size_t count = max_size(CHUNK_BYTES / block_bytes, 1);
    void *chunk = persist_alloc(count * block_bytes, allocator->alignment, allocator->purpose);
    if (chunk == NULL) return NULL;
    allocator->chunk_next = (uintptr_t)chunk;
    allocator->chunk_end = allocator->chunk_next + count * block_bytes;
  }
  void *block = (void *)allocator->chunk_next;
  allocator->chunk_next += block_bytes;
  return block;
}

void *fixalloc_alloc(struct fixalloc *allocator) {
  lock_acquire(&allocator->lock);
  void *block = allocator->free;
  bool is_reused = block != NULL;
  if (is_reused) {
    allocator->free = *(void **)block;
  } else {
    block = cut_fresh_locked(allocator);
  }
  if (block != NULL) allocator->in_use_count++;
  lock_release(&allocator->lock);
  if (is_reused && allocator->zero) memset(block, 0, allocator->block_bytes);
  return block;
}

void fixalloc_free(struct fixalloc *allocator, void *block) {
  CHECK(is_aligned((uintptr_t)block, allocator->alignment), "fixalloc: %p is not a block", block);
  lock_acquire(&allocator->lock);
  CHECK(allocator->in_use_count > 0 && allocator->free != block, "fixalloc: block %p was freed twice", block);
  allocator->in_use_count--;
  *(void **)block = allocator->free;
  allocator->free = block;
  lock_release(&allocator->lock);
}
