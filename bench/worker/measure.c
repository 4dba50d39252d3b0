#include "worker/measure.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "worker/histogram.h"
#include "worker/result.h"

enum { WAIT_PATIENCE = 20 };

struct span {
  uint64_t begin_ns; /* 0: none is open */
  uint64_t count;
  uint64_t total_ns;
  uint64_t longest_ns;
};

static struct span pauses;
static struct span marks;

static struct histogram *pauses_by_event; /* of the whole process */
static struct histogram *pauses_by_engine;

static struct {
  uint64_t wall_ns;
  uint64_t cpu_ns;
  uint64_t collections;
  uint64_t collector_cpu_ns;
  struct histogram *pauses;
} at_start;

static uint64_t section_wall_ns;
static uint64_t section_cpu_ns;

uint64_t measure_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t timeval_ns(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

uint64_t measure_cpu_ns(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
}

static void span_begin(struct span *span) { span->begin_ns = measure_clock_ns(); }

/* An end without a begin belongs to a collection that was on its way when the section started. */
static uint64_t span_end(struct span *span) {
  if (span->begin_ns == 0) return 0;
  uint64_t length_ns = measure_clock_ns() - span->begin_ns;
  span->begin_ns = 0;
  span->count++;
  span->total_ns += length_ns;
  if (length_ns > span->longest_ns) span->longest_ns = length_ns;
  return length_ns;
}

void measure_pause_begin(void) { span_begin(&pauses); }
void measure_pause_end(void) { histogram_add(pauses_by_event, span_end(&pauses)); }
void measure_mark_begin(void) { span_begin(&marks); }
void measure_mark_end(void) { span_end(&marks); }

uint64_t measure_wall_ns(void) { return section_wall_ns; }
uint64_t measure_section_cpu_ns(void) { return section_cpu_ns; }
uint64_t measure_mark_ns(void) { return marks.total_ns; }

const struct histogram *measure_pauses(void) { return pauses_by_event; }

void measure_init(void) {
  pauses_by_event = histogram_new();
  pauses_by_engine = histogram_new();
  at_start.pauses = histogram_new();
}

void measure_start(void) {
  pauses = (struct span){0};
  marks = (struct span){0};
  at_start.collections = engine_collections();
  at_start.collector_cpu_ns = engine_collector_cpu_ns();
  *at_start.pauses = (struct histogram){0};
  engine_pauses(at_start.pauses);
  at_start.cpu_ns = measure_cpu_ns();
  at_start.wall_ns = measure_clock_ns();
}

/* Memory resident now, in MiB, or 0 where the system does not tell. */
static double resident_mib(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL) return 0;
  unsigned long total_pages = 0, resident_pages = 0;
  int read = fscanf(file, "%lu %lu", &total_pages, &resident_pages);
  fclose(file);
  return read == 2 ? (double)resident_pages * (double)sysconf(_SC_PAGESIZE) / 1048576.0 : 0;
}

void measure_end(void) {
  section_wall_ns = measure_clock_ns() - at_start.wall_ns;
  section_cpu_ns = measure_cpu_ns() - at_start.cpu_ns;
  result_number("wall_s", (double)section_wall_ns / 1e9);
  result_number("cpu_s", (double)section_cpu_ns / 1e9);
  result_number("rss_mib", resident_mib());
  if (!ENGINE_COLLECTS) return;
  engine_pauses(pauses_by_engine);
  result_number("heap_mib", (double)engine_heap_bytes() / 1048576.0);
  result_number("collections", (double)(engine_collections() - at_start.collections));
  result_number("pauses", (double)pauses.count);
  result_number("pause_max_ms", (double)pauses.longest_ns / 1e6);
  result_number("pause_total_ms", (double)pauses.total_ns / 1e6);
  result_number("mark_total_ms", (double)marks.total_ns / 1e6);
  uint64_t collector_ns = engine_collector_cpu_ns();
  if (collector_ns != 0) result_number("collector_cpu_s", (double)(collector_ns - at_start.collector_cpu_ns) / 1e9);
}

static void *sleep_for(void *ms) {
  long length = *(long *)ms;
  nanosleep(&(struct timespec){.tv_sec = length / 1000, .tv_nsec = length % 1000 * 1000000}, NULL);
  return NULL;
}

void measure_wait(long ms, uint64_t collections) {
  static long poll_ms = 50;
  uint64_t start = engine_collections();
  engine_blocking_call(sleep_for, &ms);
  for (long left_ms = ms * WAIT_PATIENCE; ENGINE_COLLECTS && left_ms > 0; left_ms -= poll_ms) {
    if (engine_collections() - start >= collections) break;
    engine_blocking_call(sleep_for, &poll_ms);
  }
}

void measure_report_pauses(void) {
  histogram_subtract(pauses_by_engine, at_start.pauses);
  histogram_report_tails(pauses_by_engine, "pauses");
}
