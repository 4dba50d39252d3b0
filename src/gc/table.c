#include "gc/table.h"

#include <errno.h>

#include "base/bits.h"
#include "base/check.h"
#include "meta/persist.h"
#include "os/os.h"

/* A change moves so many places of the old array, or gives back so much of it.  An array of C places, half of them in use, is
 * followed by one of 2 C, which is to grow after C / 2 more; the old one is gone after C / STEP places and C / 4096 steps of memory.
 * One of which 1 / SPARSE is in use is followed by one of C / 4, which is to grow after C / 16 more. */
enum {
  FIRST_CAPACITY = 512,
  STEP = 32,
  RETURN_STEP_BYTES = 64 * 1024,
  SPARSE = 16,
  SHRINK = 4,
  TAKE_LOOK = 4096 /* places */
};

/* ---- an array ---- */

static size_t home_of(const struct table_array *array, uintptr_t key) { return hash_address(key, array->capacity); }

static size_t after(const struct table_array *array, size_t place) { return (place + 1) & (array->capacity - 1); }

static size_t array_bytes(const struct table_array *array) { return array->capacity * sizeof *array->entries; }

static struct table_entry *find_in(const struct table_array *array, uintptr_t key) {
  if (array->capacity == 0) return NULL;
  size_t place = home_of(array, key);
  for (; array->entries[place].key != 0; place = after(array, place)) {
    if (array->entries[place].key == key) return &array->entries[place];
  }
  return NULL;
}

static void place_entry(const struct table_array *array, uintptr_t key, void *value) {
  size_t place = home_of(array, key);
  while (array->entries[place].key != 0) place = after(array, place);
  array->entries[place] = (struct table_entry){.key = key, .value = value};
}

/* Fills the hole with the next entry of the run that may stand there, and so on until the run ends. */
static void close_hole(const struct table_array *array, size_t hole) {
  size_t mask = array->capacity - 1;
  for (size_t place = after(array, hole); array->entries[place].key != 0; place = after(array, place)) {
    size_t home = home_of(array, array->entries[place].key);
    if (((place - home) & mask) < ((place - hole) & mask)) continue;
    array->entries[hole] = array->entries[place];
    hole = place;
  }
  array->entries[hole] = (struct table_entry){0};
}

static int map_array(struct table_array *array, size_t capacity) {
  struct table_entry *entries = os_map(capacity * sizeof *entries);
  if (entries == NULL) return -ENOMEM;
  *array = (struct table_array){.entries = entries, .capacity = capacity};
  persist_charge(PERSIST_SPECIAL, (ptrdiff_t)array_bytes(array));
  return 0;
}

static void unmap_part(const struct table_array *array, size_t from_bytes, size_t bytes) {
  if (bytes == 0) return;
  os_unmap((char *)array->entries + from_bytes, bytes);
  persist_charge(PERSIST_SPECIAL, -(ptrdiff_t)bytes);
}

/* ---- from the old array to the new one ---- */

static bool has_old(const struct table *table) { return table->old.capacity != 0; }

static bool is_moved(const struct table *table, uintptr_t key) {
  return ((home_of(&table->old, key) - table->start) & (table->old.capacity - 1)) < table->moved;
}

static void return_some(struct table *table) {
  size_t left_bytes = array_bytes(&table->old) - table->returned_bytes;
  size_t bytes = min_size(left_bytes, RETURN_STEP_BYTES);
  unmap_part(&table->old, table->returned_bytes, bytes);
  table->returned_bytes += bytes;
  if (bytes == left_bytes) table->old = (struct table_array){0};
}

/* At least so many places, and then on to the end of the run.  (The array ends where it began, at a free place.) */
static void move_some(struct table *table, size_t places) {
  const struct table_array *old = &table->old;
  size_t end = min_size(table->moved + places, old->capacity);
  for (; table->moved < old->capacity; table->moved++) {
    struct table_entry *entry = &old->entries[(table->start + table->moved) & (old->capacity - 1)];
    if (entry->key == 0 && table->moved >= end) return;
    if (entry->key != 0) place_entry(&table->now, entry->key, entry->value);
    *entry = (struct table_entry){0};
  }
}

static void step(struct table *table, size_t places) {
  if (!has_old(table)) return;
  if (table->moved < table->old.capacity) {
    move_some(table, places);
  } else {
    return_some(table);
  }
}

static size_t some_free_place(const struct table_array *array) {
  size_t place = 0;
  while (array->entries[place].key != 0) place++; /* at most half of them are in use, so this is soon found */
  return place;
}

static int begin_move(struct table *table, size_t capacity) {
  struct table_array array;
  if (map_array(&array, capacity) != 0) return -ENOMEM;
  table->old = table->now;
  table->now = array;
  table->moved = table->returned_bytes = 0;
  table->start = has_old(table) ? some_free_place(&table->old) : 0;
  return 0;
}

static int make_room(struct table *table) {
  if (table->count * 2 < table->now.capacity) return 0;
  while (has_old(table)) step(table, STEP); /* it is gone already; see STEP */
  return begin_move(table, max_size(table->now.capacity * 2, FIRST_CAPACITY));
}

/* Without memory it stays as large as it is. */
static void shrink_if_sparse(struct table *table) {
  size_t capacity = table->now.capacity;
  if (has_old(table) || capacity <= FIRST_CAPACITY || table->count >= capacity / SPARSE) return;
  (void)begin_move(table, max_size(capacity / SHRINK, FIRST_CAPACITY));
}

/* ---- for all ---- */

/* The array that has a key, if any has, and its entry there. */
static struct table_entry *find(const struct table *table, uintptr_t key, const struct table_array **array) {
  struct table_entry *entry = NULL;
  *array = &table->old;
  if (has_old(table) && !is_moved(table, key)) entry = find_in(&table->old, key);
  if (entry != NULL) return entry;
  *array = &table->now;
  return find_in(&table->now, key);
}

void *table_get(const struct table *table, uintptr_t key) {
  const struct table_array *array;
  const struct table_entry *entry = find(table, key, &array);
  return entry == NULL ? NULL : entry->value;
}

int table_add(struct table *table, uintptr_t key, void *value) {
  ASSERT(key != 0 && table_get(table, key) == NULL);
  if (make_room(table) != 0) return -ENOMEM;
  place_entry(&table->now, key, value);
  table->count++;
  step(table, STEP);
  return 0;
}

void table_replace(struct table *table, uintptr_t key, void *value) {
  const struct table_array *array;
  find(table, key, &array)->value = value;
}

void *table_remove(struct table *table, uintptr_t key) {
  const struct table_array *array;
  struct table_entry *entry = find(table, key, &array);
  if (entry == NULL) return NULL;
  void *value = entry->value;
  close_hole(array, (size_t)(entry - array->entries));
  table->count--;
  shrink_if_sparse(table);
  step(table, STEP);
  return value;
}

/* Closing a hole may move an entry to its place.  No entry comes to places before: they are empty, so that no run lies across the
 * array's end but one that was there at first, which is taken from its middle on. */
size_t table_take(struct table *table, size_t *place, uintptr_t *keys, size_t most) {
  if (has_old(table)) {
    step(table, TAKE_LOOK);
    return 0;
  }
  const struct table_array *now = &table->now;
  size_t count = 0, end = min_size(now->capacity, *place + TAKE_LOOK);
  while (*place < end && count < most) {
    uintptr_t key = now->entries[*place].key;
    if (key != 0) {
      keys[count++] = key;
      close_hole(now, *place);
    } else {
      (*place)++;
    }
  }
  table->count -= count;
  return count;
}

bool table_release_some(struct table *table) {
  ASSERT(table->count == 0);
  if (!has_old(table)) {
    table->old = table->now;
    table->now = (struct table_array){0};
    table->returned_bytes = 0;
  }
  table->moved = table->old.capacity; /* there was nothing to be moved */
  if (has_old(table)) return_some(table);
  return has_old(table) || table->now.capacity != 0;
}

void table_clear(struct table *table) {
  table->count = 0;
  while (table_release_some(table)) continue;
}

size_t table_bytes(const struct table *table) {
  size_t old_bytes = has_old(table) ? array_bytes(&table->old) - table->returned_bytes : 0;
  return array_bytes(&table->now) + old_bytes;
}
