/* Full collections of a heap that is all alive: a graph of 64-byte nodes with random pointers, the worst case for the
 * processor's caches and the purest measure of a marker.  Figures: the fastest of several collections, and objects marked
 * each second in it.  Building is outside the measured section; afterwards the graph is walked to prove that it is
 * whole. */
#include <stddef.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"
#include "workloads/graph_build.h"

struct fastest {
  double collect_s;
  double mark_s;
  double mark_cpu_s; /* by the engine's own account; 0: it keeps none */
};

static void keep_smaller(double *smallest, double value) {
  if (*smallest == 0 || value < *smallest) *smallest = value;
}

static void collect_once(struct fastest *fastest) {
  uint64_t mark_ns = measure_mark_ns(), mark_cpu_ns = engine_marking_cpu_ns();
  uint64_t start_ns = measure_clock_ns();
  engine_collect();
  keep_smaller(&fastest->collect_s, (double)(measure_clock_ns() - start_ns) / 1e9);
  keep_smaller(&fastest->mark_s, (double)(measure_mark_ns() - mark_ns) / 1e9);
  keep_smaller(&fastest->mark_cpu_s, (double)(engine_marking_cpu_ns() - mark_cpu_ns) / 1e9);
}

static void run(struct workload *self) {
  long nodes = workload_number(self, "nodes", 1, 1L << 32);
  long rounds = workload_number(self, "rounds", 1, 1000);
  uint64_t build_ns = measure_clock_ns();
  graph_build(nodes);
  build_ns = measure_clock_ns() - build_ns;

  struct fastest fastest = {0};
  measure_start();
  for (long i = 0; i < rounds; i++) collect_once(&fastest);
  measure_end();

  double sum = graph_sum();
  if (sum != (double)nodes * (double)(nodes - 1) / 2) workload_fail("graph: nodes were lost");
  result_number("build_s", (double)build_ns / 1e9);
  result_number("collect_s", fastest.collect_s);
  result_number("mark_s", fastest.mark_s);
  result_number("mobjects_per_s", (double)nodes / 1e6 / fastest.collect_s);
  if (fastest.mark_cpu_s != 0) result_number("marked_per_s", (double)engine_objects_marked() / fastest.mark_cpu_s);
  result_number("check", sum);
}

struct workload workload_graph = {
    .name = "graph",
    .about = "full collection of 64-byte nodes with four random pointers, all alive (16M nodes: 1 GiB)",
    .parameters = {{"nodes", "16M"}, {"rounds", "2"}},
    .collector_only = true,
    .run = run,
};
