/* The native interface: start, names and figures. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/histogram.h"
#include "worker/measure.h"
#include "worker/workload.h"

static void on_event(enum midden_event event, void *argument) {
  (void)argument;
  switch (event) {
    case MIDDEN_EVENT_STOPPING:
      measure_pause_begin();
      break;
    case MIDDEN_EVENT_RESUMED:
      measure_pause_end();
      break;
    case MIDDEN_EVENT_MARK_START:
      measure_mark_begin();
      break;
    case MIDDEN_EVENT_MARK_END:
      measure_mark_end();
      break;
    default:
      break;
  }
}

/* The environment would win over the option: a mode that was asked for takes its word away. */
static enum midden_mode mode_of(const char *name) {
  if (strcmp(name, "default") == 0) return MIDDEN_MODE_AUTO;
  unsetenv("MIDDEN_MODE");
  if (strcmp(name, "stw") == 0) return MIDDEN_MODE_STW;
  if (strcmp(name, "barrier") == 0) return MIDDEN_MODE_BARRIER;
  if (strcmp(name, "dirty") == 0) return MIDDEN_MODE_DIRTY;
  workload_fail("no such mode");
}

void engine_start(const struct engine_setup *setup) {
  const struct midden_options options = {.size = sizeof options,
                                         .mode = mode_of(setup->mode),
                                         .markers = setup->markers,
                                         .min_heap_bytes = setup->heap_bytes};
  int error = midden_init(&options);
  if (error != 0) {
    fprintf(stderr, "midden_init: error %d\n", -error);
    exit(1);
  }
  if (setup->events) midden_set_event_callback(on_event, NULL);
}

const char *engine_name(void) {
  static char name[32];
  unsigned version = midden_version();
  snprintf(name, sizeof name, "midden %u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
  return name;
}

const char *engine_symbol(void) { return "midden_alloc"; }

static struct midden_stats read_stats(void) {
  struct midden_stats stats = {.size = sizeof stats};
  midden_stats(&stats);
  return stats;
}

uint64_t engine_collections(void) { return read_stats().collections; }

size_t engine_heap_bytes(void) { return read_stats().heap_system; }

uint64_t engine_collector_cpu_ns(void) { return read_stats().collector_cpu_ns; }

uint64_t engine_marking_cpu_ns(void) { return read_stats().marking_cpu_ns; }

uint64_t engine_objects_marked(void) { return read_stats().objects_marked; }

void engine_pauses(struct histogram *pauses) {
  struct midden_pauses own = {.size = sizeof own};
  midden_pauses(&own);
  for (int i = 0; i < MIDDEN_PAUSE_BUCKETS; i++) histogram_add_many(pauses, own.limit_ns[i], own.pauses[i]);
  if (own.max_ns > pauses->longest_ns) pauses->longest_ns = own.max_ns;
}

void engine_report(void) {}
