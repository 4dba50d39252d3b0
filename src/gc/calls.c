#include "gc/calls.h"

#include "base/atomic.h"
#include "mutator/barrier.h"
#include "page/arena.h"
#include "span/object.h"

enum { MARK_STEP = 256 }; /* calls that are marked with the lock held: who takes one waits */

static struct {
  struct lock lock;
  struct call_list calls; /* under lock */
  struct call *to_mark;   /* under lock; the next one, while the queue is marked; who takes it moves this on */
  uint64_t appended;      /* under lock; ever */
  size_t count;           /* those not called off; atomic, written under lock */
} queue = {.lock = LOCK_INIT(LOCK_RANK_CALLS)};

bool calls_may_refer(const void *argument) {
  return (uintptr_t)argument - heap_arena.start < heap_arena.end - heap_arena.start;
}

void calls_append_all(struct call_list *list) {
  lock_acquire(&queue.lock);
  queue.appended += list->count;
  atomic_store_relaxed(&queue.count, queue.count + list->count);
  call_list_join(&queue.calls, list);
  lock_release(&queue.lock);
}

void calls_append(struct call *call) {
  struct call_list alone = {0};
  call_list_append(&alone, call);
  calls_append_all(&alone);
}

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
  struct call *call = queue.calls.first;
  if (call == NULL) return NULL;
  queue.calls.first = call->next;
  queue.calls.count--;
  if (queue.to_mark == call) queue.to_mark = call->next;
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

static void mark_call(struct midden_tracer *tracer, const struct call *call) {
  if (is_called_off(call)) return;
  if (call->many.special.kind == SPECIAL_QUEUED) mark_address(tracer, call->many.special.object);
  mark_address(tracer, (uintptr_t)call->argument);
}

/* False at the end. */
static bool mark_some_locked(struct midden_tracer *tracer) {
  for (unsigned i = 0; i < MARK_STEP && queue.to_mark != NULL; i++, queue.to_mark = queue.to_mark->next)
    mark_call(tracer, queue.to_mark);
  return queue.to_mark != NULL;
}

uint64_t calls_mark_roots(struct midden_tracer *tracer) {
  lock_acquire(&queue.lock);
  uint64_t appended = queue.appended;
  queue.to_mark = queue.calls.first;
  while (mark_some_locked(tracer)) lock_pass(&queue.lock);
  lock_release(&queue.lock);
  return appended;
}

uint64_t calls_appended(void) {
  lock_acquire(&queue.lock);
  uint64_t appended = queue.appended;
  lock_release(&queue.lock);
  return appended;
}
