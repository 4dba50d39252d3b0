/* A thread that ended without detaching, as one does that leaves by the system call itself: the next stop, or handshake, finds that it
 * is not there, or the next collection where it was in a call that blocks.  Nothing is kept for its sake, of its stack or thread-local storage nothing is read, which may be another's by now;
 * the fiber that it ran is lost, and a stack of the program's own that it was on is free again. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>

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

/* ---- in a call that blocks, or on a stack of the program's own ---- */

NOINLINE_TEST static void *end_blocking(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  void *volatile object = make(0);
  atomic_store_release(&thread_id, (pid_t)syscall(SYS_gettid));
  midden_blocking_enter();
  syscall(SYS_exit, 0);
  REQUIRE(object == NULL, "the thread goes on");
  return unused;
}

/* Its record is found at the beginning of a collection. */
static int find_it_ended_where_it_blocks(void *mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(const enum midden_mode *)mode, .brief_stop_us = -1, .idle_collect_ms = -1};
  pthread_t thread;
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  REQUIRE(pthread_create(&thread, NULL, end_blocking, NULL) == 0, "pthread_create");
  await_end();
  REQUIRE(test_stats().threads == 2, "%zu threads", test_stats().threads);
  midden_collect();
  REQUIRE(midden_weak_get(weak[0]) == NULL, "the object lives");
  REQUIRE(test_stats().threads == 1, "%zu threads", test_stats().threads);
  midden_verify();
  pthread_join(thread, NULL);
  return 0;
}

static struct midden_stack *stack;
static bool ends_by_exit, stays;

NOINLINE_TEST static void end_on_stack(void) {
  midden_stack_switch_end();
  void *volatile object = make(0);
  atomic_store_release(&thread_id, (pid_t)syscall(SYS_gettid));
  while (stays) pause();
  if (ends_by_exit) pthread_exit(NULL);
  syscall(SYS_exit, 0);
  REQUIRE(object == NULL, "the thread goes on");
}

static void *switch_to_stack(void *unused) {
  static ucontext_t there, here;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  getcontext(&there);
  there.uc_stack.ss_sp = midden_stack_low(stack);
  there.uc_stack.ss_size = (size_t)((char *)midden_stack_high(stack) - (char *)midden_stack_low(stack));
  makecontext(&there, end_on_stack, 0);
  midden_stack_switch_begin(NULL, stack);
  swapcontext(&here, &there);
  return unused;
}

/* As in the child of a fork, where the thread is not. */
static int find_stack_empty_in_child(void *mode) {
  struct midden_options options = {.size = sizeof options, .mode = *(const enum midden_mode *)mode};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  pthread_t thread;
  stays = true;
  stack = midden_stack_alloc(0);
  REQUIRE(stack != NULL && pthread_create(&thread, NULL, switch_to_stack, NULL) == 0, "no thread");
  while (atomic_load_acquire(&thread_id) == 0) test_sleep_ms(1);
  REQUIRE(midden_stack_free(stack) == -EBUSY, "a stack is freed on which a thread runs");
  pid_t child = fork();
  REQUIRE(child >= 0, "fork");
  if (child == 0) {
    midden_collect();
    _exit(midden_stack_free(stack) == 0 ? 0 : 1);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
  REQUIRE(status == 0, "the child ends with %#x", (unsigned)status);
  return 0;
}

/* Nothing is on it any more, and it may be freed. */
static int find_stack_empty(void *mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(const enum midden_mode *)mode, .brief_stop_us = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  for (int i = 0; i < 2; i++) {
    pthread_t thread;
    ends_by_exit = i == 0; /* a stack that was left by the system call is for no other thread */
    stack = midden_stack_alloc(0);
    REQUIRE(stack != NULL, "out of memory");
    atomic_store_release(&thread_id, 0);
    REQUIRE(pthread_create(&thread, NULL, switch_to_stack, NULL) == 0, "pthread_create");
    await_end();
    midden_collect();
    REQUIRE(midden_weak_get(weak[0]) == NULL, "the object lives");
    REQUIRE(midden_stack_free(stack) == 0, "a thread runs on it still");
    midden_verify();
    pthread_join(thread, NULL);
  }
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
    test_child_succeeds(names[i], find_it_ended_where_it_blocks, &modes[i], SECONDS);
    test_child_succeeds(names[i], find_stack_empty, &modes[i], SECONDS);
    test_child_succeeds(names[i], find_stack_empty_in_child, &modes[i], SECONDS);
    test_child_succeeds(names[i], stop_it_as_it_ends, &modes[i], SECONDS);
  }
  return 0;
}
