/* The pool of work buffers, without a heap: each buffer has one owner at any time, what it holds comes with it, and the counts
 * are right when nobody is at it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/atomic.h"
#include "gc/work.h"
#include "os/os.h"
#include "support/heap_test.h"

enum { THREADS = 4, STEPS = 500000, HELD_MOST = 12, BUFFERS_MOST = 64 };

/* Who has a buffer notes it in its last item, and finds it as it was. */
static void own(struct work_buffer *buffer, uintptr_t before, uintptr_t owner) {
  uintptr_t seen = before;
  REQUIRE(atomic_cas_relaxed(&buffer->items[WORK_ITEMS - 1], &seen, owner), "a buffer of %zu was had by %zu",
          (size_t)before, (size_t)seen);
}

/* So many that it joins no other. */
enum { FILLED_LEAST = WORK_ITEMS / 2, MARKED = 8 };

static void fill(struct work_buffer *buffer, struct rng *rng) {
  buffer->count = FILLED_LEAST + rng_below(rng, MARKED);
  for (size_t i = 0; i < MARKED; i++) buffer->items[i] = (uintptr_t)buffer + i;
}

static void check(const struct work_buffer *buffer) {
  REQUIRE(buffer->count >= FILLED_LEAST && buffer->count < FILLED_LEAST + MARKED, "%zu items", buffer->count);
  for (size_t i = 0; i < MARKED; i++) REQUIRE(buffer->items[i] == (uintptr_t)buffer + i, "item %zu is another's", i);
}

static struct { size_t published, taken; /* atomic */ } counts;

static void publish(struct work_buffer *buffer, uintptr_t self, struct rng *rng) {
  fill(buffer, rng);
  own(buffer, self, 0);
  work_publish(buffer);
  atomic_add_relaxed(&counts.published, (size_t)1);
}

static void take(uintptr_t self) {
  struct work_buffer *buffer = work_take();
  if (buffer == NULL) return;
  own(buffer, 0, self);
  check(buffer);
  own(buffer, self, 0);
  work_put_empty(buffer);
  atomic_add_relaxed(&counts.taken, (size_t)1);
}

static void *share(void *argument) {
  uintptr_t self = (uintptr_t)argument;
  struct rng rng = {test_seed_value + self};
  struct work_buffer *held[HELD_MOST];
  size_t count = 0;
  for (unsigned step = 0; step < STEPS; step++) {
    if (count < HELD_MOST && rng_one_in(&rng, 2)) {
      struct work_buffer *buffer = work_get_empty();
      if (buffer == NULL) continue;
      own(buffer, 0, self);
      held[count++] = buffer;
    } else if (count > 0 && rng_one_in(&rng, 2)) {
      publish(held[--count], self, &rng);
    } else {
      take(self);
    }
  }
  while (count > 0) publish(held[--count], self, &rng);
  return NULL;
}

static size_t count_full(void) {
  size_t count = 0;
  for (struct work_buffer *buffer; (buffer = work_take()) != NULL; count++) {
    check(buffer);
    work_put_empty(buffer);
  }
  return count;
}

static size_t count_empty(void) {
  struct work_buffer *list = NULL;
  size_t count = 0;
  for (struct work_buffer *buffer; (buffer = work_get_empty()) != NULL; count++) {
    atomic_store_relaxed(&buffer->next, list);
    list = buffer;
  }
  while (list != NULL) {
    struct work_buffer *next = list->next;
    work_put_empty(list);
    list = next;
  }
  return count;
}

static void no_buffer_is_lost_or_had_twice(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  work_limit_buffers(BUFFERS_MOST);
  assert_int_equal(work_init(), 0);
  for (uintptr_t i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, share, (void *)(i + 1)), 0);
  for (unsigned i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_true(counts.published > STEPS / 4);
  assert_int_equal(counts.taken + count_full(), counts.published);
  assert_false(work_is_available());
  assert_int_equal(count_empty(), BUFFERS_MOST);
}

static void without_buffers_there_is_none(void **state) {
  (void)state;
  struct work_buffer *all[BUFFERS_MOST + 1];
  size_t count = 0;
  while (count <= BUFFERS_MOST && (all[count] = work_get_empty()) != NULL) count++;
  assert_int_equal(count, BUFFERS_MOST);
  work_keep_reserve();
  assert_null(work_get_empty());
  while (count > 0) work_put_empty(all[--count]);
  assert_non_null(all[0] = work_get_empty());
  work_put_empty(all[0]);
}

/* Threads that make a single object grey at a time took a buffer of 8 KiB for each. */
static void few_items_share_a_buffer(void **state) {
  (void)state;
  enum { ITEMS = BUFFERS_MOST * WORK_ITEMS / 2 };
  static bool is_there[ITEMS];
  for (size_t i = 0; i < ITEMS; i++) {
    struct work_buffer *buffer = work_get_empty();
    assert_non_null(buffer);
    buffer->items[buffer->count++] = i;
    work_publish(buffer);
  }
  size_t found = 0;
  for (struct work_buffer *buffer; (buffer = work_take()) != NULL; work_put_empty(buffer)) {
    for (size_t i = 0; i < buffer->count; i++, found++) {
      assert_false(is_there[buffer->items[i]]);
      is_there[buffer->items[i]] = true;
    }
  }
  assert_int_equal(found, ITEMS);
}

/* What found no buffer is scanned again, all between the lowest and the highest of it. */
static void an_overflow_is_a_range_that_is_taken_once(void **state) {
  static const uintptr_t objects[] = {3000, 1000, 5000, 2000};
  (void)state;
  uintptr_t low, high;
  assert_false(work_take_overflow(&low, &high));
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) work_overflow(objects[i]);
  assert_true(work_has_overflowed());
  assert_true(work_take_overflow(&low, &high));
  assert_int_equal(low, 1000);
  assert_int_equal(high, 5000);
  assert_false(work_has_overflowed() || work_take_overflow(&low, &high));
  work_overflow(7000);
  assert_true(work_take_overflow(&low, &high));
  assert_int_equal(low, 7000);
  assert_int_equal(high, 7000);
}

static void it_is_forgotten_with_a_cycle(void **state) {
  (void)state;
  work_overflow(1000);
  work_forget();
  assert_false(work_has_overflowed());
}

/* Who waits is given work by others, and when all do marking is over. */
static void who_has_taken_work_waits_no_more(void **state) {
  (void)state;
  struct work_buffer *buffer = work_get_empty();
  assert_non_null(buffer);
  buffer->items[buffer->count++] = 1;
  work_begin();
  work_join();
  work_publish(buffer);
  assert_ptr_equal(work_take_or_finish(), buffer);
  assert_false(work_is_wanted());
  work_put_empty(buffer);
  assert_null(work_take_or_finish());
  assert_true(work_is_wanted());
}

int main(void) {
  test_start("unit/work");
  os_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_buffer_is_lost_or_had_twice), cmocka_unit_test(without_buffers_there_is_none),
      cmocka_unit_test(few_items_share_a_buffer),       cmocka_unit_test(an_overflow_is_a_range_that_is_taken_once),
      cmocka_unit_test(it_is_forgotten_with_a_cycle),   cmocka_unit_test(who_has_taken_work_waits_no_more)};
  return test_run_group(tests);
}
