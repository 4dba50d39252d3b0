/* The machine itself, without any collector: what it takes from threads that only compute, and what a first touch of memory costs.
 *
 * A virtual machine's host may let it have less than its processors: then all of them stand still for tens of milliseconds
 * in every tenth of a second in which they were busy.  And memory that the system has free may be the host's meanwhile, so
 * that to touch it first takes ten times as long as to clear it.  No collector can do better than that. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "worker/histogram.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

enum { GAP_NS = 100000, HUGE_PAGE_BYTES = 2 << 20 };

static uint64_t until_ns;
static struct histogram *gaps[WORKLOAD_THREADS_MAX];

/* A loop that reads the clock: what lies between two readings, the thread did not have. */
static void spin(int index) {
  uint64_t last_ns = measure_clock_ns();
  while (last_ns < until_ns) {
    uint64_t now_ns = measure_clock_ns();
    if (now_ns - last_ns >= GAP_NS) histogram_add(gaps[index], now_ns - last_ns);
    last_ns = now_ns;
  }
}

static void report_gaps(int threads) {
  struct histogram *all = histogram_new();
  for (int i = 0; i < threads; i++) histogram_merge(all, gaps[i]);
  result_number("gap_max_ms", (double)all->longest_ns / 1e6);
  result_number("gap_p50_ms", histogram_quantile_us(all, 0.5) / 1e3);
  histogram_report_tails(all, "gaps");
}

/* First touches of huge pages, one after the other. */
static void report_touches(const char *middle, const char *longest, size_t bytes) {
  char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct histogram *touches = histogram_new();
  if (start == MAP_FAILED) workload_fail("machine: no memory");
  madvise(start, bytes, MADV_HUGEPAGE);
  for (size_t i = 0; i < bytes; i += HUGE_PAGE_BYTES) {
    uint64_t start_ns = measure_clock_ns();
    *(volatile char *)(start + i) = 1;
    histogram_add(touches, measure_clock_ns() - start_ns);
  }
  munmap(start, bytes);
  result_number(middle, histogram_quantile_us(touches, 0.5));
  result_number(longest, (double)touches->longest_ns / 1e3);
}

static void run(struct workload *self) {
  int threads = (int)workload_number(self, "threads", 1, WORKLOAD_THREADS_MAX);
  uint64_t ms = (uint64_t)workload_number(self, "ms", 1, 1000000);
  size_t bytes = (size_t)workload_number(self, "touch", 2 * HUGE_PAGE_BYTES, 1L << 40);
  workload_need_memory(bytes);
  for (int i = 0; i < threads; i++) gaps[i] = histogram_new();
  measure_start();
  until_ns = measure_clock_ns() + ms * 1000000;
  workload_parallel(threads, spin);
  measure_end();
  report_gaps(threads);
  report_touches("touch_p50_us", "touch_max_us", bytes);
  report_touches("touch_again_p50_us", "touch_again_max_us", bytes); /* of memory that the process had a moment ago */
}

struct workload workload_machine = {
    .name = "machine",
    .about = "no collector: the gaps of threads that only compute, and what first touches of huge pages cost",
    .parameters = {{"threads", "2"}, {"ms", "5000"}, {"touch", "1G"}},
    .run = run,
};
