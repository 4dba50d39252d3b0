/* All runs of one workload with one set of parameters: every engine, repeated.
 *
 * The engines alternate, and each repetition starts with another one, so that what else the machine does falls on all of
 * them alike.  Runs of one repetition are neighbours in time: a gain is computed for each such pair, and its spread says
 * more about its truth than the spread of either engine. */
#ifndef BENCH_DRIVER_SERIES_H
#define BENCH_DRIVER_SERIES_H

#include <stdbool.h>

#include "driver/engines.h"
#include "driver/plan.h"
#include "driver/record.h"

enum { REPEATS_MAX = 50 };

struct series {
  const struct plan_entry *entry;
  int repeats;
  bool present[ENGINE_COUNT];        /* every repetition of this engine succeeded */
  struct record *runs[ENGINE_COUNT]; /* `repeats` of each engine that is present */
};

/* A median and the range around it. */
struct summary {
  double median, low, high;
};

/* Runs all of it, with those of the selected engines that `engine_list` names.  0; -EIO where a run failed or the engines
 * disagreed about what they computed (a message says which; the other engines' runs are there); -ENOMEM. */
int series_run(struct series *series, const struct plan_entry *entry, const char *engine_list, int repeats,
               unsigned timeout_s);

void series_free(struct series *series);

/* Whether an engine has a figure; if so, its summary. */
bool series_summary(const struct series *series, int engine, const char *figure, struct summary *summary);

/* How many times better `engine` is than `baseline`: above 1 is better, whether the figure is a cost or a rate.  The
 * median is that of the medians, the range that of the pairs.  False where one of them has no such figure or it is 0. */
bool series_gain(const struct series *series, int engine, int baseline, const char *figure, struct summary *gain);

#endif
