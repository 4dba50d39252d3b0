/* Persistent memory and the fixed-size allocator: alignment, zeroing, reuse, accounting, and what happens without
 * memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "meta/fixalloc.h"
#include "meta/persist.h"
#include "os/os.h"
#include "support/heap_test.h"

enum { BLOCKS = 2000 };

static bool is_filled_with(const void *memory, size_t bytes, unsigned char value) {
  const unsigned char *byte = memory;
  for (size_t i = 0; i < bytes; i++) {
    if (byte[i] != value) return false;
  }
  return true;
}

static void persistent_memory_is_zeroed_aligned_and_apart(void **state) {
  (void)state;
  static unsigned char *memory[300];
  static size_t sizes[300];
  struct rng rng = {1};
  for (size_t i = 0; i < COUNT_OF(memory); i++) {
    size_t alignment = (size_t)1 << rng_below(&rng, 13);
    sizes[i] = rng_size(&rng, 200 << 10);
    memory[i] = persist_alloc(sizes[i], alignment, PERSIST_OTHER);
    assert_non_null(memory[i]);
    assert_true(is_aligned((uintptr_t)memory[i], alignment));
    assert_true(is_filled_with(memory[i], sizes[i], 0));
    memset(memory[i], (int)(i % 255) + 1, sizes[i]);
  }
  for (size_t i = 0; i < COUNT_OF(memory); i++) {
    assert_true(is_filled_with(memory[i], sizes[i], (unsigned char)(i % 255 + 1)));
  }
}

static void persistent_memory_is_charged_to_its_purpose(void **state) {
  (void)state;
  size_t special = persist_bytes(PERSIST_SPECIAL), mark = persist_bytes(PERSIST_MARK);
  assert_non_null(persist_alloc(48, 16, PERSIST_SPECIAL));
  assert_int_equal(persist_bytes(PERSIST_SPECIAL), special + 48);
  assert_int_equal(persist_bytes(PERSIST_MARK), mark);
  size_t big = ((size_t)1 << 20) + 1;
  assert_non_null(persist_alloc(big, 16, PERSIST_MARK));
  assert_int_equal(persist_bytes(PERSIST_MARK), mark + round_up(big, os_page_bytes()));
  persist_charge(PERSIST_MARK, 100);
  persist_charge(PERSIST_MARK, -100 - (ptrdiff_t)round_up(big, os_page_bytes()));
  assert_int_equal(persist_bytes(PERSIST_MARK), mark);
}

static void persistent_memory_fails_without_charging(void **state) {
  (void)state;
  size_t before = persist_bytes(PERSIST_MARK);
  os_fail_after(1, true);
  void *big = persist_alloc((size_t)1 << 20, 16, PERSIST_MARK);
  size_t small_count = 0;
  while (small_count < 1000 && persist_alloc(16 << 10, 16, PERSIST_OTHER) != NULL) small_count++;
  os_fail_after(0, false);
  assert_null(big);
  assert_true(small_count < 1000); /* what is left of the chunk may be handed out, no more */
  assert_int_equal(persist_bytes(PERSIST_MARK), before);
  assert_null(persist_alloc(SIZE_MAX - 100, 16, PERSIST_MARK));
  assert_non_null(persist_alloc(16 << 10, 16, PERSIST_OTHER));
}

/* Blocks of 16 KiB until there is none. */
static size_t count_blocks_left(void) {
  size_t count = 0;
  os_fail_after(1, true);
  while (persist_alloc(16 << 10, 16, PERSIST_OTHER) != NULL) count++;
  os_fail_after(0, false);
  return count;
}

enum { HELD_BYTES = 8 << 20, SMALL_CHUNK_BLOCKS = 256 / 16 };

/* The first block of a new chunk.  Chunks grow with what there is; here the system has no room for a large one. */
static void begin_small_chunk(void) {
  persist_charge(PERSIST_OTHER, HELD_BYTES);
  count_blocks_left();
  os_fail_after(1, false);
  assert_non_null(persist_alloc(16 << 10, 16, PERSIST_OTHER));
  persist_charge(PERSIST_OTHER, -HELD_BYTES);
}

static void a_smaller_chunk_does_where_there_is_no_larger_one(void **state) {
  (void)state;
  begin_small_chunk();
  assert_int_equal(count_blocks_left(), SMALL_CHUNK_BLOCKS - 1);
}

static void what_alignment_skips_is_not_there(void **state) {
  (void)state;
  begin_small_chunk();
  for (int i = 0; i < SMALL_CHUNK_BLOCKS - 2; i++) assert_non_null(persist_alloc(16 << 10, 16, PERSIST_OTHER));
  assert_non_null(persist_alloc((16 << 10) - 128, 16, PERSIST_OTHER)); /* 128 bytes are left */
  os_fail_after(1, true);
  void *beyond = persist_alloc(64, os_page_bytes(), PERSIST_OTHER);
  os_fail_after(0, false);
  assert_null(beyond);
}

static void check_fresh_blocks(size_t block_bytes) {
  static unsigned char *blocks[BLOCKS];
  struct fixalloc allocator;
  fixalloc_init(&allocator, block_bytes, false, PERSIST_OTHER);
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = fixalloc_alloc(&allocator);
    assert_non_null(blocks[i]);
    assert_true(is_aligned((uintptr_t)blocks[i], block_bytes > 2 * CACHE_LINE_BYTES ? CACHE_LINE_BYTES : 16));
    assert_true(is_filled_with(blocks[i], block_bytes, 0));
    memset(blocks[i], (int)(i % 255) + 1, block_bytes);
  }
  assert_int_equal(allocator.in_use_count, BLOCKS);
  for (size_t i = 0; i < BLOCKS; i++) {
    assert_true(is_filled_with(blocks[i], block_bytes, (unsigned char)(i % 255 + 1)));
  }
}

static void blocks_are_aligned_zeroed_and_apart(void **state) {
  (void)state;
  check_fresh_blocks(16);
  check_fresh_blocks(72);
  check_fresh_blocks(2 * CACHE_LINE_BYTES + 16);
  check_fresh_blocks(20 << 10); /* larger than a chunk */
}

static void reuse_keeps_all_but_the_link_unless_zeroing_is_asked_for(void **state) {
  (void)state;
  for (int zero = 0; zero <= 1; zero++) {
    struct fixalloc allocator;
    fixalloc_init(&allocator, 64, zero != 0, PERSIST_OTHER);
    unsigned char *block = fixalloc_alloc(&allocator);
    memset(block, 0xaa, 64);
    fixalloc_free(&allocator, block);
    assert_true(is_filled_with(block + sizeof(void *), 64 - sizeof(void *), 0xaa)); /* readable while free */
    assert_ptr_equal(fixalloc_alloc(&allocator), block);
    assert_true(is_filled_with(block + sizeof(void *), 64 - sizeof(void *), zero != 0 ? 0 : 0xaa));
    if (zero != 0) assert_true(is_filled_with(block, 64, 0));
  }
}

/* Blocks carry a mark of their own; a block handed out twice would lose it. */
static void random_reuse_never_hands_out_a_block_twice(void **state) {
  (void)state;
  struct rng rng = test_start("test_fixalloc");
  static uint64_t *live[BLOCKS];
  struct fixalloc allocator;
  size_t count = 0;
  size_t charged = persist_bytes(PERSIST_SPECIAL);
  fixalloc_init(&allocator, 24, false, PERSIST_SPECIAL);
  for (size_t step = 0; step < 200000; step++) {
    size_t i = rng_below(&rng, BLOCKS);
    if (live[i] == NULL) {
      live[i] = fixalloc_alloc(&allocator);
      assert_non_null(live[i]);
      live[i][0] = live[i][2] = i;
      count++;
    } else {
      assert_true(live[i][0] == i && live[i][2] == i);
      fixalloc_free(&allocator, live[i]);
      live[i] = NULL;
      count--;
    }
    assert_int_equal(allocator.in_use_count, count);
  }
  size_t held = persist_bytes(PERSIST_SPECIAL) - charged;
  assert_true(held >= count * 32 && held <= BLOCKS * 32 + (16 << 10)); /* freed blocks were used again */
}

static void without_memory_nothing_is_lost(void **state) {
  (void)state;
  static void *blocks[BLOCKS];
  struct fixalloc allocator;
  fixalloc_init(&allocator, 8 << 10, false, PERSIST_OTHER);
  os_fail_after(1, true);
  size_t count = 0;
  while (count < BLOCKS && (blocks[count] = fixalloc_alloc(&allocator)) != NULL) count++;
  assert_true(count < BLOCKS);
  assert_int_equal(allocator.in_use_count, count);
  for (size_t i = 0; i < count; i++) fixalloc_free(&allocator, blocks[i]);
  for (size_t i = 0; i < count; i++) assert_non_null(fixalloc_alloc(&allocator)); /* the free list needs no memory */
  assert_null(fixalloc_alloc(&allocator));
  os_fail_after(0, false);
  assert_non_null(fixalloc_alloc(&allocator));
}

static int free_twice(void *argument) {
  (void)argument;
  struct fixalloc allocator;
  fixalloc_init(&allocator, 64, false, PERSIST_OTHER);
  void *other = fixalloc_alloc(&allocator), *block = fixalloc_alloc(&allocator);
  (void)other;
  fixalloc_free(&allocator, block);
  fixalloc_free(&allocator, block);
  return 0;
}

static int free_a_stranger(void *argument) {
  (void)argument;
  struct fixalloc allocator;
  fixalloc_init(&allocator, 64, false, PERSIST_OTHER);
  char *block = fixalloc_alloc(&allocator);
  fixalloc_free(&allocator, block + 8);
  return 0;
}

static void misuse_stops_the_process(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(free_twice, NULL, 10);
  assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT);
  assert_non_null(strstr(outcome.message, "freed twice"));
  outcome = test_child(free_a_stranger, NULL, 10);
  assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT);
  assert_non_null(strstr(outcome.message, "is not a block"));
}

int main(void) {
  os_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(persistent_memory_is_zeroed_aligned_and_apart),
      cmocka_unit_test(persistent_memory_is_charged_to_its_purpose),
      cmocka_unit_test(persistent_memory_fails_without_charging),
      cmocka_unit_test(a_smaller_chunk_does_where_there_is_no_larger_one),
      cmocka_unit_test(what_alignment_skips_is_not_there),
      cmocka_unit_test(blocks_are_aligned_zeroed_and_apart),
      cmocka_unit_test(reuse_keeps_all_but_the_link_unless_zeroing_is_asked_for),
      cmocka_unit_test(random_reuse_never_hands_out_a_block_twice),
      cmocka_unit_test(without_memory_nothing_is_lost),
      cmocka_unit_test(misuse_stops_the_process),
  };
  return test_run_group(tests);
}
