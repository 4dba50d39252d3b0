/* Cards: where old objects may refer to young ones.  A card is 512 bytes of the heap and has a byte, in which the number of an epoch
 * stands: the last one in which a pointer was stored there.  An epoch lasts from one cycle to the next.
 *
 * For generations in barrier mode (docs/barrier-mode.md, "Minor cycles"), which sets the barrier's bit BARRIER_REMEMBERS for good;
 * where there are none, there are no cards.
 *
 * A minor cycle scans what is old on the cards of the last epoch, and of its own, which has begun by then.  Nothing is cleared but once in
 * many cycles: a card of an earlier epoch is clean. */
#ifndef MIDDEN_SPAN_CARDS_H
#define MIDDEN_SPAN_CARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "page/arena.h"

enum { CARD_SHIFT = 9 };
_Static_assert(CARDS_PAGE_BYTES == PAGE_BYTES >> CARD_SHIFT, "the arena keeps a byte for each card");

/* Constant after start, but for the epoch.  `bytes`: of the arena; 0 where there are no cards. */
struct cards {
  uintptr_t start, bytes;
  uint8_t *table;
  uint8_t epoch; /* atomic; from 1 on */
  const struct arena *arena;
};
extern struct cards cards;

static inline bool cards_are_kept(void) { return cards.bytes != 0; }

/* At start, when the arena has the table. */
void cards_init(const struct arena *arena);

/* A pointer was stored to a slot, which may be anywhere: any thread, in the store (docs/barrier-mode.md, [whole]).  What is there
 * already is not written again: threads share the lines. */
ALWAYS_INLINE void cards_note(const void *slot) {
  uintptr_t offset = (uintptr_t)slot - cards.start;
  if (UNLIKELY(offset >= cards.bytes)) return;
  uint8_t *card = &cards.table[offset >> CARD_SHIFT], epoch = atomic_load_relaxed(&cards.epoch);
  if (atomic_load_relaxed(card) != epoch) atomic_store_relaxed(card, epoch);
}

/* The same of all slots in [start, end) of the heap; and of all in a large object, however large it is: its first card is noted, and
 * the span itself. */
void cards_note_range(uintptr_t start, uintptr_t end);
void cards_note_large(struct span *span);

/* Whether it was in this epoch or the last. */
bool cards_is_large_noted(const struct span *span);

/* By the driver, when stores are recorded and before any thread is scanned.  The next epoch; in a full cycle, which scans no cards,
 * they may all be cleared: what is noted meanwhile is recorded too. */
void cards_begin_epoch(bool full);

/* The first run of cards of this epoch or the last in [from, end): false if there is none.  `from` and `end` are where cards begin. */
bool cards_next_run(uintptr_t from, uintptr_t end, uintptr_t *run_start, uintptr_t *run_end);

#endif
