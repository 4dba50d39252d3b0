/* A spike: beside live data much more is allocated, all of it alive at once, and dropped.  Then the program does nothing:
 * how long until its memory is back?  Where waiting does not help, collections by hand follow, and are counted.
 *
 * Memory counts as back when the process has at most 1.1 times what the live data may grow to and the live data itself
 * take, with a growth of 100% between collections: 3.3 times the live data. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

enum { SAMPLES_PER_SECOND = 20, COLLECTIONS_MAX = 32 };

struct node {
  struct node *next;
};

static size_t node_bytes;
static struct node *live, *spike;

static __attribute__((noinline)) void build(struct node **list, size_t bytes) {
  for (size_t i = 0; i < bytes / node_bytes; i++) {
    struct node *node = engine_alloc(node_bytes);
    memset(node, 0, node_bytes); /* a spike whose memory was never touched would be none */
    engine_store(&node->next, *list);
    engine_store(list, node);
  }
}

static __attribute__((noinline)) void drop_spike(void) {
  struct node *node = spike;
  engine_store(&spike, NULL);
  while (!ENGINE_COLLECTS && node != NULL) {
    struct node *next = node->next;
    engine_free(node);
    node = next;
  }
}

/* Overwrites what earlier calls left on the stack. */
static __attribute__((noinline)) void scrub_stack(void) {
  volatile char dead[32 << 10];
  for (size_t i = 0; i < sizeof dead; i++) dead[i] = 0;
}

static double resident_mib(void) {
  long mapped = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &mapped, &resident) != 2) workload_fail("spike: no /proc/self/statm");
  fclose(file);
  return (double)resident * 4096 / (1 << 20);
}

static void rest(void) {
  const struct timespec time = {.tv_nsec = 1000000000 / SAMPLES_PER_SECOND};
  nanosleep(&time, NULL);
}

/* Waits and samples; the seconds after which resident memory was at or below the target for the first time, or -1. */
static double wait_for_memory(long seconds, double target_mib) {
  static const int shown_s[] = {1, 2, 5, 10};
  char name[32];
  double found_s = -1;
  size_t shown = 0;
  uint64_t start_ns = measure_clock_ns();
  for (;;) {
    double now_s = (double)(measure_clock_ns() - start_ns) / 1e9, resident = resident_mib();
    if (found_s < 0 && resident <= target_mib) found_s = now_s;
    if (shown < sizeof shown_s / sizeof shown_s[0] && now_s >= shown_s[shown]) {
      snprintf(name, sizeof name, "rss_after_%ds_mib", shown_s[shown++]);
      result_number(name, resident);
    }
    if (now_s >= (double)seconds) return found_s;
    rest();
  }
}

/* How many collections by hand bring it about, after the first of which there is time again; COLLECTIONS_MAX + 1: more
 * than that. */
static int collect_for_memory(long seconds, double target_mib) {
  int count = 0;
  while (resident_mib() > target_mib && count <= COLLECTIONS_MAX) {
    scrub_stack();
    engine_collect();
    count++;
    for (long i = 0; count == 1 && i < seconds * SAMPLES_PER_SECOND && resident_mib() > target_mib; i++) rest();
  }
  return count;
}

static double count_live(void) {
  double count = 0;
  for (const struct node *node = live; node != NULL; node = node->next) count++;
  return count;
}

static void run(struct workload *self) {
  node_bytes = (size_t)workload_number(self, "bytes", sizeof(struct node), 1L << 20);
  size_t live_bytes = (size_t)workload_number(self, "live", 1L << 20, 1L << 40);
  size_t spike_bytes = (size_t)workload_number(self, "spike", 1L << 20, 1L << 40);
  long seconds = workload_number(self, "wait", 0, 3600);
  double target_mib = 3.3 * (double)live_bytes / (1 << 20);
  build(&live, live_bytes);
  measure_start();
  build(&spike, spike_bytes);
  measure_end();
  result_number("rss_spike_mib", resident_mib());
  result_number("target_mib", target_mib);
  drop_spike();
  scrub_stack();
  result_number("back_after_s", wait_for_memory(seconds, target_mib));
  result_number("collections_by_hand", collect_for_memory(seconds, target_mib));
  result_number("check", count_live());
}

struct workload workload_spike = {
    .name = "spike",
    .about = "a spike beside live data is dropped: when is the memory back, without any call",
    .parameters = {{"spike", "1G"}, {"live", "64M"}, {"bytes", "256"}, {"wait", "10"}},
    .run = run,
};
