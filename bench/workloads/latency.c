/* Delays of a program at work over a live heap: threads walk a graph, store into it, allocate what soon is garbage and
 * replace a part of what lives, and time every operation themselves (worker/delays.h).  Other threads only wait, as most
 * do in large programs.
 *
 * Half of the live nodes are the graph of graph_build.h.  Each of its nodes owns a leaf by its last link; to replace is to
 * give it another leaf, so the live size stays the same however long it runs.
 *
 * Without a collector it is the control: the same walk and the same stores over the same graph, and no allocation.  What
 * delays that is the machine. */
#include <stddef.h>
#include <stdlib.h>

#include "engine.h"
#include "worker/delays.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"
#include "workloads/graph_build.h"

enum { ANY = 2, LEAF = 3, STEPS = 2, WAITERS_MAX = 1024 };
static const uint64_t LEAF_NUMBER = UINT64_MAX;

static long garbage_nodes;       /* of the short-lived list that an operation builds */
static long replace_every;       /* operations */
static bool measuring, stopping; /* atomic; written by the main thread */
static struct delays *delays[WORKLOAD_THREADS_MAX];

/* ---------------------------------------------------------------- the graph */

static struct node *load(struct node **link) { return __atomic_load_n(link, __ATOMIC_ACQUIRE); }

static struct node *leaf_new(struct node *target) {
  struct node *leaf = engine_alloc(sizeof *leaf);
  leaf->number = LEAF_NUMBER;
  engine_store(&leaf->links[0], target);
  return leaf;
}

static void add_leaves(struct node *node) {
  engine_store(&node->links[LEAF], leaf_new(node->links[ANY]));
  if (node->links[0] != NULL) add_leaves(node->links[0]);
  if (node->links[1] != NULL) add_leaves(node->links[1]);
}

/* Ends with a full collection, so that all engines begin alike. */
static void build(long bytes) {
  long nodes = bytes / (long)sizeof(struct node) / 2;
  graph_build(nodes);
  engine_disable();
  add_leaves(graph_root);
  engine_enable();
  engine_collect();
}

static void verify_leaves(const struct node *node) {
  const struct node *leaf = node->links[LEAF];
  if (leaf->number != LEAF_NUMBER || leaf->links[0] == NULL) workload_fail("latency: a leaf is damaged");
  if (node->links[0] != NULL) verify_leaves(node->links[0]);
  if (node->links[1] != NULL) verify_leaves(node->links[1]);
}

/* ---------------------------------------------------------------- threads that work */

/* One thread. */
struct walker {
  struct node *before; /* a node that its last operation found */
  uint64_t random;
};

static struct node *wander(struct node *node) {
  for (int i = 0; i < STEPS; i++) node = load(&node->links[ANY]);
  return node;
}

static void replace_leaf(struct node *node, struct node *target) {
  struct node *leaf = ENGINE_COLLECTS ? leaf_new(target) : load(&node->links[LEAF]);
  engine_store(&leaf->links[0], target);
  engine_store(&node->links[LEAF], leaf);
}

/* The tree never changes, so the threads do not drift to some part of the graph that their own stores made. */
static void operate(struct walker *walker, long number) {
  struct node *found = graph_find(workload_random(&walker->random)), *node = wander(found);
  if (ENGINE_COLLECTS) graph_build_garbage(garbage_nodes, found);
  engine_store(&node->links[ANY], walker->before);
  if (number % replace_every == 0) replace_leaf(node, walker->before);
  walker->before = found;
}

static void *mutate(void *argument) {
  struct delays **slot = argument, *own = *slot;
  struct walker walker = {.before = graph_root, .random = 362436069362436069u + (uint64_t)(slot - delays)};
  bool measured = false;
  delays_begin(own);
  for (long i = 0; !__atomic_load_n(&stopping, __ATOMIC_RELAXED); i++) {
    if (!measured && __atomic_load_n(&measuring, __ATOMIC_RELAXED)) {
      delays_restart(own);
      measured = true;
    }
    operate(&walker, i);
    delays_mark(own);
  }
  delays_end(own);
  return NULL;
}

/* What comes before is not measured: the heap grows to its size, which costs page faults. */
static void warm_up(long ms, uint64_t collections) {
  if (ENGINE_COLLECTS && collections != 0) measure_wait(ms / 4, collections);
  measure_start();
  __atomic_store_n(&measuring, true, __ATOMIC_RELAXED);
}

static void run_mutators(int mutators, long ms, uint64_t warm, uint64_t collections) {
  pthread_t threads[WORKLOAD_THREADS_MAX];
  for (int i = 0; i < mutators; i++) {
    if (engine_thread_start(&threads[i], mutate, &delays[i]) != 0) workload_fail("no thread");
  }
  warm_up(ms, warm);
  measure_wait(ms, collections);
  __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
  for (int i = 0; i < mutators; i++) engine_thread_join(threads[i]);
}

/* ---------------------------------------------------------------- threads that wait */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long ready;  /* under lock */
static bool ending; /* under lock */

static void *wait_for_end(void *argument) {
  pthread_mutex_lock(&lock);
  ready++;
  pthread_cond_broadcast(&changed);
  while (!ending) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  return argument;
}

/* A thread that has told the collector that it waits, and one that has not.  Each holds an object meanwhile. */
static void *wait_blocked(void *argument) {
  struct node *own = leaf_new(graph_root);
  engine_blocking_call(wait_for_end, argument);
  if (own->number != LEAF_NUMBER) workload_fail("latency: a waiting thread lost its object");
  return NULL;
}

static void *wait_silently(void *argument) {
  struct node *own = leaf_new(graph_root);
  wait_for_end(argument);
  if (own->number != LEAF_NUMBER) workload_fail("latency: a waiting thread lost its object");
  return NULL;
}

static pthread_t *waiters; /* not among the static data, which collectors read */

static void start_waiters(long blocked, long silent) {
  waiters = calloc(WAITERS_MAX, sizeof *waiters);
  if (waiters == NULL) workload_fail("no memory for the threads");
  for (long i = 0; i < blocked + silent; i++) {
    if (engine_thread_start(&waiters[i], i < blocked ? wait_blocked : wait_silently, NULL) != 0)
      workload_fail("no thread");
  }
  pthread_mutex_lock(&lock);
  while (ready < blocked + silent) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
}

static void end_waiters(long count) {
  pthread_mutex_lock(&lock);
  ending = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  for (long i = 0; i < count; i++) engine_thread_join(waiters[i]);
}

/* ---------------------------------------------------------------- all of it */

static void report(int mutators) {
  for (int i = 1; i < mutators; i++) delays_merge(delays[0], delays[i]);
  result_number("ops_per_s", (double)delays[0]->all.total / ((double)measure_wall_ns() / 1e9));
  delays_report(delays[0]);
  if (ENGINE_COLLECTS) measure_report_pauses();
}

static void run(struct workload *self) {
  long bytes = workload_number(self, "live", 1L << 16, 1L << 40);
  int mutators = (int)workload_number(self, "mutators", 1, WORKLOAD_THREADS_MAX);
  long blocked = workload_number(self, "blocked", 0, WAITERS_MAX / 2);
  long silent = workload_number(self, "silent", 0, WAITERS_MAX / 2);
  long ms = workload_number(self, "ms", 1, 1L << 30), collections = workload_number(self, "collections", 0, 1L << 30);
  long warm = workload_number(self, "warm", 0, 1L << 30);
  garbage_nodes = workload_number(self, "garbage", 0, 1L << 20);
  replace_every = workload_number(self, "replace", 1, 1L << 40);
  workload_need_memory((size_t)bytes * (ENGINE_COLLECTS ? 5 : 3) / 2);
  for (int i = 0; i < mutators; i++) delays[i] = delays_new();
  build(bytes);
  start_waiters(blocked, silent);

  run_mutators(mutators, ms, (uint64_t)warm, (uint64_t)collections);
  measure_end();

  end_waiters(blocked + silent);
  report(mutators);
  verify_leaves(graph_root);
  result_number("check", graph_sum());
}

struct workload workload_latency = {
    .name = "latency",
    .about = "delays of threads that allocate and mutate, by their own clocks, beside threads that wait",
    .parameters = {{"live", "256M"},
                   {"mutators", "2"},
                   {"blocked", "0"},
                   {"silent", "0"},
                   {"ms", "5000"},
                   {"warm", "2"},
                   {"collections", "3"},
                   {"garbage", "16"},
                   {"replace", "4"}},
    .run = run,
};
