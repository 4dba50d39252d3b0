#include "span/sticky.h"

#include "base/atomic.h"
#include "page/arena.h"
#include "span/cards.h"
#include "span/mark_bits.h"

bool sticky_marks, sticky_forgets_born;

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

static bool are_born; /* what is claimed black; atomic */

void sticky_let_be_born(bool born) { atomic_store_relaxed(&are_born, born); }

void sticky_note_black_slow(uintptr_t start, uintptr_t end, size_t slot_bytes) {
  if (start == end) return;
  if (atomic_load_relaxed(&are_born)) {
    mark_bits_set_slots(&heap_arena, ARENA_BORN, start, end, slot_bytes);
  } else {
    cards_note_range(start, end);
  }
}

void sticky_note_black_large(struct span *span) {
  if (!sticky_forgets_born) return;
  if (atomic_load_relaxed(&are_born)) {
    mark_bits_set_slots(&heap_arena, ARENA_BORN, span->start, span_end(span), span_bytes(span));
  } else {
    cards_note_large(span);
  }
}

void sticky_give_up_black_slow(uintptr_t start, uintptr_t end, size_t slot_bytes) {
  mark_bits_clear_slots(&heap_arena, ARENA_BORN, start, end, slot_bytes);
}

void sticky_sweep(const struct span *span, size_t bytes, size_t live) {
  if (sticky_forgets_born) {
    sticky_count(span, live - mark_bits_take(&heap_arena, mark_side(), ARENA_BORN, span->start, bytes));
  } else {
    mark_bits_copy(&heap_arena, mark_side(), span->start, bytes);
    sticky_count(span, live);
  }
}

void sticky_clear_born(uintptr_t start, size_t bytes) {
  if (sticky_forgets_born) mark_bits_clear(&heap_arena, ARENA_BORN, start, bytes);
}
