/* Weak tables: from keys, by identity, to values, an ephemeron for each entry.
 *
 * The table is an object (KIND_WEAK_TABLE) that refers to an array of ephemerons, open addressing with linear probing.  An
 * entry whose key died, or that was removed, is an ephemeron without a key, or `nobody`: it keeps its place, so that probing goes past
 * it, until another array takes over.  At most half of the places are used, those included.
 *
 *     used - removed     at least as many as live, by which the capacity of another array goes
 *     looking            where many ephemerons have died since it was done last, the array is looked through, some places at a time,
 *                        for such whose keys died: `nobody` takes their places, and they are garbage
 *     moving             when no place is left, or most of them have no entry, an array of another size takes over.  Entries are
 *                        copied to it from the old one, some at a time, and the old one stays as it is until all are: an entry is
 *                        in the new one, or in the old one, or, as the same ephemeron, in both
 *
 * Each call on a table does a step of the one or the other, and so no call is long but those that visit all entries, which
 * finish a move first: then one array has all entries, and keeps them while it is an old one.  An array that takes over has at least
 * four places for each entry that may live, and a 16th of the old one's: so it has room for all of these and for what is added meanwhile,
 * since a call moves more than it adds (MOVE_CELLS, MOVE_PLACES).
 *
 * Locks.  A table is changed and searched under one of a few locks, by its address (LOCK_RANK_TABLES), in a critical
 * section: so keys neither die nor move meanwhile.  Nothing is allocated from the heap under the lock: what may be needed is
 * made first, and the search done again.
 *
 * Markers may read table and arrays at any time: references are stored with the barrier, other words atomically.  Beside a cycle an entry
 * that is moved is told to the barrier, as any; what still lies in the old array alone is marked from there. */
#include <errno.h>

#include "api/allocate.h"
#include "api/start.h"
#include "api/weak.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/cell.h"
#include "midden/barrier.h"
#include "os/os.h"
#include "span/kind.h"
#include "span/object.h"

enum {
  LEAST_CAPACITY = 8,
  SLICE = 1024, /* places that a visit to all takes at a time */
  STRIPES = 16,
  MOVE_PLACES = 512, /* that a step of moving takes, */
  MOVE_CELLS = 32,   /* or as far as so many entries */
  LOOK_PLACES = 8,   /* that a step of looking takes */
  LOOK_PART = 4,     /* looking begins when a 4th as many ephemerons have died as places are in use, */
  LOOK_LEAST = 16,   /* and so many */
  SHRINK_LEAST = 4,  /* a smaller array has a 4th of the places at most, */
  SHRINK_MOST = 16   /* and a 16th of them at least */
};

struct table {
  struct cell **places;
  size_t capacity;          /* a power of two, or 0 */
  size_t used;              /* places that are not NULL */
  size_t removed;           /* of them, known to have no entry */
  struct cell **old_places; /* NULL: nothing is being moved */
  size_t old_capacity;
  size_t moved;  /* old places */
  size_t looked; /* places, of the capacity */
  uint64_t died; /* ephemerons, ever, when looking or moving began */
};

/* In the place of an entry that is no more. */
static struct cell nobody;

static struct lock locks[STRIPES] = {[0 ... STRIPES - 1] = LOCK_INIT(LOCK_RANK_TABLES)};

static struct lock *lock_of(const struct table *table) { return &locks[((uintptr_t)table >> 5) % STRIPES]; }

static struct table *table_of(const struct midden_weak_table *table) {
  return (struct table *)weak_cell_of(table, KIND_WEAK_TABLE);
}

static void *key_of(const struct cell *cell) { return (void *)atomic_load_acquire(&cell->target); }

/* The place of a key, or the free place where it would go.  There is one. */
static struct cell **find(struct cell **places, size_t capacity, const void *key) {
  size_t place = hash_address((uintptr_t)key, capacity);
  while (places[place] != NULL && key_of(places[place]) != key) place = (place + 1) & (capacity - 1);
  return &places[place];
}

static bool is_moving(const struct table *table) { return table->old_places != NULL; }

/* The place of a key's entry, or NULL. */
static struct cell **find_place_locked(const struct table *table, const void *key) {
  if (table->capacity == 0 || key == NULL) return NULL;
  struct cell **place = find(table->places, table->capacity, key);
  if (*place == NULL && is_moving(table)) place = find(table->old_places, table->old_capacity, key);
  return *place == NULL ? NULL : place;
}

static struct cell *find_entry_locked(const struct table *table, const void *key) {
  struct cell **place = find_place_locked(table, key);
  return place == NULL ? NULL : *place;
}

static void set_word(size_t *word, size_t value) { atomic_store_relaxed(word, value); }

static void enter(struct mutator *self, const struct table *table) {
  mutator_enter(self);
  lock_acquire(lock_of(table));
}

static void leave(struct mutator *self, const struct table *table) {
  lock_release(lock_of(table));
  mutator_leave(self);
}

/* ---- moving, looking ---- */

static size_t capacity_for(size_t entries) {
  size_t capacity = LEAST_CAPACITY;
  while (capacity / 4 < entries) capacity *= 2;
  return capacity;
}

/* Of an array that can take over. */
static size_t least_capacity(const struct table *table) { return capacity_for(table->used - table->removed); }

static size_t wanted_capacity(const struct table *table) {
  return max_size(least_capacity(table), table->capacity / SHRINK_MOST);
}

static bool is_sparse_locked(const struct table *table) {
  return !is_moving(table) && wanted_capacity(table) <= table->capacity / SHRINK_LEAST;
}

static void begin_move_locked(struct table *table, struct cell **places, size_t capacity) {
  if (table->capacity != 0) midden_store(&table->old_places, table->places);
  set_word(&table->old_capacity, table->capacity);
  midden_store(&table->places, places);
  set_word(&table->capacity, capacity);
  set_word(&table->used, 0);
  set_word(&table->removed, 0);
  set_word(&table->moved, 0);
  set_word(&table->looked, capacity);
  atomic_store_relaxed(&table->died, atomic_load_relaxed(&cell_ephemerons_died));
}

/* Looks at so many old places, fewer where that are MOVE_CELLS entries. */
static void move_some_locked(struct table *table, size_t places) {
  size_t end = min_size(table->moved + places, table->old_capacity), i = table->moved;
  for (unsigned cells = 0; i < end && cells < MOVE_CELLS; i++) {
    struct cell *cell = table->old_places[i];
    void *key = cell == NULL ? NULL : key_of(cell);
    cells += cell != NULL;
    if (key == NULL) continue;
    midden_store(find(table->places, table->capacity, key), cell);
    set_word(&table->used, table->used + 1);
  }
  set_word(&table->moved, i);
  if (i == table->old_capacity) midden_store(&table->old_places, NULL);
}

static void clear_place_locked(struct table *table, struct cell **place) {
  midden_store(place, &nobody);
  set_word(&table->removed, table->removed + 1);
}

/* Whether the entry of a place lives. */
static bool look_at_locked(struct table *table, struct cell **place) {
  if (*place == NULL || *place == &nobody) return false;
  if (key_of(*place) != NULL) return true;
  clear_place_locked(table, place);
  return false;
}

static void look_at_some_locked(struct table *table) {
  if (table->looked >= table->capacity) {
    uint64_t died = atomic_load_relaxed(&cell_ephemerons_died);
    if (died - table->died < max_size(table->used / LOOK_PART, LOOK_LEAST)) return;
    atomic_store_relaxed(&table->died, died);
    set_word(&table->looked, 0);
  }
  size_t end = min_size(table->looked + LOOK_PLACES, table->capacity);
  for (size_t i = table->looked; i < end; i++) look_at_locked(table, &table->places[i]);
  set_word(&table->looked, end);
}

static void enter_and_step(struct mutator *self, struct table *table) {
  enter(self, table);
  if (is_moving(table)) {
    move_some_locked(table, MOVE_PLACES);
  } else {
    look_at_some_locked(table);
  }
}

/* Where the system gives memory in huge pages, the first touch of each takes milliseconds.  No critical section is to wait for it.
 * (It is a store, since what is read first costs a second fault.) */
static void touch(struct cell **places, size_t capacity) {
  size_t stride = os_huge_page_bytes() / sizeof *places;
  if (stride == 0) return;
  for (size_t i = 0; i < capacity; i += stride) atomic_store_relaxed(&places[i], (struct cell *)NULL);
  atomic_store_relaxed(&places[capacity - 1], (struct cell *)NULL);
}

/* False where there is no memory.  Nothing is done where another thread was faster, or has added more meanwhile than there would be
 * room for. */
static bool replace_array(struct mutator *self, struct table *table) {
  enter(self, table);
  struct cell **before = table->places;
  size_t capacity = wanted_capacity(table);
  leave(self, table);
  struct cell **places = allocate_object(MIDDEN_CONSERVATIVE, capacity * sizeof(struct cell *));
  if (places == NULL) return false;
  touch(places, capacity);
  enter(self, table);
  bool is_same = table->places == before && !is_moving(table);
  if (is_same && least_capacity(table) <= capacity) begin_move_locked(table, places, capacity);
  leave(self, table);
  return true;
}

/* Without memory a table stays as large as it is. */
static void leave_and_shrink(struct mutator *self, struct table *table) {
  bool is_sparse = is_sparse_locked(table);
  leave(self, table);
  if (is_sparse) replace_array(self, table);
}

/* ---- visiting all ---- */

struct walk {
  struct cell **places; /* on the walking thread's stack, which keeps them */
  size_t capacity, next;
};

static struct walk begin_walk(struct mutator *self, struct table *table) {
  enter(self, table);
  while (is_moving(table)) {
    move_some_locked(table, SLICE);
    leave(self, table);
    enter(self, table);
  }
  struct walk walk = {.places = table->places, .capacity = table->capacity};
  leave(self, table);
  return walk;
}

/* Looks, besides. */
static size_t count_slice_locked(struct table *table, struct walk *walk) {
  size_t count = 0, end = min_size(walk->next + SLICE, walk->capacity);
  bool is_current = table->places == walk->places;
  for (; walk->next < end; walk->next++) {
    struct cell **place = &walk->places[walk->next];
    count += is_current ? look_at_locked(table, place) : *place != NULL && key_of(*place) != NULL;
  }
  return count;
}

static size_t count_living(struct mutator *self, struct table *table) {
  struct walk walk = begin_walk(self, table);
  size_t count = 0;
  while (walk.next < walk.capacity) {
    enter(self, table);
    count += count_slice_locked(table, &walk);
    leave(self, table);
  }
  return count;
}

/* ---- the program's calls ---- */

struct midden_weak_table *midden_weak_table_new(void) {
  return allocate_object(KIND_WEAK_TABLE, sizeof(struct table));
}

void *midden_weak_table_get(const struct midden_weak_table *weak_table, const void *key) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return NULL;
  enter_and_step(self, table);
  struct cell *cell = find_entry_locked(table, key);
  void *value = NULL;
  if (cell != NULL) cell_read_entered(self, cell, &value);
  leave(self, table);
  return value;
}

enum outcome { DONE, WANTS_ROOM, WANTS_CELL };

/* One attempt; `fresh` is an ephemeron to be used, which has the value, or NULL. */
static enum outcome try_set_locked(struct mutator *self, struct table *table, const void *key, void *value,
                                   struct cell *fresh, int *error) {
  struct cell *cell = find_entry_locked(table, key);
  if (cell != NULL) {
    cell_set_value(cell, value);
    return DONE;
  }
  if (table->used >= table->capacity / 2) return WANTS_ROOM;
  if (fresh == NULL) return WANTS_CELL;
  *error = weak_cell_set_entered(self, fresh, key);
  if (*error != 0) return DONE;
  midden_store(find(table->places, table->capacity, key), fresh);
  set_word(&table->used, table->used + 1);
  return DONE;
}

int midden_weak_table_set(struct midden_weak_table *weak_table, const void *key, const void *value) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL || !midden_owns(key)) return -EINVAL;
  struct cell *fresh = NULL;
  for (;;) {
    int error = 0;
    enter_and_step(self, table);
    enum outcome outcome = try_set_locked(self, table, key, (void *)(uintptr_t)value, fresh, &error);
    if (outcome == DONE) {
      leave_and_shrink(self, table);
      return error;
    }
    leave(self, table);
    if (outcome == WANTS_ROOM && !replace_array(self, table)) return -ENOMEM;
    if (outcome != WANTS_CELL) continue;
    fresh = allocate_object(KIND_EPHEMERON, sizeof *fresh);
    if (fresh == NULL) return -ENOMEM;
    cell_set_value(fresh, (void *)(uintptr_t)value); /* the first touch, which may take long; see touch */
  }
}

/* An old array stays as it is. */
static void remove_locked(struct table *table, struct cell **place) {
  struct cell *cell = *place;
  cell_set(cell, 0, 0);
  cell_set_value(cell, NULL);
  if (place >= table->places && place < table->places + table->capacity) clear_place_locked(table, place);
}

int midden_weak_table_remove(struct midden_weak_table *weak_table, const void *key) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return -EINVAL;
  enter_and_step(self, table);
  struct cell **place = find_place_locked(table, key);
  if (place != NULL) remove_locked(table, place);
  leave_and_shrink(self, table);
  return place != NULL ? 0 : -ENOENT;
}

size_t midden_weak_table_count(struct midden_weak_table *weak_table) {
  struct mutator *self = start_self();
  struct table *table = table_of(weak_table);
  if (table == NULL) return 0;
  size_t count = count_living(self, table);
  enter(self, table);
  leave_and_shrink(self, table);
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
