/* Stacks beside the threads' own, as the collector sees them: those of fibers are read when the fiber is marked, those
 * that the program registered are roots. */
#ifndef MIDDEN_GC_STACKS_H
#define MIDDEN_GC_STACKS_H

#include "gc/mark.h"
#include "mutator/fiber.h"
#include "os/os.h"

/* At start: tells marking how fibers are read. */
void stacks_init_kind(void);

/* The world stopped: the registered stacks that are parked. */
typedef void stacks_visit_fn(void *argument, struct os_range range);
void stacks_visit_parked_stw(stacks_visit_fn *visit, void *argument);

/* The same for registered stacks while the world runs; the visitor is called with the lock of the stacks held. */
void stacks_visit_parked(stacks_visit_fn *visit, void *argument);

/* Marks what is on a fiber's stack, which nobody runs on, and what it refers to; or on a parked registered stack. */
void stacks_mark_fiber(const struct midden_fiber *fiber, struct midden_tracer *tracer);
void stacks_mark_parked(const struct midden_stack *stack, struct midden_tracer *tracer);

/* All marking done, the world running, no span may become free: puts the stacks of dead fibers back, a few at a time. */
void stacks_free_dead(struct mutator *self);

/* The world stopped, all marking done: puts the stacks of dead fibers back. */
void stacks_free_dead_stw(void);

/* The world stopped: every fiber and its stack belong to each other. */
void stacks_verify_stw(void);

#endif
