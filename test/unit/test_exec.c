/* The signal that stops threads, and the program's own use of it: a program that becomes another by exec while one is on its
 * way to it lives on, a handler of its own is heard, and one that was there first keeps its signal. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "support/heap_test.h"

enum { SECONDS = 60, WAIT_MS = 20000 };

static const char self_path[] = "/proc/self/exe";
static const char became[] = "became-another";

static void *collect(void *unused) {
  midden_collect();
  return unused;
}

static bool is_pending(int signal) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, signal);
}

static void set_blocked(int signal, bool blocked) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* ---- exec ---- */

/* Its mask and what is pending stay. */
static int exec_while_asked(void *unused) {
  (void)unused;
  pthread_t thread;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  int signal = midden_suspend_signal();
  set_blocked(signal, true);
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  for (int ms = 0; !is_pending(signal); ms++) {
    REQUIRE(ms < WAIT_MS, "nobody sends signal %d", signal);
    usleep(1000);
  }
  char number[16];
  snprintf(number, sizeof number, "%d", signal);
  execl(self_path, self_path, became, number, (char *)NULL);
  return 1;
}

static int live_on(int signal) {
  if (!is_pending(signal)) return 2;
  set_blocked(signal, false);
  return is_pending(signal) ? 3 : 0;
}

static void exec_is_survived(void **state) {
  (void)state;
  test_child_succeeds("exec", exec_while_asked, NULL, SECONDS);
}

/* ---- handlers ---- */

static int heard; /* atomic; signals */

static void hear(int signal) {
  (void)signal;
  atomic_add_relaxed(&heard, 1);
}

static void *spin(void *quit) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  while (!atomic_load_acquire((bool *)quit)) atomic_pause();
  return NULL;
}

/* A thread runs, so a collection signals it. */
static void collect_with_another(void) {
  bool quit = false; /* atomic */
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, spin, &quit) == 0, "pthread_create");
  for (int i = 0; i < 20; i++) {
    midden_collect();
    usleep(1000);
  }
  atomic_store_release(&quit, true);
  pthread_join(thread, NULL);
}

static bool is_handled_by(int signal, void (*handler)(int)) {
  struct sigaction now;
  return sigaction(signal, NULL, &now) == 0 && now.sa_handler == handler;
}

static int handle_later(void *unused) {
  (void)unused;
  int taken = midden_suspend_signal();
  REQUIRE(taken == SIGURG, "threads are stopped by signal %d", taken);
  signal(taken, hear);
  collect_with_another();
  REQUIRE(!is_handled_by(taken, hear), "the library's handler is not back");
  REQUIRE(atomic_load_relaxed(&heard) == 0, "the program hears of %d stops", heard);
  kill(getpid(), taken);
  REQUIRE(atomic_load_relaxed(&heard) == 1, "the program has heard %d signals", heard);
  signal(taken, SIG_IGN);
  collect_with_another();
  REQUIRE(!is_handled_by(taken, SIG_IGN), "the library's handler is not back");
  kill(getpid(), taken);
  REQUIRE(atomic_load_relaxed(&heard) == 1, "a handler that is gone is called");
  return 0;
}

static int handle_before(void *unused) {
  (void)unused;
  signal(SIGURG, hear);
  int taken = midden_suspend_signal();
  REQUIRE(taken == SIGPWR, "threads are stopped by signal %d", taken);
  collect_with_another();
  raise(SIGURG);
  REQUIRE(atomic_load_relaxed(&heard) == 1, "the program has heard %d signals", heard);
  return 0;
}

static void handlers_are_heard(void **state) {
  (void)state;
  test_child_succeeds("a handler from later", handle_later, NULL, SECONDS);
  test_child_succeeds("a handler from before", handle_before, NULL, SECONDS);
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], became) == 0) return live_on(atoi(arguments[2]));
  test_start("test_exec");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exec_is_survived),
      cmocka_unit_test(handlers_are_heard),
  };
  return test_run_group(tests);
}
