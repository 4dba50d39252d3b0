/* Dirty-page mode: the heap is verified inside midden_locked_call while a cycle beside the program has lent its lock, between
 * two slices of marking: what is marked so far is no mistake. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "support/dirty_test.h"

enum { NODES = 200000, TRIES = 2000 };

struct node {
  struct node *next;
};

static bool is_over; /* atomic */

static void *collect(void *unused) {
  while (!atomic_load_acquire(&is_over)) midden_collect();
  return unused;
}

static void *verify(void *unused) {
  (void)unused;
  if (collector_phase() != COLLECTOR_MARK) return NULL;
  midden_verify();
  return &is_over;
}

static void marks_of_a_cycle_are_no_mistake(void **state) {
  (void)state;
  struct node *volatile first = NULL;
  for (int i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(64);
    node->next = first;
    first = node;
  }
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  bool is_verified = false;
  for (int i = 0; i < TRIES && !is_verified; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 100000 + i % 20 * 50000},
              NULL); /* between cycles it would have the lock itself */
    is_verified = midden_locked_call(verify, NULL) != NULL;
  }
  atomic_store_release(&is_over, true);
  midden_blocking_enter();
  pthread_join(thread, NULL);
  midden_blocking_leave();
  midden_verify();
  assert_true(is_verified);
  assert_non_null(first);
}

int main(void) {
  test_start("test_verify_marking");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  struct midden_options options = {
      .size = sizeof(options), .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(marks_of_a_cycle_are_no_mistake)};
  return test_run_group(tests);
}
