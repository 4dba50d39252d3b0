/* A program at work over a large live heap: a thread walks the graph of graph_build.h, allocates a node at each step and
 * now and then stores it into an old one.  Measures the worst delay that a step sees while the collector keeps up with a
 * heap that is nearly all alive. */
#include <stddef.h>

#include "engine.h"
#include "worker/histogram.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"
#include "workloads/graph_build.h"

/* One step: a new node that refers to old ones; one in 16 replaces a random link of the current node.  The tree links
 * stay, so every old node stays alive.  Returns where the walk goes on. */
static struct node *step(struct node *current, uint64_t choice) {
  struct node *fresh = engine_alloc(sizeof *fresh);
  engine_store(&fresh->links[0], current->links[choice & 3]);
  engine_store(&fresh->links[1], graph_root);
  fresh->number = UINT32_MAX;
  if ((choice >> 16 & 15) == 0) engine_store(&current->links[2], fresh);
  struct node *next = current->links[choice >> 8 & 3];
  return next != NULL ? next : graph_root;
}

static void run(struct workload *self) {
  long nodes = workload_number(self, "nodes", 1, 1L << 32);
  long steps = workload_number(self, "steps", 1, 1L << 40);
  uint64_t random = 362436069362436069u;
  struct histogram *delays = histogram_new();
  graph_build(nodes);

  struct node *current = graph_root;
  measure_start();
  for (long i = 0; i < steps; i++) {
    uint64_t choice = workload_random(&random);
    uint64_t start_ns = measure_clock_ns();
    current = step(current, choice);
    histogram_add(delays, measure_clock_ns() - start_ns);
  }
  measure_end();

  histogram_report(delays);
  double sum = graph_sum();
  if (sum != (double)nodes * (double)(nodes - 1) / 2) workload_fail("mutate: nodes were lost");
  result_number("check", sum);
}

struct workload workload_mutate = {
    .name = "mutate",
    .about = "delay of a step that walks a live graph, allocates and stores",
    .parameters = {{"nodes", "16M"}, {"steps", "10M"}},
    .collector_only = true,
    .run = run,
};
