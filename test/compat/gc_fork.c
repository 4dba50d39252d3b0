/* Fork: the child has a heap that works, with threads in the parent and without, handled by itself or by the program. */
#include <sys/wait.h>
#include <unistd.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

enum { LENGTH = 20000 };

struct node {
  struct node *next;
  long value;
};

static struct node *make_list(void) {
  struct node *list = NULL;
  for (long i = 0; i < LENGTH; i++) {
    struct node *node = GC_malloc(sizeof(*node));
    node->next = list;
    node->value = i;
    list = node;
  }
  return list;
}

static void check_list(const struct node *list) {
  long expected = LENGTH;
  for (; list; list = list->next) CHECK_EQUAL(list->value, --expected);
  CHECK_EQUAL(expected, 0);
}

static void work_as_child(const struct node *inherited) {
  for (int i = 0; i < 5; i++) {
    struct node *own = make_list();
    GC_word collections = GC_get_gc_no();
    GC_gcollect();
    CHECK(GC_get_gc_no() > collections);
    check_list(own);
    check_list(inherited);
  }
}

static void check_child(pid_t child) {
  int status;
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int working; /* atomic */
static int begun;   /* atomic */

static void *keep_working(void *argument) {
  while (__atomic_load_n(&working, __ATOMIC_RELAXED)) {
    check_list(make_list());
    __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
  }
  return argument;
}

/* A thread that begins may hold locks of a sanitizer's, which a child would never get. */
static pthread_t start_working(void) {
  pthread_t thread;
  working = 1;
  begun = 0;
  CHECK_EQUAL(pthread_create(&thread, NULL, keep_working, NULL), 0);
  while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE)) usleep(100);
  return thread;
}

static void test_fork(int manual) {
  struct node *list = make_list();
  for (int i = 0; i < 5; i++) {
    if (manual) GC_atfork_prepare();
    pid_t child = fork();
    if (child == 0) {
      if (manual) GC_atfork_child();
      work_as_child(list);
      _exit(0);
    }
    if (manual) GC_atfork_parent();
    check_list(list);
    GC_gcollect();
    check_child(child);
  }
}

/* A child forks again. */
static void test_grandchild(void) {
  struct node *list = make_list();
  pid_t child = fork();
  if (child == 0) {
    work_as_child(list);
    test_fork(0);
    _exit(0);
  }
  check_child(child);
}

/* A child starts threads of its own. */
static void test_threads_in_child(void) {
  pid_t child = fork();
  if (child == 0) {
    pthread_t thread = start_working();
    work_as_child(make_list());
    __atomic_store_n(&working, 0, __ATOMIC_RELAXED);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    _exit(0);
  }
  check_child(child);
}

int main(int count, char **arguments) {
  int manual = count > 1 && strcmp(arguments[1], "manual") == 0;
  GC_set_handle_fork(manual ? -1 : 1);
  GC_INIT();
  test_fork(manual);
  if (manual) return 0;
  test_grandchild();
  pthread_t thread = start_working();
  test_fork(0);
  test_threads_in_child();
  __atomic_store_n(&working, 0, __ATOMIC_RELAXED);
  CHECK_EQUAL(pthread_join(thread, NULL), 0);
  pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", arguments[0], "manual", (char *)NULL);
    _exit(127);
  }
  check_child(child);
  return 0;
}
