/* A thread's cache, beside the windows: the slots that the program freed, what is counted and what goes into the account, and what happens
 * where there is no memory for a kind's bins or lists.
 *
 * Linked with --wrap=persist_alloc and --wrap=mark_bits_set_slots. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "meta/persist.h"
#include "mutator/mutator.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 64, OBJECTS = 3000, LARGE_BYTES = 100000, KEPT_BYTES_MOST = 64 << 10 };

/* ---- no memory for metadata ---- */

static size_t granted = SIZE_MAX; /* requests, before the others are refused; atomic */

void *__real_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose);
void *__wrap_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose);

void *__wrap_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose) {
  size_t left = atomic_load_relaxed(&granted);
  if (left == 0) return NULL;
  if (left != SIZE_MAX) atomic_store_relaxed(&granted, left - 1);
  return __real_persist_alloc(bytes, alignment, purpose);
}

/* A kind that nobody has allocated from. */
static midden_kind new_kind(void) {
  struct midden_kind_options options = {.size = sizeof options, .name = "new", .no_pointers = true};
  int kind = midden_kind_new(&options);
  assert_true(kind >= 0);
  return (midden_kind)kind;
}

/* A kind's first object calls for bins, then for lists, then for pages. */
static void without_memory_for_a_kind_there_is_no_object(void **state) {
  (void)state;
  midden_kind kinds[] = {new_kind(), new_kind(), new_kind()};
  const size_t sizes[] = {OBJECT_BYTES, OBJECT_BYTES, LARGE_BYTES}, grants[] = {0, 1, 0};
  for (size_t i = 0; i < TEST_COUNT_OF(kinds); i++) {
    atomic_store_relaxed(&granted, grants[i]);
    void *object = midden_alloc_kind(kinds[i], sizes[i]);
    atomic_store_relaxed(&granted, SIZE_MAX);
    assert_null(object);
    assert_non_null(midden_alloc_kind(kinds[i], sizes[i]));
  }
}

static void *free_without_memory(void *object) {
  midden_thread_attach();
  atomic_store_relaxed(&granted, (size_t)0);
  midden_free(object);
  atomic_store_relaxed(&granted, SIZE_MAX);
  return NULL;
}

/* The thread has no bins of that kind. */
static void an_object_is_freed_without_memory(void **state) {
  (void)state;
  pthread_t thread;
  void *object = midden_alloc_kind(new_kind(), OBJECT_BYTES);
  size_t before = account_live_bytes;
  REQUIRE(pthread_create(&thread, NULL, free_without_memory, object) == 0, "pthread_create");
  pthread_join(thread, NULL);
  assert_false(midden_owns(object));
  assert_int_equal(account_live_bytes,
                   before); /* its slot is not kept, and counts as living until the next collection */
}

/* ---- what the program freed ---- */

static struct cache_bin *bin_of_data(void) {
  return cache_bin_of(&mutator_self()->cache, MIDDEN_DATA, size_class_of(OBJECT_BYTES));
}

static size_t kept_slots(const struct cache_bin *bin) {
  size_t count = 0;
  for (void *slot = bin->freed; slot != NULL; slot = *(void **)slot) count++;
  return count;
}

static size_t account(void) { return account_live_bytes + cache_self->unaccounted_bytes; }

static bool is_zero(const unsigned char *object) {
  for (size_t i = 0; i < OBJECT_BYTES; i++) {
    if (object[i] != 0) return false;
  }
  return true;
}

static unsigned char *objects[OBJECTS]; /* a root */

static void allocate_all(void) {
  for (size_t i = 0; i < OBJECTS; i++) {
    objects[i] = midden_alloc_data(OBJECT_BYTES);
    REQUIRE(objects[i] != NULL && is_zero(objects[i]), "object %zu is not cleared", i);
    memset(objects[i], 0xff, OBJECT_BYTES);
  }
}

static void free_all(void) {
  for (size_t i = 0; i < OBJECTS; i++) {
    midden_free(objects[i]);
    objects[i] = NULL;
  }
}

/* As many slots as a bin keeps; the others wait for a collection, and count as living until then. */
static void freed_slots_are_kept(void **state) {
  (void)state;
  struct cache_bin *bin = bin_of_data();
  allocate_all();
  size_t before = account();
  free_all();
  assert_int_equal(kept_slots(bin) * OBJECT_BYTES, KEPT_BYTES_MOST);
  assert_int_equal(bin->freed_count, kept_slots(bin));
  assert_int_equal(before - account(), KEPT_BYTES_MOST);
}

static void they_come_back_cleared(void **state) {
  (void)state;
  struct cache_bin *bin = bin_of_data();
  allocate_all();
  assert_null(bin->freed);
  assert_int_equal(bin->freed_count, 0);
}

static void a_collection_forgets_them(void **state) {
  (void)state;
  struct cache_bin *bin = bin_of_data();
  free_all();
  assert_non_null(bin->freed);
  midden_alloc_data(2 * OBJECT_BYTES); /* the first of a window */
  assert_int_not_equal(cache_self->unaccounted_bytes, 0);
  midden_collect();
  assert_null(bin->freed);
  assert_int_equal(bin->freed_count, 0);
  assert_int_equal(cache_self->unaccounted_bytes, 0);
}

/* Window after window. */
static void what_was_swept_comes_back_cleared(void **state) {
  (void)state;
  allocate_all();
  free_all();
}

static size_t claimed_slots, stale_slots; /* that had their allocation bits before they were cleared */

void __real_mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                size_t slot_bytes);
void __wrap_mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                size_t slot_bytes);

void __wrap_mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                size_t slot_bytes) {
  for (uintptr_t slot = start; side == alloc_side() && slot_bytes == OBJECT_BYTES && slot < end; slot += slot_bytes) {
    claimed_slots++;
    stale_slots += !is_zero((const unsigned char *)slot);
  }
  __real_mark_bits_set_slots(arena, side, start, end, slot_bytes);
}

/* It would read what the last object has left there. */
static void a_marker_finds_cleared_slots(void **state) {
  (void)state;
  midden_collect();
  claimed_slots = stale_slots = 0;
  atomic_store_relaxed(&span_marking, true);
  allocate_all();
  atomic_store_relaxed(&span_marking, false);
  assert_true(claimed_slots >= OBJECTS);
  assert_int_equal(stale_slots, 0);
  free_all();
}

/* Two threads may free one object at the same time: one of them is told. */
static void a_slot_is_freed_once(void **state) {
  (void)state;
  struct cache *cache = &mutator_self()->cache;
  uintptr_t slot = (uintptr_t)midden_alloc_data(OBJECT_BYTES);
  struct span *span = object_span(slot);
  const uint64_t *freed = &cache->freed.objects[TALLY_DATA][span->size_class];
  uint64_t before = *freed;
  mutator_enter(mutator_self());
  bool is_first = cache_free_slot(cache, span, slot), is_second = cache_free_slot(cache, span, slot);
  mutator_leave(mutator_self());
  assert_true(is_first);
  assert_false(is_second);
  assert_int_equal(*freed, before + 1);
}

/* ---- other threads ---- */

static void *free_and_count(void *object) {
  midden_thread_attach();
  uint64_t before = test_stats().objects_freed_explicitly;
  midden_free(object);
  return (void *)(uintptr_t)(test_stats().objects_freed_explicitly - before);
}

static void a_large_object_that_is_the_first_freed_counts(void **state) {
  (void)state;
  pthread_t thread;
  void *freed;
  REQUIRE(pthread_create(&thread, NULL, free_and_count, midden_alloc(LARGE_BYTES)) == 0, "pthread_create");
  pthread_join(thread, &freed);
  assert_int_equal((uintptr_t)freed, 1);
}

static void *allocate_little(void *unused) {
  for (int i = 0; i < 10; i++) midden_alloc_data(OBJECT_BYTES);
  return unused;
}

static void what_an_ended_thread_allocated_is_in_the_account(void **state) {
  (void)state;
  pthread_t thread;
  size_t before = account_live_bytes;
  REQUIRE(pthread_create(&thread, NULL, allocate_little, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  assert_in_range(account_live_bytes - before, 10 * OBJECT_BYTES, KEPT_BYTES_MOST);
}

/* It has read how many slots were claimed before the first was, and looks at the slot afterwards. */
static void a_reader_that_comes_between_counts_no_tiny_object(void **state) {
  (void)state;
  static NOT_A_ROOT struct cache cache;
  static struct tally allocated;
  uint64_t tiny_allocations = 0;
  cache.version = 2;
  cache.tiny_next = (char *)&cache;
  cache_read_allocated(&cache, &allocated, &tiny_allocations);
  assert_int_equal(tiny_allocations, 0);
}

int main(void) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_STW,
                                   .min_heap_bytes = (size_t)256 << 20,
                                   .markers = 1,
                                   .background = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  if (guard_active) return TEST_SKIPPED; /* freed slots are not kept, and objects are larger than they say */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_memory_for_a_kind_there_is_no_object),
      cmocka_unit_test(an_object_is_freed_without_memory),
      cmocka_unit_test(freed_slots_are_kept),
      cmocka_unit_test(they_come_back_cleared),
      cmocka_unit_test(a_collection_forgets_them),
      cmocka_unit_test(what_was_swept_comes_back_cleared),
      cmocka_unit_test(a_marker_finds_cleared_slots),
      cmocka_unit_test(a_slot_is_freed_once),
      cmocka_unit_test(a_large_object_that_is_the_first_freed_counts),
      cmocka_unit_test(what_an_ended_thread_allocated_is_in_the_account),
      cmocka_unit_test(a_reader_that_comes_between_counts_no_tiny_object),
  };
  return test_run_group(tests);
}
