/* Packages: trees of nodes with one owner at a time, all of whose nodes are known.
 *
 * A package is a full binary tree.  Its nodes were made in preorder, so they have consecutive serial numbers, and its depth
 * is a function of the first: from the name of the root follows which nodes there must be.  The children of a node may
 * have changed places.  Who takes a package out of a slot by node_exchange owns it: may check it, change it through the
 * barrier, move or free it.
 *
 * A package may be wrapped: in fresh nodes of one slot, filled without barrier, which then hold the only reference. */
#ifndef MIDDEN_TEST_SUPPORT_PACKAGE_H
#define MIDDEN_TEST_SUPPORT_PACKAGE_H

#include "support/nodes.h"

enum { PACKAGE_DEPTH_MAX = 5 };

static size_t packages_made, packages_gone; /* atomic */

static inline unsigned package_depth(uint64_t serial) {
  return (unsigned)(test_mix(~serial) % (PACKAGE_DEPTH_MAX + 1));
}

/* ---- making ---- */

static struct node *package_build(struct rng *rng, unsigned depth) {
  static const enum node_shape shapes[] = {NODE_PLAIN, NODE_TYPED, NODE_ARRAY, NODE_TRACED};
  if (depth == 0 && rng_one_in(rng, 2)) return node_new(NODE_LEAF, 0);
  struct node *node = node_new(shapes[rng_below(rng, TEST_COUNT_OF(shapes))], 2 + rng_below(rng, 4));
  for (size_t i = 0; i < 2 && depth != 0; i++) node_fill(node, i, node_name(package_build(rng, depth - 1)));
  return node;
}

NOINLINE_TEST __attribute__((unused)) static void *package_new(struct rng *rng) {
  __atomic_fetch_add(&packages_made, 1, __ATOMIC_RELAXED);
  return node_name(package_build(rng, package_depth(node_next_serial)));
}

/* ---- checking ---- */

static void package_check_tree(const void *name, uint64_t serial, unsigned depth) {
  const struct node *node = node_check(name);
  REQUIRE(node != NULL && node->serial == serial, "node %p of a package has serial 0x%" PRIx64 ", not 0x%" PRIx64,
          (const void *)node, node == NULL ? 0 : node->serial, serial);
  if (depth == 0) return;
  const void *first = node_load(node_slot(node, 0)), *second = node_load(node_slot(node, 1));
  if (first == NULL || node_check(first)->serial != serial + 1) {
    const void *other = first;
    first = second;
    second = other;
  }
  package_check_tree(first, serial + 1, depth - 1);
  package_check_tree(second, serial + ((uint64_t)1 << depth), depth - 1);
}

/* Of a package that is not wrapped. */
__attribute__((unused)) static void package_check(const void *name) {
  if (name == NULL) return;
  uint64_t serial = node_check(name)->serial;
  package_check_tree(name, serial, package_depth(serial));
}

/* ---- what an owner may do ---- */

/* For an owner that lets go of a package. */
__attribute__((unused)) static void package_dropped(const void *name) {
  if (name != NULL) __atomic_fetch_add(&packages_gone, 1, __ATOMIC_RELAXED);
}

static void package_free_tree(void *name, unsigned depth) {
  struct node *node = node_check(name);
  for (size_t i = 0; i < 2 && depth != 0; i++) package_free_tree(node_load(node_slot(node, i)), depth - 1);
  midden_free(node);
}

__attribute__((unused)) static void package_free(void *name) {
  if (name == NULL) return;
  package_dropped(name);
  package_free_tree(name, package_depth(node_check(name)->serial));
}

/* Exchanges the children of a random node.  In between this frame alone holds one of them, or both. */
NOINLINE_TEST __attribute__((unused)) static void package_turn(struct rng *rng, const void *name,
                                                               void (*meanwhile)(struct rng *rng)) {
  if (name == NULL) return;
  const struct node *node = node_check(name);
  unsigned depth = package_depth(node->serial);
  for (size_t steps = rng_below(rng, depth + 1); depth > 1 && steps-- > 0; depth--)
    node = node_check(node_load(node_slot(node, rng_below(rng, 2))));
  if (depth == 0) return;
  void *first = node_load(node_slot(node, 0));
  node_store(node_slot(node, 0), NULL);
  void *second = rng_one_in(rng, 2) ? node_exchange(node_slot(node, 1), NULL) : NULL;
  if (meanwhile != NULL) meanwhile(rng);
  if (second == NULL) second = node_load(node_slot(node, 1));
  node_store(node_slot(node, 0), second);
  node_store(node_slot(node, 1), first);
}

/* Moves the root to an object of another size. */
__attribute__((unused)) static void *package_resize(struct rng *rng, void *name) {
  struct node *node = node_check(name);
  if (node == NULL || node_shape(node) != NODE_PLAIN) return name;
  uint64_t serial = node->serial;
  size_t slots = 2 + rng_below(rng, 60);
  node = midden_realloc(node, node_words(NODE_PLAIN, slots) * sizeof(void *));
  REQUIRE(node != NULL, "out of memory");
  node_label(node, NODE_PLAIN, slots, serial);
  return node_name(node);
}

/* ---- wrapping ---- */

__attribute__((unused)) static void *package_wrap(void *name) {
  if (name == NULL) return NULL;
  struct node *wrap = node_new(NODE_PLAIN, 1);
  node_fill(wrap, 0, name);
  return node_name(wrap);
}

/* Now and then the wrapper goes on holding the package, which nobody will ask it about. */
__attribute__((unused)) static void *package_unwrap(struct rng *rng, void *name) {
  for (struct node *node = node_check(name); node != NULL && node_slots(node) == 1; node = node_check(name)) {
    name = rng_one_in(rng, 2) ? node_load(node_slot(node, 0)) : node_exchange(node_slot(node, 0), NULL);
    if (rng_one_in(rng, 4)) midden_free(node);
  }
  return name;
}

#endif
