#include "gc/deferred.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/lock.h"
#include "gc/table.h"
#include "span/object.h"

void (*deferred_free)(struct mutator *self, uintptr_t object);

static struct lock lock = LOCK_INIT(LOCK_RANK_WORK);
static struct table waiting; /* under lock; the values are of no account */
static size_t count;         /* atomic; of them */
static size_t waiting_bytes; /* atomic; likewise */

static size_t bytes_of(uintptr_t object) { return span_slot_bytes(object_span(object)); }

int deferred_add(uintptr_t object) {
  lock_acquire(&lock);
  int error = table_get(&waiting, object) != NULL ? -EEXIST : table_add(&waiting, object, &waiting);
  atomic_store_relaxed(&count, waiting.count);
  if (error == 0) atomic_store_relaxed(&waiting_bytes, waiting_bytes + bytes_of(object));
  lock_release(&lock);
  return error;
}

size_t deferred_bytes(void) { return atomic_load_relaxed(&waiting_bytes); }

enum { STEP = 64 };

struct batch {
  uintptr_t objects[STEP];
  unsigned count;
  size_t place; /* in the table; entries before it are gone */
};

/* Removing an entry may move another one to its place. */
static void take_batch(struct batch *batch) {
  batch->count = 0;
  lock_acquire(&lock);
  while (batch->place < waiting.capacity && batch->count < STEP) {
    uintptr_t object = waiting.entries[batch->place].key;
    if (object == 0) {
      batch->place++;
      continue;
    }
    batch->objects[batch->count++] = object;
    atomic_store_relaxed(&waiting_bytes, waiting_bytes - bytes_of(object));
    table_remove(&waiting, object);
  }
  atomic_store_relaxed(&count, waiting.count);
  lock_release(&lock);
}

void deferred_run(struct mutator *self) {
  struct batch batch = {.place = 0};
  while (atomic_load_relaxed(&count) != 0) {
    mutator_enter(self);
    take_batch(&batch);
    for (unsigned i = 0; i < batch.count; i++) deferred_free(self, batch.objects[i]);
    mutator_leave(self);
  }
}
