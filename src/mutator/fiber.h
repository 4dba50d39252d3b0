/* Fibers: functions with a stack of their own, of which a thread runs one at a time.
 *
 * A fiber is an object of the heap, of a kind of its own, with a stack span beside it.  The collector reads the object
 * when it marks it, and with it the used part of the stack: a fiber that nobody can resume any more is garbage, and what
 * only it referred to dies with it.  Its stack is found by the list of all fibers' stacks, after marking (gc/stacks.c).
 *
 * States, one word:
 *
 *     NEW        no stack yet                                        its maker
 *     SUSPENDED  may be resumed; in use: [stack_pointer, base)       any thread, by the step to RUNNING
 *     RUNNING    a thread runs on it: mutator.fiber                  that thread
 *     WAITING    it resumed another and waits for that to come back  the thread that runs the last of the chain
 *     FINISHED   its function has returned, or it was freed          nobody: it has no stack
 *     LOST       its thread ended, or is not in this process (fork)  nobody: its stack is never used again
 *
 *     NEW -> SUSPENDED          its maker
 *     SUSPENDED -> RUNNING      compare and swap, acquire: whoever wins owns everything else here
 *     RUNNING -> WAITING        its thread, before the switch
 *     WAITING -> RUNNING        the same thread, before the switch back
 *     RUNNING -> SUSPENDED      its thread, after the switch, on the other stack: a release, which says that the registers
 *                               are saved and the stack is left
 *     RUNNING -> FINISHED       the same; then the stack is put back
 *     SUSPENDED -> FINISHED     compare and swap, acquire: freed
 *     RUNNING, WAITING -> LOST  the thread's end; the child of a fork
 *
 * The chain.  fiber.resumer names the fiber that waits for this one; NULL: the thread's own stack does.  A fiber that
 * waits stays on its thread, since whatever comes back to it comes back there; one that is SUSPENDED may go on on any.
 *
 * A switch is a critical section that begins on one stack and ends on the other.  A stop signal that comes in between is
 * answered at its end, so a stopped world sees each fiber whole: either it is some mutator's `fiber` and that mutator's
 * stack_base is its own, or its stack pointer is saved.  A fork waits until no thread is in a critical section and lets none
 * begin before it is done.  (It must: the kernel copies one page after the other, and a child could find a fiber SUSPENDED
 * whose stack was copied before it was left.)  So the child sees the same, and what other threads ran is LOST.
 *
 * Who ends the section is the mutator that began it: the code on the other side is handed it, and must not use what it knew
 * of its thread from before.
 *
 * While the program runs beside a mark phase, what a fiber's stack refers to may change from the moment of the step
 * SUSPENDED -> RUNNING: the switch scans the stack first (mutator_hooks.switching). */
#ifndef MIDDEN_MUTATOR_FIBER_H
#define MIDDEN_MUTATOR_FIBER_H

#include <stdint.h>

#include "base/atomic.h"
#include "midden/midden.h"
#include "mutator/mutator.h"
#include "mutator/stack.h"
#include "page/arena.h"
#include "span/kind.h"
#include "span/mark_bits.h"
#include "span/object.h"

enum fiber_state { FIBER_NEW, FIBER_SUSPENDED, FIBER_RUNNING, FIBER_WAITING, FIBER_FINISHED, FIBER_LOST };

struct midden_fiber {
  uintptr_t check;            /* FIBER_CHECK less the own address: tells a fiber from other memory */
  uint32_t state;             /* enum fiber_state; atomic */
  struct midden_stack *stack; /* NULL where there is none */
  uintptr_t base;             /* what is in use ends here; mutator.stack_base while RUNNING; atomic */
  struct os_context context;
  struct midden_fiber *resumer; /* atomic */
  midden_fiber_fn *function;
  void *argument;         /* until the function has it; atomic */
  uint32_t scanned_cycle; /* beside the program: what is on the stack was scanned in that cycle; atomic */
};

#define FIBER_CHECK ((uintptr_t)0x4d8e1c7a5b3f9602)

static inline enum fiber_state fiber_state(const struct midden_fiber *fiber) {
  return (enum fiber_state)atomic_load_acquire(&fiber->state);
}

/* Whether an address is a fiber's; any value may be asked about. */
static inline bool fiber_is_one(const void *address) {
  uintptr_t value = (uintptr_t)address;
  if (value % GRANULE_BYTES != 0 || !arena_contains(&heap_arena, value)) return false;
  const struct span *span = object_span(value);
  if (span == NULL || span_state(span) != SPAN_IN_USE || span->kind != KIND_FIBER) return false;
  return ((const struct midden_fiber *)address)->check == FIBER_CHECK - value;
}

/* Makes a fiber of a zeroed object of KIND_FIBER and a stack.  Critical sections. */
int fiber_init(struct midden_fiber *fiber, midden_fiber_fn *function, void *argument, size_t stack_bytes);

/* The rest is called outside of critical sections, with the calling thread's mutator; after a return of one that switches
 * that may be another's. */

/* Runs `fiber` until it suspends or finishes; *result receives what came back.  0; -EBUSY where it is running or waiting;
 * -EINVAL where it has finished; -EOWNERDEAD where it is lost. */
int fiber_resume(struct mutator *self, struct midden_fiber *fiber, void *value, void **result);

/* Suspends the running fiber; returns what it is resumed with. */
void *fiber_yield(struct mutator *self, void *value);

/* Suspends the running fiber and has `fiber` run in its place: what waited for the one waits for the other.  Errors as
 * above. */
int fiber_switch(struct mutator *self, struct midden_fiber *fiber, void *value, void **result);

/* Ends the running fiber, for `next` (errors stop the process) or, NULL, for what waits for it. */
_Noreturn void fiber_finish(struct mutator *self, void *value, struct midden_fiber *next);

/* Frees the stack of a suspended fiber.  0, also where it has none; -EBUSY. */
int fiber_free(struct mutator *self, struct midden_fiber *fiber);

/* A thread ended, or is not in this process: what ran on it and waited on it never goes on.  In a critical section of that
 * thread, or the world stopped. */
void fiber_abandon(struct mutator *mutator);

/* In the child of a fork: of the fibers that were not suspended, those of the calling thread go on. */
void fiber_abandon_others(struct mutator *self);

/* What a stack that is in use nowhere holds is about to be given up, a fiber's that was claimed or, NULL, a registered one's.
 * Threads that were scanned may have loaded it: beside a mark phase it is scanned first.  Critical sections. */
void fiber_announce_end(struct mutator *self, struct midden_fiber *fiber, struct midden_stack *registered);

/* The program's own switch; see midden_stack_switch_begin.  `frame_end` is the public function's FRAME_END. */
void fiber_foreign_switch_begin(struct mutator *self, struct midden_stack *from, struct midden_stack *to,
                                uintptr_t frame_end);
void fiber_foreign_switch_end(struct mutator *self);

#endif
