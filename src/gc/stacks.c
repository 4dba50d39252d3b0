#include "gc/stacks.h"

#include "base/atomic.h"
#include "base/check.h"
#include "gc/mark.h"
#include "mutator/fiber.h"
#include "span/kind.h"
#include "span/mark_bits.h"

static void mark_links(const struct midden_fiber *fiber, struct midden_tracer *tracer) {
  mark_address(tracer, (uintptr_t)atomic_load_relaxed(&fiber->resumer));
  mark_address(tracer, (uintptr_t)atomic_load_relaxed(&fiber->argument));
}

/* Beside the program it may be resumed at any moment, or be on its way to wait for another; then its stack does not stand
 * still, and is scanned by the thread that switches, before or with its own. */
void stacks_mark_fiber(const struct midden_fiber *fiber, struct midden_tracer *tracer) {
  uintptr_t start = os_context_stopped_at(&fiber->context);
  mark_links(fiber, tracer);
  if (start != 0) mark_range(tracer, (struct os_range){start, atomic_load_relaxed(&fiber->base)}, true);
}

/* A fiber that runs is scanned as its thread, one without a stack holds nothing. */
static void trace_fiber(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  const struct midden_fiber *fiber = object;
  enum fiber_state state = fiber_state(fiber);
  if (state == FIBER_SUSPENDED || state == FIBER_WAITING) {
    stacks_mark_fiber(fiber, tracer);
  } else {
    mark_links(fiber, tracer);
  }
}

void stacks_init_kind(void) { kind_table[KIND_FIBER].trace = trace_fiber; }

static struct midden_stack *stack_from(struct link *link) { return CONTAINER_OF(link, struct midden_stack, link); }

static void visit_parked(const struct midden_stack *stack, stacks_visit_fn *visit, void *argument) {
  if (atomic_load_acquire(&stack->is_running)) return;
  uintptr_t pointer = atomic_load_relaxed(&stack->pointer);
  if (pointer == stack->high) return;
  visit(argument, (struct os_range){pointer, stack->high});
  uintptr_t saved = (uintptr_t)stack->saved_words;
  visit(argument, (struct os_range){saved, saved + STACK_SAVED_WORDS * sizeof(uintptr_t)});
}

void stacks_visit_parked_stw(stacks_visit_fn *visit, void *argument) {
  for (struct link *link = stacks_registered.first; link != NULL; link = link->next)
    visit_parked(stack_from(link), visit, argument);
}

void stacks_mark_parked(const struct midden_stack *stack, struct midden_tracer *tracer) {
  visit_parked(stack, mark_stack, tracer);
}

struct parked_visit {
  stacks_visit_fn *visit;
  void *argument;
};

static void visit_one(const struct midden_stack *stack, void *argument) {
  const struct parked_visit *each = argument;
  visit_parked(stack, each->visit, each->argument);
}

void stacks_visit_parked(stacks_visit_fn *visit, void *argument) {
  stacks_visit_registered(visit_one, &(struct parked_visit){visit, argument});
}

static bool is_dead(struct midden_stack *stack) {
  const struct midden_fiber *fiber = stack->fiber;
  if (mark_bit_get(&heap_arena, mark_side(), (uintptr_t)fiber)) return false;
  stack->thread_state = fiber->context.thread_state;
  return true;
}

void stacks_free_dead(struct mutator *self) {
  enum { STEP = 64 };
  size_t count = stacks_count_fibers();
  for (size_t done = 0; done < count; done += STEP) {
    mutator_enter(self);
    stacks_put_dead(is_dead, STEP);
    mutator_leave(self);
  }
}

void stacks_free_dead_stw(void) {
  struct link *next;
  for (struct link *link = stacks_of_fibers.first; link != NULL; link = next) {
    next = link->next;
    struct midden_stack *stack = stack_from(link);
    if (is_dead(stack)) stack_put_stw(stack);
  }
}

void stacks_verify_stw(void) {
  for (struct link *link = stacks_of_fibers.first; link != NULL; link = link->next) {
    const struct midden_stack *stack = stack_from(link);
    const struct midden_fiber *fiber = stack->fiber;
    CHECK(fiber->stack == stack && span_state(stack->span) == SPAN_STACK,
          "verify: stack %p of fiber %p is not in its name", (void *)stack->low, (const void *)fiber);
    enum fiber_state state = fiber_state(fiber);
    bool is_parked = state == FIBER_SUSPENDED || state == FIBER_WAITING;
    CHECK(
        state != FIBER_FINISHED && (!is_parked || fiber->context.stack_pointer - stack->low < stack->high - stack->low),
        "verify: fiber %p in state %d stopped at %p, outside of its stack", (const void *)fiber, state,
        (void *)fiber->context.stack_pointer);
  }
}
