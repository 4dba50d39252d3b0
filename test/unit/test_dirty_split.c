/* Dirty-page mode, what is protected of a huge page: all of it while it is whole; once it is split, only pages with pointers; all
 * of it again, after its memory was given back. */
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

/* Two objects fill a chunk. */
enum { HALF_BYTES = CHUNK_BYTES / 2, HALVES = 64 };

static char *halves[2]; /* of the same chunk; static data */

/* Whether scans that protect passed over the middle of a half. */
static bool was_protected[2];

/* ---- the collector's side ---- */

int __real_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);
int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);

int __wrap_os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity,
                         size_t *count) {
  uintptr_t start = rest->start;
  int error = __real_os_dirty_scan(rest, protect, written, capacity, count);
  for (int i = 0; i < 2 && protect; i++) {
    uintptr_t middle = (uintptr_t)halves[i] + HALF_BYTES / 2;
    if (start <= middle && middle < rest->start) was_protected[i] = true;
  }
  return error;
}

static void pass_over(void *argument, struct os_range range) { (void)argument, (void)range; }

/* As a cycle begins; then what was written meanwhile is looked at, as in a round. */
static void protect(void) {
  was_protected[0] = was_protected[1] = false;
  REQUIRE(written_protect() == 0, "written_protect");
}

static void scan(void) {
  for (size_t part = 0; part < written_part_count(); part++)
    REQUIRE(written_visit(part, true, pass_over, NULL) >= 0, "written_visit");
}

/* ---- the program's side ---- */

static size_t chunk_of(const char *half) { return ((uintptr_t)half - heap_arena.start) >> CHUNK_SHIFT; }

static char *make_half(void) {
  char *half = midden_alloc(HALF_BYTES);
  REQUIRE(half != NULL, "out of memory");
  half[0] = 1;
  return half;
}

/* Two that fill a chunk which may be a huge page.  False if there are none. */
static bool choose_halves(void) {
  char *all[HALVES];
  for (int i = 0; i < HALVES; i++) all[i] = make_half();
  for (int i = 0; i < HALVES; i++) {
    for (int j = 0; j < HALVES; j++) {
      bool is_pair = all[j] == all[i] + HALF_BYTES && chunk_of(all[i]) == chunk_of(all[j]);
      if (!is_pair || !arena_chunk_is_huge(&heap_arena, chunk_of(all[i]))) continue;
      halves[0] = all[i];
      halves[1] = all[j];
      return true;
    }
  }
  return false;
}

/* In the place of the two, which are free. */
static void make_first_half_again(void) {
  for (int i = 0; i < HALVES; i++) {
    if (make_half() == halves[0]) return;
  }
  REQUIRE(false, "the place of an object is not used again");
}

static void free_pages_of_split_ones_are_left_alone(void **state) {
  (void)state;
  if (!choose_halves()) skip();
  struct mutator *self = mutator_self();
  collector_acquire(self);
  protect();
  assert_true(was_protected[0] && was_protected[1]);
  halves[0][HALF_BYTES / 2] = 1;
  scan();
  collector_release();

  midden_free(halves[1]);
  collector_acquire(self);
  protect();
  collector_release();
  assert_true(was_protected[0]);
  assert_false(was_protected[1]);

  midden_free(halves[0]);
  midden_release_memory();
  make_first_half_again();
  collector_acquire(self);
  protect();
  collector_release();
  assert_true(was_protected[0] && was_protected[1]);
}

/* None cuts a huge page, and each page lies in one. */
static void parts_are_the_heap(void **state) {
  (void)state;
  written_divide();
  size_t parts = written_part_count();
  uintptr_t at = heap_arena.start;
  assert_true(parts > 1);
  for (size_t part = 0; part < parts; part++) {
    struct os_range range = written_part(part);
    assert_true(range.start == at && (range.start - heap_arena.start) % CHUNK_BYTES == 0);
    at = range.end;
  }
  assert_true(at == heap_arena.used);
}

int main(void) {
  test_start("unit/dirty_split");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .generations = MIDDEN_GENERATIONS_OFF,
                                   .percent = -1,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  heap_arena.splits_are_dear = NULL; /* also where they are */
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(free_pages_of_split_ones_are_left_alone),
      cmocka_unit_test(parts_are_the_heap),
  };
  return test_run_group(tests);
}
