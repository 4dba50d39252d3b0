/* Check mode: what a word named when there was no object.
 *
 * A marker beside the program passes over a word that names a free slot, or no slot at all: the end of an array is one, where the
 * array fills its slot.  A white object may come to lie there before the stop, and be dropped; to check mode the word then looks
 * like a reference to it that was missed.  It is none: the object was made after the word was read, and a page that is written
 * after it was read is read again.  So what was passed over is noted, while young objects are white.
 *
 * A bit for each granule, by its number modulo NAMED_FREE_BITS: in larger heaps some objects are excused for what was noted of
 * others. */
#ifndef MIDDEN_GC_NAMED_FREE_H
#define MIDDEN_GC_NAMED_FREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/attr.h"

#define NAMED_FREE_BITS ((size_t)1 << 25) /* of 512 MiB */

extern bool named_free_is_noted; /* atomic */

/* Forgets what was noted and begins; false if there is no memory.  The collector lock's holder, while nobody marks. */
bool named_free_begin(void);
void named_free_end(void);

/* For named_free_note; any thread that marks. */
void named_free_set(uintptr_t address);

static inline void named_free_note(uintptr_t address) {
  if (UNLIKELY(atomic_load_relaxed(&named_free_is_noted))) named_free_set(address);
}

/* Since the last begin, until the end. */
bool named_free_has(uintptr_t address);

#endif
