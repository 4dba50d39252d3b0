/* Allocation for the other entry points. */
#ifndef MIDDEN_API_ALLOCATE_H
#define MIDDEN_API_ALLOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"

/* An object of any kind but MIDDEN_TYPED, the library's own included.  May collect.  NULL where there is no memory, after
 * the program's handler was told. */
void *allocate_object(unsigned kind, size_t bytes);

/* What was tried for something that has found no memory, all 0 at first: how often; the pages that were in use then, and how many
 * collections there had been; whether one was its own doing: without memory there may be none; and whether it has waited for the end
 * of another's. */
struct shortage {
  unsigned count;
  size_t in_use_bytes;
  uint64_t collections;
  bool has_collected;
  bool has_awaited;
};

/* Collects, sweeps, gives back what is idle, more each time: about `bytes` may be had after it.  False when nothing is left to try.
 * Outside critical sections. */
bool allocate_try_harder(struct mutator *self, size_t bytes, struct shortage *shortage);

/* At start: says how an object is freed whose freeing had to wait. */
void allocate_init(void);

#endif
