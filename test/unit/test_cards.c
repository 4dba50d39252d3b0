/* Cards, beside a table of the epochs in which each was noted last: single slots, ranges, slots that are elsewhere, and what a walk
 * finds, over more epochs than a card can count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "os/os.h"
#include "span/cards.h"
#include "support/heap_test.h"

enum { ARENA_BYTES = 16 << 20, USED_BYTES = 4 << 20, CARD_BYTES = 1 << CARD_SHIFT, CARDS = USED_BYTES >> CARD_SHIFT };
enum { EPOCHS = 1000, FULL_ONE_IN = 20, MINORS_MOST = 64, NOTES_MOST = 40, RANGE_MOST = 20 * CARD_BYTES };
#define START ((uintptr_t)4 << 20)

static struct arena arena;
static size_t noted_in[CARDS]; /* the epoch, from 1 on */
static size_t epoch;

static void note_one(struct rng *rng) {
  uintptr_t slot = START + round_down(rng_below(rng, USED_BYTES), sizeof(void *));
  cards_note((const void *)slot);
  noted_in[(slot - START) >> CARD_SHIFT] = epoch;
}

static void note_some(struct rng *rng) {
  uintptr_t start = START + rng_below(rng, USED_BYTES - RANGE_MOST);
  uintptr_t end = start + 1 + rng_below(rng, RANGE_MOST - 1);
  cards_note_range(start, end);
  for (uintptr_t at = round_down(start, CARD_BYTES); at < end; at += CARD_BYTES)
    noted_in[(at - START) >> CARD_SHIFT] = epoch;
}

static void note_elsewhere(struct rng *rng) {
  int local;
  cards_note(NULL);
  cards_note(&local);
  cards_note((const void *)(START - 8));
  cards_note((const void *)(START + ARENA_BYTES + rng_below(rng, USED_BYTES)));
}

/* Each card that was noted in this epoch or the last is found, and no other. */
static void expect_runs(uintptr_t from, uintptr_t end) {
  uintptr_t run_start, run_end = from, expected = from;
  while (cards_next_run(run_end, end, &run_start, &run_end)) {
    assert_in_range(run_start, expected, run_end - CARD_BYTES);
    assert_true(run_end <= end);
    for (; expected < run_end; expected += CARD_BYTES) {
      size_t noted = noted_in[(expected - START) >> CARD_SHIFT];
      assert_int_equal(noted != 0 && noted + 1 >= epoch, expected >= run_start);
    }
  }
  for (; expected < end; expected += CARD_BYTES) {
    size_t noted = noted_in[(expected - START) >> CARD_SHIFT];
    assert_false(noted != 0 && noted + 1 >= epoch);
  }
}

static void cards_are_as_in_a_table(void **state) {
  (void)state;
  struct rng rng = {test_seed_value};
  size_t minors = 0;
  assert_int_equal(arena_init_fake(&arena, START, ARENA_BYTES), 0);
  assert_true(arena_add_young_tables(&arena));
  assert_int_equal(arena_grow_locked(&arena, USED_BYTES), START);
  cards_init(&arena);
  for (epoch = 1; epoch <= EPOCHS; epoch++) {
    for (size_t i = rng_below(&rng, NOTES_MOST); i-- > 0;) {
      note_one(&rng);
      note_elsewhere(&rng);
      if (rng_one_in(&rng, 4)) note_some(&rng);
    }
    expect_runs(START, START + USED_BYTES);
    uintptr_t from = START + round_down(rng_below(&rng, USED_BYTES), CARD_BYTES);
    expect_runs(from, from + round_down(rng_below(&rng, START + USED_BYTES - from), CARD_BYTES));
    bool is_full = rng_one_in(&rng, FULL_ONE_IN) || minors == MINORS_MOST;
    minors = is_full ? 0 : minors + 1;
    cards_begin_epoch(is_full);
    if (!is_full) continue;
    epoch++; /* what a full cycle leaves may be cleared: nobody asks for it */
    cards_begin_epoch(false);
    for (size_t i = 0; i < CARDS; i++) noted_in[i] = 0;
  }
  arena_destroy(&arena);
}

static void without_cards_nothing_is_noted(void **state) {
  (void)state;
  int local;
  cards = (struct cards){.epoch = 1};
  assert_false(cards_are_kept());
  cards_note(NULL);
  cards_note(&local);
  cards_begin_epoch(false);
  assert_int_equal(cards.epoch, 1);
}

int main(void) {
  test_start("unit/cards");
  os_init();
  const struct CMUnitTest tests[] = {cmocka_unit_test(cards_are_as_in_a_table),
                                     cmocka_unit_test(without_cards_nothing_is_noted)};
  return test_run_group(tests);
}
