/* Binary trees, after the description of the benchmarks game: build and count many trees of each depth that die at once,
 * beside one long-lived tree.  Objects of 16 bytes, nearly all of them dead soon; with several threads each builds its
 * share of the trees of a depth. */
#include <stddef.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

enum { SHORTEST = 4 };

struct tree {
  struct tree *left;
  struct tree *right;
};

static int threads;
static int tree_depth;                           /* of the trees being built now */
static long tree_count;                          /* how many of them, all threads together */
static long nodes_counted[WORKLOAD_THREADS_MAX]; /* by thread */

static struct tree *tree_new(int depth) {
  struct tree *tree = engine_alloc(sizeof *tree);
  if (depth > 0) {
    tree->left = tree_new(depth - 1);
    tree->right = tree_new(depth - 1);
  }
  return tree;
}

static long tree_nodes(const struct tree *tree) {
  return tree->left == NULL ? 1 : 1 + tree_nodes(tree->left) + tree_nodes(tree->right);
}

/* Frees a tree by hand where nobody collects. */
static void tree_drop(struct tree *tree) {
  if (ENGINE_COLLECTS) return;
  if (tree->left != NULL) {
    tree_drop(tree->left);
    tree_drop(tree->right);
  }
  engine_free(tree);
}

static long build_and_count(int depth) {
  struct tree *tree = tree_new(depth);
  long nodes = tree_nodes(tree);
  tree_drop(tree);
  return nodes;
}

static void build_share(int index) {
  long nodes = 0;
  for (long i = index; i < tree_count; i += threads) nodes += build_and_count(tree_depth);
  nodes_counted[index] += nodes;
}

static void run(struct workload *self) {
  int deepest = (int)workload_number(self, "depth", SHORTEST, 30);
  threads = (int)workload_number(self, "threads", 1, WORKLOAD_THREADS_MAX);
  measure_start();
  long nodes = build_and_count(deepest + 1);
  struct tree *long_lived = tree_new(deepest);
  for (tree_depth = SHORTEST; tree_depth <= deepest; tree_depth += 2) {
    tree_count = 1L << (deepest - tree_depth + SHORTEST);
    workload_parallel(threads, build_share);
  }
  for (int i = 0; i < threads; i++) nodes += nodes_counted[i];
  nodes += tree_nodes(long_lived);
  measure_end();
  tree_drop(long_lived);
  result_number("check", (double)nodes);
}

struct workload workload_trees = {
    .name = "trees",
    .about = "binary trees of 16-byte nodes that die at once, beside a long-lived one",
    .parameters = {{"depth", "18"}, {"threads", "1"}},
    .run = run,
};
