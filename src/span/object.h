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

/* Where a page's span starts.  `info` is the page's information, not 0. */
static inline uintptr_t object_span_start(uintptr_t page_start, uint16_t info) {
  unsigned index = page_info_index(info);
  if (UNLIKELY(index == PAGE_INDEX_MAX)) return heap_arena.spans[arena_page_of(&heap_arena, page_start)]->start;
  return page_start - ((uintptr_t)index << PAGE_SHIFT);
}

/* The first byte of the slot that holds `address`; in the unused tail of a span that is a slot which never holds an
 * object, so its allocation bit is clear.  `info` is the information of the address's page, not 0. */
ALWAYS_INLINE uintptr_t object_slot_start(uintptr_t address, uint16_t info) {
  uintptr_t span_start = object_span_start(address & ~(PAGE_BYTES - 1), info);
  unsigned size_class = page_info_class(info);
  size_t slot = size_class_slot_of(address - span_start, size_class_magic[size_class]);
  return span_start + slot * size_class_bytes[size_class];
}

struct object {
  uintptr_t start;
  struct span *span;
};

/* Finds the living object that holds `address`; false for every other address whatsoever. */
bool object_find(const void *address, struct object *object);

/* The span of an object whose start is known to be one. */
static inline struct span *object_span(uintptr_t start) {
  return heap_arena.spans[arena_page_of(&heap_arena, start)];
}

/* Bytes that the program may use of an object: the slot, less what the collector keeps in it. */
size_t object_usable_bytes(const struct object *object);

#endif
