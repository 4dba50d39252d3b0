/* Weak references and ephemerons as the program sees them.  Both are cells (gc/cell.h); any value may be passed where one
 * of them is expected, and is looked up before it is believed. */
#include "api/weak.h"

#include <errno.h>

#include "api/allocate.h"
#include "api/start.h"
#include "gc/cell.h"
#include "midden/midden.h"
#include "span/object.h"

struct cell *weak_cell_of(const void *address, unsigned kind) {
  struct object object;
  bool found = cache_find_object(cache_self, address, &object) && object.start == (uintptr_t)address;
  return found && object.span->kind == kind ? (struct cell *)object.start : NULL;
}

int weak_cell_set_entered(struct mutator *self, struct cell *cell, const void *target) {
  struct object object;
  if (target == NULL) return cell_set(cell, 0, 0);
  if (!cache_find_object(&self->cache, target, &object)) return -EINVAL;
  return cell_set(cell, (uintptr_t)target, object.start);
}

static int set_target(struct cell *cell, const void *target) {
  struct mutator *self = start_self();
  mutator_enter(self);
  int error = weak_cell_set_entered(self, cell, target);
  mutator_leave(self);
  return error;
}

static struct cell *new_cell(unsigned kind, const void *target, const void *value) {
  struct cell *cell = allocate_object(kind, sizeof *cell);
  if (cell == NULL) return NULL;
  cell_set_value(cell, (void *)(uintptr_t)value);
  return set_target(cell, target) == 0 ? cell : NULL;
}

/* ---- weak references ---- */

struct midden_weak *midden_weak_new(const void *target) {
  if (target != NULL && !midden_owns(target)) return NULL;
  return (struct midden_weak *)new_cell(KIND_WEAK, target, NULL);
}

void *midden_weak_get(const struct midden_weak *weak) {
  const struct cell *cell = weak_cell_of(weak, KIND_WEAK);
  return cell == NULL ? NULL : (void *)cell_read(cell, NULL);
}

int midden_weak_set(struct midden_weak *weak, const void *target) {
  start_ensure();
  struct cell *cell = weak_cell_of(weak, KIND_WEAK);
  return cell == NULL ? -EINVAL : set_target(cell, target);
}

/* ---- ephemerons ---- */

struct midden_ephemeron *midden_ephemeron_new(const void *key, const void *value) {
  if (!midden_owns(key)) return NULL;
  return (struct midden_ephemeron *)new_cell(KIND_EPHEMERON, key, value);
}

void *midden_ephemeron_key(const struct midden_ephemeron *ephemeron) {
  const struct cell *cell = weak_cell_of(ephemeron, KIND_EPHEMERON);
  return cell == NULL ? NULL : (void *)cell_read(cell, NULL);
}

void *midden_ephemeron_value(const struct midden_ephemeron *ephemeron) {
  const struct cell *cell = weak_cell_of(ephemeron, KIND_EPHEMERON);
  if (cell == NULL) return NULL;
  void *value;
  cell_read(cell, &value);
  return value;
}
