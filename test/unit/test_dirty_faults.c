/* Dirty-page mode: what the program's page faults count for where they are dear, from one cycle beside it to the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/collector.h"
#include "gc/cycle.h"
#include "os/os_dirty.h"
#include "support/dirty_test.h"

enum {
  NODES = 1 << 17,
  CYCLES = 6,
  SECONDS = 60,
  LIMIT_US = 1000000, /* what faults take is below ten times that */
  WRITE_NS = 900,
  WRITE_NS_DEAR = 15000
};

struct node {
  struct node *next;
  uintptr_t more[7];
};

static int64_t write_ns; /* that is played */

int64_t __wrap_os_dirty_write_ns(void);
int64_t __wrap_os_dirty_write_ns(void) { return write_ns; }

static struct node *kept; /* every eighth of those made */

NOINLINE_TEST static void make_nodes(void) {
  kept = NULL;
  for (size_t i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    if (i % 8 != 0) continue;
    node->next = kept;
    kept = node;
  }
}

/* With the collector's lock in between: no cycle is about to begin or end. */
static uint64_t count_cycles(void) {
  collector_acquire(mutator_self());
  uint64_t count = collector.totals.collections;
  collector_release();
  return count;
}

/* Cycles that growth asks for, all of them beside the program. */
static void grow(void) {
  for (uint64_t before = count_cycles(); count_cycles() < before + CYCLES;) make_nodes();
}

static void start(int64_t price_ns) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .brief_stop_us = LIMIT_US,
                                   .generations = MIDDEN_GENERATIONS_ALWAYS, /* else they were marked in stops */
                                   .background = -1,
                                   .idle_collect_ms = -1};
  write_ns = price_ns;
  REQUIRE(midden_init(&options) == 0, "midden_init");
}

/* What the process has had in all is more than what any one cycle is charged with. */
static void grow_and_count(void) {
  grow();
  double faults = collector.brief.faults_ns / WRITE_NS_DEAR, most = (double)os_process_faults();
  REQUIRE(faults > 0 && faults <= most, "%.0f faults of %.0f", faults, most);
}

static int dear(void *argument) {
  (void)argument;
  start(WRITE_NS_DEAR);
  grow_and_count();
  return 0;
}

static int cheap(void *argument) {
  (void)argument;
  start(WRITE_NS);
  grow();
  REQUIRE(collector.brief.faults_ns == 0, "%.0f ns", collector.brief.faults_ns);
  return 0;
}

/* It counts its own from the beginning. */
static int in_child(void *argument) {
  (void)argument;
  grow_and_count();
  return 0;
}

static int forked(void *argument) {
  (void)argument;
  start(WRITE_NS_DEAR);
  grow();
  collector.brief.faults_ns = 0;
  test_child_succeeds("in the child", in_child, NULL, SECONDS);
  return 0;
}

int main(void) {
  test_start("unit/dirty_faults");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  test_child_succeeds("dear ones", dear, NULL, SECONDS);
  test_child_succeeds("cheap ones", cheap, NULL, SECONDS);
  test_child_succeeds("a fork", forked, NULL, SECONDS);
  return 0;
}
