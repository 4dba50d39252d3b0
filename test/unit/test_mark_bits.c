/* The mark bit tables against arrays of flags: spans of every size class whose slots are set and cleared at random, looked
 * at from every slot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bits.h"
#include "span/mark_bits.h"
#include "span/size_class.h"
#include "support/heap_test.h"

enum { ROUNDS = 40, SLOTS_MAX = 16 * PAGE_BYTES / GRANULE_BYTES, SIDE = 1 };

static const uintptr_t start = UINT64_C(0x200000000000) + 3 * PAGE_BYTES;
static struct arena arena;
static struct rng rng;

/* A span and what its bits should be. */
struct model {
  size_t slot_bytes, slots, bytes;
  bool set[SLOTS_MAX];
};

static uintptr_t slot_at(const struct model *model, size_t slot) { return start + slot * model->slot_bytes; }

static void check(const struct model *model) {
  size_t count = 0;
  for (size_t slot = 0; slot < model->slots; slot++) {
    assert_int_equal(mark_bit_get(&arena, SIDE, slot_at(model, slot)), model->set[slot]);
    count += model->set[slot];
  }
  assert_int_equal(mark_bits_count(&arena, SIDE, start, model->bytes), count);
  assert_int_equal(mark_bits_any(&arena, SIDE, start, model->bytes), count != 0);
}

/* The first slot in [from, end) that is `set`, or `end`. */
static size_t model_next(const struct model *model, size_t from, size_t end, bool set) {
  while (from < end && model->set[from] != set) from++;
  return from;
}

static void check_searches(const struct model *model) {
  for (int i = 0; i < ROUNDS; i++) {
    size_t from = rng_below(&rng, model->slots + 1), end = from + rng_below(&rng, model->slots - from + 1);
    uintptr_t first = slot_at(model, from), last = slot_at(model, end);
    assert_int_equal(mark_bits_next_free(&arena, SIDE, first, last, model->slot_bytes),
                     slot_at(model, model_next(model, from, end, false)));
    assert_int_equal(mark_bits_next(&arena, SIDE, first, last), slot_at(model, model_next(model, from, end, true)));
  }
}

/* The three functions that change a run of slots. */
static void change(struct model *model) {
  size_t from = rng_below(&rng, model->slots + 1), end = from + rng_below(&rng, model->slots - from + 1), before = 0;
  uintptr_t first = slot_at(model, from), last = slot_at(model, end);
  unsigned what = (unsigned)rng_below(&rng, 3);
  for (size_t slot = from; slot < end; slot++) {
    before += model->set[slot];
    model->set[slot] = what != 2;
  }
  switch (what) {
    case 0:
      mark_bits_set_slots(&arena, SIDE, first, last, model->slot_bytes);
      break;
    case 1:
      assert_int_equal(mark_bits_count_and_set_slots(&arena, SIDE, first, last, model->slot_bytes), before);
      break;
    default:
      assert_int_equal(mark_bits_clear_slots(&arena, SIDE, first, last, model->slot_bytes), before);
  }
}

static void set_at_random(struct model *model) {
  uint64_t one_in = 1 + rng_below(&rng, 8);
  for (size_t slot = 0; slot < model->slots; slot++) {
    model->set[slot] = rng_one_in(&rng, one_in);
    if (model->set[slot]) mark_bit_set(&arena, SIDE, slot_at(model, slot));
  }
}

static void bits_of_every_class_are_as_the_model_has_them(void **state) {
  (void)state;
  static struct model model;
  for (unsigned size_class = 1; size_class < SIZE_CLASS_COUNT; size_class++) {
    model.slot_bytes = size_class_bytes[size_class];
    model.slots = size_class_slots[size_class];
    model.bytes = (size_t)size_class_pages[size_class] << PAGE_SHIFT;
    REQUIRE(model.slots <= SLOTS_MAX, "a class of %zu slots", model.slots);
    for (int round = 0; round < ROUNDS; round++) {
      mark_bits_clear(&arena, SIDE, start, model.bytes);
      set_at_random(&model);
      check(&model);
      check_searches(&model);
      for (int i = 0; i < 4; i++) change(&model);
      check(&model);
      check_searches(&model);
    }
    mark_bits_copy(&arena, SIDE ^ 1, start, model.bytes);
    assert_true(mark_bits_cover(&arena, SIDE ^ 1, SIDE, start, model.bytes));
    uintptr_t last = slot_at(&model, model.slots - 1);
    mark_bit_set(&arena, SIDE ^ 1, last);
    mark_bit_clear(&arena, SIDE, last);
    assert_true(mark_bits_cover(&arena, SIDE ^ 1, SIDE, start, model.bytes));
    assert_false(mark_bits_cover(&arena, SIDE, SIDE ^ 1, start, model.bytes));
    mark_bits_copy(&arena, SIDE ^ 1, start, model.bytes); /* over what is there */
    assert_false(mark_bit_get(&arena, SIDE ^ 1, last));
    assert_int_equal(mark_bits_count(&arena, SIDE ^ 1, start, model.bytes),
                     mark_bits_count(&arena, SIDE, start, model.bytes));
    mark_bits_clear(&arena, SIDE ^ 1, start, model.bytes);
    mark_bits_clear(&arena, SIDE ^ 1, start, model.bytes);
    mark_bits_clear(&arena, SIDE, start, model.bytes);
    assert_false(mark_bits_any(&arena, SIDE, start, model.bytes));
  }
}

int main(void) {
  rng = test_start("test_mark_bits");
  arena.start = round_down(start, (uintptr_t)4 << 20);
  for (int side = 0; side < 2; side++) arena.mark_bits[side] = calloc(1 << 16, sizeof(uint64_t));
  const struct CMUnitTest tests[] = {cmocka_unit_test(bits_of_every_class_are_as_the_model_has_them)};
  return test_run_group(tests);
}
