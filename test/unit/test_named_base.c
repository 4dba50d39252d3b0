/* A thread that named the base of its stack, as programs of the Boehm collector do, is stopped on its alternate signal stack:
 * its own stack counts all the same. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { ALTERNATE_BYTES = 64 << 10 };

static struct midden_weak *kept; /* a root */
static bool is_there, may_go_on; /* atomic */

static void spin(int signal) {
  (void)signal;
  atomic_store_release(&is_there, true);
  while (!atomic_load_acquire(&may_go_on)) continue;
}

NOINLINE_TEST static void hold_and_spin(void) {
  void *volatile object = midden_alloc(64);
  kept = midden_weak_new(object);
  test_scrub_stack();
  raise(SIGUSR1);
  REQUIRE(object != NULL && kept != NULL, "out of memory");
}

static void *run(void *unused) {
  (void)unused;
  stack_t alternate = {.ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES}, before;
  REQUIRE(sigaltstack(&alternate, &before) == 0, "sigaltstack");
  REQUIRE(midden_thread_attach_at(__builtin_frame_address(0)) == 0, "midden_thread_attach_at");
  hold_and_spin();
  midden_thread_detach();
  sigaltstack(&before, NULL);
  free(alternate.ss_sp);
  return NULL;
}

static void what_the_own_stack_holds_is_kept(void **state) {
  (void)state;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&is_there)) continue;
  midden_collect();
  bool is_kept = midden_weak_get(kept) != NULL;
  atomic_store_release(&may_go_on, true);
  pthread_join(thread, NULL);
  assert_true(is_kept);
}

/* ---- a base elsewhere, of a stack that nobody knows ---- */

static char elsewhere[4096];

static void *attach_elsewhere(void *unused) {
  (void)unused;
  REQUIRE(midden_thread_attach_at(elsewhere + sizeof elsewhere) == 0, "midden_thread_attach_at");
  struct mutator *self = mutator_self();
  REQUIRE(self->stack_base == (uintptr_t)elsewhere + sizeof elsewhere, "another base");
  REQUIRE(self->stack.start == self->stack.end, "the stack is taken for one of the system's");
  REQUIRE(midden_thread_detach() == 0, "midden_thread_detach");
  return NULL;
}

static void one_elsewhere_is_believed(void **state) {
  (void)state;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, attach_elsewhere, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
}

int main(void) {
  if (THREAD_SANITIZER) return TEST_SKIPPED; /* there no thread is stopped by a signal */
  struct midden_options options = {.size = sizeof(options), .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  struct sigaction action = {.sa_handler = spin, .sa_flags = SA_RESTART | SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_the_own_stack_holds_is_kept),
      cmocka_unit_test(one_elsewhere_is_believed),
  };
  return test_run_group(tests);
}
