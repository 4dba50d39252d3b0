/* How tests of barrier mode are run: configurations of the library, threads, and a main thread that collects.
 *
 * rig_main runs a test once in each configuration, each in a child of its own.  With the name of a configuration as its
 * argument it runs that one in the process itself (for a debugger), further arguments are the test's.  The environment
 * wins over a configuration: MIDDEN_MODE=stw, MIDDEN_DEBUG=check.
 *
 *   MIDDEN_TEST_SEED, MIDDEN_TEST_STEPS, MIDDEN_TEST_THREADS   as everywhere; steps are those of each thread
 *   MIDDEN_TEST_EXPECT_CONCURRENT=0   does not fail where no thread ever found the barrier active
 *
 * While the threads run, the main thread collects in a loop and watches the heap's size: rig_heap_is_large. */
#ifndef MIDDEN_TEST_SUPPORT_BARRIER_RIG_H
#define MIDDEN_TEST_SUPPORT_BARRIER_RIG_H

#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"
#include "support/nodes.h"

enum { RIG_THREADS_MAX = 32 };

struct rig_configuration {
  const char *name;
  unsigned debug;
  unsigned stress_interval;
  size_t min_heap_bytes;
  size_t large_objects;     /* the heap counts as large from this number of objects on */
  unsigned collect_wait_us; /* between two collections by the main thread, at most */
  bool minor;               /* collections, all but one in eight of the main thread's */
};

/* "small" has many short cycles, "big" few long ones.  "check" and "minor" mark again after each cycle. */
static const struct rig_configuration rig_configurations[] = {
    {"small", .min_heap_bytes = 1 << 16, .large_objects = 1500, .collect_wait_us = 300},
    {"big", .min_heap_bytes = 1 << 20, .large_objects = 60000, .collect_wait_us = 2000},
    {"check", .debug = MIDDEN_DEBUG_CHECK, .min_heap_bytes = 1 << 16, .large_objects = 4000, .collect_wait_us = 1000},
    {"poison", .debug = MIDDEN_DEBUG_POISON | MIDDEN_DEBUG_CHECK, .min_heap_bytes = 1 << 16, .large_objects = 4000,
     .collect_wait_us = 1000},
    {"stress", .debug = MIDDEN_DEBUG_STRESS | MIDDEN_DEBUG_VERIFY, .stress_interval = 700, .min_heap_bytes = 1 << 16,
     .large_objects = 2000, .collect_wait_us = 20000},
    {"minor", .debug = MIDDEN_DEBUG_STRESS | MIDDEN_DEBUG_CHECK | MIDDEN_DEBUG_VERIFY, .stress_interval = 700,
     .min_heap_bytes = 1 << 16, .large_objects = 4000, .collect_wait_us = 1000, .minor = true},
};

/* To mark again takes the thread sanitizer two seconds a cycle, and one thread does it alone. */
#if defined(__SANITIZE_THREAD__)
enum { RIG_DEBUG_MASK = ~MIDDEN_DEBUG_CHECK };
#else
enum { RIG_DEBUG_MASK = -1 };
#endif

struct rig_thread {
  pthread_t thread;
  struct rng rng;
  size_t number;
  void (*run)(struct rig_thread *self);
};

static const struct rig_configuration *rig;
static size_t rig_steps;        /* of each thread */
static size_t rig_thread_count; /* that rig_run_threads starts */
static bool rig_heap_is_large;  /* atomic */
static bool rig_is_concurrent;  /* a failure where it is not */

static size_t rig_running;                                              /* atomic: threads */
static uint64_t rig_stores, rig_steps_made, rig_steps_active;           /* atomic: sums over threads */
static _Thread_local uint64_t rig_own_steps_made, rig_own_steps_active; /* of this thread, until it ends */

/* Every thread calls this before each of its steps. */
static inline void rig_step(void) {
  rig_own_steps_made++;
  if ((__atomic_load_n(&midden_barrier_active, __ATOMIC_RELAXED) & 1) != 0) rig_own_steps_active++;
}

/* ---- threads ---- */

static inline void rig_pause_us(size_t us) {
  struct timespec time = {0, (long)us * 1000};
  nanosleep(&time, NULL);
}

/* Adds this thread's figures to the sums. */
__attribute__((unused)) static void rig_thread_over(void) {
  __atomic_fetch_add(&rig_stores, node_stores, __ATOMIC_RELAXED);
  __atomic_fetch_add(&rig_steps_made, rig_own_steps_made, __ATOMIC_RELAXED);
  __atomic_fetch_add(&rig_steps_active, rig_own_steps_active, __ATOMIC_RELAXED);
  node_stores = rig_own_steps_made = rig_own_steps_active = 0;
}

static void *rig_thread_main(void *argument) {
  struct rig_thread *self = argument;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  node_begin_thread(self->number);
  self->run(self);
  rig_thread_over();
  __atomic_fetch_sub(&rig_running, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void rig_watch_heap(void) {
  size_t objects = test_stats().objects;
  bool was_large = __atomic_load_n(&rig_heap_is_large, __ATOMIC_RELAXED);
  bool is_large = objects > (was_large ? rig->large_objects / 2 : rig->large_objects);
  __atomic_store_n(&rig_heap_is_large, is_large, __ATOMIC_RELAXED);
}

/* Runs `run` in rig_thread_count threads, and `meanwhile`, if not NULL, between the main thread's collections. */
__attribute__((unused)) static void rig_run_threads(struct rng *rng, void (*run)(struct rig_thread *self),
                                                    void (*meanwhile)(struct rng *rng)) {
  static struct rig_thread threads[RIG_THREADS_MAX];
  __atomic_store_n(&rig_running, rig_thread_count, __ATOMIC_RELAXED);
  for (size_t i = 0; i < rig_thread_count; i++) {
    threads[i].rng.state = rng_next(rng);
    threads[i].number = i;
    threads[i].run = run;
    int error = pthread_create(&threads[i].thread, NULL, rig_thread_main, &threads[i]);
    REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  }
  while (__atomic_load_n(&rig_running, __ATOMIC_ACQUIRE) != 0) {
    if (!rig->minor || rng_one_in(rng, 8)) midden_collect();
    rig_watch_heap();
    if (meanwhile != NULL) meanwhile(rng);
    rig_pause_us(rng_below(rng, rig->collect_wait_us));
  }
  for (size_t i = 0; i < rig_thread_count; i++) pthread_join(threads[i].thread, NULL);
}

/* ---- configurations ---- */

static void rig_init(struct rng *rng) {
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_BARRIER,
                                   .min_heap_bytes = rig->min_heap_bytes,
                                   .markers = 1 + (unsigned)rng_below(rng, 3),
                                   .debug = rig->debug & (unsigned)RIG_DEBUG_MASK,
                                   .stress_interval = rig->stress_interval,
                                   .generations = rig->minor ? MIDDEN_GENERATIONS_ALWAYS : MIDDEN_GENERATIONS_AUTO,
                                   .percent = rng_one_in(rng, 3) ? 20 : 100,
                                   .idle_collect_ms = rng_one_in(rng, 2) ? 1 : 0};
  int error = midden_init(&options);
  REQUIRE(error == 0, "midden_init: %s", strerror(-error));
  node_make_kinds();
  node_begin_thread(RIG_THREADS_MAX);
}

struct rig_test {
  const char *name;
  size_t steps; /* of each thread and configuration, unless the environment says otherwise */
  void (*run)(struct rng *rng);
  bool (*option)(const char *word); /* takes an argument of the test's own; NULL: there are none */
};

/* In a child the message arrives through a pipe, so the summary goes there too. */
static void rig_run(const struct rig_test *test) {
  struct rng rng = {test_mix(test_seed_value + (uint64_t)(rig - rig_configurations))};
  rig_steps = test_steps(test->steps);
  rig_thread_count = (size_t)test_environment_number("MIDDEN_TEST_THREADS", 2 + rng_below(&rng, 4));
  if (rig_thread_count > RIG_THREADS_MAX) rig_thread_count = RIG_THREADS_MAX;
  rig_is_concurrent = test_environment_number("MIDDEN_TEST_EXPECT_CONCURRENT", 1) != 0;
  alarm((unsigned)(300 + rig_steps / 500)); /* a hang is a failure too */
  rig_init(&rng);
  test->run(&rng);
  midden_verify();
  rig_thread_over();
  struct midden_stats stats = test_stats();
  printf("  %-7s %zu threads, %" PRIu64 " collections, %" PRIu64 " of them minor, %" PRIu64
         " barriered stores, barrier active in %.1f%% of %" PRIu64 " steps\n",
         rig->name, rig_thread_count, stats.collections, stats.collections_minor, rig_stores,
         rig_steps_made == 0 ? 0.0 : 100.0 * (double)rig_steps_active / (double)rig_steps_made, rig_steps_made);
  fflush(stdout);
  REQUIRE(!rig_is_concurrent || rig_steps_active != 0, "the barrier was never active");
  REQUIRE(!rig_is_concurrent || !rig->minor || stats.collections_minor != 0, "no collection was minor");
}

static void rig_run_in_child(const struct rig_test *test) {
  fflush(NULL);
  pid_t child = fork();
  REQUIRE(child >= 0, "fork: %s", strerror(errno));
  if (child == 0) {
    rig_run(test);
    _exit(0);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid: %s", strerror(errno));
  REQUIRE(status == 0, "configuration %s: status 0x%x", rig->name, (unsigned)status);
}

__attribute__((unused)) static int rig_main(const struct rig_test *test, int count, char **arguments) {
  const struct rig_configuration *chosen = NULL;
  test_start(test->name);
  for (int i = 1; i < count; i++) {
    bool is_known = test->option != NULL && test->option(arguments[i]);
    for (size_t j = 0; j < TEST_COUNT_OF(rig_configurations); j++) {
      if (strcmp(arguments[i], rig_configurations[j].name) == 0) chosen = &rig_configurations[j], is_known = true;
    }
    REQUIRE(is_known, "no configuration or option: %s", arguments[i]);
  }
  if (chosen != NULL) {
    rig = chosen;
    rig_run(test);
    return 0;
  }
  for (size_t i = 0; i < TEST_COUNT_OF(rig_configurations); i++) {
    rig = &rig_configurations[i];
    rig_run_in_child(test);
  }
  return 0;
}

#endif
