/* What a marker must know of a page, in 16 bits.
 *
 * From an address to its object without a look at the span structure: a table with two bytes for each page of the arena
 * (256 KiB for a heap of 1 GiB) stays in the second-level cache, where span structures would not.
 *
 *     bits 0..6    size class, 0 for a large object
 *     bits 7..8    enum scan_mode
 *     bit  9       set: the page holds objects.  A word of 0 means that it does not
 *     bits 10..15  index of the page in its span; PAGE_INDEX_MAX: that or more, ask the span table
 *
 * Written by the span's owner before any of its objects is handed out, cleared before its pages go back to the page
 * heap.  Readers need no order of their own: whoever holds an object's address got it from its allocator's thread. */
#ifndef MIDDEN_SPAN_PAGE_INFO_H
#define MIDDEN_SPAN_PAGE_INFO_H

#include <stddef.h>
#include <stdint.h>

#include "page/arena.h"
#include "span/kind.h"

enum {
  PAGE_INFO_CLASS_MASK = 0x7f,
  PAGE_INFO_SCAN_SHIFT = 7,
  PAGE_INFO_SCAN_MASK = 3,
  PAGE_INFO_IN_USE = 1 << 9,
  PAGE_INFO_INDEX_SHIFT = 10,
  PAGE_INDEX_MAX = (1 << 6) - 1
};

static inline unsigned page_info_class(uint16_t info) { return info & PAGE_INFO_CLASS_MASK; }

static inline enum scan_mode page_info_scan(uint16_t info) {
  return (enum scan_mode)(info >> PAGE_INFO_SCAN_SHIFT & PAGE_INFO_SCAN_MASK);
}

static inline unsigned page_info_index(uint16_t info) { return info >> PAGE_INFO_INDEX_SHIFT; }

/* Writes the entries of a span's pages; size_class and kind are set. */
void page_info_set(struct arena *arena, const struct span *span);
void page_info_clear(struct arena *arena, const struct span *span);

#endif
