#include "worker/histogram.h"

#include <stdlib.h>

#include "worker/result.h"
#include "worker/workload.h"

struct histogram *histogram_new(void) {
  struct histogram *histogram = calloc(1, sizeof *histogram);
  if (histogram == NULL) workload_fail("no memory for the histogram");
  return histogram;
}

/* The smallest value that falls into a bucket. */
static uint64_t bucket_floor(unsigned bucket) {
  if (bucket < HISTOGRAM_SUBS) return bucket;
  unsigned shift = bucket / HISTOGRAM_SUBS - 1;
  return (uint64_t)(HISTOGRAM_SUBS + bucket % HISTOGRAM_SUBS) << shift;
}

static double quantile_us(const struct histogram *histogram, double fraction) {
  uint64_t wanted = (uint64_t)(fraction * (double)histogram->total), seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram->counts[i];
    if (seen > wanted) return (double)bucket_floor(i) / 1e3;
  }
  return (double)histogram->longest_ns / 1e3;
}

void histogram_report(const struct histogram *histogram) {
  result_number("p50_us", quantile_us(histogram, 0.5));
  result_number("p99_us", quantile_us(histogram, 0.99));
  result_number("p999_us", quantile_us(histogram, 0.999));
  result_number("p9999_us", quantile_us(histogram, 0.9999));
  result_number("worst_us", (double)histogram->longest_ns / 1e3);
}
