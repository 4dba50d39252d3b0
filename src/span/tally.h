/* Tallies: numbers of objects by size class, those that are scanned apart from those that hold no pointers.
 *
 * Small objects have the size of their class, so that their bytes follow from their number; large ones (class 0) are
 * counted in bytes too.
 *
 * A tally of which other threads read while its owner counts: the owner counts by tally_count, whose stores release,
 * and readers copy by tally_add, whose loads acquire.  What is read then lies between what was counted when the copy
 * began and when it ended, each number whole; who wants them to fit each other stops the owner or reads between two
 * looks at a version (alloc/cache.h). */
#ifndef MIDDEN_SPAN_TALLY_H
#define MIDDEN_SPAN_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "span/kind.h"
#include "span/size_class.h"

enum tally_row { TALLY_DATA, TALLY_SCANNED, TALLY_ROWS };

struct tally {
  uint64_t objects[TALLY_ROWS][SIZE_CLASS_COUNT]; /* by size class; [0]: large ones */
  uint64_t large_bytes[TALLY_ROWS];
};

static inline enum tally_row tally_row_of(unsigned kind) {
  return kind_table[kind].scan == SCAN_NONE ? TALLY_DATA : TALLY_SCANNED;
}

/* Adds to one number of a tally that belongs to the calling thread.  `count` may be a negative number's complement. */
static inline void tally_count(uint64_t *number, uint64_t count) { atomic_store_release(number, *number + count); }

/* Adds or subtracts `from`, which its owner may be counting in. */
void tally_add(struct tally *to, const struct tally *from);
void tally_subtract(struct tally *from, const struct tally *what);

uint64_t tally_row_objects(const struct tally *tally, enum tally_row row);
uint64_t tally_row_bytes(const struct tally *tally, enum tally_row row);
uint64_t tally_objects(const struct tally *tally);
uint64_t tally_class_objects(const struct tally *tally, unsigned size_class);
uint64_t tally_large_bytes(const struct tally *tally);
uint64_t tally_bytes(const struct tally *tally);

#endif
