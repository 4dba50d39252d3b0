/* Which objects words lead to, at the borders: the end of the arena on a stack; slots that are marked but hold no object, as those that a
 * thread is just making black; objects that are marked by hand.  No cycle runs: each test takes its marks back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/mark.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "support/heap_test.h"

enum { ZONE_BYTES = 256, LARGE_BYTES = 100000 };

static bool is_marked(const void *object) { return mark_bit_get(&heap_arena, mark_side(), (uintptr_t)object); }

static bool take_mark(const void *object) {
  bool was_marked = is_marked(object);
  mark_bit_clear(&heap_arena, mark_side(), (uintptr_t)object);
  return was_marked;
}

/* It fills the free span at the frontier, but for what guards take. */
static char *make_last_object(void) {
  char *object = midden_alloc_data(LARGE_BYTES);
  while (object != NULL && span_end(object_span((uintptr_t)object)) != heap_arena.used) {
    const struct span *tail = heap_arena.spans[arena_page_of(&heap_arena, heap_arena.used - PAGE_BYTES)];
    bool is_room = span_state(tail) == SPAN_FREE && span_bytes(tail) > LARGE_BYTES;
    object = midden_alloc_data(is_room ? span_bytes(tail) - ZONE_BYTES : LARGE_BYTES);
  }
  REQUIRE(object != NULL, "out of memory");
  return object;
}

static bool is_marked_by_word(const void *object, uintptr_t word, bool is_stack) {
  struct midden_tracer tracer;
  mark_begin(&tracer, MARK_PARALLEL);
  mark_range(&tracer, (struct os_range){(uintptr_t)&word, (uintptr_t)(&word + 1)}, is_stack);
  mark_settle(&tracer);
  mark_publish(&tracer);
  return take_mark(object);
}

static void on_a_stack_the_end_of_the_last_object_refers_to_it(void **state) {
  (void)state;
  const char *last = make_last_object();
  assert_true(is_marked_by_word(last, heap_arena.used - 1, false));
  assert_true(is_marked_by_word(last, heap_arena.used, true));
  assert_false(is_marked_by_word(last, heap_arena.used, false));
  assert_false(is_marked_by_word(last, heap_arena.used + 1, true));
}

static bool is_marked_by_page_of(void **object, const void *target) {
  struct midden_tracer tracer;
  uintptr_t page = (uintptr_t)object & ~(uintptr_t)(PAGE_BYTES - 1);
  mark_bit_set(&heap_arena, mark_side(), (uintptr_t)object);
  mark_begin(&tracer, MARK_CONCURRENT);
  mark_range_again(&tracer, (struct os_range){page, page + PAGE_BYTES});
  mark_settle(&tracer);
  mark_publish(&tracer);
  mark_bit_clear(&heap_arena, mark_side(), (uintptr_t)object);
  return take_mark(target);
}

static void a_marked_slot_that_holds_no_object_is_not_read(void **state) {
  (void)state;
  void **object = midden_alloc(64), *target = midden_alloc_data(64);
  object[1] = target;
  assert_true(is_marked_by_page_of(object, target));
  mark_bit_clear(&heap_arena, alloc_side(), (uintptr_t)object);
  assert_false(is_marked_by_page_of(object, target));
  mark_bit_set(&heap_arena, alloc_side(), (uintptr_t)object);
}

static void what_is_marked_by_hand_counts_once(void **state) {
  (void)state;
  struct tally marked = {0};
  const char *small = midden_alloc(64), *large = midden_alloc_data(LARGE_BYTES);
  mark_by_hand(small);
  assert_false(is_marked(small));
  mark_open_by_hand_stw();
  for (size_t i = 0; i < 2; i++) {
    mark_by_hand(small + i);
    mark_by_hand(large + i);
  }
  mark_close_by_hand(&marked);
  mark_by_hand(small);
  assert_int_equal(tally_row_objects(&marked, TALLY_SCANNED), 1);
  assert_int_equal(tally_row_objects(&marked, TALLY_DATA), 1);
  assert_int_equal(tally_large_bytes(&marked), span_bytes(object_span((uintptr_t)large)));
  assert_true(take_mark(small) && take_mark(large));
  mark_close_by_hand(&marked);
  assert_int_equal(tally_objects(&marked), 2);
}

int main(void) {
  struct midden_options options = {
      .size = sizeof(options), .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(on_a_stack_the_end_of_the_last_object_refers_to_it),
      cmocka_unit_test(a_marked_slot_that_holds_no_object_is_not_read),
      cmocka_unit_test(what_is_marked_by_hand_counts_once),
  };
  return test_run_group(tests);
}
