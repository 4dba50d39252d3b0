#include "worker/histogram.h"

#include <stdio.h>
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

void histogram_add_many(struct histogram *histogram, uint64_t ns, uint64_t count) {
  if (count == 0) return;
  histogram->counts[histogram_bucket(ns)] += count;
  histogram->total += count;
  if (ns > histogram->longest_ns) histogram->longest_ns = ns;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from) {
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) histogram->counts[i] += from->counts[i];
  histogram->total += from->total;
  if (from->longest_ns > histogram->longest_ns) histogram->longest_ns = from->longest_ns;
}

void histogram_subtract(struct histogram *histogram, const struct histogram *from) {
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) histogram->counts[i] -= from->counts[i];
  histogram->total -= from->total;
}

double histogram_quantile_us(const struct histogram *histogram, double fraction) {
  uint64_t wanted = (uint64_t)(fraction * (double)histogram->total), seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram->counts[i];
    if (seen > wanted) return (double)bucket_floor(i) / 1e3;
  }
  return (double)histogram->longest_ns / 1e3;
}

void histogram_report(const struct histogram *histogram) {
  result_number("p50_us", histogram_quantile_us(histogram, 0.5));
  result_number("p99_us", histogram_quantile_us(histogram, 0.99));
  result_number("p999_us", histogram_quantile_us(histogram, 0.999));
  result_number("p9999_us", histogram_quantile_us(histogram, 0.9999));
  result_number("worst_us", (double)histogram->longest_ns / 1e3);
}

/* A bucket counts as the lowest value in it, so a tail may miss what lies up to 3% above its limit. */
static uint64_t count_from(const struct histogram *histogram, uint64_t limit_ns) {
  uint64_t count = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    if (bucket_floor(i) >= limit_ns) count += histogram->counts[i];
  }
  return count;
}

void histogram_report_tails(const struct histogram *histogram, const char *prefix) {
  static const struct {
    const char *name;
    uint64_t limit_ns;
  } tails[] = {{"10us", 10000},  {"30us", 30000},    {"100us", 100000},  {"300us", 300000},    {"1ms", 1000000},
               {"3ms", 3000000}, {"10ms", 10000000}, {"30ms", 30000000}, {"100ms", 100000000}, {"300ms", 300000000}};
  for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
    char name[32];
    snprintf(name, sizeof name, "%s_%s", prefix, tails[i].name);
    result_number(name, (double)count_from(histogram, tails[i].limit_ns));
  }
}
