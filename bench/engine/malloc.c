/* The C library's malloc: start, names and figures. */
#include "engine.h"

#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "worker/workload.h"

void engine_start(const struct engine_setup *setup) {
  if (strcmp(setup->mode, "default") != 0) workload_fail("malloc has no modes");
}

const char *engine_name(void) {
  static char name[32];
  snprintf(name, sizeof name, "glibc %s", gnu_get_libc_version());
  return name;
}

const char *engine_symbol(void) { return "malloc"; }

uint64_t engine_collections(void) { return 0; }

size_t engine_heap_bytes(void) {
  struct mallinfo2 info = mallinfo2();
  return info.arena + info.hblkhd;
}

uint64_t engine_collector_cpu_ns(void) { return 0; }

uint64_t engine_marking_cpu_ns(void) { return 0; }

uint64_t engine_objects_marked(void) { return 0; }

void engine_pauses(struct histogram *pauses) { (void)pauses; }

void engine_report(void) {}
