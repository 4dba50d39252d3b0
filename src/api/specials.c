/* Finalizers, cleanups and weak links as the program sees them. */
#include "api/specials.h"

#include <errno.h>

#include "api/dispatcher.h"
#include "api/start.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "gc/calls.h"
#include "gc/cleanup.h"
#include "gc/collector.h"
#include "gc/finalizer.h"
#include "gc/weak.h"
#include "midden/midden.h"
#include "span/object.h"

static uint64_t finalizers_run, cleanups_run; /* atomic */

uint64_t specials_finalizers_run(void) { return atomic_load_relaxed(&finalizers_run); }
uint64_t specials_cleanups_run(void) { return atomic_load_relaxed(&cleanups_run); }

/* Whether an address is the first byte of a living object. */
static bool find_start(struct mutator *self, const void *address, struct object *object) {
  return cache_find_object(&self->cache, address, object) && object->start == (uintptr_t)address;
}

/* ---- finalizers and cleanups ---- */

int midden_finalizer_set(void *address, midden_finalizer_fn *function, void *argument,
                         enum midden_finalizer_order order, midden_finalizer_fn **old_function, void **old_argument) {
  struct mutator *self = start_self();
  struct object object;
  if ((unsigned)order > MIDDEN_FINALIZE_UNREACHABLE) return -EINVAL;
  mutator_enter(self);
  int error = -EINVAL;
  if (find_start(self, address, &object))
    error = finalizer_set(object.start, function, argument, order, old_function, old_argument);
  mutator_leave(self);
  return error;
}

/* An argument in the object itself would keep it for ever. */
static int add_cleanup(struct mutator *self, void *address, midden_cleanup_fn *function, void *argument,
                       uint64_t *handle) {
  struct object object, other;
  if (function == NULL || !find_start(self, address, &object)) return -EINVAL;
  if (cache_find_object(&self->cache, argument, &other) && other.start == object.start) return -EINVAL;
  return cleanup_add(object.start, function, argument, handle);
}

int midden_cleanup_add(void *address, midden_cleanup_fn *function, void *argument, uint64_t *handle) {
  struct mutator *self = start_self();
  uint64_t given = 0;
  mutator_enter(self);
  int error = add_cleanup(self, address, function, argument, &given);
  mutator_leave(self);
  if (error == 0 && handle != NULL) *handle = given;
  return error;
}

int midden_cleanup_remove(void *address, uint64_t handle) {
  struct mutator *self = start_self();
  struct object object;
  mutator_enter(self);
  int error = find_start(self, address, &object) ? cleanup_remove(object.start, handle) : -EINVAL;
  mutator_leave(self);
  return error;
}

/* ---- running them ---- */

/* By whatever thread it is now: a finalizer may suspend the fiber in which they run, for another one to go on with it. */
static NOINLINE bool take(struct due_call *due) {
  struct mutator *self = start_self();
  mutator_enter(self);
  bool taken = calls_take(due);
  mutator_leave(self);
  return taken;
}

static void run(const struct due_call *due) {
  if (due->finalizer != NULL) {
    due->finalizer(due->object, due->argument);
    atomic_add_relaxed(&finalizers_run, UINT64_C(1));
  } else {
    due->cleanup(due->argument);
    atomic_add_relaxed(&cleanups_run, UINT64_C(1));
  }
}

size_t midden_finalizers_run(size_t max) {
  struct due_call due;
  size_t count = 0;
  start_ensure();
  for (; count < max && calls_count() != 0 && take(&due); count++) run(&due);
  return count;
}

bool midden_finalizers_ready(void) { return calls_count() != 0; }

static void ready_all(void *unused) {
  (void)unused;
  finalizer_ready_all_stw();
}

void midden_finalizers_ready_all(void) {
  collector_call_stopped(start_self(), ready_all, NULL);
  collector_notify_finalizers();
}

static struct notify {
  midden_notify_fn *function;
  void *argument;
} notify; /* changed and read as hooks are */

static struct notify read_notify(void) {
  struct mutator *self = start_self();
  collector_lock_hooks(self);
  struct notify read = notify;
  collector_unlock_hooks(self);
  return read;
}

/* The dispatcher comes first: where one runs, the program has nothing to do. */
static void tell(void *unused) {
  (void)unused;
  if (dispatcher_wake()) return;
  struct notify read = read_notify();
  if (read.function != NULL) read.function(read.argument);
}

void specials_listen(void) { atomic_store_release(&collector_hooks.finalizers_ready, tell); }

void midden_set_finalizer_notify(midden_notify_fn *function, void *argument) {
  struct mutator *self = start_self();
  collector_lock_hooks(self);
  notify = (struct notify){function, argument};
  collector_unlock_hooks(self);
  specials_listen();
}

/* ---- weak links ---- */

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
