/* GCBench, after the description by Ellis, Kovac and Boehm: trees built from the root down (stores into older objects)
 * and from the leaves up, of growing depth and the same total size, beside a long-lived tree and a long-lived array
 * without pointers.  With several threads each does the whole of the middle part. */
#include <stddef.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

enum { SHORTEST = 4, ARRAY_LENGTH = 500000 };

struct node {
  struct node *left;
  struct node *right;
  int i, j;
};

static int long_lived_depth;
static long trees_built[WORKLOAD_THREADS_MAX];

static long nodes_of_depth(int depth) { return (1L << (depth + 1)) - 1; }

static struct node *node_new(void) { return engine_alloc(sizeof(struct node)); }

static void populate(int depth, struct node *node) {
  if (depth == 0) return;
  engine_store(&node->left, node_new());
  engine_store(&node->right, node_new());
  populate(depth - 1, node->left);
  populate(depth - 1, node->right);
}

static struct node *build_up(int depth) {
  if (depth == 0) return node_new();
  struct node *left = build_up(depth - 1);
  struct node *right = build_up(depth - 1);
  struct node *node = node_new();
  node->left = left;
  node->right = right;
  return node;
}

static struct node *build_down(int depth) {
  struct node *node = node_new();
  populate(depth, node);
  return node;
}

static long count(const struct node *node) {
  return node->left == NULL ? 1 : 1 + count(node->left) + count(node->right);
}

static void drop(struct node *node) {
  if (ENGINE_COLLECTS) return;
  if (node->left != NULL) {
    drop(node->left);
    drop(node->right);
  }
  engine_free(node);
}

/* As many trees as make up twice the stretch tree. */
static void build_trees(int index) {
  for (int depth = SHORTEST; depth <= long_lived_depth; depth += 2) {
    long trees = 2 * nodes_of_depth(long_lived_depth + 2) / nodes_of_depth(depth);
    for (long i = 0; i < trees; i++) drop(build_down(depth));
    for (long i = 0; i < trees; i++) drop(build_up(depth));
    trees_built[index] += 2 * trees;
  }
}

static void fill(double *array) {
  for (int i = 0; i < ARRAY_LENGTH / 2; i++) array[i] = 1.0 / (i + 1);
}

static void run(struct workload *self) {
  long_lived_depth = (int)workload_number(self, "depth", SHORTEST, 28);
  int threads = (int)workload_number(self, "threads", 1, WORKLOAD_THREADS_MAX);
  measure_start();
  drop(build_up(long_lived_depth + 2));
  struct node *long_lived = build_down(long_lived_depth);
  double *array = engine_alloc_data(ARRAY_LENGTH * sizeof(double));
  fill(array);
  workload_parallel(threads, build_trees);
  measure_end();
  if (array[1000] != 1.0 / 1001) workload_fail("gcbench: the array is damaged");
  long sum = count(long_lived);
  for (int i = 0; i < threads; i++) sum += trees_built[i];
  drop(long_lived);
  engine_free(array);
  result_number("check", (double)sum);
}

struct workload workload_gcbench = {
    .name = "gcbench",
    .about = "GCBench: trees built downwards and upwards beside long-lived data",
    .parameters = {{"depth", "16"}, {"threads", "1"}},
    .run = run,
};
