/* What the tests of the libgc interface share.  They are written against gc/gc.h alone and run on midden's libgc.so.1 and
 * on the stock library: what they check is the interface, not a collector.
 *
 * Both read stacks conservatively, so "this object died" can only be asked of many: a test makes COUNT of them in a
 * function of its own, keeps no address but in disguise, and expects nearly all to be gone after check_collect. */
#ifndef GC_CHECK_H
#define GC_CHECK_H

#ifndef GC_THREADS
#define GC_THREADS
#endif
#define GC_ATTR_DEPRECATED /* the variables are part of the interface that is tested */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gc/gc.h"

#define NOINLINE __attribute__((noinline))

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

/* Compares two integers and prints both. */
#define CHECK_EQUAL(a, b)                                                                                 \
  do {                                                                                                    \
    long long check_a = (long long)(a), check_b = (long long)(b);                                         \
    if (check_a != check_b) {                                                                             \
      fprintf(stderr, "%s:%d: failed: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, check_a, check_b); \
      exit(1);                                                                                            \
    }                                                                                                     \
  } while (0)

enum { COUNT = 200, NEARLY_ALL = COUNT - 20 };

/* Overwrites what dead calls left on the stack.  Not instrumented: the address sanitizer would keep space around the
 * array that stays as it was. */
__attribute__((noinline, unused, no_sanitize("address"))) static void check_clear_stack(void) {
  volatile char waste[64 * 1024];
  for (size_t i = 0; i < sizeof(waste); i++) waste[i] = 0;
}

__attribute__((noinline, unused)) static void check_collect(void) {
  for (int i = 0; i < 3; i++) {
    check_clear_stack();
    GC_gcollect();
  }
}

/* Links that watch objects: a link is cleared when its object is found unreachable. */
__attribute__((unused)) static void *check_links[COUNT];

__attribute__((noinline, unused)) static void check_watch(int i, void *object) {
  check_links[i] = (void *)GC_HIDE_POINTER(object);
  CHECK_EQUAL(GC_general_register_disappearing_link(&check_links[i], object), GC_SUCCESS);
}

/* How many watched objects are gone; their watch ends. */
__attribute__((unused)) static int check_count_dead(void) {
  int dead = 0;
  for (int i = 0; i < COUNT; i++) {
    dead += check_links[i] == NULL;
    GC_unregister_disappearing_link(&check_links[i]);
    check_links[i] = (void *)GC_HIDE_POINTER(NULL);
  }
  return dead;
}

/* Trees of 2^(depth + 1) - 1 nodes: what their stacks and roots keep is counted. */
struct check_tree {
  struct check_tree *left, *right;
};

__attribute__((unused)) static struct check_tree *check_grow(int depth) {
  struct check_tree *tree = GC_malloc(sizeof *tree);
  CHECK(tree != NULL);
  if (depth == 0) return tree;
  tree->left = check_grow(depth - 1);
  tree->right = check_grow(depth - 1);
  return tree;
}

__attribute__((unused)) static int check_count(const struct check_tree *tree) {
  return tree == NULL ? 0 : 1 + check_count(tree->left) + check_count(tree->right);
}

#endif
