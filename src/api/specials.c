/* Finalizers and weak links as the program sees them. */
#include "api/specials.h"

#include <errno.h>

#include "api/start.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "gc/collector.h"
#include "gc/finalizer.h"
#include "gc/weak.h"
#include "midden/midden.h"
#include "span/object.h"

static uint64_t finalizers_run; /* atomic */

uint64_t specials_finalizers_run(void) { return atomic_load_relaxed(&finalizers_run); }

int midden_finalizer_set(void *address, midden_finalizer_fn *function, void *argument,
                         enum midden_finalizer_order order, midden_finalizer_fn **old_function, void **old_argument) {
  struct mutator *self = start_self();
  struct object object;
  if ((unsigned)order > MIDDEN_FINALIZE_UNREACHABLE) return -EINVAL;
  mutator_enter(self);
  bool found = cache_find_object(&self->cache, address, &object) && object.start == (uintptr_t)address;
  int error = -EINVAL;
  if (found) error = finalizer_set(object.start, function, argument, order, old_function, old_argument);
  mutator_leave(self);
  return error;
}

static bool take(struct mutator *self, struct finalizer_call *call) {
  mutator_enter(self);
  bool taken = finalizer_take(call);
  mutator_leave(self);
  return taken;
}

size_t midden_finalizers_run(size_t max) {
  struct mutator *self = start_self();
  struct finalizer_call call;
  size_t count = 0;
  for (; count < max && finalizer_ready_count() != 0 && take(self, &call); count++) {
    call.function(call.object, call.argument);
    atomic_add_relaxed(&finalizers_run, UINT64_C(1));
  }
  return count;
}

bool midden_finalizers_ready(void) { return finalizer_ready_count() != 0; }

void midden_finalizers_ready_all(void) {
  struct mutator *self = start_self();
  mutator_enter(self);
  finalizer_ready_all();
  mutator_leave(self);
  collector_notify_finalizers();
}

void midden_set_finalizer_notify(midden_notify_fn *notify, void *argument) {
  start_ensure();
  collector_hooks.finalizers_argument = argument;
  atomic_store_release(&collector_hooks.finalizers_ready, notify);
}

static bool is_link(void *const *link, enum midden_weak_when when) {
  return link != NULL && is_aligned((uintptr_t)link, sizeof(void *)) && (unsigned)when <= MIDDEN_WEAK_AFTER_FINALIZERS;
}

int midden_weak_link(void **link, const void *target, enum midden_weak_when when) {
  struct mutator *self = start_self();
  struct object object;
  if (!is_link(link, when)) return -EINVAL;
  mutator_enter(self);
  int error =
      cache_find_object(&self->cache, target, &object) ? weak_link((uintptr_t)link, object.start, when) : -EINVAL;
  mutator_leave(self);
  return error;
}

int midden_weak_unlink(void **link, enum midden_weak_when when) {
  struct mutator *self = start_self();
  if (!is_link(link, when)) return -ENOENT;
  mutator_enter(self);
  int error = weak_unlink((uintptr_t)link, when);
  mutator_leave(self);
  return error;
}

int midden_weak_move(void **from, void **to, enum midden_weak_when when) {
  struct mutator *self = start_self();
  if (!is_link(from, when)) return -ENOENT;
  if (!is_link(to, when)) return -EINVAL;
  mutator_enter(self);
  int error = weak_move((uintptr_t)from, (uintptr_t)to, when);
  mutator_leave(self);
  return error;
}
