/* A thread that is on its alternate signal stack, whether it collects itself, stops by itself or is stopped: that stack is
 * scanned, and all of its own.
 *
 * The limit of the first thread's stack is lowered when the library has seen it: what may be read of that stack is less than
 * what it was known to be. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/handshake.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { ALTERNATE_BYTES = 1 << 20, LOWERED_BYTES = 4 << 20 };

static struct midden_weak *on_own, *on_alternate; /* roots */
static void (*to_do)(void);                       /* by the handler */
static void *first; /* a root; the first object has an address that the library itself loads */

/* ---- on two stacks ---- */

NOINLINE_TEST static void hold_and_call(struct midden_weak **weak, void (*next)(void)) {
  void *volatile object = midden_alloc(64);
  *weak = midden_weak_new(object);
  midden_alloc(64); /* or the next such object would be where this one ends, which refers to it too */
  test_scrub_stack();
  next();
  REQUIRE(object != NULL && *weak != NULL, "out of memory");
}

static void on_signal(int signal) {
  (void)signal;
  hold_and_call(&on_alternate, to_do);
}

static void be_signalled(void) { raise(SIGUSR1); }

static void do_with(void *memory) {
  stack_t alternate = {.ss_sp = memory, .ss_size = ALTERNATE_BYTES}, before;
  REQUIRE(memory != NULL && sigaltstack(&alternate, &before) == 0, "sigaltstack");
  hold_and_call(&on_own, be_signalled);
  sigaltstack(&before, NULL);
}

/* Also where the alternate stack is an array of a function's that is called further up; that one first, for the thread to have it when it
 * attaches. */
static void *do_on_two_stacks(void *unused) {
  void *memory = malloc(ALTERNATE_BYTES);
  char array[ALTERNATE_BYTES];
  do_with(array);
  do_with(memory);
  free(memory);
  return unused;
}

static void do_in_each_thread(void (*action)(void)) {
  pthread_t thread;
  to_do = action;
  do_on_two_stacks(NULL);
  midden_blocking_enter();
  REQUIRE(mutator_self()->alternate_stack.end == 0, "back on its own stack it counts as on the other");
  REQUIRE(pthread_create(&thread, NULL, do_on_two_stacks, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  midden_blocking_leave();
}

static void require_kept(void) {
  REQUIRE(midden_weak_get(on_own) != NULL, "an object on the thread's own stack is gone");
  REQUIRE(midden_weak_get(on_alternate) != NULL, "an object on the alternate stack is gone");
}

/* ---- what it does there ---- */

/* Copies of addresses may keep an object by chance. */
static void require_on_alternate(struct os_range seen) {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  REQUIRE(seen.start < here && here < seen.end && seen.end - seen.start == ALTERNATE_BYTES, "another stack");
}

static void collect(void) {
  test_collect_clean();
  require_kept();
  require_on_alternate(mutator_self()->alternate_stack);
}

static bool has_collected; /* atomic */

static void *collect_elsewhere(void *unused) {
  midden_collect();
  atomic_store_release(&has_collected, true);
  return unused;
}

static pthread_t start_to_collect(void) {
  pthread_t thread;
  atomic_store_release(&has_collected, false);
  REQUIRE(pthread_create(&thread, NULL, collect_elsewhere, NULL) == 0, "pthread_create");
  return thread;
}

static void *have_collected(void *unused) {
  pthread_join(start_to_collect(), NULL);
  return unused;
}

static void block(void) {
  midden_blocking_call(have_collected, NULL);
  require_kept();
  midden_blocking_enter();
  require_on_alternate(mutator_self()->alternate_stack);
  have_collected(NULL);
  midden_blocking_leave();
  require_kept();
}

static void be_stopped(void) {
  pthread_t thread = start_to_collect();
  while (!atomic_load_acquire(&has_collected)) atomic_pause();
  pthread_join(thread, NULL);
  require_kept();
}

/* ---- and what a handshake finds ---- */

static struct mutator *subject; /* atomic; in a critical section */
static struct os_range seen;    /* by the action, for that */

static void look(struct mutator *mutator) {
  if (mutator == atomic_load_acquire(&subject)) seen = mutator->alternate_stack;
}

static void *shake_hands(void *unused) {
  midden_thread_attach();
  struct mutator *self = mutator_self();
  while (atomic_load_acquire(&subject) == NULL) atomic_pause();
  collector_acquire(self);
  handshake_run(self, look, NULL);
  collector_release();
  return unused;
}

static void answer_by_itself(void) {
  struct mutator *self = mutator_self();
  pthread_t thread;
  atomic_store_release(&subject, (struct mutator *)NULL);
  seen = (struct os_range){0};
  REQUIRE(pthread_create(&thread, NULL, shake_hands, NULL) == 0, "pthread_create");
  mutator_enter(self);
  atomic_store_release(&subject, self);
  while (!atomic_load_relaxed(&self->stop_pending)) atomic_pause();
  mutator_leave(self);
  pthread_join(thread, NULL);
  require_on_alternate(seen);
}

/* ---- in each mode ---- */

static void lower_limit(void) {
  struct rlimit limit;
  REQUIRE(getrlimit(RLIMIT_STACK, &limit) == 0, "getrlimit");
  limit.rlim_cur = LOWERED_BYTES;
  REQUIRE(setrlimit(RLIMIT_STACK, &limit) == 0, "setrlimit");
}

static int run(void *mode) {
  struct midden_options options = {.size = sizeof(options),
                                   .mode = *(enum midden_mode *)mode,
                                   .brief_stop_us = -1,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  first = midden_alloc(64);
  lower_limit();
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  do_in_each_thread(collect);
  do_in_each_thread(block);
  do_in_each_thread(be_stopped);
  do_in_each_thread(answer_by_itself);
  return 0;
}

static void run_in_mode(enum midden_mode mode) { test_child_succeeds("alternate stack", run, &mode, 60); }

static void all_of_the_stack_is_scanned(void **state) {
  (void)state;
  test_in_each_mode(run_in_mode);
}

int main(void) {
  if (THREAD_SANITIZER) return TEST_SKIPPED; /* it hands signals on when it likes */
  const struct CMUnitTest tests[] = {cmocka_unit_test(all_of_the_stack_is_scanned)};
  return test_run_group(tests);
}
