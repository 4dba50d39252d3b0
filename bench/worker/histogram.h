/* A histogram of durations: 32 buckets for each power of two, so a quantile is at most 3% below the true value; the
 * longest is kept exactly.  Its memory is the C library's, which no collector reads. */
#ifndef BENCH_WORKER_HISTOGRAM_H
#define BENCH_WORKER_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB_BITS = 5, HISTOGRAM_SUBS = 1 << HISTOGRAM_SUB_BITS, HISTOGRAM_BUCKETS = 64 * HISTOGRAM_SUBS };

struct histogram {
  uint64_t total;
  uint64_t longest_ns;
  uint64_t counts[HISTOGRAM_BUCKETS];
};

struct histogram *histogram_new(void);

/* Below HISTOGRAM_SUBS a bucket for each value; above, the top bits of the value. */
static inline unsigned histogram_bucket(uint64_t ns) {
  if (ns < HISTOGRAM_SUBS) return (unsigned)ns;
  unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
  return (shift + 1) * HISTOGRAM_SUBS + (unsigned)(ns >> shift & (HISTOGRAM_SUBS - 1));
}

/* `count` values of `ns`, from an account that kept no more of them. */
void histogram_add_many(struct histogram *histogram, uint64_t ns, uint64_t count);

/* Adds all values of `from`; takes those of `from` away, which must be among them (the longest stays). */
void histogram_merge(struct histogram *histogram, const struct histogram *from);
void histogram_subtract(struct histogram *histogram, const struct histogram *from);

static inline void histogram_add(struct histogram *histogram, uint64_t ns) {
  histogram->counts[histogram_bucket(ns)]++;
  histogram->total++;
  if (ns > histogram->longest_ns) histogram->longest_ns = ns;
}

/* The value that a part of all values does not reach; 0 where there is none. */
double histogram_quantile_us(const struct histogram *histogram, double fraction);

/* Adds p50_us, p99_us, p999_us, p9999_us and worst_us to the result. */
void histogram_report(const struct histogram *histogram);

/* Adds to the result how many values are at least 10 us, 30 us, 100 us and so on: PREFIX_10us, PREFIX_30us... */
void histogram_report_tails(const struct histogram *histogram, const char *prefix);

#endif
