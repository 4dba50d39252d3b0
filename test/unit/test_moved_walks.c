/* What calls the program back again and again, in a fiber that another thread goes on with: from then on it enters critical sections
 * of that thread's.  It went on to use the first one's, which may be in one itself, or have ended.
 *
 * Linked with --wrap=mutator_enter_slow, by which each critical section begins while the gate is closed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { ENTRIES = 3 };

static unsigned entered, mistaken; /* critical sections; those of another thread */
static unsigned calls;
static void *kept[ENTRIES]; /* static data: a root */

void __wrap_mutator_enter_slow(struct mutator *self);

void __wrap_mutator_enter_slow(struct mutator *self) {
  __atomic_add_fetch(&entered, 1, __ATOMIC_RELAXED);
  if (self != mutator_self_if_attached()) __atomic_add_fetch(&mistaken, 1, __ATOMIC_RELAXED);
}

/* Moves at the first call. */
static void call_back(void) {
  if (calls++ != 0) return;
  midden_fiber_yield(NULL);
  atomic_store_seq_cst(&mutator_gate, UINT32_MAX); /* nobody waits for it here */
}

static void finalize(void *object, void *argument) {
  (void)object, (void)argument;
  call_back();
}

static bool visit_entry(void *key, void *value, void *argument) {
  (void)key, (void)value, (void)argument;
  call_back();
  return true;
}

static bool visit_bucket(const struct midden_profile_bucket *bucket, void *argument) {
  (void)bucket, (void)argument;
  call_back();
  return true;
}

static void *run_finalizers(void *unused) {
  (void)unused;
  midden_finalizers_run(ENTRIES);
  return NULL;
}

static void *walk_table(void *table) {
  midden_weak_table_each(table, visit_entry, NULL);
  return NULL;
}

static void *walk_profile(void *unused) {
  (void)unused;
  midden_profile_visit(visit_bucket, NULL);
  return NULL;
}

static void *resume(void *fiber) {
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == 0, "midden_fiber_resume");
  atomic_store_seq_cst(&mutator_gate, 0u);
  return NULL;
}

static void check_in_two_threads(midden_fiber_fn *function, void *argument) {
  pthread_t thread;
  calls = entered = mistaken = 0;
  struct midden_fiber *fiber = midden_fiber_new(function, argument, 0);
  resume(fiber);
  REQUIRE(pthread_create(&thread, NULL, resume, fiber) == 0, "pthread_create");
  pthread_join(thread, NULL);
  assert_in_range(calls, 2, UINT32_MAX);
  assert_in_range(entered, 1, UINT32_MAX);
  assert_int_equal(mistaken, 0);
}

static void finalizers(void **state) {
  (void)state;
  for (size_t i = 0; i < ENTRIES; i++) {
    void *object = midden_alloc(1);
    assert_int_equal(midden_finalizer_set(object, finalize, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), 0);
  }
  midden_finalizers_ready_all();
  check_in_two_threads(run_finalizers, NULL);
}

static void entries_of_a_weak_table(void **state) {
  (void)state;
  struct midden_weak_table *table = midden_weak_table_new();
  for (size_t i = 0; i < ENTRIES; i++) {
    kept[i] = midden_alloc(1);
    assert_int_equal(midden_weak_table_set(table, kept[i], NULL), 0);
  }
  check_in_two_threads(walk_table, table);
}

static void buckets_of_the_profile(void **state) {
  (void)state;
  assert_int_equal(midden_profile_start(1), 0);
  for (size_t i = 0; i < ENTRIES; i++) midden_alloc((i + 1) << 12);
  assert_int_equal(midden_profile_stop(), 0);
  check_in_two_threads(walk_profile, NULL);
}

int main(void) {
  test_start("unit/moved_walks");
  struct midden_options options = {.size = sizeof options, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {cmocka_unit_test(finalizers), cmocka_unit_test(entries_of_a_weak_table),
                                     cmocka_unit_test(buckets_of_the_profile)};
  return test_run_group(tests);
}
