/* Threads as the program sees them: attaching, blocking, stopping the world by hand. */
#include <errno.h>
#include <string.h>

#include "api/start.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/check.h"
#include "gc/collector.h"
#include "gc/loan.h"
#include "midden/midden.h"
#include "mutator/mutator.h"
#include "mutator/world.h"

int midden_thread_attach(void) { return midden_thread_attach_at(NULL); }

int midden_thread_attach_at(void *stack_base) { return start_attach((uintptr_t)stack_base); }

int midden_thread_detach(void) { return mutator_detach(); }

bool midden_thread_is_attached(void) { return mutator_self_if_attached() != NULL; }

void midden_thread_set_stack_base(void *stack_base) { start_self()->stack_base = (uintptr_t)stack_base; }
void *midden_thread_stack_base(void) { return (void *)start_self()->stack_base; }

void *midden_thread_self(void) { return start_self(); }

/* By who has stopped the world: another thread may still run while that is under way, and the list changes when it is over. */
int midden_thread_set_stack_base_of(void *thread, void *stack_base) {
  if (!world_is_stopped_by(start_self())) return -EPERM;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    if (mutator != thread) continue;
    mutator->stack_base = (uintptr_t)stack_base;
    mutator->is_base_told = true;
    return 0;
  }
  return -ESRCH;
}

void midden_thread_visit_stopped(midden_thread_fn *visit, void *argument) {
  if (visit == NULL || !world_is_stopped_by(start_self())) return;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    const struct mutator *mutator = mutator_from(link);
    if (mutator->was_signalled && !mutator->is_own) visit(mutator->thread_handle, argument);
  }
}

void midden_blocking_enter(void) {
  struct mutator *self = start_self();
  CHECK(!self->is_blocked, "midden_blocking_enter: this thread is blocking already");
  self->is_blocked = true;
  mutator_enter_blocking(self, FRAME_END());
}

void midden_blocking_leave(void) {
  struct mutator *self = start_self();
  CHECK(self->is_blocked, "midden_blocking_leave: this thread is not blocking");
  mutator_leave_safe(self);
  self->is_blocked = false;
  memset(self->saved_words, 0, sizeof self->saved_words);
}

struct call {
  void *(*function)(void *argument);
  void *argument, *result;
};

static void call_blocked(uintptr_t stack_pointer, void *argument) {
  struct call *call = argument;
  struct mutator *self = mutator_self();
  self->is_blocked = true;
  mutator_enter_safe(self, stack_pointer);
  call->result = call->function(call->argument);
  mutator_leave_safe(self);
  self->is_blocked = false;
}

void *midden_blocking_call(void *(*function)(void *argument), void *argument) {
  CHECK(!start_self()->is_blocked, "midden_blocking_call: this thread is blocking already");
  struct call call = {.function = function, .argument = argument};
  os_call_with_registers(call_blocked, &call);
  return call.result;
}

/* The stack from here up stays scanned while the thread blocks again, since that reaches down to where it blocked before. */
void *midden_active_call(void *(*function)(void *argument), void *argument) {
  struct mutator *self = start_self();
  if (!self->is_blocked) return function(argument);
  uintptr_t stack_pointer = self->stack_pointer;
  mutator_leave_safe(self);
  self->is_blocked = false;
  void *result = function(argument);
  CHECK(mutator_self() == self, "midden_active_call: the fiber that called it was moved to another thread");
  self->is_blocked = true;
  mutator_enter_safe(self, stack_pointer);
  return result;
}

/* Whether the thread that stopped the world had the collector lock before: inside midden_locked_call.  Under that lock. */
static bool is_stopped_inside_call;

void midden_world_stop(void) {
  struct mutator *self = start_self();
  CHECK(!world_is_stopped_by(self), "midden_world_stop: the world is stopped already, by this thread");
  bool mine = collector_is_mine(self);
  if (!mine) collector_acquire(self);
  is_stopped_inside_call = mine;
  collector_stop_world(self);
}

void midden_world_resume(void) {
  CHECK(world_is_stopped(), "midden_world_resume: the world is not stopped");
  bool keeps_lock = is_stopped_inside_call;
  collector_resume_world();
  if (!keeps_lock) collector_release();
}

/* A program may store what the function returned before its own trace functions find all in order again: Guile moves a
 * stack inside and its stack pointer afterwards.  The release wakes whoever waits to collect, which would stop this
 * thread right there. */
static void release_and_return(struct mutator *self, void *frame) {
  self->is_returning = true;
  atomic_signal_barrier();
  self->return_frame = (uintptr_t)frame;
  self->respites = WORLD_RESPITES;
  loan_release();
  atomic_signal_barrier();
  self->is_returning = false;
}

void *midden_locked_call(void *(*function)(void *argument), void *argument) {
  struct mutator *self = start_self();
  bool mine = collector_is_mine(self);
  if (!mine) loan_acquire_to_look(self);
  void *result = function(argument);
  if (!mine) release_and_return(self, __builtin_frame_address(0));
  return result;
}

int midden_suspend_signal(void) {
  start_ensure();
  return world_signal();
}

int midden_set_suspend_signal(int signal) {
  struct mutator *self = start_self();
  if (signal <= 0) return -EINVAL;
  mutator_lock_safely(self, &mutator_list_lock);
  int error = mutator_count_locked() == 1 ? world_change_signal(signal) : -EBUSY;
  lock_release(&mutator_list_lock);
  return error;
}
