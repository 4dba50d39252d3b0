/* Finalizers: functions that run once their object is unreachable.
 *
 * A record for each object that has one, found by the object's address; those whose time has come move to a queue, in
 * which they keep their object alive until they have run.  All under the specials lock (gc/weak.h), or while the world is
 * stopped.
 *
 * The order in the mark phase, after everything reachable is marked and weak links are cleared (finalizer_settle_stw):
 *
 *     1. what each such object refers to is marked, the object itself is not, so that one which another reaches waits;
 *        UNORDERED objects are left out
 *     2. objects still unmarked are ready, except UNREACHABLE ones, and are marked with all they reach: the finalizer
 *        finds it whole
 *     3. UNREACHABLE ones are ready if that has not marked them
 *
 * An object that reaches itself through others is marked by step 1 and never becomes ready, as documented. */
#ifndef MIDDEN_GC_FINALIZER_H
#define MIDDEN_GC_FINALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gc/mark.h"
#include "midden/midden.h"

void finalizer_init(void);

/* Critical sections; `object` is the first byte of an object.  NULL function clears.  0 or -ENOMEM. */
int finalizer_set(uintptr_t object, midden_finalizer_fn *function, void *argument, enum midden_finalizer_order order,
                  midden_finalizer_fn **old_function, void **old_argument);
void finalizer_object_freed(uintptr_t object);

/* Takes the next finalizer that is ready; false if none is. */
struct finalizer_call {
  midden_finalizer_fn *function;
  void *object, *argument;
};
bool finalizer_take(struct finalizer_call *call);
size_t finalizer_ready_count(void); /* atomic */
void finalizer_ready_all(void);

/* The world stopped. */
void finalizer_mark_roots_stw(struct midden_tracer *tracer);
void finalizer_settle_stw(struct midden_tracer *tracer, void (*drain)(struct midden_tracer *tracer));

#endif
