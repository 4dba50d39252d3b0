/* The tree of large free spans: a treap inside the span structures, ordered by page count, then address.
 *
 * Priorities are a hash of the span's address, so that the tree's shape depends on what it holds alone and not on the
 * order in which it came.  Expected depth is below 2 ln n; nothing recurses.
 *
 * Invariants (spantree_verify): every node comes after its left subtree and before its right one; no node has a higher
 * priority than its parent; parents and children name each other.
 *
 * A span's page count and address must not change while it is in a tree.  Guarded by the page heap's lock. */
#ifndef MIDDEN_PAGE_SPANTREE_H
#define MIDDEN_PAGE_SPANTREE_H

#include <stddef.h>
#include <stdint.h>

#include "page/span.h"

struct spantree {
  struct span *root;
  size_t count;
  uint64_t comparisons; /* keys compared so far by all searches and insertions; tests bound both */
  uint64_t rotations;   /* nodes moved past their parents so far */
};

/* The span must be in no tree. */
void spantree_insert(struct spantree *tree, struct span *span);

/* The span must be in this tree. */
void spantree_remove(struct spantree *tree, struct span *span);

/* The smallest span of at least `pages` pages, among equals the one with the lowest address; or NULL. */
struct span *spantree_find(struct spantree *tree, size_t pages);

/* Visits in order: the first span and the one after `span`, NULL at the end. */
struct span *spantree_first(const struct spantree *tree);
struct span *spantree_next(const struct span *span);

/* Stops the process on a broken invariant. */
void spantree_verify(const struct spantree *tree);

#endif
