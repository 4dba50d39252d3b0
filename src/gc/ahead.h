/* Memory ahead of the program, where cycles run beside it: pages that the heap will need before the next cycle are faulted in by the
 * background thread, a chunk at a time.
 *
 * The first touch of a page costs a thread microseconds, that of a huge page hundreds of them: more than anything that the
 * collector makes it wait for.  So while the heap grows towards its goal some idle pages with memory behind them are kept
 * ready: a quarter of what is still to be allocated, at most AHEAD_MOST_BYTES or a 32nd of the heap.  The page heap tells when
 * half of them are used up.  A program that allocates faster than the background thread works still faults by itself. */
#ifndef MIDDEN_GC_AHEAD_H
#define MIDDEN_GC_AHEAD_H

#include <stdint.h>

#include "mutator/mutator.h"

#define AHEAD_MOST_BYTES ((size_t)48 << 20)

/* At start, for the modes that mark beside the program. */
void ahead_init(void);

/* After a cycle. */
void ahead_cycle_ended(void);

/* The page heap is low: hooks.low. */
void ahead_low(void);

/* The background thread's task. */
uint64_t ahead_task(struct mutator *self, uint64_t now_ns);

#endif
