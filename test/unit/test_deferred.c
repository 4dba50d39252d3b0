/* What waits to be freed until a cycle beside the program is over: all of it is freed then, and what so much waiting has taken of memory
 * does not stay, nor is it looked through for little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

enum { OBJECTS = 300000, OBJECT_BYTES = 48, LITTLE_BYTES = 1 << 20 };

static void *objects[OBJECTS]; /* static data: roots */

static void make_objects(size_t count) {
  for (size_t i = 0; i < count; i++) {
    void *object = midden_alloc(OBJECT_BYTES);
    REQUIRE(object != NULL, "out of memory");
    midden_store(&objects[i], object);
  }
}

static size_t special_bytes(void) { return test_stats().metadata_specials; }

static size_t waiting_bytes; /* special_bytes at its most; another cycle may follow at any time */

static void free_beside_a_cycle(size_t count) {
  make_objects(count);
  uint64_t before = test_stats().objects_freed_explicitly;
  cycle_begin(&cycle.read);
  for (size_t i = 0; i < count; i++) {
    void *object = objects[i];
    midden_store(&objects[i], NULL);
    midden_free(object);
  }
  waiting_bytes = special_bytes();
  cycle_go_on(&cycle.read);
  cycle_end();
  struct midden_stats stats = test_stats();
  REQUIRE(stats.objects_freed_explicitly == before + count && stats.freed_waiting == 0,
          "%zu were freed, and %zu bytes wait", (size_t)(stats.objects_freed_explicitly - before),
          (size_t)stats.freed_waiting);
}

static void much_waiting_leaves_nothing(void **state) {
  (void)state;
  free_beside_a_cycle(1);
  size_t before = special_bytes();
  free_beside_a_cycle(OBJECTS);
  REQUIRE(waiting_bytes > before + LITTLE_BYTES, "%zu bytes for so many", waiting_bytes - before);
  free_beside_a_cycle(1);
  REQUIRE(special_bytes() < before + LITTLE_BYTES, "%zu bytes are left", special_bytes() - before);
  free_beside_a_cycle(OBJECTS / 10);
  free_beside_a_cycle(1);
}

int main(void) {
  test_start("unit/deferred");
  cycle_init();
  const struct CMUnitTest tests[] = {cmocka_unit_test(much_waiting_leaves_nothing)};
  return test_run_group(tests);
}
