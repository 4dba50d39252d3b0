/* What people and programs read: tables, and the same as JSON. */
#ifndef BENCH_DRIVER_REPORT_H
#define BENCH_DRIVER_REPORT_H

#include <stdio.h>

#include "driver/series.h"

/* One workload: a row for each engine, medians with the range below. */
void report_series(const struct series *series);

/* Each engine against the baseline, all workloads: how many times better, below 1 worse. */
void report_gains(const struct series *series, int count, int baseline);

/* Everything: the machine, the engines, each run, summaries and gains. */
void report_json(FILE *file, const struct series *series, int count, int baseline);

#endif
