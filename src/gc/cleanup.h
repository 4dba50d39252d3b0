/* Cleanups: functions that are called after their object is gone.
 *
 * An object may have many (a ring of SPECIAL_CLEANUP).  When it is found dead at the end of a mark phase, after finalizers
 * had their chance to bring it back, its cleanups join the queue of calls (gc/calls.h), in the order in which they were
 * added, and the object is freed in that same cycle: nobody is handed its address.
 *
 * The argument of a cleanup is kept as long as the cleanup is: by its object while that lives, by the queue afterwards.
 * It is marked like the value of an ephemeron, when the object is known to be marked; arguments of objects that are not
 * are marked last, one object at a time (gc/settle.c).  An object that its own argument reaches is thereby told from one
 * that is merely reachable: it can never be cleaned up, and is counted. */
#ifndef MIDDEN_GC_CLEANUP_H
#define MIDDEN_GC_CLEANUP_H

#include "gc/calls.h"

/* Critical sections.  `object` is the first byte of an object.  0 or -ENOMEM; *handle names the cleanup and is not 0. */
int cleanup_add(uintptr_t object, midden_cleanup_fn *function, void *argument, uint64_t *handle);

/* 0, or -ENOENT where the object has no such cleanup. */
int cleanup_remove(uintptr_t object, uint64_t handle);

/* An object is freed by the program: its cleanups do not run. */
void cleanup_object_freed(uintptr_t object);

/* The world stopped, or the stripe held: marks the arguments of all cleanups of an object, given the first of them. */
void cleanup_mark_arguments(struct midden_tracer *tracer, struct special *first);

/* Queues all cleanups of a dead object, given the first of them, which is in no list any more. */
void cleanup_queue(struct special *first);

#endif
