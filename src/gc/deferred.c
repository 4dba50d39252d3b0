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

/* In one critical section so many are freed at most. */
enum { STEP = 64 };

/* A table that is so much larger than the objects of a cycle call for was made by another one. */
enum { SPARE_FACTOR = 16, SPARE_LEAST_BYTES = 64 * 1024 };

static size_t take_batch(size_t *place, uintptr_t *objects) {
  lock_acquire(&lock);
  size_t taken = table_take(&waiting, place, objects, STEP);
  for (size_t i = 0; i < taken; i++) atomic_store_relaxed(&waiting_bytes, waiting_bytes - bytes_of(objects[i]));
  atomic_store_relaxed(&count, waiting.count);
  lock_release(&lock);
  return taken;
}

static bool is_spare_locked(size_t most) {
  size_t bytes = table_bytes(&waiting);
  return bytes > SPARE_LEAST_BYTES && bytes / sizeof(struct table_entry) / SPARE_FACTOR > most;
}

/* `most` waited. */
static void release_spare(struct mutator *self, size_t most) {
  bool is_spare = true;
  for (bool has_begun = false; is_spare; has_begun = true) {
    mutator_enter(self);
    lock_acquire(&lock);
    is_spare = waiting.count == 0 && (has_begun || is_spare_locked(most)) && table_release_some(&waiting);
    lock_release(&lock);
    mutator_leave(self);
  }
}

void deferred_run(struct mutator *self) {
  uintptr_t objects[STEP];
  size_t place = 0, most = atomic_load_relaxed(&count);
  while (atomic_load_relaxed(&count) != 0) {
    mutator_enter(self);
    size_t taken = take_batch(&place, objects);
    for (size_t i = 0; i < taken; i++) deferred_free(self, objects[i]);
    mutator_leave(self);
  }
  release_spare(self, most);
}
