/* Questions: about addresses, and figures about the heap in libgc's terms.
 *
 * libgc's "heap" is the memory it has from the system; what midden gave back to the system is libgc's "unmapped". */
#include <string.h>

#include "shim.h"

void *GC_base(void *address) { return midden_base(address); }
int GC_is_heap_ptr(const void *address) { return midden_owns(address); }
size_t GC_size(const void *object) { return midden_size(object); }

/* midden sees pointers to any byte of an object. */
void GC_register_displacement(size_t offset) { (void)offset; }

/* ---- figures ---- */

static struct midden_stats inspect_stats(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  midden_stats(&stats);
  return stats;
}

/* Figures are read one after the other while other threads allocate: a difference must not turn out huge. */
static size_t inspect_minus(uint64_t a, uint64_t b) { return a > b ? (size_t)(a - b) : 0; }

static size_t inspect_since_gc(const struct midden_stats *stats) {
  return inspect_minus(stats->allocated, collect_last().allocated);
}

size_t GC_get_heap_size(void) {
  struct midden_stats stats = inspect_stats();
  return inspect_minus(stats.heap_system, stats.heap_released);
}

size_t GC_get_free_bytes(void) {
  struct midden_stats stats = inspect_stats();
  return inspect_minus(stats.heap_idle, stats.heap_released);
}

size_t GC_get_unmapped_bytes(void) { return inspect_stats().heap_released; }

size_t GC_get_bytes_since_gc(void) {
  struct midden_stats stats = inspect_stats();
  return inspect_since_gc(&stats);
}

/* What waits for the end of a cycle was freed, as the program sees it. */
static size_t inspect_freed_since_gc(const struct midden_stats *stats) {
  return inspect_minus(stats->freed_explicitly + stats->freed_waiting, collect_last().freed_explicitly);
}

size_t GC_get_expl_freed_bytes_since_gc(void) {
  struct midden_stats stats = inspect_stats();
  return inspect_freed_since_gc(&stats);
}

size_t GC_get_total_bytes(void) { return inspect_stats().allocated; }

size_t GC_get_obtained_from_os_bytes(void) {
  struct midden_stats stats = inspect_stats();
  return stats.heap_system + stats.metadata;
}

size_t GC_get_memory_use(void) { return inspect_stats().heap_in_use; }

void GC_get_heap_usage_safe(GC_word *heap, GC_word *free_bytes, GC_word *unmapped, GC_word *since_gc, GC_word *total) {
  struct midden_stats stats = inspect_stats();
  if (heap) *heap = inspect_minus(stats.heap_system, stats.heap_released);
  if (free_bytes) *free_bytes = inspect_minus(stats.heap_idle, stats.heap_released);
  if (unmapped) *unmapped = stats.heap_released;
  if (since_gc) *since_gc = inspect_since_gc(&stats);
  if (total) *total = stats.allocated;
}

size_t GC_get_prof_stats(struct GC_prof_stats_s *result, size_t bytes) {
  struct midden_stats stats = inspect_stats();
  struct collect_snapshot last = collect_last();
  struct GC_prof_stats_s figures = {
      .heapsize_full = stats.heap_system,
      .free_bytes_full = stats.heap_idle,
      .unmapped_bytes = stats.heap_released,
      .bytes_allocd_since_gc = inspect_since_gc(&stats),
      .allocd_bytes_before_gc = last.allocated,
      .non_gc_bytes = GC_non_gc_bytes,
      .gc_no = GC_gc_no,
      .markers_m1 = (GC_word)GC_parallel,
      .bytes_reclaimed_since_gc = last.reclaimed_last,
      .reclaimed_bytes_before_gc = last.reclaimed,
      .expl_freed_bytes_since_gc = inspect_freed_since_gc(&stats),
      .obtained_from_os_bytes = stats.heap_system + stats.metadata,
  };
  size_t known = bytes < sizeof(figures) ? bytes : sizeof(figures);
  memcpy(result, &figures, known);
  if (bytes > known) memset((char *)result + known, 0xff, bytes - known);
  return known;
}

size_t GC_get_prof_stats_unsafe(struct GC_prof_stats_s *result, size_t bytes) {
  return GC_get_prof_stats(result, bytes);
}

/* Found out by asking for such an object: midden's table of sizes is its own. */
size_t GC_get_size_map_at(int bytes) {
  enum { SMALL_MAX = 2048 };
  if (bytes < 0 || bytes > SMALL_MAX) return (size_t)-1;
  void *object = midden_alloc_kind(MIDDEN_RAW, (size_t)bytes);
  size_t size = midden_size(object);
  if (size) midden_free(object); /* or it is the program's own, memory having run out */
  return size;
}

/* ---- time ---- */

static uint64_t inspect_pause_start_ns;

void GC_start_performance_measurement(void) { inspect_pause_start_ns = inspect_stats().pause_total_ns; }

unsigned long GC_get_full_gc_total_time(void) {
  return inspect_minus(inspect_stats().pause_total_ns, inspect_pause_start_ns) / 1000000;
}

/* ---- all objects ---- */

struct inspect_visit {
  GC_reachable_object_proc function;
  void *argument;
};

static void inspect_visit_object(void *object, size_t slot_bytes, midden_kind kind, void *argument) {
  const struct inspect_visit *visit = argument;
  (void)kind;
  visit->function(object, slot_bytes, visit->argument);
}

void GC_enumerate_reachable_objects_inner(GC_reachable_object_proc function, void *argument) {
  struct inspect_visit visit = {.function = function, .argument = argument};
  midden_each_object(inspect_visit_object, &visit);
}

/* ---- dumps ---- */

void GC_dump_named(const char *name) {
  struct midden_stats stats = inspect_stats();
  if (name) GC_log_printf("***GC Dump %s\n", name);
  GC_log_printf("collections %lu, finalizers ready %zu, threads %zu\n", (unsigned long)stats.collections,
                stats.finalizers_ready, stats.threads);
  GC_log_printf("heap: from the system %zu, in use %zu, idle %zu, released %zu, live %zu, goal %zu, metadata %zu\n",
                stats.heap_system, stats.heap_in_use, stats.heap_idle, stats.heap_released, stats.heap_live,
                stats.heap_goal, stats.metadata);
  GC_log_printf("allocated %lu, large %lu, freed explicitly %lu\n", (unsigned long)stats.allocated,
                (unsigned long)stats.allocated_large, (unsigned long)stats.freed_explicitly);
  GC_log_printf("stopped: total %lu us, longest %lu us\n", (unsigned long)(stats.pause_total_ns / 1000),
                (unsigned long)(stats.pause_max_ns / 1000));
}

void GC_dump(void) { GC_dump_named(NULL); }

void GC_dump_regions(void) {
  uintptr_t start, end;
  midden_heap_bounds(&start, &end);
  GC_log_printf("objects lie between %p and %p\n", (void *)start, (void *)end);
}

void GC_dump_finalization(void) {
  struct midden_stats stats = inspect_stats();
  GC_log_printf("finalizers: ready %zu, run %lu\n", stats.finalizers_ready, (unsigned long)stats.finalizers_run);
}
