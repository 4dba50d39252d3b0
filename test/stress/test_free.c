/* Explicit frees across threads: each thread frees what others allocated, from spans that others allocate from.
 *
 * A table of roots is shared.  A thread puts a fresh object into a random place, checks that the old one is whole, and
 * frees it.  An object holds its own stamp several times, so a slot that has two owners at once is seen by one of them.
 * Large slots are claimed one at a time: each claim has a chance to meet a free.
 *
 * Guards against: a slot whose allocation bit was cleared before it was asked whether the span's owner had passed it by,
 * so that the owner claimed the slot and the freeing thread kept it too. */
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { THREADS = 4, PLACES = 256, STAMPS = 6, COLLECT_INTERVAL = 400 };

struct stamped {
  uint64_t stamps[STAMPS];
};

static struct stamped *table[PLACES]; /* atomic */
static size_t steps;

static struct stamped *stamped_new(struct rng *rng) {
  struct stamped *object = midden_alloc((size_t)1024 << rng_below(rng, 5));
  REQUIRE(object != NULL, "out of memory");
  uint64_t stamp = (rng_next(rng) & 0x7fffffff) | 1; /* no address */
  for (size_t i = 0; i < STAMPS; i++) {
    REQUIRE(object->stamps[i] == 0, "memory is not zeroed");
    object->stamps[i] = stamp;
  }
  return object;
}

static void stamped_check(const struct stamped *object) {
  for (size_t i = 1; i < STAMPS; i++)
    REQUIRE(object->stamps[i] == object->stamps[0], "object %p has two owners", (const void *)object);
  REQUIRE(object->stamps[0] % 2 == 1 && midden_base(object) == object, "object %p is lost", (const void *)object);
}

static void *exchange(void *argument) {
  struct rng rng = *(struct rng *)argument;
  for (size_t i = 0; i < steps; i++) {
    struct stamped *object = stamped_new(&rng);
    object = midden_exchange(&table[rng_below(&rng, PLACES)], object);
    if (object != NULL) {
      stamped_check(object);
      midden_free(object);
    }
    if (rng_one_in(&rng, COLLECT_INTERVAL)) midden_collect();
  }
  return NULL;
}

int main(void) {
  struct rng rng = test_start("test_free");
  pthread_t threads[THREADS];
  struct rng seeds[THREADS];
  steps = test_steps(100000);
  alarm(240); /* a hang is a failure too */
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  for (size_t i = 0; i < THREADS; i++) {
    seeds[i].state = rng_next(&rng);
    REQUIRE(pthread_create(&threads[i], NULL, exchange, &seeds[i]) == 0, "pthread_create");
  }
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  midden_verify();
  for (size_t i = 0; i < PLACES; i++) {
    if (table[i] != NULL) stamped_check(table[i]);
  }
  printf("test_free: %zu exchanges, %" PRIu64 " collections\n", THREADS * steps, test_stats().collections);
  return 0;
}
