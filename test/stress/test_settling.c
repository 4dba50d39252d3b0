/* All that follows from an object's death at once, beside collections: finalizers of every order that bring their object back,
 * register it again or replace another's, cleanups, weak references and links, entries of a weak table, objects that are freed or
 * moved by hand, forks; by one thread that knows what it has, and others that make noise in the same spans.
 *
 * The model.  A node is strong if a root, a strong node, or the argument of a finalizer or cleanup that has not run refers to it, or
 * it is the value of a strong node's entry.  It is kept if it is strong, or what a node refers to whose finalizer has not run, or that
 * node.  At any time:
 *
 *     strong  whole, and found by each weak path that it had since it was strong all the time
 *     kept    whole, and its links of AFTER_FINALIZERS stand that it had since it was kept all the time
 *     freed   found by no path
 *
 * A finalizer runs once, of a node that is not strong, and not before one that refers to it; so does a cleanup, of one that is not
 * kept.  A node that is found by a weak path is taken back.
 *
 * Words that look like references may keep any node for longer, never for less. */
#include <pthread.h>
#include <sched.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum {
  NODES = 240,
  SLOTS = 5, /* of each node; the last one at its end */
  NEAR_WORDS = 8,
  NOBODY = -1,
  CLEANUPS = 64,
  NOISY_THREADS = 2,
  NOISE_HELD = 64,
  NOISE_MOST = 4000, /* finalizers and cleanups that have not run: or they would come faster than they are run */
  CHILD_SECONDS = 60
};

/* A node: references, then its name (complemented) and what that gives when it is mixed; the last reference at the end. */
enum { NAME = SLOTS, SUM, NODE_WORDS_LEAST = NEAR_WORDS + 1 };

static struct node {
  uintptr_t hidden; /* 0: there is none */
  size_t words;
  uint32_t name;
  int to[SLOTS];
  bool rooted, is_private; /* nothing but its root slot ever referred to it */
  bool has_finalizer, may_be_queued;
  enum midden_finalizer_order order;
  int argument; /* of the finalizer */
  int entry;    /* of the table: the value */
  bool has_weak, has_before, has_after, has_entry;
  bool in_heap;                                 /* the links lie in an object */
  bool weak_may_go, after_may_go, entry_may_go; /* it was not strong, or not kept, since they were made */
  bool is_strong, is_kept, is_reclaimed;        /* found by define; its cleanup ran */
  unsigned cleanups;                            /* that have not run */
  uint64_t handle;                              /* of the last one; 0: none */
  int last_cleanup;
} * nodes;

static struct cleanup {
  int node, argument;
  uint32_t name;
  bool is_pending;
} * cleanups;

/* Roots. */
static struct {
  void *nodes[NODES], *weak[NODES], *holders[NODES];
  void *table;
  void *noise[NOISY_THREADS][NOISE_HELD]; /* weak references that all threads read */
} roots;

static void *words[NODES][2]; /* links outside of the heap: not scanned, since disguised */
static struct rng rng;
static midden_kind traced;
static bool has_traced;
static uint32_t names;
static bool is_over;                                    /* atomic */
static size_t made, revived, finalized, cleaned, freed; /* what happened, to be told */

static void *required(void *object) {
  REQUIRE(object != NULL, "out of memory");
  return object;
}

static int any_node(void) { return (int)rng_below(&rng, NODES); }
static bool exists(int i) { return i != NOBODY && nodes[i].hidden != 0; }
static void **object_of(int i) { return test_unhide(nodes[i].hidden); }
static void **slot_of(void **object, size_t node_words, int slot) {
  return slot == SLOTS - 1 ? &object[node_words - 1] : &object[slot];
}

static void *sum_of(uintptr_t name) { return (void *)(~test_mix(name) | 1); } /* no address */

static void check_whole(int i) {
  void **object = object_of(i);
  uintptr_t name = (uintptr_t)object[NAME];
  REQUIRE(name == ~(uintptr_t)nodes[i].name && object[SUM] == sum_of(name), "node %d is damaged, or reclaimed", i);
  REQUIRE(midden_base(object) == object, "node %d is no object", i);
}

/* ---- the model ---- */

static bool enliven(int i, bool strong) {
  if (!exists(i) || (strong ? nodes[i].is_strong : nodes[i].is_kept)) return false;
  if (strong) nodes[i].is_strong = true;
  nodes[i].is_kept = true;
  return true;
}

static bool spread(bool strong) {
  bool changed = false;
  for (int i = 0; i < NODES; i++) {
    const struct node *node = &nodes[i];
    if (!(strong ? node->is_strong : node->is_kept)) continue;
    for (int slot = 0; slot < SLOTS; slot++) changed |= enliven(node->to[slot], strong);
    if (strong && node->has_entry && !node->entry_may_go) changed |= enliven(node->entry, true);
  }
  return changed;
}

static void define(void) {
  for (int i = 0; i < NODES; i++) nodes[i].is_strong = nodes[i].is_kept = false;
  for (int i = 0; i < NODES; i++) {
    if (!exists(i)) continue;
    if (nodes[i].rooted) enliven(i, true);
    if (nodes[i].has_finalizer) enliven(nodes[i].argument, true);
  }
  for (int i = 0; i < CLEANUPS; i++) {
    if (cleanups[i].is_pending) enliven(cleanups[i].argument, true);
  }
  while (spread(true)) continue;
  for (int i = 0; i < NODES; i++) {
    if (exists(i) && nodes[i].has_finalizer) enliven(i, false);
  }
  while (spread(false)) continue;
  for (int i = 0; i < NODES; i++) {
    nodes[i].weak_may_go |= !nodes[i].is_strong;
    nodes[i].entry_may_go |= !nodes[i].is_strong;
    nodes[i].after_may_go |= !nodes[i].is_kept;
  }
}

/* ---- making ---- */

static void trace_node(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *unused) {
  (void)unused;
  for (size_t i = 0; i < slot_bytes / sizeof(void *); i++)
    midden_trace(tracer, __atomic_load_n((void **)object + i, __ATOMIC_RELAXED));
}

static size_t random_words(void) {
  if (rng_one_in(&rng, 40)) return 4200 + rng_below(&rng, 20000); /* large: in pieces */
  return NODE_WORDS_LEAST + rng_below(&rng, rng_one_in(&rng, 4) ? 200 : 8);
}

static void forget(int i) {
  if (nodes[i].has_before || nodes[i].has_after) {
    /* They may be registered still, for a node of which nothing was found any more. */
    void **links = nodes[i].in_heap ? roots.holders[i] : words[i];
    midden_weak_unlink(&links[0], MIDDEN_WEAK_BEFORE_FINALIZERS);
    midden_weak_unlink(&links[1], MIDDEN_WEAK_AFTER_FINALIZERS);
  }
  nodes[i] = (struct node){.argument = NOBODY, .entry = NOBODY};
  for (int slot = 0; slot < SLOTS; slot++) nodes[i].to[slot] = NOBODY;
  midden_store(&roots.nodes[i], NULL);
  midden_store(&roots.weak[i], NULL);
  midden_store(&roots.holders[i], NULL);
}

static bool is_referred_to(int i) {
  for (int k = 0; k < NODES; k++) {
    if (!exists(k)) continue;
    for (int slot = 0; slot < SLOTS; slot++) {
      if (nodes[k].to[slot] == i) return true;
    }
    if ((nodes[k].has_finalizer && nodes[k].argument == i) || (nodes[k].has_entry && nodes[k].entry == i)) return true;
  }
  for (int k = 0; k < CLEANUPS; k++) {
    if (cleanups[k].is_pending && (cleanups[k].argument == i || cleanups[k].node == i)) return true;
  }
  return false;
}

static void arm(int i) {
  struct node *node = &nodes[i];
  void *object = object_of(i);
  size_t offset = rng_below(&rng, node->words * sizeof(void *));
  if (rng_one_in(&rng, 2)) {
    midden_store(&roots.weak[i], required(midden_weak_new((char *)object + offset)));
    node->has_weak = true;
    /* The offset is told by the weak reference alone. */
  }
  if (rng_one_in(&rng, 2)) {
    node->in_heap = rng_one_in(&rng, 2);
    void **links = words[i];
    if (node->in_heap) {
      links = required(midden_alloc_data(2 * sizeof(void *) + 16));
      midden_store(&roots.holders[i], links);
    }
    for (int when = 0; when < 2; when++) {
      links[when] = (void *)node->hidden;
      int error = midden_weak_link(&links[when], (char *)object + offset, (enum midden_weak_when)when);
      REQUIRE(error == 0, "midden_weak_link: %d", error);
    }
    node->has_before = node->has_after = true;
  }
}

NOINLINE_TEST static void node_new(int i) {
  if (is_referred_to(i)) return;
  forget(i);
  struct node *node = &nodes[i];
  node->words = random_words();
  node->name = ++names;
  size_t bytes = node->words * sizeof(void *);
  void **object = required(has_traced && rng_one_in(&rng, 8) ? midden_alloc_kind(traced, bytes) : midden_alloc(bytes));
  object[NAME] = (void *)~(uintptr_t)node->name;
  object[SUM] = sum_of(~(uintptr_t)node->name);
  node->hidden = test_hide(object);
  node->rooted = node->is_private = true;
  node->is_strong = node->is_kept = true;
  midden_store(&roots.nodes[i], object);
  if (rng_one_in(&rng, 2)) arm(i);
  made++;
}

/* ---- checking ---- */

static void **links_of(int i) { return nodes[i].in_heap ? roots.holders[i] : words[i]; }

/* Where the answer is NULL: the path is gone for good. */
NOINLINE_TEST static void check_paths(int i) {
  struct node *node = &nodes[i];
  char *object = (char *)object_of(i);
  if (node->is_kept) check_whole(i);
  if (node->has_weak) {
    char *found = midden_weak_get(roots.weak[i]);
    REQUIRE(found != NULL || node->weak_may_go, "node %d is strong, and its weak reference cleared", i);
    REQUIRE(found == NULL || (size_t)(found - object) < node->words * sizeof(void *), "node %d: another is found", i);
    node->has_weak = found != NULL;
    if (found != NULL && !node->is_strong) { /* taken back */
      midden_store(&roots.nodes[i], object);
      node->rooted = true;
      node->is_private = false;
      revived++;
      define();
      check_whole(i);
    }
  }
  void **links = links_of(i);
  if (node->has_before) {
    bool stands = __atomic_load_n(&links[0], __ATOMIC_ACQUIRE) != NULL;
    REQUIRE(stands || node->weak_may_go, "node %d is strong, and its first link cleared", i);
    node->has_before = stands;
  }
  if (node->has_after) {
    bool stands = __atomic_load_n(&links[1], __ATOMIC_ACQUIRE) != NULL;
    REQUIRE(stands || node->after_may_go, "node %d is kept, and its last link cleared", i);
    node->has_after = stands;
    if (!stands && !node->is_kept) node->is_reclaimed = true;
  }
  if (node->has_entry && node->is_strong) {
    void *value = midden_weak_table_get(roots.table, object);
    if (value == NULL) {
      REQUIRE(node->entry_may_go, "node %d is strong, and its entry lost", i);
      node->has_entry = false;
    } else {
      REQUIRE(value == object_of(node->entry), "node %d has a wrong entry", i);
      check_whole(node->entry);
    }
  }
}

static void check_all(void) {
  define();
  for (int i = 0; i < NODES; i++) {
    if (exists(i)) check_paths(i);
  }
}

/* What was reclaimed leaves the model, where nothing that is to be checked names it. */
static void bury(void) {
  define();
  for (int i = 0; i < NODES; i++) {
    bool is_findable = nodes[i].has_weak || nodes[i].has_before || nodes[i].has_after;
    if (!exists(i) || nodes[i].is_kept || (is_findable && !nodes[i].is_reclaimed)) continue;
    REQUIRE(!nodes[i].has_weak || midden_weak_get(roots.weak[i]) == NULL, "node %d was reclaimed, and is found", i);
    for (int k = 0; k < NODES; k++) {
      for (int slot = 0; slot < SLOTS; slot++) {
        if (nodes[k].to[slot] != i) continue;
        REQUIRE(!nodes[k].is_kept, "node %d was reclaimed, which %d refers to", i, k);
        nodes[k].to[slot] = NOBODY;
      }
      if (nodes[k].entry == i) nodes[k].has_entry = false, nodes[k].entry = NOBODY;
    }
    if (nodes[i].cleanups == 0) forget(i);
  }
}

/* ---- finalizers and cleanups ---- */

static void set_finalizer(int i);

static bool reaches(int from, int to, unsigned depth) {
  if (from == to) return true;
  if (depth == 0) return false;
  for (int slot = 0; slot < SLOTS; slot++) {
    if (exists(nodes[from].to[slot]) && reaches(nodes[from].to[slot], to, depth - 1)) return true;
  }
  return false;
}

/* With what it refers to: all of that may be due already. */
static void may_be_queued(int i) {
  static bool reached[NODES];
  bool changed = true;
  memset(reached, false, sizeof reached);
  for (reached[i] = true; changed;) {
    changed = false;
    for (int k = 0; k < NODES; k++) {
      for (int slot = 0; reached[k] && slot < SLOTS; slot++) {
        int to = nodes[k].to[slot];
        if (!exists(to) || reached[to]) continue;
        reached[to] = changed = true;
      }
    }
  }
  for (int k = 0; k < NODES; k++) nodes[k].may_be_queued |= reached[k] && k != i;
}

/* Those that are gone had the same address, perhaps. */
static int node_of(void *object) {
  uintptr_t name = (uintptr_t)((void **)object)[NAME];
  for (int i = 0; i < NODES; i++) {
    if (nodes[i].hidden == test_hide(object) && name == ~(uintptr_t)nodes[i].name) return i;
  }
  REQUIRE(false, "the finalizer of %p, which is no node", object);
}

static void check_turn(int i) {
  if (nodes[i].may_be_queued) return;
  REQUIRE(!nodes[i].is_strong, "node %d is finalized, and strong", i);
  for (int k = 0; k < NODES; k++) {
    if (k == i || !exists(k) || !nodes[k].has_finalizer || nodes[k].order == MIDDEN_FINALIZE_UNORDERED) continue;
    REQUIRE(nodes[k].may_be_queued || nodes[k].is_strong || !reaches(k, i, 3), "node %d is finalized before %d", i, k);
  }
}

NOINLINE_TEST static void finalize(void *object, void *argument) {
  int i = node_of(object);
  struct node *node = &nodes[i];
  define();
  check_whole(i);
  REQUIRE(node->has_finalizer && !node->is_reclaimed, "node %d is finalized once more", i);
  REQUIRE(argument == (node->argument == NOBODY ? NULL : object_of(node->argument)), "node %d: wrong argument", i);
  check_turn(i);
  for (int k = 0; k < NODES; k++) {
    if (exists(k) && nodes[k].is_kept) check_whole(k);
  }
  node->has_finalizer = node->may_be_queued = false;
  node->argument = NOBODY;
  finalized++;
  define();
  if (rng_one_in(&rng, 3)) {
    midden_store(&roots.nodes[i], object);
    node->rooted = true;
  }
  if (rng_one_in(&rng, 4)) set_finalizer(i);
  if (node->rooted || node->has_finalizer) may_be_queued(i);
  __asm__ volatile("" : : "r"(object) : "memory"); /* so far nothing else may have kept it */
  if (rng_one_in(&rng, 16)) midden_collect();
  define();
}

static void set_finalizer(int i) {
  struct node *node = &nodes[i];
  int argument = rng_one_in(&rng, 6) ? any_node() : NOBODY;
  if (!exists(argument) || !nodes[argument].is_strong || argument == i) argument = NOBODY;
  if (argument != NOBODY) nodes[argument].is_private = false;
  if (node->may_be_queued && node->has_finalizer) return; /* it may be due, and then both run */
  node->may_be_queued = false;
  enum midden_finalizer_order order = (enum midden_finalizer_order)rng_below(&rng, 4);
  void *given = argument == NOBODY ? NULL : object_of(argument), *old = NULL;
  midden_finalizer_fn *function = NULL;
  bool clears = rng_one_in(&rng, 6);
  int error = midden_finalizer_set(object_of(i), clears ? NULL : finalize, given, order, &function, &old);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
  REQUIRE((function != NULL) == node->has_finalizer, "node %d: what was there before", i);
  REQUIRE(old == (node->argument == NOBODY ? NULL : object_of(node->argument)), "node %d: its argument", i);
  node->has_finalizer = !clears;
  node->order = order;
  node->argument = clears ? NOBODY : argument;
}

static void clean(void *argument) {
  struct cleanup *cleanup;
  if ((uintptr_t)argument < CLEANUPS) {
    cleanup = &cleanups[(uintptr_t)argument];
  } else {
    cleanup = &cleanups[~(uintptr_t)((void **)argument)[0]];
  }
  struct node *node = &nodes[cleanup->node];
  define();
  REQUIRE(cleanup->is_pending, "a cleanup of node %d ran once more", cleanup->node);
  REQUIRE(node->name == cleanup->name, "a cleanup of node %d ran late", cleanup->node);
  REQUIRE(!node->is_kept, "a cleanup of node %d, which is kept", cleanup->node);
  REQUIRE(!node->has_after || links_of(cleanup->node)[1] == NULL, "a cleanup of node %d before its link",
          cleanup->node);
  if (exists(cleanup->argument)) check_whole(cleanup->argument);
  cleanup->is_pending = false;
  node->is_reclaimed = true;
  node->cleanups--;
  node->handle = 0;
  cleaned++;
  define();
}

/* With a note that refers to another node, or none. */
static void add_cleanup(int i) {
  int free_place = 0;
  while (free_place < CLEANUPS && cleanups[free_place].is_pending) free_place++;
  if (free_place == CLEANUPS) return;
  struct cleanup *cleanup = &cleanups[free_place];
  *cleanup = (struct cleanup){.node = i, .name = nodes[i].name, .argument = NOBODY};
  void *argument = (void *)(uintptr_t)free_place;
  int other = any_node();
  if (rng_one_in(&rng, 2) && exists(other) && nodes[other].is_strong && other != i && !reaches(other, i, 6)) {
    void **note = required(midden_alloc(2 * sizeof(void *)));
    note[0] = (void *)~(uintptr_t)free_place;
    midden_store(&note[1], object_of(other));
    argument = note;
    cleanup->argument = other;
    nodes[other].is_private = false;
  }
  uint64_t handle;
  int error = midden_cleanup_add(object_of(i), clean, argument, &handle);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
  cleanup->is_pending = true;
  nodes[i].cleanups++;
  nodes[i].handle = handle;
  nodes[i].last_cleanup = free_place;
}

static void remove_cleanup(int i) {
  if (nodes[i].handle == 0) return;
  int error = midden_cleanup_remove(object_of(i), nodes[i].handle);
  REQUIRE(error == 0, "midden_cleanup_remove: %d", error);
  cleanups[nodes[i].last_cleanup].is_pending = false;
  nodes[i].handle = 0;
  nodes[i].cleanups--;
}

/* ---- what the program does ---- */

static void link_nodes(int from, int to) {
  int slot = (int)rng_below(&rng, SLOTS);
  if (rng_one_in(&rng, 8)) to = from;
  midden_store(slot_of(object_of(from), nodes[from].words, slot), object_of(to));
  nodes[from].to[slot] = to;
  nodes[to].is_private = false;
}

static void unlink_nodes(int from) {
  int slot = (int)rng_below(&rng, SLOTS);
  midden_store(slot_of(object_of(from), nodes[from].words, slot), NULL);
  nodes[from].to[slot] = NOBODY;
}

static void drop(int i) {
  midden_store(&roots.nodes[i], NULL);
  nodes[i].rooted = false;
}

static void enter(int i, int value) {
  if (rng_one_in(&rng, 4) && nodes[i].has_entry) {
    midden_weak_table_remove(roots.table, object_of(i));
    nodes[i].has_entry = false;
    nodes[i].entry = NOBODY;
    return;
  }
  int error = midden_weak_table_set(roots.table, object_of(i), object_of(value));
  REQUIRE(error == 0, "midden_weak_table_set: %d", error);
  nodes[i].has_entry = true;
  nodes[i].entry_may_go = false;
  nodes[i].entry = value;
  nodes[value].is_private = false;
}

/* What is linked in many ways would stay for ever.  A node that has been dropped, or that one referred to, may be gone at once. */
static void drop_many(void) {
  for (int i = 0; i < NODES; i++) {
    if (!exists(i) || !nodes[i].is_strong || rng_one_in(&rng, 3)) continue;
    unlink_nodes(i);
    if (nodes[i].rooted) drop(i);
    define();
  }
}

/* Everything that it has goes at once. */
static void check_freed(int i, bool had_weak) {
  void **links = links_of(i);
  REQUIRE(!had_weak || midden_weak_get(roots.weak[i]) == NULL, "node %d was freed, and is found", i);
  REQUIRE(!nodes[i].has_before || links[0] == NULL, "node %d was freed, and its first link stands", i);
  REQUIRE(!nodes[i].has_after || links[1] == NULL, "node %d was freed, and its last link stands", i);
  for (int k = 0; k < CLEANUPS; k++) {
    if (cleanups[k].is_pending && cleanups[k].node == i) cleanups[k].is_pending = false;
  }
  nodes[i].cleanups = 0;
  forget(i);
  freed++;
}

NOINLINE_TEST static void free_node(int i) {
  void *object = object_of(i);
  midden_store(&roots.nodes[i], NULL);
  if (rng_one_in(&rng, 3)) {
    void *moved = required(midden_realloc(object, 2 * nodes[i].words * sizeof(void *) + 64));
    REQUIRE(((void **)moved)[NAME] == (void *)~(uintptr_t)nodes[i].name, "node %d was moved, and is another", i);
    midden_free(moved);
  } else {
    midden_free(object);
  }
  check_freed(i, nodes[i].has_weak);
}

/* Takes a node back by its link, if that stands. */
static void *look(void *argument) {
  int i = *(int *)argument;
  void *word = links_of(i)[0];
  if (word == NULL) return NULL;
  midden_store(&roots.nodes[i], test_unhide((uintptr_t)word));
  return test_unhide((uintptr_t)word);
}

static void take_back_by_link(int i) {
  if (!nodes[i].has_before || midden_locked_call(look, &i) == NULL) return;
  nodes[i].rooted = true;
  nodes[i].is_private = false;
  define();
  check_whole(i);
}

static void move_links(int i) {
  if (!nodes[i].has_before || !nodes[i].has_after || !nodes[i].is_strong) return;
  void **from = links_of(i), **to = nodes[i].in_heap ? words[i] : required(midden_alloc_data(2 * sizeof(void *) + 16));
  for (int when = 0; when < 2; when++) {
    to[when] = (void *)nodes[i].hidden;
    int error = midden_weak_move(&from[when], &to[when], (enum midden_weak_when)when);
    REQUIRE(error == 0 || (error == -ENOENT && (when == 0 ? nodes[i].weak_may_go : nodes[i].after_may_go)),
            "midden_weak_move: %d", error);
    if (error != 0) to[when] = NULL;
  }
  midden_store(&roots.holders[i], nodes[i].in_heap ? NULL : (void *)to);
  nodes[i].in_heap = !nodes[i].in_heap;
}

NOINLINE_TEST static void step(void) {
  int i = any_node(), k = any_node();
  if (!exists(i)) {
    node_new(i);
    return;
  }
  bool strong = nodes[i].is_strong;
  if (!strong) {
    if (rng_one_in(&rng, 8)) check_paths(i);
    if (exists(i) && !nodes[i].is_strong && rng_one_in(&rng, 16)) take_back_by_link(i);
    return;
  }
  switch (rng_below(&rng, 14)) {
    case 0:
    case 1:
    case 2:
      if (exists(k) && nodes[k].is_strong) link_nodes(i, k);
      break;
    case 3:
    case 4:
      unlink_nodes(i);
      break;
    case 5:
      drop(i);
      break;
    case 6:
    case 7:
      set_finalizer(i);
      break;
    case 8:
      add_cleanup(i);
      break;
    case 9:
      remove_cleanup(i);
      break;
    case 10:
      if (exists(k) && nodes[k].is_strong) enter(i, k);
      break;
    case 11:
      if (nodes[i].is_private && nodes[i].rooted && !is_referred_to(i)) free_node(i);
      break;
    case 12:
      move_links(i);
      break;
    default:
      check_paths(i);
      break;
  }
  define();
}

/* ---- the noise ---- */

struct noise {
  void *slots[3];
  uintptr_t mark;
};

static size_t noise_count; /* atomic */

static void ignore_argument(void *argument) {
  (void)argument;
  __atomic_sub_fetch(&noise_count, 1, __ATOMIC_RELAXED);
}

static void ignore(void *object, void *argument) {
  REQUIRE(((struct noise *)object)->mark == ~(uintptr_t)42, "noise is damaged");
  ignore_argument(argument);
}

static bool chooses(struct rng *own, size_t n) {
  if (!rng_one_in(own, n)) return false;
  __atomic_add_fetch(&noise_count, 1, __ATOMIC_RELAXED);
  return true;
}

NOINLINE_TEST static void make_noise(struct rng *own, struct noise **held, size_t thread) {
  size_t place = rng_below(own, NOISE_HELD);
  struct noise *noise = required(midden_alloc(sizeof(struct noise) + rng_below(own, 64)));
  noise->mark = ~(uintptr_t)42;
  struct noise *other = held[rng_below(own, NOISE_HELD)];
  midden_store(&noise->slots[0], other);
  if (other != NULL) midden_store(&other->slots[0], NULL); /* no list grows for ever */
  enum midden_finalizer_order order = (enum midden_finalizer_order)rng_below(own, 4);
  if (order == MIDDEN_FINALIZE_IGNORE_SELF) midden_store(&noise->slots[1], noise);
  if (chooses(own, 4)) midden_finalizer_set(noise, ignore, NULL, order, NULL, NULL);
  if (chooses(own, 8)) midden_cleanup_add(noise, ignore_argument, NULL, NULL);
  if (rng_one_in(own, 4)) midden_weak_link(&noise->slots[2], noise, MIDDEN_WEAK_AFTER_FINALIZERS);
  if (rng_one_in(own, 4)) midden_store(&roots.noise[thread][place], midden_weak_new(noise));
  if (rng_one_in(own, 8)) midden_ephemeron_new(noise, noise->slots[0]);
  midden_store(&held[place], noise);
  struct noise *found = midden_weak_get(
      __atomic_load_n(&roots.noise[rng_below(own, NOISY_THREADS)][rng_below(own, NOISE_HELD)], __ATOMIC_ACQUIRE));
  REQUIRE(found == NULL || found->mark == ~(uintptr_t)42, "noise is found that is none");
  if (found != NULL && rng_one_in(own, 4)) midden_store(&held[rng_below(own, NOISE_HELD)], found);
  if (rng_one_in(own, 8)) {
    void *alone = required(midden_alloc(sizeof(struct noise)));
    ((struct noise *)alone)->mark = ~(uintptr_t)42;
    midden_finalizer_set(alone, ignore, NULL, MIDDEN_FINALIZE_UNORDERED, NULL, NULL);
    midden_cleanup_add(alone, ignore_argument, NULL, NULL);
    midden_free(alone);
  }
}

static void *make_noise_all_the_time(void *argument) {
  size_t thread = (size_t)(uintptr_t)argument;
  struct rng own = {test_seed_value + 1 + thread};
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  struct noise **held = required(midden_alloc_root(NOISE_HELD * sizeof(void *)));
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
    for (int i = 0; i < 50 && __atomic_load_n(&noise_count, __ATOMIC_RELAXED) < NOISE_MOST; i++)
      make_noise(&own, held, thread);
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  midden_free(held);
  return NULL;
}

static void *collect_all_the_time(void *unused) {
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
    midden_collect();
    sched_yield();
  }
  return unused;
}

/* ---- all of it ---- */

static int go_on_in_child(void *steps) {
  check_all();
  if (!TEST_CHILD_MAY_COLLECT) return 0;
  for (size_t i = 0; i < *(size_t *)steps; i++) {
    step();
    if (i % 50 == 0) midden_collect();
    if (i % 20 == 0) midden_finalizers_run(SIZE_MAX);
  }
  midden_collect();
  check_all();
  return 0;
}

static void run(size_t steps) {
  size_t child_steps = 300;
  for (size_t i = 0; i < steps; i++) {
    step();
    if (rng_one_in(&rng, 10)) midden_finalizers_run(rng_one_in(&rng, 4) ? SIZE_MAX : 50);
    if (rng_one_in(&rng, 60)) check_all();
    if (rng_one_in(&rng, 20)) bury();
    if (rng_one_in(&rng, 300)) drop_many();
    if (rng_one_in(&rng, steps / 4 + 1)) test_child_succeeds("a child", go_on_in_child, &child_steps, CHILD_SECONDS);
  }
}

static size_t count_left(void) {
  size_t left = 0;
  for (int i = 0; i < NODES; i++) left += exists(i) && !nodes[i].is_reclaimed && nodes[i].has_after;
  return left;
}

/* Finalizers that bring nothing back, and no cycles. */
static void let_all_go(void) {
  define();
  for (int i = 0; i < NODES; i++) {
    if (!exists(i) || !nodes[i].is_kept) continue;
    if (nodes[i].is_strong && nodes[i].handle != 0) remove_cleanup(i);
    if (nodes[i].is_strong && !nodes[i].may_be_queued) {
      midden_finalizer_set(object_of(i), NULL, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
      nodes[i].has_finalizer = false;
      nodes[i].argument = NOBODY;
    }
  }
}

static void end(void) {
  for (int round = 0; round < 12; round++) {
    check_all();
    let_all_go();
    for (int i = 0; i < NODES; i++) {
      if (exists(i) && nodes[i].rooted) drop(i);
    }
    define();
    test_collect_clean();
    midden_finalizers_run(SIZE_MAX);
    check_all();
    bury();
  }
}

int main(void) {
  rng = test_start("test_settling");
  nodes = calloc(NODES, sizeof(*nodes));
  cleanups = calloc(CLEANUPS, sizeof(*cleanups));
  REQUIRE(nodes != NULL && cleanups != NULL, "out of memory");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  has_traced = rng_one_in(&rng, 2);
  if (has_traced) {
    struct midden_kind_options options = {.size = sizeof options, .name = "traced", .trace = trace_node};
    options.trace_beside = rng_one_in(&rng, 2);
    traced = (midden_kind)midden_kind_new(&options);
  }
  for (int i = 0; i < NODES; i++) forget(i);
  midden_store(&roots.table, required(midden_weak_table_new()));
  pthread_t threads[NOISY_THREADS + 1];
  for (size_t i = 0; i < NOISY_THREADS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, make_noise_all_the_time, (void *)(uintptr_t)i) == 0, "pthread_create");
  REQUIRE(pthread_create(&threads[NOISY_THREADS], NULL, collect_all_the_time, NULL) == 0, "pthread_create");
  run(test_steps(20000));
  __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
  midden_blocking_enter();
  for (size_t i = 0; i <= NOISY_THREADS; i++) pthread_join(threads[i], NULL);
  midden_blocking_leave();
  midden_verify();
  end();
  printf("%zu made, %zu finalized, %zu cleaned, %zu freed, %zu revived, %zu left; %" PRIu64 " collections\n", made,
         finalized, cleaned, freed, revived, count_left(), test_stats().collections);
  return 0;
}
