#include "gc/calls.h"

#include "base/atomic.h"
#include "mutator/barrier.h"
#include "page/arena.h"
#include "span/object.h"

static struct {
  struct lock lock;
  struct call *first, **last; /* under lock */
  size_t count;               /* those not called off; atomic, written under lock */
} queue = {.lock = LOCK_INIT(LOCK_RANK_CALLS), .last = &queue.first};

bool calls_may_refer(const void *argument) {
  return (uintptr_t)argument - heap_arena.start < heap_arena.end - heap_arena.start;
}

void calls_append_all(struct call *first, struct call *last, size_t count) {
  lock_acquire(&queue.lock);
  last->next = NULL;
  *queue.last = first;
  queue.last = &last->next;
  atomic_store_relaxed(&queue.count, queue.count + count);
  lock_release(&queue.lock);
}

void calls_append(struct call *call) { calls_append_all(call, call, 1); }

static bool is_called_off(const struct call *call) { return call->finalizer == NULL; }

void calls_cancel_locked(struct call *call) {
  lock_acquire(&queue.lock);
  if (!call->many.special.taken) {
    call->finalizer = NULL;
    atomic_store_relaxed(&queue.count, queue.count - 1);
  }
  lock_release(&queue.lock);
}

static struct call *pop_locked(void) {
  struct call *call = queue.first;
  if (call == NULL) return NULL;
  queue.first = call->next;
  if (queue.first == NULL) queue.last = &queue.first;
  return call;
}

/* The first that was not called off, marked as taken. */
static struct call *take_first(struct due_call *due) {
  lock_acquire(&queue.lock);
  struct call *call;
  while ((call = pop_locked()) != NULL && is_called_off(call)) special_free(&call->many.special);
  if (call != NULL) {
    struct special *record = &call->many.special;
    bool is_cleanup = record->kind == SPECIAL_CLEANUP;
    record->taken = true;
    atomic_store_relaxed(&queue.count, queue.count - 1);
    *due = (struct due_call){.argument = call->argument, .object = is_cleanup ? NULL : (void *)record->object};
    if (is_cleanup) {
      due->cleanup = call->cleanup;
    } else {
      due->finalizer = call->finalizer;
    }
  }
  lock_release(&queue.lock);
  return call;
}

bool calls_take(struct due_call *due) {
  struct call *call = take_first(due);
  if (call == NULL) return false;
  struct special *record = &call->many.special;
  if (record->kind == SPECIAL_QUEUED) {
    struct span *span = object_span((uintptr_t)due->object);
    lock_acquire(special_lock(span));
    if (record->object != 0) special_remove_locked(span, record);
    lock_release(special_lock(span));
  }
  special_free(record);
  /* Both from the queue, a root, to the thread's stack, which may have been scanned. */
  barrier_note(due->object, NULL);
  barrier_note(due->argument, NULL);
  return true;
}

size_t calls_count(void) { return atomic_load_relaxed(&queue.count); }

void calls_mark_roots(struct midden_tracer *tracer) {
  lock_acquire(&queue.lock);
  for (const struct call *call = queue.first; call != NULL; call = call->next) {
    if (is_called_off(call)) continue;
    if (call->many.special.kind == SPECIAL_QUEUED) mark_address(tracer, call->many.special.object);
    mark_address(tracer, (uintptr_t)call->argument);
  }
  lock_release(&queue.lock);
}
