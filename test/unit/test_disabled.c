/* Collection that is switched off: a heap past its goal stays due, and each refill of a thread's cache finds it so.  It asks
 * nobody for a cycle that would not run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/driver.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 512, GARBAGE_BYTES = 32 << 20 };

static unsigned requests;

bool __real_driver_request(struct mutator *self, enum collector_reason reason);
bool __wrap_driver_request(struct mutator *self, enum collector_reason reason);

bool __wrap_driver_request(struct mutator *self, enum collector_reason reason) {
  requests++;
  return __real_driver_request(self, reason);
}

static void make_garbage(void) {
  for (int i = 0; i < GARBAGE_BYTES / OBJECT_BYTES; i++) REQUIRE(midden_alloc(OBJECT_BYTES) != NULL, "out of memory");
}

static void no_cycle_is_asked_for_while_it_is_off(void **state) {
  (void)state;
  midden_disable();
  make_garbage();
  assert_int_equal(requests, 0);
  midden_enable();
  make_garbage();
  assert_true(requests > 0);
}

int main(void) {
  test_start("unit/disabled");
  REQUIRE(
      midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER}) == 0,
      "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(no_cycle_is_asked_for_while_it_is_off)};
  return test_run_group(tests);
}
