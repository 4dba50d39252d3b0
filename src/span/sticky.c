#include "span/sticky.h"

#include "base/atomic.h"
#include "page/arena.h"
#include "span/mark_bits.h"

bool sticky_marks;

static struct tally old; /* atomic */

void sticky_count(const struct span *span, size_t objects) {
  if (objects == 0) return;
  enum tally_row row = tally_row_of(span->kind);
  atomic_add_relaxed(&old.objects[row][span->size_class], objects);
  if (span->size_class == 0) atomic_add_relaxed(&old.large_bytes[row], objects * span_bytes(span));
}

void sticky_forget_slow(const struct span *span, uintptr_t start, uintptr_t end) {
  sticky_count(span, -mark_bits_clear_slots(&heap_arena, mark_side(), start, end, span_slot_bytes(span)));
}

void sticky_add_to(struct tally *tally) { tally_add(tally, &old); }

void sticky_reset(void) { old = (struct tally){0}; }
