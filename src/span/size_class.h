/* Size classes: the slot sizes in which small objects are kept.
 *
 * Class 0 means a large object, which has a span of its own.  Classes 1 to SIZE_CLASS_COUNT - 1 have slots of growing
 * size, each a multiple of 16 bytes; every power of two from 16 to SIZE_CLASS_MAX_BYTES is among them, and since spans
 * start at a page those slots are aligned to their size, up to a page.
 *
 * All tables are constant and generated: tools/make_size_classes.c says how the classes are chosen, and a test keeps
 * the table in step with it. */
#ifndef MIDDEN_SPAN_SIZE_CLASS_H
#define MIDDEN_SPAN_SIZE_CLASS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/check.h"
#include "span/size_class_table.h"

/* By class; [0] is 0 in all four. */
extern const uint32_t size_class_bytes[SIZE_CLASS_COUNT]; /* of a slot */
extern const uint8_t size_class_pages[SIZE_CLASS_COUNT];  /* of a span */
extern const uint16_t size_class_slots[SIZE_CLASS_COUNT]; /* in a span */
extern const uint32_t size_class_magic[SIZE_CLASS_COUNT]; /* see size_class_slot_of */

/* Classes by size: in steps of 16 bytes up to SIZE_CLASS_FINE_BYTES, above it in steps of 128. */
enum { SIZE_CLASS_FINE_BYTES = 1024 };
extern const uint8_t size_class_fine[SIZE_CLASS_FINE_COUNT];
extern const uint8_t size_class_coarse[SIZE_CLASS_COARSE_COUNT];

/* The class with the smallest slots that hold `bytes`, which is at most SIZE_CLASS_MAX_BYTES; 0 counts as 1. */
static inline unsigned size_class_of(size_t bytes) {
  ASSERT(bytes <= SIZE_CLASS_MAX_BYTES);
  if (LIKELY(bytes <= SIZE_CLASS_FINE_BYTES)) return size_class_fine[(bytes + 15) / 16];
  return size_class_coarse[(bytes - SIZE_CLASS_FINE_BYTES + 127) / 128];
}

/* offset / slot bytes of the class whose magic is given, for every offset inside a span of that class: a multiplication
 * where a division would take many times as long.  Magic 0 (class 0) gives 0, the one slot of a large object. */
static inline size_t size_class_slot_of(size_t offset, uint32_t magic) { return (uint64_t)offset * magic >> 32; }

#endif
