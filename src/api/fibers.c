/* Fibers and stacks as the program sees them. */
#include <errno.h>

#include "api/allocate.h"
#include "api/start.h"
#include "base/attr.h"
#include "base/check.h"
#include "gc/collector.h"
#include "midden/midden.h"
#include "mutator/fiber.h"
#include "mutator/stack.h"
#include "span/kind.h"

/* ---- making ---- */

/* Runs `attempt`, which wants about so many bytes, in critical sections until it succeeds or nothing is left to try. */
static bool with_memory(struct mutator *self, size_t bytes, bool (*attempt)(void *argument), void *argument) {
  for (struct shortage shortage = {0};;) {
    mutator_enter(self);
    bool succeeded = attempt(argument);
    mutator_leave(self);
    if (succeeded) return true;
    if (bytes > PTRDIFF_MAX || !allocate_try_harder(self, bytes, &shortage)) return false;
  }
}

struct new_fiber {
  struct midden_fiber *fiber;
  midden_fiber_fn *function;
  void *argument;
  size_t stack_bytes;
};

static bool init_fiber(void *argument) {
  struct new_fiber *wanted = argument;
  return fiber_init(wanted->fiber, wanted->function, wanted->argument, wanted->stack_bytes) == 0;
}

struct midden_fiber *midden_fiber_new(midden_fiber_fn *function, void *argument, size_t stack_bytes) {
  struct mutator *self = start_self();
  if (function == NULL) return NULL;
  struct new_fiber wanted = {.function = function, .argument = argument, .stack_bytes = stack_bytes};
  wanted.fiber = allocate_object(KIND_FIBER, sizeof *wanted.fiber);
  if (wanted.fiber == NULL || !with_memory(self, stack_bytes, init_fiber, &wanted)) return NULL;
  return wanted.fiber;
}

/* ---- switching ---- */

/* After a call that switches, nothing here may use what it knew of its thread. */

static void check_fiber(const struct midden_fiber *fiber, const char *function) {
  CHECK(fiber_is_one(fiber), "%s: %p is no fiber", function, (const void *)fiber);
}

static struct mutator *self_for_switch(const char *function) {
  struct mutator *self = start_self();
  CHECK(!collector_is_mine(self), "%s: called in a callback, or inside midden_locked_call", function);
  return self;
}

int midden_fiber_resume(struct midden_fiber *fiber, void *value, void **result) {
  struct mutator *self = self_for_switch(__func__);
  if (fiber == NULL) return -EINVAL;
  check_fiber(fiber, __func__);
  void *ignored;
  return fiber_resume(self, fiber, value, result != NULL ? result : &ignored);
}

int midden_fiber_switch(struct midden_fiber *fiber, void *value, void **result) {
  struct mutator *self = self_for_switch(__func__);
  if (fiber == NULL) return -EINVAL;
  check_fiber(fiber, __func__);
  void *ignored;
  return fiber_switch(self, fiber, value, result != NULL ? result : &ignored);
}

void *midden_fiber_yield(void *value) {
  struct mutator *self = self_for_switch(__func__);
  CHECK(self->fiber != NULL, "%s: called outside a fiber", __func__);
  return fiber_yield(self, value);
}

void midden_fiber_finish(void *value, struct midden_fiber *next) {
  struct mutator *self = self_for_switch(__func__);
  CHECK(self->fiber != NULL, "%s: called outside a fiber", __func__);
  if (next != NULL) check_fiber(next, __func__);
  fiber_finish(self, value, next);
}

int midden_fiber_free(struct midden_fiber *fiber) {
  struct mutator *self = start_self();
  if (fiber == NULL) return 0;
  check_fiber(fiber, __func__);
  return fiber_free(self, fiber);
}

struct midden_fiber *midden_fiber_current(void) {
  return start_self()->fiber;
}

enum midden_fiber_state midden_fiber_state(const struct midden_fiber *fiber) {
  static const enum midden_fiber_state states[] = {
      [FIBER_NEW] = MIDDEN_FIBER_FINISHED,      [FIBER_SUSPENDED] = MIDDEN_FIBER_SUSPENDED,
      [FIBER_RUNNING] = MIDDEN_FIBER_RUNNING,   [FIBER_WAITING] = MIDDEN_FIBER_WAITING,
      [FIBER_FINISHED] = MIDDEN_FIBER_FINISHED, [FIBER_LOST] = MIDDEN_FIBER_LOST,
  };
  start_ensure();
  check_fiber(fiber, __func__);
  return states[fiber_state(fiber)];
}

/* ---- stacks ---- */

struct new_stack {
  struct midden_stack *stack;
  size_t bytes;
  uintptr_t low, high;
};

static bool alloc_stack(void *argument) {
  struct new_stack *wanted = argument;
  wanted->stack = stack_register_new(wanted->bytes);
  return wanted->stack != NULL;
}

static bool register_stack(void *argument) {
  struct new_stack *wanted = argument;
  wanted->stack = stack_register(wanted->low, wanted->high);
  return wanted->stack != NULL;
}

struct midden_stack *midden_stack_alloc(size_t bytes) {
  struct new_stack wanted = {.bytes = bytes};
  return with_memory(start_self(), bytes, alloc_stack, &wanted) ? wanted.stack : NULL;
}

struct midden_stack *midden_stack_register(void *low, void *high) {
  struct new_stack wanted = {.low = (uintptr_t)low, .high = (uintptr_t)high};
  if (low == NULL || wanted.high <= wanted.low) return NULL;
  return with_memory(start_self(), 0, register_stack, &wanted) ? wanted.stack : NULL;
}

int midden_stack_free(struct midden_stack *stack) {
  struct mutator *self = start_self();
  if (stack == NULL) return 0;
  mutator_enter(self);
  bool is_running = atomic_load_relaxed(&stack->is_running);
  if (!is_running) {
    fiber_announce_end(self, NULL, stack);
    stack_unregister(stack);
  }
  mutator_leave(self);
  return is_running ? -EBUSY : 0;
}

void *midden_stack_low(const struct midden_stack *stack) { return (void *)stack->low; }
void *midden_stack_high(const struct midden_stack *stack) { return (void *)stack->high; }

int midden_stack_set_pointer(struct midden_stack *stack, void *pointer) {
  struct mutator *self = start_self();
  uintptr_t value = (uintptr_t)pointer;
  if (value < stack->low || value > stack->high) return -EINVAL;
  mutator_enter(self);
  bool is_running = atomic_load_relaxed(&stack->is_running);
  if (!is_running) {
    fiber_announce_end(self, NULL, stack);
    atomic_store_relaxed(&stack->pointer, value);
    atomic_store_relaxed(&stack->scanned_cycle, 0u); /* what it holds now was not */
  }
  mutator_leave(self);
  return is_running ? -EBUSY : 0;
}

void midden_stack_switch_begin(struct midden_stack *from, struct midden_stack *to) {
  struct mutator *self = self_for_switch(__func__);
  CHECK(!self->is_blocked, "%s: this thread is blocking", __func__);
  fiber_foreign_switch_begin(self, from, to, FRAME_END());
}

void midden_stack_switch_end(void) { fiber_foreign_switch_end(start_self()); }
