/* From any address to the object that holds it. */
#ifndef MIDDEN_SPAN_OBJECT_H
#define MIDDEN_SPAN_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "page/arena.h"
#include "span/mark_bits.h"
#include "span/page_info.h"
#include "span/size_class.h"

/* How far into its span an offset from the arena's start lies.  `info` is its page's information, not 0. */
ALWAYS_INLINE size_t object_offset_in_span(uintptr_t offset, uint16_t info) {
  unsigned index = page_info_index(info);
  if (UNLIKELY(index == PAGE_INDEX_MAX)) {
    /* Who asks beside the thread that makes the span has read `info` in no order: an acquire of it sees the span entered. */
    (void)atomic_load_acquire(&heap_arena.page_info[offset >> PAGE_SHIFT]);
    const struct span *span = atomic_load_relaxed(&heap_arena.spans[offset >> PAGE_SHIFT]);
    return heap_arena.start + offset - atomic_load_relaxed(&span->start);
  }
  return ((size_t)index << PAGE_SHIFT) | (offset & (PAGE_BYTES - 1));
}

/* The offset from the arena's start of the slot that holds `offset`; in the unused tail of a span that is a slot which
 * never holds an object, so its allocation bit is clear. */
ALWAYS_INLINE uintptr_t object_slot_offset(uintptr_t offset, uint16_t info) {
  unsigned size_class = page_info_class(info);
  size_t in_span = object_offset_in_span(offset, info);
  size_t slot = size_class_slot_of(in_span, size_class_magic[size_class]);
  return offset - (in_span - slot * size_class_bytes[size_class]);
}

/* The first byte of that slot. */
ALWAYS_INLINE uintptr_t object_slot_start(uintptr_t address, uint16_t info) {
  return heap_arena.start + object_slot_offset(address - heap_arena.start, info);
}

struct object {
  uintptr_t start;
  struct span *span;
};

/* Finds the living object that holds `address`; false for every other address whatsoever. */
bool object_find(const void *address, struct object *object);

/* The span of an object whose start is known to be one.  Inline in any case: by itself it would be told to the thread sanitizer, which
 * does not see the allocation bit that mark_range has read before. */
ALWAYS_INLINE struct span *object_span(uintptr_t start) { return heap_arena.spans[arena_page_of(&heap_arena, start)]; }

/* Bytes that the program may use of an object: the slot, less what the collector keeps in it; of a tiny one half, as the other is
 * another's. */
size_t object_usable_bytes(const struct object *object);

#endif
