/* Cells for weak tables. */
#ifndef MIDDEN_API_WEAK_H
#define MIDDEN_API_WEAK_H

#include "gc/cell.h"
#include "mutator/mutator.h"

/* The cell of a kind that starts at an address, or NULL. */
struct cell *weak_cell_of(const void *address, unsigned kind);

/* Critical sections.  0, -EINVAL where `target` is neither NULL nor in an object, -ENOMEM. */
int weak_cell_set_entered(struct mutator *self, struct cell *cell, const void *target);

#endif
