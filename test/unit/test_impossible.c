/* What the heap has no room for beside what lives is refused after two collections, even where others take what is free as soon as a
 * collection has ended: it is not theirs that is wanted.  Here the pages in use grow from one look at them to the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/collector.h"
#include "page/pageheap.h"
#include "support/heap_test.h"

enum { MOST_COLLECTIONS = 2 };
#define MIB ((size_t)1 << 20)
#define IMPOSSIBLE_BYTES ((size_t)1 << 50)

void __real_pageheap_read_stats(struct pageheap *heap, struct pageheap_stats *stats);
void __wrap_pageheap_read_stats(struct pageheap *heap, struct pageheap_stats *stats);

void __wrap_pageheap_read_stats(struct pageheap *heap, struct pageheap_stats *stats) {
  static size_t taken_bytes; /* atomic */
  __real_pageheap_read_stats(heap, stats);
  if (collector_phase() != COLLECTOR_OFF) return; /* the collector believes what it reads */
  stats->in_use_bytes += __atomic_add_fetch(&taken_bytes, PAGE_BYTES, __ATOMIC_RELAXED);
}

static void *volatile lives; /* static data: a root */

static uint64_t collections_for(size_t alignment, size_t bytes) {
  uint64_t before = test_stats().collections;
  assert_null(midden_alloc_aligned(MIDDEN_DATA, alignment, bytes));
  return test_stats().collections - before;
}

static void what_has_no_room_is_refused_soon(void **state) {
  (void)state;
  assert_in_range(collections_for(PAGE_BYTES, 32 * MIB), 1, MOST_COLLECTIONS);
  assert_in_range(collections_for(PAGE_BYTES, IMPOSSIBLE_BYTES), 1, MOST_COLLECTIONS);
  assert_in_range(collections_for(IMPOSSIBLE_BYTES, 1), 1, MOST_COLLECTIONS);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("unit/impossible");
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_STW, .max_heap_bytes = 64 * MIB};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  lives = midden_alloc_data(40 * MIB);
  REQUIRE(lives != NULL, "no memory");
  midden_collect();
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_has_no_room_is_refused_soon)};
  return test_run_group(tests);
}
