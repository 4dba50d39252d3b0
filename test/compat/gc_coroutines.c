/* Coroutines of a program with one thread, which says before each switch where the stack lies that it goes to.  Their stacks are memory
 * of the heap; what they hold lives, however often collections come between.
 *
 * One is switched to in silence, and its stack told in GC_push_other_roots: back on the first stack the program says so itself. */
#include <ucontext.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

enum { COROUTINES = 40, STACK_BYTES = 256 << 10, TURNS = 12, DEPTH = 8, NODES = (2 << DEPTH) - 1 };

struct coroutine {
  ucontext_t context;
  struct GC_stack_base base;
  int is_done;
};

static ucontext_t scheduler;
static struct GC_stack_base scheduler_base;
static struct coroutine *coroutines[COROUTINES], *running;
static void *self; /* this thread */

static void suspend(void) {
  GC_set_stackbottom(self, &scheduler_base);
  swapcontext(&running->context, &scheduler);
}

static void resume(struct coroutine *coroutine) {
  running = coroutine;
  GC_set_stackbottom(self, &coroutine->base);
  swapcontext(&scheduler, &coroutine->context);
}

static void run(void) {
  struct check_tree *before = check_grow(DEPTH);
  for (int i = 0; i < TURNS; i++) {
    struct check_tree *tree = check_grow(DEPTH);
    suspend();
    CHECK_EQUAL(check_count(before), NODES);
    before = tree;
  }
  running->is_done = 1;
  suspend();
}

static struct coroutine *start(void (*function)(void)) {
  struct coroutine *coroutine = GC_malloc(sizeof *coroutine);
  char *stack = GC_malloc_uncollectable(STACK_BYTES);
  CHECK(coroutine != NULL && stack != NULL);
  CHECK_EQUAL(getcontext(&coroutine->context), 0);
  coroutine->context.uc_stack.ss_sp = stack;
  coroutine->context.uc_stack.ss_size = STACK_BYTES;
  coroutine->base.mem_base = stack + STACK_BYTES;
  makecontext(&coroutine->context, function, 0);
  return coroutine;
}

/* How many go on. */
static int give_turns(void) {
  int left = 0;
  for (int i = 0; i < COROUTINES; i++) {
    if (coroutines[i]->is_done) continue;
    resume(coroutines[i]);
    left++;
  }
  check_grow(DEPTH);
  return left;
}

static GC_push_other_roots_proc push_before;

static void tell_base(void) {
  if (running != NULL) GC_set_stackbottom(self, &running->base);
  if (push_before != NULL) push_before();
}

static void hold_on_to_tree(void) {
  struct check_tree *tree = check_grow(DEPTH);
  check_collect();
  for (int i = 0; i < TURNS; i++) check_grow(DEPTH);
  CHECK_EQUAL(check_count(tree), NODES);
}

static void run_told(void) {
  GC_enable();
  hold_on_to_tree();
  GC_disable();
  swapcontext(&running->context, &scheduler);
}

static void return_from_told(void) {
  struct coroutine *told = start(run_told);
  push_before = GC_get_push_other_roots();
  GC_set_push_other_roots(tell_base);
  GC_disable();
  running = told;
  swapcontext(&scheduler, &told->context);
  running = NULL;
  GC_set_stackbottom(self, &scheduler_base);
  GC_enable();
  hold_on_to_tree();
  GC_set_push_other_roots(push_before);
  GC_free(told->context.uc_stack.ss_sp);
}

int main(void) {
  GC_INIT();
  self = GC_get_my_stackbottom(&scheduler_base);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < COROUTINES; i++) coroutines[i] = start(run);
    while (give_turns() != 0) continue;
    for (int i = 0; i < COROUTINES; i++) GC_free(coroutines[i]->context.uc_stack.ss_sp);
  }
  running = NULL;
  return_from_told();
  puts("coroutines: all held what they should");
  return 0;
}
