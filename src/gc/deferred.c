#include "gc/deferred.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/bits.h"
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

/* In one critical section so many are freed at most, and of the table so much is looked through. */
enum { STEP = 64, LOOK = 4096 };

/* A table that is so much larger than the objects of a cycle call for was made by another one. */
enum { SPARE_FACTOR = 16 };

struct batch {
  uintptr_t objects[STEP];
  unsigned count;
  size_t place; /* in the table; entries before it are gone */
};

/* Removing an entry may move another one to its place. */
static void take_batch(struct batch *batch) {
  batch->count = 0;
  lock_acquire(&lock);
  size_t end = min_size(waiting.capacity, batch->place + LOOK);
  while (batch->place < end && batch->count < STEP) {
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

/* `most` waited. */
static void release_spare(struct mutator *self, size_t most) {
  mutator_enter(self);
  lock_acquire(&lock);
  if (waiting.count == 0 && waiting.capacity > LOOK && waiting.capacity / SPARE_FACTOR > most) table_release(&waiting);
  lock_release(&lock);
  mutator_leave(self);
}

void deferred_run(struct mutator *self) {
  struct batch batch = {.place = 0};
  size_t most = atomic_load_relaxed(&count);
  while (atomic_load_relaxed(&count) != 0) {
    mutator_enter(self);
    take_batch(&batch);
    for (unsigned i = 0; i < batch.count; i++) deferred_free(self, batch.objects[i]);
    mutator_leave(self);
  }
  release_spare(self, most);
}
