#include "mutator/fiber.h"

#include <errno.h>
#include <string.h>

#include "alloc/account.h"
#include "base/bits.h"
#include "base/check.h"
#include "mutator/barrier.h"

/* What a new stack counts for in the account of what was allocated: about the memory that its top takes.  Garbage fibers
 * must bring a collection about. */
enum { STACK_CHARGE_BYTES = 4096 };

/* Registers that the program's own switch pushes below the frame that announced it. */
enum { FOREIGN_SWITCH_BYTES = 1024 };

/* What the side that leaves a stack tells the side that goes on. */
struct crossing {
  struct mutator *self;
  struct midden_fiber *from; /* NULL: the thread's own stack was left */
  enum fiber_state state;    /* that `from` is to have now that its stack is left */
  void *value;
};

/* ---- telling and making ---- */

static void run(void *arrival);

/* What was charged in an earlier period is not part of the account any more, or will not be when the cycle is over. */
static void discharge(const struct midden_stack *stack) {
  if (stack->charged_in == atomic_load_relaxed(&account_period)) account_subtract(STACK_CHARGE_BYTES);
}

int fiber_init(struct midden_fiber *fiber, midden_fiber_fn *function, void *argument, size_t stack_bytes) {
  struct midden_stack *stack = stack_take(stack_bytes, fiber);
  if (stack == NULL) return -ENOMEM;
  account_add(STACK_CHARGE_BYTES);
  fiber->stack = stack;
  atomic_store_relaxed(&fiber->base, stack->high);
  fiber->function = function;
  atomic_store_relaxed(&fiber->argument, argument);
  os_context_init(&fiber->context, (struct os_range){stack->low, stack->high}, run);
  fiber->check = FIBER_CHECK - (uintptr_t)fiber;
  atomic_store_release(&fiber->state, (uint32_t)FIBER_SUSPENDED);
  return 0;
}

/* ---- states ---- */

static int why_not(enum fiber_state state) {
  switch (state) {
    case FIBER_RUNNING:
    case FIBER_WAITING:
      return -EBUSY;
    case FIBER_LOST:
      return -EOWNERDEAD;
    default:
      return -EINVAL;
  }
}

/* SUSPENDED -> `state`. */
static int claim(struct midden_fiber *fiber, enum fiber_state state) {
  uint32_t seen = FIBER_SUSPENDED;
  if (LIKELY(atomic_cas_acquire(&fiber->state, &seen, (uint32_t)state))) return 0;
  return why_not((enum fiber_state)seen);
}

static void set_own_state(struct midden_fiber *fiber, enum fiber_state from, enum fiber_state to) {
  CHECK(atomic_load_relaxed(&fiber->state) == (uint32_t)from, "fiber %p: no step from state %u to %d", (void *)fiber,
        atomic_load_relaxed(&fiber->state), to);
  atomic_store_release(&fiber->state, (uint32_t)to);
}

static void drop_stack(struct midden_fiber *fiber) {
  struct midden_stack *stack = fiber->stack;
  fiber->stack = NULL;
  atomic_store_relaxed(&fiber->argument, (void *)NULL);
  stack->thread_state = fiber->context.thread_state;
  discharge(stack);
  stack_put(stack);
}

/* ---- the switch ---- */

/* The stack in use, as the collector knows it. */
static void park(struct mutator *self, struct midden_fiber *from) {
  if (from != NULL) {
    atomic_store_relaxed(&from->base, self->stack_base);
    return;
  }
  struct mutator_own_stack *own = &self->own_stack;
  own->base = self->stack_base;
  own->stack = own->context.stack = self->stack;
  own->is_parked = true;
}

static void unpark(struct mutator *self, struct midden_fiber *to) {
  self->fiber = to;
  if (to != NULL) {
    self->stack_base = to->base;
    self->stack = to->context.stack;
    return;
  }
  self->stack_base = self->own_stack.base;
  self->stack = self->own_stack.stack;
  self->own_stack.is_parked = false;
}

/* The first thing on the other stack: the one that was left may be used by others from here on. */
static void *arrive(const struct crossing *departure) {
  struct crossing crossing = *departure; /* it lies on the stack that was left */
  if (crossing.from != NULL && crossing.state != FIBER_WAITING) {
    if (crossing.state == FIBER_FINISHED) drop_stack(crossing.from);
    set_own_state(crossing.from, FIBER_RUNNING, crossing.state);
  }
  mutator_leave(crossing.self);
  return crossing.value;
}

static void check_stack_pointer(const struct midden_fiber *fiber) {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  CHECK(here - fiber->stack->low < fiber->stack->high - fiber->stack->low,
        "fiber %p switches at %p, which is not in its stack %p to %p", (void *)fiber, (void *)here,
        (void *)fiber->stack->low, (void *)fiber->stack->high);
}

struct announcement {
  struct mutator *self;
  struct midden_fiber *to;
  struct midden_stack *registered;
};

static void announce_here(uintptr_t stack_pointer, void *argument) {
  const struct announcement *announcement = argument;
  mutator_hooks.switching(announcement->self, announcement->to, announcement->registered, stack_pointer);
}

/* Beside a mark phase the stack in use, and that which comes, are scanned. */
static void announce_switch(struct mutator *self, struct midden_fiber *to, struct midden_stack *registered) {
  if (LIKELY(!atomic_load_relaxed(&span_marking)) || mutator_hooks.switching == NULL) return;
  os_call_with_registers(announce_here, &(struct announcement){self, to, registered});
}

/* As if the thread were to switch there. */
void fiber_announce_end(struct mutator *self, struct midden_fiber *fiber, struct midden_stack *registered) {
  announce_switch(self, fiber, registered);
}

/* In a critical section, `to` claimed.  Returns, the section ended, when something switches back. */
static void *cross(struct mutator *self, enum fiber_state state, struct midden_fiber *to, void *value) {
  struct midden_fiber *from = self->fiber;
  struct crossing crossing = {.self = self, .from = from, .state = state, .value = value};
  if (from != NULL) {
    check_stack_pointer(from);
    if (state == FIBER_WAITING) set_own_state(from, FIBER_RUNNING, FIBER_WAITING);
  }
  announce_switch(self, to, NULL);
  struct os_context *left = from != NULL ? &from->context : &self->own_stack.context;
  struct os_context *next = to != NULL ? &to->context : &self->own_stack.context;
  park(self, from);
  unpark(self, to);
  return arrive(os_context_switch(left, next, &crossing, state == FIBER_FINISHED));
}

/* The bottom of each fiber's stack. */
static void run(void *arrival) {
  struct crossing *crossing = os_context_arrive(arrival);
  struct midden_fiber *own = crossing->self->fiber;
  arrive(crossing);
  void *argument = own->argument;
  midden_store(&own->argument, NULL); /* the thread may have been scanned since it has left the section */
  void *result = own->function(argument);
  fiber_finish(mutator_self(), result, NULL);
}

/* ---- what the program asks for ---- */

static void check_may_switch(const struct mutator *self) {
  CHECK(atomic_load_relaxed(&self->state) == MUTATOR_RUNNING && self->critical == 0,
        "a fiber is switched while its thread is blocking");
  CHECK(self->foreign == NULL, "a fiber is switched on a stack that midden_stack_switch_begin switched to");
}

/* Told to the barrier: who waits is handed from one fiber to another, and may be known to nobody else. */
static void set_resumer(struct midden_fiber *fiber, struct midden_fiber *resumer) {
  struct midden_fiber *before = fiber->resumer;
  atomic_store_relaxed(&fiber->resumer, resumer);
  barrier_note(before, resumer);
}

/* Claims a fiber to be run, in the critical section of the switch to it, which goes on where that succeeds. */
static int enter_to_run(struct mutator *self, struct midden_fiber *fiber) {
  check_may_switch(self);
  mutator_enter(self);
  int error = claim(fiber, FIBER_RUNNING);
  if (error != 0) mutator_leave(self);
  return error;
}

int fiber_resume(struct mutator *self, struct midden_fiber *fiber, void *value, void **result) {
  int error = enter_to_run(self, fiber);
  if (error != 0) return error;
  set_resumer(fiber, self->fiber);
  *result = cross(self, FIBER_WAITING, fiber, value);
  return 0;
}

/* Takes what waits for the running fiber out of its wait; NULL: the thread's own stack. */
static struct midden_fiber *take_resumer(struct mutator *self) {
  struct midden_fiber *fiber = self->fiber, *resumer = fiber->resumer;
  set_resumer(fiber, NULL);
  if (resumer != NULL) set_own_state(resumer, FIBER_WAITING, FIBER_RUNNING);
  return resumer;
}

void *fiber_yield(struct mutator *self, void *value) {
  check_may_switch(self);
  CHECK(self->fiber != NULL, "a thread's own stack is suspended that no fiber left");
  mutator_enter(self);
  return cross(self, FIBER_SUSPENDED, take_resumer(self), value);
}

static void pass_resumer(struct mutator *self, struct midden_fiber *fiber) {
  set_resumer(fiber, self->fiber->resumer);
  set_resumer(self->fiber, NULL);
}

int fiber_switch(struct mutator *self, struct midden_fiber *fiber, void *value, void **result) {
  if (self->fiber == NULL) return fiber_resume(self, fiber, value, result);
  int error = enter_to_run(self, fiber);
  if (error != 0) return error;
  pass_resumer(self, fiber);
  *result = cross(self, FIBER_SUSPENDED, fiber, value);
  return 0;
}

void fiber_finish(struct mutator *self, void *value, struct midden_fiber *next) {
  check_may_switch(self);
  CHECK(self->fiber != NULL, "a thread's own stack is finished that no fiber left");
  mutator_enter(self);
  if (next != NULL) {
    int error = claim(next, FIBER_RUNNING);
    CHECK(error == 0, "fiber %p cannot go on in fiber %p: error %d", (void *)self->fiber, (void *)next, error);
    pass_resumer(self, next);
  } else {
    next = take_resumer(self);
  }
  cross(self, FIBER_FINISHED, next, value);
  fatal("a finished fiber goes on");
}

int fiber_free(struct mutator *self, struct midden_fiber *fiber) {
  mutator_enter(self);
  int error = claim(fiber, FIBER_FINISHED);
  if (error == 0) {
    fiber_announce_end(self, fiber, NULL);
    drop_stack(fiber);
  }
  mutator_leave(self);
  return error == -EBUSY ? error : 0;
}

/* The frames on it are gone; it may be switched to again, or freed. */
static void empty_foreign(struct midden_stack *stack) {
  memset(stack->saved_words, 0, STACK_SAVED_WORDS * sizeof stack->saved_words[0]);
  atomic_store_relaxed(&stack->pointer, stack->high);
  atomic_store_release(&stack->is_running, false);
}

void fiber_abandon(struct mutator *mutator) {
  if (!mutator->own_stack.is_parked) return;
  if (mutator->foreign != NULL) empty_foreign(mutator->foreign);
  for (struct midden_fiber *fiber = mutator->fiber; fiber != NULL; fiber = fiber->resumer)
    atomic_store_release(&fiber->state, (uint32_t)FIBER_LOST);
  mutator->foreign = NULL;
  unpark(mutator, NULL);
}

/* The gate kept every switch from happening during the fork: what the child sees of a suspended fiber is whole. */
static void lose(struct midden_fiber *fiber) {
  if (fiber_state(fiber) != FIBER_SUSPENDED) atomic_store_release(&fiber->state, (uint32_t)FIBER_LOST);
}

void fiber_abandon_others(struct mutator *self) {
  stacks_visit_fibers(lose);
  for (struct link *link = stacks_registered.first; link != NULL; link = link->next) {
    struct midden_stack *stack = CONTAINER_OF(link, struct midden_stack, link);
    if (atomic_load_relaxed(&stack->is_running) && stack != self->foreign) empty_foreign(stack);
  }
  enum fiber_state state = FIBER_RUNNING;
  for (struct midden_fiber *fiber = self->fiber; fiber != NULL; fiber = fiber->resumer, state = FIBER_WAITING)
    atomic_store_release(&fiber->state, (uint32_t)state);
}

/* ---- the program's own switch ---- */

static void leave_foreign(struct mutator *self, struct midden_stack *from, uintptr_t frame_end) {
  struct mutator_own_stack *own = &self->own_stack;
  uintptr_t pointer = round_down(frame_end, sizeof(uintptr_t)) - FOREIGN_SWITCH_BYTES;
  if (from == NULL) {
    park(self, NULL);
    own->context.stack_pointer = own->stack.start < pointer ? pointer : own->stack.start;
    mutator_copy_registers(own->saved_words, frame_end);
    return;
  }
  atomic_store_relaxed(&from->pointer, max_size(pointer, from->low));
  mutator_copy_registers(from->saved_words, frame_end);
  atomic_store_release(&from->is_running, false);
}

void fiber_foreign_switch_begin(struct mutator *self, struct midden_stack *from, struct midden_stack *to,
                                uintptr_t frame_end) {
  CHECK(self->fiber == NULL, "midden_stack_switch_begin: a fiber runs on this thread");
  CHECK(self->foreign == from, "midden_stack_switch_begin: stack %p is not the one in use", (void *)from);
  CHECK(to == NULL || !atomic_load_relaxed(&to->is_running), "midden_stack_switch_begin: stack %p is in use",
        (void *)to);
  mutator_enter(self);
  if (from == to) return;
  announce_switch(self, NULL, to);
  leave_foreign(self, from, frame_end);
  self->foreign = to;
  if (to == NULL) {
    unpark(self, NULL);
    memset(self->own_stack.saved_words, 0, sizeof self->own_stack.saved_words);
    return;
  }
  atomic_store_relaxed(&to->is_running, true);
  self->stack_base = to->high;
  self->stack = (struct os_range){to->low, to->high};
}

void fiber_foreign_switch_end(struct mutator *self) {
  CHECK(self->critical != 0, "midden_stack_switch_end: no switch was begun");
  mutator_leave(self);
}
