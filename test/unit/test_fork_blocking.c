/* A thread that said it blocks forks while others hold the locks that a fork takes: it is safe still, before and after, in both processes.
 * The collector's lock is held by a cycle beside the program, at a step where it is not on loan. */
#include "base/atomic.h"
#include "mutator/mutator.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { WAIT_MS = 50, SECONDS = 20, OBJECT_BYTES = 4 << 20 };

static bool is_safe(void) { return atomic_load_acquire(&mutator_self()->state) == MUTATOR_SAFE; }

/* True if all is well here and in the child. */
static bool fork_blocking(void) {
  int status;
  midden_blocking_enter();
  pid_t child = fork();
  REQUIRE(child >= 0, "fork");
  bool was_safe = is_safe();
  midden_blocking_leave();
  if (child == 0) {
    if (TEST_CHILD_MAY_COLLECT) midden_collect();
    _exit(was_safe ? 0 : 1);
  }
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
  return was_safe && status == 0;
}

static void *go_on_after_a_while(void *unused) {
  test_sleep_ms(WAIT_MS);
  cycle_go_on(&cycle.read);
  return unused;
}

static void *object; /* a root */

static void beside_a_cycle(void) {
  pthread_t thread;
  object = midden_alloc(OBJECT_BYTES); /* a small heap is marked in a stop */
  cycle_begin(&cycle.read);
  REQUIRE(pthread_create(&thread, NULL, go_on_after_a_while, NULL) == 0, "pthread_create");
  bool well = fork_blocking();
  cycle_end();
  pthread_join(thread, NULL);
  REQUIRE(well, "a thread that forks while it blocks is not safe then");
}

static bool is_held; /* atomic */

static void *hold_list(void *unused) {
  lock_acquire(&mutator_list_lock);
  atomic_store_release(&is_held, true);
  test_sleep_ms(WAIT_MS);
  lock_release(&mutator_list_lock);
  return unused;
}

static void while_threads_come_and_go(void) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, hold_list, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&is_held)) atomic_pause();
  bool well = fork_blocking();
  pthread_join(thread, NULL);
  REQUIRE(well, "a thread that forks while it blocks is not safe then");
}

static int in_barrier_mode(void *unused) {
  (void)unused;
  cycle_init();
  beside_a_cycle();
  while_threads_come_and_go();
  return 0;
}

static int in_dirty_page_mode(void *unused) {
  (void)unused;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  beside_a_cycle();
  while_threads_come_and_go();
  return 0;
}

int main(void) {
  test_start("unit/fork_blocking");
  test_child_succeeds("barrier mode", in_barrier_mode, NULL, SECONDS);
  if (test_writes_are_told()) test_child_succeeds("dirty-page mode", in_dirty_page_mode, NULL, SECONDS);
  return 0;
}
