/* A thread that ended without detaching, as one does that leaves by the system call itself: the next stop, or handshake, finds that it
 * is not there.  Nothing is kept for its sake, of its stack or thread-local storage nothing is read, which may be another's by now;
 * and the fiber that it ran is lost. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sys/syscall.h>

#include "base/atomic.h"
#include "mutator/handshake.h"
#include "mutator/world.h"
#include "support/heap_test.h"

enum { SECONDS = 20, OBJECTS = 3, ALTERNATE_BYTES = 256 << 10, TIME_TO_SIGNAL_MS = 20 };

static struct midden_weak *weak[OBJECTS]; /* roots */
static struct midden_fiber *fiber;
static pid_t thread_id; /* atomic */
static _Thread_local void *volatile local;

NOINLINE_TEST static void *make(size_t i) {
  void *object = midden_alloc(64);
  weak[i] = midden_weak_new(object);
  REQUIRE(object != NULL && weak[i] != NULL, "out of memory");
  return object;
}

static void *end_here(void *unused) {
  void *volatile object = make(0);
  syscall(SYS_exit, 0);
  REQUIRE(object == NULL, "the thread goes on");
  return unused;
}

/* Where it was last seen is no stack of its any more. */
static void collect_here(int signal) {
  (void)signal;
  midden_collect();
}

static void collect_on_alternate_stack(void) {
  static char memory[ALTERNATE_BYTES];
  struct sigaction action = {.sa_handler = collect_here, .sa_flags = SA_ONSTACK};
  stack_t alternate = {.ss_sp = memory, .ss_size = sizeof memory};
  REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0 && sigaltstack(&alternate, NULL) == 0, "sigaltstack");
  raise(SIGUSR1);
}

static void *run(void *unused) {
  atomic_store_release(&thread_id, (pid_t)syscall(SYS_gettid));
  void *volatile object = make(1);
  local = make(2);
  collect_on_alternate_stack();
  midden_fiber_resume(fiber, NULL, NULL);
  REQUIRE(object == NULL, "the thread goes on");
  return unused;
}

/* Not joined: the C library would give its stack to the next thread. */
static void await_end(void) {
  while (atomic_load_acquire(&thread_id) == 0 || syscall(SYS_tgkill, getpid(), thread_id, 0) == 0) test_sleep_ms(1);
}

static int find_it_ended(void *mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(const enum midden_mode *)mode, .brief_stop_us = -1, .idle_collect_ms = -1};
  pthread_t thread;
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  fiber = midden_fiber_new(end_here, NULL, 0);
  REQUIRE(fiber != NULL, "out of memory");
  REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0, "pthread_create");
  await_end();
  midden_collect();
  for (size_t i = 0; i < OBJECTS; i++) REQUIRE(midden_weak_get(weak[i]) == NULL, "object %zu lives", i);
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == -EOWNERDEAD, "the fiber is in state %d", midden_fiber_state(fiber));
  midden_verify();
  pthread_join(thread, NULL);
  return 0;
}

/* ---- with the signal that was to stop it ---- */

static bool is_ready; /* atomic */

static void *end_with_signal(void *unused) {
  sigset_t all;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  atomic_store_release(&is_ready, true);
  while (!world_is_stopped() && atomic_load_acquire(&handshake_round) % 2 == 0) atomic_pause();
  test_sleep_ms(TIME_TO_SIGNAL_MS);
  syscall(SYS_exit, 0);
  return unused;
}

static int stop_it_as_it_ends(void *mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(const enum midden_mode *)mode, .brief_stop_us = -1, .idle_collect_ms = -1};
  pthread_t thread;
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  REQUIRE(pthread_create(&thread, NULL, end_with_signal, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&is_ready)) atomic_pause();
  midden_collect();
  pthread_join(thread, NULL);
  return 0;
}

int main(void) {
  test_start("unit/ended_thread");
  static enum midden_mode modes[] = {MIDDEN_MODE_STW, MIDDEN_MODE_BARRIER, MIDDEN_MODE_DIRTY};
  static const char *const names[] = {"world stopped", "barrier mode", "dirty-page mode"};
  for (size_t i = 0; i < TEST_COUNT_OF(modes); i++) {
    test_child_succeeds(names[i], find_it_ended, &modes[i], SECONDS);
    test_child_succeeds(names[i], stop_it_as_it_ends, &modes[i], SECONDS);
  }
  return 0;
}
