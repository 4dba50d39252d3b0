/* Delays of a program at work over a large live heap whose old objects it keeps changing: one thread walks down a tree to
 * a random node, exchanges a pointer in it at a set rate, allocates what is garbage at once, and times every operation
 * itself (worker/delays.h).
 *
 * Half of the live bytes are the nodes of graph_build.h, the other half their leaves, one after each.  The thread has one
 * leaf more in its hand; a store gives it to the node and takes the node's.  So the live size stays the same, every OS
 * page is as likely to be written as any other, and each leaf has one reference only, which moves: a collector that
 * marks meanwhile and overlooks a store loses it.  At the end all must be there.
 *
 * The stores have slots, the times at which they are due.  Between them the thread works (walks and allocates, but does
 * not store: never idle, it sees every delay) or sleeps.  Waiting for a slot is no delay; by how much a store began after
 * its slot is an account of its own, and what a client would feel.
 *
 * Without a collector it is the control: the same walk and the same stores, and no allocation.  What delays that is the
 * machine. */
#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <time.h>

#include "engine.h"
#include "worker/delays.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"
#include "workloads/graph_build.h"

enum { LEAF = 3, NS_PER_S = 1000000000 };

static long rate;                /* stores a second; 0: one in each operation */
static bool between_sleep;       /* else it works */
static long garbage_nodes;       /* of the list that an operation builds */
static bool measuring, stopping; /* atomic; written by the main thread */

/* What the thread leaves behind. */
static struct node *volatile last_leaf; /* that it had in its hand */
static uint64_t last_stores;            /* how many it has made */

/* ---------------------------------------------------------------- the thread */

/* On its own stack, as its hand shall be. */
struct writer {
  struct node *leaf; /* in its hand */
  uint64_t random;
  uint64_t stores;
  uint64_t first_ns; /* the slot of the first store */
  struct delays *delays;
  struct histogram *late; /* how long after their slots stores began */
};

/* When the next store is due. */
static uint64_t slot_ns(const struct writer *writer) {
  uint64_t seconds = writer->stores / (uint64_t)rate, rest = writer->stores % (uint64_t)rate;
  return writer->first_ns + seconds * NS_PER_S + rest * NS_PER_S / (uint64_t)rate;
}

static void sleep_until(uint64_t ns) {
  struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) continue;
}

static void exchange_leaf(struct writer *writer, struct node *node) {
  struct node *taken = __atomic_load_n(&node->links[LEAF], __ATOMIC_ACQUIRE);
  engine_store(&node->links[LEAF], writer->leaf);
  writer->leaf = taken;
  writer->stores++;
}

/* Whether the next operation, which starts at delays->at_ns, stores.  Sleeps first where it shall. */
static bool store_is_due(struct writer *writer) {
  if (rate == 0) return true;
  uint64_t due_ns = slot_ns(writer);
  if (writer->delays->at_ns < due_ns) {
    if (!between_sleep) return false;
    sleep_until(due_ns);
    delays_resume(writer->delays);
  }
  histogram_add(writer->late, writer->delays->at_ns - due_ns);
  return true;
}

static void operate(struct writer *writer, bool store) {
  struct node *node = graph_find(workload_random(&writer->random));
  if (ENGINE_COLLECTS) graph_build_garbage(garbage_nodes, node);
  if (store) exchange_leaf(writer, node);
}

static void restart(struct writer *writer) {
  delays_restart(writer->delays);
  *writer->late = (struct histogram){0};
  writer->stores = 0;
  writer->first_ns = writer->delays->at_ns;
}

/* The slack with which the kernel ends sleeps would make the thread late. */
static void *write_at_rate(void *argument) {
  struct writer writer = *(const struct writer *)argument;
  bool measured = false;
  writer.leaf = engine_alloc(sizeof *writer.leaf); /* with the number 0 */
  prctl(PR_SET_TIMERSLACK, 1UL);
  delays_begin(writer.delays);
  writer.first_ns = writer.delays->at_ns;
  while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
    if (!measured && __atomic_load_n(&measuring, __ATOMIC_RELAXED)) {
      restart(&writer);
      measured = true;
    }
    operate(&writer, store_is_due(&writer));
    delays_mark(writer.delays);
  }
  delays_end(writer.delays);
  engine_store((void *)&last_leaf, writer.leaf);
  last_stores = writer.stores;
  return NULL;
}

/* ---------------------------------------------------------------- all of it */

static double sum_of_leaves(const struct node *node) {
  const struct node *leaf = node->links[LEAF];
  if (leaf->links[LEAF] != NULL) workload_fail("stores: a leaf is damaged");
  double sum = (double)leaf->number;
  if (node->links[0] != NULL) sum += sum_of_leaves(node->links[0]);
  if (node->links[1] != NULL) sum += sum_of_leaves(node->links[1]);
  return sum;
}

/* The thread's own leaf has the number 0, so the leaves have the same sum as their nodes. */
static double verify(void) {
  double nodes = graph_sum(), leaves = sum_of_leaves(graph_root) + (double)last_leaf->number;
  if (nodes != leaves) workload_fail("stores: leaves were lost");
  return nodes;
}

/* What comes before is not measured: the heap grows to its size, which costs page faults. */
static void run_writer(struct writer *writer, long ms, uint64_t warm, uint64_t collections) {
  pthread_t thread;
  if (engine_thread_start(&thread, write_at_rate, writer) != 0) workload_fail("no thread");
  if (ENGINE_COLLECTS && warm != 0) measure_wait(ms / 4, warm);
  measure_start();
  __atomic_store_n(&measuring, true, __ATOMIC_RELAXED);
  measure_wait(ms, collections);
  __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
  engine_thread_join(thread);
}

static void report(const struct writer *writer) {
  double seconds = (double)measure_wall_ns() / 1e9;
  result_number("ops_per_s", (double)writer->delays->all.total / seconds);
  result_number("stores_per_s", (double)last_stores / seconds);
  if (rate != 0) {
    result_number("late_p999_us", histogram_quantile_us(writer->late, 0.999));
    result_number("late_max_us", (double)writer->late->longest_ns / 1e3);
  }
  delays_report(writer->delays);
  if (ENGINE_COLLECTS) measure_report_pauses();
}

static void run(struct workload *self) {
  long bytes = workload_number(self, "live", 1L << 16, 1L << 40);
  long ms = workload_number(self, "ms", 1, 1L << 30), collections = workload_number(self, "collections", 0, 1L << 30);
  long warm = workload_number(self, "warm", 0, 1L << 30);
  rate = workload_number(self, "rate", 0, NS_PER_S);
  between_sleep = workload_choice(self, "between", "sleep", "work");
  garbage_nodes = workload_number(self, "garbage", 0, 1L << 30) / (long)sizeof(struct node);
  workload_need_memory((size_t)bytes * (ENGINE_COLLECTS ? 5 : 3) / 2);

  graph_build_with_leaves(bytes / (long)sizeof(struct node) / 2);
  struct writer writer = {.random = 362436069362436069u, .delays = delays_new(), .late = histogram_new()};
  engine_collect(); /* so that all engines begin alike */

  run_writer(&writer, ms, (uint64_t)warm, (uint64_t)collections);
  measure_end();
  report(&writer);
  result_number("check", verify());
}

struct workload workload_stores = {
    .name = "stores",
    .about = "delays of a thread that stores into random old nodes at a set rate, by its own clock",
    .parameters = {{"live", "1G"},
                   {"rate", "10000"},
                   {"between", "work"},
                   {"garbage", "1K"},
                   {"ms", "10000"},
                   {"warm", "1"},
                   {"collections", "3"}},
    .run = run,
};
