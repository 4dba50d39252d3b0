/* Coroutines that move from thread to thread: no thread says where its stack ends when it switches; who schedules them says it of all
 * threads, in GC_push_other_roots, before their stacks are read. */
#include <pthread.h>
#include <ucontext.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

enum { THREADS = 3, STACK_BYTES = 256 << 10, DEPTH = 10, NODES = (2 << DEPTH) - 1 };

struct worker {
  pthread_t thread;
  ucontext_t own, coroutine;
  void *handle;
  char *stack; /* malloc memory */
  struct GC_stack_base bases[2];
  int runs_coroutine; /* written while collection is off */
};

static struct worker workers[THREADS];
static GC_push_other_roots_proc push_before;
static pthread_barrier_t switched, checked, checked_again, done;
static int told;

static void tell_bases(void) {
  for (int i = 0; i < THREADS; i++) {
    if (workers[i].handle != NULL) GC_set_stackbottom(workers[i].handle, &workers[i].bases[workers[i].runs_coroutine]);
  }
  told++;
  if (push_before != NULL) push_before();
}

static __thread struct worker *running;

/* Collection is off when it begins and when it ends. */
static void run_coroutine(void) {
  pthread_barrier_wait(&switched);
  struct check_tree *tree = check_grow(DEPTH);
  for (int i = 0; i < 50; i++) {
    CHECK_EQUAL(check_count(tree), NODES);
    tree = check_grow(DEPTH);
  }
  pthread_barrier_wait(&checked); /* the others collect while this thread waits here */
  pthread_barrier_wait(&checked_again);
  CHECK_EQUAL(check_count(tree), NODES);
  pthread_barrier_wait(&done);
  swapcontext(&running->coroutine, &running->own);
}

static void *work(void *argument) {
  struct worker *worker = running = argument;
  worker->handle = GC_get_my_stackbottom(&worker->bases[0]);
  worker->bases[1].mem_base = worker->stack + STACK_BYTES;
  CHECK_EQUAL(getcontext(&worker->coroutine), 0);
  worker->coroutine.uc_stack.ss_sp = worker->stack;
  worker->coroutine.uc_stack.ss_size = STACK_BYTES;
  makecontext(&worker->coroutine, run_coroutine, 0);
  worker->runs_coroutine = 1;
  swapcontext(&worker->own, &worker->coroutine);
  worker->runs_coroutine = 0;
  return NULL;
}

int main(void) {
  GC_INIT();
  push_before = GC_get_push_other_roots();
  GC_set_push_other_roots(tell_bases);
  pthread_barrier_init(&switched, NULL, THREADS + 1);
  pthread_barrier_init(&checked, NULL, THREADS + 1);
  pthread_barrier_init(&checked_again, NULL, THREADS + 1);
  pthread_barrier_init(&done, NULL, THREADS + 1);
  GC_disable();
  for (int i = 0; i < THREADS; i++) {
    workers[i].stack = malloc(STACK_BYTES);
    CHECK(workers[i].stack != NULL);
    CHECK_EQUAL(GC_pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  pthread_barrier_wait(&switched);
  GC_enable();
  for (int i = 0; i < 10; i++) GC_gcollect();
  pthread_barrier_wait(&checked);
  for (int i = 0; i < 10; i++) {
    GC_gcollect();
    check_grow(DEPTH);
  }
  GC_disable();
  pthread_barrier_wait(&checked_again);
  pthread_barrier_wait(&done);
  for (int i = 0; i < THREADS; i++) {
    CHECK_EQUAL(GC_pthread_join(workers[i].thread, NULL), 0);
    free(workers[i].stack);
  }
  CHECK(told >= 20);
  puts("moving stacks: all held what they should");
  return 0;
}
