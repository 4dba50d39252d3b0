/* What was measured, as a table and as JSON. */
#ifndef BENCH_PAGEHEAP_REPORT_H
#define BENCH_PAGEHEAP_REPORT_H

#include <stdio.h>

#include "measure.h"

struct result {
  struct request request;
  struct figures figures;
};

void report_head(void);

/* One row; `before` is the same shape at the next smaller size, or NULL. */
void report_row(const struct result *result, const struct result *before);

void report_json(FILE *file, const struct result *results, size_t count);

#endif
