#include "span/cards.h"

#include "base/bits.h"
#include "base/check.h"

enum {
  CARD_BYTES = 1 << CARD_SHIFT,
  WORD_CARDS = 8, /* are looked at together */
  EPOCH_MOST = UINT8_MAX,
  EPOCHS_KEPT = 100 /* before the last: more than there are minor cycles between two full ones */
};

NOT_A_ROOT struct cards cards = {.epoch = 1};

void cards_init(const struct arena *arena) {
  cards = (struct cards){
      .start = arena->start, .bytes = arena->end - arena->start, .table = arena->cards, .epoch = 1, .arena = arena};
}

static uint8_t *card_of(uintptr_t address) { return &cards.table[(address - cards.start) >> CARD_SHIFT]; }

void cards_note_range(uintptr_t start, uintptr_t end) {
  uint8_t epoch = atomic_load_relaxed(&cards.epoch);
  for (uint8_t *card = card_of(start); card <= card_of(end - 1); card++) atomic_store_relaxed(card, epoch);
}

void cards_note_large(struct span *span) {
  atomic_store_relaxed(&span->noted_in, atomic_load_relaxed(&cards.epoch));
  cards_note((const void *)span->start);
}

/* A page's cards are whole words, read and written as such. */
static void clear(void) {
  uint64_t *end = (uint64_t *)(void *)card_of(atomic_load_acquire(&cards.arena->used));
  for (uint64_t *word = (uint64_t *)(void *)cards.table; word < end; word++) {
    if (atomic_load_relaxed(word) != 0) atomic_store_relaxed(word, UINT64_C(0));
  }
}

void cards_begin_epoch(bool full) {
  if (!cards_are_kept()) return;
  uint8_t epoch = cards.epoch;
  if (full && epoch >= EPOCH_MOST - EPOCHS_KEPT) {
    clear();
    epoch = 0;
  }
  CHECK(epoch != EPOCH_MOST, "cards: %d minor cycles without a full one", EPOCHS_KEPT);
  atomic_store_relaxed(&cards.epoch, (uint8_t)(epoch + 1));
}

static bool is_noted(uint8_t card) {
  uint8_t epoch = cards.epoch;
  return card != 0 && card <= epoch && card + 1 >= epoch;
}

bool cards_is_large_noted(const struct span *span) { return is_noted(atomic_load_relaxed(&span->noted_in)); }

/* To the first card that is noted, or beyond the end.  Most words are zero. */
static uintptr_t skip(uintptr_t from, uintptr_t end) {
  while (from < end && !is_noted(atomic_load_relaxed(card_of(from)))) {
    const uint64_t *word = (const uint64_t *)(void *)card_of(from);
    bool is_whole = is_aligned((uintptr_t)word, sizeof *word);
    from += is_whole && atomic_load_relaxed(word) == 0 ? WORD_CARDS * CARD_BYTES : CARD_BYTES;
  }
  return from;
}

bool cards_next_run(uintptr_t from, uintptr_t end, uintptr_t *run_start, uintptr_t *run_end) {
  from = skip(from, end);
  if (from >= end) return false;
  *run_start = from;
  while (from < end && is_noted(atomic_load_relaxed(card_of(from)))) from += CARD_BYTES;
  *run_end = from;
  return true;
}
