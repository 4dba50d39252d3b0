/* The pacer: when the next cycle starts.
 *
 * After a cycle that marked `live` bytes the program may allocate `percent` of them before the next one starts, and
 * PACER_SMALL_FACTOR times as much again of the first PACER_SMALL_BYTES of them: small heaps would otherwise collect all
 * the time to save little.  The goal is at least the minimum heap, and no more than what the memory limit leaves after
 * everything else that the heap holds.  Under the limit a little headroom always remains,
 * so that a program whose live heap fills the limit slows down instead of collecting at every allocation. */
#ifndef MIDDEN_GC_PACER_H
#define MIDDEN_GC_PACER_H

#include <stddef.h>
#include <stdint.h>

#define PACER_SMALL_BYTES ((size_t)8 << 20)
enum { PACER_SMALL_FACTOR = 2 };

struct pacer {
  int percent;               /* growth; negative: no cycle for growth */
  size_t min_heap_bytes;     /* floor of the goal */
  size_t initial_heap_bytes; /* floor of the first goal */
  size_t memory_limit_bytes; /* SIZE_MAX for none */
};

/* The goal after a cycle, in bytes of live heap.  `overhead_bytes` is the memory that the heap holds beside live objects. */
size_t pacer_goal(const struct pacer *pacer, size_t live_bytes, size_t overhead_bytes);

/* The goal before the first cycle. */
size_t pacer_first_goal(const struct pacer *pacer);

#endif
