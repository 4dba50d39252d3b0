/* Sticky marks: a sweep leaves what survived marked, so that the next cycle may be a minor one, which marks only what was
 * allocated since (gc/generation.h).
 *
 * Where they are on, the mark side of a swept span is a copy of its allocation side as the sweep found it: bits of *old*
 * objects.  What is allocated later has no mark, until a cycle comes; what is freed loses it.  In dirty-page mode a window
 * that a cache kept across the cycle is old as a whole, also what is allocated from it later: old means no more than that the
 * next minor cycle takes it for alive.
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

/* Barrier mode: threads that were scanned allocate black, and nothing says that such objects will live.  Once all threads were
 * scanned, what they claim is noted as *born*, and loses its mark when it is swept: it is young.  What they claim before, and what
 * waited in their windows, will be old; on what cards it lies is noted, since it is filled later.  Why is in
 * docs/barrier-mode.md, "Minor cycles".  (In dirty-page mode young objects are white.)  Set at start. */
extern bool sticky_forgets_born;

/* With the gate closed: all threads were scanned; or the cycle is over. */
void sticky_let_be_born(bool born);

/* In a mark phase, by who owns the slots: they are about to be marked (a release) and hold no object yet; or they are given up. */
void sticky_note_black_slow(uintptr_t start, uintptr_t end, size_t slot_bytes);
ALWAYS_INLINE void sticky_note_black(uintptr_t start, uintptr_t end, size_t slot_bytes) {
  if (UNLIKELY(sticky_forgets_born)) sticky_note_black_slow(start, end, slot_bytes);
}
void sticky_note_black_large(struct span *span);
void sticky_give_up_black_slow(uintptr_t start, uintptr_t end, size_t slot_bytes);
ALWAYS_INLINE void sticky_give_up_black(uintptr_t start, uintptr_t end, size_t slot_bytes) {
  if (UNLIKELY(sticky_forgets_born)) sticky_give_up_black_slow(start, end, slot_bytes);
}

/* By who sweeps a span: the first `bytes` of it have bits, of which so many are set on the side of the allocations.  Marks what is old, and
 * counts it. */
void sticky_sweep(const struct span *span, size_t bytes, size_t live);

/* Clears the notes, with all marks. */
void sticky_clear_born(uintptr_t start, size_t bytes);

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
