#include "gc/table.h"

#include <errno.h>

#include "base/bits.h"
#include "base/check.h"
#include "meta/persist.h"
#include "os/os.h"

enum { FIRST_CAPACITY = 512, AHEAD = 8 /* entries whose records are prefetched */ };

/* Fibonacci hashing: addresses differ in their middle bits, which the multiplication carries to the top. */
static size_t home_of(const struct table *table, uintptr_t key) {
  return (size_t)((key >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - highest_bit(table->capacity)));
}

static size_t after(const struct table *table, size_t place) { return (place + 1) & (table->capacity - 1); }

static struct table_entry *find(const struct table *table, uintptr_t key) {
  if (table->capacity == 0) return NULL;
  size_t place = home_of(table, key);
  for (; table->entries[place].key != 0; place = after(table, place)) {
    if (table->entries[place].key == key) return &table->entries[place];
  }
  return NULL;
}

static void place_entry(struct table *table, uintptr_t key, void *value) {
  size_t place = home_of(table, key);
  while (table->entries[place].key != 0) place = after(table, place);
  table->entries[place] = (struct table_entry){.key = key, .value = value};
}

static int grow(struct table *table) {
  size_t capacity = max_size(table->capacity * 2, FIRST_CAPACITY);
  struct table larger = {.capacity = capacity, .count = table->count};
  larger.entries = os_map(capacity * sizeof *larger.entries);
  if (larger.entries == NULL) return -ENOMEM;
  persist_charge(PERSIST_SPECIAL, (ptrdiff_t)((capacity - table->capacity) * sizeof *larger.entries));
  for (size_t i = 0; i < table->capacity; i++) {
    if (table->entries[i].key != 0) place_entry(&larger, table->entries[i].key, table->entries[i].value);
  }
  if (table->capacity != 0) os_unmap(table->entries, table->capacity * sizeof *table->entries);
  *table = larger;
  return 0;
}

void *table_get(const struct table *table, uintptr_t key) {
  const struct table_entry *entry = find(table, key);
  return entry == NULL ? NULL : entry->value;
}

int table_add(struct table *table, uintptr_t key, void *value) {
  ASSERT(key != 0 && find(table, key) == NULL);
  if (table->count * 2 >= table->capacity && grow(table) != 0) return -ENOMEM;
  place_entry(table, key, value);
  table->count++;
  return 0;
}

void table_replace(struct table *table, uintptr_t key, void *value) { find(table, key)->value = value; }

/* Fills the hole with the next entry of the run that may stand there, and so on until the run ends. */
static void close_hole(struct table *table, size_t hole) {
  size_t mask = table->capacity - 1;
  for (size_t place = after(table, hole); table->entries[place].key != 0; place = after(table, place)) {
    size_t home = home_of(table, table->entries[place].key);
    if (((place - home) & mask) < ((place - hole) & mask)) continue;
    table->entries[hole] = table->entries[place];
    hole = place;
  }
  table->entries[hole] = (struct table_entry){0};
}

void *table_remove(struct table *table, uintptr_t key) {
  struct table_entry *entry = find(table, key);
  if (entry == NULL) return NULL;
  void *value = entry->value;
  close_hole(table, (size_t)(entry - table->entries));
  table->count--;
  return value;
}

void table_release(struct table *table) {
  ASSERT(table->count == 0);
  if (table->capacity == 0) return;
  size_t bytes = table->capacity * sizeof *table->entries;
  os_unmap(table->entries, bytes);
  persist_charge(PERSIST_SPECIAL, -(ptrdiff_t)bytes);
  *table = (struct table){0};
}

static size_t some_free_place(const struct table *table) {
  size_t place = 0;
  while (table->entries[place].key != 0) place++; /* at most half of them are in use */
  return place;
}

/* Walks downward, once around from a free place: no run of entries lies across the start, so that closing a hole only
 * moves entries that were visited.  Those are visited twice, which a filter does not mind. */
void table_filter(struct table *table, int (*keep)(uintptr_t key, void *value, void *argument), void *argument) {
  if (table->count == 0) return;
  size_t mask = table->capacity - 1, start = some_free_place(table);
  for (size_t place = (start - 1) & mask; place != start; place = (place - 1) & mask) {
    __builtin_prefetch(table->entries[(place - AHEAD) & mask].value);
    while (table->entries[place].key != 0 && !keep(table->entries[place].key, table->entries[place].value, argument)) {
      close_hole(table, place);
      table->count--;
    }
  }
}
