/* Coroutines of swapcontext, on stacks of the library's: what a program does that switches by its own means.
 *
 * Each belongs to the thread that enters it, and lies in memory that is not scanned.  Its function begins with
 * coroutine_begin, leaves by coroutine_leave, and ends by coroutine_end. */
#ifndef MIDDEN_TEST_SUPPORT_COROUTINE_H
#define MIDDEN_TEST_SUPPORT_COROUTINE_H

#include <ucontext.h>

#include "support/heap_test.h"

struct coroutine {
  ucontext_t context;
  struct midden_stack *stack;
  struct rng rng;
  bool ended;
};

static _Thread_local struct coroutine *coroutine_running;
static _Thread_local ucontext_t coroutine_own_context;

/* ---- inside ---- */

static struct coroutine *coroutine_begin(void) {
  midden_stack_switch_end();
  return coroutine_running;
}

NOINLINE_TEST static void coroutine_leave(struct coroutine *self) {
  midden_stack_switch_begin(self->stack, NULL);
  swapcontext(&self->context, &coroutine_own_context);
  midden_stack_switch_end();
}

static void coroutine_end(struct coroutine *self) {
  self->ended = true;
  coroutine_leave(self);
}

/* ---- outside ---- */

NOINLINE_TEST static void coroutine_enter(struct coroutine *coroutine) {
  coroutine_running = coroutine;
  midden_stack_switch_begin(NULL, coroutine->stack);
  swapcontext(&coroutine_own_context, &coroutine->context);
  midden_stack_switch_end();
}

/* A new one, or one that has ended, whose stack serves again. */
static void coroutine_start(struct coroutine *coroutine, struct rng *rng, void (*function)(void)) {
  if (coroutine->stack == NULL) coroutine->stack = midden_stack_alloc(128 << 10);
  REQUIRE(coroutine->stack != NULL, "midden_stack_alloc");
  char *low = midden_stack_low(coroutine->stack), *high = midden_stack_high(coroutine->stack);
  coroutine->rng.state = rng_next(rng);
  coroutine->ended = false;
  getcontext(&coroutine->context);
  coroutine->context.uc_stack.ss_sp = low;
  coroutine->context.uc_stack.ss_size = (size_t)(high - low);
  coroutine->context.uc_link = NULL;
  makecontext(&coroutine->context, function, 0);
}

#endif
