/* Sticky marks: a sweep leaves what survived marked, so that the next cycle may be a minor one, which marks only what was
 * allocated since (gc/generation.h).
 *
 * Where they are on, the mark side of a swept span is a copy of its allocation side as the sweep found it: bits of *old*
 * objects.  What is allocated later has no mark, until a cycle comes; what is freed loses it.  A window that a cache kept
 * across the cycle is old as a whole, also what is allocated from it later: old means no more than that the next minor
 * cycle takes it for alive.
 *
 * Old objects are counted, since no marker of a minor cycle counts them: by each sweep, and less by each that is freed.
 * The count is exact while nobody sweeps or frees: with the gate closed or the world stopped. */
#ifndef MIDDEN_SPAN_STICKY_H
#define MIDDEN_SPAN_STICKY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "page/span.h"
#include "span/tally.h"

/* Set at start. */
extern bool sticky_marks;

/* Any thread, in a critical section.  A span was swept, and so many of its slots are marked now; or, as a negative number's
 * complement, so many no longer are, which were counted when they were marked. */
void sticky_count(const struct span *span, size_t objects);

/* Slots that are freed lose their marks.  Outside a mark phase, or slots of the caller's windows that are not black. */
void sticky_forget_slow(const struct span *span, uintptr_t start, uintptr_t end);
ALWAYS_INLINE void sticky_forget(const struct span *span, uintptr_t start, uintptr_t end) {
  if (UNLIKELY(sticky_marks)) sticky_forget_slow(span, start, end);
}

/* Adds the count to a tally: of old objects, less those that lost their marks while a cycle ran, which its markers have
 * counted.  No old object is left: all marks were cleared. */
void sticky_add_to(struct tally *tally);
void sticky_reset(void);

#endif
