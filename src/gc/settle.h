/* What becomes of the dead: the end of a mark phase, in this order.
 *
 *     roots      arguments of finalizers, and the queue of calls; marked with all other roots
 *     values     the heap is marked.  Values of ephemerons, and arguments of cleanups whose objects are marked, are marked
 *                with all that follows from them (gc/cell.h)
 *     arguments  those of the other cleanups, one object at a time; what is marked now is strongly reachable
 *     clearing   weak references, ephemerons and links of BEFORE_FINALIZERS whose targets are not marked
 *     finalizers of what is not marked are found, and become ready; their objects are marked with all that they reach
 *                (gc/finalizer.h)
 *     the end    what is not marked now is dead: cells leave the lists of their targets, links of AFTER_FINALIZERS are cleared,
 *                cleanups are queued, the specials of the dead leave their sets
 *
 * "values", "clearing" and "the end" each visit the sets in parallel.  All this happens while the world is stopped; in barrier
 * mode, and in part in dirty-page mode, beside the program, by one thread (docs/barrier-mode.md, docs/dirty-pages.md).  What can
 * wait (hash tables, freeing of records, watchers) is done when the world runs, by settle_finish, in short critical sections
 * and before another mark phase can begin. */
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

/* Before a mark phase. */
void settle_begin(void);

/* ---- the world stopped ---- */

/* "roots": the queue of calls, by one marker; the arguments of finalizers, by each marker for its share. */
void settle_mark_queue_stw(struct midden_tracer *tracer);
void settle_mark_share_stw(struct midden_tracer *tracer);

/* Who marked the heap: the first `count` of `tracers`; `drain` marks all that is grey, alone. */
struct settle_markers {
  struct midden_tracer *tracers;
  unsigned count;
  void (*drain)(struct midden_tracer *tracer);
};

/* "values": then all is marked that is reachable.  And the rest. */
void settle_values_stw(const struct settle_markers *markers);
void settle_dead_stw(const struct settle_markers *markers);

/* The rest in steps: "arguments" and "clearing"; "finalizers", of which so many are found to be settled, and `drain` may say that
 * there is more (gc/finalizer.h), NULL: all at once; and "the end".  settle_finalizers_again: finalizer_settle_again. */
void settle_clear_stw(const struct settle_markers *markers);
size_t settle_find_finalizers_stw(void);
bool settle_finalizers(finalizer_drain_fn *drain);
void settle_finalizers_again(void);
void settle_end_stw(void);

/* settle_find_finalizers_stw has much to look at, and is better left for after the stop; or so much that it is for who does nothing but
 * wait for the cycle, too. */
bool settle_takes_long(void);
bool settle_takes_very_long(void);

/* After "clearing": the world may run before all finalizers are settled, or found: not where links of AFTER_FINALIZERS lead to what
 * is not marked, since the program reads those words, and must find dead objects in none.  Leaves the stop; then those that were not
 * looked for are found by settle_find_finalizers_running, and the end is settle_end_running. */
bool settle_may_leave_stop(void);
void settle_leave_stop(void);
void settle_find_finalizers_running(void);
void settle_end_running(void);

/* ---- the world running ---- */

/* "roots". */
void settle_mark_roots_running(struct midden_tracer *tracer);

/* "values" as of now.  The first makes them grey, for all markers to scan what they lead to, and returns how many they are.  The
 * second marks them with all that follows, by one marker; false where there was no memory for that: to be called again. */
uint64_t settle_grey_values_running(struct midden_tracer *tracer);
bool settle_mark_values_running(struct midden_tracer *tracer);

/* "arguments", when all is marked that is reachable, and once in a cycle; true if anything was marked.  An object that is marked by
 * it, as it seems by its own cleanup's argument, is a suspect.  Where no thread has marked anything meanwhile, the suspects are
 * stuck, and are to be counted. */
bool settle_mark_arguments_running(struct midden_tracer *tracer);
bool settle_has_suspects_running(void);
void settle_count_stuck_running(void);

/* "clearing", "finalizers" and "the end". */
void settle_dead_running(const struct settle_markers *markers);

/* ---- dirty-page mode: ahead of the stop, which settles all the same ---- */

/* Makes "roots" and "values" as of now grey; how many. */
uint64_t settle_grey_ahead_running(struct midden_tracer *tracer);

/* How many specials may refer to the heap: there is news as far as they become more. */
size_t settle_referring(void);

/* In the stop: what came to be since, as far as that is known.  Nothing is marked of the queue where no call came to it, nor of sets
 * whose finalizers were given no arguments; of "values", nothing of sets whose objects were all marked. */
void settle_mark_new_queue_stw(struct midden_tracer *tracer);
void settle_mark_new_share_stw(struct midden_tracer *tracer);
void settle_new_values_stw(const struct settle_markers *markers);

/* ---- afterwards ---- */

/* Bytes that were marked for finalizers alone, which are to run or stand in cycles. */
size_t settle_dying_bytes(void);

/* The world runs again; the collector lock is held. */
void settle_finish(struct mutator *self);

/* ---- for others ---- */

/* Whether there are any ephemerons or cleanups: any object that is marked may be one's. */
bool settle_may_have_values(void);

/* Whether marking an object may call for more to be marked; and marks it (mark.c, while marking is watched).  `running`: the
 * world is. */
bool settle_is_watched(uintptr_t object, bool running);
void settle_mark_consequences(struct midden_tracer *tracer, uintptr_t object);

/* An object is freed by the program: takes its specials along.  Critical sections. */
void settle_object_freed(uintptr_t object);

#endif
