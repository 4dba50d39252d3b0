/* Memory that became free goes back to the system, though the program does nothing more and is not collected for being
 * idle: after a collection, when the background has swept what it found; and after large objects were freed by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { NODE_BYTES = 512, LARGE_OBJECTS = 64, PATIENCE_MS = 60000, CHILD_SECONDS = 100, QUIET_S = 2 };

struct node {
  struct node *next;
};

static struct node *list; /* a root */
static void *large[LARGE_OBJECTS];

NOINLINE_TEST static void build(size_t bytes) {
  for (size_t i = 0; i < bytes / NODE_BYTES; i++) {
    struct node *node = midden_alloc(NODE_BYTES);
    REQUIRE(node != NULL, "no memory");
    memset(node, 1, NODE_BYTES);
    node->next = list;
    list = node;
  }
}

static size_t resident_bytes(const struct midden_stats *stats) {
  return stats->heap_in_use + stats->heap_idle - stats->heap_released - stats->heap_fresh;
}

/* What the heap needs until the next collection. */
static size_t need_bytes(const struct midden_stats *stats) {
  return (stats->heap_live + stats->heap_goal) / 10 * 11 + 2 * MIB;
}

/* Nothing but what is in use, and what lies beside it in the same huge page. */
static size_t in_use_bytes(const struct midden_stats *stats) { return stats->heap_in_use + 16 * MIB; }

static void wait_until_back(size_t (*goal_bytes)(const struct midden_stats *stats)) {
  const struct timespec moment = {.tv_nsec = 20000000};
  struct midden_stats stats = test_stats();
  uint64_t collections = stats.collections;
  for (int waited_ms = 0; resident_bytes(&stats) > goal_bytes(&stats); waited_ms += 20) {
    REQUIRE(waited_ms < PATIENCE_MS, "%zu MiB are resident still", resident_bytes(&stats) / MIB);
    nanosleep(&moment, NULL);
    stats = test_stats();
  }
  REQUIRE(stats.collections == collections, "it was another collection that brought it about");
  midden_verify();
}

static void start(int scavenge_after_ms) {
  struct midden_options options = {
      .size = sizeof options, .idle_collect_ms = -1, .scavenge_after_ms = scavenge_after_ms};
  REQUIRE(midden_init(&options) == 0, "midden_init");
}

/* The rule is the goal: what is swept after the collection is of no age. */
static int drop_list(void *unused) {
  (void)unused;
  start(-1);
  build(128 * MIB);
  list = NULL;
  test_collect_clean();
  REQUIRE(test_stats().heap_live < MIB, "the list is kept");
  wait_until_back(need_bytes);
  return 0;
}

/* The rule is the age: the goal of the last collection was large.  The scavenger has come to rest before. */
static int free_large_objects(void *unused) {
  (void)unused;
  start(200);
  for (size_t i = 0; i < LARGE_OBJECTS; i++) {
    large[i] = midden_alloc_data(2 * MIB);
    REQUIRE(large[i] != NULL, "no memory");
    memset(large[i], 1, 2 * MIB);
  }
  midden_collect();
  nanosleep(&(struct timespec){.tv_sec = QUIET_S}, NULL);
  for (size_t i = 0; i < LARGE_OBJECTS; i++) midden_free(large[i]);
  wait_until_back(in_use_bytes);
  return 0;
}

static void after_a_collection(void **state) {
  (void)state;
  test_child_succeeds("a dropped list", drop_list, NULL, CHILD_SECONDS);
}

static void after_freeing_large_objects(void **state) {
  (void)state;
  test_child_succeeds("large objects", free_large_objects, NULL, CHILD_SECONDS);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("stress/release");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(after_a_collection),
      cmocka_unit_test(after_freeing_large_objects),
  };
  return test_run_group(tests);
}
