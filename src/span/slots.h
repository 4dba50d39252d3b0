/* The slots of a span: handing them out in runs, and sweeping.
 *
 * A span is allocated from in address order: `free_index` divides what has been handed out since the last sweep from
 * what has not, and behind it the allocation bits say which slots are free.  slots_claim takes the next run of free
 * slots for a cache, sets their allocation bits and moves free_index past them.
 *
 * Sweeping a span makes last cycle's marks its allocation bits (the sides have traded places by then), makes the other
 * side ready for the marks to come (clear, or a copy: span/sticky.h), counts, and puts free_index back to 0.  It touches
 * bits and counts only (and objects where they are guarded, span/guard.h): who may sweep, and what happens with the span
 * afterwards, is decided above. */
#ifndef MIDDEN_SPAN_SLOTS_H
#define MIDDEN_SPAN_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "page/span.h"

/* Spans that hold objects of a class, and their bytes; atomic. */
struct slots_spans {
  size_t count, bytes;
};
extern struct slots_spans slots_spans[];

/* Makes a fresh span of the page heap, which has cleared the rest of its fields, hold objects of a class (0: one large object) and kind. */
void slots_init(struct span *span, unsigned size_class, unsigned kind);

/* Whether each of its objects is marked. */
bool slots_all_marked(const struct span *span);

/* Takes its role away before the pages go back to the page heap: no bit of it stays set. */
void slots_destroy(struct span *span);

struct slot_run {
  uintptr_t start, end;
};

/* Takes the next free slots of a small span, at most `max_bytes` of them but one at least.  Before they count as allocated
 * they are cleared, if `zeroed`, and marked, if `black`: who finds an object marked may read it.  False when none is left. */
bool slots_claim(struct span *span, size_t max_bytes, bool zeroed, bool black, struct slot_run *run);

/* Slots for root objects were claimed, this one among them: who marks beside the program looks there again. */
void slots_note_root(uintptr_t slot);

/* Visits each span with objects that begins in a chunk, or before it and reaches into it.  Where the world runs: in a mark phase, so that
 * none becomes free; one that comes to be meanwhile may be left out. */
typedef void slots_visit_fn(const struct span *span, void *argument);
void slots_visit_spans(size_t chunk, slots_visit_fn *visit, void *argument);

/* Sweeps a span whose sweep_generation says that this thread does so.  Returns how many slots hold objects. */
uint32_t slots_sweep(struct span *span);

/* Whether nothing was marked in an unswept span of this range and class.  They are given one by one, since nobody need
 * own the span: the answer holds if it is still unswept afterwards. */
bool slots_are_all_dead(uintptr_t start, size_t page_count, unsigned size_class);

#endif
