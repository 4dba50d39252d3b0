/* A program drops much of what it holds and then does nothing at all: its memory must come back without a call, and its
 * threads must fall silent.
 *
 * MIDDEN_TEST_SPIKE_MIB makes the spike larger, for soak runs. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { NODE_BYTES = 512, LIVE_MIB = 16, IDLE_COLLECT_MS = 400, PATIENCE_S = 60, LAST_BREATH_BYTES = 5 << 20 };

struct node {
  struct node *next;
};

static struct node *live, *spike;

NOINLINE_TEST static void build(struct node **list, size_t bytes) {
  for (size_t i = 0; i < bytes / NODE_BYTES; i++) {
    struct node *node = midden_alloc(NODE_BYTES);
    memset(node, 1, NODE_BYTES);
    node->next = *list;
    midden_store(list, node);
  }
}

static size_t resident_bytes(void) {
  size_t mapped = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  REQUIRE(file != NULL && fscanf(file, "%zu %zu", &mapped, &resident) == 2, "no /proc/self/statm");
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Voluntary context switches of all threads but this one: each is a wakeup. */
static long wakeups(void) {
  char path[64 + sizeof(((struct dirent *)NULL)->d_name)], line[256];
  long total = 0, self = (long)getpid();
  DIR *tasks = opendir("/proc/self/task");
  REQUIRE(tasks != NULL, "no /proc/self/task");
  for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
    if (task->d_name[0] == '.' || atol(task->d_name) == self) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
      if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0) total += atol(line + 24);
    }
    if (file != NULL) fclose(file);
  }
  closedir(tasks);
  return total;
}

/* The page heap's own figures: the process may hold memory of a sanitizer's. */
static size_t heap_resident(const struct midden_stats *stats) {
  return stats->heap_in_use + stats->heap_idle - stats->heap_released - stats->heap_fresh;
}

static bool is_back(uint64_t collections_before) {
  struct midden_stats stats = test_stats();
  if (stats.collections == collections_before) return false; /* what is dropped counts as live still */
  return (double)heap_resident(&stats) <= 1.1 * (double)(stats.heap_live + stats.heap_goal) + 2 * MIB;
}

/* Until the threads have been silent for a while: what was under way may take its time on a busy machine. */
static void wait_for_silence(int ms) {
  long before = -1;
  for (int waited_ms = 0;; waited_ms += ms) {
    long now = wakeups() + (long)test_stats().collections;
    if (now == before) return;
    REQUIRE(waited_ms < PATIENCE_S * 1000, "the library's threads do not fall silent");
    before = now;
    test_sleep_ms(ms);
  }
}

/* A machine that is busy with something else may let the program look idle while it builds: the last allocation comes
 * after the drop, and is much, so that the collection that finds it is yet to come. */
static struct midden_stats drop_spike(void) {
  struct midden_stats before = test_stats();
  midden_store(&spike, NULL);
  test_scrub_stack();
  build(&live, LAST_BREATH_BYTES);
  return before;
}

static void memory_comes_back_without_a_call(void **state) {
  (void)state;
  size_t spike_bytes = test_environment_number("MIDDEN_TEST_SPIKE_MIB", 256) * MIB;
  build(&live, LIVE_MIB * MIB);
  build(&spike, spike_bytes);
  size_t peak_bytes = resident_bytes();
  struct midden_stats before = drop_spike();
  int waited_ms = 0;
  for (; !is_back(before.collections); waited_ms += 20) {
    REQUIRE(waited_ms < PATIENCE_S * 1000, "memory does not come back");
    test_sleep_ms(20);
  }
  REQUIRE(resident_bytes() + spike_bytes / 2 < peak_bytes, "resident: %zu, at the peak %zu", resident_bytes(),
          peak_bytes);
  midden_verify();
  print_message("back after %d ms: %zu MiB resident, %zu at the peak\n", waited_ms, resident_bytes() / MIB,
                peak_bytes / MIB);
}

static void an_idle_program_has_no_wakeups(void **state) {
  (void)state;
  wait_for_silence(2 * IDLE_COLLECT_MS);
}

/* What was given back is used again, and a second spike ends like the first. */
static void it_works_again_after_a_rest(void **state) {
  (void)state;
  build(&spike, 64 * MIB);
  uint64_t collections = drop_spike().collections;
  for (int waited_ms = 0; !is_back(collections); waited_ms += 20) {
    REQUIRE(waited_ms < PATIENCE_S * 1000, "memory does not come back");
    test_sleep_ms(20);
  }
  size_t count = 0;
  for (const struct node *node = live; node != NULL; node = node->next) count++;
  assert_int_equal(count, (LIVE_MIB * MIB + 2 * LAST_BREATH_BYTES) / NODE_BYTES);
  midden_verify();
}

/* Percent -1 means that no collection comes by itself, not this one either. */
static void no_collection_where_the_program_wants_none(void **state) {
  (void)state;
  wait_for_silence(2 * IDLE_COLLECT_MS);
  int percent = midden_set_percent(-1);
  uint64_t collections = test_stats().collections;
  build(&spike, LAST_BREATH_BYTES);
  wait_for_silence(2 * IDLE_COLLECT_MS);
  assert_int_equal(test_stats().collections, collections);
  midden_set_percent(percent);
}

int main(void) {
  struct midden_options options = {.size = sizeof options, .idle_collect_ms = IDLE_COLLECT_MS};
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("stress/spike");
  REQUIRE(midden_init(&options) == 0, "midden_init");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_comes_back_without_a_call),
      cmocka_unit_test(an_idle_program_has_no_wakeups),
      cmocka_unit_test(it_works_again_after_a_rest),
      cmocka_unit_test(no_collection_where_the_program_wants_none),
  };
  return test_run_group(tests);
}
