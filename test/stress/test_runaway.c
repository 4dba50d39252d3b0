/* The heap stays near its goal while a cycle runs beside the program, whatever the program allocates meanwhile: large objects, for
 * each of which a thread had marked no more than for a small one; and small ones while a long list is marked, which leaves
 * threads nothing to assist with.  Heaps grew to three and five times their goals.
 *
 * Each case is a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { NODES = 2 << 20, LARGE_BYTES = 4 << 20, SMALL_BYTES = 64, CYCLES = 4, SECONDS = 60, CHILD_SECONDS = 120 };
enum { GRACE_PERCENT = 50, OS_PAGE_BYTES = 4096, STEP_BYTES = 64 << 10 };

struct node {
  struct node *next;
  uintptr_t words[7];
};

struct program {
  enum midden_mode mode;
  bool is_list; /* what lives: a list in random order, else a tree */
  size_t object_bytes;
};

static struct node **nodes; /* static data: roots */
static struct node *list;

static void make_nodes(void) {
  midden_store(&nodes, midden_alloc(NODES * sizeof *nodes));
  for (size_t i = 0; i < NODES; i++) midden_store(&nodes[i], midden_alloc(sizeof(struct node)));
}

static void link_at_random(void) {
  struct rng rng = {test_seed_value};
  for (size_t i = NODES - 1; i > 0; i--) {
    size_t other = rng_below(&rng, i + 1);
    struct node *node = nodes[i];
    midden_store(&nodes[i], nodes[other]);
    midden_store(&nodes[other], node);
  }
  for (size_t i = 0; i + 1 < NODES; i++) midden_store(&nodes[i]->next, nodes[i + 1]);
  midden_store(&list, nodes[0]);
  midden_store(&nodes, NULL);
}

static void allocate(size_t object_bytes) {
  for (size_t i = 0; i <= STEP_BYTES / object_bytes; i++) {
    char *object = midden_alloc(object_bytes);
    REQUIRE(object != NULL, "no memory");
    for (size_t at = 0; at < object_bytes; at += OS_PAGE_BYTES) object[at] = 1;
  }
}

static bool is_over; /* atomic */

static void *allocate_beside(void *object_bytes) {
  while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) allocate((size_t)object_bytes);
  return NULL;
}

/* How far the heap was beyond its goal at most, in percent. */
static size_t grow(size_t object_bytes) {
  size_t most = 0;
  uint64_t collections = test_stats().collections;
  for (time_t end = time(NULL) + SECONDS; time(NULL) < end;) {
    struct midden_stats stats = test_stats();
    if (stats.collections >= collections + CYCLES) break;
    size_t percent =
        stats.heap_live > stats.heap_goal ? 100 * (stats.heap_live - stats.heap_goal) / stats.heap_goal : 0;
    if (percent > most) most = percent;
    allocate(object_bytes);
  }
  return most;
}

static int run_program(void *argument) {
  const struct program *program = argument;
  struct midden_options options = {
      .size = sizeof options, .mode = program->mode, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  make_nodes();
  if (program->is_list) link_at_random();
  midden_collect();
  midden_collect();
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, allocate_beside, (void *)program->object_bytes) == 0, "pthread_create");
  size_t percent = grow(program->object_bytes);
  __atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
  pthread_join(thread, NULL);
  printf("%zu%% beyond the goal\n", percent);
  fflush(stdout);
  REQUIRE(percent <= GRACE_PERCENT, "%zu%% beyond the goal", percent);
  return 0;
}

static void run_case(struct program program) {
  test_child_succeeds("a program that allocates", run_program, &program, CHILD_SECONDS);
}

static void large_objects_with_barrier(void **state) {
  (void)state;
  run_case((struct program){MIDDEN_MODE_BARRIER, false, LARGE_BYTES});
}

static void large_objects_without(void **state) {
  (void)state;
  run_case((struct program){MIDDEN_MODE_DIRTY, false, LARGE_BYTES});
}

static void small_objects_beside_a_list(void **state) {
  (void)state;
  run_case((struct program){MIDDEN_MODE_BARRIER, true, SMALL_BYTES});
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("stress/runaway");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_objects_beside_a_list),
      cmocka_unit_test(large_objects_with_barrier),
      cmocka_unit_test(large_objects_without),
  };
  return test_run_group(tests);
}
