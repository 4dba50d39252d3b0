#include "gc/stacks.h"

#include "base/check.h"
#include "gc/mark.h"
#include "mutator/fiber.h"
#include "span/kind.h"
#include "span/mark_bits.h"

/* A fiber that runs is scanned as its thread, one without a stack holds nothing. */
static void trace_fiber(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  const struct midden_fiber *fiber = object;
  mark_address(tracer, (uintptr_t)fiber->resumer);
  mark_address(tracer, (uintptr_t)fiber->argument);
  enum fiber_state state = fiber_state(fiber);
  if (state == FIBER_SUSPENDED || state == FIBER_WAITING)
    mark_range(tracer, (struct os_range){fiber->context.stack_pointer, fiber->base}, true);
}

void stacks_init_kind(void) { kind_table[KIND_FIBER].trace = trace_fiber; }

void stacks_visit_running_fibers(stacks_visit_fn *visit, void *argument) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    uintptr_t word = (uintptr_t)&mutator_from(link)->fiber;
    visit(argument, (struct os_range){word, word + sizeof(void *)});
  }
}

static struct midden_stack *stack_from(struct link *link) { return CONTAINER_OF(link, struct midden_stack, link); }

void stacks_visit_registered(stacks_visit_fn *visit, void *argument) {
  for (struct link *link = stacks_registered.first; link != NULL; link = link->next) {
    const struct midden_stack *stack = stack_from(link);
    if (stack->is_running || stack->pointer == stack->high) continue;
    visit(argument, (struct os_range){stack->pointer, stack->high});
    uintptr_t saved = (uintptr_t)stack->saved_words;
    visit(argument, (struct os_range){saved, saved + STACK_SAVED_WORDS * sizeof(uintptr_t)});
  }
}

void stacks_free_dead_stw(void) {
  struct link *next;
  for (struct link *link = stacks_of_fibers.first; link != NULL; link = next) {
    next = link->next;
    struct midden_stack *stack = stack_from(link);
    const struct midden_fiber *fiber = stack->fiber;
    if (mark_bit_get(&heap_arena, mark_side, (uintptr_t)fiber)) continue;
    stack->thread_state = fiber->context.thread_state;
    stack_put_stw(stack);
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
