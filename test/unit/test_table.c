/* The table from addresses to records, against an array.
 *
 * What a filter must do for the collector: see each entry at least once, and remove those that it is told to.  An entry
 * that it passes over is an object that dies without its finalizer, or a weak link that is left dangling.  (It did pass
 * over entries: those of a run that lay across the end of the table, where another one of that run was removed.) */
#include "gc/table.h"

#include "support/heap_test.h"

#include "os/os.h"

enum { KEYS = 4000, ROUNDS = 400 };

/* Indexed by what the value points to. */
static struct record {
  uintptr_t key; /* 0: not in the table */
  bool leave;    /* the filter is to remove it */
  size_t visits;
} records[KEYS];

static struct table table;
static struct rng rng;

static size_t count_records(void) {
  size_t count = 0;
  for (size_t i = 0; i < KEYS; i++) count += records[i].key != 0;
  return count;
}

/* Few bits differ, so that runs are long. */
static void add(struct record *record, size_t spread) {
  if (record->key != 0) return;
  uintptr_t key = 16 * (1 + (uintptr_t)rng_below(&rng, spread));
  if (table_get(&table, key) != NULL) return;
  REQUIRE(table_add(&table, key, record) == 0, "no memory");
  record->key = key;
}

static void remove_one(struct record *record) {
  if (record->key == 0) return;
  REQUIRE(table_remove(&table, record->key) == record, "removing %#zx gave another record", (size_t)record->key);
  REQUIRE(table_remove(&table, record->key) == NULL, "%#zx is there twice", (size_t)record->key);
  record->key = 0;
}

static void check_all(void) {
  REQUIRE(table.count == count_records(), "%zu entries, not %zu", table.count, count_records());
  for (size_t i = 0; i < KEYS; i++) {
    if (records[i].key == 0) continue;
    REQUIRE(table_get(&table, records[i].key) == &records[i], "key %#zx is lost", (size_t)records[i].key);
  }
}

static int visit(uintptr_t key, void *value, void *argument) {
  struct record *record = value;
  REQUIRE(argument == &table, "a visit with the wrong argument");
  REQUIRE(record->key == key, "key %#zx has the record of %#zx", (size_t)key, (size_t)record->key);
  record->visits++;
  if (!record->leave) return true;
  record->key = 0;
  return false;
}

static void filter(size_t one_in) {
  bool was_there[KEYS];
  for (size_t i = 0; i < KEYS; i++) {
    was_there[i] = records[i].key != 0;
    records[i].leave = rng_one_in(&rng, one_in);
    records[i].visits = 0;
  }
  table_filter(&table, visit, &table);
  for (size_t i = 0; i < KEYS; i++) {
    const struct record *record = &records[i];
    REQUIRE(!was_there[i] || record->visits != 0, "the filter passed over an entry");
    REQUIRE(was_there[i] || record->visits == 0, "the filter visited an entry that was removed");
    REQUIRE(!was_there[i] || (record->key == 0) == record->leave, "the filter kept what was to leave");
  }
}

int main(void) {
  rng = test_start("test_table");
  os_init();
  table_filter(&table, visit, &table);
  REQUIRE(table_get(&table, 16) == NULL && table_remove(&table, 16) == NULL, "an empty table holds something");
  for (size_t round = 0; round < ROUNDS; round++) {
    size_t spread = KEYS << rng_below(&rng, 20);
    for (size_t i = 0; i < KEYS; i++) {
      if (rng_one_in(&rng, 3)) add(&records[rng_below(&rng, 1 + round * KEYS / ROUNDS)], spread);
      if (rng_one_in(&rng, 6)) remove_one(&records[rng_below(&rng, KEYS)]);
    }
    check_all();
    filter(1 + rng_below(&rng, 4));
    check_all();
  }
  printf("test_table: %d rounds, %zu entries in the end\n", ROUNDS, table.count);
  return 0;
}
