/* A thread that ends: what it has by pthread_setspecific lives until the program's destructors have had it, in whatever order the
 * C library runs them and its own.
 *
 * The first of two destructors of the program waits until another thread has collected; the value of the second was nowhere
 * else meanwhile. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int main(void) {
  struct midden_options options = {.size = sizeof(options), .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  sem_init(&is_ending, 0, 0);
  sem_init(&has_collected, 0, 0);
  REQUIRE(pthread_key_create(&first_key, first_ends) == 0 && pthread_key_create(&second_key, second_ends) == 0,
          "pthread_key_create");
  alarm(60);
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_destructors_are_given_is_kept)};
  return test_run_group(tests);
}
