#include "gc/cleanup.h"

#include <errno.h>

#include "base/atomic.h"
#include "mutator/barrier.h"
#include "span/object.h"

static uint64_t handles; /* given out so far; atomic */

int cleanup_add(uintptr_t object, midden_cleanup_fn *function, void *argument, uint64_t *handle) {
  struct span *span = object_span(object);
  struct call *call = special_alloc(false);
  if (call == NULL) return -ENOMEM;
  *call = (struct call){.cleanup = function, .argument = argument};
  call->many.special = (struct special){.object = object, .kind = SPECIAL_CLEANUP, .refers = calls_may_refer(argument)};
  call->handle = *handle = atomic_add_relaxed(&handles, UINT64_C(1)) + 1;
  lock_acquire(special_lock(span));
  int error = special_add_locked(span, &call->many.special);
  lock_release(special_lock(span));
  if (error != 0) special_free(&call->many.special);
  barrier_note(NULL, argument);
  return error;
}

/* The one behind it in the ring, or NULL at the ring's end. */
static struct special *next_of(struct special *first, struct special *record) {
  struct special *next = &((struct special_many *)record)->next_alike->special;
  return next == first ? NULL : next;
}

int cleanup_remove(uintptr_t object, uint64_t handle) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct special *first = special_find_locked(span, object, SPECIAL_CLEANUP), *record = first;
  while (record != NULL && call_from(record)->handle != handle) record = next_of(first, record);
  if (record != NULL) {
    special_remove_locked(span, record);
    special_free(record);
  }
  lock_release(special_lock(span));
  return record != NULL ? 0 : -ENOENT;
}

void cleanup_object_freed(uintptr_t object) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct special *record;
  while ((record = special_find_locked(span, object, SPECIAL_CLEANUP)) != NULL) {
    special_remove_locked(span, record);
    special_free(record);
  }
  lock_release(special_lock(span));
}

void cleanup_mark_arguments(struct midden_tracer *tracer, struct special *first) {
  for (struct special *record = first; record != NULL; record = next_of(first, record)) {
    if (record->refers) mark_address(tracer, (uintptr_t)call_from(record)->argument);
  }
}

void cleanup_queue(struct special *first) {
  for (struct special *record = first, *next; record != NULL; record = next) {
    next = next_of(first, record);
    record->object = 0;
    calls_append(call_from(record));
  }
}
