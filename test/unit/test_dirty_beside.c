/* Dirty-page mode calls trace functions that read nothing but their object beside the program, and not for all objects again in the
 * stop: there for those that were written since, alone.  What is stored meanwhile is found, in small objects and in large ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mutator/world.h"
#include "span/guard.h"
#include "support/dirty_test.h"
#include "support/drained_step.h"

enum { NODES = 32768, LARGE_WORDS = 1 << 15, VALUE = 0x5eed, SOME_CALLS = NODES / 16 };

struct node {
  uintptr_t value; /* no reference */
  struct node *next;
  struct node *other;
  uintptr_t more[5];
};

static midden_kind kind;
static struct node *list;
static uintptr_t *large; /* of the same kind: no reference in its first word */

static size_t calls_beside, calls_stopped; /* atomic; for small objects */

static void trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const uintptr_t *words = object;
  (void)argument;
  if (slot_bytes == sizeof(struct node))
    atomic_add_relaxed(world_is_stopped() ? &calls_stopped : &calls_beside, (size_t)1);
  for (size_t i = 1; i < slot_bytes / sizeof(uintptr_t); i++)
    midden_trace(tracer, (const void *)atomic_load_relaxed(&words[i]));
}

static struct node *node_new(struct node *next) {
  struct node *node = midden_alloc_kind(kind, sizeof *node);
  REQUIRE(node != NULL, "out of memory");
  node->value = VALUE;
  node->next = next;
  return node;
}

/* What is free is filled anew: a lost object would change. */
NOINLINE_TEST static void fill_free_memory(void) {
  for (int i = 0; i < 4 * NODES; i++) memset(midden_alloc_data(sizeof(struct node)), 0xdd, sizeof(struct node));
  for (int i = 0; i < 4 * NODES; i++) {
    struct node *node = node_new(NULL);
    node->value = 0;
  }
}

static bool is_whole(const struct node *node) {
  return midden_base((void *)(uintptr_t)node) == node && node->value == VALUE;
}

/* ---- a cycle ---- */

static void begin(void) {
  test_scrub_stack();
  midden_collect(); /* nothing is left to be swept */
  calls_beside = calls_stopped = 0;
  cycle_begin(&drained);
}

static void end(void) {
  uint64_t before = test_stats().collections;
  test_scrub_stack();
  cycle_go_on(&drained);
  cycle_end();
  REQUIRE(test_stats().collections > before, "no cycle ended");
}

/* ---- the program's side ---- */

static void what_was_not_written_is_not_read_in_the_stop(void **state) {
  (void)state;
  begin();
  end();
  assert_in_range(calls_beside, NODES, SIZE_MAX);
  assert_in_range(calls_stopped, 0, SOME_CALLS);
}

static struct node *middle(void) {
  struct node *node = list;
  for (int i = 0; i < NODES / 2; i++) node = node->next;
  return node;
}

NOINLINE_TEST static void store_young(void) {
  middle()->other = node_new(node_new(NULL));
  large[LARGE_WORDS / 2] = (uintptr_t)node_new(node_new(NULL));
}

static void what_is_stored_meanwhile_is_found(void **state) {
  (void)state;
  begin();
  store_young();
  end();
  fill_free_memory();
  const struct node *young = middle()->other;
  assert_true(is_whole(young) && is_whole(young->next));
  young = (const struct node *)large[LARGE_WORDS / 2];
  assert_true(is_whole(young) && is_whole(young->next));
  assert_in_range(calls_stopped, 0, SOME_CALLS);
}

NOINLINE_TEST static void hide_in_first_words(void) {
  struct node *lost = node_new(NULL);
  watched = midden_weak_new(lost);
  list->value = (uintptr_t)lost;
}

static void what_it_does_not_report_is_not_kept(void **state) {
  (void)state;
  begin();
  hide_in_first_words();
  end();
  assert_null(midden_weak_get(watched));
  list->value = VALUE;
}

static int set_up(void **state) {
  (void)state;
  struct midden_kind_options options = {.size = sizeof options, .name = "node", .trace = trace, .trace_beside = true};
  int number = midden_kind_new(&options);
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  kind = (midden_kind)number;
  for (int i = 0; i < NODES; i++) list = node_new(list);
  large = midden_alloc_kind(kind, LARGE_WORDS * sizeof *large);
  REQUIRE(large != NULL, "out of memory");
  return 0;
}

int main(void) {
  test_start("unit/dirty_beside");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* guarded objects are read in the stop alone */
  cycle_step_init(&drained);
  alarm(120);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_not_written_is_not_read_in_the_stop),
      cmocka_unit_test(what_is_stored_meanwhile_is_found),
      cmocka_unit_test(what_it_does_not_report_is_not_kept),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
