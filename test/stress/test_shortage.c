/* Many threads in a heap that may not grow, of which most is garbage: no small allocation fails, nor does a large one where all are
 * of one size.  What a collection had freed was gone before the thread that had waited for it had its turn, and after two collections
 * it was told that there was no memory.  Where cycles run beside the program it was told so when a cycle of another thread's had just
 * ended, which frees nothing that was allocated in it; or after 64 of them, since the threads that had got something were the first
 * to ask for the next, and the first to wake up after it.  (A large object of any size may find no place between those that live; and of
 * those, one for each thread may be kept by a stale word.)  The same with fibers, of which each takes a stack: after one collection it
 * was refused.
 *
 * Each mode is a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum {
  THREADS = 48,
  SLOTS = 2000,
  SMALL_BYTES = 400,
  LARGE_BYTES = 512 << 10,
  LARGE_ONE_IN = 500,
  STEPS = 200000,
  ALIKE_THREADS = 16,
  ALIKE_BYTES = 100000,
  ALIKE_KEPT = 3, /* by each thread; stale words keep some more, and the objects before them */
  ALIKE_STEPS = 80000,
  FIBERS_KEPT = 4, /* likewise; each of 72 KiB */
  FIBERS_STEPS = 20000,
  CHILD_SECONDS = 200
};

static size_t steps_left, refused; /* atomic */

static void *work(void *argument) {
  struct rng rng = {test_seed_value + (uintptr_t)argument};
  void **ring = midden_alloc(SLOTS * sizeof *ring);
  REQUIRE(ring != NULL, "no memory");
  while ((ptrdiff_t)__atomic_fetch_sub(&steps_left, 1, __ATOMIC_RELAXED) > 0) {
    bool is_large = rng_one_in(&rng, LARGE_ONE_IN);
    void *object = midden_alloc(is_large ? LARGE_BYTES : 16 + rng_below(&rng, SMALL_BYTES));
    if (object != NULL && !is_large) midden_store(&ring[rng_below(&rng, SLOTS)], object);
    if (object == NULL && !is_large) __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void *kept[ALIKE_THREADS][ALIKE_KEPT]; /* static data: a root */

static void *work_alike(void *argument) {
  for (size_t i = 0; (ptrdiff_t)__atomic_fetch_sub(&steps_left, 1, __ATOMIC_RELAXED) > 0; i++) {
    void *object = midden_alloc(ALIKE_BYTES);
    if (object == NULL) __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    midden_store(&kept[(uintptr_t)argument][i % ALIKE_KEPT], object);
  }
  return NULL;
}

static void *fibers[ALIKE_THREADS][FIBERS_KEPT];

static void *run_fiber(void *argument) { return midden_fiber_yield(argument); }

/* What is dropped was suspended, or never ran. */
static void *work_with_fibers(void *argument) {
  for (size_t i = 0; (ptrdiff_t)__atomic_fetch_sub(&steps_left, 1, __ATOMIC_RELAXED) > 0; i++) {
    struct midden_fiber *fiber = midden_fiber_new(run_fiber, NULL, 0);
    if (fiber == NULL) __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    if (i % 2 == 0) midden_fiber_resume(fiber, NULL, NULL);
    midden_store(&fibers[(uintptr_t)argument][i % FIBERS_KEPT], fiber);
  }
  return NULL;
}

static void run_threads(enum midden_mode mode, size_t heap_bytes, size_t steps, void *(*function)(void *),
                        size_t count) {
  struct midden_options options = {.size = sizeof options, .mode = mode, .max_heap_bytes = heap_bytes};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  pthread_t threads[THREADS];
  steps_left = steps;
  for (uintptr_t i = 0; i < count; i++)
    REQUIRE(pthread_create(&threads[i], NULL, function, (void *)i) == 0, "pthread_create");
  for (size_t i = 0; i < count; i++) pthread_join(threads[i], NULL);
  REQUIRE(refused == 0, "%zu objects of %zu were refused", refused, steps);
  midden_verify();
}

static int run_many(void *mode) {
  run_threads(*(enum midden_mode *)mode, 64 * MIB, test_steps(STEPS), work, THREADS);
  return 0;
}

static int run_alike(void *mode) {
  run_threads(*(enum midden_mode *)mode, 32 * MIB, test_steps(ALIKE_STEPS), work_alike, ALIKE_THREADS);
  return 0;
}

static int run_fibers(void *mode) {
  run_threads(*(enum midden_mode *)mode, 32 * MIB, test_steps(FIBERS_STEPS), work_with_fibers, ALIKE_THREADS);
  return 0;
}

static void run_mode(enum midden_mode mode) {
  test_child_succeeds("threads in a small heap", run_many, &mode, CHILD_SECONDS);
  test_child_succeeds("large objects in a smaller one", run_alike, &mode, CHILD_SECONDS);
  test_child_succeeds("fibers", run_fibers, &mode, CHILD_SECONDS);
}

static void nobody_is_refused_what_comes_free(void **state) {
  (void)state;
  test_in_each_mode(run_mode);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("stress/shortage");
  const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_is_refused_what_comes_free)};
  return test_run_group(tests);
}
