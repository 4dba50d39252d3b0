#include "gc/finalizer.h"

#include <errno.h>

#include "base/atomic.h"
#include "gc/table.h"
#include "gc/weak.h"
#include "meta/fixalloc.h"
#include "span/mark_bits.h"
#include "span/object.h"

struct finalizer {
  uintptr_t object;
  midden_finalizer_fn *function;
  void *argument;
  enum midden_finalizer_order order;
  struct finalizer *next; /* in the queue, or in a list while settling */
};

static struct fixalloc records;
static struct table by_object; /* struct finalizer */

static struct {
  struct finalizer *first, **last;
  size_t count; /* atomic */
} queue = {.last = &queue.first};

void finalizer_init(void) { fixalloc_init(&records, sizeof(struct finalizer), true, PERSIST_SPECIAL); }

/* ---- the program's calls ---- */

static int set_locked(struct finalizer *existing, const struct finalizer *wanted) {
  if (wanted->function == NULL) {
    if (existing != NULL) fixalloc_free(&records, table_remove(&by_object, wanted->object));
    return 0;
  }
  if (existing != NULL) {
    *existing = *wanted;
    return 0;
  }
  struct finalizer *record = fixalloc_alloc(&records);
  if (record == NULL) return -ENOMEM;
  *record = *wanted;
  int error = table_add(&by_object, wanted->object, record);
  if (error != 0) fixalloc_free(&records, record);
  atomic_store_relaxed(&object_span(wanted->object)->has_specials, true);
  return error;
}

int finalizer_set(uintptr_t object, midden_finalizer_fn *function, void *argument, enum midden_finalizer_order order,
                  midden_finalizer_fn **old_function, void **old_argument) {
  struct finalizer wanted = {.object = object, .function = function, .argument = argument, .order = order};
  lock_acquire(&specials_lock);
  struct finalizer *existing = table_get(&by_object, object);
  struct finalizer old = existing != NULL ? *existing : (struct finalizer){0};
  int error = set_locked(existing, &wanted);
  lock_release(&specials_lock);
  if (error == 0 && old_function != NULL) *old_function = old.function;
  if (error == 0 && old_argument != NULL) *old_argument = old.argument;
  return error;
}

static void enqueue(struct finalizer *record) {
  record->next = NULL;
  *queue.last = record;
  queue.last = &record->next;
  atomic_store_relaxed(&queue.count, queue.count + 1);
}

/* The object may wait for its finalizer, and be reachable: another finalizer brought it back, or all were made ready. */
static void dequeue(uintptr_t object) {
  for (struct finalizer **place = &queue.first; *place != NULL;) {
    struct finalizer *record = *place;
    if (record->object != object) {
      place = &record->next;
      continue;
    }
    *place = record->next;
    if (queue.last == &record->next) queue.last = place;
    atomic_store_relaxed(&queue.count, queue.count - 1);
    fixalloc_free(&records, record);
  }
}

void finalizer_object_freed(uintptr_t object) {
  lock_acquire(&specials_lock);
  struct finalizer *record = table_remove(&by_object, object);
  if (record != NULL) fixalloc_free(&records, record);
  dequeue(object);
  lock_release(&specials_lock);
}

bool finalizer_take(struct finalizer_call *call) {
  lock_acquire(&specials_lock);
  struct finalizer *record = queue.first;
  if (record != NULL) {
    queue.first = record->next;
    if (queue.first == NULL) queue.last = &queue.first;
    atomic_store_relaxed(&queue.count, queue.count - 1);
    *call = (struct finalizer_call){record->function, (void *)record->object, record->argument};
    fixalloc_free(&records, record);
  }
  lock_release(&specials_lock);
  return record != NULL;
}

size_t finalizer_ready_count(void) { return atomic_load_relaxed(&queue.count); }

static int enqueue_and_remove(uintptr_t object, void *value, void *argument) {
  (void)object;
  (void)argument;
  enqueue(value);
  return false;
}

void finalizer_ready_all(void) {
  lock_acquire(&specials_lock);
  table_filter(&by_object, enqueue_and_remove, NULL);
  lock_release(&specials_lock);
}

/* ---- the collector's ---- */

static bool is_marked(uintptr_t object) { return mark_bit_get(&heap_arena, mark_side, object); }

void finalizer_mark_roots_stw(struct midden_tracer *tracer) {
  for (size_t i = 0; i < by_object.capacity; i++) {
    const struct finalizer *record = by_object.entries[i].value;
    if (by_object.entries[i].key != 0) mark_address(tracer, (uintptr_t)record->argument);
  }
  for (const struct finalizer *record = queue.first; record != NULL; record = record->next) {
    mark_address(tracer, record->object);
    mark_address(tracer, (uintptr_t)record->argument);
  }
}

/* Marks what an object refers to; IGNORE_SELF: as if it did not refer to itself.  Marks on their way are settled before
 * and after: none of them must meet the object while it looks marked. */
static void mark_references(struct midden_tracer *tracer, const struct finalizer *record) {
  bool hide_self = record->order == MIDDEN_FINALIZE_IGNORE_SELF;
  mark_settle(tracer);
  if (hide_self && is_marked(record->object)) return;
  if (hide_self) mark_bit_set(&heap_arena, mark_side, record->object);
  mark_contents(tracer, record->object);
  mark_settle(tracer);
  if (hide_self) mark_bit_clear(&heap_arena, mark_side, record->object);
}

struct settling {
  struct midden_tracer *tracer;
  bool unreachable;           /* which are meant: those of order UNREACHABLE, or the others */
  struct finalizer *unmarked; /* found unmarked */
};

static int mark_references_of_dead(uintptr_t object, void *value, void *argument) {
  const struct settling *settling = argument;
  const struct finalizer *record = value;
  if (record->order != MIDDEN_FINALIZE_UNORDERED && !is_marked(object)) mark_references(settling->tracer, record);
  return true;
}

static int take_unmarked(uintptr_t object, void *value, void *argument) {
  struct settling *settling = argument;
  struct finalizer *record = value;
  bool wanted = settling->unreachable == (record->order == MIDDEN_FINALIZE_UNREACHABLE);
  if (!wanted || is_marked(object)) return true;
  record->next = settling->unmarked;
  settling->unmarked = record;
  return false;
}

/* Objects that are unmarked become ready, and are marked. */
static void make_ready(struct settling *settling) {
  settling->unmarked = NULL;
  table_filter(&by_object, take_unmarked, settling);
  for (struct finalizer *record = settling->unmarked, *next; record != NULL; record = next) {
    next = record->next;
    mark_address(settling->tracer, record->object);
    enqueue(record);
  }
}

void finalizer_settle_stw(struct midden_tracer *tracer, void (*drain)(struct midden_tracer *tracer)) {
  if (by_object.count == 0) return;
  struct settling settling = {.tracer = tracer};
  table_filter(&by_object, mark_references_of_dead, &settling);
  drain(tracer);
  make_ready(&settling);
  drain(tracer);
  settling.unreachable = true;
  make_ready(&settling);
  drain(tracer);
}
