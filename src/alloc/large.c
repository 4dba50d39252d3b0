#include "alloc/large.h"

#include <string.h>

#include "alloc/account.h"
#include "alloc/central.h"
#include "base/bits.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/slots.h"
#include "span/sticky.h"

/* Before it counts as an object.  What collectors may call or follow while the rest is cleared must not be what was there
 * before: a type's address; anything that a trace function reads.  True if the rest must be cleared. */
static bool clear_first(const struct span *span) {
  const struct kind *kind = &kind_table[span->kind];
  if (UNLIKELY(guard_active)) return false; /* its guard clears it, in this critical section too */
  if (!kind->zeroed || !span->needs_zero) return false;
  if (kind->scan == SCAN_TRACE) {
    memset((void *)span->start, 0, span_bytes(span));
    return false;
  }
  memset((char *)span_end(span) - TYPE_TRAILER_BYTES, 0, TYPE_TRAILER_BYTES);
  return true;
}

bool large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large) {
  if (bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX || central_of(kind, 0) == NULL) return false;
  size_t pages = round_up(bytes, PAGE_BYTES) >> PAGE_SHIFT;
  struct span *span = pageheap_alloc_aligned(&heap_pages, pages, max_size(alignment, PAGE_BYTES), SPAN_IN_USE, true);
  if (span == NULL) return false;
  slots_init(span, 0, kind);
  bool must_clear = clear_first(span);
  atomic_store_plain(&cache->clearing, must_clear ? span->start : 0);
  if (cache_is_black(cache)) {
    sticky_note_black_large(span);
    mark_bit_set(&heap_arena, mark_side(), span->start);
  }
  mark_bit_set(&heap_arena, alloc_side(), span->start);
  span->live_count = 1;
  if (UNLIKELY(kind_table[kind].root)) slots_note_root(span->start);
  *large = (struct large){.start = (void *)span->start, .bytes = span_bytes(span), .must_clear = must_clear};
  central_add_large(span);
  cache_count_large(cache, kind, large->bytes);
  atomic_publish(); /* as for the slots of a window */
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
