/* Weak references, ephemerons, weak tables, weak links, cleanups and finalizers in barrier mode.
 *
 * A family is a few nodes that know of each other weakly:
 *
 *     first ----> second                       the only strong reference inside
 *     weak references to first (two) and to second, a weak link to first, an ephemeron (first, third), an entry
 *     (first, fourth) in a table, a cleanup of first
 *
 * and perhaps a strong reference to first, which threads set and clear.  What must hold at any time, for any thread:
 *   - a thread that holds first, in whatever way it came to it, finds it by every weak path, and the others through it;
 *   - if one weak path to first is gone, so are the others;
 *   - the cleanup runs once, and never while first is held.
 * The serial numbers of the four follow each other: so every answer can be checked.
 *
 * Chains of ephemerons hang on a single key that moves between heap, stack and fresh objects; finalizers bring their objects
 * back. */
#include <sched.h>

#include "support/barrier_rig.h"
#include "support/ledger.h"

enum { FAMILIES = 48, CHAINS = 8, CHAIN_LENGTH = 24, MOBILE = 6, REVIVED = 8, TABLE_KEYS = 6, HELD = 4 };

/* The slots of a family's node. */
enum { WEAK_FIRST, WEAK_AGAIN, WEAK_SECOND, EPHEMERON, STRONG, LINK, FAMILY_SLOTS };

/* The slots of `first`. */
enum { FIRST_SECOND, FIRST_ENTRY, FIRST_SLOTS };

/* And of the argument of its cleanup, to which nothing else leads, nor to the node behind it. */
enum { WILL_ENTRY, WILL_NODE, WILL_SLOTS };

static void *families[FAMILIES];
static void *chains[CHAINS];   /* nodes: the key, then the ephemerons, the last first */
static void *mobile[MOBILE];   /* weak references that get other targets */
static void *revived[REVIVED]; /* by finalizers */
static struct midden_weak_table *table;

static size_t finalizers_set, finalizers_run; /* atomic */

struct mutator {
  struct rng rng;
  void *held[HELD]; /* firsts */
};

/* ---- weak links ---- */

/* A data object.  Touched inside midden_locked_call alone. */
struct link {
  void *word;      /* the name of first, disguised */
  uint64_t serial; /* of first */
};

static void *link_get_locked(void *argument) {
  const struct link *link = argument;
  if (link->word == NULL) return NULL;
  void *name = test_unhide((uintptr_t)link->word);
  REQUIRE(node_check(name)->serial == link->serial, "a weak link to a node leads to another");
  return name;
}

struct link_request {
  struct link *link;
  void *name;
};

static void *link_set_locked(void *argument) {
  struct link_request *request = argument;
  request->link->word = (void *)test_hide(request->name);
  request->link->serial = node_check(request->name)->serial;
  int error = midden_weak_link(&request->link->word, node_check(request->name), MIDDEN_WEAK_BEFORE_FINALIZERS);
  REQUIRE(error == 0, "midden_weak_link: %d", error);
  return NULL;
}

/* ---- making a family ---- */

static void first_is_dead(void *argument) {
  const struct node *will = node_check(argument);
  node_check(*node_slot(will, WILL_NODE));
  ledger_tell(*node_slot(will, WILL_ENTRY));
}

static void add_cleanup(struct rng *rng, struct node *node, struct ledger_entry *entry) {
  struct node *will = node_new(NODE_PLAIN, WILL_SLOTS);
  node_fill(will, WILL_ENTRY, entry);
  node_fill(will, WILL_NODE, node_name(node_new_random(rng, 3)));
  int error = midden_cleanup_add(node, first_is_dead, node_name(will), NULL);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
}

static void *required(void *object) {
  REQUIRE(object != NULL, "out of memory");
  return object;
}

NOINLINE_TEST static void *family_new(struct rng *rng) {
  struct node *first = node_new(NODE_PLAIN, FIRST_SLOTS), *second = node_new_random(rng, 3);
  struct node *third = node_new_random(rng, 3), *fourth = node_new(NODE_LEAF, 0);
  node_fill(first, FIRST_SECOND, node_name(second));
  node_fill(first, FIRST_ENTRY, ledger_add(first->serial));
  struct node *family = node_new(NODE_PLAIN, FAMILY_SLOTS);
  node_fill(family, WEAK_FIRST, required(midden_weak_new(node_name(first))));
  node_fill(family, WEAK_AGAIN, required(midden_weak_new(node_name(first))));
  node_fill(family, WEAK_SECOND, required(midden_weak_new(node_name(second))));
  node_fill(family, EPHEMERON, required(midden_ephemeron_new(node_name(first), node_name(third))));
  if (rng_one_in(rng, 2)) node_fill(family, STRONG, node_name(first));
  REQUIRE(midden_weak_table_set(table, node_name(first), node_name(fourth)) == 0, "midden_weak_table_set");
  add_cleanup(rng, first, *node_slot(first, FIRST_ENTRY));
  if (rng_one_in(rng, 8)) {
    struct link_request request = {required(midden_alloc_data(sizeof(struct link))), node_name(first)};
    midden_locked_call(link_set_locked, &request);
    node_fill(family, LINK, request.link);
  }
  return node_name(family);
}

/* ---- checking it ---- */

static void *raw_load(const struct node *node, size_t i) {
  return __atomic_load_n(node_slot(node, i), __ATOMIC_ACQUIRE);
}

static void require_follows(const struct node *node, const void *other, uint64_t distance, const char *what) {
  const struct node *found = node_check(other);
  REQUIRE(found != NULL && found->serial == node->serial + distance, "the %s of node %p, which is held, is %p", what,
          (const void *)node, other);
}

/* For a thread that holds `first`. */
static void check_held(const struct node *family, void *first) {
  const struct node *node = node_check(first);
  ledger_check(raw_load(node, FIRST_ENTRY), node);
  void *second = node_load(node_slot(node, FIRST_SECOND));
  require_follows(node, second, 1, "second");
  REQUIRE(midden_weak_get(raw_load(family, WEAK_FIRST)) == first, "a weak reference to %p, which is held, is cleared",
          first);
  REQUIRE(midden_weak_get(raw_load(family, WEAK_AGAIN)) == first, "a weak reference to %p, which is held, is cleared",
          first);
  REQUIRE(midden_weak_get(raw_load(family, WEAK_SECOND)) == second, "a weak reference to %p, which is held, is cleared",
          second);
  const struct midden_ephemeron *ephemeron = raw_load(family, EPHEMERON);
  REQUIRE(midden_ephemeron_key(ephemeron) == first, "the ephemeron of key %p, which is held, is cleared", first);
  require_follows(node, midden_ephemeron_value(ephemeron), 2, "ephemeron's value");
  require_follows(node, midden_weak_table_get(table, first), 3, "table's value");
  struct link *link = raw_load(family, LINK);
  if (link == NULL || node->serial % 4 != 0) return;
  REQUIRE(midden_locked_call(link_get_locked, link) == first, "the weak link to %p, which is held, is cleared", first);
}

static void check_dead(const struct node *family) {
  const struct midden_ephemeron *ephemeron = raw_load(family, EPHEMERON);
  REQUIRE(midden_weak_get(raw_load(family, WEAK_FIRST)) == NULL, "a weak reference came back to life");
  REQUIRE(midden_weak_get(raw_load(family, WEAK_AGAIN)) == NULL, "only one of two weak references was cleared");
  REQUIRE(midden_ephemeron_key(ephemeron) == NULL, "the key of an ephemeron outlives a weak reference to it");
  REQUIRE(midden_ephemeron_value(ephemeron) == NULL, "the value of an ephemeron outlives its key");
}

static struct node *random_family(struct rng *rng) {
  return node_check(node_load(&families[rng_below(rng, FAMILIES)]));
}

/* The first of a family, through one path or another. */
static void *find_first(struct rng *rng, const struct node *family) {
  switch (rng_below(rng, 6)) {
    case 0:
      return node_load(node_slot(family, STRONG));
    case 1:
      return midden_ephemeron_key(raw_load(family, EPHEMERON));
    case 2: {
      struct link *link = raw_load(family, LINK);
      if (link != NULL) return midden_locked_call(link_get_locked, link);
      return midden_weak_get(raw_load(family, WEAK_AGAIN));
    }
    case 3:
      return midden_weak_get(raw_load(family, WEAK_AGAIN));
    default:
      return midden_weak_get(raw_load(family, WEAK_FIRST));
  }
}

/* ---- operations on families ---- */

static void op_make(struct mutator *self) {
  node_store(&families[rng_below(&self->rng, FAMILIES)], family_new(&self->rng));
}

static void op_weaken(struct mutator *self) {
  for (int i = 0; i < 3; i++) node_store(node_slot(random_family(&self->rng), STRONG), NULL);
}

NOINLINE_TEST static void op_find(struct mutator *self) {
  const struct node *family = random_family(&self->rng);
  void *first = find_first(&self->rng, family);
  if (first == NULL) {
    if (midden_weak_get(raw_load(family, WEAK_FIRST)) == NULL) check_dead(family);
    return;
  }
  check_held(family, first);
  if (rng_one_in(&self->rng, 6)) node_store(node_slot(family, STRONG), first);
  if (rng_one_in(&self->rng, 6)) self->held[rng_below(&self->rng, HELD)] = first;
  if (rng_one_in(&self->rng, 20)) sched_yield();
  if (rng_one_in(&self->rng, 200)) midden_collect();
  check_held(family, first);
  __asm__ volatile("" : : "r"(first) : "memory");
}

/* What this frame has held for some time, checked by the ledger alone. */
static void op_held(struct mutator *self) {
  size_t i = rng_below(&self->rng, HELD);
  const struct node *node = node_check(self->held[i]);
  if (node == NULL) return;
  ledger_check(raw_load(node, FIRST_ENTRY), node);
  require_follows(node, midden_weak_table_get(table, self->held[i]), 3, "table's value");
  if (rng_one_in(&self->rng, 3)) self->held[i] = NULL;
}

/* ---- weak references that move ---- */

static void op_mobile(struct mutator *self) {
  void **place = &mobile[rng_below(&self->rng, MOBILE)];
  struct midden_weak *weak = __atomic_load_n(place, __ATOMIC_ACQUIRE);
  const struct node *family = random_family(&self->rng);
  void *first = find_first(&self->rng, family);
  if (weak == NULL) {
    weak = midden_weak_new(first);
    node_store(place, required(weak));
  } else {
    REQUIRE(midden_weak_set(weak, first) == 0, "midden_weak_set");
  }
  void *found = midden_weak_get(weak); /* perhaps what another thread has set meanwhile */
  const struct node *node = node_check(found);
  if (node != NULL) ledger_check(raw_load(node, FIRST_ENTRY), node);
  if (first != NULL) check_held(family, first);
}

/* ---- chains of ephemerons ---- */

NOINLINE_TEST static void *chain_new(struct rng *rng) {
  struct node *keys[CHAIN_LENGTH + 1];
  for (size_t i = 0; i <= CHAIN_LENGTH; i++) keys[i] = node_new_random(rng, 2);
  struct node *chain = node_new(rng_one_in(rng, 2) ? NODE_PLAIN : NODE_TRACED, CHAIN_LENGTH + 1);
  node_fill(chain, 0, node_name(keys[0]));
  for (size_t i = 0; i < CHAIN_LENGTH; i++)
    node_fill(chain, CHAIN_LENGTH - i, required(midden_ephemeron_new(node_name(keys[i]), node_name(keys[i + 1]))));
  return node_name(chain);
}

/* For who holds the key. */
NOINLINE_TEST static void chain_check(const struct node *chain, const void *key) {
  const struct node *first = node_check(key);
  for (size_t i = 0; i < CHAIN_LENGTH; i++) {
    const struct midden_ephemeron *ephemeron = raw_load(chain, CHAIN_LENGTH - i);
    REQUIRE(midden_ephemeron_key(ephemeron) == key, "ephemeron %zu of a chain has lost its key", i);
    key = midden_ephemeron_value(ephemeron);
    require_follows(first, key, i + 1, "chain");
  }
}

/* Takes the key out of the chain, so that all of it hangs on this frame or on a fresh object, and puts it back. */
NOINLINE_TEST static void op_chain(struct mutator *self) {
  void **place = &chains[rng_below(&self->rng, CHAINS)];
  const struct node *chain = node_check(node_load(place));
  if (chain == NULL || rng_one_in(&self->rng, 20)) {
    node_store(place, chain_new(&self->rng));
    return;
  }
  midden_word *slot = node_slot(chain, 0);
  void *key = node_exchange(slot, NULL);
  if (key == NULL) return;
  struct node *wrap = node_new(NODE_PLAIN, 1);
  node_fill(wrap, 0, key);
  key = NULL;
  if (rng_one_in(&self->rng, 20)) rig_pause_us(100);
  chain_check(chain, node_load(node_slot(wrap, 0)));
  node_store(slot, node_load(node_slot(wrap, 0)));
  __asm__ volatile("" : : "r"(chain) : "memory");
}

/* ---- the table ---- */

NOINLINE_TEST static void op_table(struct mutator *self) {
  void *keys[TABLE_KEYS];
  for (size_t i = 0; i < TABLE_KEYS; i++) {
    keys[i] = node_name(node_new(NODE_PLAIN, 1));
    node_next_serial += 2;
    void *value = node_name(node_new_random(&self->rng, 2));
    REQUIRE(midden_weak_table_set(table, keys[i], value) == 0, "midden_weak_table_set");
  }
  for (size_t i = 0; i < TABLE_KEYS; i++) {
    require_follows(node_check(keys[i]), midden_weak_table_get(table, keys[i]), 3, "table's value");
    if (rng_one_in(&self->rng, 2)) continue;
    REQUIRE(midden_weak_table_remove(table, keys[i]) == 0, "an entry is lost whose key is held");
    REQUIRE(midden_weak_table_get(table, keys[i]) == NULL, "an entry was removed and is there");
  }
}

static bool visit(void *key, void *value, void *argument) {
  (void)argument;
  require_follows(node_check(key), value, 3, "table's value");
  return true;
}

static void op_visit(struct mutator *self) {
  if (rng_one_in(&self->rng, 2)) {
    midden_weak_table_each(table, visit, NULL);
  } else {
    midden_weak_table_count(table);
  }
}

/* ---- finalizers ---- */

/* The child, with the next serial number, is in the first slot. */
static void finalize(void *object, void *argument) {
  struct node *node = object;
  struct ledger_entry *entry = argument;
  __atomic_fetch_add(&finalizers_run, 1, __ATOMIC_RELAXED);
  node_check(node_name(node));
  require_follows(node, node_load(node_slot(node, 0)), 1, "child");
  uint64_t serial = ledger_tell(entry);
  REQUIRE(serial == node->serial, "the finalizer of node %p has the argument of another", object);
  node_store(&revived[serial % REVIVED], node_name(node));
}

NOINLINE_TEST static void op_finalizer(struct mutator *self) {
  static const enum midden_finalizer_order orders[] = {MIDDEN_FINALIZE_ORDERED, MIDDEN_FINALIZE_IGNORE_SELF,
                                                       MIDDEN_FINALIZE_UNORDERED, MIDDEN_FINALIZE_UNREACHABLE};
  struct node *node = node_new_random(&self->rng, 3), *child = node_new_random(&self->rng, 1);
  node_fill(node, 0, node_name(child));
  enum midden_finalizer_order order = orders[rng_below(&self->rng, TEST_COUNT_OF(orders))];
  int error = midden_finalizer_set(node, finalize, ledger_add(node->serial), order, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
  __atomic_fetch_add(&finalizers_set, 1, __ATOMIC_RELAXED);
}

static void op_revived(struct mutator *self) {
  void *name = node_exchange(&revived[rng_below(&self->rng, REVIVED)], NULL);
  const struct node *node = node_check(name);
  if (node != NULL) require_follows(node, node_load(node_slot(node, 0)), 1, "child");
}

static void op_run_finalizers(struct mutator *self) { midden_finalizers_run(1 + rng_below(&self->rng, 50)); }

static void op_litter(struct mutator *self) {
  for (size_t i = rng_size(&self->rng, 40); i-- > 0;) node_new_random(&self->rng, 4);
}

static void op_collect(struct mutator *self) {
  test_scrub_stack();
  memset(self->held, 0, sizeof(self->held));
  midden_collect();
}

/* ---- start ---- */

struct operation {
  void (*run)(struct mutator *self);
  unsigned weight;
};

static const struct operation operations[] = {
    {op_make, 300},    {op_weaken, 200},        {op_find, 3000}, {op_held, 500},   {op_mobile, 500},
    {op_chain, 400},   {op_table, 60},          {op_visit, 4},   {op_litter, 200}, {op_finalizer, 100},
    {op_revived, 100}, {op_run_finalizers, 50}, {op_collect, 2},
};

static unsigned operations_weight; /* constant after start */

static void random_operation(struct mutator *self) {
  size_t at = rng_below(&self->rng, operations_weight), i = 0;
  while (at >= operations[i].weight) at -= operations[i++].weight;
  operations[i].run(self);
}

NOINLINE_TEST static void mutate(struct rig_thread *thread) {
  struct mutator self = {.rng = thread->rng};
  for (size_t i = 0; i < rig_steps; i++) {
    rig_step();
    random_operation(&self);
  }
}

NOINLINE_TEST static void set_up(struct rng *rng) {
  for (size_t i = 0; i < TEST_COUNT_OF(operations); i++) operations_weight += operations[i].weight;
  node_store(&table, required(midden_weak_table_new()));
  for (size_t i = 0; i < FAMILIES; i++) node_store(&families[i], family_new(rng));
}

/* Nothing refers to anything any more: every end is told, but for what a stale word keeps. */
NOINLINE_TEST static void let_go(void) {
  node_clear_range(families, FAMILIES);
  node_clear_range(chains, CHAINS);
  node_clear_range(mobile, MOBILE);
  for (int i = 0; i < 6; i++) {
    node_clear_range(revived, REVIVED);
    test_collect_clean();
    while (midden_finalizers_run(100) != 0) continue;
  }
}

static void run(struct rng *rng) {
  bool has_dispatcher = rng_one_in(rng, 2);
  if (has_dispatcher) REQUIRE(midden_dispatcher_start() == 0, "midden_dispatcher_start");
  set_up(rng);
  rig_run_threads(rng, mutate, NULL);
  if (has_dispatcher) REQUIRE(midden_dispatcher_stop() == 0, "midden_dispatcher_stop");
  let_go();
  REQUIRE(ledger_open() <= 20, "%zu of %zu ends were not told", ledger_open(), ledger.made);
  REQUIRE(finalizers_set - finalizers_run <= 20, "%zu of %zu finalizers did not run", finalizers_set - finalizers_run,
          finalizers_set);
  size_t entries = midden_weak_table_count(table);
  REQUIRE(entries <= 20, "the table has %zu entries when all keys are dead", entries);
}

int main(int count, char **arguments) {
  static const struct rig_test test = {.name = "test_barrier_weak", .steps = 30000, .run = run, .option = node_option};
  return rig_main(&test, count, arguments);
}
