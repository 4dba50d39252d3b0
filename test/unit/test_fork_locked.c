/* A fork inside midden_locked_call, in which everything may be called: parent and child go on, and both collect afterwards; also
 * where the lock is on loan from a cycle beside the program. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "support/heap_test.h"

enum { SECONDS = 60, FORKS = 30, NODES = 100000, LINGER_MS = 10 };

struct node {
  struct node *next;
};

static bool is_over;     /* atomic */
static unsigned started; /* atomic; threads made here that run */

/* A thread that begins may hold locks of a sanitizer's, which a child would never get. */
static void start_thread(pthread_t *thread, void *(*run)(void *)) {
  unsigned before = atomic_load_acquire(&started);
  REQUIRE(pthread_create(thread, NULL, run, NULL) == 0, "pthread_create");
  while (atomic_load_acquire(&started) == before) usleep(100);
}

/* A thread that waits for a lock has all signals blocked: no alarm would come. */
static void *watch(void *unused) {
  atomic_add_acq_rel(&started, 1U);
  sleep(SECONDS);
  REQUIRE(atomic_load_acquire(&is_over), "somebody waits for ever");
  return unused;
}

static void *fork_here(void *unused) {
  (void)unused;
  pid_t child = fork();
  return (void *)(intptr_t)child;
}

static void fork_inside(void) {
  pid_t child = (pid_t)(intptr_t)midden_locked_call(fork_here, NULL);
  REQUIRE(child >= 0, "fork");
  REQUIRE(!collector_is_mine(mutator_self()), "the lock counts as this thread's after the call");
  uint64_t before = test_stats().collections;
  if (child == 0) {
    midden_collect();
    midden_verify();
    _exit(test_stats().collections > before ? 0 : 1);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
  assert_int_equal(status, 0);
}

static void parent_and_child_collect(void **state) {
  (void)state;
  fork_inside();
  uint64_t before = test_stats().collections;
  midden_collect();
  assert_true(test_stats().collections > before);
}

static void *see_no_collection(void *unused) {
  uint64_t before = test_stats().collections;
  test_sleep_ms(LINGER_MS);
  REQUIRE(test_stats().collections == before, "a cycle has ended in a locked call");
  return unused;
}

static void *collect_all_the_time(void *unused) {
  midden_collect();
  atomic_add_acq_rel(&started, 1U);
  while (!atomic_load_acquire(&is_over)) midden_collect();
  return unused;
}

static void so_they_do_beside_a_cycle(void **state) {
  (void)state;
  struct node *volatile first = NULL;
  for (int i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(64);
    node->next = first;
    first = node;
  }
  pthread_t thread;
  start_thread(&thread, collect_all_the_time);
  for (int i = 0; i < FORKS; i++) {
    fork_inside();
    midden_locked_call(see_no_collection, NULL);
  }
  atomic_store_release(&is_over, true);
  midden_blocking_enter();
  pthread_join(thread, NULL);
  midden_blocking_leave();
  assert_non_null(first);
}

/* ---- other threads' caches ---- */

enum { OBJECT_BYTES = 100, OBJECTS = 10000, CHILD_COLLECTIONS = 3 };

static bool may_end; /* atomic */

static void *allocate_and_wait(void *unused) {
  for (int i = 0; i < OBJECTS; i++) REQUIRE(midden_alloc(OBJECT_BYTES) != NULL, "out of memory");
  midden_blocking_enter();
  atomic_add_acq_rel(&started, 1U);
  while (!atomic_load_acquire(&may_end)) usleep(1000);
  midden_blocking_leave();
  return unused;
}

static void *collect_some(void *unused) {
  for (int i = 0; i < CHILD_COLLECTIONS; i++) midden_collect();
  atomic_store_release(&may_end, true);
  return unused;
}

/* What a thread had that is not in the child counts on there, and its spans are swept; and who forked has a number that others know. */
static void be_child(const struct midden_stats *before, const struct node *kept) {
  struct midden_stats now = test_stats();
  REQUIRE(now.allocated >= before->allocated && now.objects_allocated >= before->objects_allocated,
          "allocations are forgotten");
  for (int i = 0; i < CHILD_COLLECTIONS; i++) midden_collect();
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect_some, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&may_end)) continue;
  pthread_join(thread, NULL);
  REQUIRE(midden_owns(kept), "what the forking thread holds is gone");
  midden_verify();
  _exit(0);
}

static void what_others_had_is_taken_over(void **state) {
  (void)state;
  pthread_t thread;
  int status;
  struct node *volatile kept = midden_alloc(OBJECT_BYTES);
  start_thread(&thread, allocate_and_wait);
  struct midden_stats before = test_stats();
  pid_t child = fork();
  REQUIRE(child >= 0, "fork");
  if (child == 0) be_child(&before, kept);
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
  atomic_store_release(&may_end, true);
  pthread_join(thread, NULL);
  assert_int_equal(status, 0);
}

int main(void) {
  struct midden_options options = {
      .size = sizeof(options), .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  pthread_t thread;
  start_thread(&thread, watch);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parent_and_child_collect),
      cmocka_unit_test(what_others_had_is_taken_over),
      cmocka_unit_test(so_they_do_beside_a_cycle),
  };
  return test_run_group(tests);
}
