/* A stack that finds no room: what allocations of objects try is tried for it, too.  One collection was all, after which a large stack
 * was refused though idle ones of other sizes held the memory, or what the collection had found dead, unswept, behind pages that
 * were given back first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

/* Sanitizers multiply what a stack takes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FACTOR = 4 };
#else
enum { FACTOR = 1 };
#endif

enum {
  HEAP_MIB = 16 * FACTOR,
  SMALL_STACKS = 200, /* of 64 KiB, and their guards */
  WANTED_BYTES = 3 << 20,
  BLOCK_BYTES = 4096,
  BLOCKS = 14 * FACTOR * MIB / BLOCK_BYTES,
  BROKEN = 10 * FACTOR * MIB / BLOCK_BYTES, /* of these every second group, by their addresses, lives */
  GROUP_BYTES = 64 << 10
};

static struct midden_fiber *fibers[SMALL_STACKS]; /* static data: a root */
static void *blocks[BLOCKS];

static void *run(void *argument) { return argument; }

static void require_room(void) {
  struct midden_fiber *fiber = midden_fiber_new(run, NULL, WANTED_BYTES);
  REQUIRE(fiber != NULL, "a stack is refused");
  assert_int_equal(midden_fiber_free(fiber), 0);
  midden_release_memory();
}

static void idle_stacks_of_other_sizes_are_given_back(void **state) {
  (void)state;
  for (size_t i = 0; i < SMALL_STACKS; i++) assert_non_null(fibers[i] = midden_fiber_new(run, NULL, 0));
  for (size_t i = 0; i < SMALL_STACKS; i++) assert_int_equal(midden_fiber_free(fibers[i]), 0);
  memset(fibers, 0, sizeof fibers);
  require_room();
}

NOINLINE_TEST static void fill(void) {
  for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = midden_alloc_data(BLOCK_BYTES));
}

NOINLINE_TEST static void drop_most(void) {
  for (size_t i = 0; i < BLOCKS; i++) {
    if (i >= BROKEN || (uintptr_t)blocks[i] / GROUP_BYTES % 2 != 0) blocks[i] = NULL;
  }
}

static void all_that_is_dead_is_swept(void **state) {
  (void)state;
  fill();
  drop_most();
  test_scrub_stack();
  require_room();
  memset(blocks, 0, sizeof blocks);
}

static void more_than_there_is_is_refused(void **state) {
  (void)state;
  assert_null(midden_fiber_new(run, NULL, 2 * HEAP_MIB * MIB));
  assert_null(midden_fiber_new(run, NULL, SIZE_MAX));
  assert_null(midden_stack_alloc(SIZE_MAX));
}

static int run_in(void *mode) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = *(enum midden_mode *)mode,
                                   .max_heap_bytes = HEAP_MIB * MIB,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(idle_stacks_of_other_sizes_are_given_back),
                                     cmocka_unit_test(all_that_is_dead_is_swept),
                                     cmocka_unit_test(more_than_there_is_is_refused)};
  return test_run_group(tests);
}

static void run_mode(enum midden_mode mode) { test_child_succeeds("stacks in a small heap", run_in, &mode, 60); }

static void stacks_in_a_small_heap(void **state) {
  (void)state;
  test_in_each_mode(run_mode);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("unit/stack_shortage");
  const struct CMUnitTest tests[] = {cmocka_unit_test(stacks_in_a_small_heap)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
