#include "workloads/graph_build.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "engine.h"
#include "worker/workload.h"

_Static_assert(sizeof(struct node) == 64, "the nodes of the published measurements");

struct node *volatile graph_root;
static int tree_depth; /* levels below the root */

static struct node *node_new(long number) {
  struct node *node = engine_alloc(sizeof *node);
  node->number = (uint64_t)number;
  return node;
}

static void create(struct node **index, long nodes, bool leaves) {
  for (long i = 0; i < nodes; i++) {
    index[i] = node_new(i);
    if (leaves) engine_store(&index[i]->links[3], node_new(i));
  }
}

static void shuffle(struct node **index, long nodes, uint64_t *random) {
  for (long i = nodes - 1; i > 0; i--) {
    long j = (long)(workload_random(random) % (uint64_t)(i + 1));
    struct node *node = index[i];
    index[i] = index[j];
    index[j] = node;
  }
}

static void connect(struct node **index, long nodes, bool leaves, uint64_t *random) {
  for (long i = 0; i < nodes; i++) {
    struct node **links = index[i]->links;
    if (2 * i + 1 < nodes) engine_store(&links[0], index[2 * i + 1]);
    if (2 * i + 2 < nodes) engine_store(&links[1], index[2 * i + 2]);
    engine_store(&links[2], index[workload_random(random) % (uint64_t)nodes]);
    if (!leaves) engine_store(&links[3], index[workload_random(random) % (uint64_t)nodes]);
  }
}

static void build(long nodes, bool leaves) {
  uint64_t random = 88172645463325252u;
  size_t index_bytes = (size_t)nodes * sizeof(struct node *);
  struct node **index = mmap(NULL, index_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (index == MAP_FAILED) workload_fail("graph: no memory for the index");
  engine_disable();
  create(index, nodes, leaves);
  shuffle(index, nodes, &random);
  connect(index, nodes, leaves, &random);
  engine_store((void *)&graph_root, index[0]);
  engine_enable();
  munmap(index, index_bytes);
  tree_depth = 63 - __builtin_clzl((unsigned long)nodes);
}

void graph_build(long nodes) { build(nodes, false); }

void graph_build_with_leaves(long nodes) { build(nodes, true); }

struct node *graph_find(uint64_t choice) {
  int levels = tree_depth - __builtin_ctzll(choice | UINT64_C(1) << tree_depth);
  struct node *node = graph_root;
  for (int i = 0; i < levels; i++) {
    struct node *below = __atomic_load_n(&node->links[choice >> (63 - i) & 1], __ATOMIC_ACQUIRE);
    if (below == NULL) break;
    node = below;
  }
  return node;
}

void graph_build_garbage(long nodes, struct node *target) {
  struct node *list = NULL;
  for (long i = 0; i < nodes; i++) {
    struct node *node = engine_alloc(sizeof *node);
    engine_store(&node->links[0], list);
    engine_store(&node->links[1], target);
    list = node;
  }
}

static double sum_of(const struct node *node) {
  double sum = (double)node->number;
  if (node->links[0] != NULL) sum += sum_of(node->links[0]);
  if (node->links[1] != NULL) sum += sum_of(node->links[1]);
  return sum;
}

double graph_sum(void) { return sum_of(graph_root); }
