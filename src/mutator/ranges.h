/* A set of addresses kept as sorted, disjoint ranges. */
#ifndef MIDDEN_MUTATOR_RANGES_H
#define MIDDEN_MUTATOR_RANGES_H

#include <stddef.h>
#include <stdint.h>

#include "os/os.h"

struct ranges {
  struct os_range *items; /* ascending, no two touch */
  size_t count, capacity;
};

/* Both join and split ranges as needed.  0 or -ENOMEM, the set unchanged. */
int ranges_add(struct ranges *set, struct os_range range);
int ranges_remove(struct ranges *set, struct os_range range);

/* The number of the first range that ends beyond an address; `count`: none does. */
size_t ranges_first_beyond(const struct ranges *set, uintptr_t address);

/* Forgets all, keeps the memory. */
void ranges_clear(struct ranges *set);

/* Visits the parts of `range` that are not in the set. */
void ranges_visit_outside(const struct ranges *set, struct os_range range,
                          void (*visit)(void *argument, struct os_range range), void *argument);

#endif
