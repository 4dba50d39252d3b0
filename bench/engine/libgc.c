/* The Boehm collector's interface: start, names and figures. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/measure.h"

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

/* The stock library starts its marking threads with the program's first thread, so a program without threads marks with
 * one unless it asks.  "The engine's own choice" leaves that as it is.  It collects when the program has allocated a part
 * of the heap, so a heap grown beforehand is what the parameter asks for. */
void engine_start(unsigned markers, size_t heap_bytes) {
  if (markers != 0) GC_set_markers_count(markers);
  GC_INIT();
  if (markers > 1) GC_start_mark_threads();
  if (heap_bytes != 0 && !GC_expand_hp(heap_bytes)) {
    fprintf(stderr, "GC_expand_hp failed\n");
    exit(1);
  }
  GC_set_on_collection_event(on_event);
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
