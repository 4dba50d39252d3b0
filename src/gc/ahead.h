/* Memory ahead of the program, where cycles run beside it: pages that the heap will need before the next cycle are faulted in by the
 * background thread, a chunk at a time.
 *
 * The first touch of a page costs a thread microseconds, that of a huge page hundreds of them: more than anything that the
 * collector makes it wait for.  So while the heap grows towards its goal some idle pages with memory behind them are kept
 * ready: a quarter of what is still to be allocated, at most AHEAD_MOST_BYTES or a 32nd of the heap, and at least a few chunks
 * in a large one, which may grow past its goal.  With them go the tables for the arena's next growth, of which a page would
 * be touched first under the page heap's lock.  The page heap tells when half of the pages are used up.  A program that
 * allocates faster than the background thread works still faults by itself, and so does one near its memory limit. */
#ifndef MIDDEN_GC_AHEAD_H
#define MIDDEN_GC_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"

#define AHEAD_MOST_BYTES ((size_t)48 << 20)

/* How much is to be ready, of a heap that needs so many bytes of pages by its goal and has so many in use.  SIZE_MAX: its need is
 * not known yet, and nothing is made ready. */
size_t ahead_wanted_bytes(size_t need_bytes, size_t in_use_bytes);

/* At start, for the modes that mark beside the program. */
void ahead_init(void);

/* After a cycle. */
void ahead_cycle_ended(void);

/* The page heap is low: hooks.low. */
void ahead_low(void);

/* The background thread's task. */
uint64_t ahead_task(struct mutator *self, uint64_t now_ns);

/* In a fork's child: what the task was at is the heap's again. */
void ahead_forked(void);

#endif
