/* What the collector is said to have taken of the processor, where many more threads mark as they allocate than there are
 * processors: no more than the process has had.  A thread that lost its processor in the middle of its share of the marking had all
 * the time until it ran again counted as the collector's; under a memory limit that was put off for it, the heap grew to twice the
 * limit. */
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { THREADS = 48, SLOTS = 4096, NODE_BYTES = 256, SECONDS = 120, CYCLES = 6 };

static bool is_over; /* atomic */

static uint64_t process_cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *work(void *argument) {
  struct rng rng = {test_seed_value + (uintptr_t)argument};
  void **ring = midden_alloc(SLOTS * sizeof *ring);
  REQUIRE(ring != NULL, "no memory");
  while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
    void **node = midden_alloc(NODE_BYTES);
    midden_store(&node[0], ring[rng_below(&rng, SLOTS)]);
    if (rng_one_in(&rng, 4)) midden_store(&node[0], NULL);
    midden_store(&ring[rng_below(&rng, SLOTS)], node);
  }
  return NULL;
}

int main(void) {
  test_start("stress/assist_time");
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_BARRIER, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "pthread_create");
  for (time_t end = time(NULL) + SECONDS; test_stats().collections < CYCLES;) {
    REQUIRE(time(NULL) < end, "%zu cycles in %d s", (size_t)test_stats().collections, SECONDS);
    test_sleep_ms(10);
  }
  __atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  uint64_t marking_ns = test_stats().marking_cpu_ns, process_ns = process_cpu_ns();
  printf("marking %zu ms, the process %zu ms\n", (size_t)(marking_ns / 1000000), (size_t)(process_ns / 1000000));
  REQUIRE(marking_ns < process_ns, "marking took %zu ms, the process %zu ms", (size_t)(marking_ns / 1000000),
          (size_t)(process_ns / 1000000));
  return 0;
}
