/* Barrier mode and the collector's own thread, in which the program is told that finalizers are ready and may run them: what
 * that thread has in thread-local storage is a root, and the slot that its tiny objects share lives, as any thread's.
 *
 * Where that thread cannot be had, whoever asks for a collection makes it.  The linker puts a refusal of this file (--wrap, see
 * cmake/tests.cmake) in the place of its attaching. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

static struct midden_weak *weak, *dropped;
static __thread void *local;
static void (*act)(void); /* in the notification */
static bool tiny_lives;

static void no_finalizer(void *object, void *argument) { (void)object, (void)argument; }

static void notify(void *unused) {
  (void)unused;
  midden_finalizers_run(SIZE_MAX);
  if (act != NULL) act();
  act = NULL;
}

NOINLINE_TEST static void make_ready(void) {
  REQUIRE(midden_finalizer_set(midden_alloc(32), no_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0,
          "midden_finalizer_set");
}

/* A cycle that ends with `action` in the notification. */
static void collect_and(void (*action)(void)) {
  act = action;
  make_ready();
  test_collect_clean();
  while (__atomic_load_n(&act, __ATOMIC_ACQUIRE) != NULL) {
    midden_blocking_enter();
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    midden_blocking_leave();
  }
}

static void keep_in_storage(void) {
  midden_store(&local, midden_alloc(64));
  midden_store(&weak, midden_weak_new(local));
  midden_store(&dropped, midden_weak_new(midden_alloc(64)));
}

static void what_its_storage_holds_is_kept(void **state) {
  (void)state;
  collect_and(keep_in_storage);
  test_collect_clean();
  assert_null(midden_weak_get(dropped));
  assert_non_null(midden_weak_get(weak));
}

static void alloc_tiny(void) { midden_alloc_data(8); }
static void alloc_tiny_again(void) { tiny_lives = midden_owns(midden_alloc_data(8)); }

static void the_rest_of_a_tiny_slot_is_kept(void **state) {
  (void)state;
  collect_and(alloc_tiny);
  test_collect_clean();
  collect_and(alloc_tiny_again);
  assert_true(tiny_lives);
}

/* ---- where it cannot attach ---- */

static bool attaching_fails; /* atomic */

/* The names are the linker's. */
int __real_mutator_attach_own(void);
int __wrap_mutator_attach_own(void);

/* When somebody waits for it already. */
int __wrap_mutator_attach_own(void) {
  if (!__atomic_load_n(&attaching_fails, __ATOMIC_ACQUIRE)) return __real_mutator_attach_own();
  test_sleep_ms(50);
  return -ENOMEM;
}

NOINLINE_TEST static void drop_one(void) { dropped = midden_weak_new(midden_alloc(64)); }

static void without_it_collections_are_made_all_the_same(void **state) {
  (void)state;
  drop_one();
  __atomic_store_n(&attaching_fails, true, __ATOMIC_RELEASE);
  test_collect_clean();
  __atomic_store_n(&attaching_fails, false, __ATOMIC_RELEASE);
  assert_null(midden_weak_get(dropped));
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  midden_set_finalizer_notify(notify, NULL);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_it_collections_are_made_all_the_same),
      cmocka_unit_test(what_its_storage_holds_is_kept),
      cmocka_unit_test(the_rest_of_a_tiny_slot_is_kept),
  };
  return test_run_group(tests);
}
