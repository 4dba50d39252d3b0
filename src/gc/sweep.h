/* Sweeping policy: who sweeps what when.  How one span is swept is alloc/central.h's and span/slots.h's.
 *
 * At the end of a mark phase every span in use is unswept (sweep_begin).  By the next one every span must be swept.
 * Who does it:
 *
 *     the collecting thread   large objects, right after the cycle, a few hundred at most: their pages serve at once
 *     allocation              the spans that a cache takes from the central lists (central_exchange)
 *     midden_free             the span of the object that is freed (central_ensure_swept)
 *     reclaiming              spans without any mark, before the page heap touches new memory (sweep_reclaim)
 *     the background thread   everything, in order of address (sweep_background)
 *     debt                    the same, by threads that allocate, where the background falls behind (sweep_pay)
 *     the next cycle          what is left, in the collecting thread while the world runs (sweep_finish)
 *
 * The cursor.  The last three walk the arena in steps of SWEEP_STEP_PAGES.  A step belongs to whoever moved the cursor
 * past it; that thread sweeps what is still unswept of the spans that start there, claiming each (central_claim_many), since
 * the first four may come by at the same time.  A step is taken and done inside one critical section: so no step is
 * under way while the world is stopped, and when the cursor has passed the end before a stop, everything is swept in it.
 * The end is where the arena ended when marking did: later spans are born swept.
 *
 * Debt.  All is to be swept when a thirty-second of the way from the marked bytes to the goal is left.  So each page has a share
 * of that way: `sweep_due_bytes` is the figure of the account of live bytes at which more pages are owed than have been
 * swept, by whomever, when it was last computed.  A thread that finds it passed computes it anew, and if it is passed
 * still, takes steps until one finds something to sweep, before it allocates.  Where allocation itself sweeps all that it
 * uses, little is ever owed.
 * Spans in which nothing lives stay where they are then, as many as caches took in the last generation: they are taken next.
 * (Not in dirty-page mode, where they would stay protected.)
 *
 * The background thread leaves a program that allocates much alone: what allocation sweeps it uses at once, while it is in
 * the processor's cache, and no page goes to and fro between a size class and the page heap.  So it waits 2 ms after each
 * cycle, and again for as long as others sweep more than 512 KiB in that time.  What it is there for is the program that
 * allocates little, or stops.
 *
 * Reclaiming needs no order of large before small, nor a pass over the rest: only a span without any mark gives its pages
 * back, and those are exactly what it looks for, by their bits, large or small.
 *
 * The lock (rank LEAF, taken in critical sections) guards the cursor and the due figure; both are read without it. */
#ifndef MIDDEN_GC_SWEEP_H
#define MIDDEN_GC_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc/account.h"
#include "alloc/central.h"
#include "mutator/mutator.h"

/* Some tens of microseconds at most: 64 spans of small objects that all have to be given back. */
enum { SWEEP_STEP_PAGES = 64 };

/* After marking, the goal set, no thread in a critical section: what was swept is now unswept. */
void sweep_begin(void);

/* The goal has changed: spreads what is left to be swept over what is left to be allocated.  Critical sections. */
void sweep_revise(void);

/* Right after a cycle: sweeps large objects, not all where there are many.  Not in a critical section. */
void sweep_large(struct mutator *self);

/* Sweeps all that is left.  Not in a critical section: it enters one for each slice.  Steps that other threads have
 * begun may not be done when it returns; they are when the world next stops. */
void sweep_finish(struct mutator *self);

/* The account of live bytes at which a slice is owed; SIZE_MAX when nothing is left.  Atomic. */
extern size_t sweep_due_bytes;

static inline bool sweep_is_owed(void) {
  return atomic_load_relaxed(&account_live_bytes) >= atomic_load_relaxed(&sweep_due_bytes);
}

/* Pays: one slice, for `bytes` of a large object one more for each SWEEP_PAY_BYTES, while any is owed.  Not in a critical
 * section. */
void sweep_pay(struct mutator *self, size_t bytes);
#define SWEEP_PAY_BYTES ((size_t)512 << 10)

/* The background thread's task: a slice, unless the program is sweeping fast enough by itself. */
uint64_t sweep_background(struct mutator *self, uint64_t now_ns);

/* Whether the background thread is to be woken: there is enough to do, and it does not look by itself. */
bool sweep_wants_background(void);

/* Before an allocation of `pages` touches new memory: frees spans in which nothing was marked until so many pages are
 * free again, or as many pages have been looked at as one allocation may be made to wait for.  Each page is looked at
 * once a generation.  Critical sections. */
void sweep_reclaim(size_t pages);

/* How many pages are unswept.  Anywhere; may be out of date at once. */
size_t sweep_left_pages(void);

struct sweep_stats {
  size_t begun_pages;                /* unswept at the end of the last mark phase */
  size_t swept_pages[SWEEPER_COUNT]; /* of these, by whom */
  size_t freed_pages;                /* of these, given back to the page heap */
};

/* What has been swept since the end of the last mark phase. */
void sweep_read_stats(struct sweep_stats *stats);

#endif
