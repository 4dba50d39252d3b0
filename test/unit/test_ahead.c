/* Memory ahead of the program: how much is wanted, and that it is there until the heap has grown to its goal, and beyond; and its
 * tables. */
#define _GNU_SOURCE
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "gc/ahead.h"
#include "gc/scavenger.h"
#include "mutator/mutator.h"
#include "os/os.h"
#include "page/pageheap.h"
#include "support/heap_test.h"

enum { LIVE_BLOCKS = 128, MORE_BLOCKS = 160, PATIENCE_MS = 20000 };
#define MIB ((size_t)1 << 20)
#define BLOCK_BYTES MIB

static void a_quarter_of_what_is_left_is_wanted(void **state) {
  (void)state;
  assert_int_equal(ahead_wanted_bytes(SIZE_MAX, 1000 * MIB), 0);
  assert_int_equal(ahead_wanted_bytes(1120 * MIB, 1000 * MIB), 30 * MIB);
  assert_int_equal(ahead_wanted_bytes(2000 * MIB, 100 * MIB), 2000 * MIB / 32);
  assert_int_equal(ahead_wanted_bytes(1200 * MIB, 100 * MIB), AHEAD_MOST_BYTES);
  assert_int_equal(ahead_wanted_bytes(8 * MIB, 4 * MIB), MIB);
}

static void a_large_heap_has_a_few_chunks_ready_near_its_goal(void **state) {
  (void)state;
  assert_int_equal(ahead_wanted_bytes(1000 * MIB, 999 * MIB), 8 * CHUNK_BYTES);
  assert_int_equal(ahead_wanted_bytes(1000 * MIB, 1100 * MIB), 8 * CHUNK_BYTES);
  assert_int_equal(ahead_wanted_bytes(130 * MIB, 130 * MIB), 2 * CHUNK_BYTES);
  assert_int_equal(ahead_wanted_bytes(63 * MIB, 63 * MIB), 0);
}

static void *volatile blocks[LIVE_BLOCKS + MORE_BLOCKS]; /* static data: a root */

static NOINLINE_TEST void allocate(unsigned from, unsigned to) {
  for (unsigned i = from; i < to; i++) REQUIRE((blocks[i] = midden_alloc_data(BLOCK_BYTES)) != NULL, "out of memory");
}

static size_t ready_bytes(void) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  return pageheap_stats_idle_resident(&pages);
}

/* It would be called at each allocation of a span. */
static void a_small_heap_does_not_call(void **state) {
  (void)state;
  struct pageheap_stats pages;
  midden_collect();
  pageheap_read_stats(&heap_pages, &pages);
  size_t wanted = ahead_wanted_bytes(atomic_load_relaxed(&heap_scavenger.need_bytes), pages.in_use_bytes);
  REQUIRE(wanted != 0 && wanted < CHUNK_BYTES, "%zu bytes are wanted", wanted);
  assert_true(ahead_task(mutator_self(), os_now_ns()) == UINT64_MAX);
  assert_int_equal(atomic_load_relaxed(&heap_pages.low_bytes), 0);
}

/* No cycle runs meanwhile, so that the need stays what it was. */
static void growth_past_the_goal_finds_memory_ready(void **state) {
  (void)state;
  allocate(0, LIVE_BLOCKS);
  midden_collect();
  size_t goal_bytes = test_stats().heap_goal;
  REQUIRE(goal_bytes < (LIVE_BLOCKS + MORE_BLOCKS - 8) * BLOCK_BYTES, "a goal of %zu bytes", goal_bytes);
  midden_disable();
  for (unsigned i = LIVE_BLOCKS; i < LIVE_BLOCKS + MORE_BLOCKS; i++) {
    allocate(i, i + 1);
    for (unsigned ms = 0; ms < PATIENCE_MS && ready_bytes() < CHUNK_BYTES; ms++) test_sleep_ms(1);
    REQUIRE(ready_bytes() >= CHUNK_BYTES, "%zu bytes are ready with %u blocks of a goal of %zu bytes", ready_bytes(),
            i + 1, goal_bytes);
  }
  midden_enable();
}

/* ---- a fork while a chunk is being made ready ---- */

static struct {
  bool waits; /* atomic; the next one */
  sem_t reached, goes_on;
} chunk;

void __real_os_populate(void *start, size_t bytes);
void __wrap_os_populate(void *start, size_t bytes);

void __wrap_os_populate(void *start, size_t bytes) {
  bool waits = true;
  if (bytes == CHUNK_BYTES && atomic_cas_acq_rel(&chunk.waits, &waits, false)) {
    sem_post(&chunk.reached);
    while (sem_wait(&chunk.goes_on) != 0) continue;
  }
  __real_os_populate(start, bytes);
}

static int has_no_stacks(void *unused) {
  (void)unused;
  REQUIRE(midden_alloc(64) != NULL, "out of memory");
  REQUIRE(test_stats().stacks == 0, "%zu bytes belong to nobody", (size_t)test_stats().stacks);
  midden_verify();
  return 0;
}

/* It is nobody's in the child. */
static void a_child_has_the_chunk_that_was_being_made_ready(void **state) {
  (void)state;
  sem_init(&chunk.reached, 0, 0);
  sem_init(&chunk.goes_on, 0, 0);
  allocate(0, LIVE_BLOCKS);
  midden_collect();
  midden_disable();
  atomic_store_release(&chunk.waits, true);
  bool reached = false;
  for (unsigned i = LIVE_BLOCKS; i < LIVE_BLOCKS + MORE_BLOCKS && !reached; i++) {
    allocate(i, i + 1);
    for (unsigned ms = 0; ms < PATIENCE_MS / MORE_BLOCKS && !reached; ms++) {
      reached = sem_trywait(&chunk.reached) == 0;
      if (!reached) test_sleep_ms(1);
    }
  }
  REQUIRE(reached, "nothing was made ready");
  test_child_succeeds("a fork while a chunk was being made ready", has_no_stacks, NULL, PATIENCE_MS / 1000);
  sem_post(&chunk.goes_on);
  midden_enable();
}

static bool is_in_memory(const void *address) {
  unsigned char state = 0;
  uintptr_t page = round_down((uintptr_t)address, os_page_bytes());
  REQUIRE(mincore((void *)page, 1, &state) == 0, "mincore");
  return (state & 1) != 0;
}

/* `bytes` from the frontier on. */
static bool are_in_memory(uintptr_t frontier, size_t bytes) {
  bool all = true;
  for (uintptr_t address = frontier; address < frontier + bytes; address += CHUNK_BYTES) {
    size_t page = arena_page_of(&heap_arena, address);
    all = all && is_in_memory(&heap_arena.spans[page]) && is_in_memory(&heap_arena.page_info[page]) &&
          is_in_memory(&heap_arena.residency[page]) && is_in_memory(arena_chunk_of(&heap_arena, address));
  }
  return all;
}

/* While the background thread is at it the arena may grow. */
static void the_tables_of_the_next_growth_are_in_memory(void **state) {
  (void)state;
  uintptr_t frontier = 0, before;
  size_t bytes;
  do {
    before = frontier;
    (void)ahead_task(mutator_self(), os_now_ns());
    mutator_enter(mutator_self());
    bytes = pageheap_commit_tables(&heap_pages, &frontier); /* committed already */
    mutator_leave(mutator_self());
  } while (frontier != before);
  assert_true(bytes >= 16 * MIB);
  assert_true(are_in_memory(frontier, bytes));
}

/* Nor is the background thread called again and again. */
static void nothing_is_made_ready_beyond_the_limit(void **state) {
  (void)state;
  size_t limit_bytes = pageheap_held_bytes(&heap_pages);
  midden_disable();
  pageheap_set_limit(&heap_pages, limit_bytes);
  for (unsigned i = 0; i < LIVE_BLOCKS && ready_bytes() >= CHUNK_BYTES / 2; i++) allocate(i, i + 1);
  for (unsigned ms = 0; ms < PATIENCE_MS && atomic_load_relaxed(&heap_pages.low_bytes) != 0; ms++) test_sleep_ms(1);
  REQUIRE(atomic_load_relaxed(&heap_pages.low_bytes) == 0, "it is still to be called");
  size_t held_bytes = pageheap_held_bytes(&heap_pages);
  REQUIRE(held_bytes <= limit_bytes + BLOCK_BYTES, "%zu bytes beyond the limit", held_bytes - limit_bytes);
  pageheap_set_limit(&heap_pages, SIZE_MAX);
  midden_enable();
}

int main(void) {
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_BARRIER};
  REQUIRE(midden_init(&options) == 0, "no start");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_quarter_of_what_is_left_is_wanted),
                                     cmocka_unit_test(a_large_heap_has_a_few_chunks_ready_near_its_goal),
                                     cmocka_unit_test(a_small_heap_does_not_call),
                                     cmocka_unit_test(a_child_has_the_chunk_that_was_being_made_ready),
                                     cmocka_unit_test(growth_past_the_goal_finds_memory_ready),
                                     cmocka_unit_test(the_tables_of_the_next_growth_are_in_memory),
                                     cmocka_unit_test(nothing_is_made_ready_beyond_the_limit)};
  return test_run_group(tests);
}
