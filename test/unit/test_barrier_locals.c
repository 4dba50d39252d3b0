/* Barrier mode and a local variable that another thread reads, on a forced schedule: a thread that was scanned loads a reference
 * from a variable of one that was not, and that one then clears the variable and is scanned.  By the rule of midden/barrier.h it
 * does so by midden_store, as the variable is not its own alone. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

static struct {
  bool waits; /* before the stacks are scanned */
  sem_t armed, begins, shared, loaded, ends, over;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

bool __real_roots_learn(struct mutator *self);
bool __wrap_roots_learn(struct mutator *self);

bool __wrap_roots_learn(struct mutator *self) {
  bool learned = __real_roots_learn(self);
  if (plan.waits) {
    plan.waits = false;
    sem_post(&plan.armed);
    await(&plan.begins);
  }
  return learned;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

static void block_handshakes(bool block) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, midden_suspend_signal());
  pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void *volatile *shared; /* a local variable of the main thread */
static uintptr_t hidden;

/* Holds what it has loaded on its stack alone: hidden, as if in a register that was scanned before. */
static void *load(void *unused) {
  (void)unused;
  while (!cache_is_black(&mutator_self()->cache)) {
    midden_blocking_enter();
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    midden_blocking_leave();
  }
  await(&plan.shared);
  hidden = test_hide(*shared);
  sem_post(&plan.loaded);
  await(&plan.ends);
  return NULL;
}

NOINLINE_TEST static void *new_object(void) {
  midden_alloc(64);
  return midden_alloc(64);
}

NOINLINE_TEST static void share_and_clear(void) {
  void *volatile local = new_object();
  shared = &local;
  sem_post(&plan.shared);
  await(&plan.loaded);
  midden_store((void **)&local, NULL);
}

static void what_another_thread_has_loaded_is_kept(void **state) {
  (void)state;
  pthread_t loader, collector;
  plan.waits = true;
  REQUIRE(pthread_create(&collector, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.armed);
  block_handshakes(true);
  sem_post(&plan.begins);
  REQUIRE(pthread_create(&loader, NULL, load, NULL) == 0, "pthread_create");
  share_and_clear();
  test_scrub_stack();
  block_handshakes(false);
  await(&plan.over);
  assert_true(midden_owns(test_unhide(hidden)));
  sem_post(&plan.ends);
  pthread_join(loader, NULL);
  pthread_join(collector, NULL);
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_t *all[] = {&plan.armed, &plan.begins, &plan.shared, &plan.loaded, &plan.ends, &plan.over};
  for (size_t i = 0; i < TEST_COUNT_OF(all); i++) sem_init(all[i], 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_another_thread_has_loaded_is_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
