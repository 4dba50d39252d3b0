/* A weak table against an array, while it moves from one array of entries to another, grows and shrinks; what entries that have gone
 * had of memory can be used again once the table is used.  (A table kept the ephemerons of keys that had died until it was full.) */
#include "midden/barrier.h"
#include "support/heap_test.h"

enum { KEYS = 3000, ROUNDS = 40, BYTES = 32, MANY = 400000, FEW = 1000 };

/* Indexed by key. */
static struct {
  uintptr_t hidden; /* the key; 0: there is none */
  uintptr_t value;  /* 0: no entry */
  unsigned visited; /* in this visit */
  bool may_visit;   /* entered, or removed, in this visit */
} models[KEYS];

static void **keys;                     /* a root object: the key of each model that lives */
static struct midden_weak_table **root; /* and the table */
static struct rng rng;

static struct midden_weak_table *table(void) { return *root; }

/* Number and value are told by words that are none of objects. */
static void *value_of(uintptr_t value) { return (void *)(2 * value + 1); }

NOINLINE_TEST static void make_key(size_t i) {
  size_t *key = midden_alloc(BYTES);
  REQUIRE(key != NULL, "no memory");
  *key = i;
  midden_store(&keys[i], key);
  models[i].hidden = test_hide(key);
  models[i].value = 0;
}

NOINLINE_TEST static void drop_key(size_t i) {
  midden_store(&keys[i], NULL);
  models[i].hidden = models[i].value = 0;
}

NOINLINE_TEST static void enter_key(size_t i) {
  if (models[i].value == 0) models[i].may_visit = true;
  models[i].value = 1 + rng_below(&rng, 1000);
  REQUIRE(midden_weak_table_set(table(), keys[i], value_of(models[i].value)) == 0, "key %zu is not entered", i);
}

NOINLINE_TEST static void remove_key(size_t i) {
  int error = midden_weak_table_remove(table(), keys[i]);
  REQUIRE(error == (models[i].value != 0 ? 0 : -ENOENT), "removing key %zu: %d", i, error);
  if (models[i].value != 0) models[i].may_visit = true;
  models[i].value = 0;
}

NOINLINE_TEST static void check_key(size_t i) {
  if (models[i].hidden == 0) return;
  void *value = midden_weak_table_get(table(), keys[i]);
  REQUIRE(value == (models[i].value != 0 ? value_of(models[i].value) : NULL), "key %zu has %p", i, value);
}

static void change(size_t one_in) {
  size_t i = rng_below(&rng, KEYS);
  if (models[i].hidden == 0) {
    make_key(i);
  } else if (rng_one_in(&rng, one_in)) {
    enter_key(i);
  } else if (rng_one_in(&rng, 2)) {
    remove_key(i);
  } else if (rng_one_in(&rng, 2)) {
    drop_key(i);
  }
  check_key(rng_below(&rng, KEYS));
}

static size_t count_entries(void) {
  size_t count = 0;
  for (size_t i = 0; i < KEYS; i++) count += models[i].value != 0;
  return count;
}

/* Changes the table meanwhile, sometimes. */
static bool visit(void *key, void *value, void *one_in) {
  size_t i = *(size_t *)key;
  REQUIRE(i < KEYS && midden_owns(key), "a key that is none");
  if (test_unhide(models[i].hidden) != key) return true; /* dropped, and not collected yet */
  REQUIRE(models[i].visited++ == 0 || models[i].may_visit, "key %zu was visited twice", i);
  REQUIRE(models[i].may_visit || value == value_of(models[i].value), "key %zu has another value", i);
  if (*(size_t *)one_in == 0) return true;
  for (int changes = 0; changes < 4; changes++) {
    size_t other = rng_below(&rng, KEYS);
    if (models[other].hidden == 0 || models[other].value == 0) continue;
    remove_key(other);
    if (rng_one_in(&rng, *(size_t *)one_in)) enter_key(other);
  }
  return true;
}

NOINLINE_TEST static void visit_all(size_t one_in) {
  size_t there = 0;
  for (size_t i = 0; i < KEYS; i++) models[i].visited = models[i].may_visit = 0;
  size_t count = midden_weak_table_each(table(), visit, &one_in);
  for (size_t i = 0; i < KEYS; i++) {
    bool is_there = models[i].value != 0 && !models[i].may_visit;
    REQUIRE(!is_there || models[i].visited == 1, "key %zu was passed over", i);
    there += is_there;
  }
  REQUIRE(count >= there, "%zu visits for %zu entries", count, there);
}

static void compare_with_array(void) {
  midden_store(root, midden_weak_table_new());
  for (size_t round = 0; round < ROUNDS; round++) {
    size_t one_in = 1 + rng_below(&rng, 4);
    for (size_t steps = rng_size(&rng, 2 * KEYS); steps > 0; steps--) change(one_in);
    visit_all(rng_below(&rng, 3));
    for (size_t i = 0; i < KEYS; i++) check_key(i);
    REQUIRE(midden_weak_table_count(table()) >= count_entries(), "entries are not counted");
    if (rng_one_in(&rng, 2)) continue;
    test_collect_clean();
    if (rng_one_in(&rng, 4)) midden_verify();
    size_t count = midden_weak_table_count(table());
    REQUIRE(count <= count_entries() + KEYS / 8, "%zu entries for %zu keys", count, count_entries());
  }
  for (size_t i = 0; i < KEYS; i++) drop_key(i);
}

/* ---- many ---- */

static void **many; /* a root object: keys, which are small */

/* Nothing is collected meanwhile, which would take longer than anything. */
NOINLINE_TEST static void enter_many(void) {
  midden_set_percent(-1);
  for (size_t i = 0; i < MANY; i++) midden_store(&many[i], midden_alloc_data(BYTES));
  for (size_t i = 0; i < MANY; i++) REQUIRE(midden_weak_table_set(table(), many[i], value_of(i)) == 0, "no memory");
  midden_set_percent(100);
  for (size_t i = 0; i < MANY; i++)
    REQUIRE(midden_weak_table_get(table(), many[i]) == value_of(i), "entry %zu is lost", i);
}

/* Of what is left of the table. */
NOINLINE_TEST static size_t live_bytes(void) {
  test_collect_clean();
  midden_collect();
  return test_stats().object_bytes;
}

NOINLINE_TEST static void use_few(void) {
  for (size_t i = 0; i < 2 * MANY; i++) {
    if (i < FEW) REQUIRE(midden_weak_table_set(table(), many[i], value_of(i)) == 0, "no memory");
    REQUIRE(midden_weak_table_get(table(), many[i % FEW]) == value_of(i % FEW), "entry %zu is lost", i % FEW);
  }
  for (size_t i = 0; i < FEW; i++) REQUIRE(midden_weak_table_set(table(), many[i], value_of(i)) == 0, "no memory");
  for (size_t i = 0; i < MANY; i++)
    REQUIRE(midden_weak_table_get(table(), many[i % FEW]) == value_of(i % FEW), "entry %zu is lost", i % FEW);
  for (size_t i = 0; i < FEW; i++) REQUIRE(midden_weak_table_set(table(), many[i], value_of(i)) == 0, "no memory");
}

static void many_come_and_go(void) {
  midden_store(root, midden_weak_table_new());
  size_t before = live_bytes();
  enter_many();
  size_t most = live_bytes();
  for (size_t i = FEW; i < MANY; i++) midden_store(&many[i], NULL);
  size_t dead = live_bytes();
  use_few();
  size_t after = live_bytes();
  printf("test_weak_tables: %zu bytes, with %d entries %zu, %zu when they were dead, then %zu\n", before, MANY, most,
         dead, after);
  REQUIRE(after < before + (most - before) / 16, "%zu bytes of %zu are left", after - before, most - before);
}

int main(void) {
  rng = test_start("test_weak_tables");
  REQUIRE(midden_thread_attach() == 0, "no start");
  keys = midden_alloc_root(KEYS * sizeof *keys);
  many = midden_alloc_root(MANY * sizeof *many);
  root = midden_alloc_root(sizeof *root);
  REQUIRE(keys != NULL && many != NULL && root != NULL, "no memory");
  compare_with_array();
  many_come_and_go();
  return 0;
}
