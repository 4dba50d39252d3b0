/* Objects that wait to be freed until a cycle is over: each is freed once, whatever places they have in the table; one that waits is
 * known, and counts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/deferred.h"
#include "mutator/mutator.h"
#include "span/object.h"
#include "support/heap_test.h"

enum { OBJECTS = 5000, BYTES = 64 };

static uintptr_t objects[OBJECTS];
static size_t freed[OBJECTS], unknown;

static void note_freed(struct mutator *self, uintptr_t object) {
  REQUIRE(self->critical != 0, "no critical section");
  size_t i = 0;
  while (i < OBJECTS && objects[i] != object) i++;
  if (i < OBJECTS) {
    freed[i]++;
  } else {
    unknown++;
  }
}

/* Neighbours would each have a place of their own in the table. */
NOINLINE_TEST static uintptr_t make(struct rng *rng) {
  for (size_t others = rng_below(rng, 16); others > 0; others--) midden_alloc(BYTES);
  return (uintptr_t)midden_alloc(BYTES);
}

static int add(uintptr_t object) {
  struct mutator *self = mutator_self();
  mutator_enter(self);
  int error = deferred_add(object);
  mutator_leave(self);
  return error;
}

static void each_is_freed_once(void **state) {
  (void)state;
  struct rng rng = {1};
  size_t bytes = 0;
  for (size_t i = 0; i < OBJECTS; i++) {
    objects[i] = make(&rng);
    bytes += span_slot_bytes(object_span(objects[i]));
    assert_int_equal(add(objects[i]), 0);
  }
  assert_int_equal(deferred_bytes(), bytes);
  for (size_t i = 0; i < OBJECTS; i++) assert_int_equal(add(objects[i]), -EEXIST);
  assert_int_equal(deferred_bytes(), bytes);
  deferred_run(mutator_self());
  for (size_t i = 0; i < OBJECTS; i++) assert_int_equal(freed[i], 1);
  assert_int_equal(unknown, 0);
  assert_int_equal(deferred_bytes(), 0);
}

int main(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  deferred_free = note_freed;
  alarm(20); /* a hang is a failure too */
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_is_freed_once)};
  return test_run_group(tests);
}
