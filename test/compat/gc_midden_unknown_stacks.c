/* Stacks that nobody tells of: while a thread runs a coroutine, all of its own stack is held, and the coroutine's is the program's to
 * report.  (The stock library reads from one stack to the other, and crashes, unless the program's GC_set_sp_corrector leads it
 * back.)  And the first thread's own stack, grown beyond what it was when the library was loaded. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "gc_check.h"

enum { STACK_BYTES = 256 << 10 };

/* Both are the thread's. */
static __thread ucontext_t own, coroutine;
static __thread void **held; /* in the thread's frame */

static void collect_elsewhere(void) {
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 1000; j++) memset(GC_malloc_atomic(40), 0xee, 40);
    GC_gcollect();
  }
  swapcontext(&coroutine, &own);
}

static NOINLINE void fill(void **slots) {
  for (int i = 0; i < COUNT; i++) slots[i] = GC_strdup("held");
}

static void check_all(void **slots) {
  for (int i = 0; i < COUNT; i++) CHECK(strcmp(slots[i], "held") == 0);
}

static char *map_stack(size_t bytes) {
  char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stack != MAP_FAILED);
  return stack;
}

static void run_coroutine_on(char *stack) {
  void *slots[COUNT];
  held = slots;
  fill(held);
  CHECK_EQUAL(getcontext(&coroutine), 0);
  coroutine.uc_stack.ss_sp = stack;
  coroutine.uc_stack.ss_size = STACK_BYTES;
  makecontext(&coroutine, collect_elsewhere, 0);
  swapcontext(&own, &coroutine);
  check_all(held);
}

static void *run_coroutine(void *argument) {
  char *stack = map_stack(STACK_BYTES);
  GC_add_roots(stack, stack + STACK_BYTES); /* other threads collect while this one has an object there */
  run_coroutine_on(stack);
  GC_remove_roots(stack, stack + STACK_BYTES);
  munmap(stack, STACK_BYTES);
  return argument;
}

static void correct(void **pointer, void *thread) { CHECK(pointer != NULL && thread != NULL); }

static void test_coroutines(void) {
  enum { THREADS = 3 };
  pthread_t threads[THREADS];
  run_coroutine(NULL);
  GC_set_sp_corrector(correct);
  CHECK(GC_get_sp_corrector() == correct);
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, run_coroutine, NULL), 0);
  run_coroutine(NULL);
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_join(threads[i], NULL), 0);
}

/* A fork's child has a first thread whose stack does not grow: the coroutine's may lie right below its guard. */
enum { GUARD_BYTES = 64 << 10, THREAD_BYTES = 1 << 20 };

static void *run_in_child(void *stack) {
  int status;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    run_coroutine_on(stack);
    _exit(0);
  }
  CHECK_EQUAL(waitpid(child, &status, 0), child);
  CHECK_EQUAL(status, 0);
  return NULL;
}

static void test_forked(void) {
  pthread_t thread;
  pthread_attr_t attributes;
  char *stacks = map_stack(STACK_BYTES + GUARD_BYTES + THREAD_BYTES), *guard = stacks + STACK_BYTES;
  CHECK_EQUAL(mprotect(guard, GUARD_BYTES, PROT_NONE), 0);
  CHECK_EQUAL(pthread_attr_init(&attributes), 0);
  CHECK_EQUAL(pthread_attr_setstack(&attributes, guard + GUARD_BYTES, THREAD_BYTES), 0);
  CHECK_EQUAL(GC_pthread_create(&thread, &attributes, run_in_child, stacks), 0);
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
}

/* Each call takes 16 KiB of the stack. */
static NOINLINE void collect_deep(int calls) {
  void *volatile frame[2048];
  frame[calls % 2048] = GC_strdup("held");
  if (calls > 0) {
    collect_deep(calls - 1);
  } else {
    GC_gcollect();
    for (int i = 0; i < 10000; i++) memset(GC_malloc_atomic(40), 0xee, 40);
  }
  CHECK(strcmp(frame[calls % 2048], "held") == 0);
}

static void test_grown_stack(void) {
  struct rlimit limit;
  CHECK_EQUAL(getrlimit(RLIMIT_STACK, &limit), 0);
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 64 << 20) return;
  rlim_t wanted = 4 * limit.rlim_cur;
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted) return;
  int calls = (int)(2 * limit.rlim_cur / (16 << 10));
  limit.rlim_cur = wanted;
  CHECK_EQUAL(setrlimit(RLIMIT_STACK, &limit), 0);
  collect_deep(calls);
}

int main(void) {
  GC_INIT();
  test_coroutines();
  test_forked();
  test_grown_stack();
  return 0;
}
