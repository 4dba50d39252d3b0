/* What becomes of the dead: the end of a mark phase, in this order.
 *
 *     roots      arguments of finalizers, and the queue of calls; marked with all other roots
 *     values     the heap is marked.  Values of ephemerons, and arguments of cleanups whose objects are marked, are marked
 *                with all that follows from them (gc/cell.h)
 *     arguments  those of the other cleanups, one object at a time; what is marked now is strongly reachable
 *     clearing   weak references, ephemerons and links of BEFORE_FINALIZERS whose targets are not marked
 *     finalizers become ready; their objects are marked with all that they reach (gc/finalizer.h)
 *     the end    what is not marked now is dead: cells leave the lists of their targets, links of AFTER_FINALIZERS are cleared,
 *                cleanups are queued, the specials of the dead leave their sets
 *
 * "values", "clearing" and "the end" each visit the sets in parallel.  All this happens while the world is stopped; what
 * can wait (hash tables, freeing of records, watchers) is done when it runs again, by settle_finish, in short critical
 * sections and before another mark phase can begin. */
#ifndef MIDDEN_GC_SETTLE_H
#define MIDDEN_GC_SETTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gc/finalizer.h"
#include "gc/mark.h"
#include "mutator/mutator.h"

void settle_init(void);

/* Names on standard error each finalizer and cleanup that can never run, once.  Set at start. */
extern bool settle_names_stuck;

/* Found by the last mark phase; atomic. */
extern size_t settle_finalizer_cycles, settle_cleanups_stuck;
extern uintptr_t settle_finalizer_cycle; /* ~ an object of the first of them; 0: there are none */

/* A mark phase, the world stopped: first; then by one marker; then by each for its share. */
void settle_begin_stw(void);
void settle_mark_queue_stw(struct midden_tracer *tracer);
void settle_mark_share_stw(struct midden_tracer *tracer);

/* The world stopped, the heap marked by the first `markers` of `tracers`; `drain` marks all that is grey, alone.  First
 * "values": then all is marked that is reachable.  Then the rest. */
struct settle_markers {
  struct midden_tracer *tracers;
  unsigned count;
  void (*drain)(struct midden_tracer *tracer);
};
void settle_values_stw(const struct settle_markers *markers);
void settle_dead_stw(const struct settle_markers *markers);

/* The rest in steps: "arguments" and "clearing", which gives the number of finalizers to be settled; "finalizers", where
 * `drain` may say that there is more (gc/finalizer.h), NULL: all at once; and "the end". */
size_t settle_clear_stw(const struct settle_markers *markers);
bool settle_finalizers(finalizer_drain_fn *drain);
void settle_end_stw(void);

/* After "clearing": the world may run before all finalizers are settled: not where links of AFTER_FINALIZERS lead to what is not
 * marked, since the program reads those words, and must find dead objects in none.  Leaves the stop, in which case the end is this
 * one. */
bool settle_may_leave_stop(void);
void settle_leave_stop(void);
void settle_end_running(void);

/* The same while the world runs: docs/barrier-mode.md.  The roots among specials.  "Values" as of now, which are grey then, for all
 * markers to scan what they lead to; how many.  "Values" with all that follows, by one marker;
 * false if there was no memory for that: to be called again.  "Arguments", likewise, where all that is reachable is marked, and once
 * in a cycle; true if anything was marked.  If there are suspects then, and no thread has marked anything meanwhile, they are those
 * that are stuck.  And what becomes of the dead. */
void settle_mark_roots_running(struct midden_tracer *tracer);
uint64_t settle_grey_values_running(struct midden_tracer *tracer);
bool settle_mark_values_running(struct midden_tracer *tracer);
bool settle_mark_arguments_running(struct midden_tracer *tracer);
bool settle_has_suspects_running(void);
void settle_count_stuck_running(void);
void settle_dead_running(const struct settle_markers *markers);

/* Dirty-page mode, before the stop, which settles all the same: "roots" and "values" as of now are grey then; how many.  And how many
 * specials may refer to the heap: there is news as far as they become more.  Of "roots" the stop marks what came to be since, as far as
 * that is known: nothing of the queue where no call came to it, nothing of sets whose finalizers were given no arguments.  So of
 * "values", where all objects of a set were marked. */
uint64_t settle_grey_ahead_running(struct midden_tracer *tracer);
size_t settle_referring(void);
void settle_mark_new_queue_stw(struct midden_tracer *tracer);
void settle_mark_new_share_stw(struct midden_tracer *tracer);
void settle_new_values_stw(const struct settle_markers *markers);

/* After settling: bytes that are marked for finalizers alone, which are to run or stand in cycles. */
size_t settle_dying_bytes(void);

/* The world runs again; the collector lock is held. */
void settle_finish(struct mutator *self);

/* Whether there are any ephemerons or cleanups: any object that is marked may be one's. */
bool settle_may_have_values(void);

/* Whether marking an object may call for more to be marked; and marks it (mark.c, while marking is watched).  `running`: the
 * world is. */
bool settle_is_watched(uintptr_t object, bool running);
void settle_mark_consequences(struct midden_tracer *tracer, uintptr_t object);

/* An object is freed by the program: takes its specials along.  Critical sections. */
void settle_object_freed(uintptr_t object);

#endif
