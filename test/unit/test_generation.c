/* When a minor cycle follows: arithmetic, on simulated programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/generation.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

/* A program with so much that lives, of whose allocation a part survives the next cycle and dies by the next full one. */
struct program {
  size_t live_bytes;
  double survival;
  double full_ns, minor_ns; /* for a byte that is alive, and for one that survives */
};

struct run {
  size_t full, minor, most_bytes;
};

static struct run simulate(struct generation *generation, const struct program *program, size_t cycles) {
  struct run run = {0};
  size_t heap_bytes = program->live_bytes, goal_bytes = 2 * program->live_bytes;
  for (size_t i = 0; i < cycles; i++) {
    size_t before_bytes = goal_bytes;
    if (before_bytes > run.most_bytes) run.most_bytes = before_bytes;
    bool minor = generation_wants_minor(generation);
    size_t survivors = (size_t)(program->survival * (double)(before_bytes - heap_bytes));
    heap_bytes = minor ? heap_bytes + survivors : program->live_bytes + survivors;
    double cpu_ns = minor ? program->minor_ns * (double)survivors : program->full_ns * (double)heap_bytes;
    if (!minor) goal_bytes = 2 * heap_bytes;
    generation_ended(generation, minor, before_bytes, heap_bytes, goal_bytes);
    generation_charge(generation, (uint64_t)cpu_ns);
    if (minor) {
      run.minor++;
    } else {
      run.full++;
    }
  }
  return run;
}

static void the_first_cycle_is_full(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_ALWAYS};
  assert_false(generation_wants_minor(&generation));
  generation_ended(&generation, false, 2 * MIB, MIB, 2 * MIB);
  assert_true(generation_wants_minor(&generation));
  generation_forget(&generation);
  assert_false(generation_wants_minor(&generation));
  generation_ended(&generation, false, 2 * MIB, MIB, 2 * MIB);
  generation.choice = MIDDEN_GENERATIONS_OFF;
  assert_false(generation_wants_minor(&generation));
}

/* Nineteen of twenty objects die young: a full cycle about every ten, and the heap no larger than with full ones alone. */
static void most_cycles_are_minor_where_most_objects_die_young(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_AUTO};
  struct program program = {.live_bytes = 100 * MIB, .survival = 0.05, .full_ns = 1, .minor_ns = 2};
  struct run run = simulate(&generation, &program, 200);
  assert_in_range(run.full, 200 / 18, 200 / 10);
  assert_true(run.most_bytes <= 211 * MIB);
}

/* Half of what is new survives: the room is used up by one minor cycle, of two cycles one is full. */
static void survivors_take_half_of_the_room_at_most(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_ALWAYS};
  struct program program = {.live_bytes = 100 * MIB, .survival = 0.55, .full_ns = 1, .minor_ns = 1};
  struct run run = simulate(&generation, &program, 200);
  assert_in_range(run.full, 90, 110);
}

/* Minor ones that cost as much for a byte freed are tried once in nine. */
static void they_are_barred_where_they_do_not_pay(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_AUTO};
  struct program program = {.live_bytes = 100 * MIB, .survival = 0.1, .full_ns = 1, .minor_ns = 20};
  struct run run = simulate(&generation, &program, 900);
  assert_in_range(run.minor, 900 / 10, 900 / 9);
  /* It has learnt nothing for good: the program changes. */
  program.minor_ns = 1;
  run = simulate(&generation, &program, 900);
  assert_true(run.minor > 600);
}

static void end_and_charge(struct generation *generation, bool minor, uint64_t cpu_ns) {
  generation_ended(generation, minor, minor ? 150 * MIB : 200 * MIB, 90 * MIB, 200 * MIB);
  generation_charge(generation, cpu_ns);
}

/* What the last one cost that did not pay is not held against the next. */
static void one_that_pays_ends_that(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_AUTO};
  end_and_charge(&generation, false, 100);
  assert_true(generation_wants_minor(&generation));
  end_and_charge(&generation, true, 1000);
  for (unsigned full = 0; full < 8; full++) {
    assert_false(generation_wants_minor(&generation));
    end_and_charge(&generation, false, 100);
  }
  assert_true(generation_wants_minor(&generation));
  end_and_charge(&generation, true, 1);
  assert_true(generation_wants_minor(&generation));
}

/* What lives is marked in a stop now and then, of which nothing can be learnt. */
static void other_cycles_do_not_count(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_AUTO};
  generation_ended(&generation, false, 200 * MIB, 90 * MIB, 200 * MIB);
  assert_false(generation_wants_minor(&generation)); /* nor is it known what a full one costs */
  generation_charge(&generation, 100);
  assert_true(generation_wants_minor(&generation));
  generation_forget(&generation);
  generation_charge(&generation, 1);
  end_and_charge(&generation, false, 100);
  end_and_charge(&generation, true, 30);
  assert_true(generation_wants_minor(&generation));
}

/* Of a program that grew while a full cycle marked it, and whose heap is garbage then: what that one cost, and freed, is no
 * measure. */
static void a_full_cycle_that_freed_little_tells_little(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_AUTO};
  for (unsigned most = 1; most <= 16; most *= 2) {
    generation_ended(&generation, false, 100 * MIB, 90 * MIB, 200 * MIB);
    generation_charge(&generation, 100);
    unsigned minor = 0;
    for (; generation_wants_minor(&generation); minor++) {
      generation_ended(&generation, true, 150 * MIB, 90 * MIB, 200 * MIB);
      generation_charge(&generation, 10);
      REQUIRE(minor < 1000, "minor cycles for ever");
    }
    assert_int_equal(minor, 10 * most < 64 ? 10 * most : 64);
  }
}

static unsigned minor_ones_after_a_full_one(struct generation *generation) {
  unsigned minor = 0;
  generation_ended(generation, false, 200 * MIB, 90 * MIB, 200 * MIB);
  generation_charge(generation, 100);
  for (; generation_wants_minor(generation); minor++) {
    generation_ended(generation, true, 150 * MIB, 90 * MIB, 200 * MIB);
    generation_charge(generation, 1);
    REQUIRE(minor < 1000, "minor cycles for ever");
  }
  return minor;
}

/* Nothing survives, and minor ones cost next to nothing: what is dropped that was old is found all the same. */
static void minor_cycles_come_to_an_end(void **state) {
  (void)state;
  static const enum midden_generations choices[] = {MIDDEN_GENERATIONS_AUTO, MIDDEN_GENERATIONS_ALWAYS};
  for (size_t i = 0; i < TEST_COUNT_OF(choices); i++) {
    struct generation generation = {.choice = choices[i]};
    assert_int_equal(minor_ones_after_a_full_one(&generation), 64);
    assert_int_equal(minor_ones_after_a_full_one(&generation), 64);
  }
}

/* The last full cycle knew no goal; then there is one. */
static void a_goal_that_changes_changes_the_room(void **state) {
  (void)state;
  struct generation generation = {.choice = MIDDEN_GENERATIONS_ALWAYS};
  generation_ended(&generation, false, 2 * MIB, MIB, SIZE_MAX);
  generation_revise(&generation, 2 * MIB);
  generation_ended(&generation, true, 2 * MIB, MIB + MIB / 2, 2 * MIB);
  assert_true(generation_wants_minor(&generation));
  generation_ended(&generation, true, 2 * MIB, MIB + MIB / 2 + 1, 2 * MIB);
  assert_false(generation_wants_minor(&generation));
}

int main(void) {
  test_start("unit/generation");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_cycle_is_full),
      cmocka_unit_test(most_cycles_are_minor_where_most_objects_die_young),
      cmocka_unit_test(survivors_take_half_of_the_room_at_most),
      cmocka_unit_test(they_are_barred_where_they_do_not_pay),
      cmocka_unit_test(one_that_pays_ends_that),
      cmocka_unit_test(other_cycles_do_not_count),
      cmocka_unit_test(a_full_cycle_that_freed_little_tells_little),
      cmocka_unit_test(minor_cycles_come_to_an_end),
      cmocka_unit_test(a_goal_that_changes_changes_the_room),
  };
  return test_run_group(tests);
}
