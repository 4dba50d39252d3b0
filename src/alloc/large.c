#include "alloc/large.h"

#include "alloc/account.h"
#include "alloc/central.h"
#include "base/bits.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"
#include "span/slots.h"

bool large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large) {
  if (bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX || central_of(kind, 0) == NULL) return false;
  size_t pages = round_up(bytes, PAGE_BYTES) >> PAGE_SHIFT;
  struct span *span = pageheap_alloc_aligned(&heap_pages, pages, max_size(alignment, PAGE_BYTES), SPAN_IN_USE, true);
  if (span == NULL) return false;
  slots_init(span, 0, kind);
  if (cache_is_black(cache)) mark_bit_set(&heap_arena, mark_side(), span->start);
  mark_bit_set(&heap_arena, alloc_side(), span->start);
  atomic_store_relaxed(&span->free_index, span_bytes(span));
  span->live_count = 1;
  *large = (struct large){.start = (void *)span->start,
                          .bytes = span_bytes(span),
                          .must_clear = kind_table[kind].zeroed && span->needs_zero};
  central_add_large(span);
  cache_count_large(cache, kind, large->bytes);
  return true;
}

void large_free(struct cache *cache, struct span *span) {
  size_t bytes = span_bytes(span);
  unsigned kind = span->kind;
  central_remove_large(span);
  slots_destroy(span);
  pageheap_free(&heap_pages, span);
  cache_count_large_freed(cache, kind, bytes);
  account_subtract(bytes);
}
