/* A thread that ends: what it has by pthread_setspecific lives until the program's destructors have had it, in whatever order the
 * C library runs them and its own.
 *
 * The first of two destructors of the program waits until another thread has collected; the value of the second was nowhere
 * else meanwhile.
 *
 * One that ends in a fiber is on its own stack again when the destructors run, and is scanned there.
 *
 * One that ends in a blocking call counts as stopped there.  It leaves its cache alone while the world is. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/mutator.h"
#include "span/guard.h"
#include "support/heap_test.h"

static pthread_key_t first_key, second_key;
static struct midden_weak *weak, *dropped; /* roots */
static sem_t is_ending, has_collected;
static bool was_alive;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue;
}

static void first_ends(void *value) {
  (void)value;
  sem_post(&is_ending);
  await(&has_collected);
}

static void second_ends(void *value) { was_alive = midden_weak_get(weak) == value; }

NOINLINE_TEST static void set_values(void) {
  void *object = midden_alloc(64);
  weak = midden_weak_new(object);
  dropped = midden_weak_new(midden_alloc(64));
  REQUIRE(object != NULL && weak != NULL && dropped != NULL, "out of memory");
  pthread_setspecific(first_key, &is_ending);
  pthread_setspecific(second_key, object);
}

static void *run(void *unused) {
  set_values();
  test_scrub_stack();
  return unused;
}

static void what_destructors_are_given_is_kept(void **state) {
  (void)state;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0, "pthread_create");
  await(&is_ending);
  midden_collect();
  sem_post(&has_collected);
  pthread_join(thread, NULL);
  assert_true(was_alive);
  assert_null(midden_weak_get(dropped));
  assert_int_equal(test_stats().threads, 1);
}

/* ---- in a fiber ---- */

static pthread_key_t early_key; /* its destructor runs before the library's */

static void early_ends(void *value) {
  sem_post(&is_ending);
  await(&has_collected);
  was_alive = midden_weak_get(weak) == value;
}

static void *end_in_fiber(void *unused) {
  (void)unused;
  void *object = midden_alloc(64);
  weak = midden_weak_new(object);
  REQUIRE(object != NULL && weak != NULL, "out of memory");
  pthread_setspecific(early_key, object);
  pthread_exit(NULL);
}

static void *run_fiber(void *unused) {
  midden_fiber_resume(midden_fiber_new(end_in_fiber, NULL, 0), NULL, NULL);
  return unused;
}

static void one_that_ends_in_a_fiber_is_scanned_where_it_is(void **state) {
  (void)state;
  pthread_t thread;
  was_alive = false;
  REQUIRE(pthread_create(&thread, NULL, run_fiber, NULL) == 0, "pthread_create");
  await(&is_ending);
  midden_collect();
  sem_post(&has_collected);
  pthread_join(thread, NULL);
  assert_true(was_alive);
}

/* ---- in a blocking call ---- */

enum { OBJECT_BYTES = 64, TIME_TO_END_US = 100000 };

static sem_t is_blocking, may_end;

static void *end_here(void *unused) {
  (void)unused;
  sem_post(&is_blocking);
  await(&may_end);
  pthread_exit(NULL);
}

static void *run_and_block(void *unused) {
  REQUIRE(midden_alloc(OBJECT_BYTES) != NULL, "out of memory");
  return midden_blocking_call(end_here, unused);
}

static struct cache *other_cache_stw(void) {
  struct mutator *self = mutator_self();
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    if (mutator != self && !mutator->is_own) return &mutator->cache;
  }
  return NULL;
}

static void one_that_ends_while_it_blocks_waits_for_a_stop(void **state) {
  (void)state;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, run_and_block, NULL) == 0, "pthread_create");
  await(&is_blocking);
  midden_world_stop();
  struct cache *cache = other_cache_stw();
  size_t slot_bytes = guard_active ? guard_slot_bytes(MIDDEN_CONSERVATIVE, OBJECT_BYTES) : OBJECT_BYTES;
  struct cache_bin *bin = cache == NULL ? NULL : cache_bin_of(cache, MIDDEN_CONSERVATIVE, size_class_of(slot_bytes));
  bool had_any = bin != NULL && !cache_bin_is_empty(bin); /* a window, or where objects are guarded a span alone */
  sem_post(&may_end);
  usleep(TIME_TO_END_US);
  bool has_any = bin != NULL && !cache_bin_is_empty(bin);
  midden_world_resume();
  pthread_join(thread, NULL);
  assert_true(had_any);
  assert_true(has_any);
  assert_int_equal(test_stats().threads, 1);
  midden_verify();
}

int main(void) {
  struct midden_options options = {.size = sizeof(options), .background = -1, .idle_collect_ms = -1};
  REQUIRE(pthread_key_create(&early_key, early_ends) == 0, "pthread_key_create");
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  sem_init(&is_ending, 0, 0);
  sem_init(&has_collected, 0, 0);
  sem_init(&is_blocking, 0, 0);
  sem_init(&may_end, 0, 0);
  REQUIRE(pthread_key_create(&first_key, first_ends) == 0 && pthread_key_create(&second_key, second_ends) == 0,
          "pthread_key_create");
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_destructors_are_given_is_kept),
                                     cmocka_unit_test(one_that_ends_in_a_fiber_is_scanned_where_it_is),
                                     cmocka_unit_test(one_that_ends_while_it_blocks_waits_for_a_stop)};
  return test_run_group(tests);
}
