/* midden_free beside a cycle where there is no memory to defer it: by a thread that cannot wait for the cycle, since it has the
 * collector's lock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/atomic.h"
#include "gc/deferred.h"
#include "span/mark_bits.h"
#include "support/heap_test.h"

int __wrap_deferred_add(uintptr_t object);

static size_t refused;

int __wrap_deferred_add(uintptr_t object) {
  (void)object;
  refused++;
  return -ENOMEM;
}

static void *word;

NOINLINE_TEST static void *free_beside_a_cycle(void *unused) {
  void *object = midden_alloc(64);
  word = object;
  REQUIRE(midden_weak_link(&word, object, MIDDEN_WEAK_BEFORE_FINALIZERS) == 0, "midden_weak_link");
  atomic_store_relaxed(&span_marking, true);
  midden_free(object);
  atomic_store_relaxed(&span_marking, false);
  return unused;
}

static void it_is_left_to_the_collector(void **state) {
  (void)state;
  midden_locked_call(free_beside_a_cycle, NULL);
  assert_int_equal(refused, 1);
  assert_null(word);
}

int main(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  alarm(20); /* a hang is a failure too */
  const struct CMUnitTest tests[] = {cmocka_unit_test(it_is_left_to_the_collector)};
  return test_run_group(tests);
}
