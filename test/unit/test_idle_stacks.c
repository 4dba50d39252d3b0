/* Stacks of fibers that have ended wait for other fibers.  Where memory has run out they serve for objects, too; in each mode. */
#include "midden/barrier.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)
enum { FIBERS = 200, STACK_BYTES = 64 << 10, SECONDS = 60 };

static struct midden_fiber *fibers[FIBERS]; /* static data: roots */

static void *nothing(void *argument) { return argument; }

/* As many as the heap has room for. */
static void run_fibers(void) {
  for (size_t i = 0; i < FIBERS && (fibers[i] = midden_fiber_new(nothing, NULL, STACK_BYTES)) != NULL; i++) continue;
  for (size_t i = 0; i < FIBERS && fibers[i] != NULL; i++)
    REQUIRE(midden_fiber_resume(fibers[i], NULL, NULL) == 0, "midden_fiber_resume");
}

static int allocate_beside_idle_stacks(void *mode) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = *(const enum midden_mode *)mode,
                                   .max_heap_bytes = 16 * MIB,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  run_fibers();
  REQUIRE(test_stats().stacks > 8 * MIB, "%zu bytes of stacks", (size_t)test_stats().stacks);
  void *volatile large = midden_alloc_data(3 * MIB);
  REQUIRE(large != NULL, "no room for a large object");
  midden_verify();
  midden_free(large);
  run_fibers();
  for (size_t bytes = 0; bytes < 8 * MIB; bytes += 1024)
    REQUIRE(midden_alloc_root(1000) != NULL, "no room for %zu bytes", bytes);
  midden_verify();
  return 0;
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("unit/idle_stacks");
  static enum midden_mode modes[] = {MIDDEN_MODE_STW, MIDDEN_MODE_BARRIER, MIDDEN_MODE_DIRTY};
  static const char *const names[] = {"world stopped", "barrier mode", "dirty-page mode"};
  for (size_t i = 0; i < TEST_COUNT_OF(modes); i++)
    test_child_succeeds(names[i], allocate_beside_idle_stacks, &modes[i], SECONDS);
  return 0;
}
