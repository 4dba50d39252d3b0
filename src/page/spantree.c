#include "page/spantree.h"

#include <stdbool.h>

#include "base/check.h"

/* A mixing function of 64 bits: multiply, fold, multiply. */
static uint32_t priority_of(uintptr_t start) {
  uint64_t x = (uint64_t)(start >> PAGE_SHIFT) * 0x9e3779b97f4a7c15u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return (uint32_t)(x >> 32);
}

static bool is_before(const struct span *a, const struct span *b) {
  return a->page_count != b->page_count ? a->page_count < b->page_count : a->start < b->start;
}

/* The pointer that holds `span`: in its parent, or the root. */
static struct span **holder_of(struct spantree *tree, struct span *span) {
  struct span *parent = span->tree_parent;
  if (parent == NULL) return &tree->root;
  return parent->tree_left == span ? &parent->tree_left : &parent->tree_right;
}

/* Swaps `child` with its parent, keeping the order. */
static void rotate_up(struct spantree *tree, struct span *child) {
  struct span *parent = child->tree_parent;
  struct span *moved;
  tree->rotations++;
  *holder_of(tree, parent) = child;
  child->tree_parent = parent->tree_parent;
  if (parent->tree_left == child) {
    moved = child->tree_right;
    parent->tree_left = moved;
    child->tree_right = parent;
  } else {
    moved = child->tree_left;
    parent->tree_right = moved;
    child->tree_left = parent;
  }
  if (moved != NULL) moved->tree_parent = parent;
  parent->tree_parent = child;
}

void spantree_insert(struct spantree *tree, struct span *span) {
  struct span **holder = &tree->root;
  struct span *parent = NULL;
  while (*holder != NULL) {
    parent = *holder;
    ASSERT(parent != span);
    tree->comparisons++;
    holder = is_before(span, parent) ? &parent->tree_left : &parent->tree_right;
  }
  span->tree_left = span->tree_right = NULL;
  span->tree_parent = parent;
  span->tree_priority = priority_of(span->start);
  *holder = span;
  while (span->tree_parent != NULL && span->tree_parent->tree_priority < span->tree_priority) rotate_up(tree, span);
  tree->count++;
}

/* The child that may take its parent's place, or NULL for a leaf. */
static struct span *higher_child(const struct span *span) {
  struct span *left = span->tree_left, *right = span->tree_right;
  if (left == NULL || right == NULL) return left != NULL ? left : right;
  return left->tree_priority > right->tree_priority ? left : right;
}

void spantree_remove(struct spantree *tree, struct span *span) {
  CHECK(*holder_of(tree, span) == span, "span %p at %p is not in the tree of free spans", (void *)span,
        (void *)span->start);
  for (struct span *child = higher_child(span); child != NULL; child = higher_child(span)) rotate_up(tree, child);
  *holder_of(tree, span) = NULL;
  span->tree_parent = NULL;
  tree->count--;
}

struct span *spantree_find(struct spantree *tree, size_t pages) {
  struct span *best = NULL;
  for (struct span *span = tree->root; span != NULL;) {
    tree->comparisons++;
    if (span->page_count >= pages) {
      best = span;
      span = span->tree_left;
    } else {
      span = span->tree_right;
    }
  }
  return best;
}

static struct span *leftmost(struct span *span) {
  while (span != NULL && span->tree_left != NULL) span = span->tree_left;
  return span;
}

struct span *spantree_first(const struct spantree *tree) {
  return leftmost(tree->root);
}

struct span *spantree_next(const struct span *span) {
  if (span->tree_right != NULL) return leftmost(span->tree_right);
  while (span->tree_parent != NULL && span->tree_parent->tree_right == span) span = span->tree_parent;
  return span->tree_parent;
}

static void verify_child(const struct span *parent, const struct span *child) {
  if (child == NULL) return;
  CHECK(child->tree_parent == parent, "span tree: %p does not name its parent %p", (const void *)child,
        (const void *)parent);
  CHECK(child->tree_priority <= parent->tree_priority, "span tree: %p has a higher priority than its parent",
        (const void *)child);
}

void spantree_verify(const struct spantree *tree) {
  size_t count = 0;
  const struct span *last = NULL;
  CHECK(tree->root == NULL || tree->root->tree_parent == NULL, "span tree: the root has a parent");
  for (const struct span *span = spantree_first(tree); span != NULL; span = spantree_next(span)) {
    CHECK(last == NULL || is_before(last, span), "span tree: %p is out of order", (const void *)span);
    verify_child(span, span->tree_left);
    verify_child(span, span->tree_right);
    last = span;
    count++;
  }
  CHECK(count == tree->count, "span tree: %zu spans found, %zu counted", count, tree->count);
}
