/* The table from addresses to records, against an array, while it moves from one array to another, grows and shrinks.
 *
 * No change takes long, however large the table is: an array is never walked from end to end in one of them, nor mapped away at once.
 * It took 7 ms to add one where two million were.  And memory goes back as entries go: it did when there were none. */
#include "gc/table.h"

#include "support/heap_test.h"

#include "meta/persist.h"
#include "os/os.h"

enum { KEYS = 4000, ROUNDS = 400, TAKEN = 37 };
enum { MANY = 300000, MOVED_MAX = 256 /* places; a step, and a long run */, RETURNED_MAX = 64 * 1024 };

/* Indexed by what the value points to. */
static struct record {
  uintptr_t key; /* 0: not in the table */
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

static void forget_key(uintptr_t key) {
  for (size_t i = 0; i < KEYS; i++) {
    if (records[i].key == key) records[i].key = 0;
  }
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

/* From time to time: whoever takes all meets each once. */
static void take_all(void) {
  size_t left = count_records(), place = 0;
  uintptr_t keys[TAKEN];
  while (table.count != 0) {
    size_t taken = table_take(&table, &place, keys, TAKEN);
    REQUIRE(taken <= left, "%zu entries taken that are not there", taken - left);
    left -= taken;
    for (size_t i = 0; i < taken; i++) REQUIRE(table_get(&table, keys[i]) == NULL, "%#zx was left", (size_t)keys[i]);
    for (size_t i = 0; i < taken; i++) forget_key(keys[i]);
  }
  REQUIRE(left == 0 && count_records() == 0, "%zu entries were not taken", left);
}

static void compare_with_array(void) {
  for (size_t round = 0; round < ROUNDS; round++) {
    size_t spread = KEYS << rng_below(&rng, 20);
    bool grows = rng_one_in(&rng, 2);
    for (size_t i = 0; i < KEYS; i++) {
      if (rng_one_in(&rng, grows ? 2 : 6)) add(&records[rng_below(&rng, 1 + round * KEYS / ROUNDS)], spread);
      if (rng_one_in(&rng, grows ? 6 : 1)) remove_one(&records[rng_below(&rng, KEYS)]);
      if (rng_one_in(&rng, 256)) check_all();
    }
    check_all();
    if (rng_one_in(&rng, 8)) take_all();
  }
  printf("test_table: %d rounds, %zu entries in the end\n", ROUNDS, table.count);
  while (table.count != 0) take_all();
  while (table_release_some(&table)) continue;
  REQUIRE(table_bytes(&table) == 0, "an empty table has memory");
}

static uintptr_t key_of(size_t i) { return 16 + 48 * (uintptr_t)i; }

/* What one change did: it began to move, or has moved some, or has given back some memory. */
static void check_change(const struct table *before, size_t bytes_before) {
  size_t bytes = persist_bytes(PERSIST_SPECIAL);
  REQUIRE(bytes + RETURNED_MAX >= bytes_before, "%zu bytes given back at once", bytes_before - bytes);
  size_t moved_before = before->old.entries == table.old.entries ? before->moved : 0;
  REQUIRE(table.old.capacity == 0 || table.moved <= moved_before + MOVED_MAX, "%zu places at once",
          table.moved - moved_before);
  bool has_finished = before->old.capacity != 0 && table.old.capacity == 0;
  REQUIRE(!has_finished || before->moved == before->old.capacity, "moved and given back at once");
}

static void add_one_of_many(size_t i) {
  struct table before = table;
  size_t bytes = persist_bytes(PERSIST_SPECIAL);
  REQUIRE(table_add(&table, key_of(i), &records[i % KEYS]) == 0, "no memory");
  check_change(&before, bytes);
}

static void remove_one_of_many(size_t i) {
  struct table before = table;
  size_t bytes = persist_bytes(PERSIST_SPECIAL);
  REQUIRE(table_remove(&table, key_of(i)) == &records[i % KEYS], "key %zu is lost", i);
  check_change(&before, bytes);
}

static void many_come_and_go_in_steps(void) {
  for (size_t i = 0; i < MANY; i++) add_one_of_many(i);
  size_t most_bytes = table_bytes(&table);
  for (size_t i = 0; i < MANY; i++) {
    REQUIRE(table_get(&table, key_of(i)) == &records[i % KEYS], "key %zu is lost", i);
  }
  for (size_t i = 0; i < MANY; i++) remove_one_of_many(i);
  printf("test_table: %zu bytes for %d entries, %zu for none\n", most_bytes, MANY, table_bytes(&table));
  REQUIRE(table_bytes(&table) <= most_bytes / 256, "%zu bytes for no entries", table_bytes(&table));
  size_t bytes = persist_bytes(PERSIST_SPECIAL);
  while (table_release_some(&table)) continue;
  REQUIRE(persist_bytes(PERSIST_SPECIAL) < bytes, "nothing was given back");
}

int main(void) {
  rng = test_start("test_table");
  os_init();
  REQUIRE(table_get(&table, 16) == NULL && table_remove(&table, 16) == NULL, "an empty table holds something");
  compare_with_array();
  many_come_and_go_in_steps();
  return 0;
}
