/* One shape at one size, measured in a process of its own. */
#ifndef BENCH_PAGEHEAP_MEASURE_H
#define BENCH_PAGEHEAP_MEASURE_H

#include "shapes.h"

struct request {
  const struct shape *shape;
  size_t arena_bytes;
  size_t steps;  /* a round */
  size_t rounds; /* timed ones; one before them counts */
  uint64_t seed;
  bool verify; /* walk everything afterwards */
};

/* An operation is one allocation or one free. */
struct figures {
  double arena_gib;
  double free_spans; /* in the middle of the measured section; so are the others without a unit of time */
  double tree_spans; /* those among them that lie in the trees */
  double op_ns;      /* CPU time of one operation: median of the rounds, the quickest, the slowest */
  double op_low_ns, op_high_ns;
  double op_tree_steps;    /* comparisons and rotations in the trees per operation */
  double worst_tree_steps; /* the most in one step of the shape */
  double asked_pages;      /* per allocation; each has a table entry written */
  double page_reads;       /* pages whose residency was looked up, for each page asked for */
  double worst_page_reads; /* the most in one step */
  double refused;          /* allocations for which nothing was free, of all */
  double rss_mib;          /* the most that was resident */
  double span_mib;         /* span structures */
  double build_s;          /* CPU time to make the shape */
};

/* 0; or -EIO where the process failed, which has said why. */
int measure(const struct request *request, struct figures *figures);

#endif
