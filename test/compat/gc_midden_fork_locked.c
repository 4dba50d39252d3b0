/* A fork by the thread that has the allocator's lock: parent and child go on with it, and let it go.  (The stock library waits for
 * itself.) */
#include <sys/wait.h>
#include <unistd.h>

#include "gc_check.h"

enum { SECONDS = 30 };

static void *nothing(void *argument) { return argument; }

static void *fork_inside(void *argument) {
  *(pid_t *)argument = fork();
  return GC_call_with_alloc_lock(nothing, argument); /* which may be nested */
}

static pid_t fork_in_call(void) {
  pid_t child = -1;
  CHECK(GC_call_with_alloc_lock(fork_inside, &child) == &child);
  return child;
}

static pid_t fork_between(void) {
  GC_alloc_lock();
  pid_t child = fork();
  GC_alloc_unlock();
  return child;
}

static void work(void) {
  GC_call_with_alloc_lock(nothing, NULL);
  GC_alloc_lock();
  GC_alloc_unlock();
  CHECK(GC_malloc(100) != NULL);
  GC_word before = GC_get_gc_no();
  GC_gcollect();
  CHECK(GC_get_gc_no() > before);
}

static void check_fork(pid_t (*fork_locked)(void)) {
  int status;
  pid_t child = fork_locked();
  if (child == 0) alarm(SECONDS); /* the parent's is not inherited */
  work();
  if (child == 0) _exit(0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK_EQUAL(status, 0);
}

int main(void) {
  alarm(SECONDS);
  GC_INIT();
  for (int i = 0; i < 3; i++) {
    check_fork(fork_in_call);
    check_fork(fork_between);
  }
  return 0;
}
