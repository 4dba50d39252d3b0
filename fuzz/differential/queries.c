/* Questions: about addresses, figures that must fit together, all objects, dumps. */
#include <string.h>
#include <unistd.h>

#include "differential.h"

#include "gc/gc_mark.h"

/* ---- checks of pointer arithmetic ---- */

static int complaints;

static void complain(void *p) {
  (void)p;
  complaints++;
}

static void complain_about_two(void *p, void *q) {
  (void)p;
  (void)q;
  complaints++;
}

static int complaints_about(void *result, void *expected) {
  int count = complaints;
  REQUIRE(result == expected);
  complaints = 0;
  return count;
}

static void check_pointers(void) {
  static char outside[64];
  int index = (int)any_below(OBJECTS);
  char *object = objects_at(index), *other = objects_any();
  if (!objects_is_plain(index) || objects_bytes_at(index) < 32 || other == NULL || object == other) return;
  GC_same_obj_print_proc = complain_about_two;
  GC_is_visible_print_proc = complain;
  GC_is_valid_displacement_print_proc = complain;
  size_t inside = any_below(32);
  char *p = object;
  say("same: %d %d %d %d %d", complaints_about(GC_same_obj(object + inside, object), object + inside),
      complaints_about(GC_same_obj(other, object), other), complaints_about(GC_same_obj(outside, object), outside),
      complaints_about(GC_same_obj(object, outside), object),
      complaints_about(GC_same_obj(outside, outside + inside), outside));
  int before = complaints_about(GC_pre_incr((void **)&p, (ptrdiff_t)inside), object + inside);
  int after = complaints_about(GC_post_incr((void **)&p, -(ptrdiff_t)inside), object + inside);
  if (interior_pointers) say("increments: %d %d", before, after);
  REQUIRE(p == object);
  void *word = NULL;
  say("visible: %d %d %d", complaints_about(GC_is_visible(&word), &word),
      complaints_about(GC_is_visible(outside + 1), outside + 1) > 0, complaints_about(GC_is_visible(NULL), NULL));
  say("displacement: %d %d", complaints_about(GC_is_valid_displacement(object), object),
      complaints_about(GC_is_valid_displacement(outside), outside));
}

static void foreign_addresses(void) {
  static int constant;
  void *from_malloc = malloc(100);
  void *odd[] = {NULL, &odd, &constant, from_malloc, (void *)1, (void *)-1, (void *)(GC_word)foreign_addresses};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) REQUIRE(GC_base(odd[i]) == NULL && !GC_is_heap_ptr(odd[i]));
  say("temporary root: %d %d", GC_is_tmp_root(from_malloc) != 0, GC_is_tmp_root(&odd) != 0);
  free(from_malloc);
  GC_free(NULL);
  GC_debug_free(NULL);
}

/* ---- figures ---- */

static void *ask_figures(void *argument) {
  struct GC_prof_stats_s *figures = argument;
  REQUIRE(GC_get_prof_stats_unsafe(figures, sizeof *figures) == sizeof *figures);
  return argument;
}

static void figures(void) {
  struct GC_prof_stats_s stats, later;
  REQUIRE(GC_get_prof_stats(&stats, sizeof stats) == sizeof stats);
  REQUIRE(GC_call_with_alloc_lock(ask_figures, &later) == &later);
  say("figures: %d %d %d %d", stats.heapsize_full >= stats.free_bytes_full,
      stats.free_bytes_full >= stats.unmapped_bytes, stats.obtained_from_os_bytes >= stats.heapsize_full,
      later.gc_no == GC_get_gc_no());
  REQUIRE(stats.markers_m1 == (GC_word)GC_get_parallel());
  REQUIRE(stats.non_gc_bytes == GC_get_non_gc_bytes());
  GC_word heap, free_bytes, unmapped, since, total;
  GC_get_heap_usage_safe(&heap, &free_bytes, &unmapped, &since, &total);
  REQUIRE(heap >= free_bytes && total >= since);
  REQUIRE(total >= stats.allocd_bytes_before_gc + stats.bytes_allocd_since_gc);
  REQUIRE(GC_get_total_bytes() >= total && GC_get_memory_use() > 0);
}

/* Large objects are counted at once, in whatever way small ones are. */
static void follow_large(void) {
  enum { BYTES = 300000 };
  collect_only_asked(true);
  size_t total = GC_get_total_bytes(), since = GC_get_bytes_since_gc(), freed = GC_get_expl_freed_bytes_since_gc();
  void *object = GC_malloc_atomic(BYTES);
  say("large: allocated %d, since %d", GC_get_total_bytes() >= total + BYTES, GC_get_bytes_since_gc() >= since + BYTES);
  GC_free(object);
  say("large: freed %d", GC_get_expl_freed_bytes_since_gc() >= freed + BYTES);
  GC_gcollect();
  say("large: since the collection %d %d", GC_get_bytes_since_gc() < BYTES, GC_get_expl_freed_bytes_since_gc() < BYTES);
  collect_only_asked(false);
}

static void size_map(void) {
  int bytes = (int)any_below(2000);
  size_t size = GC_get_size_map_at(bytes);
  REQUIRE((size == 0 || size >= (size_t)bytes) && size != (size_t)-1); /* 0: no object of that size yet */
  say("size map: %d %d", GC_get_size_map_at(-1) == (size_t)-1, GC_get_size_map_at(1 << 28) == (size_t)-1);
}

static void times(void) {
  GC_start_performance_measurement();
  unsigned long before = GC_get_full_gc_total_time();
  GC_gcollect();
  say("time grows: %d", GC_get_full_gc_total_time() >= before);
}

/* ---- all objects ---- */

static int seen[OBJECTS], odd_sizes;

static void see(void *object, size_t bytes, void *argument) {
  REQUIRE(argument == &odd_sizes);
  for (int i = 0; i < OBJECTS; i++) {
    if (!objects_is_plain(i) || objects_at(i) != object) continue;
    seen[i]++;
    odd_sizes += bytes < objects_bytes_at(i) || bytes != GC_size(object);
  }
}

static void *enumerate(void *argument) {
  GC_enumerate_reachable_objects_inner(see, argument);
  return argument;
}

static void all_objects(void) {
  memset(seen, 0, sizeof seen);
  odd_sizes = 0;
  collect_only_asked(true);
  REQUIRE(GC_call_with_alloc_lock(enumerate, &odd_sizes) == &odd_sizes);
  collect_only_asked(false);
  int once = 0, plain = 0;
  for (int i = 0; i < OBJECTS; i++) {
    plain += objects_is_plain(i);
    once += seen[i] == 1;
  }
  say("all objects: %d of %d once, %d odd sizes", once, plain, odd_sizes);
}

/* After a collection what is held is marked. */
static void *count_marked(void *argument) {
  int *count = argument;
  for (int i = 0; i < OBJECTS; i++)
    if (objects_is_plain(i)) *count += GC_is_marked(objects_at(i)) != 0;
  return NULL;
}

static void marks(void) {
  int count = 0, plain = 0;
  collect_only_asked(true);
  REQUIRE(GC_call_with_alloc_lock(count_marked, &count) == NULL);
  collect_only_asked(false);
  for (int i = 0; i < OBJECTS; i++) plain += objects_is_plain(i);
  say("marked: %d of %d", count, plain);
}

/* ---- dumps ---- */

static void dump(void) {
  FILE *file = tmpfile();
  REQUIRE(file != NULL);
  GC_set_log_fd(fileno(file));
  fflush(stdout);
  int out = dup(STDOUT_FILENO), error = dup(STDERR_FILENO);
  dup2(fileno(file), STDOUT_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  GC_dump();
  GC_dump_named("name");
  GC_dump_regions();
  GC_dump_finalization();
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  close(out);
  close(error);
  say("dump: %d", lseek(fileno(file), 0, SEEK_END) > 0);
  GC_set_log_fd(STDERR_FILENO);
  fclose(file);
}

void queries_step(void) {
  static void (*const kinds[])(void) = {check_pointers, foreign_addresses, figures, follow_large, size_map,
                                        times,          all_objects,       marks,   dump};
  kinds[any_below(sizeof kinds / sizeof kinds[0])]();
}
