/* Finalizers: functions that run once their object is unreachable.
 *
 * A record for each object that has one, among its specials (SPECIAL_FINALIZER); when its time has come it joins the
 * queue of calls (gc/calls.h) as SPECIAL_QUEUED and keeps its object alive until it has run.
 *
 * The order in the mark phase, after everything reachable is marked and weak links are cleared (finalizer_settle).
 * Candidates are the records whose object is not marked by then.
 *
 *     1. what each candidate's object refers to is marked, the object itself is not, so that one which another reaches
 *        waits; UNORDERED objects are left out
 *     2. objects still unmarked are ready, except UNREACHABLE ones, and are marked with all they reach: the finalizer
 *        finds it whole
 *     3. UNREACHABLE ones are ready if that has not marked them
 *
 * Cycles.  An object that reaches itself through others is marked by step 1 and never becomes ready, as documented.
 * Step 1 marks for one candidate at a time.  Nothing marked so far reaches a candidate that is unmarked when its turn
 * comes; so if it is marked afterwards it has reached itself.  Each cycle that no other candidate leads to is counted once,
 * at its first member. */
#ifndef MIDDEN_GC_FINALIZER_H
#define MIDDEN_GC_FINALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gc/calls.h"

/* Critical sections; `object` is the first byte of an object.  NULL function clears.  0 or -ENOMEM. */
int finalizer_set(uintptr_t object, midden_finalizer_fn *function, void *argument, enum midden_finalizer_order order,
                  midden_finalizer_fn **old_function, void **old_argument);

/* An object is freed by the program: what it has, ready or not, does not run. */
void finalizer_object_freed(uintptr_t object);

/* The world stopped: makes every finalizer ready. */
void finalizer_ready_all_stw(void);

/* Settling, which may go on for long: it can be left and taken up again. */
enum finalizer_step { FINALIZER_REFERENCES, FINALIZER_ORDERED, FINALIZER_UNREACHABLE, FINALIZER_SETTLED };

struct finalizer_settling {
  struct midden_tracer *tracer;
  struct call_list candidates;
  void (*in_cycle)(struct special *record); /* hears of each object that reaches itself */
  /* Where it stands. */
  enum finalizer_step step;
  struct call *current; /* whose references are being marked */
  struct call_list
      ready;        /* that are marked with all they reach, or being so; they join the queue when all are settled */
  bool is_draining; /* not all is marked that was grey */
};

/* The collector, with all marked that is reachable from elsewhere.  Those that become ready join the queue.  `drain` marks what
 * is grey; where it returns false there is more, and so does this: it is to be called again.  Between two calls the program
 * may run, with the tracer's mode changed to CONCURRENT. */
void finalizer_settle_begin(struct finalizer_settling *settling);

/* All is marked that was grey, and trace functions are called from here on, as they were not before: what candidates refer to is
 * marked once more. */
void finalizer_settle_again(struct finalizer_settling *settling);
typedef bool finalizer_drain_fn(struct midden_tracer *tracer);
bool finalizer_settle(struct finalizer_settling *settling, finalizer_drain_fn *drain);

#endif
