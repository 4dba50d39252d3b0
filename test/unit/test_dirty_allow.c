/* Dirty-page mode, when a cycle has ended: what the program is about to write is not protected any more, in runs that are worth a
 * system call, and no part of a huge page alone that is whole.  Not where somebody waits for the cycle.  Where a fault takes
 * long, shorter runs are worth it, and the heap has no huge pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/collector.h"
#include "mutator/written.h"
#include "os/os_dirty.h"
#include "page/arena.h"
#include "page/pageheap.h"
#include "support/dirty_test.h"

enum {
  NODES = 1 << 17,
  LARGE_NODES = 4 << 20, /* kept is an eighth of them: the heap has huge pages, if it may */
  CYCLES = 6,
  LEAST_BYTES = 128 << 10,
  LEAST_BYTES_DEAR = 16 << 10,
  SHORT_BYTES = 40 << 10,
  SHORT_RUNS = 100,
  WRITE_NS = 900,
  WRITE_NS_DEAR = 15000
};

struct node {
  struct node *next;
  uintptr_t more[7];
};

static struct {
  size_t calls, bytes; /* atomic */
  size_t least_bytes;  /* atomic; of the shortest run */
  bool outside;        /* atomic; of the heap, or beyond its chunk */
} allowed;

static int64_t write_ns = WRITE_NS; /* that is played */

/* ---- the collector's side ---- */

int __real_os_dirty_allow(void *start, size_t bytes);
int __wrap_os_dirty_allow(void *start, size_t bytes);

int __wrap_os_dirty_allow(void *start, size_t bytes) {
  uintptr_t first = (uintptr_t)start - heap_arena.start, last = first + bytes - 1;
  bool is_right = first < heap_arena.used - heap_arena.start && first >> CHUNK_SHIFT == last >> CHUNK_SHIFT;
  if (!is_right) atomic_store_relaxed(&allowed.outside, true);
  if (bytes < atomic_load_relaxed(&allowed.least_bytes)) atomic_store_relaxed(&allowed.least_bytes, bytes);
  int error = __real_os_dirty_allow(start, bytes);
  REQUIRE(error == 0, "os_dirty_allow: %d", error);
  atomic_add_relaxed(&allowed.bytes, bytes);
  atomic_add_acq_rel(&allowed.calls, (size_t)1);
  return error;
}

int64_t __wrap_os_dirty_write_ns(void);
int64_t __wrap_os_dirty_write_ns(void) { return write_ns; }

/* ---- the program's side ---- */

static struct collector_totals totals(void) {
  struct collector_totals read;
  collector_read_totals(&read);
  return read;
}

static struct node *kept; /* every eighth of those made */

NOINLINE_TEST static void make_nodes(size_t count) {
  for (size_t i = 0; i < count; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    if (i % 8 != 0) continue;
    node->next = kept;
    kept = node;
  }
}

/* Cycles that growth asks for; the last one is over when another thread holds the collector's lock. */
static void grow(void) {
  for (uint64_t before = totals().collections; totals().collections < before + CYCLES;) {
    kept = NULL;
    make_nodes(NODES);
  }
  struct mutator *self = mutator_self();
  collector_acquire(self);
  collector_release();
}

static void add(void *argument, struct os_range range) { *(size_t *)argument += range.end - range.start; }

static void forget_allowed(void) {
  allowed.calls = allowed.bytes = 0;
  allowed.least_bytes = SIZE_MAX;
  allowed.outside = false;
}

static void what_will_be_written_is_allowed(void **state) {
  (void)state;
  forget_allowed();
  grow();
  assert_true(atomic_load_acquire(&allowed.calls) > 0);
  assert_false(allowed.outside);
  assert_in_range(allowed.least_bytes, LEAST_BYTES, SIZE_MAX);
}

static void write_to_nodes(void) {
  for (struct node *node = kept; node != NULL; node = node->next) node->more[0]++;
}

/* Nothing but the nodes is written while all stands still: their pages are allowed.  How many bytes were, and are reported. */
static void allow_nodes(size_t *allowed_bytes, size_t *written_bytes) {
  collector_acquire(mutator_self());
  write_to_nodes();
  size_t written = 0, parts = written_part_count();
  for (size_t part = 0; part < parts; part++) REQUIRE(written_visit(part, true, add, &written) >= 0, "written_visit");
  for (size_t part = 0; part < parts; part++)
    REQUIRE(written_visit(part, false, add, &(size_t){0}) >= 0, "written_visit");
  forget_allowed();
  for (size_t part = 0; part < parts; part++) written_allow(part, false);
  written = 0;
  for (size_t part = 0; part < parts; part++) REQUIRE(written_visit(part, false, add, &written) >= 0, "written_visit");
  collector_release();
  *allowed_bytes = allowed.bytes;
  *written_bytes = written;
}

/* The nodes are allowed, though a whole cycle may have run before this thread has the lock. */
static void allowed_pages_count_as_written(void **state) {
  (void)state;
  size_t allowed_bytes, written_bytes;
  make_nodes(NODES);
  allow_nodes(&allowed_bytes, &written_bytes);
  assert_true(allowed_bytes > 0);
  assert_in_range(written_bytes, allowed_bytes / 2, SIZE_MAX); /* some may be without memory */
}

static void who_waits_does_not_wait_for_it(void **state) {
  (void)state;
  forget_allowed();
  for (int i = 0; i < CYCLES; i++) midden_collect();
  assert_int_equal(allowed.calls, 0);
}

static void start(void) {
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .brief_stop_us = -1,
                                   .generations = MIDDEN_GENERATIONS_OFF,
                                   .debug = MIDDEN_DEBUG_CHECK,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  alarm(120);
}

static size_t count_huge_chunks(void) {
  size_t count = 0;
  for (size_t i = 0; i < arena_chunk_count(&heap_arena); i++) count += arena_chunk_is_huge(&heap_arena, i);
  return count;
}

/* Large objects, with pages between them that hold no pointers. */
NOINLINE_TEST static void make_short_runs(void) {
  for (size_t i = 0; i < SHORT_RUNS; i++) {
    struct node *node = midden_alloc(SHORT_BYTES);
    REQUIRE(node != NULL && midden_alloc_data(SHORT_BYTES) != NULL, "out of memory");
    node->next = kept;
    kept = node;
  }
}

static int play_dear(void *argument) {
  size_t allowed_bytes, written_bytes;
  (void)argument;
  write_ns = WRITE_NS_DEAR;
  start();
  make_short_runs();
  midden_collect();
  allow_nodes(&allowed_bytes, &written_bytes);
  make_nodes(LARGE_NODES);
  REQUIRE(count_huge_chunks() == 0, "the heap has huge pages");
  REQUIRE(!allowed.outside, "more is allowed than there is");
  size_t least_bytes = allowed.least_bytes;
  REQUIRE(least_bytes >= LEAST_BYTES_DEAR && least_bytes < LEAST_BYTES, "the shortest run has %zu bytes", least_bytes);
  return 0;
}

static void shorter_runs_are_allowed_where_writes_are_dear(void **state) {
  (void)state;
  assert_int_equal(test_child(play_dear, NULL, 120).status, 0);
}

static void large_heaps_have_huge_pages_where_writes_are_cheap(void **state) {
  (void)state;
  if (arena_huge_page_bytes() == 0) skip();
  make_nodes(LARGE_NODES);
  assert_true(count_huge_chunks() > 0);
  kept = NULL;
}

int main(void) {
  test_start("unit/dirty_allow");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  const struct CMUnitTest dear[] = {cmocka_unit_test(shorter_runs_are_allowed_where_writes_are_dear)};
  if (test_run_group(dear) != 0) return 1;
  start();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_will_be_written_is_allowed),
      cmocka_unit_test(allowed_pages_count_as_written),
      cmocka_unit_test(who_waits_does_not_wait_for_it),
      cmocka_unit_test(large_heaps_have_huge_pages_where_writes_are_cheap),
  };
  return test_run_group(tests);
}
