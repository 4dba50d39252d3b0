/* Barrier mode without memory for grey objects, on a forced schedule: the last white object that is reachable waits in the
 * main thread's record of its stores.  The handshake at the end of marking marks it, and has no place to note it but the range
 * that is to be scanned again: what it refers to must be found all the same. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/work.h"
#include "midden/barrier.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

static struct {
  bool waits; /* behind the next marking of the roots */
  sem_t begun, stored, over;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  bool all = __real_roots_visit_running(self, visit, argument);
  if (plan.waits) {
    plan.waits = false;
    sem_post(&plan.begun);
    await(&plan.stored);
  }
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

/* ---- the program's side ---- */

static void **holder; /* holder[0] -> a node, whose first word refers to the object */
static struct midden_weak *weak, *dropped;
static uintptr_t hidden; /* the node */

NOINLINE_TEST static void make(void) {
  void **node = midden_alloc(64), *object = midden_alloc(64);
  midden_store(&node[0], object);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], node);
  midden_store(&weak, midden_weak_new(object));
  midden_store(&dropped, midden_weak_new(midden_alloc(64)));
}

/* From here on the thread alone holds the node. */
NOINLINE_TEST static void load_and_clear(void) {
  hidden = test_hide(holder[0]);
  midden_store(&holder[0], NULL);
}

NOINLINE_TEST static bool is_whole(void) {
  void **node = test_unhide(hidden);
  return midden_owns(node) && node[0] != NULL && midden_weak_get(weak) == node[0];
}

NOINLINE_TEST static bool is_dropped_gone(void) { return midden_weak_get(dropped) == NULL; }

static void take_all_buffers(void) {
  work_limit_buffers(1);
  while (work_get_empty() != NULL) continue;
}

static void what_overflows_in_the_last_handshake_is_scanned(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  take_all_buffers();
  plan.waits = true;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.begun);
  load_and_clear();
  test_scrub_stack();
  sem_post(&plan.stored);
  await(&plan.over);
  pthread_join(thread, NULL);
  assert_true(is_whole());
  assert_true(is_dropped_gone());
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_init(&plan.begun, 0, 0);
  sem_init(&plan.stored, 0, 0);
  sem_init(&plan.over, 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_overflows_in_the_last_handshake_is_scanned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
