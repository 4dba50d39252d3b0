/* os: the files that the library writes, in the midst of a program that did not ask for it: what becomes of them is told by
 * the answer alone, by no signal and by no thread's end. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/os.h"

enum { LIMIT_BYTES = 4096 };

static char path[] = "/tmp/test_os_files.XXXXXX";
static char data[2 * LIMIT_BYTES];

static int set_up(void **state) {
  (void)state;
  os_init();
  int file = mkstemp(path);
  close(file);
  return file < 0;
}

static int tear_down(void **state) {
  (void)state;
  return unlink(path);
}

static bool is_pending(void) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ);
}

static bool is_blocked(void) {
  sigset_t blocked;
  return pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0 && sigismember(&blocked, SIGXFSZ);
}

static int write_too_much(void) {
  struct stat status;
  if (os_create_file(path) != 0) return 1;
  if (os_write_file(path, data, LIMIT_BYTES, 0) != 0) return 2;
  if (os_write_file(path, data, 1, LIMIT_BYTES) != -EFBIG) return 3;
  if (os_write_file(path, data, sizeof data, 1) != -EFBIG) return 4;
  if (os_write_mappings(path, LIMIT_BYTES - 1) != -EFBIG) return 5;
  return stat(path, &status) == 0 && status.st_size == LIMIT_BYTES ? 0 : 6;
}

static int grow_beyond_the_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return 10;
  limit.rlim_cur = LIMIT_BYTES;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 11;
  int error = write_too_much();
  return error != 0 ? error : is_pending() || is_blocked() ? 12 : 0;
}

static int grow_while_one_is_pending(void) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &mask, NULL);
  raise(SIGXFSZ);
  int error = grow_beyond_the_limit();
  return error != 12 ? 20 + error : is_pending() && is_blocked() ? 0 : 21;
}

static void run_in_child(int (*body)(void)) {
  int status;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(body());
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void test_limit_of_size(void **state) {
  (void)state;
  run_in_child(grow_beyond_the_limit);
}

/* The program's own signal stays. */
static void test_limit_of_size_and_a_signal(void **state) {
  (void)state;
  run_in_child(grow_while_one_is_pending);
}

static void *write_while_cancelled(void *reached) {
  pthread_cancel(pthread_self());
  assert_int_equal(os_create_file(path), 0);
  assert_int_equal(os_write_file(path, data, LIMIT_BYTES, 0), 0);
  assert_int_equal(os_write_mappings(path, LIMIT_BYTES), 0);
  *(bool *)reached = true;
  pthread_testcancel();
  return NULL;
}

static void test_cancelled_thread(void **state) {
  (void)state;
  pthread_t thread;
  bool reached = false;
  void *result;
  assert_int_equal(pthread_create(&thread, NULL, write_while_cancelled, &reached), 0);
  assert_int_equal(pthread_join(thread, &result), 0);
  assert_true(reached);
  assert_ptr_equal(result, PTHREAD_CANCELED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_limit_of_size),
      cmocka_unit_test(test_limit_of_size_and_a_signal),
      cmocka_unit_test(test_cancelled_thread),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
