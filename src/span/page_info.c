#include "span/page_info.h"

#include "base/atomic.h"
#include "base/bits.h"

void page_info_set(struct arena *arena, const struct span *span) {
  uint16_t *entry = &arena->page_info[arena_page_of(arena, span->start)];
  unsigned common = span->size_class | (unsigned)kind_table[span->kind].scan << PAGE_INFO_SCAN_SHIFT | PAGE_INFO_IN_USE;
  for (size_t i = 0; i < span->page_count; i++) { /* releases pair with object_offset_in_span */
    unsigned index = (unsigned)min_size(i, PAGE_INDEX_MAX);
    atomic_store_release(&entry[i], (uint16_t)(common | index << PAGE_INFO_INDEX_SHIFT));
  }
}

void page_info_clear(struct arena *arena, const struct span *span) {
  uint16_t *entry = &arena->page_info[arena_page_of(arena, span->start)];
  for (size_t i = 0; i < span->page_count; i++) atomic_store_relaxed(&entry[i], (uint16_t)0);
}
