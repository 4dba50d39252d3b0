/* The pacer: when the next cycle starts.
 *
 * After a cycle that marked `live` bytes the program may allocate `percent` of them before the next one starts, and
 * PACER_SMALL_FACTOR times as much again of the first PACER_SMALL_BYTES of them: small heaps would otherwise collect all
 * the time to save little.  The goal is at least the minimum heap.
 *
 * The memory limit is on all memory that is held, the goal counts bytes of objects.  From the one to the other leads the
 * footprint: what the heap holds beside its objects, and how many bytes of pages a byte of objects took when the last cycle
 * began, which is when the heap was fullest.  A little is left for tables that grow.  Under the limit some headroom
 * always remains; that collections do not come too often then is the limiter's business.
 *
 * The largest heap is a limit on pages alone, and a hard one: whoever finds no room waits for a whole cycle.  So that one begins
 * in time, the goal stays below it. */
#ifndef MIDDEN_GC_PACER_H
#define MIDDEN_GC_PACER_H

#include <stddef.h>
#include <stdint.h>

#define PACER_SMALL_BYTES ((size_t)8 << 20)
enum { PACER_SMALL_FACTOR = 2 };

struct pacer {
  int percent;               /* growth; negative: no cycle for growth */
  size_t min_heap_bytes;     /* floor of the goal */
  size_t dying_bytes;        /* of what lived after the last full cycle: what finalizers alone kept */
  size_t initial_heap_bytes; /* floor of the first goal */
  size_t memory_limit_bytes; /* SIZE_MAX for none */
  size_t max_heap_bytes;     /* likewise; of pages */
};

/* Memory as the last cycle found it when it began; all 0: nothing is known. */
struct pacer_footprint {
  size_t fixed_bytes;  /* stacks and metadata */
  size_t in_use_bytes; /* pages that held objects */
  size_t object_bytes; /* the account of objects in them */
};

/* The goal after a cycle, in bytes of live heap; and what it would be without limits. */
size_t pacer_goal(const struct pacer *pacer, size_t live_bytes, const struct pacer_footprint *footprint);
size_t pacer_unlimited_goal(const struct pacer *pacer, size_t live_bytes);

/* How much of objects the limits leave room for; SIZE_MAX without any.  And a goal within them, where so much lives. */
size_t pacer_room(const struct pacer *pacer, const struct pacer_footprint *footprint);
size_t pacer_limited(const struct pacer *pacer, size_t goal, size_t live_bytes,
                     const struct pacer_footprint *footprint);

/* The goal before the first cycle. */
size_t pacer_first_goal(const struct pacer *pacer);

/* The least that is allocated between two cycles for the limit. */
size_t pacer_headroom(size_t live_bytes);

/* The bytes of pages that `object_bytes` of objects will take. */
size_t pacer_pages_bytes(const struct pacer_footprint *footprint, size_t object_bytes);

#endif
