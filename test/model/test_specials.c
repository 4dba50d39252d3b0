/* Weak references, ephemerons, weak tables and cleanups: random graphs against a naive definition, then single rules.
 *
 * A graph has nodes of three kinds: boxes with a few references, weak references to one node, ephemerons with a key and a
 * value.  Some nodes are entries' keys in a weak table; some boxes have cleanups, whose argument is nothing, or a note that
 * refers to a node.  Addresses are kept disguised (see heap_test.h).
 *
 * The definition.  Repeat until nothing changes: what a root slot holds lives; what a living box refers to lives; the
 * value of an ephemeron, or of a table's entry, lives if both it (the entry always) and its key live; what the note of a
 * cleanup refers to lives, as long as the cleanup has not run.  Whatever does not live by that must go, and be gone from
 * every weak reference, ephemeron and entry; a cleanup runs exactly once, after its box went.  A box that only its own
 * notes reach stays for ever.  Stale words can make a node go late, never early. */
#include "support/heap_test.h"

#include <setjmp.h>

#include <cmocka.h>

enum { NODES_MAX = 600, SLOTS = 3, NOBODY = -1, CLEANUPS_MAX = 400 };
enum node_kind { BOX, WEAK, EPHEMERON };

struct box {
  void *slots[SLOTS];
  uintptr_t number;
};

static const uint64_t box_pointers[] = {(1 << SLOTS) - 1};
static const struct midden_type box_type = {.name = "box", .size = sizeof(struct box), .pointers = box_pointers};

static struct node {
  uintptr_t hidden;
  enum node_kind kind;
  int to[SLOTS]; /* boxes: references; weak references: [0] the target; ephemerons: key, value */
  int entry;     /* the value of the table's entry whose key this is, or NOBODY */
  bool rooted, lives, gone;
  void *observer; /* a weak link */
} * nodes;

static struct cleanup {
  int box, note; /* what the note refers to; NOBODY: there is no note */
  uint64_t handle;
  bool pending, removed;
  unsigned runs;
} * cleanups;

static int node_count, cleanup_count;
static void **root_slots; /* [NODES_MAX] is the table */
static struct rng rng;

static void *address_of(int number) { return test_unhide(nodes[number].hidden); }

static int any_node(void) { return (int)rng_below(&rng, (size_t)node_count); }

static struct midden_weak_table *table(void) { return root_slots[NODES_MAX]; }

/* ---- building ---- */

NOINLINE_TEST static void node_new(int number) {
  struct node *node = &nodes[number];
  *node = (struct node){.entry = NOBODY, .rooted = true};
  for (int i = 0; i < SLOTS; i++) node->to[i] = NOBODY;
  void *object;
  size_t choice = number < 4 ? 0 : rng_below(&rng, 5);
  if (choice < 3) {
    node->kind = BOX;
    object = midden_alloc_type(&box_type);
    ((struct box *)object)->number = ~(uintptr_t)number;
  } else {
    node->kind = choice == 3 ? WEAK : EPHEMERON;
    node->to[0] = (int)rng_below(&rng, (size_t)number);
    if (node->kind == EPHEMERON) node->to[1] = (int)rng_below(&rng, (size_t)number);
    object = node->kind == WEAK ? (void *)midden_weak_new(address_of(node->to[0]))
                                : (void *)midden_ephemeron_new(address_of(node->to[0]), address_of(node->to[1]));
  }
  REQUIRE(object != NULL, "no memory");
  node->hidden = test_hide(object);
  root_slots[number] = object;
  node->observer = (void *)node->hidden;
  REQUIRE(midden_weak_link(&node->observer, object, MIDDEN_WEAK_AFTER_FINALIZERS) == 0, "midden_weak_link");
}

NOINLINE_TEST static void link_some(int number) {
  struct node *node = &nodes[number];
  if (node->kind != BOX) return;
  for (int i = 0; i < SLOTS; i++) {
    if (rng_one_in(&rng, 2)) continue;
    node->to[i] = any_node();
    ((struct box *)address_of(number))->slots[i] = address_of(node->to[i]);
  }
}

NOINLINE_TEST static void enter_some(int number) {
  if (!rng_one_in(&rng, 3)) return;
  nodes[number].entry = any_node();
  REQUIRE(midden_weak_table_set(table(), address_of(number), address_of(nodes[number].entry)) == 0, "table");
}

static void note_cleanup(int index) {
  struct cleanup *cleanup = &cleanups[index];
  REQUIRE(cleanup->pending && !cleanup->removed, "cleanup %d of box %d ran before its box went, or twice", index,
          cleanup->box);
  REQUIRE(!nodes[cleanup->box].lives, "cleanup %d ran while box %d lives", index, cleanup->box);
  cleanup->pending = false;
  cleanup->runs++;
}

static void run_without_note(void *argument) { note_cleanup((int)((uintptr_t)argument >> 1)); }
static void run_with_note(void *argument) { note_cleanup((int)~((struct box *)argument)->number); }

NOINLINE_TEST static void add_cleanup(int number) {
  struct cleanup *cleanup = &cleanups[cleanup_count];
  if (nodes[number].kind != BOX || cleanup_count == CLEANUPS_MAX) return;
  *cleanup = (struct cleanup){.box = number, .note = NOBODY, .pending = true};
  void *argument = (void *)(((uintptr_t)cleanup_count << 1) | 1);
  if (rng_one_in(&rng, 3)) {
    struct box *note = argument = midden_alloc_type(&box_type);
    note->number = ~(uintptr_t)cleanup_count;
    cleanup->note = any_node();
    note->slots[0] = address_of(cleanup->note);
  }
  int error = midden_cleanup_add(address_of(number), cleanup->note == NOBODY ? run_without_note : run_with_note,
                                 argument, &cleanup->handle);
  REQUIRE(error == 0 && cleanup->handle != 0, "midden_cleanup_add: %d", error);
  cleanup_count++;
}

NOINLINE_TEST static void remove_some_cleanups(void) {
  for (int i = 0; i < cleanup_count; i++) {
    struct cleanup *cleanup = &cleanups[i];
    if (!rng_one_in(&rng, 8) || nodes[cleanup->box].gone || cleanup->removed) continue;
    REQUIRE(midden_cleanup_remove(address_of(cleanup->box), cleanup->handle) == 0, "no cleanup %d", i);
    REQUIRE(midden_cleanup_remove(address_of(cleanup->box), cleanup->handle) == -ENOENT, "cleanup %d twice", i);
    cleanup->removed = true;
  }
}

static void graph_make(int count) {
  node_count = 0;
  cleanup_count = 0;
  root_slots[NODES_MAX] = midden_weak_table_new();
  REQUIRE(root_slots[NODES_MAX] != NULL, "no memory");
  for (; node_count < count; node_count++) node_new(node_count);
  for (int i = 0; i < count; i++) link_some(i);
  for (int i = 0; i < count; i++) enter_some(i);
  for (int i = 0; i < count; i += 1 + (int)rng_below(&rng, 4)) add_cleanup(i);
}

/* ---- the definition ---- */

static bool enliven(int number) {
  if (number == NOBODY || nodes[number].lives) return false;
  nodes[number].lives = true;
  return true;
}

static bool define_once(void) {
  bool changed = false;
  for (int i = 0; i < node_count; i++) {
    const struct node *node = &nodes[i];
    if (node->rooted) changed |= enliven(i);
    if (!node->lives) continue;
    if (node->kind == BOX) {
      for (int slot = 0; slot < SLOTS; slot++) changed |= enliven(node->to[slot]);
    }
    if (node->kind == EPHEMERON && node->to[0] != NOBODY && nodes[node->to[0]].lives) changed |= enliven(node->to[1]);
    changed |= enliven(node->entry);
  }
  for (int i = 0; i < cleanup_count; i++) {
    if (cleanups[i].pending && !cleanups[i].removed) changed |= enliven(cleanups[i].note);
  }
  return changed;
}

/* Ephemerons whose key is not yet known to live are looked at again in the next round. */
static void define(void) {
  for (int i = 0; i < node_count; i++) nodes[i].lives = false;
  while (define_once()) {
  }
}

/* ---- comparing ---- */

NOINLINE_TEST static size_t check_pair(int key, void *found_key, void *found_value, int value) {
  if (!nodes[key].lives) return found_key != NULL;
  REQUIRE(found_key == address_of(key), "node %d is not found by its cell", key);
  REQUIRE(found_value == (value == NOBODY ? NULL : address_of(value)), "node %d has a wrong value", key);
  return 0;
}

/* Returns how many come late. */
NOINLINE_TEST static size_t check_node(int number) {
  struct node *node = &nodes[number];
  if (node->gone) return 0;
  REQUIRE(!node->lives || node->observer != NULL, "node %d died early", number);
  size_t late = !node->lives && node->observer != NULL;
  if (node->entry != NOBODY) {
    void *value = node->observer == NULL ? NULL : midden_weak_table_get(table(), address_of(number));
    REQUIRE(!node->lives || value == address_of(node->entry), "the entry of node %d is lost", number);
  }
  if (!node->lives) return late;
  if (node->kind == WEAK) late += check_pair(node->to[0], midden_weak_get(address_of(number)), NULL, NOBODY);
  if (node->kind == EPHEMERON)
    late += check_pair(node->to[0], midden_ephemeron_key(address_of(number)),
                       midden_ephemeron_value(address_of(number)), node->to[1]);
  return late;
}

static bool count_entry(void *key, void *value, void *argument) {
  REQUIRE(midden_owns(key) && midden_owns(value), "an entry of what is dead");
  ++*(size_t *)argument;
  return true;
}

NOINLINE_TEST static size_t check_table(void) {
  size_t expected = 0, visited = 0, count = midden_weak_table_count(table());
  for (int i = 0; i < node_count; i++) expected += nodes[i].lives && nodes[i].entry != NOBODY;
  REQUIRE(midden_weak_table_each(table(), count_entry, &visited) == visited, "each miscounts");
  REQUIRE(count == visited && count >= expected, "%zu entries, %zu visited, %zu expected", count, visited, expected);
  return count - expected;
}

/* What is dead by the definition, and gone, is no key and no target any more. */
static void bury(void) {
  for (int i = 0; i < node_count; i++) {
    if (nodes[i].lives || nodes[i].observer != NULL) continue;
    nodes[i].gone = true;
    nodes[i].entry = NOBODY;
  }
  for (int i = 0; i < node_count; i++) {
    if (nodes[i].gone || nodes[i].to[0] == NOBODY || nodes[i].kind == BOX || !nodes[nodes[i].to[0]].gone) continue;
    nodes[i].to[0] = nodes[i].to[1] = NOBODY;
    nodes[i].kind = WEAK;
  }
}

NOINLINE_TEST static size_t check_round(void) {
  size_t late = 0;
  for (int i = 0; i < node_count; i++) {
    if (nodes[i].kind != BOX && nodes[i].to[0] == NOBODY) continue;
    late += check_node(i);
  }
  return late + check_table();
}

NOINLINE_TEST static size_t round_of(void) {
  define();
  test_collect_clean();
  if (rng_one_in(&rng, 4)) midden_verify();
  size_t late = check_round();
  test_scrub_stack();
  midden_finalizers_run(SIZE_MAX);
  bury();
  return late;
}

static void drop_roots(size_t one_in) {
  for (int i = 0; i < node_count; i++) {
    if (nodes[i].gone || !nodes[i].rooted || !rng_one_in(&rng, one_in)) continue;
    nodes[i].rooted = false;
    root_slots[i] = NULL;
  }
}

static size_t count_stuck(void) {
  size_t stuck = 0;
  for (int i = 0; i < cleanup_count; i++) stuck += cleanups[i].pending && !cleanups[i].removed;
  return stuck;
}

static void forget_graph(void) {
  for (int i = 0; i < node_count; i++) {
    if (nodes[i].observer != NULL) midden_weak_unlink(&nodes[i].observer, MIDDEN_WEAK_AFTER_FINALIZERS);
  }
  for (int i = 0; i < cleanup_count; i++) {
    if (cleanups[i].pending && !cleanups[i].removed && !nodes[cleanups[i].box].gone)
      midden_cleanup_remove(address_of(cleanups[i].box), cleanups[i].handle);
  }
  memset(root_slots, 0, (NODES_MAX + 1) * sizeof(*root_slots));
}

static void random_graph(int count) {
  size_t late = 0;
  graph_make(count);
  for (int i = 0; i < 6; i++) {
    test_scrub_stack();
    if (i == 2) remove_some_cleanups();
    if (i > 0) drop_roots(i < 5 ? 3 : 1);
    test_scrub_stack();
    late += round_of();
  }
  for (int i = 0; i < 8; i++) late += round_of();
  REQUIRE(late <= 40 + (size_t)count / 4, "%zu of %d nodes went late", late, count);
  for (int i = 0; i < cleanup_count; i++) {
    const struct cleanup *cleanup = &cleanups[i];
    if (cleanup->removed || !nodes[cleanup->box].gone) continue;
    REQUIRE(cleanup->runs <= 1, "cleanup %d ran %u times", i, cleanup->runs);
  }
  REQUIRE(test_stats().cleanups_stuck <= count_stuck(), "%zu cleanups are stuck, at most %zu may",
          test_stats().cleanups_stuck, count_stuck());
  forget_graph();
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX);
  test_collect_clean();
}

static void test_random_graphs(void **state) {
  (void)state;
  size_t steps = test_steps(150);
  for (size_t i = 0; i < steps; i++) random_graph(8 + (int)rng_below(&rng, i % 4 == 0 ? NODES_MAX - 8 : 60));
}

/* ---- single rules ---- */

enum { CHAIN = 100000 };

/* Ephemeron i has key i and value i + 1, the keys with or without pointers; only key 0 is held.  The ephemerons lie in the
 * heap in an order that is the worst for whoever looks through all of them again and again. */
NOINLINE_TEST static void chain_make(void **held, bool data_keys, bool between) {
  void **keys = midden_alloc((CHAIN + 1) * sizeof(void *));
  void **ephemerons = midden_alloc(CHAIN * sizeof(void *));
  REQUIRE(keys != NULL && ephemerons != NULL, "no memory");
  for (size_t i = 0; i <= CHAIN; i++) keys[i] = data_keys ? midden_alloc_data(16) : midden_alloc(16);
  for (size_t i = CHAIN; i-- > 0;) {
    void *value = keys[i + 1];
    if (between) {
      void **box = midden_alloc(16);
      box[0] = value;
      value = box;
    }
    ephemerons[i] = midden_ephemeron_new(keys[i], value);
    REQUIRE(ephemerons[i] != NULL, "no memory");
  }
  held[0] = keys[0];
  held[1] = ephemerons;
  held[2] = midden_weak_new(keys[CHAIN]);
  memset(keys, 0, (CHAIN + 1) * sizeof(void *));
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void test_adverse_chain(void **state) {
  (void)state;
  for (int variant = 0; variant < 4; variant++) {
    chain_make(root_slots, variant % 2 == 0, variant / 2 == 0);
    uint64_t start = now_ns();
    test_collect_clean();
    uint64_t took_ms = (now_ns() - start) / 1000000;
    REQUIRE(midden_weak_get(root_slots[2]) != NULL, "the end of the chain died");
    REQUIRE(took_ms < 5000, "a chain of %d took %d ms", CHAIN, (int)took_ms); /* its square would take minutes */
    root_slots[0] = NULL;
    test_collect_clean();
    REQUIRE(midden_weak_get(root_slots[2]) == NULL, "the chain lives without its first key");
    memset(root_slots, 0, 3 * sizeof(*root_slots));
  }
}

static void count_run(void *argument) { ++*(unsigned *)argument; }
static void count_finalized(void *object, void *argument) {
  (void)object;
  ++*(unsigned *)argument;
}

static unsigned ran[4];

NOINLINE_TEST static void make_finalized_with_cleanup(void **place) {
  place[0] = midden_alloc(64);
  place[1] = midden_weak_new(place[0]);
  place[2] = midden_ephemeron_new(place[0], place[1]);
  REQUIRE(midden_finalizer_set(place[0], count_finalized, &ran[0], MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "set");
  REQUIRE(midden_cleanup_add(place[0], count_run, &ran[1], NULL) == 0, "add");
  REQUIRE(midden_cleanup_add(place[0], count_run, &ran[1], NULL) == 0, "add");
  place[0] = NULL;
}

/* Cleared before the finalizer runs; cleaned up after it did. */
static void test_finalizer_comes_first(void **state) {
  (void)state;
  memset(ran, 0, sizeof ran);
  make_finalized_with_cleanup(root_slots);
  test_collect_clean();
  assert_null(midden_weak_get(root_slots[1]));
  assert_null(midden_ephemeron_value(root_slots[2]));
  assert_int_equal(midden_finalizers_run(SIZE_MAX), 1);
  assert_true(ran[0] == 1 && ran[1] == 0);
  test_collect_clean();
  assert_int_equal(midden_finalizers_run(SIZE_MAX), 2);
  assert_true(ran[0] == 1 && ran[1] == 2);
}

NOINLINE_TEST static void make_stuck(void) {
  void **object = midden_alloc(32), **argument = midden_alloc(32);
  assert_int_equal(midden_cleanup_add(object, count_run, object, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_add(object, count_run, object + 3, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_add(object, NULL, argument, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_add(object + 1, count_run, argument, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_add(NULL, count_run, argument, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_add(&object, count_run, argument, NULL), -EINVAL);
  assert_int_equal(midden_cleanup_remove(object, 1), -ENOENT);
  assert_int_equal(midden_cleanup_remove(NULL, 1), -EINVAL);
  assert_int_equal(midden_cleanup_add(object, count_run, argument, NULL), 0);
  *argument = object;
  void **cycle = midden_alloc(32);
  cycle[0] = cycle;
  assert_int_equal(midden_finalizer_set(cycle, count_finalized, ran, MIDDEN_FINALIZE_ORDERED, NULL, NULL), 0);
}

static void test_stuck_are_counted(void **state) {
  (void)state;
  test_collect_clean();
  struct midden_stats before = test_stats();
  make_stuck();
  for (int i = 0; i < 2; i++) {
    test_collect_clean();
    assert_int_equal(test_stats().cleanups_stuck, before.cleanups_stuck + 1);
    assert_int_equal(test_stats().finalizer_cycles, before.finalizer_cycles + 1);
    assert_int_not_equal(test_stats().finalizer_cycle, 0);
  }
}

NOINLINE_TEST static void check_bad_arguments(void) {
  int local;
  void *object = root_slots[0] = midden_alloc(64);
  assert_null(midden_weak_get(NULL));
  assert_null(midden_weak_get(object));
  assert_null(midden_weak_get((struct midden_weak *)(void *)&local));
  assert_null(midden_weak_new(&local));
  assert_int_equal(midden_weak_set(object, object), -EINVAL);
  struct midden_weak *weak = midden_weak_new(NULL);
  assert_null(midden_weak_get(weak));
  assert_int_equal(midden_weak_set(weak, &local), -EINVAL);
  assert_int_equal(midden_weak_set(weak, (char *)object + 5), 0);
  assert_ptr_equal(midden_weak_get(weak), (char *)object + 5);
  assert_int_equal(midden_weak_set(weak, weak), 0); /* itself */
  assert_ptr_equal(midden_weak_get(weak), weak);
  assert_int_equal(midden_weak_set(weak, NULL), 0);
  assert_null(midden_weak_get(weak));
  assert_null(midden_ephemeron_new(NULL, object));
  assert_null(midden_ephemeron_new(&local, object));
  assert_null(midden_ephemeron_key(object));
  assert_null(midden_ephemeron_value(weak == NULL ? NULL : (void *)weak));
  assert_null(midden_realloc(weak, 100));
  struct midden_weak_table *none = object;
  assert_null(midden_weak_table_get(none, object));
  assert_int_equal(midden_weak_table_set(none, object, object), -EINVAL);
  assert_int_equal(midden_weak_table_remove(NULL, object), -EINVAL);
  assert_int_equal(midden_weak_table_count(none), 0);
  struct midden_weak_table *fresh = midden_weak_table_new();
  assert_int_equal(midden_weak_table_set(fresh, &local, object), -EINVAL);
  assert_int_equal(midden_weak_table_remove(fresh, object), -ENOENT);
  assert_null(midden_weak_table_get(fresh, NULL));
  assert_null(midden_weak_table_get(fresh, object));
}

static void test_bad_arguments(void **state) {
  (void)state;
  check_bad_arguments();
}

NOINLINE_TEST static void check_free(void) {
  void *object = midden_alloc(48);
  struct midden_weak *weak = midden_weak_new(object), *other = midden_weak_new(object);
  struct midden_ephemeron *ephemeron = midden_ephemeron_new(object, weak);
  memset(ran, 0, sizeof ran);
  assert_int_equal(midden_cleanup_add(object, count_run, &ran[1], NULL), 0);
  midden_free(other);
  midden_free(object);
  assert_null(midden_weak_get(weak));
  assert_null(midden_ephemeron_key(ephemeron));
  assert_null(midden_ephemeron_value(ephemeron));
  midden_free(ephemeron);
  midden_verify();
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX);
  assert_int_equal(ran[1], 0);
}

static void test_freeing(void **state) {
  (void)state;
  for (int i = 0; i < 100; i++) check_free();
}

enum { ENTRIES = 20000 };

NOINLINE_TEST static void fill_table(void **held, size_t keep_one_in) {
  struct midden_weak_table *filled = held[0] = midden_weak_table_new();
  void **kept = held[1] = midden_alloc(ENTRIES * sizeof(void *));
  for (size_t i = 0; i < ENTRIES; i++) {
    void **key = midden_alloc(16), **value = midden_alloc(16);
    value[0] = key; /* refers to its key, and does not keep it */
    if (i % keep_one_in == 0) kept[i] = key;
    assert_int_equal(midden_weak_table_set(filled, key, value), 0);
    assert_ptr_equal(midden_weak_table_get(filled, key), value);
  }
}

NOINLINE_TEST static void check_kept(void **held, size_t keep_one_in) {
  void **kept = held[1];
  for (size_t i = 0; i < ENTRIES; i += keep_one_in) {
    void **value = midden_weak_table_get(held[0], kept[i]);
    assert_non_null(value);
    assert_ptr_equal(value[0], kept[i]);
  }
}

NOINLINE_TEST static void remove_kept(void **held, size_t keep_one_in) {
  void **kept = held[1];
  for (size_t i = 0; i < ENTRIES; i += keep_one_in) {
    assert_int_equal(midden_weak_table_remove(held[0], kept[i]), 0);
    assert_null(midden_weak_table_get(held[0], kept[i]));
  }
}

static void test_table(void **state) {
  (void)state;
  fill_table(root_slots, 10);
  test_collect_clean();
  size_t count = midden_weak_table_count(root_slots[0]);
  REQUIRE(count >= ENTRIES / 10 && count < ENTRIES / 10 + 20, "%zu entries are left", count);
  check_kept(root_slots, 10);
  remove_kept(root_slots, 10);
  assert_true(midden_weak_table_count(root_slots[0]) <= count - ENTRIES / 10);
  memset(root_slots, 0, 2 * sizeof(*root_slots));
  test_collect_clean();
}

/* ---- the dispatcher ---- */

static unsigned dispatched; /* atomic */
static bool dispatching;    /* what stale words have kept runs in a later test, and by the test's thread */

static void count_dispatched(void *argument) {
  (void)argument;
  REQUIRE(!dispatching || midden_dispatcher_stop() == -EDEADLK, "the dispatcher stops itself");
  REQUIRE(midden_alloc(100) != NULL, "no memory");
  __atomic_add_fetch(&dispatched, 1, __ATOMIC_RELAXED);
}

NOINLINE_TEST static void make_cleaned(int count) {
  for (int i = 0; i < count; i++)
    assert_int_equal(midden_cleanup_add(midden_alloc(32), count_dispatched, NULL, NULL), 0);
}

static void wait_for_dispatched(unsigned count) {
  for (int i = 0; i < 5000 && __atomic_load_n(&dispatched, __ATOMIC_RELAXED) < count; i++) usleep(1000);
  REQUIRE(__atomic_load_n(&dispatched, __ATOMIC_RELAXED) >= count, "%u cleanups ran", dispatched);
}

static int fork_and_start(void *argument) {
  (void)argument;
  if (midden_dispatcher_stop() != -ESRCH) return 1;
  if (midden_dispatcher_start() != 0) return 2;
  dispatched = 0;
  make_cleaned(50);
  test_collect_clean();
  wait_for_dispatched(46); /* stale words */
  return midden_dispatcher_stop() == 0 ? 0 : 3;
}

static void test_dispatcher(void **state) {
  (void)state;
  assert_int_equal(midden_dispatcher_stop(), -ESRCH);
  assert_int_equal(midden_dispatcher_start(), 0);
  assert_int_equal(midden_dispatcher_start(), -EALREADY);
  dispatching = true;
  for (int i = 1; i <= 20; i++) {
    make_cleaned(50);
    test_collect_clean();
    wait_for_dispatched((unsigned)i * 50 - 4); /* stale words */
  }
  test_child_succeeds("a child without dispatcher", fork_and_start, NULL, 20);
  assert_int_equal(midden_dispatcher_stop(), 0);
  assert_int_equal(midden_dispatcher_stop(), -ESRCH);
  make_cleaned(50);
  test_collect_clean();
  assert_true(midden_finalizers_ready());
  assert_int_equal(midden_dispatcher_start(), 0); /* what waits already */
  wait_for_dispatched(1040);
  assert_int_equal(midden_dispatcher_stop(), 0);
  dispatching = false;
}

static int start_test(void **state) {
  (void)state;
  memset(root_slots, 0, (NODES_MAX + 1) * sizeof(*root_slots));
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX);
  return 0;
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* frames of guarded allocation keep stale addresses alive */
  rng = test_start("test_specials");
  nodes = calloc(NODES_MAX, sizeof(*nodes));
  cleanups = calloc(CLEANUPS_MAX, sizeof(*cleanups));
  root_slots = calloc(NODES_MAX + 1, sizeof(*root_slots));
  REQUIRE(nodes != NULL && cleanups != NULL && root_slots != NULL, "out of memory");
  REQUIRE(midden_root_add(root_slots, root_slots + NODES_MAX + 1) == 0, "midden_root_add");
  midden_set_percent(-1); /* only the collections that a test asks for */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_bad_arguments, start_test),
      cmocka_unit_test_setup(test_freeing, start_test),
      cmocka_unit_test_setup(test_table, start_test),
      cmocka_unit_test_setup(test_random_graphs, start_test),
      cmocka_unit_test_setup(test_adverse_chain, start_test),
      cmocka_unit_test_setup(test_finalizer_comes_first, start_test),
      cmocka_unit_test_setup(test_dispatcher, start_test),
      cmocka_unit_test_setup(test_stuck_are_counted, start_test),
  };
  return test_run_group(tests);
}
