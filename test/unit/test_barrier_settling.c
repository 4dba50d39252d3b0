/* Barrier mode, weak references and ephemerons where all is marked and nothing is cleared yet, on a forced schedule: what is dead is
 * handed out no more, and what lives is, also where the address lies inside an object.
 *
 * Linked with --wrap=settle_dead_running, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/settle.h"
#include "support/cycle_steps.h"

enum { BYTES = 256, INSIDE = 160 };

static struct cycle_step settling; /* marking is over; what is dead is not settled */
static struct midden_weak *to_dead, *to_living;
static struct midden_ephemeron *pair; /* of a key that is dead */
static char *living;

void __real_settle_dead_running(const struct settle_markers *markers);
void __wrap_settle_dead_running(const struct settle_markers *markers);

void __wrap_settle_dead_running(const struct settle_markers *markers) {
  cycle_wait_at(&settling);
  __real_settle_dead_running(markers);
}

/* Not the first of its span, whose address many a frame holds. */
NOINLINE_TEST static void make(void) {
  REQUIRE(midden_alloc(BYTES) != NULL, "out of memory");
  void *dead = midden_alloc(BYTES);
  midden_store(&to_dead, midden_weak_new(dead));
  midden_store(&pair, midden_ephemeron_new(dead, midden_alloc(64)));
  REQUIRE(midden_alloc(BYTES) != NULL, "out of memory");
  midden_store(&living, midden_alloc(BYTES));
  midden_store(&to_living, midden_weak_new(living + INSIDE));
  REQUIRE(to_dead != NULL && pair != NULL && to_living != NULL, "out of memory");
}

static void the_living_are_handed_out_and_no_others(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  cycle_begin(&settling);
  assert_null(midden_weak_get(to_dead));
  assert_null(midden_ephemeron_key(pair));
  assert_null(midden_ephemeron_value(pair));
  assert_ptr_equal(midden_weak_get(to_living), living + INSIDE);
  cycle_go_on(&settling);
  cycle_end();
  assert_null(midden_weak_get(to_dead));
  assert_ptr_equal(midden_weak_get(to_living), living + INSIDE);
}

int main(void) {
  cycle_init();
  cycle_step_init(&settling);
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_living_are_handed_out_and_no_others),
  };
  return test_run_group(tests);
}
