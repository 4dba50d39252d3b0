/* A random graph: nodes of 64 bytes with four pointers.  The first two make a binary tree over all nodes in random order
 * of addresses, so that every node is reachable; the other two point anywhere. */
#ifndef BENCH_WORKLOADS_GRAPH_BUILD_H
#define BENCH_WORKLOADS_GRAPH_BUILD_H

#include <stdint.h>

struct node {
  struct node *links[4];
  uint64_t number; /* 0 .. nodes-1, each once */
  uint64_t unused[3];
};

/* The root of the graph, for which it lives. */
extern struct node *volatile graph_root;

/* Builds the graph.  The index that it needs meanwhile is memory that no collector reads, so collections are disabled
 * until every node hangs on graph_root; the index is given back to the system then. */
void graph_build(long nodes);

/* The same, but the last link of each node is to a leaf of its own, a node without links that was allocated right behind
 * it and has its number. */
void graph_build_with_leaves(long nodes);

/* Down the tree to a random node, each as likely as any other: the low bits of `choice` say how far, the high ones which
 * way. */
struct node *graph_find(uint64_t choice);

/* A list of new nodes, which nobody keeps, and each of which refers to a node of the graph. */
void graph_build_garbage(long nodes, struct node *target);

/* The sum of all numbers, found by walking the tree. */
double graph_sum(void);

#endif
