/* The native interface: start, names and figures. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/measure.h"

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

void engine_start(unsigned markers, size_t heap_bytes) {
  const struct midden_options options = {.size = sizeof options, .markers = markers, .min_heap_bytes = heap_bytes};
  int error = midden_init(&options);
  if (error != 0) {
    fprintf(stderr, "midden_init: error %d\n", -error);
    exit(1);
  }
  midden_set_event_callback(on_event, NULL);
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
