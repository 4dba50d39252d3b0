/* What a program allocates while a cycle is beside it decides how early the next one starts: so much room is left for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/assist.h"
#include "gc/cycle.h"
#include "support/cycle_steps.h"

enum { OBJECT_BYTES = 4096, WAY_BYTES = 1 << 30, LEAST_RUNWAY_BYTES = 4 << 20, RESERVED_BYTES = 256 << 20 };

/* The room before the goal at which the next cycle starts, where much of it is left. */
static size_t runway_after(size_t allocated_bytes) {
  cycle_begin(&cycle.read);
  for (size_t bytes = 0; bytes < allocated_bytes; bytes += OBJECT_BYTES)
    REQUIRE(midden_alloc_data(OBJECT_BYTES), "no memory");
  cycle_go_on(&cycle.read);
  cycle_end();
  return WAY_BYTES - (assist_trigger(WAY_BYTES, 0));
}

/* The heap is small: next to nothing is scanned, so nothing is learnt before the end of the cycle.  And a thread waits for these
 * cycles: as long as nothing is allocated beside them, they tell nothing, and much room is left. */
static void what_is_allocated_in_a_cycle_finds_room_in_the_next(void **state) {
  (void)state;
  for (size_t i = 0; i < 5; i++) assert_in_range(runway_after(0), WAY_BYTES / 3, WAY_BYTES / 2);
  for (size_t allocated = (size_t)16 << 20; allocated <= (size_t)64 << 20; allocated *= 2)
    assert_in_range(runway_after(allocated), allocated - allocated / 4, 2 * allocated + LEAST_RUNWAY_BYTES);
}

int main(void) {
  test_start("unit/assist_pace");
  cycle_init();
  collector.generation.choice = MIDDEN_GENERATIONS_OFF;      /* minor cycles have a pace of their own */
  REQUIRE(midden_reserve(RESERVED_BYTES) == 0, "no memory"); /* nobody rests since the heap is beyond its goal */
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_allocated_in_a_cycle_finds_room_in_the_next)};
  return test_run_group(tests);
}
