/* The arena: reservation and its fallbacks, growth of pages and tables, limits, lookups of any address, and no memory
 * at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/bits.h"
#include "meta/persist.h"
#include "os/os.h"
#include "page/arena.h"
#include "support/heap_test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static void pages_and_tables_are_zero_and_writable_as_they_grow(void **state) {
  (void)state;
  struct arena arena;
  assert_int_equal(arena_init(&arena, GIB), 0);
  assert_int_equal(arena.end - arena.start, GIB);
  assert_true(is_aligned(arena.start, 4 * MIB));
  assert_int_equal(arena.used, arena.start);
  uintptr_t expected = arena.start;
  for (size_t i = 1; i <= 40; i++) {
    size_t bytes = i * 3 * PAGE_BYTES;
    uintptr_t start = arena_grow_locked(&arena, bytes);
    assert_int_equal(start, expected);
    expected += bytes;
    assert_int_equal(arena.used, expected);
    for (uintptr_t page = start; page < expected; page += PAGE_BYTES) {
      size_t number = arena_page_of(&arena, page);
      unsigned char *memory = (unsigned char *)page;
      assert_true(memory[0] == 0 && memory[PAGE_BYTES - 1] == 0);
      memory[0] = memory[PAGE_BYTES - 1] = 1;
      assert_null(arena.spans[number]);
      assert_int_equal(arena.page_info[number], 0);
      assert_int_equal(arena.residency[number], PAGE_FRESH);
      assert_int_equal(arena.mark_bits[1][number * 8 + 7], 0);
      arena.page_info[number] = 1;
      arena.mark_bits[0][number * 8] = arena.mark_bits[1][number * 8 + 7] = 1;
    }
  }
  arena_destroy(&arena);
}

static size_t played_huge_bytes; /* 0: what the system has */

size_t __real_os_huge_page_bytes(void);
size_t __wrap_os_huge_page_bytes(void);
size_t __wrap_os_huge_page_bytes(void) {
  return played_huge_bytes != 0 ? played_huge_bytes : __real_os_huge_page_bytes();
}

/* Where small pages have 16 or 64 KiB. */
static void no_table_grows_by_huge_pages_of_other_sizes(void **state) {
  (void)state;
  for (played_huge_bytes = 32 * MIB; played_huge_bytes <= 512 * MIB; played_huge_bytes *= 16) {
    struct arena arena;
    assert_int_equal(arena_init(&arena, 64 * GIB), 0);
    arena.huge_pages = true;
    assert_true(arena_grow_locked(&arena, 512 * MIB) != 0);
    for (size_t i = 0; i < ARENA_FIRST_OPTIONAL; i++) {
      const struct arena_table *table = &arena.tables[i];
      size_t need_bytes = (arena.used - arena.start) * table->entry_bytes >> table->entry_shift;
      assert_in_range(table->committed_bytes, need_bytes, need_bytes + MIB);
    }
    assert_false(arena_chunk_is_huge(&arena, 100));
    arena_destroy(&arena);
  }
  played_huge_bytes = 0;
}

/* So that no huge page of theirs can be touched in part only; as little of it as there is, where all is reserved. */
static void large_tables_grow_by_whole_huge_pages(void **state) {
  (void)state;
  size_t huge_bytes = arena_huge_page_bytes();
  if (huge_bytes == 0) skip();
  struct arena arena;
  assert_int_equal(arena_init(&arena, GIB), 0);
  arena.huge_pages = true;
  while (arena.end - arena.used > 5 * MIB) {
    assert_true(arena_grow_locked(&arena, 5 * MIB) != 0);
    for (size_t i = 0; i < ARENA_FIRST_OPTIONAL; i++) {
      const struct arena_table *table = &arena.tables[i];
      size_t need_bytes = (arena.used - arena.start) * table->entry_bytes >> table->entry_shift;
      assert_true(table->committed_bytes >= need_bytes);
      if (need_bytes > 2 * MIB) assert_true(is_aligned((uintptr_t)table->base + table->committed_bytes, huge_bytes));
    }
  }
  assert_true(arena_grow_locked(&arena, arena.end - arena.used) != 0);
  arena_destroy(&arena);
}

static void limits_are_kept_to_the_byte(void **state) {
  (void)state;
  struct arena arena;
  assert_int_equal(arena_init_fake(&arena, 4 * MIB, 16 * MIB), 0);
  assert_int_equal(arena_grow_locked(&arena, 16 * MIB + PAGE_BYTES), 0);
  atomic_store_relaxed(&arena.limit_bytes, 3 * MIB);
  assert_int_equal(arena_grow_locked(&arena, 3 * MIB + PAGE_BYTES), 0);
  assert_int_equal(arena_grow_locked(&arena, 2 * MIB), 4 * MIB);
  assert_int_equal(arena_grow_locked(&arena, MIB + PAGE_BYTES), 0);
  assert_int_equal(arena_grow_locked(&arena, MIB), 6 * MIB);
  assert_int_equal(arena_grow_locked(&arena, PAGE_BYTES), 0);
  atomic_store_relaxed(&arena.limit_bytes, MIB); /* lowered below what is used: no growth, no loss */
  assert_int_equal(arena_grow_locked(&arena, PAGE_BYTES), 0);
  atomic_store_relaxed(&arena.limit_bytes, SIZE_MAX);
  assert_int_equal(arena_grow_locked(&arena, 13 * MIB), 7 * MIB);
  assert_int_equal(arena_grow_locked(&arena, PAGE_BYTES), 0);
  assert_int_equal(arena.used, arena.end);
  arena_destroy(&arena);
}

static void without_memory_growth_fails_and_may_be_tried_again(void **state) {
  (void)state;
  for (uint32_t nth = 1; nth <= ARENA_FIRST_OPTIONAL + 1; nth++) {
    struct arena arena;
    size_t charged = persist_bytes(PERSIST_TABLE);
    assert_int_equal(arena_init(&arena, 64 * MIB), 0);
    os_fail_after(nth, false);
    assert_int_equal(arena_grow_locked(&arena, MIB), 0);
    os_fail_after(0, false);
    assert_int_equal(arena.used, arena.start);
    uintptr_t start = arena_grow_locked(&arena, MIB);
    assert_int_equal(start, arena.start);
    memset((void *)start, 1, MIB);
    assert_true(persist_bytes(PERSIST_TABLE) > charged);
    arena_destroy(&arena);
    assert_int_equal(persist_bytes(PERSIST_TABLE), charged);
  }
}

static void a_reservation_is_halved_until_the_system_agrees(void **state) {
  (void)state;
  struct arena arena;
  for (uint32_t nth = 1; nth <= ARENA_FIRST_OPTIONAL + 1; nth++) { /* the pages or one of the tables is refused */
    os_fail_after(nth, false);
    int error = arena_init(&arena, 256 * MIB);
    os_fail_after(0, false);
    assert_int_equal(error, 0);
    assert_int_equal(arena.end - arena.start, 128 * MIB);
    assert_int_equal(arena_grow_locked(&arena, MIB), arena.start);
    arena_destroy(&arena);
  }
  os_fail_after(1, true);
  int error = arena_init(&arena, GIB);
  os_fail_after(0, false);
  assert_int_equal(error, -ENOMEM);
  assert_false(arena_contains(&arena, 0));
  assert_null(arena_span_of(&arena, 0));
}

static int init_with_little_address_space(void *argument) {
  (void)argument;
  struct rlimit limit = {GIB + GIB / 4, GIB + GIB / 4};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 1;
  struct arena arena;
  if (arena_init(&arena, (size_t)64 << 30) != 0) return 2;
  size_t bytes = arena.end - arena.start;
  if (bytes < 64 * MIB || bytes > GIB / 2) return 3;
  void *rest = malloc(128 * MIB); /* the program can still map something itself */
  if (rest == NULL) return 4;
  free(rest);
  return arena_grow_locked(&arena, 32 * MIB) != 0 ? 0 : 5;
}

/* Room for a small heap alone. */
static int init_with_hardly_any(void *argument) {
  (void)argument;
  struct rlimit limit = {64 * (size_t)GIB, RLIM_INFINITY};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 1;
  limit.rlim_cur -= os_address_space_left_bytes() - 36 * MIB;
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
  struct arena arena;
  if (arena_init(&arena, (size_t)64 << 30) != 0) return 3;
  return arena_grow_locked(&arena, 12 * MIB) != 0 ? 0 : 4;
}

static void little_address_space_is_shared_with_the_program(void **state) {
  (void)state;
  if (UNDER_SANITIZER) skip();
  test_child_succeeds("arena under RLIMIT_AS", init_with_little_address_space, NULL, 10);
  test_child_succeeds("arena where 36 MiB are left", init_with_hardly_any, NULL, 10);
}

/* A span that the table names for its pages, as the page heap would have written it. */
static struct span *place_span(struct arena *arena, struct span *span, size_t first, size_t count,
                               enum span_state state) {
  *span = (struct span){0};
  span_set_range(span, arena->start + first * PAGE_BYTES, count);
  span_set_state(span, SPAN_FREE);
  if (state != SPAN_FREE) span_set_state(span, state);
  for (size_t i = 0; i < count; i++) arena->spans[first + i] = span;
  return span;
}

static void check_lookups(uintptr_t start) {
  struct arena arena;
  struct span used, stack, free_span, last;
  assert_int_equal(arena_init_fake(&arena, start, 8 * MIB), 0);
  assert_null(arena_span_of(&arena, start));
  assert_int_equal(arena_grow_locked(&arena, 64 * PAGE_BYTES), start);
  place_span(&arena, &used, 1, 3, SPAN_IN_USE);
  place_span(&arena, &stack, 4, 2, SPAN_STACK);
  place_span(&arena, &free_span, 6, 4, SPAN_FREE);
  place_span(&arena, &last, 10, 2, SPAN_IN_USE);
  arena.spans[12] = &last; /* stale: the span was longer once */
  arena.spans[20] = &used; /* stale: the span is elsewhere */

  assert_ptr_equal(arena_span_of(&arena, used.start), &used);
  assert_ptr_equal(arena_span_of(&arena, used.start + 12345), &used);
  assert_ptr_equal(arena_span_of(&arena, span_end(&used) - 1), &used);
  assert_ptr_equal(arena_span_of(&arena, span_end(&used)), &stack);
  assert_null(arena_span_of(&arena, used.start - 1)); /* no span there */
  assert_null(arena_span_of(&arena, free_span.start));
  assert_ptr_equal(arena_span_of(&arena, span_end(&last) - 1), &last);
  assert_null(arena_span_of(&arena, span_end(&last)));
  assert_null(arena_span_of(&arena, start + 20 * PAGE_BYTES));
  assert_null(arena_span_of(&arena, start - 1));
  assert_null(arena_span_of(&arena, arena.used));
  assert_null(arena_span_of(&arena, arena.end));
  assert_null(arena_span_of(&arena, 0));
  assert_null(arena_span_of(&arena, UINTPTR_MAX));
  assert_true(arena_contains(&arena, arena.used - 1));
  assert_false(arena_contains(&arena, arena.used));
  arena_destroy(&arena);
}

static void every_address_whatsoever_may_be_looked_up(void **state) {
  (void)state;
  check_lookups(4 * MIB);
  check_lookups((uintptr_t)0x7f1234c00000);
  check_lookups(((uintptr_t)1 << 47) - 8 * MIB);
}

int main(void) {
  os_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pages_and_tables_are_zero_and_writable_as_they_grow),
      cmocka_unit_test(large_tables_grow_by_whole_huge_pages),
      cmocka_unit_test(no_table_grows_by_huge_pages_of_other_sizes),
      cmocka_unit_test(limits_are_kept_to_the_byte),
      cmocka_unit_test(without_memory_growth_fails_and_may_be_tried_again),
      cmocka_unit_test(a_reservation_is_halved_until_the_system_agrees),
      cmocka_unit_test(little_address_space_is_shared_with_the_program),
      cmocka_unit_test(every_address_whatsoever_may_be_looked_up),
  };
  return test_run_group(tests);
}
