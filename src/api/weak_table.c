/* Weak tables: from keys, by identity, to values, an ephemeron for each entry.
 *
 * The table is an object (KIND_WEAK_TABLE) that refers to an array of ephemerons, open addressing with linear probing.  An
 * entry whose key died, or that was removed, is an ephemeron without a key: it keeps its place, so that probing goes past
 * it, until the array is made anew.  At most half of the places are used, those included.
 *
 * Locks.  A table is changed and searched under one of a few locks, by its address (LOCK_RANK_TABLES), in a critical
 * section: so keys neither die nor move meanwhile.  Nothing is allocated from the heap under the lock: what may be needed is
 * made first, and the search done again.
 *
 * Walking takes the array as it is and looks at a slice of it at a time.  When the table gets another array meanwhile the
 * walk goes on in the old one, whose ephemerons are the same. */
#include <errno.h>

#include "api/allocate.h"
#include "api/start.h"
#include "api/weak.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "midden/barrier.h"
#include "span/kind.h"
#include "span/object.h"

enum { LEAST_CAPACITY = 8, SLICE = 1024, STRIPES = 16 };

struct table {
  struct cell **places;
  size_t capacity; /* a power of two, or 0 */
  size_t used;     /* places that are not NULL */
  size_t removed;  /* of them, by midden_weak_table_remove */
};

static struct lock locks[STRIPES] = {[0 ... STRIPES - 1] = LOCK_INIT(LOCK_RANK_TABLES)};

static struct lock *lock_of(const struct table *table) { return &locks[((uintptr_t)table >> 5) % STRIPES]; }

static struct table *table_of(const struct midden_weak_table *table) {
  return (struct table *)weak_cell_of(table, KIND_WEAK_TABLE);
}

static void *key_of(const struct cell *cell) { return (void *)atomic_load_acquire(&cell->target); }

static size_t home_of(const void *key, size_t capacity) {
  return (size_t)(((uintptr_t)key >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - highest_bit(capacity)));
}

/* The place of a key, or the free place where it would go.  There is one. */
static struct cell **find(struct cell **places, size_t capacity, const void *key) {
  size_t place = home_of(key, capacity);
  while (places[place] != NULL && key_of(places[place]) != key) place = (place + 1) & (capacity - 1);
  return &places[place];
}

static struct cell *find_entry_locked(const struct table *table, const void *key) {
  return table->capacity == 0 || key == NULL ? NULL : *find(table->places, table->capacity, key);
}

static void enter(struct mutator *self, const struct table *table) {
  mutator_enter(self);
  lock_acquire(lock_of(table));
}

static void leave(struct mutator *self, const struct table *table) {
  lock_release(lock_of(table));
  mutator_leave(self);
}

/* ---- walking ---- */

struct walk {
  struct cell **places; /* on the walking thread's stack, which keeps them */
  size_t capacity, next;
};

static struct walk begin_walk(struct mutator *self, struct table *table) {
  enter(self, table);
  struct walk walk = {.places = table->places, .capacity = table->capacity};
  leave(self, table);
  return walk;
}

static size_t count_slice_locked(struct walk *walk) {
  size_t count = 0, end = min_size(walk->next + SLICE, walk->capacity);
  for (; walk->next < end; walk->next++) {
    const struct cell *cell = walk->places[walk->next];
    count += cell != NULL && key_of(cell) != NULL;
  }
  return count;
}

static size_t count_living(struct mutator *self, struct table *table) {
  struct walk walk = begin_walk(self, table);
  size_t count = 0;
  while (walk.next < walk.capacity) {
    enter(self, table);
    count += count_slice_locked(&walk);
    leave(self, table);
  }
  return count;
}

/* ---- another array ---- */

static size_t capacity_for(size_t entries) {
  size_t capacity = LEAST_CAPACITY;
  while (capacity / 4 < entries) capacity *= 2;
  return capacity;
}

static void replace_places_locked(struct table *table, struct cell **places, size_t capacity) {
  size_t used = 0;
  for (size_t i = 0; i < table->capacity; i++) {
    struct cell *cell = table->places[i];
    void *key = cell == NULL ? NULL : key_of(cell);
    if (key == NULL) continue;
    atomic_store_relaxed(find(places, capacity, key), cell); /* a marker may read the new array [birth] */
    used++;
  }
  midden_store(&table->places, places);
  atomic_store_relaxed(&table->capacity, capacity);
  atomic_store_relaxed(&table->used, used);
  atomic_store_relaxed(&table->removed, (size_t)0);
}

static bool has_room_locked(const struct table *table) { return table->used < table->capacity / 2; }

/* Makes an array for what lives now and three times as much again.  False where there is no memory.  Nothing is done
 * where another thread was faster, or added more meanwhile than there would be room for. */
static bool resize(struct mutator *self, struct table *table) {
  enter(self, table);
  struct table before = *table;
  leave(self, table);
  size_t entries = count_living(self, table), capacity = capacity_for(entries + 1);
  struct cell **places = allocate_object(MIDDEN_CONSERVATIVE, capacity * sizeof(struct cell *));
  if (places == NULL) return false;
  enter(self, table);
  bool is_same = table->places == before.places;
  if (is_same && entries + (table->used - before.used) < capacity / 2) replace_places_locked(table, places, capacity);
  leave(self, table);
  return true;
}

/* ---- the program's calls ---- */

struct midden_weak_table *midden_weak_table_new(void) {
  return allocate_object(KIND_WEAK_TABLE, sizeof(struct table));
}

void *midden_weak_table_get(const struct midden_weak_table *weak_table, const void *key) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return NULL;
  enter(self, table);
  struct cell *cell = find_entry_locked(table, key);
  void *value = NULL;
  if (cell != NULL) cell_read_entered(self, cell, &value);
  leave(self, table);
  return value;
}

enum outcome { DONE, WANTS_ROOM, WANTS_CELL };

/* One attempt; `fresh` is an ephemeron to be used, or NULL. */
static enum outcome try_set_locked(struct mutator *self, struct table *table, const void *key, void *value,
                                   struct cell *fresh, int *error) {
  struct cell *cell = find_entry_locked(table, key);
  if (cell != NULL) {
    cell_set_value(cell, value);
    return DONE;
  }
  if (!has_room_locked(table)) return WANTS_ROOM;
  if (fresh == NULL) return WANTS_CELL;
  cell_set_value(fresh, value);
  *error = weak_cell_set_entered(self, fresh, key);
  if (*error != 0) return DONE;
  midden_store(find(table->places, table->capacity, key), fresh);
  atomic_store_relaxed(&table->used, table->used + 1);
  return DONE;
}

int midden_weak_table_set(struct midden_weak_table *weak_table, const void *key, const void *value) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL || !midden_owns(key)) return -EINVAL;
  struct cell *fresh = NULL;
  for (;;) {
    int error = 0;
    enter(self, table);
    enum outcome outcome = try_set_locked(self, table, key, (void *)(uintptr_t)value, fresh, &error);
    leave(self, table);
    if (outcome == DONE) return error;
    if (outcome == WANTS_ROOM && !resize(self, table)) return -ENOMEM;
    if (outcome != WANTS_CELL) continue;
    fresh = allocate_object(KIND_EPHEMERON, sizeof *fresh);
    if (fresh == NULL) return -ENOMEM;
  }
}

int midden_weak_table_remove(struct midden_weak_table *weak_table, const void *key) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return -EINVAL;
  enter(self, table);
  struct cell *cell = find_entry_locked(table, key);
  if (cell != NULL) {
    cell_set(cell, 0, 0);
    cell_set_value(cell, NULL);
    atomic_store_relaxed(&table->removed, table->removed + 1);
  }
  bool is_sparse = table->capacity > LEAST_CAPACITY && table->removed > table->used / 2;
  leave(self, table);
  if (is_sparse) resize(self, table); /* without memory it stays as large as it is */
  return cell != NULL ? 0 : -ENOENT;
}

size_t midden_weak_table_count(struct midden_weak_table *weak_table) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return 0;
  size_t count = count_living(self, table);
  if (atomic_load_relaxed(&table->capacity) > 4 * capacity_for(count)) resize(self, table);
  return count;
}

/* The next entry of a walk; false at its end.  By whatever thread it is now: what was called for the last one may have suspended the
 * fiber that walks, for another one to go on with it. */
static NOINLINE bool next_entry(struct table *table, struct walk *walk, void **key, void **value) {
  struct mutator *self = start_self();
  *key = NULL;
  while (*key == NULL && walk->next < walk->capacity) {
    enter(self, table);
    for (int i = 0; i < SLICE && *key == NULL && walk->next < walk->capacity; i++) {
      const struct cell *cell = walk->places[walk->next++];
      if (cell == NULL) continue;
      *key = (void *)cell_read_entered(self, cell, value);
    }
    leave(self, table);
  }
  return *key != NULL;
}

size_t midden_weak_table_each(struct midden_weak_table *weak_table, midden_weak_table_visit_fn *visit, void *argument) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL || visit == NULL) return 0;
  struct walk walk = begin_walk(self, table);
  void *key, *value;
  size_t count = 0;
  while (next_entry(table, &walk, &key, &value)) {
    count++;
    if (!visit(key, value, argument)) break;
  }
  return count;
}
