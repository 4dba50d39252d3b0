/* The Boehm collector's interface: start, names and figures. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/histogram.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

static void GC_CALLBACK on_event(GC_EventType event) {
  switch (event) {
    case GC_EVENT_PRE_STOP_WORLD:
      measure_pause_begin();
      break;
    case GC_EVENT_POST_START_WORLD:
      measure_pause_end();
      break;
    case GC_EVENT_MARK_START:
      measure_mark_begin();
      break;
    case GC_EVENT_MARK_END:
      measure_mark_end();
      break;
    default:
      break;
  }
}

/* How many threads the mode marks with; 0: the library's choice. */
static unsigned markers_of(const char *mode) {
  if (strcmp(mode, "serial") == 0) return 1;
  if (strcmp(mode, "parallel") == 0) return (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
  if (strcmp(mode, "default") != 0 && strcmp(mode, "incremental") != 0) workload_fail("no such mode");
  return 0;
}

/* The stock library starts its marking threads with the program's first thread, so a program without threads marks with
 * one unless it asks.  "The engine's own choice" leaves that as it is.  It collects when the program has allocated a part
 * of the heap, so a heap grown beforehand is what the parameter asks for. */
void engine_start(const struct engine_setup *setup) {
  unsigned markers = setup->markers != 0 ? setup->markers : markers_of(setup->mode);
  if (markers != 0) GC_set_markers_count(markers);
  GC_INIT();
  if (markers > 1) GC_start_mark_threads();
  if (strcmp(setup->mode, "incremental") == 0) GC_enable_incremental();
  if (setup->heap_bytes != 0 && !GC_expand_hp(setup->heap_bytes)) workload_fail("GC_expand_hp failed");
  if (setup->events) GC_set_on_collection_event(on_event);
}

const char *engine_name(void) {
  static char name[32];
  unsigned version = GC_get_version();
  snprintf(name, sizeof name, "libgc %u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
  return name;
}

const char *engine_symbol(void) { return "GC_malloc"; }

uint64_t engine_collections(void) { return (uint64_t)GC_get_gc_no(); }

size_t engine_heap_bytes(void) { return GC_get_heap_size(); }

uint64_t engine_collector_cpu_ns(void) { return 0; }

uint64_t engine_marking_cpu_ns(void) { return 0; }

uint64_t engine_objects_marked(void) { return 0; }

/* It keeps no account: the bench does, by its events. */
void engine_pauses(struct histogram *pauses) { histogram_merge(pauses, measure_pauses()); }

/* Incremental mode turns itself off where the heap becomes large. */
void engine_report(void) {
  result_number("markers", GC_get_parallel() + 1);
  result_number("incremental", GC_is_incremental_mode() != 0);
}
