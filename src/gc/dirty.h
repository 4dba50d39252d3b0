/* A mark phase beside a program that has no write barrier: what it writes meanwhile is read off the page tables, and looked
 * at again.  Why nothing is lost is docs/dirty-pages.md.
 *
 *     protect    all pages with pointers, before anything is scanned; not in a minor cycle (generation.h), which instead
 *                begins to mark with what was written since the last one
 *     scan       each thread by itself, as in barrier mode; but what it allocates is white until the stop, unless there are
 *                trace functions
 *     mark       beside the program
 *     rounds     pages that were written are protected again, and what is marked on them is scanned again, with stacks, beside
 *                the program, until little is left; where it does not become less, threads that allocate are slowed, and if it
 *                still does not, since they write without allocating, the stop is as long as it must be
 *     look ahead where trace functions were met: a stop of their own, and rounds again
 *     the stop   the pages that are left, all roots, what becomes of the dead
 *     allow      what the program is about to write is watched no longer
 *
 * Run by the driver, which holds the collector lock.  Trace functions and the program's callbacks run in stops alone. */
#ifndef MIDDEN_GC_DIRTY_H
#define MIDDEN_GC_DIRTY_H

#include "gc/cycle.h"

/* A smaller heap is marked in a stop that is no longer than the end of such a cycle. */
#define DIRTY_LEAST_BYTES ((size_t)1 << 20)

/* In smaller heaps marking gains too little from huge pages that are joined again.  Tests change it. */
extern size_t dirty_join_least_bytes;

/* False once the system has said, at the first cycles, that it cannot tell what is written: the world is stopped for all of
 * each marking then. */
bool dirty_is_possible(void);

/* At start, instead of stopping the world from the beginning.  After concurrent_init. */
void dirty_init(void);

/* Whether threads allocated batches (midden_alloc_many) since the last cycle was handed over. */
extern bool dirty_batches_seen; /* atomic */

/* In a fork's child. */
void dirty_forked(void);

/* A cycle of this mode begins, beside the program or in a stop: where page faults are dear, those since the last one beside it count. */
void dirty_charge_faults(const struct cycle *cycle);

/* The mark phase.  Where writes cannot be told the world is stopped for all of it. */
void dirty_run(struct cycle *cycle);

/* After the books of a cycle are closed: what the program is about to write is not watched until the next one, unless that is to be
 * a minor one. */
void dirty_ended(struct cycle *cycle);

#endif
