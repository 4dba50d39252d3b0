/* Allocation of garbage: objects of one size that are dead as soon as their first byte is written.  Measures the
 * allocation path, sweeping and the cost of touching memory; there is nearly nothing to mark. */
#include <stdlib.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

static size_t bytes;
static long count; /* for each thread */
static bool scanned;
static uint64_t thread_wall_ns[WORKLOAD_THREADS_MAX];
static pthread_barrier_t barrier;

/* The store is volatile: a compiler may drop stores to, and then calls for, memory that nobody reads. */
static inline void touch_and_drop(void *object) {
  *(volatile char *)object = 1;
  engine_free(object);
}

static void allocate_scanned(void) {
  size_t size = bytes;
  for (long i = count; i > 0; i--) touch_and_drop(engine_alloc(size));
}

static void allocate_data(void) {
  size_t size = bytes;
  for (long i = count; i > 0; i--) touch_and_drop(engine_alloc_data(size));
}

static void allocate(int index) {
  pthread_barrier_wait(&barrier);
  uint64_t start_ns = measure_clock_ns();
  if (scanned) {
    allocate_scanned();
  } else {
    allocate_data();
  }
  thread_wall_ns[index] = measure_clock_ns() - start_ns;
}

/* Bounds the time of a run over all sizes. */
static long default_count(void) {
  if (bytes <= 64) return 10000000;
  if (bytes <= 256) return 5000000;
  if (bytes <= 1024) return 1500000;
  return 250000;
}

static void run(struct workload *self) {
  bytes = (size_t)workload_number(self, "bytes", 1, 1L << 30);
  scanned = workload_choice(self, "kind", "scan", "data");
  int threads = (int)workload_number(self, "threads", 1, WORKLOAD_THREADS_MAX);
  count = workload_number(self, "count", 0, 1L << 40);
  if (count == 0) count = default_count();
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  measure_start();
  workload_parallel(threads, allocate);
  measure_end();
  uint64_t slowest_ns = 0;
  for (int i = 0; i < threads; i++) {
    if (thread_wall_ns[i] > slowest_ns) slowest_ns = thread_wall_ns[i];
  }
  result_number("object_ns", (double)slowest_ns / (double)count);
  result_number("object_cpu_ns", (double)measure_section_cpu_ns() / (double)count / threads);
  result_number("check", (double)count * threads);
}

struct workload workload_alloc = {
    .name = "alloc",
    .about = "allocation of objects that die at once; kind=scan|data, count=0: by size",
    .parameters = {{"kind", "scan"}, {"bytes", "64"}, {"threads", "1"}, {"count", "0"}},
    .run = run,
};
