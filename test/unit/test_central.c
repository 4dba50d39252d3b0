/* The central lists, swept on demand: what is swept by whom, how much at a time, on which list it comes to stand, and what is counted. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/central.h"
#include "gc/sweep.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/slots.h"
#include "support/heap_test.h"

enum {
  OBJECT_BYTES = 64,
  LIVING = 40000, /* more spans than one allocation looks through */
  SEARCHED_MOST = 64,
  LARGE = 20,
  LARGE_BYTES = 100000,
  WIDE_BYTES = 20000 /* slots of spans of many pages */
};

static size_t in_use_bytes(void) {
  struct pageheap_stats stats;
  pageheap_read_stats(&heap_pages, &stats);
  return stats.in_use_bytes;
}

static size_t swept_pages(enum sweeper sweeper) { return atomic_load_relaxed(&central_swept_pages[sweeper]); }

static void *living[LIVING]; /* a root */

/* Every `one_in`th object lives, at most `most` of them; the others are garbage. */
NOINLINE_TEST static void fill(size_t most, size_t one_in, size_t bytes) {
  for (size_t i = 0; i < most * one_in; i++) {
    void *object = midden_alloc_data(bytes);
    REQUIRE(object != NULL, "out of memory");
    if (i % one_in == 0) living[i / one_in] = object;
  }
}

static void drop_all(void) {
  memset(living, 0, sizeof living);
  test_collect_clean();
  sweep_finish(mutator_self());
}

static void dead_large_objects_are_swept_with_the_cycle(void **state) {
  (void)state;
  for (int i = 0; i < LARGE; i++) fill(1, 1, LARGE_BYTES);
  size_t before = in_use_bytes();
  test_collect_clean();
  assert_true(before - in_use_bytes() >= (LARGE - 2) * LARGE_BYTES); /* the last one may be named by a stale word */
  drop_all();
}

static bool has_bits(uintptr_t object) {
  return mark_bit_get(&heap_arena, 0, object) || mark_bit_get(&heap_arena, 1, object);
}

/* Whichever side has the allocation bits. */
static void a_large_object_that_is_freed_leaves_no_bit(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    uintptr_t object = (uintptr_t)midden_alloc(LARGE_BYTES);
    assert_true(has_bits(object));
    midden_free((void *)object);
    assert_false(has_bits(object));
    midden_collect();
  }
}

struct visits {
  const struct span *span;
  unsigned count;
};

static void count_visit(const struct span *span, void *argument) {
  struct visits *visits = argument;
  visits->count += span == visits->span;
}

static void is_visited_once(size_t bytes) {
  uintptr_t object = (uintptr_t)midden_alloc(bytes);
  struct visits visits = {.span = object_span(object)};
  slots_visit_spans((object - heap_arena.start) / CHUNK_BYTES, count_visit, &visits);
  assert_int_equal(visits.count, 1);
  midden_free((void *)object);
}

/* However many pages it has. */
static void a_span_is_visited_once(void **state) {
  (void)state;
  is_visited_once(OBJECT_BYTES);
  is_visited_once(WIDE_BYTES);
  is_visited_once(LARGE_BYTES);
}

static void pages_that_are_freed_are_counted(void **state) {
  (void)state;
  fill(LARGE, 1, WIDE_BYTES);
  fill(LARGE, 1, OBJECT_BYTES);
  fill(LARGE, 1, LARGE_BYTES);
  size_t before = in_use_bytes(), freed = central_freed_pages;
  drop_all();
  assert_true(before - in_use_bytes() >= (LARGE - 2) * (WIDE_BYTES + LARGE_BYTES));
  assert_int_equal((central_freed_pages - freed) << PAGE_SHIFT, before - in_use_bytes());
}

/* In spans that were full, and have room since the cycle. */
static void room_is_found_where_there_was_none_for(size_t bytes, size_t count) {
  fill(count, 2, bytes);
  test_collect_clean();
  size_t before = in_use_bytes(), swept = swept_pages(SWEEPER_ALLOCATION);
  fill(count / 2, 1, bytes);
  assert_int_equal(in_use_bytes(), before);
  assert_true(swept_pages(SWEEPER_ALLOCATION) > swept);
  drop_all();
}

static size_t bytes_of_the_widest_spans(void) {
  unsigned widest = 1;
  for (unsigned i = 1; i < SIZE_CLASS_COUNT; i++) {
    if (size_class_pages[i] > size_class_pages[widest]) widest = i;
  }
  return size_class_bytes[widest];
}

static void room_is_found_where_there_was_none(void **state) {
  (void)state;
  room_is_found_where_there_was_none_for(OBJECT_BYTES, 10000);
  room_is_found_where_there_was_none_for(bytes_of_the_widest_spans(), 500);
}

/* Then pages are taken, lest an allocation take too long. */
static void little_is_looked_through_in_vain(void **state) {
  (void)state;
  fill(LIVING, 1, OBJECT_BYTES);
  test_collect_clean();
  size_t most = 0;
  for (size_t i = 0; i < 2000; i++) {
    size_t swept = swept_pages(SWEEPER_ALLOCATION);
    fill(1, 1, OBJECT_BYTES);
    swept = swept_pages(SWEEPER_ALLOCATION) - swept;
    if (swept > most) most = swept;
  }
  assert_in_range(most, 1, SEARCHED_MOST);
  drop_all();
}

static size_t check_list(const struct list *list, bool full) {
  for (const struct link *link = list->first; link != NULL; link = link->next) {
    const struct span *span = CONTAINER_OF(link, struct span, link);
    size_t objects = mark_bits_count(&heap_arena, alloc_side(), span->start, span_bytes(span));
    REQUIRE((objects == span->slot_count) == full, "%zu objects of %u, full: %d", objects, span->slot_count, full);
  }
  return list->count;
}

/* With one slot free, and with none. */
static void a_swept_span_is_listed_by_what_it_holds(void **state) {
  (void)state;
  const struct central *central = central_of(MIDDEN_DATA, size_class_of(OBJECT_BYTES));
  size_t slots = size_class_slots[size_class_of(OBJECT_BYTES)];
  fill(100 * slots, 1, OBJECT_BYTES);
  for (size_t i = 0; i < 50 * slots; i += slots) living[i] = NULL;
  test_collect_clean();
  sweep_finish(mutator_self());
  assert_in_range(check_list(&central->partial[central_swept_side()], false), 48, 52);
  assert_in_range(check_list(&central->full[central_swept_side()], true), 48, 52);
  drop_all();
}

static void *allocate_one(void *unused) {
  REQUIRE(midden_alloc_data(OBJECT_BYTES) != NULL, "out of memory");
  return unused;
}

/* The rest of its span, behind its window. */
static void what_an_ended_thread_leaves_is_used(void **state) {
  (void)state;
  enum { THREADS = 20 };
  size_t before = in_use_bytes();
  for (int i = 0; i < THREADS; i++) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, allocate_one, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
  }
  assert_true(in_use_bytes() - before <= (THREADS / 2 + 2) * PAGE_BYTES);
}

int main(void) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_STW,
                                   .min_heap_bytes = (size_t)256 << 20,
                                   .markers = 1,
                                   .idle_collect_ms = -1,
                                   .background = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  if (guard_active) return TEST_SKIPPED; /* all is swept with the cycle, and objects are larger than they say */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dead_large_objects_are_swept_with_the_cycle),
      cmocka_unit_test(a_large_object_that_is_freed_leaves_no_bit),
      cmocka_unit_test(a_span_is_visited_once),
      cmocka_unit_test(pages_that_are_freed_are_counted),
      cmocka_unit_test(room_is_found_where_there_was_none),
      cmocka_unit_test(little_is_looked_through_in_vain),
      cmocka_unit_test(a_swept_span_is_listed_by_what_it_holds),
      cmocka_unit_test(what_an_ended_thread_leaves_is_used),
  };
  return test_run_group(tests);
}
