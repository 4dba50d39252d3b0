/* The heap profile under load: threads that allocate, free each other's objects and collect, while others read the profile,
 * write it to a file, and stop and start it.
 *
 * The first part samples every object from the start of the library.  When all is quiet the profile must agree with
 * midden_stats to the object and the byte: what was allocated, what was freed, by whomever and in whatever way.  A child that
 * is forked in the middle of it checks that for its own copy, where one object of each thread that is gone may have been on
 * its way into the profile: nobody refers to it.  In the second part profiles of random distances begin and
 * end; nothing must be counted twice: no bucket has more freed than allocated, and the figures of one profile never run
 * backwards. */
#include <pthread.h>

#include "support/heap_test.h"

enum { THREADS = 4, PLACES = 512, COLLECT_INTERVAL = 2000, CHILD_SECONDS = 60 };

static void *table[PLACES]; /* a root; atomic */
static size_t steps;
static bool finished; /* atomic */

/* ---- objects ---- */

struct cell {
  struct cell *next;
  long number;
};

static const uint64_t cell_pointers = 1;
static const struct midden_type cell_type = {"cell", sizeof(struct cell), &cell_pointers, NULL, NULL};

/* By different ways through the allocator, and from stacks of different depth. */
NOINLINE_TEST static void *alloc_some(struct rng *rng, unsigned depth) {
  void *object;
  if (depth != 0) {
    object = alloc_some(rng, depth - 1);
    __asm__ volatile("" ::: "memory"); /* no loop in its place */
    return object;
  }
  switch (rng_below(rng, 6)) {
    case 0:
      return midden_alloc_data(9 + rng_size(rng, 2000));
    case 1:
      return midden_alloc_type(&cell_type);
    case 2:
      return midden_alloc_array(&cell_type, 1 + rng_below(rng, 20));
    case 3:
      return rng_one_in(rng, 50) ? midden_alloc(100000) : midden_alloc(32);
    case 4:
      object = midden_alloc(100);
      return midden_realloc(object, 16 + rng_below(rng, 300));
    default:
      return midden_alloc(rng_size(rng, 500));
  }
}

static void exchange(struct rng *rng) {
  void *object = alloc_some(rng, (unsigned)rng_below(rng, 6));
  REQUIRE(object != NULL, "out of memory");
  void *old = __atomic_exchange_n(&table[rng_below(rng, PLACES)], object, __ATOMIC_ACQ_REL);
  if (old != NULL && rng_one_in(rng, 2)) midden_free(old);
}

static void *work(void *argument) {
  struct rng rng = *(struct rng *)argument;
  for (size_t i = 0; i < steps; i++) {
    exchange(&rng);
    if (rng_one_in(&rng, COLLECT_INTERVAL)) midden_collect();
  }
  return NULL;
}

/* ---- the profile ---- */

struct sums {
  uint64_t allocated, freed, bytes_allocated, bytes_freed;
};

static bool add_bucket(const struct midden_profile_bucket *bucket, void *argument) {
  struct sums *sums = argument;
  REQUIRE(bucket->samples_freed <= bucket->samples_allocated, "more freed than allocated");
  sums->allocated += bucket->samples_allocated;
  sums->freed += bucket->samples_freed;
  sums->bytes_allocated += bucket->samples_allocated * bucket->object_bytes;
  sums->bytes_freed += bucket->samples_freed * bucket->object_bytes;
  return true;
}

static struct sums add_up(void) {
  struct sums sums = {0};
  midden_profile_visit(add_bucket, &sums);
  return sums;
}

#define SAME(a, b) REQUIRE((a) == (b), "%" PRIu64 " != %" PRIu64, (uint64_t)(a), (uint64_t)(b))

/* Nothing else runs.  `missing_max` objects may be in the heap's figures alone; they are dead. */
static void check_against_stats(uint64_t missing_max) {
  midden_collect(); /* what midden_stats counts as freed the profile hears of at the collection's end */
  struct sums sums = add_up();
  struct midden_stats stats = test_stats();
  SAME(midden_profile_lost(), 0);
  SAME(sums.allocated - sums.freed, stats.objects);
  SAME(sums.bytes_allocated - sums.bytes_freed, stats.object_bytes);
  uint64_t missing = stats.objects_allocated - sums.allocated;
  REQUIRE(missing <= missing_max, "%" PRIu64 " objects are missing", missing);
  if (missing == 0) SAME(sums.bytes_allocated, stats.allocated);
}

static char path[64];

static void *read_profile(void *argument) {
  struct sums before = {0};
  (void)argument;
  while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
    struct sums sums = add_up();
    REQUIRE(sums.allocated >= before.allocated && sums.freed >= before.freed, "the profile runs backwards");
    before = sums;
    int error = midden_profile_write(path);
    REQUIRE(error == 0, "midden_profile_write: %d", error);
  }
  return NULL;
}

static void *restart_profile(void *argument) {
  struct rng rng = *(struct rng *)argument;
  while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
    int stopped = midden_profile_stop();
    if (rng_one_in(&rng, 4)) add_up();
    int started = midden_profile_start(rng_one_in(&rng, 4) ? 1 : rng_size(&rng, 100000));
    REQUIRE(stopped == 0 && started == 0, "stop: %d, start: %d", stopped, started);
    for (int i = 0; i < 50; i++) exchange(&rng);
  }
  return NULL;
}

/* ---- the parts ---- */

static int check_child(void *argument) {
  struct rng rng = *(struct rng *)argument;
  for (int i = 0; i < 1000; i++) exchange(&rng);
  check_against_stats(THREADS);
  midden_verify();
  return 0;
}

static void run_part(struct rng *rng, void *(*beside)(void *argument), bool forks) {
  pthread_t threads[THREADS + 1];
  struct rng seeds[THREADS + 1];
  __atomic_store_n(&finished, false, __ATOMIC_RELEASE);
  for (size_t i = 0; i <= THREADS; i++) {
    seeds[i].state = rng_next(rng);
    REQUIRE(pthread_create(&threads[i], NULL, i < THREADS ? work : beside, &seeds[i]) == 0, "pthread_create");
  }
  if (forks && TEST_CHILD_MAY_COLLECT) test_child_succeeds("a child", check_child, rng, CHILD_SECONDS);
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  __atomic_store_n(&finished, true, __ATOMIC_RELEASE);
  pthread_join(threads[THREADS], NULL);
  midden_verify();
}

int main(void) {
  struct rng rng = test_start("test_profile");
  struct midden_options options = {.size = sizeof(options), .profile_sample_bytes = 1, .background = -1};
  steps = test_steps(20000);
  alarm(240); /* a hang is a failure too */
  snprintf(path, sizeof(path), "/tmp/midden_stress_profile_%d", (int)getpid());
  REQUIRE(midden_init(&options) == 0, "midden_init");
  run_part(&rng, read_profile, true);
  check_against_stats(0);
  run_part(&rng, restart_profile, false);
  memset(table, 0, sizeof(table));
  midden_collect();
  unlink(path);
  struct sums sums = add_up();
  printf("test_profile: the last profile has %" PRIu64 " samples, %" PRIu64 " of them freed; %" PRIu64 " collections\n",
         sums.allocated, sums.freed, test_stats().collections);
  return 0;
}
