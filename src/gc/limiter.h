/* The limiter: no more than half of the processor time for the collector, however tight the memory limit is.
 *
 * A leaky bucket.  Processor time of the collector runs in, processor time of the program lets as much run out.  While
 * less than LIMITER_CAPACITY_NS is in it, collections may come as often as the memory limit asks; beyond, the limit
 * yields: a collection that only the limit asks for waits until the program has had its share.  So over any stretch of
 * time the collector gets at most as much as the program, plus the bucket's capacity and what one collection costs.
 *
 * All times are given by the caller.  Guarded by the collector lock; `level_ns` is atomic to read. */
#ifndef MIDDEN_GC_LIMITER_H
#define MIDDEN_GC_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#define LIMITER_CAPACITY_NS ((uint64_t)200 * 1000 * 1000)

struct limiter {
  uint64_t level_ns;     /* what is in the bucket; atomic */
  uint64_t seen_ns;      /* processor time of the process as of the last call */
  uint64_t unsettled_ns; /* charged since then: part of the process's time that is not the program's */
  uint64_t yield_count;  /* collections that were put off; atomic */
};

/* `process_ns`: processor time of all threads of the process so far. */
void limiter_init(struct limiter *limiter, uint64_t process_ns);

/* The collector has used so much processor time. */
void limiter_charge(struct limiter *limiter, uint64_t collector_ns);

/* Lets run out what the program has used since the last call; whether the limit is to be honoured.  Counts a yield where
 * it is not. */
bool limiter_allows(struct limiter *limiter, uint64_t process_ns);

#endif
